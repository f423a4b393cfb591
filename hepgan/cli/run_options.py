"""Options of ``hepgan run`` and ``hepgan train``, and the run that they describe."""

from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from hepgan.cli.options import DEVICE, OVERWRITE, PLUGIN, PROPOSAL, SEED, compose
from hepgan.cli.verbosity import is_verbosity_set, set_log_level
from hepgan.data.io.names import printable
from hepgan.errors import RunError


def complete_run(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns the presets that start with ``incomplete``, and lets the shell add files and folders."""
    from hepgan.presets import preset_names

    names = [CompletionItem(name) for name in preset_names() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


RUN_OPTIONS = compose(
    click.argument("source", metavar="[RUN | FILES...]", nargs=-1, shell_complete=complete_run),
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="Run folder. [default: runs/RUN, or RUN if it is a run folder]",
    ),
    click.option("--seed", type=SEED, help="Overrides the seed of the run file."),
    DEVICE,
    PLUGIN,
    click.option(
        "--members",
        type=click.IntRange(3),
        help="Train an ensemble of this many GANs, each with its own seed and bootstrap sample.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a value, such as train.steps=2000.",
    ),
    click.option("--tmva", metavar="OPTIONS", help="A TMVA option string instead of RUN."),
    click.option(
        "--files", multiple=True, metavar="FILE.root", help="With --tmva: files with the events."
    ),
    click.option("--tree", help="With --tmva or ROOT files: the tree, if a file has several."),
    PROPOSAL,
    click.option(
        "--variables",
        multiple=True,
        metavar="NAME",
        help="With --tmva: variables, such as image or x{0..783}.",
    ),
    click.option(
        "--track",
        multiple=True,
        type=click.Choice(["tensorboard", "mlflow", "wandb"]),
        help="Track history and scores; may be repeated.",
    ),
    click.option("--resume", is_flag=True, help="Continue from the folder's last checkpoint."),
    OVERWRITE,
)


class ResolvedOptions(NamedTuple):
    """Run, folder and device that the options of ``run`` and ``train`` describe."""

    run: Any
    folder: Path
    device: Any
    verbose: bool


def resolve(
    *,
    source: tuple[str, ...],
    output: Path | None,
    seed: int | None,
    device: str,
    members: int | None,
    settings: tuple[str, ...],
    tmva: str | None,
    files: tuple[str, ...],
    tree: str | None,
    variables: tuple[str, ...],
    **proposal: Any,
) -> ResolvedOptions:
    """Reads the run file, or the option string, and imports the run's plugins; proposes a run file for ROOT files."""
    from hepgan import pipeline as library

    overrides = overrides_of(settings)
    if seed is not None:
        overrides["seed"] = seed
    if members is not None:
        overrides["ensemble.members"] = members
    needs_files = [f"--{name}" for name, value in proposal.items() if value]
    if needs_files and (tmva is not None or not source or not library.is_data(source[0])):
        raise RunError(
            f"{needs_files[0]} needs ROOT files, for which a run file is proposed; edit the run file, or use --set"
        )
    if tmva is not None:
        return _book(tmva, source, output, device, overrides, files, tree, variables)
    if not source:
        raise RunError(
            "name a preset (see hepgan presets), a run file, a run folder or ROOT files, or pass --tmva OPTIONS"
        )
    if files or variables:
        raise RunError("--files and --variables need --tmva; write --set data.files=…")
    is_folder = library.is_run_folder(source[0])
    folder = output or (Path(source[0]) if is_folder else Path("runs") / library.stem(source[0]))
    if library.is_data(source[0]):
        proposed = library.propose(source, tree=tree, **proposal)
        run = library.replaced(library.parse(proposed), overrides)
        click.echo(f"{printable(run.description)} (hepgan init writes the run file)")
        click.echo(f"model: {library.about_model(run)}")
        return ResolvedOptions(run, folder, library.resolve_device(device), verbose=False)
    if len(source) > 1:
        raise RunError(
            f"'{source[1]}' follows the run '{source[0]}'; give one preset, run file or run folder, or only ROOT files"
        )
    if tree:
        raise RunError("--tree needs --tmva or ROOT files; write --set data.tree=…")
    run = library.load(source[0], overrides, import_plugins=True)
    return ResolvedOptions(run, folder, library.resolve_device(device), verbose=False)


def echo_kept_step(folder: Path) -> None:
    """Prints which training step the generator comes from, for each member of an ensemble."""
    from hepgan.gan.members import count_members, member_folder, member_name
    from hepgan.gan.serialization import read_kept_step

    members = {
        f"{member_name(number)}: ": member_folder(folder, number)
        for number in range(count_members(folder))
    }
    for name, own in (members or {"": folder}).items():
        if step := read_kept_step(own):
            warning = "warning: " if step.untrained else ""
            click.echo(f"{warning}{name}{step}")


def _book(
    options: str,
    source: tuple[str, ...],
    output: Path | None,
    device: str,
    overrides: dict[str, Any],
    files: tuple[str, ...],
    tree: str | None,
    variables: tuple[str, ...],
) -> ResolvedOptions:
    from hepgan import pipeline as library
    from hepgan.tmva import asks_for_help, book, help_text

    if asks_for_help(options):
        click.echo(help_text())
        click.get_current_context().exit()
    if source:
        raise RunError(f"'{source[0]}' and --tmva exclude each other; pass one of them")
    if not files:
        raise RunError("--tmva needs --files FILE.root")
    booking = book(options, files, tree=tree, variables=variables)
    if not is_verbosity_set():
        set_log_level(booking.level)
    run = library.replaced(booking.run, overrides)
    chosen = library.resolve_device(booking.device if device == "auto" else device)
    return ResolvedOptions(run, output or Path("runs") / "tmva", chosen, booking.verbose)


def overrides_of(settings: tuple[str, ...]) -> dict[str, Any]:
    """Returns the keys and values of texts such as ``train.steps=2000``."""
    from hepgan.pipeline import setting

    overrides = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise RunError(f"--set {text}: write KEY=VALUE, such as train.steps=2000")
        try:
            overrides[key.strip()] = setting(value)
        except RunError as error:
            raise RunError(f"--set {key.strip()}: {error}") from error
    return overrides

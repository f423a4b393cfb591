"""The command line: each command is one library call."""

import logging
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hepgan.errors import HepganError, RunError

Tick = Callable[[str, float, str], None]

SEED = click.IntRange(0, 2**63 - 1)

QUIET_SECONDS = 10.0
"""Without a terminal a line of progress is written so often at the most."""


class Commands(click.Group):
    """Tells the user's errors in one line and exits with 2; stops at Ctrl-C with 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except HepganError as error:
            stopped = type(error).__name__ == "TrainingStopped"
            click.echo(f"hepgan: {'' if stopped else 'error: '}{error}", err=True)
            ctx.exit(130 if stopped else 2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the work, not of the alphabet."""
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hepgan", prog_name="hepgan")
def main() -> None:
    """Train, judge and run GANs straight from ROOT files."""
    logging.basicConfig(level=logging.WARNING, format="hepgan: %(message)s")


def _with(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to compute."
)
_training = _with(
    click.argument("source", metavar="RUN"),
    click.option(
        "-o", "--output", type=click.Path(path_type=Path), help="Run folder. [default: runs/RUN]"
    ),
    click.option("--seed", type=SEED, help="Instead of the run file's."),
    _device,
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="train.steps=2000, say."
    ),
    click.option("--resume", is_flag=True, help="Go on from the folder's last checkpoint."),
)


@main.command()
@_training
def run(source: str, output: Path | None, resume: bool, **options: Any) -> None:
    """Train, generate, compare with unseen events, report.

    RUN is a preset (see `hepgan presets`) or a run file.
    """
    from hepgan import run as library

    chosen, folder, device = _chosen(source, output, **options)
    with _progress() as tick:
        verdict = library.run(chosen, folder, device=device, resume=resume, tick=tick)
    click.echo(verdict.sentence)
    click.echo(f"report: {folder / 'report.html'}")


@main.command()
@_training
def train(source: str, output: Path | None, resume: bool, **options: Any) -> None:
    """Train only: leaves the generator in the run folder."""
    from hepgan import run as library

    chosen, folder, device = _chosen(source, output, **options)
    with _progress() as tick:
        library.train(chosen, folder, device=device, resume=resume, tick=tick)
    click.echo(f"trained: {folder}")


def _chosen(
    source: str, output: Path | None, *, seed: int | None, device: str, settings: tuple[str, ...]
) -> tuple[Any, Path, Any]:
    from hepgan import run as library

    overrides = dict(_setting(text) for text in settings)
    if seed is not None:
        overrides["seed"] = seed
    chosen = library.load(source, overrides)
    return chosen, output or Path("runs") / Path(source).stem, library.device_of(device)


def _setting(text: str) -> tuple[str, Any]:
    """``train.steps=2000`` as a key and a TOML value; what is no TOML is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RunError(f"--set {text}: write KEY=VALUE, such as train.steps=2000")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-n", "number", type=click.IntRange(1), help="How many events.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="ROOT file.")
@click.option("--seed", type=SEED, required=True, help="Same seed, same events.")
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    metavar="NAME=VALUE",
    help="energy=50, energy=1:100.",
)
@click.option("--conditions-from", metavar="FILE.root", help="One event for each entry there.")
@_device
def generate(
    folder: Path,
    number: int | None,
    output: Path,
    seed: int,
    conditions: tuple[str, ...],
    conditions_from: str | None,
    device: str,
) -> None:
    """Generate events with the GAN of a run FOLDER into a ROOT file."""
    from hepgan import run as library

    with _progress() as tick:
        made = library.generate(
            folder, output, n=number, seed=seed,
            conditions=_conditions(conditions),
            conditions_from=conditions_from, device=library.device_of(device), tick=tick,
        )  # fmt: skip
    click.echo(f"{made:,} events: {output}")


def _conditions(texts: tuple[str, ...]) -> dict[str, float | tuple[float, float]]:
    found = [_condition(text) for text in texts]
    names = [name for name, _ in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RunError(f"--condition {min(twice)} is given twice; give one value or one range")
    return dict(found)


def _condition(text: str) -> tuple[str, float | tuple[float, float]]:
    name, _, value = text.partition("=")
    try:
        numbers = [float(part) for part in value.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return name, numbers[0]
    if len(numbers) == 2:
        return name, (numbers[0], numbers[1])
    raise RunError(f"--condition {text}: write NAME=VALUE or NAME=LOW:HIGH, such as energy=1:100")


@main.command()
@click.argument("reference", metavar="REFERENCE.root")
@click.argument("generated", metavar="GENERATED.root...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--config", metavar="RUN", help="Preset or run file that says what an event is.")
@click.option("--quick", is_flag=True, help="A small classifier instead of the CaloChallenge's.")
@click.option("--seed", type=SEED, default=1, show_default=True)
@_device
def evaluate(
    reference: str,
    generated: tuple[str, ...],
    output: Path,
    config: str | None,
    quick: bool,
    seed: int,
    device: str,
) -> None:
    """Compare generated ROOT files with a reference, ours or not."""
    from hepgan import run as library

    names = _names(generated)
    with _progress() as tick:
        verdict = library.evaluate(
            reference, names, output,
            seed=seed, config=config, quick=quick, device=library.device_of(device), tick=tick,
        )  # fmt: skip
    click.echo(verdict.sentence)
    click.echo(f"report: {output / 'report.html'}")


def _names(files: tuple[str, ...]) -> dict[str, str]:
    """Each file by its stem, or by its whole path where stems are the same."""
    stems = [Path(file.partition(".root:")[0]).stem for file in files]
    unique = len(set(stems)) == len(stems)
    return dict(zip(stems if unique else files, files, strict=True))


@main.command()
@click.argument("text", metavar="LAYOUT", required=False)
@click.option("--input", "shape", metavar="1|28|28", help="Shape of an event.")
@click.option(
    "--noise", metavar="100", help="Shape of the generator's input. [default: the event's]"
)
@click.option("--conditions", type=click.IntRange(0), default=0, help="How many conditions.")
@click.option(
    "--fields", "run_file", metavar="RUN", help="Take fields and conditions from a run file."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--list", "as_list", is_flag=True, help="List the layouts that have a name.")
def layout(
    text: str | None,
    shape: str | None,
    noise: str | None,
    conditions: int,
    run_file: str | None,
    as_json: bool,
    as_list: bool,
) -> None:
    """Show layers, shapes, parameters and operations of a LAYOUT.

    LAYOUT is a string, with or without ##, or the name of a published one.
    """
    import json

    if as_list or text is None:
        click.echo(_named_layouts())
        return
    found = _summary(text, shape, noise, conditions, run_file)
    click.echo(json.dumps(found, indent=2) if as_json else _table(found))


def _summary(
    text: str, shape: str | None, noise: str | None, conditions: int, run_file: str | None
) -> dict[str, Any]:
    from hepgan.layout.named import named
    from hepgan.layout.table import summary

    if text in named() and shape is None:
        return named()[text].summary()
    fields: dict[str, tuple[int, ...]] = {}
    if run_file:
        from hepgan import run as library

        chosen = library.load(run_file)
        fields = {name: field.shape for name, field in chosen.schema.fields.items()}
        conditions = sum(scale.columns for scale in chosen.encoding.conditions.values())
    if shape is None and not fields:
        raise RunError("say what an event looks like: --input '1|28|28' or --fields RUN")
    event = _shape(shape) if shape else (chosen.schema.features,)
    return summary(
        named()[text].layout if text in named() else text,
        input=event,
        generator_input=_shape(noise) if noise else None,
        conditions=conditions,
        fields=fields,
    )


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split("|"))
    except ValueError:
        raise RunError(f"'{text}' is no shape; write it like 1|28|28") from None


def _table(found: dict[str, Any]) -> str:
    lines: list[str] = []
    for name, network in found.items():
        rows = [("", "layer", "output", "parameters", "multiply-adds")]
        rows += [
            (
                layer["branch"], layer["word"], "×".join(map(str, layer["output"])),
                f"{layer['parameters']:,}", f"{layer['operations']:,}",
            )
            for layer in network["layers"]
        ]  # fmt: skip
        rows.append(("", "total", "", f"{network['parameters']:,}", f"{network['operations']:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines.append(name)
        for row in rows:
            left = "  ".join(row[i].ljust(widths[i]) for i in range(3) if widths[i])
            right = "  ".join(row[i].rjust(widths[i]) for i in (3, 4))
            lines.append(f"  {left}  {right}")
    return "\n".join(lines)


def _named_layouts() -> str:
    from hepgan.layout.named import named

    return "\n".join(f"{name:16} {entry.about}" for name, entry in named().items())


@main.command()
@click.argument("file", metavar="FILE.root")
@click.option("--tree", help="Only this tree.")
def inspect(file: str, tree: str | None) -> None:
    """Show trees, branches, types and ranges, and propose a schema."""
    from hepgan.data import root
    from hepgan.data.inspect import as_text

    found = root.inspect(file, tree=tree)
    click.echo(as_text(found))
    for one in found:
        click.echo(f"\n# a schema for the tree {one.name}\n{root.propose(one)}")


@main.command()
@click.argument("kind", metavar="KIND")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("output", metavar="OUT.root")
@click.option("--pixel-branches", is_flag=True, help="A scalar branch for every value.")
@click.option("--format", "form", type=click.Choice(["TTree", "RNTuple"]), default="TTree")
def convert(
    kind: str, sources: tuple[str, ...], output: str, pixel_branches: bool, form: Any
) -> None:
    """Convert other formats to ROOT.

    KIND is mnist, calogan, calochallenge or par04.
    """
    from hepgan.data.convert import convert as library

    library(kind, sources, output, pixel_branches=pixel_branches, format=form)
    click.echo(f"converted: {output}")


@main.command()
@click.argument("name", metavar="mnist")
@click.option("-o", "--output", default=".", show_default=True, help="Folder.")
def fetch(name: str, output: str) -> None:
    """Download a data set, check its hashes, convert it to ROOT."""
    from hepgan.data.convert import fetch as library

    for path in library(name, output):
        click.echo(f"fetched: {path}")


@main.command()
def presets() -> None:
    """List the run files that come with the package."""
    from hepgan import run as library

    for name, purpose in library.presets().items():
        click.echo(f"{name:12} {purpose}")


@contextmanager
def _progress() -> Iterator[Tick]:
    """A progress bar on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:>20}"), BarColumn(), TaskProgressColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[remark]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def tick(text: str, share: float, remark: str) -> None:
            if text not in tasks:
                for task in tasks.values():
                    progress.update(task, completed=1.0)
                tasks[text] = progress.add_task(text, total=1.0, remark="")
            progress.update(tasks[text], completed=share, remark=remark)

        yield tick
        for task in tasks.values():
            progress.update(task, completed=1.0)


def _lines() -> Tick:
    said: dict[str, float] = {}

    def tick(text: str, share: float, remark: str) -> None:
        now = time.monotonic()
        if now - said.get(text, 0.0) >= QUIET_SECONDS or share >= 1:
            click.echo(f"{text} {share:4.0%} {remark}".rstrip(), err=True)
            said[text] = now

    return tick

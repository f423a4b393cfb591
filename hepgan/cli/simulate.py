"""``hepgan simulate``."""

from pathlib import Path
from typing import Any

import click

from hepgan.cli.options import (
    DEVICE,
    ENGINE,
    GAN_SOURCE,
    OVERWRITE,
    PLUGIN,
    SEED,
    examples,
    executor_options,
    member_option,
)
from hepgan.errors import RunError


@click.command(
    epilog=examples(
        "hepgan simulate showers events.root -o showers.root --seed 1 --energy GenPart_energy",
        "hepgan simulate runs/jets nano.root -o many.root --seed 1 --condition pt=GenJet_pt --copies 10",
        "hepgan simulate runs/showers *.root -o parts --seed 1 --energy E --executor futures --workers 4",
    )
)
@GAN_SOURCE
@click.argument("files", metavar="FILE.root...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True,
    help="ROOT file, or folder for parts.",
)  # fmt: skip
@click.option("--seed", type=SEED, default=1, show_default=True, help="Same seed, same showers.")
@click.option(
    "--energy", metavar="BRANCH", help="Branch of the particles' energies, in the GAN's unit."
)
@click.option(
    "--condition", "conditions", multiple=True, metavar="NAME=BRANCH", help="Other conditions."
)
@click.option(
    "--copies", type=click.IntRange(1), default=1, show_default=True,
    help="Showers of each particle, with independent noise; their number is the branch copy.",
)  # fmt: skip
@member_option("Of an ensemble: this member, or all evenly. [default: 0]")
@click.option("--tree", help="The tree, if a file has several.")
@click.option(
    "--out-of-range",
    type=click.Choice(["raise", "flag"]),
    default="raise",
    show_default=True,
    help="Particles outside the GAN's range: an error, or empty showers with inside = false.",
)
@click.option(
    "--on-bad-file",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="Files that cannot be opened: an error, or left out with a warning.",
)
@click.option(
    "--step-size", type=click.IntRange(1), default=100_000, show_default=True,
    help="Events per chunk.",
)  # fmt: skip
@executor_options("", default="iterative")
@OVERWRITE
@PLUGIN
@DEVICE
@ENGINE
def simulate(
    source: str,
    files: tuple[str, ...],
    output: Path,
    seed: int,
    energy: str | None,
    conditions: tuple[str, ...],
    copies: int,
    member: Any,
    tree: str | None,
    out_of_range: Any,
    on_bad_file: Any,
    step_size: int,
    executor: Any,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    device: str,
    engine: Any,
) -> None:
    """Simulate showers for the particles of events with a GAN: a run folder, or as for hepgan generate.

    Each event may have any number of particles; the output has one entry per particle and copy.
    """
    from hepgan.processors import open_runner
    from hepgan.processors import simulate as library

    sources = _branches(conditions) | ({"energy": energy} if energy else {})
    with open_runner(
        executor, workers=workers or 1, scheduler=scheduler, step_size=step_size
    ) as runner:
        count = library(
            source, list(files), output, runner, seed=seed, conditions=sources, tree=tree, copies=copies, member=member,
            out_of_range=out_of_range, on_bad_file=on_bad_file, device=device, engine=engine, overwrite=overwrite,
        )  # fmt: skip
    click.echo(f"{count:,} showers: {output}")


def _branches(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, _, branch) in zip(texts, pairs, strict=True):
        if not name or not branch:
            raise RunError(f"--condition {text}: write NAME=BRANCH, such as eta=GenPart_eta")
    return {name: branch for name, _, branch in pairs}

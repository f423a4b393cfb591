"""``hepgan simulate``."""

from pathlib import Path
from typing import Any

import click

from hepgan.cli.options import DEVICE, SEED
from hepgan.cli.options import executor as executor_options
from hepgan.errors import RunError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILE.root...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True,
    help="ROOT file, or folder for parts.",
)  # fmt: skip
@click.option("--seed", type=SEED, required=True, help="Same seed, same showers.")
@click.option("--energy", metavar="BRANCH", help="The particles' energies, in the GAN's unit.")
@click.option(
    "--condition", "conditions", multiple=True, metavar="NAME=BRANCH", help="Other conditions."
)
@click.option("--tree", help="The tree, where a file has several.")
@click.option("--flag-outside", is_flag=True, help="Empty showers outside the trained range.")
@click.option("--skip-bad-files", is_flag=True, help="Leave out files that cannot be opened.")
@click.option("--chunksize", type=click.IntRange(1), default=100_000, show_default=True)
@executor_options("", default="iterative")
@DEVICE
def simulate(
    folder: Path,
    files: tuple[str, ...],
    output: Path,
    seed: int,
    energy: str | None,
    conditions: tuple[str, ...],
    tree: str | None,
    flag_outside: bool,
    skip_bad_files: bool,
    chunksize: int,
    executor: Any,
    workers: int | None,
    scheduler: str | None,
    device: str,
) -> None:
    """Make showers for the particles of events with the GAN of a run FOLDER.

    Each event may have any number of particles; the output has an entry for each.
    """
    from hepgan.processors import open_runner
    from hepgan.processors import simulate as library

    given = _branches(conditions) | ({"energy": energy} if energy else {})
    with open_runner(
        executor, workers=workers or 1, scheduler=scheduler, chunksize=chunksize
    ) as job:
        made = library(
            folder, list(files), output, job, seed=seed, conditions=given, tree=tree,
            outside="flag" if flag_outside else "refuse", skipbadfiles=skip_bad_files, device=device,
        )  # fmt: skip
    click.echo(f"{made:,} showers: {output}")


def _branches(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, _, branch) in zip(texts, pairs, strict=True):
        if not name or not branch:
            raise RunError(f"--condition {text}: write NAME=BRANCH, such as eta=GenPart_eta")
    return {name: branch for name, _, branch in pairs}

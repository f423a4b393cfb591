"""``hepgan init``."""

from pathlib import Path

import click

from hepgan.cli.options import OVERWRITE, SEED, examples
from hepgan.data.io.names import printable


@click.command(
    epilog=examples(
        "hepgan init mine*.root -o mine.toml",
        "hepgan init showers.root --geometry cells.root",
    )
)
@click.argument("files", metavar="FILES...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Run file. [default: FILE.toml]"
)
@click.option("--tree", help="The tree, if a file has several.")
@click.option(
    "--binning", metavar="FILE.xml", help="The CaloChallenge's binning, for cells in α and r."
)
@click.option(
    "--geometry", metavar="CELLS.root",
    help="Positions of irregular cells: x, y, z, layer and size [mm] of each.",
)  # fmt: skip
@click.option("--without", metavar="BRANCH", multiple=True, help="Branch to leave out.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Seed of the run.")
@OVERWRITE
def init(
    files: tuple[str, ...],
    output: Path | None,
    tree: str | None,
    binning: str | None,
    geometry: str | None,
    without: tuple[str, ...],
    seed: int,
    overwrite: bool,
) -> None:
    """Look at data and write a complete, commented run file for them."""
    from hepgan import pipeline as library

    path = output or Path(f"{library.stem(files[0])}.toml")
    text = library.init(
        files,
        path,
        tree=tree,
        binning=binning,
        geometry=geometry,
        without=without,
        seed=seed,
        overwrite=overwrite,
    )
    (description,) = (line for line in text.splitlines() if line.startswith("description"))
    click.echo(printable(description.partition('"')[2].rstrip('"')))
    click.echo(f"run file: {path}")

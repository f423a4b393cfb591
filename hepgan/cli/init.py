"""``hepgan init``."""

import shlex
from pathlib import Path
from typing import Any

import click

from hepgan.cli.options import OVERWRITE, PROPOSAL, SEED, examples
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
@PROPOSAL
@click.option("--seed", type=SEED, default=1, show_default=True, help="Seed of the run.")
@OVERWRITE
def init(
    files: tuple[str, ...],
    output: Path | None,
    tree: str | None,
    seed: int,
    overwrite: bool,
    **proposal: Any,
) -> None:
    """Look at data and write a complete, commented run file for them."""
    from hepgan import pipeline as library

    path = output or Path(f"{library.stem(files[0])}.toml")
    text = library.init(files, path, tree=tree, seed=seed, overwrite=overwrite, **proposal)
    run = library.parse(text)
    click.echo(printable(run.description))
    click.echo(f"model: {library.about_model(run)}")
    click.echo(f"run file: {path}")
    click.echo(f"next: {shlex.join(['hepgan', 'run', str(path)])}")

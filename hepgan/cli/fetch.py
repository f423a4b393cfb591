"""``hepgan fetch``."""

import click

from hepgan.cli.options import OVERWRITE, examples


@click.command(
    epilog=examples(
        "hepgan fetch mnist -o data",
    )
)
@click.argument("name", metavar="mnist")
@click.option("-o", "--output", default=".", show_default=True, help="Folder.")
@OVERWRITE
def fetch(name: str, output: str, overwrite: bool) -> None:
    """Download a data set, check its hashes, and convert it to ROOT."""
    from hepgan.data.convert import fetch as library

    for path in library(name, output, overwrite=overwrite):
        click.echo(f"fetched: {path}")

"""``hepgan card``."""

from pathlib import Path

import click

from hepgan.cli.options import GAN_SOURCE, OVERWRITE, PLUGIN, examples


@click.command(epilog=examples("hepgan card runs/showers", "hepgan card showers -o showers.md"))
@GAN_SOURCE
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File. [default: README.md in the folder]",
)
@OVERWRITE
@PLUGIN
def card(source: str, output: Path | None, overwrite: bool) -> None:
    """Write a model card for the GAN of a run folder, to share it.

    It lists data, conditions with their ranges, layouts, encoding, scores and how to load the GAN. Fill in the license.
    """
    from hepgan import pipeline as library

    click.echo(f"card: {library.card(source, output, overwrite=overwrite)}")

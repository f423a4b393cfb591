"""``hepgan card``."""

from pathlib import Path

import click

from hepgan.cli.options import OVERWRITE, PLUGIN, examples


@click.command(epilog=examples("hepgan card runs/showers", "hepgan card showers -o showers.md"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File. [default: FOLDER/README.md]"
)
@OVERWRITE
@PLUGIN
def card(folder: Path, output: Path | None, overwrite: bool) -> None:
    """Write a model card for the GAN of a run FOLDER, to share it.

    It lists data, conditions with their ranges, layouts, encoding, scores and how to load the GAN. Fill in the license.
    """
    from hepgan import pipeline as library

    click.echo(f"card: {library.card(folder, output, overwrite=overwrite)}")

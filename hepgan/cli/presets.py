"""``hepgan presets``."""

import click


@click.command()
def presets() -> None:
    """List the run files that come with the package."""
    from hepgan import run as library

    for name, purpose in library.presets().items():
        click.echo(f"{name:12} {purpose}")

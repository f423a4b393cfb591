"""``hepgan convert``."""

from typing import Any

import click

from hepgan.cli.options import executor_options, open_mapper


@click.command()
@click.argument("kind", metavar="KIND")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("output", metavar="OUT.root")
@click.option("--pixel-branches", is_flag=True, help="A scalar branch for every value.")
@click.option("--format", type=click.Choice(["TTree", "RNTuple"]), default="TTree")
@executor_options("Each worker converts a source file; OUT may be a folder, for one file each.")
def convert(
    kind: str,
    sources: tuple[str, ...],
    output: str,
    pixel_branches: bool,
    format: Any,
    executor: str | None,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Convert other formats to ROOT.

    KIND is mnist, calogan, calochallenge, par04 or lemurs.
    """
    with open_mapper(executor, workers, scheduler) as mapper:
        if mapper is None:
            from hepgan.data.convert import convert as library

            library(kind, sources, output, pixel_branches=pixel_branches, format=format)
        else:
            from hepgan import processors

            processors.convert(
                kind, sources, output, mapper, pixel_branches=pixel_branches, format=format
            )
    click.echo(f"converted: {output}")

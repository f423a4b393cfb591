"""``hepgan inspect``, ``convert`` and ``fetch``: files of data."""

from typing import Any

import click

from hepgan.cli.options import executing
from hepgan.cli.options import executor as executor_options
from hepgan.data.io.names import printable


@click.command()
@click.argument("file", metavar="FILE.root")
@click.option("--tree", help="Only this tree.")
def inspect(file: str, tree: str | None) -> None:
    """Show trees, branches, types and ranges, and propose a schema."""
    from hepgan.data.io import inspection

    summaries = inspection.inspect(file, tree=tree)
    click.echo(inspection.summary_table(summaries))
    for summary in summaries:
        name, text = printable(summary.name), inspection.schema_toml(summary)
        click.echo(f"\n# a schema for the tree {name}\n{text}")


@click.command()
@click.argument("kind", metavar="KIND")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("output", metavar="OUT.root")
@click.option("--pixel-branches", is_flag=True, help="A scalar branch for every value.")
@click.option("--format", "form", type=click.Choice(["TTree", "RNTuple"]), default="TTree")
@executor_options("A source file is one worker's; OUT may be a folder, for a file each.")
def convert(
    kind: str,
    sources: tuple[str, ...],
    output: str,
    pixel_branches: bool,
    form: Any,
    executor: str | None,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Convert other formats to ROOT.

    KIND is mnist, calogan, calochallenge or par04.
    """
    with executing("open_mapper", executor, workers, scheduler) as spread:
        if spread is None:
            from hepgan.data.convert import convert as library

            library(kind, sources, output, pixel_branches=pixel_branches, format=form)
        else:
            from hepgan import processors

            processors.convert(
                kind, sources, output, spread, pixel_branches=pixel_branches, format=form
            )
    click.echo(f"converted: {output}")


@click.command()
@click.argument("name", metavar="mnist")
@click.option("-o", "--output", default=".", show_default=True, help="Folder.")
def fetch(name: str, output: str) -> None:
    """Download a data set, check its hashes, convert it to ROOT."""
    from hepgan.data.convert import fetch as library

    for path in library(name, output):
        click.echo(f"fetched: {path}")

"""``hepgan inspect``."""

import click

from hepgan.cli.options import examples
from hepgan.data.io.names import printable


@click.command(
    epilog=examples(
        "hepgan inspect events.root",
        "hepgan inspect events.root --tree Events",
    )
)
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

"""``hepgan inspect``."""

import click

from hepgan.cli.options import examples
from hepgan.data.io.names import printable
from hepgan.errors import HepganError


@click.command(
    epilog=examples(
        "hepgan inspect events.root",
        "hepgan inspect events.root --tree Events",
    )
)
@click.argument("file", metavar="FILE.root")
@click.option("--tree", help="Only this tree.")
def inspect(file: str, tree: str | None) -> None:
    """Show trees, branches, types and ranges, and the schema that hepgan init proposes."""
    from hepgan import pipeline as library
    from hepgan.data.io import inspection

    summaries = inspection.inspect(file, tree=tree)
    click.echo(inspection.summary_table(summaries))
    for summary in summaries:
        name = printable(summary.name)
        try:
            text = f"# the schema of hepgan init for the tree {name}\n{library.propose_schema(file, tree=summary.name)}"
        except HepganError as error:
            text = (
                f"# hepgan init proposes no run file for the tree {name}: {printable(str(error))}\n"
                f"# a schema by names and types\n{inspection.schema_toml(summary)}"
            )
        click.echo(f"\n{text}")

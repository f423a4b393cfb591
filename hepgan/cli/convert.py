"""``hepgan convert``."""

from pathlib import Path
from typing import Any

import click

from hepgan.cli.options import OVERWRITE, examples, executor_options, open_mapper
from hepgan.data.io.names import printable
from hepgan.errors import DataError, RunError


@click.command(
    epilog=examples(
        "hepgan convert calogan gamma.hdf5 gamma.root",
        "hepgan convert mnist images-idx3-ubyte labels-idx1-ubyte mnist.root",
    )
)
@click.argument("kind", metavar="KIND")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("output", metavar="OUT.root")
@click.option("--pixel-branches", is_flag=True, help="A scalar branch for every value.")
@click.option(
    "--format", type=click.Choice(["TTree", "RNTuple"]), default="TTree", show_default=True,
    help="Format of the events in OUT.",
)  # fmt: skip
@OVERWRITE
@executor_options("Each worker converts a source file; OUT may be a folder, for one file each.")
def convert(
    kind: str,
    sources: tuple[str, ...],
    output: str,
    pixel_branches: bool,
    format: Any,
    overwrite: bool,
    executor: str | None,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Convert other formats to ROOT.

    KIND is mnist, calogan, calochallenge, par04 or lemurs. For calochallenge a run file with the geometry is written too, OUT.toml.
    """
    run_file = Path(output).with_suffix(".toml") if kind == "calochallenge" else None
    if run_file and run_file.exists():
        if not overwrite:
            raise RunError(
                f"{run_file} exists; choose another output, or convert again with --overwrite, which keeps it"
            )
        run_file = None  # it may have been edited
    with open_mapper(executor, workers, scheduler) as mapper:
        if mapper is None:
            from hepgan.data.convert import convert as library

            library(
                kind,
                sources,
                output,
                pixel_branches=pixel_branches,
                format=format,
                overwrite=overwrite,
            )
        else:
            from hepgan import processors

            processors.convert(
                kind, sources, output, mapper,
                pixel_branches=pixel_branches, format=format, overwrite=overwrite,
            )  # fmt: skip
    click.echo(f"converted: {output}")
    if run_file:
        _write_run_file(sources, Path(output), run_file)


def _write_run_file(sources: tuple[str, ...], output: Path, run_file: Path) -> None:
    from hepgan import pipeline

    files = output / "*.root" if output.is_dir() else output
    (binning,) = (source for source in sources if source.lower().endswith(".xml"))
    try:
        pipeline.init(str(files), run_file, binning=binning)
    except DataError as error:
        click.echo(f"no run file: {printable(str(error))}", err=True)
    else:
        click.echo(f"run file: {run_file}")

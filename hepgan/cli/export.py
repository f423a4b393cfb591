"""``hepgan export``."""

from pathlib import Path

import click

from hepgan.cli.options import PLUGIN, examples
from hepgan.data.io.names import printable


@click.command(
    epilog=examples(
        "hepgan export runs/showers -o showers.onnx",
    )
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="MODEL.onnx or .pt2."
)
@PLUGIN
def export(folder: Path, output: Path) -> None:
    """Write the GAN of a run FOLDER for programs without Python.

    Inputs are noise and conditions, outputs the decoded fields, in the units of the data.
    """
    from hepgan.gan.export import export as library
    from hepgan.gan.export import metadata
    from hepgan.gan.model import GAN

    gan = GAN.load(folder, device="cpu")
    library(gan, output)
    for kind, entries in metadata(gan).items():
        for name, entry in entries.items():
            unit = f" [{entry['unit']}]" if entry.get("unit") else ""
            shape = ", ".join(["batch", *map(str, entry["shape"])])
            click.echo(f"{kind.removesuffix('s'):6} {printable(name)}: float32[{shape}]{unit}")
    click.echo(f"exported: {output}")

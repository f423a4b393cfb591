"""``hepgan export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from hepgan.cli.options import GAN_SOURCE, OVERWRITE, PLUGIN, examples, member_option
from hepgan.data.io.names import printable
from hepgan.errors import RunError

if TYPE_CHECKING:
    from hepgan.gan.export.files import Exported

HOSTS = ("plain", "par04", "ddml", "fastcalosim", "sofie")


@click.command(
    epilog=examples(
        "hepgan export runs/showers -o showers.onnx",
        "hepgan export runs/par04 -o showers.onnx --for par04 --fix phi=0",
        "hepgan export runs/ds1 -o neural_net_22_eta_20_25_High12.onnx --for fastcalosim",
        "hepgan export runs/five -o five/showers.onnx --member all",
    )
)
@GAN_SOURCE
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="MODEL.onnx or .pt2."
)
@click.option(
    "--for", "host", type=click.Choice(HOSTS), default="plain", show_default=True,
    help="Program that runs the model.",
)  # fmt: skip
@click.option(
    "--fix", "fixed", multiple=True, metavar="NAME=VALUE",
    help="Make a condition a constant of the model.",
)  # fmt: skip
@member_option("Of an ensemble: this member, or a file for each in members/0, 1, … [default: 0]")
@click.option(
    "--check", is_flag=True, help="Compare 2,000 events, instead of 200, with GAN.sample."
)
@OVERWRITE
@PLUGIN
def export(
    source: str,
    output: Path,
    host: str,
    fixed: tuple[str, ...],
    member: int | Literal["all"] | None,
    check: bool,
    overwrite: bool,
) -> None:
    """Write a GAN for programs without Python. GAN is a run folder, or as for hepgan generate.

    Inputs and outputs are those of the host that runs it; for your own program, noise and conditions in, the decoded fields out,
    in the units of the data. The file is compared with GAN.sample, cell by cell, before it is written.
    """
    from hepgan.gan.export.files import EVENTS, export_members
    from hepgan.gan.export.files import export as library
    from hepgan.gan.members import count_members
    from hepgan.gan.model import GAN
    from hepgan.gan.sources import local_folder

    values = dict(map(_assignment, fixed))
    events = 10 * EVENTS if check else EVENTS
    # without members, "all" is one
    if member == "all" and (members := count_members(local_folder(source))):
        gans = [GAN.load(source, device="cpu", member=number) for number in range(members)]
        every = export_members(
            gans, output, host=host, fixed=values, events=events, overwrite=overwrite
        )
    else:
        gan = GAN.load(source, device="cpu", member=None if member == "all" else member)
        every = [library(gan, output, host=host, fixed=values, events=events, overwrite=overwrite)]
    for written in every:
        _show(written)


def _assignment(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise RunError(
            f"--fix {text} is not NAME=VALUE with a number; write --fix phi=0"
        ) from error


def _show(written: "Exported") -> None:
    """Prints inputs, outputs, accuracy and files."""
    for kind in ("inputs", "outputs"):
        for name, entry in written.about[kind].items():
            unit = f" [{entry['unit']}]" if entry.get("unit") else ""
            batch = "batch" if written.about["host"] == "plain" else "1"
            shape = ", ".join([batch, *map(str, entry["shape"])])
            click.echo(f"{kind.removesuffix('s'):6} {printable(name)}: float32[{shape}]{unit}")
    click.echo(f"accuracy: {written.accuracy}")
    operators = f" ({written.operators:,} operators, {written.size / 1e6:.1f} MB)"
    click.echo(f"exported: {written.paths[0]}{operators if written.operators else ''}")
    for path in written.paths[1:]:
        click.echo(f"exported: {path}")

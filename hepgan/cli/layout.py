"""``hepgan layout``."""

from typing import Any

import click

from hepgan.cli.options import PLUGIN, examples
from hepgan.errors import RunError


@click.command(
    epilog=examples(
        "hepgan layout --list",
        "hepgan layout calogan",
        "hepgan layout --config runs/showers",
        "hepgan layout 'DENSE|64|RELU, DENSE|1|LINEAR' --input 10",
    )
)
@click.argument("text", metavar="LAYOUT", required=False)
@click.option("--input", "shape", metavar="1|28|28", help="Shape of an event.")
@click.option(
    "--noise", metavar="100", help="Shape of the generator's input. [default: the event's]"
)
@click.option("--conditions", type=click.IntRange(0), default=0, help="Number of conditions.")
@click.option(
    "--config",
    "run_file",
    metavar="RUN",
    help="Take fields and conditions from a run file, or show all networks of a run folder.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--list", "as_list", is_flag=True, help="List the named layouts.")
@PLUGIN
def layout(
    text: str | None,
    shape: str | None,
    noise: str | None,
    conditions: int,
    run_file: str | None,
    as_json: bool,
    as_list: bool,
) -> None:
    """Show layers, shapes, parameters and operations of a LAYOUT.

    LAYOUT is a string, with or without ##, or the name of a published one. Without it, --config RUN shows all networks of a run folder.
    """
    import json

    if as_list or (text is None and run_file is None):
        click.echo(_named_layouts())
        return
    if text is None:
        summary = _of_run(str(run_file))
    else:
        summary = _summary(text, shape, noise, conditions, run_file)
    click.echo(json.dumps(summary, indent=2) if as_json else _table(summary))


def _summary(
    text: str, shape: str | None, noise: str | None, conditions: int, run_file: str | None
) -> dict[str, Any]:
    from hepgan.layout.summary import summarize
    from hepgan.layout.zoo import published_layouts

    if text in published_layouts() and shape is None:
        return published_layouts()[text].summary()
    fields: dict[str, tuple[int, ...]] = {}
    if run_file:
        from hepgan import pipeline as library

        run = library.load(run_file)
        fields = {name: field.shape for name, field in run.schema.fields.items()}
        conditions = sum(scale.columns for scale in run.encoding.conditions.values())
    if shape is None and not fields:
        raise RunError("the shape of an event is not known; pass --input '1|28|28' or --config RUN")
    event = _shape(shape) if shape else (run.schema.features,)
    return summarize(
        published_layouts()[text].layout if text in published_layouts() else text,
        input=event,
        generator_input=_shape(noise) if noise else None,
        conditions=conditions,
        fields=fields,
    )


def _of_run(folder: str) -> dict[str, Any]:
    """Returns the networks of a trained GAN; before a training, the number of features of the encoding is not known."""
    from hepgan.gan.model import GAN
    from hepgan.gan.networks import layer_tables
    from hepgan.layout.summary import summarize_layers

    gan = GAN.load(folder, device="cpu")
    tables = layer_tables(gan.settings, gan.encoding, gan.discriminator_shapes)
    return {name: summarize_layers(layers) for name, layers in tables.items()}


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split("|"))
    except ValueError:
        raise RunError(f"'{text}' is not a shape; write it like 1|28|28") from None


def _table(summary: dict[str, Any]) -> str:
    lines: list[str] = []
    for name, network in summary.items():
        rows = [("", "layer", "output", "parameters", "multiply-adds")]
        rows += [
            (
                layer["branch"], layer["word"], "×".join(map(str, layer["output"])),
                f"{layer['parameters']:,}", f"{layer['operations']:,}",
            )
            for layer in network["layers"]
        ]  # fmt: skip
        rows.append(("", "total", "", f"{network['parameters']:,}", f"{network['operations']:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines.append(name)
        for row in rows:
            left = "  ".join(row[i].ljust(widths[i]) for i in range(3) if widths[i])
            right = "  ".join(row[i].rjust(widths[i]) for i in (3, 4))
            lines.append(f"  {left}  {right}")
    return "\n".join(lines)


def _named_layouts() -> str:
    from hepgan.layout.zoo import published_layouts

    return "\n".join(
        f"{name:16} {entry.description}" for name, entry in published_layouts().items()
    )

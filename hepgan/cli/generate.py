"""``hepgan generate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hepgan.cli.options import (
    DEVICE,
    ENGINE,
    GAN_SOURCE,
    OVERWRITE,
    PLUGIN,
    SEED,
    examples,
    member_option,
)
from hepgan.cli.progress import progress_bar
from hepgan.errors import RunError

if TYPE_CHECKING:
    from hepgan.gan.conditions import Choice, Range


@click.command(
    epilog=examples(
        "hepgan generate showers -n 1000 -o fifty.root --condition energy=50",
        "hepgan generate runs/showers -n 1000 -o any.root --seed 2 --condition energy=1:100:log",
        "hepgan generate runs/pions -n 1000 -o both.root --condition energy=50 --condition pdg=-211,211",
        "hepgan generate runs/showers -o same.root --conditions-from geant4.root",
        "hepgan generate hf:ORG/NAME@v1 -n 1000 -o any.root --condition energy=50",
        "hepgan generate runs/five -n 1000 -o five.root --condition energy=50 --member all",
    )
)
@GAN_SOURCE
@click.option("-n", "number", type=click.IntRange(1), help="Number of events.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="ROOT file.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Same seed, same events.")
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    metavar="NAME=VALUE",
    help="Such as energy=50; energy=1:100 draws uniformly, energy=1:100:log uniformly in the logarithm, and pdg=-211,211 one of both.",
)
@member_option("Of an ensemble: this member, or all evenly. [default: 0]")
@click.option(
    "--conditions-from", metavar="FILE.root",
    help="One event per entry of the file; with a larger -n, entries are used equally often.",
)  # fmt: skip
@OVERWRITE
@PLUGIN
@DEVICE
@ENGINE
def generate(
    source: str,
    number: int | None,
    output: Path,
    seed: int,
    conditions: tuple[str, ...],
    conditions_from: str | None,
    member: Any,
    overwrite: bool,
    device: str,
    engine: Any,
) -> None:
    """Generate events with a GAN into a ROOT file.

    GAN is a run folder; showers, showers-fast or mnist, which come with the package; or https://…, zenodo:RECORD or hf:ORG/NAME.
    """
    from hepgan import pipeline as library

    with progress_bar() as progress:
        count = library.generate(
            source, output, n=number, seed=seed,
            conditions=_conditions(conditions), member=member,
            conditions_from=conditions_from, device=device, engine=engine, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    click.echo(f"{count:,} events: {output}")


def _conditions(texts: tuple[str, ...]) -> dict[str, "float | Range | Choice"]:
    conditions = [_condition(text) for text in texts]
    names = [name for name, _ in conditions]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise RunError(f"--condition {min(duplicates)} is given twice; pass one value or one range")
    return dict(conditions)


def _condition(text: str) -> tuple[str, "float | Range | Choice"]:
    from hepgan.gan.conditions import Choice, Range

    name, _, value = text.rpartition("=")  # a name may contain "="
    limits, values = value.split(":"), value.split(",")
    log = limits[-1] == "log" and bool(limits.pop())
    try:
        if len(limits) == 2:
            return name, Range(float(limits[0]), float(limits[1]), "log" if log else "linear")
        if not log:
            numbers = [float(part) for part in values]
            return name, numbers[0] if len(numbers) == 1 else Choice(numbers)
    except ValueError:
        pass
    raise RunError(
        f"--condition {text}: write NAME=VALUE, NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE, such as energy=1:100"
    )

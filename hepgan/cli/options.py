"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

SEED = click.IntRange(0, 2**63 - 1)


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One decorator of several."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


DEVICE = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to compute."
)

TRAINING = together(
    click.argument("source", metavar="[RUN]", required=False),
    click.option(
        "-o", "--output", type=click.Path(path_type=Path), help="Run folder. [default: runs/RUN]"
    ),
    click.option("--seed", type=SEED, help="Instead of the run file's."),
    DEVICE,
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="train.steps=2000, say."
    ),
    click.option("--tmva", metavar="OPTIONS", help="TMVA's option string instead of RUN."),
    click.option("--files", multiple=True, metavar="FILE.root", help="With --tmva: the events."),
    click.option("--tree", help="With --tmva: the tree, where a file has several."),
    click.option(
        "--variables", multiple=True, metavar="NAME", help="With --tmva: image, x{0..783}, say."
    ),
    click.option("--resume", is_flag=True, help="Go on from the folder's last checkpoint."),
)

"""Options that several commands share."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import click

from hepgan.errors import RunError


class _Seed(click.types.IntParamType):
    """An integer from 0 to 2^64 − 1."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the seed; the library says which ones there are."""
        from hepgan.random_streams import check_seed

        try:
            return check_seed(super().convert(value, param, ctx))
        except RunError as error:
            self.fail(str(error), param, ctx)


SEED = _Seed()


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


def executor(about: str, *, default: str | None = None) -> Callable[[Any], Any]:
    """``--executor``, ``--workers`` and ``--scheduler``; ``about`` says what the workers do."""
    return together(
        click.option(
            "--executor", type=click.Choice(["iterative", "futures", "dask"]), default=default,
            show_default=default is not None,
            help=f"coffea's: this process, processes of this machine, a Dask cluster. {about}".strip(),
        ),
        click.option("--workers", type=click.IntRange(1), help="Processes, where some are started. [default: 1]"),
        click.option("--scheduler", metavar="tcp://HOST:PORT", help="A Dask cluster that is there."),
    )  # fmt: skip


@contextlib.contextmanager
def executing(
    how: Literal["open_runner", "open_mapper"],
    executor: str | None,
    workers: int | None,
    scheduler: str | None,
) -> Iterator[Any]:
    """What the function ``how`` of ``processors`` gives, with the user's options; ``None`` without ``--executor``."""
    if executor is None:
        if workers or scheduler:
            raise RunError("--workers and --scheduler go with --executor futures or dask")
        yield None
        return
    from hepgan import processors

    with getattr(processors, how)(executor, workers=workers or 1, scheduler=scheduler) as chosen:
        yield chosen


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

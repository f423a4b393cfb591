"""Options that several commands share."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hepgan.errors import RunError

if TYPE_CHECKING:
    from hepgan.processors.executors import MapItems, RunProcessor


def examples(*commands: str) -> str:
    """Returns the end of a command's help, with one example per line."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


class _Seed(click.types.IntParamType):
    """An integer from 0 to 2^64 − 1."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the seed, if the library accepts it."""
        from hepgan.random_streams import check_seed

        try:
            return check_seed(super().convert(value, param, ctx))
        except RunError as error:
            self.fail(str(error), param, ctx)


SEED = _Seed()


def compose(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns one decorator that applies several."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


GAN_SOURCE = click.argument("source", metavar="GAN", type=click.Path())
"""A run folder, the name of a pretrained GAN, or an address."""

PROPOSAL = compose(
    click.option(
        "--binning", metavar="FILE.xml", help="For ROOT files: the CaloChallenge's binning, for cells in α and r."
    ),
    click.option(
        "--geometry", metavar="CELLS.root",
        help="For ROOT files: positions of irregular cells: x, y, z, layer and size [mm] of each.",
    ),
    click.option("--without", metavar="BRANCH", multiple=True, help="For ROOT files: branch to leave out."),
)  # fmt: skip
"""Options that determine the proposal of a run file, in addition to the files."""

OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an existing output.")

DEVICE = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda",
    help="Device of the networks.",
)  # fmt: skip

ENGINE = click.option(
    "--engine", type=click.Choice(["torch", "onnx"]), default="torch", show_default=True,
    help="Program that runs the networks; onnx is ONNX Runtime on the CPU (extra onnx).",
)  # fmt: skip


def _import_plugins(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> None:
    from hepgan.plugins import import_plugins

    for value in values:
        path = Path(value)
        is_file = path.suffix == ".py"
        import_plugins([path.stem if is_file else value], folder=path.parent if is_file else Path())


PLUGIN = click.option(
    "--plugin", multiple=True, metavar="MODULE", expose_value=False, callback=_import_plugins,
    help="Import your module first: installed, in this folder, or a path to a .py file.",
)  # fmt: skip


class _Member(click.types.IntParamType):
    """The number of a member of an ensemble, or ``all``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number, or ``all``."""
        return value if value == "all" else super().convert(value, param, ctx)


def member_option(text: str) -> Callable[[Any], Any]:
    """Returns the option ``--member``, a number or ``all``."""
    return click.option("--member", type=_Member(), metavar="K|all", help=text)


def executor_options(work: str, *, default: str | None = None) -> Callable[[Any], Any]:
    """Returns the options ``--executor``, ``--workers`` and ``--scheduler``; ``work`` describes the work of the workers."""
    return compose(
        click.option(
            "--executor", type=click.Choice(["iterative", "futures", "dask"]), default=default,
            show_default=default is not None,
            help=f"Executor of coffea: this process, processes of this machine, a Dask cluster. {work}".strip(),
        ),
        click.option("--workers", type=click.IntRange(1), help="Worker processes to start. [default: 1]"),
        click.option("--scheduler", metavar="tcp://HOST:PORT", help="A running Dask cluster."),
    )  # fmt: skip


def open_runner(
    executor: str | None, workers: int | None, scheduler: str | None
) -> "AbstractContextManager[RunProcessor | None]":
    """Context manager that yields the runner of the options; ``None`` without ``--executor``."""
    if executor is None:
        _check_unused(workers, scheduler)
        return nullcontext()
    from hepgan import processors

    runner: AbstractContextManager[RunProcessor] = processors.open_runner(
        executor, workers=workers or 1, scheduler=scheduler
    )
    return runner


def open_mapper(
    executor: str | None, workers: int | None, scheduler: str | None
) -> "AbstractContextManager[MapItems | None]":
    """Context manager that yields the mapper of the options; ``None`` without ``--executor``."""
    if executor is None:
        _check_unused(workers, scheduler)
        return nullcontext()
    from hepgan import processors

    mapper: AbstractContextManager[MapItems] = processors.open_mapper(
        executor, workers=workers or 1, scheduler=scheduler
    )
    return mapper


def _check_unused(workers: int | None, scheduler: str | None) -> None:
    if workers or scheduler:
        raise RunError("--workers and --scheduler need --executor futures or dask")

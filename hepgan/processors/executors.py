"""coffea's executors by name, and a fileset of plain paths."""

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from coffea.nanoevents import BaseSchema
from coffea.processor import (
    DaskExecutor,
    FuturesExecutor,
    IterativeExecutor,
    ProcessorABC,
    Runner,
)

from hepgan.data import root
from hepgan.data.files import Files, find_tree, opened, trees
from hepgan.errors import DataError, HepganError, RunError

ExecutorName = Literal["iterative", "futures", "dask"]

CHUNK = 100_000
"""Events a chunk: coffea's own default."""

Job = Callable[[Mapping[str, Any], ProcessorABC], Any]
"""Runs a processor over a fileset."""


@contextlib.contextmanager
def running(
    executor: ExecutorName = "iterative",
    *,
    workers: int = 1,
    scheduler: str | None = None,
    chunksize: int = CHUNK,
    skipbadfiles: bool = False,
) -> Iterator[Job]:
    """Runs processors over filesets, with errors as everywhere in hepgan.

    Args:
        executor: ``iterative`` in this process, ``futures`` in ``workers`` processes of this machine, ``dask`` on the cluster of
            ``scheduler``, or on ``workers`` processes of this machine without one.
        workers: How many processes.
        scheduler: ``tcp://host:8786``, of a Dask cluster.
        chunksize: Events a chunk, about.
        skipbadfiles: Leave out files that cannot be read, with a warning each.

    Raises:
        RunError: options that do not go together, or Dask is not installed.
    """
    if scheduler and executor != "dask":
        raise RunError(f"a scheduler is for the executor dask, not for {executor}")
    with contextlib.ExitStack() as stack:
        chosen: Any
        if executor == "dask":
            client = stack.enter_context(_client(scheduler, workers))
            chosen = DaskExecutor(client=client, status=False)
        elif executor == "futures":
            # A worker that dies ends the whole pool and errors of the data stay what they are: no second try would help.
            chosen = FuturesExecutor(workers=workers, status=False, retries=0)
        else:
            chosen = IterativeExecutor(status=False, retries=0)
        runner = Runner(
            executor=chosen, pre_executor=IterativeExecutor(status=False, retries=0), schema=BaseSchema,
            chunksize=chunksize, skipbadfiles=(OSError, ValueError) if skipbadfiles else False,
        )  # fmt: skip
        yield lambda fileset, processor: _run(runner, fileset, processor)


@contextlib.contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Any]:
    try:
        import distributed
    except ImportError as error:
        raise RunError("the executor dask needs Dask: pip install 'hepgan[dask]'") from error
    if scheduler:
        try:
            client: Any = distributed.Client(scheduler, timeout=20)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise RunError(f"no Dask scheduler answers at '{scheduler}': {error}") from error
    else:
        client = distributed.Client(n_workers=workers, threads_per_worker=1, dashboard_address=None)  # type: ignore[no-untyped-call]
    with client:
        yield client


def _run(runner: Runner, fileset: Mapping[str, Any], processor: ProcessorABC) -> Any:
    """The processor's result; coffea's bars and tracebacks stay away from what a command prints."""
    try:
        with contextlib.redirect_stdout(sys.stderr), _no_traceback(runner):
            return runner(dict(fileset), processor)
    except Exception as error:  # what coffea wraps the processor's error in, no narrower type
        if (own := _own(error)) is error:
            raise
        raise own from error


def _no_traceback(runner: Runner) -> contextlib.AbstractContextManager[Any]:
    """The futures executor prints what it raises; workers' own messages still come."""
    futures = isinstance(runner.executor, FuturesExecutor)
    return contextlib.redirect_stderr(io.StringIO()) if futures else contextlib.nullcontext()


def _own(error: BaseException) -> BaseException:
    """The error of hepgan's that ``error`` is about, as far as it can be found; from other processes only its text comes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HepganError):
            return cause
        cause = cause.__cause__
    text = re.search(r"The error was: \w*Error\((['\"])(.*)\1\)", str(error), flags=re.DOTALL)
    return DataError(text[2]) if text else error


def fileset_of(files: Files, *, tree: str | None = None, skip: bool = False) -> dict[str, Any]:
    """Coffea's fileset of what ``hepgan.read`` takes, with each file's tree; dataset ``events``.

    Every file is opened, so that what is wrong is said before workers start; with ``skip`` bad ones are left out, with a warning.

    Raises:
        DataError: a file or tree is missing or bad, or none is left.
    """
    found: dict[str, str] = {}
    first: DataError | None = None
    for source in root.sources(files, tree=tree):
        try:
            with opened(source.path) as file:
                find_tree(file, source)
                found[source.path] = source.tree or next(iter(trees(file, source.path)))
        except DataError as error:
            if not skip:
                raise
            first = first or error
            warnings.warn(f"file left out: {error}", stacklevel=2)
    if not found and first:
        raise DataError(f"none of the files can be read; the first: {first}")
    return {"events": {"files": found}}

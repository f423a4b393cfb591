"""coffea's executors by name, for processors over filesets and functions over lists; filesets from plain paths."""

import contextlib
import io
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, Literal

from coffea.nanoevents import BaseSchema
from coffea.processor import (
    DaskExecutor,
    FuturesExecutor,
    IterativeExecutor,
    ProcessorABC,
    Runner,
)

from hepgan.data.io import reader
from hepgan.data.io.files import Files, Source, is_url, open_source, sources
from hepgan.errors import BadFileError, DataError, HepganError, RunError
from hepgan.processors.workers import pool

ExecutorName = Literal["iterative", "futures", "dask"]

STEP_SIZE = 100_000
"""Events per chunk: coffea's default."""

RunProcessor = Callable[[Mapping[str, Any], ProcessorABC], Any]
"""Runs a processor over a fileset."""

MapItems = Callable[[Callable[[Any], dict[str, int]], Sequence[Any]], dict[str, int]]
"""Calls a function for each item and adds up the results."""


@contextlib.contextmanager
def open_runner(
    executor: ExecutorName = "iterative",
    *,
    workers: int = 1,
    scheduler: str | None = None,
    step_size: int = STEP_SIZE,
    on_bad_file: reader.OnBadFile = "raise",
) -> Iterator[RunProcessor]:
    """Context manager that yields a function that runs processors over filesets and raises hepgan's errors.

    Args:
        executor: ``iterative`` runs in this process, ``futures`` in ``workers`` processes of this machine, ``dask`` on the cluster of
            ``scheduler``, or without one in ``workers`` processes of this machine.
        workers: Number of worker processes, for executors that start some.
        scheduler: Address of a Dask scheduler, ``tcp://host:8786``.
        step_size: Approximate number of events per chunk.
        on_bad_file: ``"skip"`` leaves out files that cannot be opened, with a warning each. Damage that is found only when a chunk is read is
            always an error, since it would not be clear which events are missing.

    Raises:
        RunError: the options contradict each other, or Dask is not installed.
    """
    with _executor(executor, workers, scheduler) as coffea_executor:
        runner = Runner(
            executor=coffea_executor, pre_executor=IterativeExecutor(status=False, retries=0), schema=BaseSchema,
            chunksize=step_size,
        )  # fmt: skip

        def run(fileset: Mapping[str, Any], processor: ProcessorABC) -> Any:
            skip = on_bad_file == "skip"
            good = _checked(fileset, on_bad_file="skip") if skip else dict(fileset)
            # coffea's and uproot's messages for a bad file are long; replace them by those of hepgan.
            return _call(
                coffea_executor,
                lambda: _without_empty(runner, good, processor),
                why=lambda: _checked(good, on_bad_file="raise"),
            )

        yield run


def _without_empty(runner: Runner, fileset: Mapping[str, Any], processor: ProcessorABC) -> Any:
    """Runs ``processor``; trees without entries, whose branches may be missing, contribute nothing."""
    items = list(runner.preprocess(dict(fileset)))
    filled = [item for item in items if item.entrystop > item.entrystart]
    if items and not filled:
        raise reader.no_events_error([Source(item.filename, item.treename) for item in items], {})
    return runner.run(filled, processor)["out"]


@contextlib.contextmanager
def open_mapper(
    executor: ExecutorName = "iterative", *, workers: int = 1, scheduler: str | None = None
) -> Iterator[MapItems]:
    """Context manager that yields a function that maps functions over lists on the workers of an executor; options as in ``open_runner``."""
    with _executor(executor, workers, scheduler) as coffea_executor:
        yield lambda function, items: _call(
            coffea_executor, lambda: coffea_executor(list(items), function, {})[0]
        )


@contextlib.contextmanager
def _executor(name: ExecutorName, workers: int, scheduler: str | None) -> Iterator[Any]:
    if scheduler and name != "dask":
        raise RunError(f"a scheduler needs the executor dask, not {name}")
    if name == "dask":
        with _client(scheduler, workers) as client:
            yield DaskExecutor(client=client, status=False)
    elif name == "futures":
        # A retry would not help: a worker that dies ends the whole pool, and an error in the data stays an error.
        yield FuturesExecutor(pool=pool, workers=workers, status=False, retries=0)
    else:
        yield IterativeExecutor(status=False, retries=0)


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
        # Errors of a processor are reported here, in one line; workers need not log every attempt.
        client = distributed.Client(  # type: ignore[no-untyped-call]
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        )  # fmt: skip
    with client:
        yield client


def _call(
    executor: Any, work: Callable[[], Any], *, why: Callable[[], object] = lambda: None
) -> Any:
    """Returns the result of ``work``, and keeps coffea's progress bars and tracebacks out of the command's output.

    If ``work`` raises an error that is not hepgan's, ``why`` is called and may raise a clearer one.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr), _no_traceback(executor):
            return work()
    except Exception as error:  # coffea wraps the processor's error in no narrower type
        if (cause := _hepgan_error(error)) is error:
            if not isinstance(error, HepganError):
                why()
            raise
        raise cause from error


def _no_traceback(executor: Any) -> contextlib.AbstractContextManager[Any]:
    """Context manager that hides the traceback that the futures executor prints; messages of the workers themselves still appear."""
    futures = isinstance(executor, FuturesExecutor)
    return contextlib.redirect_stderr(io.StringIO()) if futures else contextlib.nullcontext()


def _hepgan_error(error: BaseException) -> BaseException:
    """Returns the hepgan error that caused ``error``, if there is one; from other processes only its text arrives."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HepganError):
            return cause
        cause = cause.__cause__
    if isinstance(error, BrokenExecutor) or "KilledWorker" in str(error):
        return RunError(
            "a worker process died, most likely out of memory; use fewer workers or a smaller step size"
        )
    text = re.search(r"The error was: \w*Error\((['\"])(.*)\1\)", str(error), flags=re.DOTALL)
    return DataError(text[2]) if text else error


def fileset_of(
    files: Files, *, tree: str | None = None, on_bad_file: reader.OnBadFile = "raise"
) -> dict[str, Any]:
    """Returns the coffea fileset of any files that ``hepgan.read`` accepts, with the tree of each. Paths are absolute.

    The dataset is called ``events``; further trees of the same file go to ``events_2`` and so on, since a dataset may name a file only once.
    Every file is opened, so that errors show before workers start; ``on_bad_file="skip"`` leaves bad files out with a warning.

    Raises:
        DataError: a file or tree is missing or damaged, none is left, or one is named twice.
    """
    datasets: dict[str, dict[str, str]] = {}
    for path, name in _trees(sources(files, tree=tree), on_bad_file):
        number = sum(path in dataset for dataset in datasets.values()) + 1
        datasets.setdefault(f"events_{number}" if number > 1 else "events", {})[path] = name
    return {name: {"files": dataset} for name, dataset in datasets.items()}


def _checked(fileset: Mapping[str, Any], *, on_bad_file: reader.OnBadFile) -> dict[str, Any]:
    """Returns ``fileset`` after opening every file, as ``fileset_of`` does."""
    checked = {}
    for dataset, spec in fileset.items():
        table = spec if isinstance(spec, Mapping) else {"files": spec}
        trees = sources(table["files"], tree=table.get("treename"))
        checked[dataset] = {**table, "files": dict(_trees(trees, on_bad_file))}
    return checked


def _trees(sources: Iterable[Source], on_bad_file: reader.OnBadFile) -> list[tuple[str, str]]:
    """Returns the paths and trees that can be opened."""
    trees: dict[tuple[str, str], None] = {}
    first: DataError | None = None
    for source in sources:
        # The workers of a cluster have other working directories.
        path = source.path if is_url(source.path) else str(Path(source.path).absolute())
        try:
            with open_source(source) as (_, name, _):
                pass
        except BadFileError as error:
            if on_bad_file == "raise":
                raise
            first = first or error
            warnings.warn(f"file left out: {error}", stacklevel=2)
            continue
        if (path, name) in trees:
            raise DataError(f"the tree '{name}' of '{path}' is named twice; name it once")
        trees[path, name] = None
    if not trees and first:
        raise DataError(f"none of the files can be read; the first: {first}")
    return list(trees)

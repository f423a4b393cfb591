"""coffea's executors by name, for processors over filesets and for functions over lists; and a fileset of plain paths."""

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
from hepgan.data.io.files import Files, Source, is_url, opened_source
from hepgan.errors import BadFileError, DataError, HepganError, RunError
from hepgan.processors.workers import pool

ExecutorName = Literal["iterative", "futures", "dask"]

CHUNK = 100_000
"""Events a chunk: coffea's own default."""

RunProcessor = Callable[[Mapping[str, Any], ProcessorABC], Any]
"""Runs a processor over a fileset."""

MapItems = Callable[[Callable[[Any], dict[str, int]], Sequence[Any]], dict[str, int]]
"""Calls a function for each item, and adds what it returns."""


@contextlib.contextmanager
def open_runner(
    executor: ExecutorName = "iterative",
    *,
    workers: int = 1,
    scheduler: str | None = None,
    chunksize: int = CHUNK,
    skipbadfiles: bool = False,
) -> Iterator[RunProcessor]:
    """Runs processors over filesets, with errors as everywhere in hepgan.

    Args:
        executor: ``iterative`` in this process, ``futures`` in ``workers`` processes of this machine, ``dask`` on the cluster of
            ``scheduler``, or on ``workers`` processes of this machine without one.
        workers: How many processes, where the executor starts some.
        scheduler: ``tcp://host:8786``, of a Dask cluster.
        chunksize: Events a chunk, about.
        skipbadfiles: Leave out files that cannot be opened, with a warning each. Damage that is found later is an error all the same:
            nobody would see which events are missing.

    Raises:
        RunError: options that do not go together, or Dask is not installed.
    """
    with _executor(executor, workers, scheduler) as chosen:
        runner = Runner(
            executor=chosen, pre_executor=IterativeExecutor(status=False, retries=0), schema=BaseSchema,
            chunksize=chunksize,
        )  # fmt: skip

        def job(fileset: Mapping[str, Any], processor: ProcessorABC) -> Any:
            good = _checked(fileset, skip=True) if skipbadfiles else dict(fileset)
            # What coffea and uproot say of a bad file has many words.
            return _call(
                chosen,
                lambda: _without_empty(runner, good, processor),
                why=lambda: _checked(good, skip=False),
            )

        yield job


def _without_empty(runner: Runner, fileset: Mapping[str, Any], processor: ProcessorABC) -> Any:
    """Runs ``processor``; trees without entries, whose branches may be missing, contribute nothing."""
    items = list(runner.preprocess(dict(fileset)))
    filled = [item for item in items if item.entrystop > item.entrystart]
    if items and not filled:
        raise reader.nothing_in([Source(item.filename, item.treename) for item in items], {})
    return runner.run(filled, processor)["out"]


@contextlib.contextmanager
def open_mapper(
    executor: ExecutorName = "iterative", *, workers: int = 1, scheduler: str | None = None
) -> Iterator[MapItems]:
    """Calls functions for the items of lists on the workers of an executor, for what is no ROOT file; as ``running`` otherwise."""
    with _executor(executor, workers, scheduler) as chosen:
        yield lambda function, items: _call(chosen, lambda: chosen(list(items), function, {})[0])


@contextlib.contextmanager
def _executor(name: ExecutorName, workers: int, scheduler: str | None) -> Iterator[Any]:
    if scheduler and name != "dask":
        raise RunError(f"a scheduler is for the executor dask, not for {name}")
    if name == "dask":
        with _client(scheduler, workers) as client:
            yield DaskExecutor(client=client, status=False)
    elif name == "futures":
        # A worker that dies ends the whole pool and errors of the data stay what they are: no second try would help.
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
        # What a processor raises is told here, in one line; workers need not log it at each try.
        client = distributed.Client(  # type: ignore[no-untyped-call]
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        )  # fmt: skip
    with client:
        yield client


def _call(
    executor: Any, work: Callable[[], Any], *, why: Callable[[], object] = lambda: None
) -> Any:
    """What ``work`` returns; coffea's bars and tracebacks stay away from what a command prints.

    Where it raises what is no error of hepgan, ``why`` may raise a better one.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr), _no_traceback(executor):
            return work()
    except Exception as error:  # what coffea wraps the processor's error in, no narrower type
        if (own := _own(error)) is error:
            if not isinstance(error, HepganError):
                why()
            raise
        raise own from error


def _no_traceback(executor: Any) -> contextlib.AbstractContextManager[Any]:
    """The futures executor prints what it raises; workers' own messages still come."""
    futures = isinstance(executor, FuturesExecutor)
    return contextlib.redirect_stderr(io.StringIO()) if futures else contextlib.nullcontext()


def _own(error: BaseException) -> BaseException:
    """The error of hepgan's that ``error`` is about, as far as it can be found; from other processes only its text comes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HepganError):
            return cause
        cause = cause.__cause__
    if isinstance(error, BrokenExecutor) or "KilledWorker" in str(error):
        return RunError(
            "a worker process died, most likely for lack of memory; choose fewer workers or smaller chunks"
        )
    text = re.search(r"The error was: \w*Error\((['\"])(.*)\1\)", str(error), flags=re.DOTALL)
    return DataError(text[2]) if text else error


def fileset_of(files: Files, *, tree: str | None = None, skip: bool = False) -> dict[str, Any]:
    """Coffea's fileset of what ``hepgan.read`` takes, with each file's tree. Paths are absolute.

    There is one dataset, ``events``; further trees of one file are in ``events_2`` and so on, since a dataset names a file once.
    Every file is opened, so that what is wrong is said before workers start; with ``skip`` bad ones are left out, with a warning.

    Raises:
        DataError: a file or tree is missing or bad, or none is left, or one is named twice.
    """
    found: dict[str, dict[str, str]] = {}
    for path, name in _trees(reader.sources(files, tree=tree), skip=skip):
        number = sum(path in dataset for dataset in found.values()) + 1
        found.setdefault(f"events_{number}" if number > 1 else "events", {})[path] = name
    return {name: {"files": dataset} for name, dataset in found.items()}


def _checked(fileset: Mapping[str, Any], *, skip: bool) -> dict[str, Any]:
    """``fileset`` after every file has been opened, as ``fileset_of`` does."""
    found = {}
    for dataset, spec in fileset.items():
        table = spec if isinstance(spec, Mapping) else {"files": spec}
        sources = reader.sources(table["files"], tree=table.get("treename"))
        found[dataset] = {**table, "files": dict(_trees(sources, skip=skip))}
    return found


def _trees(sources: Iterable[Source], *, skip: bool) -> list[tuple[str, str]]:
    """The paths and trees that can be opened."""
    found: dict[tuple[str, str], None] = {}
    first: DataError | None = None
    for source in sources:
        # A cluster's workers stand in folders of their own.
        path = source.path if is_url(source.path) else str(Path(source.path).absolute())
        try:
            with opened_source(source) as (_, name, _):
                pass
        except BadFileError as error:
            if not skip:
                raise
            first = first or error
            warnings.warn(f"file left out: {error}", stacklevel=2)
            continue
        if (path, name) in found:
            raise DataError(f"the tree '{name}' of '{path}' is named twice; name it once")
        found[path, name] = None
    if not found and first:
        raise DataError(f"none of the files can be read; the first: {first}")
    return list(found)

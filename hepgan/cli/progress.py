"""Progress of a command: a bar on a terminal, otherwise a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from hepgan.cli.verbosity import verbosity
from hepgan.progress import ProgressCallback, no_progress

INTERVAL = 10.0
"""Minimum interval between lines of progress without a terminal [s]."""


@contextmanager
def progress_bar(*, verbose: bool = False) -> Iterator[ProgressCallback]:
    """Context manager that yields a callback for a progress bar on a terminal, for lines now and then otherwise.

    With ``verbose`` or ``-v``, every call prints a line; with ``-q``, none does.
    """
    if verbosity() == "quiet":
        yield no_progress
        return
    verbose = verbose or verbosity() == "verbose"
    if verbose or not sys.stderr.isatty():
        yield _lines(0.0 if verbose else INTERVAL)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:>20}"), BarColumn(), TaskProgressColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[remark]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def progress(task: str, fraction: float, remark: str) -> None:
            if task not in tasks:
                for bar in tasks.values():
                    bars.update(bar, completed=1.0)
                tasks[task] = bars.add_task(task, total=1.0, remark="")
            bars.update(tasks[task], completed=fraction, remark=remark)

        yield progress
        for bar in tasks.values():
            bars.update(bar, completed=1.0)


def _lines(interval: float) -> ProgressCallback:
    last: dict[str, float] = {}

    def progress(task: str, fraction: float, remark: str) -> None:
        now = time.monotonic()
        if now - last.get(task, 0.0) >= interval or fraction >= 1:
            click.echo(f"{task} {fraction:4.0%} {remark}".rstrip(), err=True)
            last[task] = now

    return progress

"""Progress of a command: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from hepgan.progress import ProgressCallback

QUIET_SECONDS = 10.0
"""Without a terminal a line of progress is written so often at the most."""


@contextmanager
def progress_bar(*, verbose: bool = False) -> Iterator[ProgressCallback]:
    """A progress bar on a terminal, else a line now and then; ``verbose``: a line each time."""
    if verbose or not sys.stderr.isatty():
        yield _lines(0.0 if verbose else QUIET_SECONDS)
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
    with Progress(*columns, console=Console(stderr=True)) as shown:
        tasks: dict[str, Any] = {}

        def progress(text: str, fraction: float, remark: str) -> None:
            if text not in tasks:
                for task in tasks.values():
                    shown.update(task, completed=1.0)
                tasks[text] = shown.add_task(text, total=1.0, remark="")
            shown.update(tasks[text], completed=fraction, remark=remark)

        yield progress
        for task in tasks.values():
            shown.update(task, completed=1.0)


def _lines(quiet: float) -> ProgressCallback:
    said: dict[str, float] = {}

    def progress(text: str, fraction: float, remark: str) -> None:
        now = time.monotonic()
        if now - said.get(text, 0.0) >= quiet or fraction >= 1:
            click.echo(f"{text} {fraction:4.0%} {remark}".rstrip(), err=True)
            said[text] = now

    return progress

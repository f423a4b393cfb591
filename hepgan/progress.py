"""Progress callbacks of long-running functions, their display, and notices."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

ProgressCallback = Callable[[str, float, str], None]
"""Called with the name of the current step, the fraction of it that is done, and a remark (or an empty string)."""

INTERVAL = 10.0
"""Minimum interval between lines of progress in a file [s]."""

NOTEBOOK_INTERVAL = 0.2
"""Minimum interval between changes of the line of progress in a notebook [s]."""

NOTICE = 25
"""Level of the log between information and warnings, which the command line prints: a choice that the user may want to know of."""


def no_progress(text: str, fraction: float, remark: str) -> None:
    """Ignores the progress."""


def renamed(progress: ProgressCallback, prefix: str) -> ProgressCallback:
    """Returns the progress callback with ``prefix`` in front of the names of all steps."""
    return lambda step, fraction, remark: progress(prefix + step, fraction, remark)


def part_of(
    progress: ProgressCallback, text: str, number: int = 0, parts: int = 1
) -> ProgressCallback:
    """Returns the progress callback of one of several parts of the step ``text``; the names of its own steps become remarks.

    Args:
        progress: Progress callback of the whole.
        text: Name of the step.
        number: Number of the part, from 0.
        parts: Number of parts, which are taken to be of the same length.
    """

    def report(step: str, fraction: float, remark: str) -> None:
        progress(text, (number + fraction) / parts, ", ".join(filter(None, (step, remark))))

    return report


def progress_bar() -> AbstractContextManager[ProgressCallback]:
    """Returns a context manager that yields a progress callback.

    The callback shows a bar for each step on a terminal; in a notebook a single line, which changes and ends as the total time; elsewhere,
    such as in the log of a batch job, a line every ten seconds. Bars and lines of a log are written to stderr.

    >>> with progress_bar() as progress:
    ...     progress("training", 0.5, "step 500 of 1,000")
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is not None:
        return _in_notebook(ipython.display.display)
    return _on_terminal() if sys.stderr.isatty() else nullcontext(progress_lines(INTERVAL))


def progress_lines(interval: float) -> ProgressCallback:
    """Returns a callback that prints lines on stderr, for each step at most one every ``interval`` seconds and its end."""
    last: dict[str, float] = {}

    def progress(step: str, fraction: float, remark: str) -> None:
        now = time.monotonic()
        if now - last.get(step, -interval) >= interval or fraction >= 1:
            sys.stderr.write(f"{step} {fraction:4.0%} {remark}".rstrip() + "\n")
            sys.stderr.flush()
            last[step] = now

    return progress


@contextmanager
def _on_terminal() -> Iterator[ProgressCallback]:
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

        def progress(step: str, fraction: float, remark: str) -> None:
            if step not in tasks:
                for bar in tasks.values():
                    bars.update(bar, completed=1.0)
                tasks[step] = bars.add_task(step, total=1.0, remark="")
            bars.update(tasks[step], completed=fraction, remark=remark)

        yield progress
        for bar in tasks.values():
            bars.update(bar, completed=1.0)


@contextmanager
def _in_notebook(display: Callable[..., Any]) -> Iterator[ProgressCallback]:
    """Context manager that shows a line by IPython's ``display``; the output of the cell is one, which every change replaces."""
    started = shown = time.monotonic()
    handle = display({"text/plain": "starting"}, raw=True, display_id=True)
    current, line = ("", 0.0, started), ""  # name of the step, its first fraction and its start

    def show(text: str) -> None:
        handle.update({"text/plain": text}, raw=True)

    def progress(step: str, fraction: float, remark: str) -> None:
        nonlocal current, line, shown
        now = time.monotonic()
        new = step != current[0]
        if new:
            current = (step, fraction, now)
        done, seconds = fraction - current[1], now - current[2]
        left = f", {_clock(seconds * (1 - fraction) / done)} left" if done > 0 else ""
        bar = "█" * int(20 * min(fraction, 1))
        line = f"{step} {bar:░<20} {fraction:4.0%} {_clock(seconds)}{left}  {remark}".rstrip()
        if new or now - shown >= NOTEBOOK_INTERVAL:
            show(line)
            shown = now

    try:
        yield progress
    except BaseException:
        show(f"stopped after {_clock(time.monotonic() - started)}: {line or 'starting'}")
        raise
    show(f"done in {_clock(time.monotonic() - started)}")


def _clock(seconds: float) -> str:
    """Returns a duration as hours, minutes and seconds: 0:07, 2:03 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""Progress callbacks of long-running functions, and notices."""

from collections.abc import Callable

ProgressCallback = Callable[[str, float, str], None]
"""Called with the name of the current step, the fraction of it that is done, and a remark (or an empty string)."""


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

"""Progress callbacks of long-running functions."""

from collections.abc import Callable

ProgressCallback = Callable[[str, float, str], None]
"""Called with the name of the current step, the fraction of it that is done, and a remark (or an empty string)."""


def no_progress(text: str, fraction: float, remark: str) -> None:
    """Ignores the progress."""

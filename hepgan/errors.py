"""Exceptions that hepgan raises for errors that a user can correct.

Each message says what was found, where, and what to do. Bugs and broken installations raise Python's own exceptions.
"""

import difflib
import unicodedata
from collections.abc import Iterable

LONGEST_NAME = 200
"""Maximum length of a name that is compared with the known ones."""

#: Number of characters of a line that an error shows.
_WINDOW = 100


class HepganError(Exception):
    """Base class of errors that a user can correct. The command line prints the message and exits with status 2."""


class LayoutError(HepganError):
    """A layout string cannot be parsed, or its shapes do not fit. The message has a caret under the fault."""


class DataError(HepganError):
    """A file, tree, branch or value is missing or does not match the schema."""


class BadFileError(DataError):
    """A file cannot be opened: it is missing, damaged, not a ROOT file, or lacks the tree. Such files can be skipped."""


class NoNumbersError(DataError):
    """A branch contains neither numbers nor lists of numbers."""


class NoEventsError(DataError):
    """There are no events: all files are empty."""


class NotFiniteError(DataError):
    """A generator returned NaN or infinite values."""


class RunError(HepganError):
    """A run file, option, device or folder cannot be used as requested."""


class CheckpointError(HepganError):
    """A saved GAN or checkpoint is incomplete, damaged, or from another program."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the nearest of ``known``, or an empty string if none is near.

    >>> did_you_mean("enrgy", ["energy", "layer_0"])
    "; did you mean 'energy'?"
    """
    if len(name) > LONGEST_NAME:  # difflib takes quadratic time
        return ""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def with_caret(message: str, text: str, start: int, end: int) -> str:
    r"""Returns ``message``, followed by the line of ``text`` that contains ``[start, end)`` with carets under it.

    >>> print(with_caret("unknown activation 'RELUU'; did you mean RELU?", "DENSE|64|RELUU", 9, 14))
    unknown activation 'RELUU'; did you mean RELU?
      DENSE|64|RELUU
               ^^^^^
    """
    first = max(text.rfind("\n", 0, start) + 1, start - _WINDOW // 2)
    newline = text.find("\n", start)
    last = min(len(text) if newline < 0 else newline, first + _WINDOW)
    before, marked, after = text[first:start], text[start : min(end, last)], text[end:last]
    head = "…" if first > 0 and text[first - 1] != "\n" else ""
    tail = "…" if last < len(text) and text[last] != "\n" else ""
    line = head + _shown(before) + _shown(marked) + _shown(after) + tail
    caret = " " * _columns(head + _shown(before)) + "^" * max(1, _columns(_shown(marked)))
    return f"{message}\n  {line}\n  {caret}"


def clipped(token: str, limit: int = 40) -> str:
    """Returns ``token`` for quoting in a message: shortened, and without control characters."""
    return _shown(token if len(token) <= limit else token[:limit] + "…")


def _shown(text: str) -> str:
    """Replaces control, format and surrogate characters, which would move the caret or break the terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if c.isspace() else "?" if unicodedata.category(c)[0] in "CM" else c for c in text
    )


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

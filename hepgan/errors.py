"""Exceptions that hepgan raises for errors that a user can correct.

Each message says what was found, where, and what to do. Bugs and broken installations raise Python's own exceptions.
"""

import difflib
from collections.abc import Iterable

LONGEST_NAME = 200
"""Maximum length of a name that is compared with the known ones."""


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

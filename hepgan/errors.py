"""The errors that hepgan raises for what a user can put right.

Each message is one sentence that says what was asked, what was found and what to do. Everything else
(a bug, a broken installation) is left to Python's own exceptions.
"""

import difflib
from collections.abc import Iterable

LONGEST_NAME = 200
"""No longer name is compared with those known."""


class HepganError(Exception):
    """What a user can put right. The command line prints it as one line and exits with 2."""


class LayoutError(HepganError):
    """A layout string that does not parse, or whose shapes do not fit. Shows the place with a caret."""


class DataError(HepganError):
    """A file, tree, branch or value that is missing or is not what the schema says."""


class BadFileError(DataError):
    """A file that cannot be opened: it is missing, damaged, no ROOT file, or lacks the tree. Such files can be left out."""


class NoNumbersError(DataError):
    """A branch that holds neither numbers nor lists of numbers."""


class NoEventsError(DataError):
    """There are no events: all files are empty."""


class NotFiniteError(DataError):
    """A generator that makes NaN or infinite numbers."""


class RunError(HepganError):
    """A run file, option, device or folder that cannot be used as asked."""


class CheckpointError(HepganError):
    """A saved GAN or checkpoint that is incomplete, foreign or damaged."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest of ``known``, or nothing where none is near.

    >>> did_you_mean("enrgy", ["energy", "layer_0"])
    "; did you mean 'energy'?"
    """
    if len(name) > LONGEST_NAME:  # the time for difflib grows with its square
        return ""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""

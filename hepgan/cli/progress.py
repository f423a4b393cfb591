"""Progress of a command, as ``-v`` and ``-q`` say."""

from contextlib import AbstractContextManager, nullcontext

from hepgan import progress
from hepgan.cli.verbosity import verbosity
from hepgan.progress import ProgressCallback, no_progress


def progress_bar(*, verbose: bool = False) -> AbstractContextManager[ProgressCallback]:
    """Returns the context manager of ``hepgan.progress_bar``; with ``verbose`` or ``-v``, every call prints a line, with ``-q`` none does."""
    if verbosity() == "quiet":
        return nullcontext(no_progress)
    if verbose or verbosity() == "verbose":
        return nullcontext(progress.progress_lines(0.0))
    return progress.progress_bar()

"""Clean stop of a training on Ctrl-C, SIGTERM and SIGHUP: the handlers only set a flag, so that the current step is finished.

Slurm, HTCondor and Kubernetes send SIGTERM when a job's time is up; a closed terminal or a lost connection sends SIGHUP.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hepgan.errors import HepganError

log = logging.getLogger(__name__)

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that stop a training; Windows has no SIGHUP."""


class TrainingStopped(HepganError):  # noqa: N818
    """Training stopped by a signal; ``code`` is the exit code of a command, 128 plus the number of the signal."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.code = 128 + number


class Stop:
    """Number of the first signal that was received; 0 before."""

    number = 0


@contextmanager
def stop_flag() -> Iterator[Stop]:
    """Context manager that records Ctrl-C, SIGTERM and SIGHUP in the ``Stop`` that it yields.

    A second Ctrl-C interrupts immediately. Signals that are ignored, such as SIGHUP under ``nohup``, stay ignored.
    """
    stop, interrupted = Stop(), False
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if number == signal.SIGINT and interrupted:
            raise KeyboardInterrupt
        interrupted = interrupted or number == signal.SIGINT
        stop.number = stop.number or number
        forget_lost_terminal()
        log.warning("stopping after this step; press Ctrl-C again to stop immediately")

    before = {
        number: signal.signal(number, handle)
        for number in ENDING
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def forget_lost_terminal() -> None:
    """Redirects stdout and stderr to the null device if the terminal is gone, so that printing progress does not fail."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream)
                os.close(null)

"""Signals that end a training as a flag, so that a step is never cut in two: Ctrl-C, SIGTERM and SIGHUP.

SIGTERM is what Slurm, HTCondor and Kubernetes send when time is up, SIGHUP what a lost terminal or connection sends.
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
"""The signals; Windows has no SIGHUP."""


class TrainingStopped(HepganError):  # noqa: N818
    """Training was stopped by a signal; a command that it ends exits with ``code``, 128 and the signal's number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.code = 128 + number


class Stop:
    """The first signal that came, ``number``; 0 before."""

    number = 0


@contextmanager
def stop_flag() -> Iterator[Stop]:
    """Context manager in which Ctrl-C, SIGTERM and SIGHUP are written into the ``Stop`` that it yields.

    A second Ctrl-C interrupts at once. Other signals that are ignored, as SIGHUP is under ``nohup``, stay so.
    """
    stop, pressed = Stop(), False
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if number == signal.SIGINT and pressed:
            raise KeyboardInterrupt
        pressed = pressed or number == signal.SIGINT
        stop.number = stop.number or number
        forget_lost_terminal()
        log.warning("stopping after this step; Ctrl-C again stops at once")

    before = {
        number: signal.signal(number, note)
        for number in ENDING
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def forget_lost_terminal() -> None:
    """Sends what is printed nowhere where the terminal is gone: else the first line of progress would end the program."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)

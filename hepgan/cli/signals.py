"""SIGTERM and SIGHUP, which batch systems send at the time limit, end a command as Ctrl-C does: workers and temporary files are removed."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hepgan.gan.training.signals import ENDING, forget_lost_terminal

AGAIN = 0.01
"""Delay after which a signal whose exception was lost is sent again [s]."""

_received: list[int] = []


class Ended(SystemExit):
    """Raised by a signal; the exit code is that of the shell, 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Context manager in which SIGTERM and SIGHUP raise ``Ended``.

    A signal that is ignored, as under ``nohup``, remains ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    default = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in default:
        signal.signal(number, _end)
    hook = sys.unraisablehook

    def send_again(lost: "sys.UnraisableHookArgs") -> None:
        # Python drops exceptions that are raised during garbage collection.
        if isinstance(lost.exc_value, Ended):
            signal.signal(lost.exc_value.number, _end)
            threading.Timer(AGAIN, os.kill, [os.getpid(), lost.exc_value.number]).start()
        else:
            hook(lost)

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number in default:
            signal.signal(number, signal.SIG_DFL)


def received() -> int:
    """Returns the number of the signal that ends the command, 0 if there was none.

    A signal may surface as another exception than ``Ended``: a C extension that is being imported raises ``ImportError``.
    """
    return _received[0] if _received else 0


def _end(number: int, frame: FrameType | None) -> None:
    # Ignore further signals, which would cut the cleanup short.
    signal.signal(number, signal.SIG_IGN)
    forget_lost_terminal()
    _received.append(number)
    raise Ended(number)

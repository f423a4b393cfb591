"""What a batch system sends when time is up, SIGTERM or SIGHUP, ends a command as Ctrl-C does: workers, temporary files and folders go."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hepgan.gan.training.signals import ENDING, forget_lost_terminal

AGAIN = 0.01
"""Seconds after which a signal is sent again whose exception was lost."""

_received: list[int] = []


class Ended(SystemExit):
    """A signal came; the exit code is the shell's, 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Context manager in which SIGTERM and SIGHUP raise ``Ended``.

    A signal that is ignored, as under ``nohup``, stays so.
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
        # Python drops what is raised while it collects garbage.
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
    """Returns the number of the signal that ends the command, 0 if none came.

    Code that a signal cuts short may raise another exception than ``Ended``: a C extension that is being imported raises
    ``ImportError``.
    """
    return _received[0] if _received else 0


def _end(number: int, frame: FrameType | None) -> None:
    # Once is enough: a second signal must not cut the cleaning short.
    signal.signal(number, signal.SIG_IGN)
    forget_lost_terminal()
    _received.append(number)
    raise Ended(number)

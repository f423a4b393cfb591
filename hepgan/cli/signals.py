"""What a batch system sends when time is up, SIGTERM or SIGHUP, ends a command as Ctrl-C does: workers, temporary files and folders go."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hepgan.gan.interrupt import ENDING, forget_lost_terminal


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Context manager in which SIGTERM and SIGHUP raise ``SystemExit`` with the shell's exit code, 128 and the signal's number.

    A signal that is ignored, as under ``nohup``, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    default = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in default:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in default:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    # Once is enough: a second signal must not cut the cleaning short.
    signal.signal(number, signal.SIG_IGN)
    forget_lost_terminal()
    raise SystemExit(128 + number)

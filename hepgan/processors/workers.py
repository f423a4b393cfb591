"""Worker processes of this machine that never outlive the process that started them."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import loky

SECONDS = 0.2
"""Interval at which a worker checks that its parent is alive."""


@contextmanager
def pool(max_workers: int) -> Iterator[loky.ProcessPoolExecutor]:
    """Context manager that yields a pool of worker processes, which end at once if the work is interrupted or this process dies."""
    workers = loky.ProcessPoolExecutor(max_workers, initializer=_follow, initargs=(os.getpid(),))
    try:
        yield workers
    except BaseException:
        workers.shutdown(kill_workers=True)
        raise
    workers.shutdown()


def _follow(parent: int) -> None:
    """Ends this worker once the process ``parent``, which started it, has died; not supported on Windows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

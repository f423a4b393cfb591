"""Work of this process and of others, which do not run its main module."""

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, TypeVar, cast

S = TypeVar("S")
T = TypeVar("T")

_SERVE = "import sys; sys.path[:] = {path!r}; from hepgan.processes import serve; serve()"


def on_processes(
    function: Callable[[S], T],
    items: Sequence[S],
    *,
    helpers: int,
    progress: Callable[[float], None],
) -> list[T]:
    """Returns ``function(item)`` for all items: this process computes from the first on, ``helpers`` others from the last on.

    Unlike a pool of ``multiprocessing``, this works in notebooks and in scripts without ``if __name__ == "__main__"``. If a helper cannot be
    started, cannot read an item or fails, this process computes the item itself, and raises the error if there is one.

    Args:
        function: A function of a module, or a ``functools.partial`` of one.
        items: Items that can be pickled.
        helpers: Number of other processes, each of which uses one thread.
        progress: Called with the fraction of the items that are done.
    """
    remaining, results = deque(enumerate(items)), dict[int, T]()
    with ExitStack() as stack:
        waits = []
        for _ in range(helpers):
            with suppress(OSError):  # there are too many processes
                waits.append(stack.enter_context(_helper(function, remaining, results)))
        while len(results) < len(items):
            while task := _task(remaining.popleft):
                progress(len(results) / len(items))
                results[task[0]] = function(task[1])
            for wait in waits:
                wait()
    return [results[number] for number in range(len(items))]


@contextmanager
def _helper(
    function: Callable[[S], T], remaining: "deque[tuple[int, S]]", results: dict[int, T]
) -> Iterator[Callable[[], None]]:
    """Context manager of a process that computes the last of the ``remaining`` items until there are none.

    Yields a function that waits for its current item, or ends it if it has not started to work.
    """
    process = subprocess.Popen(  # noqa: S603  our own code
        [sys.executable, "-c", _SERVE.format(path=sys.path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    to, back = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
    ready = threading.Event()

    def delegate() -> None:
        task: tuple[int, S] | None = None
        try:
            _send(to, function)
            _receive(back)
            ready.set()
            while task := _task(remaining.pop):
                _send(to, task[1])
                results[task[0]] = _receive(back)
        except (OSError, EOFError, pickle.PickleError, AttributeError, TypeError):
            if task:
                remaining.append(task)

    def wait() -> None:
        if not ready.is_set():
            process.kill()
        thread.join()

    thread = threading.Thread(target=delegate, name="hepgan-helper", daemon=True)
    thread.start()
    try:
        yield wait
    finally:
        process.kill()
        thread.join()
        with suppress(OSError):  # what it did not read
            to.close()
        back.close()
        process.wait()


def serve() -> None:
    """Reads a function and items from stdin; writes ``True`` once it has the function, and then each result, to stdout."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the function may print
    function: Callable[[Any], Any] = _receive(sys.stdin.buffer)
    _send(output, True)
    with suppress(EOFError):  # no more items
        while True:
            _send(output, function(_receive(sys.stdin.buffer)))


def _send(stream: IO[bytes], value: object) -> None:
    stream.write(pickle.dumps(value))
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    return pickle.load(stream)  # noqa: S301  from the process at the other end of the pipe


def _task(take: Callable[[], tuple[int, S]]) -> tuple[int, S] | None:
    """Returns the next item with its number, or ``None`` if there is none."""
    try:
        return take()
    except IndexError:
        return None

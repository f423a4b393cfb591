"""Work on several threads, each of which uses torch on one."""

import concurrent.futures
import contextlib
import contextvars
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

S = TypeVar("S")
T = TypeVar("T")

CHUNK = 1024
"""Number of events whose nodes fit into the CPU's cache."""


def by_chunks(function: Callable[[slice], Tensor], events: int) -> Tensor:
    """Returns the results of ``function`` for chunks of ``events`` events, one after the other: computed on torch's threads, a chunk each."""
    parts = (slice(start, start + CHUNK) for start in range(0, max(1, events), CHUNK))
    return torch.cat(list(on_threads(function, parts)))


def on_threads(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Yields ``function(item)`` for all items, in order: computed on torch's threads, as many items at a time as there are threads."""
    remaining = iter(items)
    while part := list(itertools.islice(remaining, torch.get_num_threads())):
        if len(part) == 1:
            yield function(part[0])
            continue
        with one_thread_each() as pool:
            results = list(pool.map(_in_this_context(function), part))
        yield from results


def _in_this_context(function: Callable[[S], T]) -> Callable[[S], T]:
    """Returns ``function`` with the context variables and the gradient mode of this thread."""
    gradients, context = torch.is_grad_enabled(), contextvars.copy_context()

    def of_item(item: S) -> T:
        with torch.set_grad_enabled(gradients):
            return context.copy().run(function, item)

    return of_item


@contextlib.contextmanager
def one_thread_each() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Context manager that yields as many threads as torch uses, each of which uses torch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with concurrent.futures.ThreadPoolExecutor(
            threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)

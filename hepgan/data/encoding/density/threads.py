"""Work on several threads, each of which uses torch on one."""

import concurrent.futures
import contextlib
import contextvars
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

CHUNK = 1024
"""Number of events whose nodes fit into the CPU's cache."""


def by_chunks(function: Callable[[slice], Tensor], events: int) -> Tensor:
    """Returns the results of ``function`` for chunks of ``events`` events, one after the other: computed on torch's threads, a chunk each."""
    parts = [slice(start, start + CHUNK) for start in range(0, max(1, events), CHUNK)]
    if len(parts) == 1 or torch.get_num_threads() == 1:
        return torch.cat([function(part) for part in parts])
    gradients, context = torch.is_grad_enabled(), contextvars.copy_context()

    def of_part(part: slice) -> Tensor:
        with torch.set_grad_enabled(gradients):
            return context.copy().run(function, part)

    with one_thread_each() as pool:
        return torch.cat(list(pool.map(of_part, parts)))


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

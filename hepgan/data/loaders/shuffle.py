"""Shuffle buffer for chunked input: swaps, batches, fast-forward to a given event, and prefetching."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Generator, Tensor

PIECE = 256
"""Events copied at a time, so that rows that have just been read are still in the cache when they are overwritten."""

T = TypeVar("T")

Chunk = tuple[Tensor, ...]
"""Tensors ``[E, …]`` of the same events."""


class Swap(NamedTuple):
    """Events in ``slots`` that leave the buffer, and the events that replace them, if any."""

    buffer: Chunk
    slots: Tensor
    replacements: Chunk


class BufferState(NamedTuple):
    """Content of the buffer after a number of chunks.

    Attributes:
        events: Numbers of the events in the buffer, counted over all chunks of the epoch, in the order of the buffer.
        chunks: Number of chunks that have been read.
        yielded: Number of events that have left the buffer.
    """

    events: Tensor
    chunks: int
    yielded: int


def swaps(
    chunks: Iterable[Chunk], buffer_size: int, generator: Generator, *, initial: Chunk = ()
) -> Iterator[Swap]:
    """Yields the events that leave a shuffle buffer as chunks are read, and finally those that remain in it.

    Args:
        chunks: Chunks of events.
        buffer_size: Size of the buffer in events; larger chunks are read in parts.
        generator: Draws the slots.
        initial: Initial content of the buffer.
    """
    filled = len(initial[0]) if initial else 0
    buffer = _make_buffer(initial, buffer_size)
    for chunk in chunks:
        buffer = buffer or _make_buffer(tuple(part[:0] for part in chunk), buffer_size)
        yield from _read_chunk(buffer, filled, chunk, generator)
        filled = min(buffer_size, filled + len(chunk[0]))
    yield Swap(buffer, torch.randperm(filled, generator=generator), ())


def _make_buffer(initial: Chunk, size: int) -> Chunk:
    buffer = tuple(part.new_empty(size, *part.shape[1:]) for part in initial)
    for target, part in zip(buffer, initial, strict=True):
        target[: len(part)] = part
    return buffer


def _read_chunk(buffer: Chunk, filled: int, chunk: Chunk, generator: Generator) -> Iterator[Swap]:
    size = len(buffer[0])
    for start in range(0, len(chunk[0]), size):
        parts = tuple(part[start : start + size] for part in chunk)
        free = min(size - filled, len(parts[0]))
        for target, part in zip(buffer, parts, strict=True):
            target[filled : filled + free] = part[:free]
        filled += free
        slots = torch.randperm(size, generator=generator)[: len(parts[0]) - free]
        yield Swap(buffer, slots, tuple(part[free:] for part in parts))


def batches(swapped: Iterable[Swap], size: int, *, skip: int = 0) -> Iterator[Chunk]:
    """Yields batches of ``size`` events after skipping ``skip`` events; a smaller last batch is dropped."""
    filled, target = 0, skip or size
    batch: Chunk = ()
    for buffer, slots, replacements in swapped:
        start = 0
        while start < len(slots):
            if filled == 0:
                batch = tuple(part.new_empty(target, *part.shape[1:]) for part in buffer)
            stop = min(start + PIECE, start + target - filled, len(slots))
            piece = tuple(part[start:stop] for part in replacements)
            _exchange(buffer, slots[start:stop], piece, batch, filled)
            filled, start = filled + stop - start, stop
            if filled == target:
                if not skip:
                    yield batch
                filled, target, skip = 0, size, 0


def _exchange(buffer: Chunk, slots: Tensor, replacements: Chunk, batch: Chunk, filled: int) -> None:
    rows = slots.to(buffer[0].device)
    for source, out in zip(buffer, batch, strict=True):
        torch.index_select(source, 0, rows, out=out[filled : filled + len(rows)])
    for target, part in zip(buffer if replacements else (), replacements, strict=True):
        target.index_copy_(0, rows, part)


def fast_forward(
    sizes: Sequence[int], buffer_size: int, generator: Generator, events: int
) -> BufferState:
    """Returns the content of the buffer after at most ``events`` have left it, without reading data.

    Args:
        sizes: Number of events of each chunk of the epoch.
        buffer_size: As for ``swaps``.
        generator: Generator at the start of the epoch; it is advanced to the returned state.
        events: Largest number of events that have left the buffer.
    """
    buffer = (torch.empty(buffer_size, dtype=torch.long),)
    filled = yielded = first = 0
    for number, size in enumerate(sizes):
        leaving = max(0, filled + size - buffer_size)
        if not events or yielded + leaving > events:
            return BufferState(buffer[0][:filled], number, yielded)
        chunk = (torch.arange(first, first + size),)
        for swap in _read_chunk(buffer, filled, chunk, generator):
            buffer[0][swap.slots] = swap.replacements[0]
        filled, yielded, first = min(buffer_size, filled + size), yielded + leaving, first + size
    return BufferState(buffer[0][:filled], len(sizes), yielded)


def prefetch(chunks: Iterator[T]) -> Iterator[T]:
    """Yields ``chunks``, which a thread reads or makes one ahead; its errors are raised here."""
    ready: queue.Queue[T | BaseException | None] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: T | BaseException | None) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001  # every exception is passed to the consumer
            put(error)

    thread = threading.Thread(target=work, name="hepgan-read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()

"""Shuffle buffer for chunked input: swaps, batches, fast-forward to a given event, and prefetching."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

PIECE = 256
"""Events copied at a time, so that rows that have just been read are still in the cache when they are overwritten."""

Chunk = tuple[Tensor, ...]
"""Tensors ``[E, …]`` of the same events."""


class Swap(NamedTuple):
    """Events in ``slots`` of the buffer ``held`` that leave it, and the events ``parts`` that replace them, if any."""

    held: Chunk
    slots: Tensor
    parts: Chunk


class BufferState(NamedTuple):
    """Content of the buffer after a number of chunks.

    Attributes:
        events: Numbers of the events in the buffer, counted over all chunks of the epoch, in the order of the buffer.
        chunks: Chunks that have been read.
        left: Events that have left the buffer.
    """

    events: Tensor
    chunks: int
    left: int


def swaps(
    chunks: Iterable[Chunk], buffer: int, generator: Generator, *, held: Chunk = ()
) -> Iterator[Swap]:
    """Yields the events that leave a shuffle buffer as chunks are read, and finally those that remain in it.

    Args:
        chunks: Chunks of events.
        buffer: Size of the buffer in events; larger chunks are read in parts.
        generator: Draws the slots.
        held: Initial content of the buffer.
    """
    filled = len(held[0]) if held else 0
    store = _empty_buffer(held, buffer)
    for chunk in chunks:
        store = store or _empty_buffer(tuple(part[:0] for part in chunk), buffer)
        yield from _read_chunk(store, filled, chunk, generator)
        filled = min(buffer, filled + len(chunk[0]))
    yield Swap(store, torch.randperm(filled, generator=generator), ())


def _empty_buffer(held: Chunk, buffer: int) -> Chunk:
    store = tuple(part.new_empty(buffer, *part.shape[1:]) for part in held)
    for new, part in zip(store, held, strict=True):
        new[: len(part)] = part
    return store


def _read_chunk(store: Chunk, filled: int, chunk: Chunk, generator: Generator) -> Iterator[Swap]:
    buffer = len(store[0])
    for start in range(0, len(chunk[0]), buffer):
        parts = tuple(part[start : start + buffer] for part in chunk)
        free = min(buffer - filled, len(parts[0]))
        for held, part in zip(store, parts, strict=True):
            held[filled : filled + free] = part[:free]
        filled += free
        slots = torch.randperm(buffer, generator=generator)[: len(parts[0]) - free]
        yield Swap(store, slots, tuple(part[free:] for part in parts))


def batches(drawn: Iterable[Swap], size: int, *, skip: int = 0) -> Iterator[Chunk]:
    """Yields batches of ``size`` events after skipping ``skip`` events; a smaller last batch is dropped."""
    used, room = 0, skip or size
    batch: Chunk = ()
    for held, slots, parts in drawn:
        start = 0
        while start < len(slots):
            if used == 0:
                batch = tuple(store.new_empty(room, *store.shape[1:]) for store in held)
            stop = min(start + PIECE, start + room - used, len(slots))
            _exchange(held, slots[start:stop], tuple(p[start:stop] for p in parts), batch, used)
            used, start = used + stop - start, stop
            if used == room:
                if not skip:
                    yield batch
                used, room, skip = 0, size, 0


def _exchange(held: Chunk, slots: Tensor, parts: Chunk, batch: Chunk, used: int) -> None:
    rows = slots.to(held[0].device)
    for store, out in zip(held, batch, strict=True):
        torch.index_select(store, 0, rows, out=out[used : used + len(rows)])
    for store, part in zip(held if parts else (), parts, strict=True):
        store.index_copy_(0, rows, part)


def fast_forward(
    sizes: Sequence[int], buffer: int, generator: Generator, events: int
) -> BufferState:
    """Returns the content of the buffer after at most ``events`` have left it, without reading data.

    Args:
        sizes: Number of events of each chunk of the epoch.
        buffer: As for ``swaps``.
        generator: Generator at the start of the epoch; it is advanced to the returned state.
        events: Largest number of events that have left the buffer.
    """
    store = (torch.empty(buffer, dtype=torch.long),)
    filled = left = first = 0
    for number, size in enumerate(sizes):
        leaving = max(0, filled + size - buffer)
        if not events or left + leaving > events:
            return BufferState(store[0][:filled], number, left)
        chunk = (torch.arange(first, first + size),)
        for swap in _read_chunk(store, filled, chunk, generator):
            store[0][swap.slots] = swap.parts[0]
        filled, left, first = min(buffer, filled + size), left + leaving, first + size
    return BufferState(store[0][:filled], len(sizes), left)


def prefetch(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yields ``chunks``, which a thread reads one ahead; its errors are raised here."""
    ready: queue.Queue[Chunk | BaseException | None] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: Chunk | BaseException | None) -> bool:
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
        except BaseException as error:  # noqa: BLE001  # handed to the reader, whatever it is
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

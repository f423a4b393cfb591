"""Shuffled batches of what does not fit in memory: chunks through a shuffle buffer, read ahead by a thread."""

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from hepgan.data.chunks import OpenTree, Wanted, chunk_at, opened_tree, spans_of
from hepgan.data.files import Files, Source, sources
from hepgan.data.schema import Schema
from hepgan.data.splits import split, splitmix64
from hepgan.errors import CheckpointError, DataError

OPEN_FILES = 32
PIECE = 1024  # events

Encode = Callable[[ak.Array], tuple[Tensor, Tensor]]
"""Events to ``(x[E, F], c[E, C])``."""


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The generator of one epoch's order, on the CPU."""
    mixed = splitmix64(
        splitmix64(np.array([seed], dtype=np.int64).astype(np.uint64)) + np.uint64(epoch)
    )
    return torch.Generator().manual_seed(int(mixed[0] >> np.uint64(1)))


class _Span(NamedTuple):
    """Consecutive entries of one tree and how many of them are wanted."""

    source: Source
    start: int
    stop: int
    events: int


class StreamingLoader:
    """Batches of events that stay in their files.

    Each epoch visits the chunks (whole baskets or clusters of all files) in a new random order and sends them through a
    shuffle buffer: a chunk takes the places of randomly chosen events of the buffer, which leave it. An event thus
    stays for about ``buffer`` events on average, exponentially distributed. A thread reads and encodes ahead by one chunk;
    memory is the buffer and about four chunks.

    Iteration and state are those of ``UnsupervisedLoader``; continuing within an epoch reads again what the
    epoch has read, so that the state is three numbers.

    Args:
        files: As in ``root.read``.
        schema: What is read.
        encode: Events to ``(x[E, F], c[E, C])``, e.g. ``Encoding.encode``.
        batch_size: ``B``.
        seed: Seed of the order.
        tree: As in ``root.read``.
        step: The size of a chunk, as in ``root.iterate``.
        buffer: Events in the buffer; where a chunk is larger it passes in parts.
        part: The split that is wanted and the shares of all, as ``split`` takes them: ``("train", {"train": 0.8, …})``.
        split_seed: The seed of ``split``.
        rank: Which of ``world`` processes this is: they read disjoint chunks and give equally many batches.
        world: How many processes there are.

    Raises:
        DataError: as ``root.read``, or there is less than one batch for each process.
    """

    def __init__(
        self,
        files: Files,
        schema: Schema,
        encode: Encode,
        *,
        batch_size: int,
        seed: int,
        tree: str | None = None,
        step: int | str = "25 MB",
        buffer: int = 50_000,
        part: tuple[str, Mapping[str, float]] | None = None,
        split_seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= rank < world:
            raise DataError(f"rank {rank} is not one of 0 … {world - 1}")
        self.wanted, self.encode = Wanted(schema), encode
        self.batch_size, self.seed, self.buffer = batch_size, seed, buffer
        self.part, self.split_seed, self.rank, self.world = part, split_seed, rank, world
        self.epoch, self.batch = 0, 0
        seen: dict[str, Schema] = {}
        self.spans = [
            _Span(source, start, stop, int(self._kept(source.path, np.arange(start, stop)).sum()))
            for source in sources(files, tree=tree)
            for start, stop in spans_of(source, schema, step=step, seen=seen)
        ]
        if batch_size < 1 or len(self) == 0:
            raise DataError(
                f"batches of {batch_size} cannot be made of {sum(s.events for s in self.spans)} events in "
                f"{len(self.spans)} chunks for {world} process(es); choose smaller batches or steps"
            )

    def _kept(self, path: str, entries: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if self.part is None:
            return np.ones(len(entries), dtype=bool)
        name, shares = self.part
        return np.asarray(split(path, entries, shares, seed=self.split_seed) == name)

    def __len__(self) -> int:
        """Batches in the current epoch, the same on every rank."""
        return min(
            sum(span.events for span in self._spans_of(rank)) // self.batch_size
            for rank in range(self.world)
        )

    def _spans_of(self, rank: int) -> list[_Span]:
        # Dealt out by size, the largest first, so that ranks have about equally many events; the same every epoch.
        share: list[list[_Span]] = [[] for _ in range(self.world)]
        for span in sorted(self.spans, key=lambda span: -span.events):
            min(share, key=lambda spans: sum(one.events for one in spans)).append(span)
        return share[rank]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches that are left of this epoch."""
        generator = epoch_generator(self.seed, self.epoch)
        spans = self._spans_of(self.rank)
        order = [spans[i] for i in torch.randperm(len(spans), generator=generator).tolist()]
        batches = _batches(
            _shuffled(_ahead(self._read(order)), self.buffer, generator), self.batch_size
        )
        for batch in itertools.islice(batches, self.batch, len(self)):
            self.batch += 1
            yield batch
        self.epoch, self.batch = self.epoch + 1, 0

    def _read(self, order: Sequence[_Span]) -> Iterator[tuple[Tensor, Tensor]]:
        with contextlib.ExitStack() as files:
            open_trees: dict[Source, OpenTree] = {}
            for span in order:
                if len(open_trees) >= OPEN_FILES and span.source not in open_trees:
                    files.close()
                    open_trees.clear()
                if span.source not in open_trees:
                    tree = opened_tree(span.source, self.wanted, {})
                    open_trees[span.source] = files.enter_context(tree)
                chunk = chunk_at(open_trees[span.source], span.start, span.stop)
                keep = self._kept(chunk.file, chunk.entries)
                if keep.any():
                    yield self.encode(chunk.events if keep.all() else chunk.events[keep])

    def state_dict(self) -> dict[str, int]:
        """Where the loader is; it continues there after ``load_state_dict``."""
        events = sum(span.events for span in self.spans)
        return {"seed": self.seed, "epoch": self.epoch, "batch": self.batch, "events": events}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            CheckpointError: it comes from other files.
        """
        if state["events"] != self.state_dict()["events"]:
            raise CheckpointError(
                f"the loader was saved with {state['events']} events and its files now have "
                f"{self.state_dict()['events']}; give it the same files"
            )
        self.seed, self.epoch, self.batch = state["seed"], state["epoch"], state["batch"]


def _ahead(chunks: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """``chunks``, made by a thread that is one ahead; its errors are raised here."""
    ready: queue.Queue[tuple[Tensor, Tensor] | BaseException | None] = queue.Queue(maxsize=1)
    left = threading.Event()

    def put(item: tuple[Tensor, Tensor] | BaseException | None) -> bool:
        while not left.is_set():
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
        left.set()
        thread.join()


def _shuffled(
    chunks: Iterator[tuple[Tensor, Tensor]], buffer: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Events that chunks drive out of a buffer of ``buffer`` events, in random order, and at last those left in it."""
    held: tuple[Tensor, ...] = ()
    filled = 0
    for chunk in chunks:
        if not held:
            held = tuple(part.new_empty(buffer, *part.shape[1:]) for part in chunk)
        for parts in _parts(chunk, buffer):
            free = min(buffer - filled, len(parts[0]))
            for store, part in zip(held, parts, strict=True):
                store[filled : filled + free] = part[:free]
            filled += free
            slots = torch.randperm(buffer, generator=generator)[: len(parts[0]) - free]
            yield from _exchanged(held, tuple(part[free:] for part in parts), slots)
    yield from _exchanged(held, None, torch.randperm(filled, generator=generator))


def _exchanged(
    held: tuple[Tensor, ...], parts: tuple[Tensor, ...] | None, slots: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """The events in ``slots`` of the buffer; those of ``parts``, where there are any, take their places.

    In pieces: rows that have just been read are still in the cache when they are overwritten.
    """
    for start in range(0, len(slots), PIECE):
        places = slots[start : start + PIECE].to(held[0].device)
        out = tuple(store.index_select(0, places) for store in held)
        if parts is not None:
            for store, part in zip(held, parts, strict=True):
                store.index_copy_(0, places, part[start : start + PIECE])
        yield out[0], out[1]


def _parts(chunk: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    for start in range(0, len(chunk[0]), size):
        yield tuple(part[start : start + size] for part in chunk)


def _batches(pieces: Iterator[tuple[Tensor, Tensor]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of ``size`` events of the pieces; fewer at the end are left out."""
    rest: tuple[Tensor, Tensor] | None = None
    for x, c in pieces:
        used = 0
        if rest is not None:
            used = min(size - len(rest[0]), len(x))
            rest = torch.cat([rest[0], x[:used]]), torch.cat([rest[1], c[:used]])
            if len(rest[0]) < size:
                continue
            yield rest
        while used + size <= len(x):
            yield x[used : used + size], c[used : used + size]
            used += size
        rest = (x[used:], c[used:]) if used < len(x) else None

"""Shuffled batches of events that do not fit in memory: a shuffle buffer over chunks that a thread prefetches."""

import contextlib
import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.data.io.chunks import (
    OpenTree,
    chunk_ranges,
    entry_weights,
    open_tree,
    read_entries,
    selected_entries,
)
from hepgan.data.io.files import Files, Source, base_name, sources
from hepgan.data.io.reader import DEFAULTS, ReadOptions
from hepgan.data.io.splits import split
from hepgan.data.loaders.dataset import EpochDataset
from hepgan.data.loaders.shuffle import Chunk, batches, fast_forward, prefetch, swaps
from hepgan.data.schema import Schema
from hepgan.data.weights import WeightSums
from hepgan.errors import BadFileError, CheckpointError, DataError
from hepgan.random_streams import check_seed, torch_generator

OPEN_FILES = 32


class Encode(Protocol):
    """Function from events to ``(x[E, F], c[E, C])``; equal events of the same file and entries give equal tensors."""

    def __call__(
        self, events: ak.Array, /, *, file: str, entries: npt.NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Returns ``x`` and ``c``.

        Args:
            events: Events.
            file: Name of their file and tree, which keys the noise.
            entries: ``[E]`` their entries in the tree.
        """
        ...


class _Span(NamedTuple):
    """Consecutive entries of one tree, the number of rows encoded from them, and a unique name of the tree."""

    source: Source
    name: str
    start: int
    stop: int
    rows: int


class StreamingLoader(EpochDataset):
    """Shuffled batches of events that are read from files.

    Each epoch reads the chunks (whole baskets or clusters of all files) in a new random order through a shuffle buffer:
    the events of a chunk replace randomly chosen events of the buffer, which form the batches. The time that an event
    spends in the buffer is exponentially distributed with a mean of about ``buffer`` events. A thread reads and encodes
    one chunk ahead; memory use is the buffer and about four chunks.

    Iteration and state are as in ``UnsupervisedLoader``. The state is four numbers: to resume within an epoch, the content of the
    buffer is recomputed, and only the chunks of those events are read.

    Attributes:
        skipped: Reason for each skipped file by path, with ``on_bad_file="skip"``.
        weights: Sums of the weights of all events.
        rows: Number of rows in an epoch of all processes: of events, times ``copies``.

    Args:
        files: As in ``hepgan.read``.
        schema: Fields and conditions to read.
        encode: Encodes events, such as ``functools.partial(encoding.encode, seed=1)``.
        batch_size: ``B``.
        seed: Seed of the order.
        step_size: Size of a chunk, as in ``hepgan.data.io.reader.iterate``.
        buffer: Size of the shuffle buffer in events; larger chunks are read in parts.
        part: Name of the split and the fractions of all splits, as in ``split``: ``("train", {"train": 0.8, …})``.
        split_seed: Seed of ``split``.
        options: Reading options. The branches of a cut and a weight are read once at the start, to count the events; with weights that differ, batches
            are ``(x, c, w[B])``, and the mean weight of all events is 1.
        copies: Number of rows that ``encode`` returns for each event, such as an event and its mirror image: all events, then all
            first copies, and so on.
        rank: Rank of this process; the ranks read disjoint chunks and yield the same number of batches.
        world_size: Number of processes.

    Raises:
        DataError: as in ``hepgan.read``, the sum of the weights is not positive, or there is less than one batch for each process. While iterating: a file has changed
            since the loader was made.
    """

    def __init__(
        self,
        files: Files,
        schema: Schema,
        encode: Encode,
        *,
        batch_size: int,
        seed: int,
        step_size: int | str = "25 MB",
        buffer: int = 50_000,
        part: tuple[str, Mapping[str, float]] | None = None,
        split_seed: int = 0,
        options: ReadOptions = DEFAULTS,
        copies: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise DataError(f"rank {rank} is not one of 0 … {world_size - 1}")
        if buffer < 1:
            raise DataError(f"the shuffle buffer has {buffer} events; it needs at least 1")
        self.request, self.encode = options.request(schema), encode
        self.batch_size, self.seed, self.buffer = batch_size, check_seed(seed), buffer
        self.part, self.split_seed, self.rank, self.world_size = part, split_seed, rank, world_size
        self.copies = copies
        self.weights = WeightSums()
        self.skipped: dict[str, str] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self.spans = self._all_spans(sources(files, tree=options.tree), step_size, options)
        self.rows = sum(span.rows for span in self.spans)
        self.weights.check()
        self._check_batches()

    def _check_batches(self) -> None:
        if self.batch_size < 1 or len(self) == 0:
            skipped = f", files skipped: {len(self.skipped)}" if self.skipped else ""
            raise DataError(
                f"batches of {self.batch_size} cannot be made of {self.rows} events in {len(self.spans)} chunks "
                f"for {self.world_size} process(es){skipped}; choose smaller batches or a smaller step_size"
            )

    def _all_spans(
        self, trees: Sequence[Source], step_size: int | str, options: ReadOptions
    ) -> list[_Span]:
        resolved: dict[str, Schema] = {}
        spans: list[_Span] = []
        remaining = options.entry_stop
        for source, name in zip(trees, _names_of(trees), strict=True):
            if remaining == 0:
                break
            try:
                with open_tree(source, self.request, resolved) as tree:
                    self._stamps[source.path] = tree.stamp
                    for start, stop in chunk_ranges(tree, step_size, remaining):
                        entries = self._selected(tree, start, stop)
                        rows = self.copies * len(entries)
                        if self.request.weighted:
                            weights = WeightSums.of(entry_weights(tree, entries))
                            self.weights = self.weights.merge(weights)
                        spans.append(_Span(source, name, start, stop, rows))
                        if remaining is not None:
                            remaining -= stop - start
            except BadFileError as error:
                if options.on_bad_file == "raise":
                    raise
                self.skipped[source.path] = str(error)
                warnings.warn(f"file left out: {error}", stacklevel=4)
        return spans

    def _selected(self, tree: OpenTree, start: int, stop: int) -> np.ndarray[Any, Any]:
        entries = selected_entries(tree, start, stop)
        return np.asarray(entries[self._in_part(tree.path, entries)])

    def _in_part(self, path: str, entries: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if self.part is None:
            return np.ones(len(entries), dtype=bool)
        name, fractions = self.part
        return np.asarray(split(path, entries, fractions, seed=self.split_seed) == name)

    @property
    def files(self) -> dict[str, int]:
        """Number of selected events by path."""
        events: Counter[str] = Counter()
        for span in self.spans:
            events[span.source.path] += span.rows // self.copies
        return dict(events)

    def __len__(self) -> int:
        """Number of batches in an epoch, the same on every rank."""
        return min(
            sum(span.rows for span in self._spans_of(rank)) // self.batch_size
            for rank in range(self.world_size)
        )

    def _spans_of(self, rank: int) -> list[_Span]:
        # Assigned by size, the largest first, so that ranks have similar numbers of events; the same in every epoch.
        assigned: list[list[_Span]] = [[] for _ in range(self.world_size)]
        rows = [0] * self.world_size
        for span in sorted(self.spans, key=lambda span: -span.rows):
            if span.rows:
                smallest = rows.index(min(rows))
                assigned[smallest].append(span)
                rows[smallest] += span.rows
        return assigned[rank]

    def __iter__(self) -> Iterator[Chunk]:
        """Yields the batches of an epoch."""
        self._start_epoch()
        generator = torch_generator(self.seed, "order", self.epoch)
        spans = self._spans_of(self.rank)
        order = [spans[i] for i in torch.randperm(len(spans), generator=generator).tolist()]
        position = self.batch * self.batch_size
        sizes = [span.rows for span in order]
        state = fast_forward(sizes, self.buffer, generator, position)
        chunks = prefetch(self._read(order[state.chunks :]))
        initial = self._read_again(order, state.events)
        swapped = swaps(chunks, self.buffer, generator, initial=initial)
        remaining = batches(swapped, self.batch_size, skip=position - state.yielded)
        for batch in itertools.islice(remaining, len(self) - self.batch):
            self.batch += 1
            yield batch
        self._end_epoch()

    def _read_again(self, order: Sequence[_Span], events: Tensor) -> Chunk:
        """Reads the ``events`` of the buffer again from their chunks."""
        buffer: Chunk = ()
        first = 0
        for span in order:
            slots = ((events >= first) & (events < first + span.rows)).nonzero()[:, 0]
            if len(slots):
                chunk = next(self._read([span]))
                buffer = buffer or tuple(
                    part.new_empty(len(events), *part.shape[1:]) for part in chunk
                )
                for target, part in zip(buffer, chunk, strict=True):
                    target[slots.to(target.device)] = part[(events[slots] - first).to(part.device)]
            first += span.rows
        return buffer

    def _read(self, order: Sequence[_Span]) -> Iterator[Chunk]:
        with contextlib.ExitStack() as files:
            open_trees: dict[Source, OpenTree] = {}
            for span in order:
                if len(open_trees) >= OPEN_FILES and span.source not in open_trees:
                    files.close()
                    open_trees.clear()
                if span.source not in open_trees:
                    tree = files.enter_context(open_tree(span.source, self.request, {}))
                    if tree.stamp != self._stamps[span.source.path]:
                        raise DataError(
                            f"'{span.source.path}' has changed since it was first read; do not write to files that are read again in"
                            " every epoch, and start again"
                        )
                    open_trees[span.source] = tree
                chunk = read_entries(open_trees[span.source], span.start, span.stop)
                keep = self._in_part(chunk.file, chunk.entries)
                events = chunk.events if keep.all() else chunk.events[keep]
                yield self._encoded(events, span.name, chunk.entries[keep])

    def _encoded(self, events: ak.Array, file: str, entries: npt.NDArray[np.int64]) -> Chunk:
        x, c = self.encode(events, file=file, entries=entries)
        if not self.request.weighted or self.weights.equal:
            return x, c
        weights = self.weights.normalized(ak.to_numpy(events["weight"]))
        repeated = np.tile(weights.astype(np.float32), self.copies)
        return x, c, torch.from_numpy(repeated).to(x.device)

    def state_dict(self) -> dict[str, int]:
        """Returns the position in the epoch, for ``load_state_dict``."""
        return {"seed": self.seed, "epoch": self.epoch, "batch": self.batch, "events": self.rows}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resumes at a position from ``state_dict``.

        Raises:
            CheckpointError: the state belongs to other files.
        """
        if state["events"] != self.rows:
            raise CheckpointError(
                f"the loader was saved with {state['events']} events and its files now have {self.rows}; "
                "use the same files"
            )
        self._resume(state)


def _names_of(trees: Sequence[Source]) -> list[str]:
    """Returns a name for each tree, independent of its folder; a repeated tree gets another name."""
    repeats: Counter[tuple[str, str | None]] = Counter()
    names = []
    for source in trees:
        key = base_name(source.path), source.tree
        names.append(f"{key}, {repeats[key]}")
        repeats[key] += 1
    return names

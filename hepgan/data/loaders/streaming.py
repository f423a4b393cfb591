"""Shuffled batches of what does not fit in memory: chunks through a shuffle buffer, read ahead by a thread."""

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

from hepgan.data.io.chunks import OpenTree, chunk_ranges, open_tree, read_entries, selected_entries
from hepgan.data.io.files import Files, Source, base_name, sources
from hepgan.data.io.reader import DEFAULTS, ReadOptions
from hepgan.data.io.splits import split
from hepgan.data.loaders.shuffle import Chunk, after, ahead, batches, draws
from hepgan.data.schema import Schema
from hepgan.errors import BadFileError, CheckpointError, DataError
from hepgan.random_streams import check_seed, torch_generator

OPEN_FILES = 32


class Encode(Protocol):
    """Events to ``(x[E, F], c[E, C])``; the same events of the same file and entries give the same tensors."""

    def __call__(
        self, events: ak.Array, /, *, file: str, entries: npt.NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Returns ``x`` and ``c``.

        Args:
            events: The events.
            file: Names their file and tree, for noise that no other file gets.
            entries: ``[E]`` their entries there.
        """
        ...


class _Span(NamedTuple):
    """Consecutive entries of one tree and how many of them are wanted; ``name`` is that of the tree among all."""

    source: Source
    name: str
    start: int
    stop: int
    events: int


class StreamingLoader:
    """Batches of events that stay in their files.

    Each epoch visits the chunks (whole baskets or clusters of all files) in a new random order and sends them through a
    shuffle buffer: a chunk takes the places of randomly chosen events of the buffer, which leave it. An event thus
    stays for about ``buffer`` events on average, exponentially distributed. A thread reads and encodes ahead by one chunk;
    memory is the buffer and about four chunks.

    Iteration and state are those of ``UnsupervisedLoader``, and the state is four numbers: continuing within an epoch works out
    which events the buffer held, and reads only the chunks that they come from.

    Attributes:
        skipped: Path -> why the file was left out, with ``on_bad_file="skip"``.

    Args:
        files: As in ``root.read``.
        schema: What is read.
        encode: Events, their file and entries to ``(x[E, F], c[E, C])``, e.g. ``functools.partial(encoding.encode, seed=1)``.
        batch_size: ``B``.
        seed: Seed of the order.
        step_size: Size of a chunk, as in ``hepgan.data.io.reader.iterate``.
        buffer: Events in the buffer; where a chunk is larger it passes in parts.
        part: The split that is wanted and the shares of all, as ``split`` takes them: ``("train", {"train": 0.8, …})``.
        split_seed: The seed of ``split``.
        options: Reading options. The branches of a cut are read once at the start, to know the number of events; with a weight, batches
            are ``(x, c, w[B])``.
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
        step_size: int | str = "25 MB",
        buffer: int = 50_000,
        part: tuple[str, Mapping[str, float]] | None = None,
        split_seed: int = 0,
        options: ReadOptions = DEFAULTS,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= rank < world:
            raise DataError(f"rank {rank} is not one of 0 … {world - 1}")
        if buffer < 1:
            raise DataError(f"a shuffle buffer of {buffer} events is none; give 1 or more")
        self.request, self.encode = options.request(schema), encode
        self.batch_size, self.seed, self.buffer = batch_size, check_seed(seed), buffer
        self.part, self.split_seed, self.rank, self.world = part, split_seed, rank, world
        self.epoch, self.batch = 0, 0
        self.skipped: dict[str, str] = {}
        self.spans = self._all_spans(sources(files, tree=options.tree), step_size, options)
        self.events = sum(span.events for span in self.spans)
        if batch_size < 1 or len(self) == 0:
            left_out = f", {len(self.skipped)} files are left out" if self.skipped else ""
            raise DataError(
                f"batches of {batch_size} cannot be made of {self.events} events in {len(self.spans)} chunks "
                f"for {world} process(es){left_out}; choose smaller batches or steps"
            )

    def _all_spans(
        self, trees: Sequence[Source], step_size: int | str, options: ReadOptions
    ) -> list[_Span]:
        resolved: dict[str, Schema] = {}
        found: list[_Span] = []
        left = options.entry_stop
        for source, name in zip(trees, _names_of(trees), strict=True):
            if left == 0:
                break
            try:
                with open_tree(source, self.request, resolved) as tree:
                    for start, stop in chunk_ranges(tree, step_size, left):
                        events = len(self._kept(tree, start, stop))
                        found.append(_Span(source, name, start, stop, events))
                        left = None if left is None else left - (stop - start)
            except BadFileError as error:
                if options.on_bad_file == "raise":
                    raise
                self.skipped[source.path] = str(error)
                warnings.warn(f"file left out: {error}", stacklevel=4)
        return found

    def _kept(self, tree: OpenTree, start: int, stop: int) -> np.ndarray[Any, Any]:
        entries = selected_entries(tree, start, stop)
        return np.asarray(entries[self._in_part(tree.path, entries)])

    def _in_part(self, path: str, entries: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if self.part is None:
            return np.ones(len(entries), dtype=bool)
        name, shares = self.part
        return np.asarray(split(path, entries, shares, seed=self.split_seed) == name)

    @property
    def files(self) -> dict[str, int]:
        """Path -> number of events that are wanted of it."""
        found: dict[str, int] = {}
        for span in self.spans:
            found[span.source.path] = found.get(span.source.path, 0) + span.events
        return found

    def __len__(self) -> int:
        """Batches in the current epoch, the same on every rank."""
        return min(
            sum(span.events for span in self._spans_of(rank)) // self.batch_size
            for rank in range(self.world)
        )

    def _spans_of(self, rank: int) -> list[_Span]:
        # Dealt out by size, the largest first, so that ranks have about equally many events; the same every epoch.
        share: list[list[_Span]] = [[] for _ in range(self.world)]
        left = [0] * self.world
        for span in sorted(self.spans, key=lambda span: -span.events):
            if span.events:
                least = left.index(min(left))
                share[least].append(span)
                left[least] += span.events
        return share[rank]

    def __iter__(self) -> Iterator[Chunk]:
        """The batches that are left of this epoch."""
        generator = torch_generator(self.seed, "order", self.epoch)
        spans = self._spans_of(self.rank)
        order = [spans[i] for i in torch.randperm(len(spans), generator=generator).tolist()]
        given = self.batch * self.batch_size
        held = after([span.events for span in order], self.buffer, generator, given)
        chunks = ahead(self._read(order[held.chunks :]))
        drawn = draws(chunks, self.buffer, generator, held=self._again(order, held.events))
        found = batches(drawn, self.batch_size, skip=given - held.left)
        for batch in itertools.islice(found, len(self) - self.batch):
            self.batch += 1
            yield batch
        self.epoch, self.batch = self.epoch + 1, 0

    def _again(self, order: Sequence[_Span], events: Tensor) -> Chunk:
        """The ``events`` that the buffer held, read from their chunks again."""
        held: Chunk = ()
        first = 0
        for span in order:
            mine = ((events >= first) & (events < first + span.events)).nonzero()[:, 0]
            if len(mine):
                chunk = next(self._read([span]))
                held = held or tuple(part.new_empty(len(events), *part.shape[1:]) for part in chunk)
                for store, part in zip(held, chunk, strict=True):
                    store[mine.to(store.device)] = part[(events[mine] - first).to(part.device)]
            first += span.events
        return held

    def _read(self, order: Sequence[_Span]) -> Iterator[Chunk]:
        with contextlib.ExitStack() as files:
            open_trees: dict[Source, OpenTree] = {}
            for span in order:
                if len(open_trees) >= OPEN_FILES and span.source not in open_trees:
                    files.close()
                    open_trees.clear()
                if span.source not in open_trees:
                    tree = open_tree(span.source, self.request, {})
                    open_trees[span.source] = files.enter_context(tree)
                chunk = read_entries(open_trees[span.source], span.start, span.stop)
                keep = self._in_part(chunk.file, chunk.entries)
                events = chunk.events if keep.all() else chunk.events[keep]
                yield self._encoded(events, span.name, chunk.entries[keep])

    def _encoded(self, events: ak.Array, file: str, entries: npt.NDArray[np.int64]) -> Chunk:
        x, c = self.encode(events, file=file, entries=entries)
        if self.request.weight is None:
            return x, c
        return x, c, torch.from_numpy(ak.to_numpy(events["weight"]).astype(np.float32)).to(x.device)

    def state_dict(self) -> dict[str, int]:
        """Where the loader is; it continues there after ``load_state_dict``."""
        return {"seed": self.seed, "epoch": self.epoch, "batch": self.batch, "events": self.events}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            CheckpointError: it comes from other files.
        """
        if state["events"] != self.events:
            raise CheckpointError(
                f"the loader was saved with {state['events']} events and its files now have {self.events}; "
                "give it the same files"
            )
        self.seed, self.epoch, self.batch = state["seed"], state["epoch"], state["batch"]


def _names_of(trees: Sequence[Source]) -> list[str]:
    """Returns a name for each tree, the same wherever the files are; a tree that is given again has another one."""
    seen: Counter[tuple[str, str | None]] = Counter()
    names = []
    for source in trees:
        key = base_name(source.path), source.tree
        names.append(f"{key}, {seen[key]}")
        seen[key] += 1
    return names

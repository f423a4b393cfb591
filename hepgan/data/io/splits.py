"""Splits of events into training, validation and test, as a pure function of file and entry: an event never changes its split."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.io.files import Files, base_name
from hepgan.data.io.reader import DEFAULTS, ReadOptions, iterate, num_entries
from hepgan.data.schema import Schema
from hepgan.errors import DataError
from hepgan.progress import ProgressCallback, no_progress

Array = np.ndarray[Any, Any]
U64 = np.uint64


def splitmix64(counters: Array) -> Array:
    """Returns 64 well mixed bits for each of ``counters``, ``uint64[E]`` (Steele, Lea, Flood, OOPSLA 2014).

    >>> f"{splitmix64(np.array([0], dtype=np.uint64))[0]:x}"
    'e220a8397b1dcdaf'
    """
    z = counters + U64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> U64(31)))


def event_bits(file: str, entries: Array, *, seed: int = 0) -> Array:
    """Returns uniform and independent bits ``uint64[E]``, a function of (base name of the file, entry, seed) alone."""
    digest = hashlib.blake2b(f"{seed}\0{base_name(file)}".encode(), digest_size=8).digest()
    key = U64(int.from_bytes(digest, "little"))
    # Mixed twice, because streams of different keys must not be shifted copies of each other.
    return splitmix64(splitmix64(np.asarray(entries).astype(U64)) ^ key)


def split(file: str, entries: Array, fractions: Mapping[str, float], *, seed: int = 0) -> Array:
    """Returns the name of the split of each event, ``str[E]``.

    Args:
        file: File of the events; only its base name counts, so that files may move.
        entries: ``int[E]``, entries of the events in the tree.
        fractions: Fraction of the events by name of the split; they add up to 1. The number of events in a split is binomial.
        seed: Different seeds give independent splits.

    Raises:
        DataError: the fractions do not add up to 1, or one is negative.

    >>> split("a.root", np.arange(4), {"train": 0.5, "test": 0.5}).tolist()
    ['train', 'train', 'test', 'train']
    """
    values = np.array(list(fractions.values()), dtype=np.float64)
    if not values.size or (values < 0).any() or abs(values.sum() - 1) > 1e-6:
        text = ", ".join(f"{name} = {fraction:g}" for name, fraction in fractions.items())
        raise DataError(
            f"the fractions of the splits must be at least 0 and add up to 1, but are {text}"
        )
    uniform = (event_bits(file, entries, seed=seed) >> U64(11)) * 2.0**-53
    names = np.array(list(fractions))
    return names[np.searchsorted(np.cumsum(values)[:-1], uniform, side="right")]


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """Bootstrap sample of the events of one split, by weights; a ``reweight`` of ``ReadOptions``.

    The weights are exponentially distributed with mean 1 (Bayesian bootstrap; Rubin, Ann. Statist. 9, 1981), a function of (file, entry,
    seed) alone, so that a stream has those of events in memory. Unlike drawing with replacement, no event appears twice, which an
    encoding would take for a value that events share, and which could be on both sides of a held-out fraction. Events of other splits
    have weight 1.

    Attributes:
        name: Name of the split.
        fractions: As in ``split``.
        seed: Seed of the weights.
    """

    name: str
    fractions: Mapping[str, float]
    seed: int

    def __call__(self, file: str, entries: Array) -> Array:
        """Returns the weights ``float64[E]``."""
        bits = event_bits(f"bootstrap {base_name(file)}", entries, seed=self.seed)
        uniform = ((bits >> U64(11)) + 0.5) * 2.0**-53
        weights = -np.log(uniform)
        return np.where(split(file, entries, self.fractions) == self.name, weights, 1.0)


def split_chunks(
    files: Files,
    schema: Schema,
    fractions: Mapping[str, float],
    name: str,
    *,
    seed: int = 0,
    step_size: int | str = "50 MB",
    options: ReadOptions = DEFAULTS,
) -> Iterator[ak.Array]:
    """Yields the events of one split in chunks, e.g. for ``Encoding.fit_stream``.

    Args:
        files: As in ``read``.
        schema: Fields and conditions to read.
        fractions: As in ``split``.
        name: Name of the split.
        seed: Seed of the split.
        step_size: As in ``iterate``.
        options: Reading options.

    Raises:
        DataError: as ``split`` and ``iterate``, or there is no split ``name``.
    """
    if name not in fractions:
        raise DataError(f"there is no split '{name}'; there are: {', '.join(fractions)}")
    for chunk in iterate(files, schema, step_size=step_size, options=options):
        yield chunk.events[split(chunk.file, chunk.entries, fractions, seed=seed) == name]


class SplitSample(NamedTuple):
    """Random sample of the events of a split.

    Attributes:
        events: The sample, in the order of the files.
        available: Number of events of the split, from which it was drawn.
    """

    events: ak.Array
    available: int


def sample_splits(
    files: Files,
    schema: Schema,
    fractions: Mapping[str, float],
    sizes: Mapping[str, int],
    *,
    seed: int = 0,
    step_size: int | str = "25 MB",
    options: ReadOptions = DEFAULTS,
    progress: ProgressCallback = no_progress,
) -> dict[str, SplitSample]:
    """Returns uniform random samples of the events of each split, in one pass over files of any size.

    An event's chance does not depend on the chunks or the other events: those with the smallest random bits are kept.

    Args:
        files: As in ``read``.
        schema: Fields and conditions to read.
        fractions: As in ``split``.
        sizes: Largest number of events by name of the split.
        seed: Seed of the split.
        step_size: As in ``iterate``.
        options: Reading options.
        progress: Progress callback.

    Raises:
        DataError: as ``split`` and ``iterate``, or a split has no event.
    """
    samples = {name: _Reservoir(size) for name, size in sizes.items()}
    entries, first = num_entries(files, tree=options.tree), 0
    total = sum(entries.values())
    for chunk in iterate(files, schema, step_size=step_size, options=options):
        names = split(chunk.file, chunk.entries, fractions, seed=seed)
        bits = event_bits(f"sample {base_name(chunk.file)}", chunk.entries, seed=seed)
        for name, sample in samples.items():
            inside = names == name
            sample.add(chunk.events[inside], bits[inside])
        if len(chunk.entries):
            first += int(chunk.entries[-1]) + 1 - chunk.start
        progress("sampling events", min(first / max(total, 1), 1.0), "")
    for name, sample in samples.items():
        if fractions[name] > 0 and not sample.available:
            raise _empty_split(name)
    return {name: SplitSample(s.events(), s.available) for name, s in samples.items()}


class _Reservoir:
    """The ``size`` events with the smallest keys among those added, in their order."""

    def __init__(self, size: int) -> None:
        self.size, self.available = size, 0
        self._parts: list[ak.Array] = []
        self._keys = np.empty(0, U64)

    def add(self, events: ak.Array, keys: Array) -> None:
        self.available += len(events)
        if len(self._keys) >= self.size:
            kept = keys <= self._keys.max()
            events, keys = events[kept], keys[kept]
        self._parts.append(ak.to_packed(events))  # a selection would keep the whole chunk
        self._keys = np.concatenate([self._keys, keys])
        # A quarter more, because twice as many events are in memory for a moment.
        if len(self._keys) > 1.25 * self.size:
            self._reduce()

    def events(self) -> ak.Array:
        self._reduce()
        return self._parts[0]

    def _reduce(self) -> None:
        events = ak.concatenate(self._parts)
        if len(events) > self.size:
            kept = np.sort(np.argsort(self._keys, kind="stable")[: self.size])
            events, self._keys = events[kept], self._keys[kept]
        self._parts = [events]


def _empty_split(name: str) -> DataError:
    return DataError(
        f"the split '{name}' has no event; give it a larger fraction or provide more events"
    )


def read_splits(
    files: Files,
    schema: Schema,
    fractions: Mapping[str, float],
    *,
    seed: int = 0,
    options: ReadOptions = DEFAULTS,
) -> dict[str, ak.Array]:
    """Returns the events of each split, in the order of the files.

    The ``attrs`` of the arrays hold ``files``, the number of events of all splits by path, and ``skipped``, the reason for each
    skipped file by path.

    Args:
        files: As in ``read``.
        schema: Fields and conditions to read.
        fractions: As in ``split``.
        seed: Seed of the split.
        options: Reading options.

    Raises:
        DataError: as ``split`` and ``iterate``, or a split has no event.
    """
    parts: dict[str, list[ak.Array]] = {name: [] for name in fractions}
    events_of: dict[str, int] = {}
    skipped: dict[str, str] = {}
    for chunk in iterate(files, schema, step_size="200 MB", options=options, skipped=skipped):
        events_of[chunk.file] = events_of.get(chunk.file, 0) + len(chunk.events)
        names = split(chunk.file, chunk.entries, fractions, seed=seed)
        for name, arrays in parts.items():
            arrays.append(chunk.events[names == name])
    for name, arrays in parts.items():
        if fractions[name] > 0 and sum(map(len, arrays)) == 0:
            raise _empty_split(name)
    splits = {name: ak.concatenate(arrays) for name, arrays in parts.items() if arrays}
    for events in splits.values():
        events.attrs["files"], events.attrs["skipped"] = events_of, skipped
    return splits

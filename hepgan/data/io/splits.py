"""Which split an event belongs to: a pure function of the event, so that it never moves between training and test."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import awkward as ak
import numpy as np

from hepgan.data.io.files import Files, base_name
from hepgan.data.io.reader import OnBadFile, iterate
from hepgan.data.schema import Schema
from hepgan.errors import DataError

Array = np.ndarray[Any, Any]
U64 = np.uint64


def splitmix64(counters: Array) -> Array:
    """64 well mixed bits for each of ``counters``, ``uint64[E]`` (Steele, Lea, Flood, OOPSLA 2014).

    >>> f"{splitmix64(np.array([0], dtype=np.uint64))[0]:x}"
    'e220a8397b1dcdaf'
    """
    z = counters + U64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> U64(31)))


def event_bits(file: str, entries: Array, *, seed: int = 0) -> Array:
    """``uint64[E]``: uniform and independent bits, a function of (file's base name, entry, seed) alone."""
    digest = hashlib.blake2b(f"{seed}\0{base_name(file)}".encode(), digest_size=8).digest()
    key = U64(int.from_bytes(digest, "little"))
    # Mixed twice: streams of different keys must not be shifted copies of each other.
    return splitmix64(splitmix64(np.asarray(entries).astype(U64)) ^ key)


def split(file: str, entries: Array, shares: Mapping[str, float], *, seed: int = 0) -> Array:
    """The name of the split of each event, ``str[E]``.

    Args:
        file: The event's file; only its base name counts, so that files may move.
        entries: ``int[E]``, the events' entries in the file's tree.
        shares: Split -> share of the events; they add up to 1. The share is met on average: the number of events in a split
            is binomial.
        seed: Another seed is another split.

    Raises:
        DataError: the shares do not add up to 1, or one is negative.

    >>> split("a.root", np.arange(4), {"train": 0.5, "test": 0.5}).tolist()
    ['train', 'train', 'test', 'train']
    """
    values = np.array(list(shares.values()), dtype=np.float64)
    if not values.size or (values < 0).any() or abs(values.sum() - 1) > 1e-6:
        text = ", ".join(f"{name} = {share:g}" for name, share in shares.items())
        raise DataError(
            f"the shares of the splits should be at least 0 and add up to 1, but are {text}"
        )
    uniform = (event_bits(file, entries, seed=seed) >> U64(11)) * 2.0**-53
    return np.array(list(shares))[np.searchsorted(np.cumsum(values)[:-1], uniform, side="right")]


def split_chunks(
    files: Files,
    schema: Schema,
    shares: Mapping[str, float],
    name: str,
    *,
    seed: int = 0,
    tree: str | None = None,
    step: int | str = "50 MB",
    select: str | None = None,
    weight: str | None = None,
    on_bad_file: OnBadFile = "raise",
) -> Iterator[ak.Array]:
    """The events of one split, chunk by chunk, e.g. for ``Encoding.fit_stream``; arguments as for ``split`` and ``root.iterate``.

    Raises:
        DataError: as both, or there is no split ``name``.
    """
    if name not in shares:
        raise DataError(f"there is no split '{name}'; there are: {', '.join(shares)}")
    chunks = iterate(
        files, schema, tree=tree, step=step, select=select, weight=weight, on_bad_file=on_bad_file
    )
    for chunk in chunks:
        yield chunk.events[split(chunk.file, chunk.entries, shares, seed=seed) == name]


def read_splits(
    files: Files,
    schema: Schema,
    shares: Mapping[str, float],
    *,
    seed: int = 0,
    tree: str | None = None,
    select: str | None = None,
    weight: str | None = None,
    stop: int | None = None,
    on_bad_file: OnBadFile = "raise",
) -> dict[str, ak.Array]:
    """Split -> its events, in the order of the files; the other arguments are those of ``root.read`` and ``split``.

    The arrays' ``attrs`` hold ``files``, the number of events by path, and ``skipped``, the reason by path of what was left out.

    Raises:
        DataError: as both, or a split is left without an event.
    """
    parts: dict[str, list[ak.Array]] = {name: [] for name in shares}
    seen: dict[str, int] = {}
    skipped: dict[str, str] = {}
    chunks = iterate(
        files, schema, tree=tree, step="200 MB", select=select, weight=weight, stop=stop,
        on_bad_file=on_bad_file, skipped=skipped,
    )  # fmt: skip
    for chunk in chunks:
        seen[chunk.file] = seen.get(chunk.file, 0) + len(chunk.events)
        names = split(chunk.file, chunk.entries, shares, seed=seed)
        for name, several in parts.items():
            several.append(chunk.events[names == name])
    for name, several in parts.items():
        if shares[name] > 0 and sum(map(len, several)) == 0:
            raise DataError(
                f"no event falls into the split '{name}'; give it a larger share or more events"
            )
    found = {name: ak.concatenate(several) for name, several in parts.items() if several}
    for events in found.values():
        events.attrs["files"], events.attrs["skipped"] = seen, skipped
    return found

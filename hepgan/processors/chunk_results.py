"""Parts of a result that come back in any order, and are put into one that is always the same."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import awkward as ak

from hepgan.errors import DataError


class ChunkId(NamedTuple):
    """Where events come from; sorting by it is the order of results.

    Attributes:
        dataset: The fileset's name for it.
        file: The file's path, as the fileset gives it.
        tree: The tree.
        uuid: The file's own; two files of one name differ in it.
        start: The first entry.
    """

    dataset: str
    file: str
    tree: str
    uuid: str
    start: int

    @classmethod
    def of(cls, events: ak.Array) -> "ChunkId":
        """The place of the events that a coffea processor is given.

        Raises:
            DataError: they are not those of a whole chunk, so that nobody knows which entries they are.
        """
        found: Any = getattr(events, "metadata", None)
        if not isinstance(found, Mapping) or "entrystart" not in found:
            raise DataError(
                "these events do not say which entries of which file they are; give those that coffea's Runner "
                "hands to a processor"
            )
        if len(events) != found["entrystop"] - found["entrystart"]:
            raise DataError(
                f"{len(events)} events of the chunk of entries {found['entrystart']} to {found['entrystop']} of "
                f"'{found['filename']}' are left; simulate before you select events, so that each keeps its own showers"
            )
        return cls(
            found["dataset"], found["filename"], found["treename"], found["fileuuid"],
            int(found["entrystart"]),
        )  # fmt: skip


def sliced(events: ak.Array, start: int, stop: int) -> ak.Array:
    """The events from ``start`` to ``stop`` of a chunk, as a chunk of their own that knows its place."""
    about: dict[str, Any] = dict(events.metadata)
    first = about["entrystart"]
    about |= {"entrystart": first + start, "entrystop": first + stop}
    return ak.with_parameter(events[start:stop], "metadata", about)


@dataclasses.dataclass
class ChunkResults:
    """Events with their places. They add; ``joined`` puts them in order."""

    found: list[tuple[ChunkId, ak.Array]]

    def __add__(self, other: "ChunkResults") -> "ChunkResults":
        return ChunkResults(self.found + other.found)

    def __iadd__(self, other: "ChunkResults") -> Self:
        self.found += other.found
        return self

    def joined(self) -> ak.Array:
        """All events, by dataset, file and entry. Its ``attrs`` hold ``files``, the number of events by path.

        Raises:
            DataError: files hold different types.
        """
        ordered = sorted(self.found, key=lambda piece: piece[0])
        filled = [piece for piece in ordered if len(piece[1])]  # no events may be of any type
        (first, events), *others = filled or ordered
        for place, other in others:
            if other.type.content != events.type.content:
                raise DataError(
                    f"the events of '{place.file}' are {other.type.content}, those of '{first.file}' "
                    f"{events.type.content}; read files of one type at a time"
                )
        whole = ak.concatenate([piece for _, piece in filled or ordered])
        counts: dict[str, int] = {}
        for place, piece in ordered:
            counts[place.file] = counts.get(place.file, 0) + len(piece)
        whole.attrs["files"] = counts
        return whole


def merge_chunks(result: Any) -> Any:
    """``result`` with every ``Pieces`` in it joined: what ``postprocess`` returns."""
    if isinstance(result, ChunkResults):
        return result.joined()
    if type(result) is dict:
        return {key: merge_chunks(value) for key, value in result.items()}
    return result

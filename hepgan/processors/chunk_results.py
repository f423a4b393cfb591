"""Results of chunks, which arrive in any order and are merged in a fixed one."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import awkward as ak

from hepgan.errors import DataError


class ChunkId(NamedTuple):
    """Identity of a chunk: dataset, file, tree and first entry. Results are sorted by it.

    Attributes:
        dataset: Name of the dataset in the fileset.
        file: Path of the file, as in the fileset.
        tree: Name of the tree.
        uuid: UUID of the file, which distinguishes two files of the same name.
        start: First entry.
    """

    dataset: str
    file: str
    tree: str
    uuid: str
    start: int

    @classmethod
    def of(cls, events: ak.Array) -> "ChunkId":
        """Returns the identity of the chunk that coffea passes to a processor.

        Raises:
            DataError: the events are not a whole chunk, so their entries are not known.
        """
        metadata: Any = getattr(events, "metadata", None)
        if not isinstance(metadata, Mapping) or "entrystart" not in metadata:
            raise DataError(
                "these events do not carry their file and entries; pass the events that coffea's Runner "
                "passes to the processor"
            )
        if len(events) != metadata["entrystop"] - metadata["entrystart"]:
            raise DataError(
                f"only {len(events)} events of the chunk of entries {metadata['entrystart']} to {metadata['entrystop']} of "
                f"'{metadata['filename']}' remain; simulate before you select events, so that each keeps its own showers"
            )
        return cls(
            metadata["dataset"], metadata["filename"], metadata["treename"], metadata["fileuuid"],
            int(metadata["entrystart"]),
        )  # fmt: skip


def slice_chunk(events: ak.Array, start: int, stop: int) -> ak.Array:
    """Returns the events from ``start`` to ``stop`` of a chunk as a chunk with its own entry range."""
    metadata: dict[str, Any] = dict(events.metadata)
    first = metadata["entrystart"]
    metadata |= {"entrystart": first + start, "entrystop": first + stop}
    return ak.with_parameter(events[start:stop], "metadata", metadata)


@dataclasses.dataclass
class ChunkResults:
    """Events of several chunks. Instances add; ``concatenate`` sorts the chunks."""

    chunks: list[tuple[ChunkId, ak.Array]]

    def __add__(self, other: "ChunkResults") -> "ChunkResults":
        return ChunkResults(self.chunks + other.chunks)

    def __iadd__(self, other: "ChunkResults") -> Self:
        self.chunks += other.chunks
        return self

    def concatenate(self) -> ak.Array:
        """Returns all events, sorted by dataset, file and entry. Its ``attrs["files"]`` holds the number of events of each path.

        Raises:
            DataError: the files hold different types.
        """
        ordered = sorted(self.chunks, key=lambda chunk: chunk[0])
        filled = [
            chunk for chunk in ordered if len(chunk[1])
        ]  # the type of an empty chunk is arbitrary
        (first, events), *others = filled or ordered
        for chunk_id, other in others:
            if other.type.content != events.type.content:
                raise DataError(
                    f"the events of '{chunk_id.file}' are {other.type.content}, those of '{first.file}' "
                    f"{events.type.content}; read files of one type only"
                )
        whole = ak.concatenate([events for _, events in filled or ordered])
        counts: dict[str, int] = {}
        for chunk_id, events in ordered:
            counts[chunk_id.file] = counts.get(chunk_id.file, 0) + len(events)
        whole.attrs["files"] = counts
        return whole


def merge_chunks(result: Any) -> Any:
    """Returns ``result`` with every ``ChunkResults`` in it concatenated, as ``postprocess`` does."""
    if isinstance(result, ChunkResults):
        return result.concatenate()
    if type(result) is dict:
        return {key: merge_chunks(value) for key, value in result.items()}
    return result

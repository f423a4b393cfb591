"""``Collect``: the events of a fileset as columns, or as files on disk."""

from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
from coffea.processor import ProcessorABC

from hepgan.data.io.chunks import Chunk, ReadRequest, chunk_from_events
from hepgan.data.schema import Schema
from hepgan.processors.chunk_results import ChunkId, ChunkResults, merge_chunks
from hepgan.processors.outputs import WriteFiles


class Collect(ProcessorABC):  # type: ignore[misc]  # coffea has no types
    """Reads the events of a fileset as ``hepgan.read`` does, sorted by dataset, file and entry.

    The Runner needs ``schema=BaseSchema``, since coffea's collections have no branches.

    Args:
        schema: Fields and conditions to read.
        cut: Expression of branches; events for which it is false are dropped.
        weight: Expression of branches that becomes the field ``weight``.
        to: Writes the events to files, if they do not fit into memory; the result is then the number of events of each file.
        check: Whether NaN and infinite values raise an error.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        cut: str | None = None,
        weight: str | None = None,
        to: WriteFiles | None = None,
        check: bool = True,
    ) -> None:
        self.request = ReadRequest.parse(schema, cut=cut, weight=weight, check=check)
        self.to = to

    def process(self, events: ak.Array) -> ChunkResults | dict[str, int]:
        """Returns the events of the chunk.

        Raises:
            DataError: the schema does not fit the tree, or a value is NaN or infinite.
        """
        chunk_id = ChunkId.of(events)
        rows = read_chunk(events, self.request, chunk_id).events
        return (
            self.to.write(rows, self.to.schema, chunk_id)
            if self.to
            else ChunkResults([(chunk_id, rows)])
        )

    def postprocess(self, accumulator: Any) -> Any:
        """Returns the result with its chunks concatenated."""
        return merge_chunks(accumulator)


def collect(
    fileset: Mapping[str, Any],
    runner: Callable[[Mapping[str, Any], ProcessorABC], Any],
    schema: Schema,
    *,
    cut: str | None = None,
    weight: str | None = None,
    check: bool = True,
) -> ak.Array:
    """Returns all events of ``fileset``, sorted by dataset, file and entry, for ``Encoding.fit``, ``encode`` and ``UnsupervisedLoader``.

    Args:
        fileset: coffea's fileset.
        runner: coffea's ``Runner`` with ``schema=BaseSchema``, or the one that ``open_runner`` yields.
        schema: Fields and conditions to read.
        cut: As in ``Collect``.
        weight: As in ``Collect``.
        check: As in ``Collect``.
    """
    processor = Collect(schema, cut=cut, weight=weight, check=check)
    events: ak.Array = runner(fileset, processor)
    return events


def read_chunk(events: ak.Array, request: ReadRequest, chunk_id: ChunkId) -> Chunk:
    """Returns the requested fields of the events that coffea has opened."""
    return chunk_from_events(events, request, start=chunk_id.start, path=chunk_id.file)

"""``Collect``: the events of a fileset as columns, or as parts on disk."""

from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
from coffea.processor import ProcessorABC

from hepgan.data.io.chunks import Chunk, ReadRequest, chunk_of
from hepgan.data.io.reader import wanted_of
from hepgan.data.schema import Schema
from hepgan.processors.chunk_results import ChunkId, ChunkResults, merge_chunks
from hepgan.processors.outputs import WriteFiles


class Collect(ProcessorABC):  # type: ignore[misc]  # coffea has no types
    """The events of a fileset, as ``hepgan.read`` gives them, by dataset, file and entry.

    The Runner needs ``schema=BaseSchema``: collections have no branches.

    Args:
        schema: What is read.
        selection: An expression of branches; where it is false an event is left out.
        weight: An expression of branches that becomes the field ``weight``.
        to: Where events go that do not fit into memory; the result is then the number of events of each part.
        check: Whether a NaN or an infinite value is an error.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        selection: str | None = None,
        weight: str | None = None,
        to: WriteFiles | None = None,
        check: bool = True,
    ) -> None:
        self.wanted = wanted_of(schema, selection, weight, check=check)
        self.to = to

    def process(self, events: ak.Array) -> ChunkResults | dict[str, int]:
        """The chunk's events.

        Raises:
            DataError: the schema does not fit the tree, or a value is NaN or infinite.
        """
        place = ChunkId.of(events)
        found = chunk_in(events, self.wanted, place).events
        return (
            self.to.write(found, self.to.schema, place)
            if self.to
            else ChunkResults([(place, found)])
        )

    def postprocess(self, accumulator: Any) -> Any:
        """With the pieces put in order."""
        return merge_chunks(accumulator)


def collect(
    fileset: Mapping[str, Any],
    runner: Callable[[Mapping[str, Any], ProcessorABC], Any],
    schema: Schema,
    *,
    selection: str | None = None,
    weight: str | None = None,
    check: bool = True,
) -> ak.Array:
    """All events of ``fileset``, by dataset, file and entry, for ``Encoding.fit``, ``encode`` and an ``UnsupervisedLoader``.

    Args:
        fileset: coffea's.
        runner: coffea's ``Runner`` with ``schema=BaseSchema``, or what ``running`` gives.
        schema: What is read.
        selection: As in ``Collect``.
        weight: As in ``Collect``.
        check: As in ``Collect``.
    """
    processor = Collect(schema, selection=selection, weight=weight, check=check)
    found: ak.Array = runner(fileset, processor)
    return found


def chunk_in(events: ak.Array, what: ReadRequest, place: ChunkId) -> Chunk:
    """What is wanted of the events that coffea has read."""
    return chunk_of(events, what, start=place.start, path=place.file)

"""``Collect``: the events of a fileset as columns, or as parts on disk."""

from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
from coffea.processor import ProcessorABC

from hepgan.data.chunks import Chunk, Wanted, chunk_of
from hepgan.data.root import wanted_of
from hepgan.data.schema import Schema
from hepgan.processors.pieces import Pieces, Place, finished
from hepgan.processors.results import Parts


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
        to: Parts | None = None,
        check: bool = True,
    ) -> None:
        self.wanted = wanted_of(schema, selection, weight, check=check)
        self.to = to

    def process(self, events: ak.Array) -> Pieces | dict[str, int]:
        """The chunk's events.

        Raises:
            DataError: the schema does not fit the tree, or a value is NaN or infinite.
        """
        place = Place.of(events)
        found = chunk_in(events, self.wanted, place).events
        return self.to.write(found, self.to.schema, place) if self.to else Pieces([(place, found)])

    def postprocess(self, accumulator: Any) -> Any:
        """With the pieces put in order."""
        return finished(accumulator)


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


def chunk_in(events: ak.Array, what: Wanted, place: Place) -> Chunk:
    """What is wanted of the events that coffea has read."""
    return chunk_of(events, what, start=place.start, path=place.file)

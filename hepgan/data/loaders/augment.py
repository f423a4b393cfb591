"""Mirror images of events: what a detector's symmetry adds to the training events, for nothing."""

from collections.abc import Mapping

import awkward as ak
import numpy as np


def with_reflections(events: ak.Array, axes: Mapping[str, Mapping[str, int]]) -> ak.Array:
    """``events``, and behind them their mirror images: for each axis, all that there are so far, mirrored along it.

    Two axes thus make four events of each. Conditions, and fields that ``axes`` does not name, stay as they are.

    Args:
        events: E events.
        axes: For each axis, by its name, which of a field's own axes it is: ``{"y": {"layer_0": 0, "layer_1": 0}}``.
    """
    for places in axes.values():
        parts = {name: ak.to_numpy(events[name]) for name in events.fields}
        flipped = {name: np.flip(parts[name], 1 + place) for name, place in places.items()}
        both = {
            name: np.concatenate([part, flipped.get(name, part)]) for name, part in parts.items()
        }
        events = ak.zip({name: ak.from_numpy(part) for name, part in both.items()}, depth_limit=1)
    return events

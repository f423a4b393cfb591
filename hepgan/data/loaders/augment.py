"""Data augmentation by reflection, for detectors with mirror symmetry."""

from collections.abc import Mapping

import awkward as ak
import numpy as np


def reflect(events: ak.Array, axes: Mapping[str, Mapping[str, int]]) -> ak.Array:
    """Returns ``events`` followed by their reflections along each axis; two axes give four events for each one.

    Conditions and fields that ``axes`` does not name are copied unchanged.

    Args:
        events: E events.
        axes: For each named axis, its index in each field: ``{"y": {"layer_0": 0, "layer_1": 0}}``.
    """
    for indices in axes.values():
        columns = {name: ak.to_numpy(events[name]) for name in events.fields}
        reflected = {name: np.flip(columns[name], 1 + i) for name, i in indices.items()}
        both = {
            name: np.concatenate([values, reflected.get(name, values)])
            for name, values in columns.items()
        }
        events = ak.zip({n: ak.from_numpy(values) for n, values in both.items()}, depth_limit=1)
    return events

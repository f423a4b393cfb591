"""Observables of the shower's profile: the layer of its maximum and the radius that contains 90 % of its energy.

They are scored and drawn, but are not discriminator inputs: neither has a useful gradient.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hepgan.data.schema import Schema
from hepgan.evaluation.observables.base import Observable
from hepgan.evaluation.observables.geometry import Layer, LayerGeometry
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.observables.standard import layers_for, observables_for

CONTAINED = 0.9
"""Fraction of the energy within the containment radius: that of the Molière radius."""


def evaluated_observables(
    schema: Schema, geometry: Mapping[str, LayerGeometry] | None = None
) -> dict[str, Observable]:
    """Returns the observables of scores and reports: those of ``observables_for`` and of the shower's profile.

    Raises:
        RunError: the geometry does not fit its field.
    """
    return {**observables_for(schema, geometry), **profile_observables(schema, geometry)}


def profile_observables(
    schema: Schema, geometry: Mapping[str, LayerGeometry] | None = None
) -> dict[str, Observable]:
    """Returns ``shower_max`` for showers of three or more layers, and ``radius_90`` if all cells have a position in mm.

    Raises:
        RunError: the geometry does not fit its field.
    """
    layers, observables = layers_for(schema, geometry), []
    numbers = np.array([layer.number for layer in layers])
    if len(layers) > 2:
        observables.append(
            Observable(
                "shower_max",
                lambda e: _maximum(e, layers, numbers),
                "layer of the shower maximum",
                step=1.0,
            )
        )
    if layers and all(layer.length == "mm" for layer in layers) and _common_axes(layers):
        label = f"radius of {100 * CONTAINED:.0f} % of the energy"
        observables.append(
            Observable("radius_90", lambda e: containment_radius(e, layers), label, "mm")
        )
    return {o.name: o for o in observables if o.name not in schema.all}


def _maximum(
    events: Mapping[str, Array], layers: Sequence[Layer], numbers: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Returns the number of the layer with the largest energy; NaN without energy."""
    energies = np.stack([np.asarray(layer.cells(events)).sum(axis=1) for layer in layers], axis=1)
    return np.where(energies.max(axis=1) > 0, numbers[energies.argmax(axis=1)], np.nan)


def _common_axes(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Returns ``("r",)``, x and y, or the two axes of the cells' positions in every layer; none if the layers have no axes in common."""
    common = set.intersection(*(set(layer.positions) for layer in layers))
    if "r" in common:
        return ("r",)
    if common >= {"x", "y"}:
        return ("x", "y")
    return tuple(sorted(common)) if len(common) == 2 else ()


def containment_radius(
    events: Mapping[str, Array], layers: Sequence[Layer], *, fraction: float = CONTAINED
) -> npt.NDArray[np.float64]:
    """Returns the radius of the cylinder that contains ``fraction`` of each event's energy, ``[E]``; NaN without energy.

    The axis is r = 0 for cells in r, and otherwise the center of energy of the event. Cells count with the distance of their
    centers, between which the contained energy is interpolated.
    """
    cells = np.concatenate([np.asarray(layer.cells(events), float) for layer in layers], axis=1)
    cells = np.clip(cells, 0, None)
    total = cells.sum(axis=1)
    safe = np.where(total > 0, total, 1.0)
    axes = _common_axes(layers)
    positions = [np.concatenate([layer.positions[name] for layer in layers]) for name in axes]
    if axes == ("r",):
        rings, ring = np.unique(positions[0], return_inverse=True)
        energies = cells @ np.eye(len(rings))[ring]
        radii = np.broadcast_to(rings, energies.shape)
    else:
        x, y = positions
        distance = np.hypot(x - (cells @ x / safe)[:, None], y - (cells @ y / safe)[:, None])
        order = np.argsort(distance, axis=1)
        radii = np.take_along_axis(distance, order, axis=1)
        energies = np.take_along_axis(cells, order, axis=1)
    contained = np.cumsum(energies, axis=1) / safe[:, None]
    last = np.argmax(contained >= fraction - 1e-12, axis=1)[:, None]
    before = np.maximum(last - 1, 0)
    high, low = (np.take_along_axis(contained, i, axis=1)[:, 0] for i in (last, before))
    outer, inner = (np.take_along_axis(radii, i, axis=1)[:, 0] for i in (last, before))
    step = np.where(high > low, high - low, 1.0)
    radius = np.where(high > low, inner + (fraction - low) / step * (outer - inner), outer)
    return np.where(total > 0, radius, np.nan)

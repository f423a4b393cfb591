"""Where the cells of a layer are: the ``[geometry.<field>]`` tables of a run file.

[geometry.layer_1]            # a grid of 12 × 12 cells: the field's own shape
cell = [40.0, 40.0]           # pitch along each axis of the field [mm]

[geometry.layer_2]            # voxels in α and r: the field's shape is [α bins, r bins]
r_edges = [0.0, 5.0, 10.0]    # [mm]
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hepgan.errors import RunError
from hepgan.evaluation.observables.shower_shapes import Array

AXES = ("x", "y", "z")


@dataclasses.dataclass(frozen=True)
class LayerGeometry:
    """One ``[geometry.<field>]`` table. Without ``cell`` and ``r_edges`` lengths are counted in cells.

    Attributes:
        cell: Pitch of the cells along each axis of the field [mm]; the grid is centered on 0.
        r_edges: Edges of the radial bins [mm]; the field's last axis is r and the one before it α, which runs from −π to π.
        axes: Names of the grid's axes in the field's order; x, y, z where there are none.
        threshold: Cells at or below it count as not lit [the field's unit].
        number: The layer's number in shower depths; by default its place among the layers.
    """

    cell: tuple[float, ...] = ()
    r_edges: tuple[float, ...] = ()
    axes: tuple[str, ...] = ()
    threshold: float = 0.0
    number: float | None = None


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of cells: a whole field, or one slice of a field with a depth axis.

    Attributes:
        name: For the names of observables, such as ``layer_0``, or ``showers_7`` for a slice; ``showers[7]`` beside a field
            ``showers_7``.
        field: The event's field that it is read from.
        part: The slice of the field's first axis, or ``None`` for the whole field.
        shape: Shape of the layer's cells.
        positions: For each axis the position of each cell, row-major, in ``length``.
        length: ``mm`` or ``cells``.
        threshold: Cells at or below it count as not lit.
        number: The layer's number in shower depths.
    """

    name: str
    field: str
    part: int | None
    shape: tuple[int, ...]
    positions: Mapping[str, tuple[float, ...]]
    length: str
    threshold: float
    number: float

    def cells(self, events: Mapping[str, Array]) -> Array:
        """The layer's cells, ``[E, K]``."""
        values = events[self.field]
        if self.part is not None:
            values = values[:, self.part]
        return values.reshape(values.shape[0], -1)


def shower_layers(
    shapes: Mapping[str, tuple[int, ...]], geometry: Mapping[str, LayerGeometry]
) -> list[Layer]:
    """The layers in fields of ``shapes``, in order; a field of three axes has one layer for each entry of its first.

    Raises:
        RunError: a geometry that does not fit its field's shape.
    """
    layers: list[Layer] = []
    for field, shape in shapes.items():
        table = geometry.get(field, LayerGeometry())
        parts: list[int | None] = list(range(shape[0])) if len(shape) == 3 else [None]
        inner = shape[1:] if len(shape) == 3 else shape
        positions = _positions(inner, table, field)
        for part in parts:
            name = field if part is None else f"{field}_{part}"
            layers.append(
                Layer(
                    name=f"{field}[{part}]" if part is not None and name in shapes else name,
                    field=field,
                    part=part,
                    shape=inner,
                    positions=positions,
                    length="mm" if table.cell or table.r_edges else "cells",
                    threshold=table.threshold,
                    number=float(len(layers))
                    if table.number is None
                    else table.number + (part or 0),
                )
            )
    return layers


def _positions(
    shape: tuple[int, ...], table: LayerGeometry, field: str
) -> dict[str, tuple[float, ...]]:
    if table.r_edges:
        return _polar(shape, table.r_edges, field)
    # a pitch for the depth axis may be given too; only those of the layer's own axes place its cells
    pitches = table.cell[-len(shape) :] if table.cell else (1.0,) * len(shape)
    names = table.axes or AXES
    if len(pitches) != len(shape) or len(names) < len(shape):
        raise RunError(
            f"[geometry.{field}] has {len(table.cell)} pitches and {len(names)} axis names for a layer of shape {shape};"
            " give one for each axis"
        )
    lines = [(np.arange(n) - (n - 1) / 2) * pitch for n, pitch in zip(shape, pitches, strict=True)]
    grids = np.meshgrid(*lines, indexing="ij")
    # one cell alone on an axis has neither a center nor a width along it
    return {
        name: tuple(grid.ravel().tolist())
        for name, grid, n in zip(names, grids, shape, strict=False)
        if n > 1
    }


def _polar(
    shape: tuple[int, ...], r_edges: tuple[float, ...], field: str
) -> dict[str, tuple[float, ...]]:
    angles, radii = shape if len(shape) == 2 else (1, math.prod(shape))
    if radii != len(r_edges) - 1:
        raise RunError(
            f"[geometry.{field}] has {len(r_edges)} r_edges, but a layer of shape {shape} has {radii} bins in r;"
            f" give {radii + 1} edges"
        )
    edges: npt.NDArray[np.float64] = np.asarray(r_edges, dtype=np.float64)
    r = np.tile((edges[1:] + edges[:-1]) / 2, angles)
    alpha = np.repeat(-math.pi + (np.arange(angles) + 0.5) * 2 * math.pi / angles, radii)
    positions = {"r": tuple(r.tolist())}
    if angles > 1:
        positions["eta"] = tuple((r * np.cos(alpha)).tolist())
        positions["phi"] = tuple((r * np.sin(alpha)).tolist())
    return positions

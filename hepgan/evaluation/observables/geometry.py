"""Cell positions of calorimeter layers: the ``[geometry.<field>]`` tables of a run file.

[geometry.layer_1]            # a grid of 12 × 12 cells: the field's own shape
cell = [40.0, 40.0]           # pitch along each axis of the field [mm]

[geometry.layer_2]            # voxels in α and r: the field's shape is [α bins, r bins]
r_edges = [0.0, 5.0, 10.0]    # [mm]

[geometry.cells]              # irregular cells: one entry per cell with x, y, z, layer and size [mm]
file = "cells.root"
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hepgan.data.cells import Cells
from hepgan.errors import RunError
from hepgan.evaluation.observables.shower_shapes import Array, columns

AXES = ("x", "y", "z")


@dataclasses.dataclass(frozen=True)
class LayerGeometry:
    """The table ``[geometry.<field>]``. Without ``cell``, ``r_edges`` and ``file``, lengths are in units of cells.

    Attributes:
        cell: Pitch of the cells along each axis of the field [mm]; the grid is centered on 0.
        r_edges: Edges of the radial bins [mm]; the last axis of the field is r, the one before it α from −π to π.
        axes: Names of the grid's axes, in the order of the field's axes; x, y, z by default.
        threshold: Cells at or below it do not count as hit [unit of the field].
        number: Layer number in shower depths; by default the index of the layer. With ``file``, the only layer of the file that the
            field holds; by default all.
        file: ROOT file with the positions of irregular cells [mm], in the order of the field: one entry per cell with the branches x, y, z,
            layer and size, the edge of the cell as a square. The positions replace it in the ``run.toml`` of a run folder.
        positions: The positions themselves.
    """

    cell: tuple[float, ...] = ()
    r_edges: tuple[float, ...] = ()
    axes: tuple[str, ...] = ()
    threshold: float = 0.0
    number: float | None = None
    file: str = ""
    positions: Cells | None = None

    def __post_init__(self) -> None:
        if self.file and self.positions:
            raise RunError(f"a geometry has both positions and the file '{self.file}'; remove one")
        if (self.file or self.positions) and (self.cell or self.r_edges or self.axes):
            raise RunError(
                "a geometry has positions of cells, and cell, r_edges or axes too; give only one of them"
            )

    @property
    def length(self) -> str:
        """Unit of lengths: ``mm`` or ``cells``."""
        return "mm" if self.cell or self.r_edges or self.positions else "cells"


@dataclasses.dataclass(frozen=True)
class Layer:
    """Layer of cells: a field, or one slice of a field that has a depth axis.

    Attributes:
        name: Prefix of its observables, such as ``layer_0``, or ``showers_7`` for a slice; ``showers[7]`` beside a field
            ``showers_7``.
        field: Field of the event.
        part: Index along the first axis of the field, the indices of irregular cells, or ``None`` for the whole field.
        shape: Shape of the layer's cells.
        positions: Positions of the cells along each axis, row-major, in units of ``length``.
        length: ``mm`` or ``cells``.
        threshold: Cells at or below it do not count as hit.
        number: Layer number in shower depths.
        sizes: Edges of irregular cells; empty for others.
        plane: Axes of the plane of irregular cells.
    """

    name: str
    field: str
    part: int | tuple[int, ...] | None
    shape: tuple[int, ...]
    positions: Mapping[str, tuple[float, ...]]
    length: str
    threshold: float
    number: float
    sizes: tuple[float, ...] = ()
    plane: tuple[str, str] = ("x", "y")

    def cells(self, events: Mapping[str, Array]) -> Array:
        """Returns the ``[E, K]`` cells of the layer."""
        values = events[self.field]
        if isinstance(self.part, tuple):
            return columns(values.reshape(values.shape[0], -1), self.part)
        if self.part is not None:
            values = values[:, self.part]
        return values.reshape(values.shape[0], -1)


def shower_layers(
    shapes: Mapping[str, tuple[int, ...]], geometry: Mapping[str, LayerGeometry]
) -> list[Layer]:
    """Returns the layers of fields with the given ``shapes``; a field with three axes has one layer per index of the first.

    Raises:
        RunError: the geometry does not fit the shape of its field.
    """
    layers: list[Layer] = []
    for field, shape in shapes.items():
        table = geometry.get(field, LayerGeometry())
        if table.file:
            raise RunError(
                f"[geometry.{field}] names the file '{table.file}', which has not been read; set positions = read_cells('{table.file}')"
            )
        if table.positions:
            layers += _irregular(field, shape, shapes, table, table.positions)
            continue
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
                    length=table.length,
                    threshold=table.threshold,
                    number=float(len(layers))
                    if table.number is None
                    else table.number + (part or 0),
                )
            )
    return layers


def _irregular(
    field: str,
    shape: tuple[int, ...],
    shapes: Mapping[str, tuple[int, ...]],
    table: LayerGeometry,
    cells: Cells,
) -> list[Layer]:
    """Returns the layers of a field with irregular cells."""
    if len(cells) != math.prod(shape):
        raise RunError(
            f"[geometry.{field}] has the positions of {len(cells):,} cells, but the field '{field}' has {math.prod(shape):,}; give one for"
            " each"
        )
    by_layer = cells.layers()
    layers = []
    for each in by_layer:
        name = field if len(by_layer) == 1 else f"{field}_{each.number:g}"
        at = {axis: cells.column(axis)[each.cells] for axis in AXES}
        layers.append(
            Layer(
                name=f"{field}[{each.number:g}]" if len(by_layer) > 1 and name in shapes else name,
                field=field,
                part=tuple(each.cells.tolist()),
                shape=(len(each.cells),),
                # an axis along which all cells are at the same position has no center and no width
                positions={axis: tuple(p.tolist()) for axis, p in at.items() if np.ptp(p) > 0},
                length="mm",
                threshold=table.threshold,
                number=each.number,
                sizes=tuple(cells.column("size")[each.cells].tolist()),
                plane=each.axes,
            )
        )
    return layers


def _positions(
    shape: tuple[int, ...], table: LayerGeometry, field: str
) -> dict[str, tuple[float, ...]]:
    if table.r_edges:
        return _polar(shape, table.r_edges, field)
    # the pitch along the depth axis is optional and not used
    pitches = table.cell[-len(shape) :] if table.cell else (1.0,) * len(shape)
    names = table.axes[-len(shape) :] if table.axes else AXES
    if len(pitches) != len(shape) or len(names) < len(shape):
        raise RunError(
            f"[geometry.{field}] has {len(table.cell)} pitches and {len(names)} axis names for a layer of shape {shape};"
            " give one for each axis"
        )
    lines = [(np.arange(n) - (n - 1) / 2) * pitch for n, pitch in zip(shape, pitches, strict=True)]
    grids = np.meshgrid(*lines, indexing="ij")
    # an axis with a single cell has no center and no width
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

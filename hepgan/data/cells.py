"""Positions of the cells of an irregular calorimeter."""

import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt

from hepgan.data.io import reader
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError

Floats = npt.NDArray[np.float64]

BRANCHES = ("x", "y", "z", "layer", "size")
"""Branches of a file of cell positions, one entry per cell."""

MOST_CELLS = 10_000
"""Maximum number of cells: run files contain their positions."""


class CellLayer(NamedTuple):
    """Cells of one layer.

    Attributes:
        number: Number of the layer.
        cells: ``[K]`` indices of its cells in the field.
        axes: Names of the two axes of its plane, those of the largest extents; one of them may be constant.
    """

    number: float
    cells: npt.NDArray[np.int64]
    axes: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Cells:
    """Positions of the cells of a field, in the order of its values.

    Attributes:
        x: ``[K]`` centers of the cells [mm].
        y: ``[K]`` [mm].
        z: ``[K]`` [mm].
        layer: ``[K]`` numbers of the layers.
        size: ``[K]`` edges of the cells, as squares [mm].
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    z: tuple[float, ...]
    layer: tuple[float, ...]
    size: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = {name: len(getattr(self, name)) for name in BRANCHES}
        if len(set(numbers.values())) > 1:
            text = ", ".join(f"{number} {name}" for name, number in numbers.items())
            raise RunError(f"the positions of cells have {text}; give one of each for every cell")
        for name in BRANCHES:
            self._check(name, np.isfinite(self.column(name)), "should be a finite number")
        self._check("size", self.column("size") > 0, "should be positive")
        rows = np.stack([self.column(name) for name in ("layer", "x", "y", "z")], 1)
        _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        earlier = first[inverse.reshape(-1)]
        if len(double := np.flatnonzero(earlier != np.arange(len(rows)))):
            number, x, y, z = rows[double[0]]
            raise RunError(
                f"the cells {earlier[double[0]]} and {double[0]} have the same position: x = {x:g}, y = {y:g}, z = {z:g} in layer {number:g};"
                " every cell needs its own"
            )

    def __len__(self) -> int:
        return len(self.x)

    def column(self, name: str) -> Floats:
        """Returns ``[K]`` values of ``x``, ``y``, ``z``, ``layer`` or ``size``."""
        return np.asarray(getattr(self, name), dtype=np.float64)

    def select(self, chosen: npt.NDArray[np.bool_]) -> "Cells":
        """Returns the cells for which ``chosen[K]`` is true."""
        return Cells(*(tuple(self.column(name)[chosen].tolist()) for name in BRANCHES))

    def layers(self) -> list[CellLayer]:
        """Returns the layers by increasing number."""
        layer = self.column("layer")
        result = []
        for number in np.unique(layer):
            cells = np.flatnonzero(layer == number)
            extents = {name: np.ptp(self.column(name)[cells]) for name in "xyz"}
            first, second = sorted(sorted(extents, key=lambda name: -extents[name])[:2])
            result.append(CellLayer(float(number), cells, (first, second)))
        return result

    def _check(self, name: str, valid: npt.NDArray[np.bool_], text: str) -> None:
        if not valid.all():
            at = int(np.flatnonzero(~valid)[0])
            raise RunError(f"{name} = {getattr(self, name)[at]:g} of cell {at} {text}")


def read_cells(file: str | os.PathLike[str], *, layer: float | None = None) -> Cells:
    """Returns the positions in a ROOT file with the branches x, y, z, layer and size [mm] and one entry per cell.

    Args:
        file: TTree or RNTuple; ``path:tree`` if the file has several.
        layer: The only layer to read; by default all.

    Raises:
        DataError: the file cannot be read, a branch is missing, or it has too many cells or none in ``layer``.
        RunError: a value is not finite, a size is not positive, or two cells have the same position.
    """
    name = os.fspath(file)
    schema = Schema({branch: Field() for branch in BRANCHES})
    absent = reader.missing_fields(name, schema)
    if absent:
        raise DataError(
            f"the positions of the cells in '{name}' lack {', '.join(absent)}; it needs the branches {', '.join(BRANCHES)}, with one"
            " entry per cell in the order of the cells"
        )
    events = reader.read(name, schema)
    if len(events) > MOST_CELLS:
        raise DataError(
            f"'{name}' has the positions of {len(events):,} cells; at most {MOST_CELLS:,} can be used"
        )
    values = [ak.to_numpy(events[branch]).astype(np.float64).tolist() for branch in BRANCHES]
    cells = _named(name, lambda: Cells(*map(tuple, values)))
    if layer is None:
        return cells
    chosen = cells.column("layer") == layer
    if not chosen.any():
        numbers = ", ".join(f"{each.number:g}" for each in cells.layers())
        raise DataError(f"'{name}' has no cell in layer {layer:g}; it has the layers {numbers}")
    return cells.select(chosen)


def _named(file: str, build: Callable[[], Cells]) -> Cells:
    try:
        return build()
    except RunError as error:
        raise RunError(f"'{file}': {error}") from error

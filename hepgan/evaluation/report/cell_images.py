"""Fields, and layers of irregular cells, as images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hepgan.data.schema import Field, Schema
from hepgan.data.units import ENERGY_UNITS
from hepgan.evaluation.metrics.scores import Score
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.observables.geometry import AXES, Layer, LayerGeometry
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.observables.standard import layers_for

MAX_IMAGES = 6
"""Largest number of fields drawn as images, the most different first."""

PIXELS = 160
"""Pixels along the longer side of a layer with irregular cells."""

Extent = tuple[float, float, float, float]


class CellImage(NamedTuple):
    """Field with two or three axes, or layer of irregular cells, that is drawn as an image.

    Attributes:
        name: Name of the field or layer.
        field: Field of the event.
        shape: H and W of the image.
        unit: Unit of the values.
        energy: Whether the values are energies of cells.
        axes: Labels of the rows' and the columns' axis.
        extent: First and last edge of the columns, then of the rows; ``None`` if cells are counted.
        r_edges: Edges in r, for cells in (α, r).
        deep: Whether the values are sums over a depth axis.
        layer: Layer of irregular cells, or ``None``.
        pixels: ``[H, W]`` cell of each pixel, −1 for none; empty without irregular cells.
    """

    name: str
    field: str
    shape: tuple[int, int]
    unit: str
    energy: bool
    axes: tuple[str, str]
    extent: Extent | None
    r_edges: Sequence[float]
    deep: bool
    layer: Layer | None
    pixels: npt.NDArray[np.int64]

    @property
    def flat(self) -> bool:
        """True if it is much wider than high, so that images are stacked."""
        return self.shape[1] > 2 * self.shape[0] and not self.r_edges

    def values(self, events: Mapping[str, Array]) -> Floats:
        """Returns ``[E, H, W]``, or ``[E, K]`` for irregular cells; a depth axis is summed over."""
        if self.layer:
            return np.asarray(self.layer.cells(events))
        values = np.asarray(events[self.field])
        return values.sum(axis=1) if self.deep else values

    def drawn(self, values: Floats) -> Floats:
        """Returns ``[…, H, W]`` images of ``values``; NaN between irregular cells."""
        values = np.asarray(values, float)
        if not self.layer:
            return values
        return np.where(self.pixels >= 0, values[..., self.pixels], np.nan)


def cell_images(
    schema: Schema, geometry: Mapping[str, LayerGeometry], scores: Sequence[Score]
) -> list[CellImage]:
    """Returns the images; those of the largest pulls in ``scores`` if there are more than ``MAX_IMAGES``."""
    images = [
        _of_field(name, field, geometry.get(name))
        for name, field in schema.fields.items()
        if len(field.shape) in (2, 3) and not (name in geometry and geometry[name].positions)
    ]
    images += [
        _of_layer(layer, schema.fields[layer.field].unit)
        for layer in layers_for(schema, geometry)
        if layer.sizes
    ]
    if len(images) <= MAX_IMAGES:
        return images
    names = {image.name for image in images}
    pulls: dict[str, float] = {}
    for score in scores:
        if score.metric == "mean_image":
            name = score.observable.removesuffix(".spectrum")
            name = name if name in names else name.rpartition("_")[0]
            pulls[name] = max(pulls.get(name, 0.0), score.value)
    return sorted(images, key=lambda image: -pulls.get(image.name, 0.0))[:MAX_IMAGES]


def _of_field(name: str, field: Field, geometry: LayerGeometry | None) -> CellImage:
    rows, columns = field.shape[-2:]
    energy = field.unit in ENERGY_UNITS or geometry is not None
    axes: tuple[str, ...] = AXES[:2] if energy else ("row", "column")
    if geometry and geometry.axes:
        axes = geometry.axes[-2:]
    extent = None
    if geometry and geometry.cell:
        high, wide = geometry.cell[-2] * rows / 2, geometry.cell[-1] * columns / 2
        axes, extent = tuple(f"{axis} [mm]" for axis in axes), (-wide, wide, -high, high)
    return CellImage(
        name, name, (rows, columns), field.unit, energy, (axes[0], axes[1]), extent,
        geometry.r_edges if geometry else (), len(field.shape) == 3, None, np.empty((0, 0), np.int64),
    )  # fmt: skip


def _of_layer(layer: Layer, unit: str) -> CellImage:
    pixels, extent = pixels_of(layer)
    high, wide = pixels.shape
    across, up = layer.plane
    return CellImage(
        layer.name, layer.field, (high, wide), unit, True, (f"{up} [mm]", f"{across} [mm]"), extent, (), False, layer, pixels,
    )  # fmt: skip


def pixels_of(layer: Layer) -> tuple[npt.NDArray[np.int64], Extent]:
    """Returns the cell ``[H, W]`` of each pixel of a layer of irregular cells, −1 for none, and the extent of the image [mm].

    A cell covers a square of its size; where several do, a pixel belongs to the nearest one in units of their sizes.
    """
    size = np.asarray(layer.sizes)
    x, y = (np.asarray(layer.positions.get(axis, np.zeros(len(size)))) for axis in layer.plane)
    left, right = (x - size / 2).min(), (x + size / 2).max()
    low, high = (y - size / 2).min(), (y + size / 2).max()
    step = max(right - left, high - low) / PIXELS
    columns, rows = (max(1, round(length / step)) for length in (right - left, high - low))
    across = left + (np.arange(columns) + 0.5) * (right - left) / columns
    up = low + (np.arange(rows) + 0.5) * (high - low) / rows
    nearest = np.full((rows, columns), 0.5 + 1e-6)
    pixels = np.full((rows, columns), -1)
    for cell in range(len(size)):
        (wide,) = np.nonzero(np.abs(across - x[cell]) <= 0.51 * size[cell])
        (tall,) = np.nonzero(np.abs(up - y[cell]) <= 0.51 * size[cell])
        if not (len(wide) and len(tall)):
            continue
        window = slice(tall[0], tall[-1] + 1), slice(wide[0], wide[-1] + 1)
        distance = np.maximum(
            np.abs(up[window[0]] - y[cell])[:, None], np.abs(across[window[1]] - x[cell])[None]
        )
        closer = distance / size[cell] < nearest[window]
        nearest[window] = np.where(closer, distance / size[cell], nearest[window])
        pixels[window] = np.where(closer, cell, pixels[window])
    return pixels, (float(left), float(right), float(low), float(high))

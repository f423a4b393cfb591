"""Levels of a tree from the shapes of the layers: which blocks are split at the same time, and what surrounds them."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.data.encoding.density.network import RowNetwork
from hepgan.data.encoding.density.tree import TreeLevel

Array = npt.NDArray[Any]

Shape = tuple[int, int]
"""Rows and columns of a layer's cells."""

NEIGHBORS = ((-1, 0), (1, 0), (-2, 0), (2, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Blocks around a node whose energies the network sees: steps along the split axis and across it."""

OVERLAPS = 6
"""Number of blocks of an adjacent layer whose energies are added up on each side of the split line."""


class Grid(NamedTuple):
    """Blocks of a layer: edges of rows and columns, in cells."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def shape(self) -> Shape:
        """Numbers of blocks along both axes."""
        return len(self.rows) - 1, len(self.columns) - 1

    def largest(self) -> Shape:
        """Returns the largest number of cells of a block along both axes."""
        rows, columns = (max(np.diff(edges)) for edges in self)
        return int(rows), int(columns)


def build_levels(
    shapes: tuple[Shape, ...], periodic: tuple[bool, bool], network: RowNetwork
) -> tuple[TreeLevel, ...]:
    """Returns the levels of layers with these ``shapes``, all with the same ``network``; ``periodic`` axes are closed to a circle."""
    grids = [Grid((0, rows), (0, columns)) for rows, columns in shapes]
    levels = []
    while any(max(grid.largest()) > 1 for grid in grids):
        started = list(grids)
        for parity in (0, 1):
            before, axes = list(grids), {}
            for layer in range(parity, len(shapes), 2):
                if max(started[layer].largest()) > 1:
                    axes[layer] = _longest_axis(started[layer])
                    grids[layer] = _halved(started[layer], axes[layer])
            if axes:
                levels.append(_level(shapes, before, axes, grids, periodic, network))
    return tuple(levels)


def _longest_axis(grid: Grid) -> int:
    """Returns the axis along which blocks have most cells: many cells resolve the fine structure of a shower, which comes first."""
    rows, columns = grid.largest()
    return int(columns > rows)


def _halved(grid: Grid, axis: int) -> Grid:
    edges = list(grid)
    middles = {(low + high) // 2 for low, high in itertools.pairwise(edges[axis])}
    edges[axis] = tuple(sorted({*edges[axis], *middles}))
    return Grid(*edges)


def _level(
    shapes: tuple[Shape, ...],
    before: list[Grid],
    axes: dict[int, int],
    after: list[Grid],
    periodic: tuple[bool, bool],
    network: RowNetwork,
) -> TreeLevel:
    """Returns the level at which the layers in ``axes`` are split along these axes."""
    old, new = _indices(before), _indices(after)
    blocks = sum(index.size for index in old)
    parts: list[dict[str, Array]] = []
    kept: list[Array] = []
    for layer, grid in enumerate(before):
        if layer not in axes:
            kept.append(np.stack([old[layer].ravel(), new[layer].ravel()]))
            continue
        # The split axis comes first in the indices of this layer.
        axis = axes[layer]
        index, index_after = (np.moveaxis(i[layer], axis, 0) for i in (old, new))
        edges, edges_across = np.array(grid[axis]), np.array(grid[1 - axis])
        starts = np.searchsorted(np.array(after[layer][axis]), edges[:-1])
        whole = np.diff(edges) == 1
        kept.append(np.stack([index[whole].ravel(), index_after[starts[whole]].ravel()]))
        pairs = np.meshgrid(np.flatnonzero(~whole), np.arange(len(edges_across) - 1), indexing="ij")
        split, across = (pair.ravel() for pair in pairs)
        cells, cells_across = shapes[layer][axis], shapes[layer][1 - axis]
        start, line, end = (
            edge / cells
            for edge in (edges[split], (edges[split] + edges[split + 1]) // 2, edges[split + 1])
        )
        beside = edges_across[across] / cells_across, edges_across[across + 1] / cells_across
        sides = [
            _side(layer + step, along, beside, axis, shapes, before, old, blocks)
            for step in (-1, 1)
            for along in ((start, line), (line, end))
        ]
        parts.append(
            {
                "parent": index[split, across],
                "children": np.stack([index_after[starts[split] + k, across] for k in (0, 1)], 1),
                "layer": np.full(len(split), layer),
                "axis": np.full(len(split), axis),
                "neighbors": _neighbors(
                    index, split, across, (periodic[axis], periodic[1 - axis]), blocks
                ),
                "overlaps": np.stack([blocks for blocks, _ in sides], 1),
                "weights": np.stack([weights for _, weights in sides], 1),
                "positions": np.stack(
                    [
                        line - 0.5,
                        (end - start) / 2,
                        (beside[1] - beside[0]) / 2,
                        np.full(len(split), 1 / cells),
                        (beside[1] + beside[0]) / 2 - 0.5,
                    ],
                    1,
                ),
            }
        )
    tensors = {
        name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]
    }
    tensors["weights"] = tensors["weights"].float()
    tensors["positions"] = tensors["positions"].float().T.contiguous()
    members, moments = _members(shapes, before, blocks)
    return TreeLevel(
        **tensors,
        kept=torch.from_numpy(np.concatenate(kept, 1)),
        members=members,
        moments=moments,
        blocks=sum(index.size for index in new),
        network=network,
    )


def _indices(grids: list[Grid]) -> list[Array]:
    """Returns the numbers of the blocks of each layer, in the shape of its grid."""
    ends = np.cumsum([np.prod(grid.shape) for grid in grids])
    return [
        np.arange(end - np.prod(grid.shape), end).reshape(grid.shape)
        for grid, end in zip(grids, ends, strict=True)
    ]


def _side(
    layer: int,
    along: tuple[Array, Array],
    beside: tuple[Array, Array],
    axis: int,
    shapes: tuple[Shape, ...],
    grids: list[Grid],
    indices: list[Array],
    nothing: int,
) -> tuple[Array, Array]:
    """Returns the blocks ``[N, O]`` of a layer that overlap most with N rectangles, and the overlapping fractions of these blocks."""
    if not 0 <= layer < len(shapes):
        return np.full((len(along[0]), OVERLAPS), nothing), np.zeros((len(along[0]), OVERLAPS))
    ends = [np.array(grids[layer][k]) / shapes[layer][k] for k in (axis, 1 - axis)]
    return _overlaps(np.moveaxis(indices[layer], axis, 0), ends, along, beside, nothing)


def _neighbors(
    index: Array,
    split: Array,
    across: Array,
    wrap: tuple[bool, bool],
    beyond: int,
) -> Array:
    """Returns ``[N, 10]``: the blocks around the nodes at rows ``split`` and columns ``across`` of ``index``."""
    result = []
    for along, beside in NEIGHBORS:
        rows, columns = split + along, across + beside
        inside = np.ones(len(split), dtype=bool)
        for values, length, circle in (
            (rows, index.shape[0], wrap[0]),
            (columns, index.shape[1], wrap[1]),
        ):
            if not circle:
                inside &= (values >= 0) & (values < length)
        blocks = index[rows % index.shape[0], columns % index.shape[1]]
        result.append(np.where(inside, blocks, beyond))
    return np.stack(result, 1)


def _overlaps(
    index: Array,
    edges: list[Array],
    along: tuple[Array, Array],
    beside: tuple[Array, Array],
    nothing: int,
) -> tuple[Array, Array]:
    """Returns the blocks ``[N, O]`` that overlap most with N rectangles, and the overlapping fractions of these blocks."""
    fractions = []
    for ends, (low, high) in zip(edges, (along, beside), strict=True):
        overlap = np.minimum(ends[None, 1:], high[:, None]) - np.maximum(
            ends[None, :-1], low[:, None]
        )
        fractions.append(overlap.clip(0) / np.diff(ends))
    areas = (fractions[0][:, :, None] * fractions[1][:, None, :]).reshape(len(along[0]), -1)
    order = np.argsort(-areas, axis=1, kind="stable")[:, :OVERLAPS]
    weights = np.take_along_axis(areas, order, 1)
    blocks = np.where(weights > 0, index.ravel()[order], nothing)
    missing = OVERLAPS - order.shape[1]
    return (
        np.pad(blocks, ((0, 0), (0, max(0, missing))), constant_values=nothing),
        np.pad(weights, ((0, 0), (0, max(0, missing)))),
    )


def _members(shapes: tuple[Shape, ...], grids: list[Grid], beyond: int) -> tuple[Tensor, Tensor]:
    sizes = [int(np.prod(grid.shape)) for grid in grids]
    members = torch.full((len(shapes), max(sizes)), beyond)
    moments = torch.zeros(len(shapes), max(sizes), 5)
    first = 0
    for layer, (grid, shape, size) in enumerate(zip(grids, shapes, sizes, strict=True)):
        members[layer, :size] = torch.arange(first, first + size)
        first += size
        middles = [
            (np.array(edges[1:]) + np.array(edges[:-1])) / 2 / cells - 0.5
            for edges, cells in zip(grid, shape, strict=True)
        ]
        x, y = (torch.from_numpy(m.ravel()) for m in np.meshgrid(*middles, indexing="ij"))
        moments[layer, :size] = torch.stack([torch.ones_like(x), x, y, x * x, y * y], 1).float()
    return members, moments

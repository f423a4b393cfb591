"""Levels of a tree from the shapes of the layers: which blocks are split at the same time, and what surrounds them."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from hepgan.data.encoding.density.network import RowNetwork
from hepgan.data.encoding.density.tree import TreeLevel

Array = npt.NDArray[Any]

Shape = tuple[int, int]
"""Rows and columns of a layer's cells."""

ADJACENT = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Adjacent blocks of a node, in steps along the split axis and across it. The network sees both parts of those that are split already."""

NEARBY = ((-2, 0), (2, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Other blocks around a node whose energies the network sees."""

_LARGEST_LOGIT = 60.0
"""Largest absolute logit without a range from events."""

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
    levels: list[TreeLevel] = []
    while any(max(grid.largest()) > 1 for grid in grids):
        started = list(grids)
        for parity in (0, 1):
            before, axes = list(grids), {}
            for layer in range(parity, len(shapes), 2):
                if max(started[layer].largest()) > 1:
                    axes[layer] = _longest_axis(started[layer], shapes[layer])
                    grids[layer] = _halved(started[layer], axes[layer])
            if axes:
                level, colors = _level(shapes, before, axes, grids, periodic, network)
                levels += _by_color(level, colors, _members(shapes, grids, level.blocks))
    return tuple(levels)


def _longest_axis(grid: Grid, shape: Shape) -> int:
    """Returns the axis along which blocks are longest, as fractions of the window."""
    rows, columns = grid.largest()
    if rows == 1 or columns == 1:
        return int(rows == 1)
    return int(columns / shape[1] > rows / shape[0])


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
) -> tuple[TreeLevel, Tensor]:
    """Returns the level at which the layers in ``axes`` are split along these axes, and the color ``[N]`` of each node on a chessboard."""
    old, new = _indices(before), _indices(after)
    blocks = sum(index.size for index in old)
    parts: list[dict[str, Array]] = []
    kept: list[Array] = []
    colors: list[Array] = []
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
        colors.append((split + across) % 2)
        wrap = periodic[axis], periodic[1 - axis]
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
                "neighbors": _neighbors(index, split, across, wrap, blocks),
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
    level = TreeLevel(
        **tensors,
        kept=torch.from_numpy(np.concatenate(kept, 1)),
        members=members,
        moments=moments,
        ranges=torch.tensor([[-_LARGEST_LOGIT], [_LARGEST_LOGIT]]).expand(
            2, len(tensors["parent"])
        ),
        blocks=sum(index.size for index in new),
        network=network,
    )
    return level, torch.from_numpy(np.concatenate(colors))


def _by_color(
    level: TreeLevel, colors: Tensor, finer: tuple[Tensor, Tensor]
) -> tuple[TreeLevel, ...]:
    """Returns two levels instead of one: the black nodes of a chessboard are split first, then the white ones.

    White nodes see both parts of the black ones beside them; adjacent blocks that are split at the same time would be independent.

    Args:
        level: The level, at which all nodes are split.
        colors: ``[N]``, 0 for black and 1 for white.
        finer: Members and moments of the layers after the level.
    """
    black, white = ((colors == color).nonzero()[:, 0] for color in (0, 1))
    if not len(white):
        return (level,)
    before = len(level.parent) + level.kept.shape[1]
    # Between both levels, the blocks that are left come first, then the parts of the black nodes; `before` is beyond the edge.
    is_black = torch.zeros(before + 1, dtype=torch.bool)
    is_black[level.parent[black]] = True
    left = (~is_black[:before]).nonzero()[:, 0]
    parts = len(left) + torch.arange(2 * len(black)).reshape(-1, 2)
    between = len(left) + parts.numel()
    whole = torch.full((before + 1,), between)
    whole[left] = torch.arange(len(left))
    first_part, second_part = whole.clone(), torch.full_like(whole, between)
    first_part[level.parent[black]], second_part[level.parent[black]] = parts.unbind(1)

    first = dataclasses.replace(
        _selected(level, black),
        children=parts,
        kept=torch.stack([left, whole[left]]),
        blocks=between,
    )
    adjacent = level.neighbors[white, : len(ADJACENT)]
    nearby = level.neighbors[white, 2 * len(ADJACENT) :]
    kept_parts = torch.stack([parts.flatten(), level.children[black].flatten()])
    members, moments = _members_between(level, whole, parts, black, finer)
    second = dataclasses.replace(
        _selected(level, white),
        parent=whole[level.parent[white]],
        kept=torch.cat([torch.stack([whole[level.kept[0]], level.kept[1]]), kept_parts], 1),
        neighbors=torch.cat([first_part[adjacent], second_part[adjacent], whole[nearby]], 1),
        overlaps=whole[level.overlaps[white]],
        members=members,
        moments=moments,
    )
    return first, second


def _selected(level: TreeLevel, nodes: Tensor) -> TreeLevel:
    """Returns the level with these ``nodes`` only; their complement is not added to the blocks that are kept."""
    names = ("parent", "children", "layer", "axis", "neighbors", "overlaps", "weights")
    values = {name: getattr(level, name)[nodes] for name in names}
    columns = {
        name: getattr(level, name)[:, nodes].contiguous() for name in ("positions", "ranges")
    }
    return dataclasses.replace(level, **columns, **values)


def _members_between(
    level: TreeLevel, whole: Tensor, parts: Tensor, black: Tensor, finer: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns the members and moments of the layers when the black nodes are split.

    Args:
        level: The level, at which all nodes are split.
        whole: Number of each block that is left, and of one beyond the edge.
        parts: ``[N, 2]``, numbers of the parts of the black nodes.
        black: ``[N]``, the black nodes.
        finer: Members and moments of the layers after the level.
    """
    outside = int(whole[-1])
    of_finer = torch.zeros(level.blocks + 1, 5)
    of_finer[finer[0]] = finer[1]
    members, moments = [], []
    for layer, (blocks, of_blocks) in enumerate(zip(level.members, level.moments, strict=True)):
        left = whole[blocks] < outside
        nodes = (level.layer[black] == layer).nonzero()[:, 0]
        members.append(torch.cat([whole[blocks[left]], parts[nodes].flatten()]))
        of_parts = of_finer[level.children[black[nodes]].flatten()]
        moments.append(torch.cat([of_blocks[left], of_parts]))
    longest = max(map(len, members))
    return (
        torch.stack([functional.pad(m, (0, longest - len(m)), value=outside) for m in members]),
        torch.stack([functional.pad(m, (0, 0, 0, longest - len(m))) for m in moments]),
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
    """Returns ``[N, 14]``: the blocks around the nodes at rows ``split`` and columns ``across`` of ``index``.

    They are the adjacent blocks, nothing for their second parts, and the other blocks nearby.
    """
    result = []
    for along, beside in (*ADJACENT, *NEARBY):
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
    adjacent, nearby = result[: len(ADJACENT)], result[len(ADJACENT) :]
    return np.stack([*adjacent, *(np.full_like(b, beyond) for b in adjacent), *nearby], 1)


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

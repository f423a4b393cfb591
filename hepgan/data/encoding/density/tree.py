"""Binary tree over the cells of layers: each level splits the energies of all its blocks, the nodes, in two halves.

All layers are split at the same time, the even ones just before the odd ones, so that the split of a block can depend on those of the
adjacent layers; and in a layer the black blocks of a chessboard just before the white ones, so that the split of a block can depend on
those that share a border with it. The network of a level is shared by its nodes: it sees the energies of the blocks around a node, the
center of gravity of its layer so far, and the center that the conditions lead to expect, all relative to the line along which the block
is split.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hepgan.data.encoding.base import NAMES, tensor_record
from hepgan.data.encoding.density.distributions import (
    Z_LIMIT,
    Split,
    signed_tail_scores,
    signed_tails,
    split_constants,
)
from hepgan.data.encoding.density.kernels import (
    node_features,
    split_energies,
    split_tails,
)
from hepgan.data.encoding.density.network import VECTOR, RowNetwork
from hepgan.data.encoding.kernels import use_kernels
from hepgan.errors import CheckpointError


@tensor_record
@dataclasses.dataclass(frozen=True)
class TreeLevel:
    """Level of a tree: N nodes among the A blocks before the split, B blocks after it, and the network of their splits.

    Lengths are fractions of the window, whose center is 0.

    Attributes:
        parent: ``[N]``, block that is split.
        children: ``[N, 2]``, blocks after the split.
        kept: ``[2, K]``, blocks that are not split, before and after.
        layer: ``[N]``.
        axis: ``[N]``, 0 to split rows and 1 to split columns.
        neighbors: ``[N, 14]``, blocks around the node: the four adjacent ones (or their first parts, if they are split already), their
            second parts, and six others; A beyond the edge, and for second parts of blocks that are not split.
        overlaps: ``[N, 4, O]``, blocks of the previous layer before and behind the line, then of the next layer; A if there are fewer.
        weights: ``[N, 4, O]``, overlapping fractions of these blocks.
        positions: ``[5, N]``: the split line, half the size of the block along the axis and across it, the size of a cell along the
            axis, and the center of the block across the axis.
        members: ``[L, M]``, blocks of each layer; A if there are fewer.
        moments: ``[L, M, 5]``, 1 and the position and its square along both axes, for the members.
        ranges: ``[2, N]``, smallest and largest logit of the first part's fraction.
        blocks: B.
        network: Parameters of a ``Split`` for each node.
    """

    parent: Tensor
    children: Tensor
    kept: Tensor
    layer: Tensor
    axis: Tensor
    neighbors: Tensor
    overlaps: Tensor
    weights: Tensor
    positions: Tensor
    members: Tensor
    moments: Tensor
    ranges: Tensor
    blocks: int
    network: RowNetwork

    def check_loaded(self) -> None:
        """Checks that a level read from a file only names blocks, layers and nodes that exist.

        Raises:
            CheckpointError: it does not.
        """
        nodes, before = len(self.parent), len(self.parent) + self.kept.shape[1]
        largest = (
            (self.parent, before - 1), (self.children, self.blocks - 1), (self.kept[:1], before - 1), (self.kept[1:], self.blocks - 1),
            (self.layer, len(self.members) - 1), (self.axis, 1), (self.neighbors, before), (self.overlaps, before), (self.members, before),
        )  # fmt: skip
        inside = all(
            not len(values.flatten()) or (values.min() >= 0 and values.max() <= limit)
            for values, limit in largest
        )
        sizes = {len(self.children), len(self.layer), len(self.axis), len(self.neighbors)}
        sizes |= {
            len(self.overlaps),
            len(self.weights),
            self.positions.shape[-1],
            self.ranges.shape[-1],
            len(self.network.nodes),
        }
        if not inside or sizes != {nodes}:
            raise CheckpointError("a level of the encoding step 'energy_tree' is damaged")


NAMES[TreeLevel] = "tree_level"  # saved with steps, but not a step of run files


@tensor_record
@dataclasses.dataclass(frozen=True)
class Tree:
    """Fitted tree of L layers with F cells and S = F − L nodes.

    Attributes:
        threshold: Smallest energy of a cell.
        center: ``[L, P, 2]`` coefficients of the expected center of gravity of each layer, for polynomials of the conditions.
        degree: Degree of the polynomials.
        levels: The levels, from the layers to the cells.
    """

    threshold: float
    center: Tensor
    degree: int
    levels: tuple[TreeLevel, ...]

    def encode(
        self, cells: Tensor, c: Tensor, context: Tensor, uniform: Tensor, normal: Tensor
    ) -> Tensor:
        """Returns normal scores ``[E, S]``.

        Args:
            cells: ``[E, F]``, 0 or at least the threshold.
            c: Encoded conditions ``[E, C]``.
            context: ``[E, q]``.
            uniform: ``[E, S]`` uniform random numbers, for the scores of empty parts.
            normal: ``[E, S]`` normal random numbers, the scores of splits of nothing.
        """
        energies, expected = block_energies(self.levels, cells), self.expected(c)
        scores, end = [normal[:, :0]], 0
        for level, *parts in zip(self.levels, energies, energies[1:], strict=False):
            start, end = end, end + len(level.parent)
            of_level = slice(start, end)
            rows = node_rows(level, parts[0], energies[0], expected, self.threshold)
            scores.append(
                _split_scores(
                    level, rows, parts[1], context, self.threshold, uniform[:, of_level], normal[:, of_level]
                )
            )  # fmt: skip
        return torch.cat(scores, 1)

    def decode(self, scores: Tensor, energies: Tensor, c: Tensor, context: Tensor) -> Tensor:
        """Returns cells ``[E, F]`` for ``scores[E, S]`` and the energies ``[E, L]`` of the layers; inverts ``encode``."""
        blocks, start, expected, trace = energies, 0, self.expected(c), _TRACE.get()
        # Those of all levels at once: a call for each of dozens of levels would take as long as the rest for a single shower.
        tails = (
            signed_tails(scores.clamp(-Z_LIMIT, Z_LIMIT)) if use_kernels(scores, energies) else None
        )
        for level in self.levels:
            nodes = slice(start, start + len(level.parent))
            inputs, start = (blocks, energies, expected, context, scores[:, nodes]), nodes.stop
            if trace:
                blocks = trace(level, inputs, self.threshold)
            else:
                of_level = None if tails is None else tails[:, nodes]
                blocks = split_blocks(level, *inputs, self.threshold, of_level)
        return blocks

    @property
    def splits(self) -> int:
        """S, the number of nodes."""
        return sum(len(level.parent) for level in self.levels)

    def expected(self, c: Tensor) -> Tensor:
        """Returns the expected centers of gravity ``[E, L, 2]``."""
        products = polynomials(c, self.degree) @ self.center.movedim(0, 1).flatten(1)
        return products.reshape(-1, self.center.shape[0], 2)


NAMES[Tree] = "tree"  # saved with steps, but not a step of run files


def split_blocks(
    level: TreeLevel,
    blocks: Tensor,
    layers: Tensor,
    expected: Tensor,
    context: Tensor,
    scores: Tensor,
    threshold: float,
    tails: Tensor | None = None,
) -> Tensor:
    """Returns the energies ``[E, B]`` after the splits of a level.

    Args:
        level: The level.
        blocks: ``[E, A]`` energies before the splits.
        layers: ``[E, L]`` energies of the layers.
        expected: ``[E, L, 2]`` expected centers of gravity.
        context: ``[E, q]``.
        scores: ``[E, N]`` normal scores of the splits.
        threshold: Smallest energy of a cell.
        tails: ``[E, N]``, signed tails of the scores, where kernels may be used.
    """
    rows = node_rows(level, blocks, layers, expected, threshold)
    if tails is not None and use_kernels(blocks, context, level.network.output):
        parameters = level.network.by_blocks(rows.features.T, context, rows.event, rows.node)
        return split_energies(
            blocks, tails, parameters, rows[:4],
            (level.kept, level.children, level.ranges), level.blocks, threshold, *split_constants(),
        )  # fmt: skip
    parameters = level.network(rows.features, context, rows.event, rows.node)
    ranges = level.ranges.index_select(1, rows.node)
    split = Split.of(parameters, rows.energy, threshold, ranges)
    first, second = split.fractions(_pick(scores, rows.event, rows.node[:, None])[:, 0])
    after = blocks.new_zeros(blocks.shape[0], level.blocks)
    after = after.index_copy(1, level.kept[1], blocks.index_select(1, level.kept[0]))
    event, node = rows.event[: rows.filled], rows.node[: rows.filled]
    parts = torch.stack([first, second], 1) * rows.energy[:, None]
    at = (event * level.blocks)[:, None] + level.children.index_select(0, node)
    after = after.flatten().index_copy(0, at.flatten(), parts[: rows.filled].flatten())
    return after.reshape(-1, level.blocks)


def _split_scores(
    level: TreeLevel,
    rows: "NodeRows",
    after: Tensor,
    context: Tensor,
    threshold: float,
    uniform: Tensor,
    normal: Tensor,
) -> Tensor:
    """Returns the normal scores ``[E, N]`` of the splits of a level.

    Args:
        level: The level.
        rows: Nodes with energy.
        after: ``[E, B]`` energies after the splits.
        context: ``[E, q]``.
        threshold: Smallest energy of a cell.
        uniform: ``[E, N]`` uniform random numbers, for the scores of empty parts.
        normal: ``[E, N]`` normal random numbers, the scores of nodes without energy.
    """
    if use_kernels(after, context, uniform, level.network.output):
        parameters = level.network.by_blocks(rows.features.T, context, rows.event, rows.node)
        tables = level.children, level.ranges
        tails = split_tails(
            after, uniform, parameters, rows[:4], tables, threshold, *split_constants()
        )
        return torch.where(tails.isnan(), normal, signed_tail_scores(tails))
    split = Split.of(
        level.network(rows.features, context, rows.event, rows.node),
        rows.energy,
        threshold,
        level.ranges.index_select(1, rows.node),
    )
    first, second = after[rows.event[:, None], level.children[rows.node]].unbind(1)
    at = rows.event, rows.node
    drawn = split.scores(first, second, uniform[at])
    scores = normal.clone()
    scores[at[0][: rows.filled], at[1][: rows.filled]] = drawn[: rows.filled]
    return scores


LevelTrace = Callable[[TreeLevel, tuple[Tensor, ...], float], Tensor]
"""Function that records a call of ``split_blocks`` for a level, its tensors and the threshold, and returns a tensor of the result's shape."""

_TRACE: ContextVar[LevelTrace | None] = ContextVar("trace", default=None)


@contextmanager
def levels_traced(trace: LevelTrace) -> Iterator[None]:
    """Context manager in which trees call ``trace`` for each level: all levels of a tree are the same function of other tables."""
    token = _TRACE.set(trace)
    try:
        yield
    finally:
        _TRACE.reset(token)


class NodeRows(NamedTuple):
    """Nodes with energy: the first ``filled`` of R rows; the others fill up the vector registers of the CPU.

    Attributes:
        filled: Number of nodes with energy.
        event: ``[R]``.
        node: ``[R]``.
        energy: ``[R]``.
        features: ``[R, f]``, input of the network.
    """

    filled: int
    event: Tensor
    node: Tensor
    energy: Tensor
    features: Tensor


def node_rows(
    level: TreeLevel,
    blocks: Tensor,
    layers: Tensor,
    expected: Tensor,
    threshold: float,
    at: tuple[Tensor, Tensor] | None = None,
) -> NodeRows:
    """Returns the rows of a level.

    Args:
        level: The level; its network is not used.
        blocks: ``[E, A]`` energies before the split.
        layers: ``[E, L]`` energies of the layers.
        expected: ``[E, L, 2]`` expected centers of gravity.
        threshold: Smallest energy of a cell.
        at: ``event[R]``, in order, and ``node[R]`` of the rows; all nodes with energy by default.
    """
    energies = blocks.index_select(1, level.parent)
    filled, event, node = _with_energy(energies) if at is None else (len(at[0]), *at)
    energy = _pick(energies, event, node[:, None])[:, 0]
    if use_kernels(blocks, layers, expected):
        names = ("parent", "layer", "axis", "neighbors", "overlaps", "weights", "positions")
        tables = *(getattr(level, name) for name in names), level.members, level.moments
        features = node_features(blocks, layers, expected, threshold, (event, node), tables)
        return NodeRows(filled, event, node, energy, features)
    padded = functional.pad(blocks, (0, 1))
    around = _pick(torch.log1p(padded / threshold), event, level.neighbors.index_select(0, node))
    weights = level.weights.index_select(0, node)
    overlaps = _pick(padded, event, level.overlaps.index_select(0, node).flatten(1))
    sides = torch.log1p((overlaps.reshape(weights.shape) * weights).sum(2) / threshold)

    of_layers = _of_layers(level, padded, layers, expected, threshold)
    layer = event * (layers.shape[1] + 2) + level.layer.index_select(0, node) + 1
    own, previous, following = (of_layers.index_select(1, layer + step) for step in (0, -1, 1))
    rows = level.axis.index_select(0, node) == 0
    line, half, half_across, cell, across = level.positions.index_select(1, node).unbind(0)

    def along(values: Tensor, first: int) -> Tensor:
        return torch.where(rows, values[first], values[first + 1])

    def beside(values: Tensor, first: int) -> Tensor:
        return torch.where(rows, values[first + 1], values[first])

    shift, offset = along(own, 0) - line, along(own, 4) - line
    phase = 2 * torch.pi * offset / cell
    columns = [
        torch.log1p(energy / threshold),
        torch.log(energy.clamp_min(threshold) / own[7].clamp_min(threshold)),
        compressed(shift / half),
        compressed(shift / cell),
        along(own, 2),
        compressed((beside(own, 0) - across) / half_across),
        beside(own, 2),
    ]
    for other in (previous, following):
        distance = compressed((along(other, 0) - line) / half)
        columns += [(other[7] > 0) * distance, other[6]]
    columns += [
        compressed(offset / half),
        compressed(offset / cell),
        (offset / cell).clamp(-3, 3),
        torch.sin(phase),
        torch.cos(phase),
        compressed((beside(own, 4) - across) / half_across),
    ]
    features = torch.cat([around, sides, torch.stack(columns, 1)], 1)
    return NodeRows(filled, event, node, energy, features)


def compressed(x: Tensor) -> Tensor:
    """Returns about ``x`` for small values, and the logarithm of large values, with the sign of ``x``."""
    return torch.copysign(torch.log1p(x.abs()), x)


def _pick(values: Tensor, event: Tensor, columns: Tensor) -> Tensor:
    """Returns ``values[event[:, None], columns]``, several times faster."""
    at = (event * values.shape[1])[:, None] + columns
    return values.reshape(-1).index_select(0, at.reshape(-1)).reshape(columns.shape)


FEATURES = 14 + 4 + 7 + 4 + 6
"""Number of features of a node: neighbors, sides, its own, of adjacent layers, of the conditions."""


def _with_energy(energies: Tensor) -> tuple[int, Tensor, Tensor]:
    """Returns the number of nodes with energy, their events and their nodes, filled up; on a GPU all, without synchronization."""
    events, nodes = energies.shape
    if energies.device.type == "cpu" and not torch.compiler.is_compiling():
        event, node = (energies > 0).nonzero(as_tuple=True)
        fill = (0, -len(event) % VECTOR)
        return len(event), functional.pad(event, fill), functional.pad(node, fill)
    every = torch.arange(events, device=energies.device)
    each = torch.arange(nodes, device=energies.device)
    return events * nodes, every[:, None].expand(events, nodes).reshape(-1), each.repeat(events)


def _of_layers(
    level: TreeLevel, padded: Tensor, layers: Tensor, expected: Tensor, threshold: float
) -> Tensor:
    """Returns ``[8, E * (L + 2)]`` quantities of the layers, between two layers of zeros.

    They are the center of gravity along both axes, the logarithm of its variance, the expected center of gravity, the logarithm of the
    energy, and the energy.
    """
    # A product per layer: batched products are rounded differently in batches of another size.
    pairs = zip(level.members, level.moments, strict=True)
    sums = torch.stack([padded.index_select(1, members) @ moments for members, moments in pairs], 1)
    total, *means = sums.unbind(2)
    x, y, xx, yy = (mean / total.clamp_min(1e-9) for mean in means)
    spreads = [torch.log((s - m * m).clamp_min(0) + 1e-5) for s, m in ((xx, x), (yy, y))]
    columns = [x, y, *spreads, *expected.unbind(2), torch.log1p(layers / threshold), layers]
    return functional.pad(torch.stack(columns), (1, 1)).flatten(1)


def context_of(known: Tensor, score: Tensor, energies: Tensor, threshold: float) -> Tensor:
    """Returns the context ``[E, q]`` of the networks.

    Args:
        known: Conditions ``[E, C]``.
        score: Rank score ``[E, 1]`` of the visible over the incident energy: a logarithm would hide its small fluctuations.
        energies: ``[E, L]``, whose logarithms are used.
        threshold: Smallest energy of a cell.
    """
    return torch.cat([known, score, torch.log1p(energies / threshold)], 1)


def block_energies(levels: tuple[TreeLevel, ...], cells: Tensor) -> list[Tensor]:
    """Returns the energies before each level, and the cells."""
    by_cell = cells.T.contiguous()
    return [sums_of_blocks(by_cell, *blocks) for blocks in blocks_of_cells(levels)] + [cells]


def blocks_of_cells(levels: tuple[TreeLevel, ...]) -> list[tuple[Tensor, int]]:
    """Returns the block ``[F]`` of each cell before each level, and the number of blocks."""
    result: list[tuple[Tensor, int]] = []
    for level in reversed(levels):
        before = level.kept.new_empty(level.blocks)
        before[level.kept[1]] = level.kept[0]
        before[level.children] = level.parent[:, None]
        blocks = len(level.parent) + level.kept.shape[1]
        result.insert(0, (before[result[0][0]] if result else before, blocks))
    return result


def sums_of_blocks(by_cell: Tensor, block: Tensor, blocks: int) -> Tensor:
    """Returns the sums ``[E, A]`` of cells ``[F, E]`` whose blocks are ``block[F]``."""
    sums = by_cell.new_zeros(blocks, by_cell.shape[1])
    return sums.index_add(0, block, by_cell).T.contiguous()


def polynomials(c: Tensor, degree: int) -> Tensor:
    """Returns all products ``[E, P]`` of at most ``degree`` columns of ``c[E, C]``."""
    columns = torch.split(c, 1, 1) if c.shape[1] else ()
    products = [c.new_ones(c.shape[0], 1)]
    # Products that begin with each column; those of the next order multiply a column with all that begin with it or a later one.
    first = list(columns)
    for _ in range(degree if columns else 0):
        products += first
        first = [column * torch.cat(first[i:], 1) for i, column in enumerate(columns)]
    return torch.cat(products, 1)

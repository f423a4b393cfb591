"""Fit of a tree: one network for each level, by maximum likelihood."""

import dataclasses
from typing import NamedTuple, Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import Noise
from hepgan.data.encoding.density.distributions import (
    SPLIT,
    split_limits,
    split_log_likelihood,
    typical_split,
)
from hepgan.data.encoding.density.levels import Shape, build_levels
from hepgan.data.encoding.density.network import (
    FitSettings,
    FitStatus,
    FitTask,
    Fitted,
    RowNetwork,
    Rows,
    fit_rows,
)
from hepgan.data.encoding.density.tree import (
    FEATURES,
    Tree,
    TreeLevel,
    block_energies,
    blocks_of_cells,
    node_rows,
    polynomials,
    sums_of_blocks,
)
from hepgan.data.encoding.weighted import least_squares
from hepgan.random_streams import torch_generator

_MOST_POLYNOMIALS = 300
_MARGIN = 0.1
"""Margin of the range of a node's logits, relative to the range in the training events."""

_LEAST_MARGIN = 0.02
"""Smallest margin, around a constant."""

_LEAST_SPLITS = 100
"""Number of splits in which neither part is empty that give the range of a node."""

_PER_EVENT = 64
"""Number of nodes per event to which a level is fitted, on average."""

_LEAST_PROBABILITY = 0.05
"""Smallest probability with which a node is used for the fit."""

_CHUNK = 2000
"""Number of events whose features are computed at once."""


class TreeFit(NamedTuple):
    """Data of the fit of a tree.

    Attributes:
        levels: Levels without networks.
        cells: ``[E, F]``.
        energies: ``[E, L]``.
        context: ``[E, q]``.
        shapes: Shapes of the layers.
        known: ``[E, C]`` conditions.
        threshold: Smallest energy of a cell.
        weights: ``[E]`` weights of the events; ``None`` if they are all equal.
    """

    levels: tuple[TreeLevel, ...]
    cells: Tensor
    energies: Tensor
    context: Tensor
    shapes: tuple[Shape, ...]
    known: Tensor
    threshold: float
    weights: Tensor | None

    @classmethod
    def prepare(
        cls,
        shapes: tuple[Shape, ...],
        polar: bool,
        cells: Tensor,
        energies: Tensor,
        known: Tensor,
        context: Tensor,
        threshold: float,
        weights: Tensor | None,
    ) -> Self:
        """Returns the data of a fit; the rows of ``polar`` layers are a full circle."""
        none = RowNetwork.initial(FEATURES, 0, torch.zeros(1, SPLIT), 1, torch.Generator())
        levels = _with_ranges(build_levels(shapes, (polar, False), none), cells)
        return cls(levels, cells, energies, context, shapes, known, threshold, weights)

    def tasks(
        self, noise: Noise, settings: FitSettings, start: Tree | None = None
    ) -> list[FitTask]:
        """Returns the fits of all levels, from the networks of ``start``, a tree of the same shapes, if there is one."""
        tree = self.tree([level.network for level in self.levels])
        expected = tree.expected(self.known)
        blocks = blocks_of_cells(self.levels)

        def task(number: int) -> FitTask:
            def fit(status: FitStatus) -> Fitted:
                rng = torch_generator(noise.seed, "encoding", *noise.children, number)
                # Here, not for all levels at once, which would need several times the memory of the cells.
                by_cell = self.cells.T.contiguous()
                before = sums_of_blocks(by_cell, *blocks[number])
                last = number + 1 == len(self.levels)
                after = self.cells if last else sums_of_blocks(by_cell, *blocks[number + 1])
                return self._fit_level(
                    self.levels[number],
                    before,
                    after,
                    expected,
                    rng,
                    settings,
                    status,
                    start.levels[number].network if start else None,
                )

            return fit

        return [task(number) for number in range(len(self.levels))]

    def _fit_level(
        self,
        level: TreeLevel,
        before: Tensor,
        after: Tensor,
        expected: Tensor,
        rng: torch.Generator,
        settings: FitSettings,
        status: FitStatus,
        network: RowNetwork | None,
    ) -> Fitted:
        parts = []
        for start in range(0, len(before), _CHUNK):
            status.check()
            part = slice(start, start + _CHUNK)
            blocks = before[part]
            event, node = (blocks[:, level.parent] > 0).nonzero(as_tuple=True)
            fractions = (
                blocks[event, level.parent[node]] / self.energies[part][event, level.layer[node]]
            )
            chosen, weights = _thinned(fractions, len(blocks), rng)
            rows = node_rows(
                level, blocks, self.energies[part], expected[part], self.threshold, (event[chosen], node[chosen])
            )  # fmt: skip
            parts.append((rows.event + start, rows.node, rows.energy, rows.features, weights))
        event, node, energy, features, weights = (
            torch.cat(column) for column in zip(*parts, strict=True)
        )
        first, second = after[event[:, None], level.children[node]].unbind(1)
        ends, log_both = split_limits(energy, self.threshold, level.ranges[:, node])
        kinds = torch.where(second <= 0, 0, torch.where(first <= 0, 1, 2))
        logit = torch.minimum(torch.maximum(_logits(first, second), ends[0]), ends[1])
        logits = torch.cat([logit[None], ends])

        if self.weights is not None:
            weights = weights * self.weights[event]

        def likelihood(parameters: Tensor, rows: Tensor) -> Tensor:
            return split_log_likelihood(
                parameters, kinds[rows], logits.index_select(1, rows), log_both[rows], weights[rows]
            )

        outputs = typical_split(kinds, logits[0], node, len(level.parent))
        data = Rows(features, self.context, event, node)
        return fit_rows(data, likelihood, outputs, rng, settings, status, network)

    def tree(self, networks: list[RowNetwork]) -> Tree:
        """Returns the tree with these networks."""
        degree = next(
            d for d in (3, 2, 1, 0)
            if polynomials(self.known[:1], d).shape[1] <= min(_MOST_POLYNOMIALS, len(self.known) / 20) or d == 0
        )  # fmt: skip
        levels = tuple(
            dataclasses.replace(level, network=network)
            for level, network in zip(self.levels, networks, strict=True)
        )
        return Tree(self.threshold, self._expected_centers(degree), degree, levels)

    def _expected_centers(self, degree: int) -> Tensor:
        """Returns the coefficients of the centers of gravity, fitted with a weight that grows with the energy of the layer."""
        regressors = polynomials(self.known, degree).double()
        centers, first = [], 0
        for layer, (rows, columns) in enumerate(self.shapes):
            cells = (
                self.cells[:, first : first + rows * columns].double().reshape(-1, rows, columns)
            )
            first += rows * columns
            energy = self.energies[:, layer].double()
            x, y = ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5 for n in (rows, columns))
            positions = torch.stack([cells.sum(2) @ x, cells.sum(1) @ y], 1) / energy[
                :, None
            ].clamp_min(1e-9)
            weight = (energy / energy.mean().clamp_min(1e-9)).clamp_max(9).sqrt()[:, None]
            centers.append(least_squares(weight * regressors, weight * positions))
        return torch.stack(centers).float()


def _thinned(fractions: Tensor, events: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns which of R nodes are used for the fit, and their weights.

    A shower has many nodes with little energy, all alike, and few in its core. Nodes are chosen at random with a probability that grows
    with the root of their fraction of the layer's energy, and weighted by its inverse: each step then sees more showers.

    Args:
        fractions: ``[R]``, energies as fractions of their layers'.
        events: Number of events.
        rng: Generator of the choice.
    """
    wanted, scale = _PER_EVENT * events, 1.0
    size, probability = fractions.sqrt(), torch.ones_like(fractions)
    if len(fractions) <= wanted:
        return torch.ones_like(fractions, dtype=torch.bool), probability
    for _ in range(20):
        probability = (scale * size).clamp(_LEAST_PROBABILITY, 1)
        scale *= wanted / float(probability.sum())
    chosen = torch.rand(len(fractions), generator=rng) < probability
    return chosen, 1 / probability[chosen]


def _logits(first: Tensor, second: Tensor) -> Tensor:
    """Returns the logits of the first parts' fractions."""
    return torch.log(first.clamp_min(1e-30)) - torch.log(second.clamp_min(1e-30))


def _with_ranges(levels: tuple[TreeLevel, ...], cells: Tensor) -> tuple[TreeLevel, ...]:
    """Returns the levels with the ranges of logits in ``cells[E, F]``, a tenth wider on both sides.

    A node with few splits of which neither part is empty keeps a wide range.
    """
    ends = [torch.stack([level.ranges[1], level.ranges[0]]) for level in levels]
    counts = [torch.zeros(len(level.parent)) for level in levels]
    for part in torch.split(cells, _CHUNK):
        energies = block_energies(levels, part)[1:]
        for number, (level, after) in enumerate(zip(levels, energies, strict=True)):
            first, second = after[:, level.children].unbind(2)
            both = (first > 0) & (second > 0)
            logit, (low, high) = _logits(first, second), level.ranges
            smallest = torch.where(both, logit, high).amin(0)
            largest = torch.where(both, logit, low).amax(0)
            counts[number] += both.sum(0)
            low, high = ends[number]
            ends[number] = torch.stack([low.minimum(smallest), high.maximum(largest)])
    ranges = []
    for level, (low, high), count in zip(levels, ends, counts, strict=True):
        margin = (_MARGIN * (high - low)).clamp_min(_LEAST_MARGIN)
        wider = torch.stack([low - margin, high + margin])
        ranges.append(torch.where(count >= _LEAST_SPLITS, wider, level.ranges))
    return tuple(
        dataclasses.replace(level, ranges=of_level)
        for level, of_level in zip(levels, ranges, strict=True)
    )

"""The encoding step ``energy_tree``: normal scores of a shower, conditional on all conditions, for any number of layers.

The visible energy is split between the layers, and the energy of each layer between its cells, down a binary tree. Every split has a
conditional distribution given the conditions and what has been split before, from a network that is fitted by maximum likelihood. Sums
hold by construction; empty layers and cells are parts without energy. A shower is described from coarse to fine, as images are by
Wavelet Flow (arXiv:2010.13821).
"""

import dataclasses
import math
from typing import Annotated, NamedTuple, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import (
    ColumnLayout,
    Noise,
    NotNegative,
    Positive,
    register_step,
    uniform,
)
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.density.distributions import (
    LogisticSpline,
    Tails,
    normal_scores,
    standard_spline,
)
from hepgan.data.encoding.density.levels import Shape
from hepgan.data.encoding.density.network import (
    FitSettings,
    FitStatus,
    FitTask,
    Fitted,
    RowNetwork,
    Rows,
    about_fit,
    check_events,
    fill_vectors,
    fit_rows,
    run_tasks,
)
from hepgan.data.encoding.density.ranks import Ranks
from hepgan.data.encoding.density.spectrum import Spectrum
from hepgan.data.encoding.density.tree import (
    Tree,
    blocks_of_cells,
    context_of,
    sums_of_blocks,
)
from hepgan.data.encoding.density.tree_fit import TreeFit
from hepgan.data.encoding.kernels import use_kernels
from hepgan.data.encoding.layer_energies import positive, unit_of
from hepgan.data.units import ENERGY_UNITS
from hepgan.errors import DataError, RunError
from hepgan.progress import ProgressCallback, no_progress
from hepgan.random_streams import torch_generator
from hepgan.threads import by_chunks

_SPECTRUM_EVENTS = 10_000
"""Number of events whose spectra are compared."""

_LARGEST_FRACTION = 10.0
"""Largest median of visible over incident energy: above it, a unit is wrong."""


@register_step("energy_tree")
@dataclasses.dataclass(frozen=True)
class EnergyTree:
    """Normal scores of the visible energy and of its splits between layers and cells, in the columns of the cells.

    Attributes:
        columns: ``[F]`` columns of ``x`` that hold cells.
        conditions: ``[C]`` columns of ``c`` on which the distributions depend.
        incident: Column of the incident energy in ``c``, or −1 for none.
        incident_scale: Scale of that column.
        unit: Unit of the incident energy in the unit of the cells.
        threshold: Smallest energy of a cell.
        ranks: Scores of the visible energy, as a fraction of the incident energy.
        total: Network of their conditional distribution.
        calibration: Ranks of the conditional scores, which makes their distribution exactly normal.
        depth: Splits between layers.
        cells: Splits between the cells of each layer.
        spectrum: Correction of the spectra of small cell energies.
        log_likelihood: Log-likelihood per held-out event, in nats.
        events: Number of events of the fit.
    """

    columns: Tensor
    conditions: Tensor
    incident: int
    incident_scale: ConditionScale
    unit: float
    threshold: float
    ranks: Ranks
    total: RowNetwork
    calibration: Ranks
    depth: Tree
    cells: Tree
    spectrum: Spectrum
    log_likelihood: float
    events: int

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        progress: ProgressCallback = no_progress,
        weights: Tensor | None = None,
        start: Self | None = None,
        *,
        threshold: Positive,
        incident: str = "",
        fields: tuple[str, ...] = (),
        conditions: tuple[str, ...] = (),
        polar: bool = False,
        hidden: Annotated[int, Within(1, 4096)] = 64,
        steps: Annotated[int, Within(1, 10**7)] = 2500,
        learning_rate: Positive = 4e-3,
        weight_decay: NotNegative = 1e-3,
        held_out: Annotated[float, Within(0, 0.9, above=True)] = 0.1,
        spectrum: bool = True,
    ) -> Self:
        """Fits a network to each level of the tree, in parallel on the threads of torch.

        Args:
            x: Features ``[E, F]``.
            c: Encoded conditions ``[E, C]``.
            columns: Columns of the fields and conditions.
            noise: Random numbers.
            progress: Progress callback.
            weights: Weights ``[E]`` of the events, which add up to E and may be negative.
            start: Step whose networks a second fit starts from, with a quarter of the steps; held-out events choose between both.
            threshold: Energies of cells at or below it are 0.
            incident: Condition that is the incident energy, which divides the visible energy.
            fields: Fields that are layers, in order of depth; all by default. A field with three axes is a layer per index of the first.
            conditions: Conditions on which the distributions depend; all by default.
            polar: The last axis of a layer is r, and the axis before it a full circle in α.
            hidden: Number of hidden units of each network.
            steps: Number of optimizer steps of each network.
            learning_rate: Largest learning rate.
            weight_decay: Decoupled weight decay.
            held_out: Fraction of the events whose likelihood chooses the best of ten states of each network.
            spectrum: Whether to correct the spectra of small cell energies, which may have lines.

        Raises:
            RunError: an unknown field or condition, a missing unit, or a layer with more than two axes.
            DataError: an incident energy that is not positive, no energy at all, far more energy than incident, or too few events.
        """
        shapes, at = _layers(columns, fields)
        chosen = columns.condition_columns(conditions)
        column, scale, unit = _incident(columns, incident, fields)
        check_events(len(x))
        cells = _cut(x[:, at], threshold)
        layers = _layer_energies(shapes, cells)
        if not (layers > 0).any():
            raise DataError(
                f"no cell of any event has more than the threshold of {threshold:g}; check the threshold and the units"
            )
        fraction = layers.sum(1).double() / positive(_incident_energy(c, column, scale, unit))
        if incident:
            _check_fraction(fraction, columns, (fields or tuple(columns.fields))[0], incident)
        ranks = Ranks.fit(fraction, weights)
        scores = ranks.encode(fraction, uniform(fraction[:, None], noise.child("total"))[:, 0])
        known = c[:, chosen].float()
        settings = FitSettings(hidden, steps, 1024, learning_rate, weight_decay, held_out)

        single = None if weights is None else weights.to(cells)
        inputs = _Inputs(shapes, polar, cells, layers, known, scores, threshold, single)
        total, depth, tree, log_likelihood = inputs.fit(noise, settings, progress, start)
        conditional = _total_spline(total, known).cdf(scores[None]).scores()[0]
        sizes = torch.tensor([rows * columns for rows, columns in shapes])
        layer = torch.repeat_interleave(torch.arange(len(shapes)), sizes)
        step = cls(
            at, chosen, column, scale, unit, threshold, ranks, total, Ranks.fit(conditional, weights),
            depth, tree, Spectrum.identity(layer, threshold), log_likelihood,
            len(x),
        )  # fmt: skip
        if not spectrum:
            return step
        return dataclasses.replace(step, spectrum=step._fit_spectrum(cells, c, noise, weights))

    def _fit_spectrum(
        self, cells: Tensor, c: Tensor, noise: Noise, weights: Tensor | None
    ) -> Spectrum:
        """Returns the correction between generated and training showers of the same conditions."""
        events = slice(0, _SPECTRUM_EVENTS)
        few = dataclasses.replace(noise.child("spectrum"), entries=noise.entries[events])
        reference, c = cells[events], c[events].float()
        scores = normal_scores(uniform(reference, few))
        with torch.no_grad():
            generated = by_chunks(lambda part: self._cells(scores[part], c[part]), len(c))
        weights = None if weights is None else weights[events]
        return Spectrum.fit(generated, reference, self.spectrum.layer, self.threshold, weights)

    def summary(self) -> str:
        """Returns the networks and the quality of the fit in one line."""
        levels = (*self.depth.levels, *self.cells.levels)
        networks = [self.total, *(level.network for level in levels)]
        return about_fit(networks, self.log_likelihood, self.events)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the normal scores in the columns of the cells; other columns are unchanged."""
        if not use_kernels(self.total.output):
            return self._encode(x, c, noise)

        def part(events: slice) -> Tensor:
            few = dataclasses.replace(noise, entries=noise.entries[events])
            return self._encode(x[events], c[events], few)

        return by_chunks(part, len(x))

    def _encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        cells = self.spectrum.to_generated(_cut(x[:, self.columns], self.threshold))
        blocks = blocks_of_cells(self.cells.levels)
        layers = sums_of_blocks(cells.T.contiguous(), *blocks[0]) if blocks else cells
        total = layers.sum(1)
        energy = _incident_energy(c, self.incident, self.incident_scale, self.unit)
        known = c[:, self.conditions].to(cells)
        drawn = uniform(cells, noise)
        fraction = self.ranks.encode(total.double() / energy, drawn[:, 0])
        conditional = _total_spline(self.total, known).cdf(fraction[None]).scores()[0]
        first = self.calibration.encode(conditional, drawn[:, 0])[:, None]
        normal = normal_scores(uniform(cells, noise.child("unused")))
        between = 1 + self.depth.splits
        score = fraction[:, None].to(known)
        depth = self.depth.encode(
            layers, known, context_of(known, score, total[:, None], self.threshold),
            drawn[:, 1:between], normal[:, 1:between],
        )  # fmt: skip
        inside = self.cells.encode(
            cells, known, context_of(known, score, layers, self.threshold),
            drawn[:, between:], normal[:, between:],
        )  # fmt: skip
        scores = torch.cat([first, depth, inside], 1) + _nan(cells)
        return x.to(scores).index_copy(1, self.columns, scores)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the cells."""
        if not use_kernels(x, c):
            return fill_vectors(self._decode, x, c)

        def part(events: slice) -> Tensor:
            # Events that are not finite have no nodes.
            return fill_vectors(self._decode, x[events], c[events], math.nan)

        return by_chunks(part, len(x))

    def _decode(self, x: Tensor, c: Tensor) -> Tensor:
        scores = x[:, self.columns]
        cells = self.spectrum.to_reference(self._cells(scores, c))
        return x.index_copy(1, self.columns, cells + _nan(scores))

    def _cells(self, scores: Tensor, c: Tensor) -> Tensor:
        """Returns the cells ``[E, F]`` of ``scores[E, F]``, before the correction of their spectra."""
        known = c[:, self.conditions].to(scores)
        conditional = Tails.of_scores(self.calibration.decode(scores[:, 0]))
        # Within the range of the ranks, so that encoding returns the same score.
        smallest, largest = self.ranks.scores[0], self.ranks.scores[-1]
        score = _total_spline(self.total, known).quantile(conditional).clamp(smallest, largest)
        fraction = self.ranks.decode(score)
        energy = _incident_energy(c, self.incident, self.incident_scale, self.unit)
        total = (fraction * energy.to(scores))[:, None]
        total = torch.where(total > self.threshold, total, torch.zeros_like(total))
        between = 1 + self.depth.splits
        context = context_of(known, score[:, None], total, self.threshold)
        layers = self.depth.decode(scores[:, 1:between], total, known, context)
        context = context_of(known, score[:, None], layers, self.threshold)
        return self.cells.decode(scores[:, between:], layers, known, context)


class _Inputs(NamedTuple):
    """Inputs of the fit of the networks.

    Attributes:
        shapes: Shapes of the L layers.
        polar: Whether the rows of a layer are a full circle.
        cells: ``[E, F]``.
        layers: Energies ``[E, L]`` of the layers.
        known: Conditions ``[E, C]``.
        scores: Scores ``[E]`` of the visible over the incident energy.
        threshold: Smallest energy of a cell.
        weights: ``[E]``; ``None`` if they are all equal.
    """

    shapes: tuple[Shape, ...]
    polar: bool
    cells: Tensor
    layers: Tensor
    known: Tensor
    scores: Tensor
    threshold: float
    weights: Tensor | None

    def fit(
        self,
        noise: Noise,
        settings: FitSettings,
        progress: ProgressCallback,
        start: EnergyTree | None,
    ) -> tuple[RowNetwork, Tree, Tree, float]:
        """Returns the network of the visible energy, the trees of layers and cells, and the log-likelihood per held-out event."""
        total, score = self.layers.sum(1, keepdim=True), self.scores[:, None].float()
        depth = self._tree(((1, len(self.shapes)),), False, self.layers, total, score)
        cells = self._tree(self.shapes, self.polar, self.cells, self.layers, score)
        trees = (start.depth, start.cells) if start else (None, None)
        for fit, tree in zip((depth, cells), trees, strict=True):
            if tree and len(tree.levels) != len(fit.levels):
                raise RunError(
                    "the step to start from splits other layers; use layers of the same shapes"
                )
        first = start.total if start else None
        tasks = [_total_task(self.known, self.scores, noise, settings, self.weights, first)]
        for number, (fit, tree) in enumerate(zip((depth, cells), trees, strict=True)):
            tasks += fit.tasks(noise.child(number), settings, tree)
        of_total, *others = run_tasks(tasks, progress)
        networks = [fitted.network for fitted in others]
        between = len(depth.levels)
        return (
            of_total.network,
            depth.tree(networks[:between]),
            cells.tree(networks[between:]),
            sum(fitted.log_likelihood for fitted in (of_total, *others)),
        )

    def _tree(
        self,
        shapes: tuple[Shape, ...],
        polar: bool,
        cells: Tensor,
        energies: Tensor,
        score: Tensor,
    ) -> TreeFit:
        context = context_of(self.known, score, energies, self.threshold)
        return TreeFit.prepare(
            shapes, polar, cells, energies, self.known, context, self.threshold, self.weights
        )


def _check_fraction(fraction: Tensor, columns: ColumnLayout, field: str, incident: str) -> None:
    """Checks that showers have about the incident energy; far more is a wrong unit."""
    if (median := float(fraction.median())) > _LARGEST_FRACTION:
        raise DataError(
            f"the median of visible over incident energy is {median:,.0f}, more than is physical; check the units in the schema: cells"
            f" in {columns.units[field]}, {incident} in {columns.units[incident]}"
        )


def _incident(
    columns: ColumnLayout, incident: str, fields: tuple[str, ...]
) -> tuple[int, ConditionScale, float]:
    """Returns the column of the incident energy, its scale, and its unit in the unit of the cells; −1 for the column if there is none."""
    if not incident:
        return -1, ConditionScale((1.0, 1.0)), 1.0
    if incident not in columns.conditions:
        names = ", ".join(columns.conditions) or "none"
        raise RunError(f"incident = '{incident}' is not a condition (known: {names})")
    _check_units(columns, fields)
    unit = unit_of(incident, columns, fields)
    return columns.conditions[incident].start, columns.scales[incident], unit


def _total_task(
    known: Tensor,
    scores: Tensor,
    noise: Noise,
    settings: FitSettings,
    weights: Tensor | None,
    start: RowNetwork | None,
) -> FitTask:
    """Returns the fit of the distribution of the visible energy's ``scores[E]``, given the conditions ``known[E, C]``."""

    def likelihood(parameters: Tensor, rows: Tensor) -> Tensor:
        spline = LogisticSpline.of(parameters)
        each = spline.cdf_and_log_density(scores[rows][None])[1]
        return each.sum() if weights is None else each[0] @ weights[rows]

    def fit(status: FitStatus) -> Fitted:
        rng = torch_generator(noise.seed, "encoding", *noise.children, "total")
        rows = Rows.of_events(known)
        return fit_rows(rows, likelihood, standard_spline(), rng, settings, status, start)

    return fit


def _total_spline(network: RowNetwork, known: Tensor) -> LogisticSpline:
    return LogisticSpline.of(network(*Rows.of_events(known)))


def _layers(columns: ColumnLayout, fields: tuple[str, ...]) -> tuple[tuple[Shape, ...], Tensor]:
    """Returns the shapes of the layers and the columns of their cells."""
    shapes: list[Shape] = []
    positions = []
    for name in fields or tuple(columns.fields):
        if name not in columns.fields:
            raise RunError(f"fields names '{name}', but the fields are {', '.join(columns.fields)}")
        at = columns.fields[name]
        shape = columns.shapes.get(name, (at.stop - at.start,))
        if len(shape) > 3:
            raise RunError(
                f"the field '{name}' has {len(shape)} axes; a layer has one or two, and a third one in front counts layers"
            )
        rows, cells = (1, 1, *shape)[-2:]
        shapes += [(rows, cells)] * ((at.stop - at.start) // (rows * cells))
        positions.append(torch.arange(at.start, at.stop))
    return tuple(shapes), torch.cat(positions)


def _check_units(columns: ColumnLayout, fields: tuple[str, ...]) -> None:
    for name in fields or tuple(columns.fields):
        if columns.units[name] not in ENERGY_UNITS:
            known = ", ".join(ENERGY_UNITS)
            raise RunError(
                f"the field '{name}' has the unit '{columns.units[name]}', which is not a unit of energy ({known}); correct it in the"
                " schema, or list only the layers in 'fields'"
            )


def _layer_energies(shapes: tuple[Shape, ...], cells: Tensor) -> Tensor:
    sizes = [rows * columns for rows, columns in shapes]
    return torch.stack([part.sum(1) for part in torch.split(cells, sizes, 1)], 1)


def _incident_energy(c: Tensor, column: int, scale: ConditionScale, unit: float) -> Tensor:
    if column < 0:
        return c.new_ones(c.shape[0])
    return scale.decode(c[:, column : column + scale.columns]) * unit


def _nan(values: Tensor) -> Tensor:
    """Returns ``[E, 1]``: NaN for events with a value that is not finite, which the tree takes for an empty part; otherwise 0."""
    return 0 * values.detach().sum(1, keepdim=True)


def _cut(cells: Tensor, threshold: float) -> Tensor:
    """Returns ``cells`` in single precision, and 0 for cells at or below the threshold."""
    cells = cells.float()
    # Not `cells > threshold`, so that NaN stays NaN.
    return torch.where(cells <= threshold, torch.zeros_like(cells), cells)

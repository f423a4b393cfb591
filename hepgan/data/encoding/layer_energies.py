"""Layer energies separated from the shapes: cells as fractions of their layer, layers of the total, the total of the incident energy.

Decoding scales the cells to the layer energies, so that the sums are exact by construction. ``layer_fractions``, ``total_fractions`` and
``incident_fraction`` in sequence are the representation of the CaloChallenge's flows (arXiv:2106.05285).
"""

import dataclasses
from collections.abc import Collection
from typing import Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import (
    ColumnLayout,
    Noise,
    NotNegative,
    Positive,
    register_step,
    uniform,
)
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.kernels import scaled_layers, use_kernels
from hepgan.data.encoding.weighted import mean
from hepgan.data.units import ENERGY_UNITS, energy_ratio
from hepgan.errors import DataError, RunError


@register_step("layer_sums")
@dataclasses.dataclass(frozen=True)
class LayerSums:
    """Appends L columns that determine the energies of the L layers; decoding scales the cells of each layer to them.

    With the layer energies E_i, their sum E, and the layer m of the largest mean energy as reference, the columns are
    ``log(E_i / E_m · E / threshold)`` for the other layers in order, which is positive, or a random number in (-1, 0) for an empty
    layer; and ``-log(1 - E / E_inc / (1 + slack))``, also positive. ``slack`` allows for energy that a shower gains (a positron's
    annihilation adds 1.02 MeV).

    Attributes:
        layers: First and one-past-last column of each layer.
        reference: The index m.
        hottest: Cell with the largest mean energy in each layer; it gets the energy of a layer without hits.
        column: Column of the incident energy in ``c``.
        incident: Scale of that column.
        unit: Unit of the incident energy in the unit of the layers.
        slack: Fraction by which the deposited energy may exceed the incident energy.
        threshold: Smallest energy of a hit; layers and cells at or below it are empty.
    """

    layers: tuple[tuple[int, int], ...]
    reference: int
    hottest: tuple[int, ...]
    column: int
    incident: ConditionScale
    unit: float
    slack: NotNegative
    threshold: Positive

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        weights: Tensor | None = None,
        *,
        incident: str,
        threshold: Positive,
        slack: NotNegative = 0.005,
    ) -> Self:
        """Treats every field as a layer; ``incident`` names the condition that is the incident energy.

        Raises:
            RunError: ``incident`` is not a condition, or a unit is missing.
            DataError: an event deposits more than ``1 + slack`` of its incident energy, or nothing in the layer m.
        """
        position = columns.conditions.get(incident)
        if position is None:
            known = ", ".join(columns.conditions) or "none"
            raise RunError(f"'{incident}' is not a condition (known: {known})")
        layers = tuple((s.start, s.stop) for s in columns.fields.values())
        means = torch.stack([mean(x[:, a:b].sum(1), weights) for a, b in layers])
        hottest = tuple(int(mean(x[:, a:b], weights).argmax()) for a, b in layers)
        step = cls(
            layers, int(means.argmax()), hottest, position.start, columns.scales[incident],
            unit_of(incident, columns), slack, threshold,
        )  # fmt: skip
        step._check(x, c)
        return step

    def _check(self, x: Tensor, c: Tensor) -> None:
        energies = self._energies(_cut(x, self.threshold))
        fraction = energies.sum(1) / positive(self._incident_energy(c))
        if (fraction >= 1 + self.slack).any():
            at = int(fraction.argmax())
            raise DataError(
                f"event {at} deposits {fraction[at].item():.4f} of its incident energy;"
                f" check the units, increase 'slack' (now {self.slack:g}), or use the step 'energy_tree', which has no limit"
            )
        if (empty := energies[:, self.reference] <= 0).any():
            at = int(empty.nonzero()[0, 0])
            raise DataError(
                f"event {at} has no energy in its brightest layer; exclude it with a selection, or use the step 'energy_tree', which"
                " describes empty layers"
            )

    def _energies(self, cells: Tensor) -> Tensor:
        return torch.stack([cells[:, a:b].sum(1) for a, b in self.layers], 1)

    def _incident_energy(self, c: Tensor) -> Tensor:
        width = self.incident.columns
        return self.incident.decode(c[:, self.column : self.column + width]) * self.unit

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns ``[E, F + L]`` for ``cells[E, F]``."""
        cells = _cut(x, self.threshold)
        energies = self._energies(cells)
        total = energies.sum(1, keepdim=True)
        fraction = total[:, 0] / self._incident_energy(c.to(x))
        missing = -torch.log1p(-fraction / (1 + self.slack))
        bright = energies[:, self.reference, None]
        there = energies.clamp_min(self.threshold)
        ratios = torch.log(there / bright * (total / self.threshold))
        ratios = torch.where(energies > 0, ratios, -uniform(energies, noise))
        others = [ratios[:, i] for i in range(len(self.layers)) if i != self.reference]
        return torch.cat([cells, torch.stack([*others, missing], 1)], 1)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns cells whose sums are exactly those of the last L columns; cells below the threshold are 0."""
        count = len(self.layers)
        cells, sums = x[:, :-count], x[:, -count:]
        fraction = -(1 + self.slack) * torch.expm1(-sums[:, -1:]).clamp_max(0)
        total = self._incident_energy(c.to(x))[:, None] * fraction
        # Limited to e^20, so that an untrained network does not overflow.
        yard = torch.log(total.clamp_min(self.threshold) / self.threshold)
        others = torch.exp((sums[:, :-1] - yard).clamp_max(20))
        others = torch.where(sums[:, :-1] <= 0, 0.0, others)
        one, at = torch.ones_like(total), self.reference
        ratios = torch.cat([others[:, :at], one, others[:, at:]], 1)
        energies = total * ratios / ratios.sum(1, keepdim=True)
        if use_kernels(x, energies):
            layers, hottest = torch.tensor(self.layers), torch.tensor(self.hottest)
            return scaled_layers(x, energies, layers, hottest, self.threshold)
        parts = [
            self._scaled(cells[:, a:b], energies[:, i, None], hottest)
            for i, ((a, b), hottest) in enumerate(zip(self.layers, self.hottest, strict=True))
        ]
        return torch.cat(parts, 1)

    def _scaled(self, cells: Tensor, energy: Tensor, hottest: int) -> Tensor:
        """Returns ``cells[E, K]`` scaled to the sum ``energy[E, 1]``."""
        energy = torch.where(energy <= self.threshold, 0.0, energy)
        for _ in range(2):  # twice, because scaling down moves cells below the threshold
            total = cells.sum(1, keepdim=True)
            scale = energy / total.clamp_min(1e-6 * self.threshold)
            cells = _cut(cells * scale, self.threshold)
        total = cells.sum(1, keepdim=True)
        dark = torch.where(total > 0, 0.0, energy)
        there = torch.arange(cells.shape[1], device=cells.device) == hottest
        return cells * (energy / total.clamp_min(self.threshold)) + dark * there


@dataclasses.dataclass(frozen=True)
class Fractions:
    """Divides groups of columns by their sums, which are appended. An empty group has fractions 0 and the sum 0.

    Decoding sets negative fractions and sums to 0 and normalizes the fractions of each group.
    """

    groups: tuple[tuple[int, int], ...]

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns ``[E, F + groups]`` for ``x[E, F]``."""
        sums = [x[:, a:b].sum(1, keepdim=True) for a, b in self.groups]
        return torch.cat([self._multiplied(x, [_inverse(s) for s in sums]), *sums], 1)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the columns of the groups."""
        count = len(self.groups)
        fractions, sums = x[:, :-count], x[:, -count:].clamp_min(0)
        first, last = self.groups[0][0], self.groups[-1][1]
        fractions = torch.cat(
            [fractions[:, :first], fractions[:, first:last].clamp_min(0), fractions[:, last:]], 1
        )
        factors = [
            sums[:, i, None] * _inverse(fractions[:, a:b].sum(1, keepdim=True))
            for i, (a, b) in enumerate(self.groups)
        ]
        return self._multiplied(fractions, factors)

    def _multiplied(self, x: Tensor, factors: list[Tensor]) -> Tensor:
        first, last = self.groups[0][0], self.groups[-1][1]
        parts = [x[:, a:b] * f for (a, b), f in zip(self.groups, factors, strict=True)]
        return torch.cat([x[:, :first], *parts, x[:, last:]], 1)


@register_step("layer_fractions")
@dataclasses.dataclass(frozen=True)
class LayerFractions(Fractions):
    """Divides the cells of each layer by the layer energy; every field is a layer."""

    @classmethod
    def fit(cls, x: Tensor, c: Tensor, columns: ColumnLayout, noise: Noise) -> Self:
        """Appends one column per layer: its energy.

        Raises:
            DataError: a cell is negative.
        """
        _check_not_negative(x)
        return cls(tuple((s.start, s.stop) for s in columns.fields.values()))


@register_step("total_fractions")
@dataclasses.dataclass(frozen=True)
class TotalFractions(Fractions):
    """Divides the columns appended by ``layer_fractions``, or those of all fields without it, by their sum."""

    @classmethod
    def fit(cls, x: Tensor, c: Tensor, columns: ColumnLayout, noise: Noise) -> Self:
        """Appends one column: the total.

        Raises:
            DataError: an energy is negative.
        """
        width = x.shape[1]
        group = (columns.size, width) if width > columns.size else (0, width)
        _check_not_negative(x[:, slice(*group)])
        return cls((group,))


@register_step("incident_fraction")
@dataclasses.dataclass(frozen=True)
class IncidentFraction:
    """Divides columns by the incident energy.

    Attributes:
        mask: ``[F]`` booleans: the columns that are divided.
        column: Column of the incident energy in ``c``.
        incident: Scale of that column.
        unit: Unit of the incident energy in the unit of the fields.
    """

    mask: Tensor
    column: int
    incident: ConditionScale
    unit: float

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        *,
        incident: str,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Applies to ``fields``, or to the last column, which ``total_fractions`` appends.

        Raises:
            RunError: ``incident`` is not a condition, a unit is missing, or no column has been appended.
        """
        position = columns.conditions.get(incident)
        if position is None:
            known = ", ".join(columns.conditions) or "none"
            raise RunError(f"'{incident}' is not a condition (known: {known})")
        mask = columns.mask(fields, x.shape[1])
        if not fields:
            if x.shape[1] == columns.size:
                raise RunError(
                    "it needs a column appended by total_fractions before it; add that step, or give 'fields'"
                )
            mask = torch.arange(x.shape[1]) == x.shape[1] - 1
        unit = unit_of(incident, columns)
        step = cls(mask, position.start, columns.scales[incident], unit)
        positive(step._energy(c)[:, 0])
        return step

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the fractions."""
        return torch.where(self.mask, x / self._energy(c.to(x)), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the energies."""
        return torch.where(self.mask, x * self._energy(c.to(x)), x)

    def _energy(self, c: Tensor) -> Tensor:
        values = self.incident.decode(c[:, self.column : self.column + self.incident.columns])
        return values[:, None] * self.unit


def _inverse(sums: Tensor) -> Tensor:
    """Returns ``1 / sums``, and 0 for sums of 0."""
    there = sums > 0
    return there / torch.where(there, sums, torch.ones_like(sums))


def _check_not_negative(x: Tensor) -> None:
    if (x < 0).any():
        at = int((x < 0).any(1).nonzero()[0, 0])
        raise DataError(
            f"event {at} has a negative energy; set such cells to 0 with the step 'threshold'"
        )


def positive(incident: Tensor) -> Tensor:
    """Returns the incident energies ``[E]`` after checking that they are positive.

    Raises:
        DataError: an incident energy is not positive.
    """
    if not (there := incident > 0).all():
        at = int((~there).nonzero()[0, 0])
        raise DataError(f"event {at} has an incident energy of {incident[at].item():g}")
    return incident


def _cut(cells: Tensor, threshold: float) -> Tensor:
    # Not `cells > threshold`, so that NaN stays NaN.
    return torch.where(cells <= threshold, 0.0, cells)


def unit_of(incident: str, columns: ColumnLayout, layers: Collection[str] = ()) -> float:
    """Returns the unit of the incident energy in the unit of the ``layers``, by default all fields.

    Raises:
        RunError: a unit is not a unit of energy, or the layers have different units.
    """
    layers = layers or columns.fields
    of_layers = {columns.units[name] for name in layers}
    units = {columns.units[incident], *of_layers}
    if len(of_layers) > 1 or not units <= set(ENERGY_UNITS):
        found = ", ".join(f"'{columns.units[n]}' ({n})" for n in [incident, *layers])
        known = ", ".join(ENERGY_UNITS)
        raise RunError(
            f"it needs units of energy in the schema ({known}), one for all layers, but has {found}"
        )
    return energy_ratio(columns.units[incident], of_layers.pop())

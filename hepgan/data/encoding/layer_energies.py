"""Energies of layers apart from their shapes, so that the sums are what they should be by construction."""

import dataclasses
from typing import Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import Columns, ConditionScale, Noise, NotNegative, Positive, uniform
from hepgan.data.schema import ENERGY_UNITS
from hepgan.errors import DataError, RunError


@dataclasses.dataclass(frozen=True)
class LayerSums:
    """Appends L columns that fix the L layers' energies; decoding scales each layer's cells to them.

    Of the layers' energies E_i with the sum E, and the brightest (on average) layer m as the yardstick:
    ``log(E_i / E_m · E / threshold)`` for the others, in order, which is positive, or for an empty layer a random number in
    (-1, 0); and ``-log(1 - E / E_inc / (1 + slack))``, also positive, from the share of the incident energy that is missing.
    ``slack`` leaves room for what a shower may gain (a positron's annihilation adds 1.02 MeV).

    Attributes:
        layers: First and last-but-one column of each layer.
        reference: The index m.
        hottest: In each layer the cell that is hottest on average; it takes the energy of a layer without lit cells.
        column: The incident energy's column of ``c``.
        incident: How that column was made.
        unit: The incident energy's unit in the layers' unit.
        slack: See above.
        threshold: Smallest energy of a cell; weaker layers and cells are empty.
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
        columns: Columns,
        noise: Noise,
        *,
        incident: str,
        threshold: Positive,
        slack: NotNegative = 0.005,
    ) -> Self:
        """Every field is a layer; ``incident`` is the condition that holds the incident energy.

        Raises:
            RunError: ``incident`` is no condition, or a unit is missing.
            DataError: an event deposits more than ``1 + slack`` of its incident energy, or nothing in the layer m.
        """
        place = columns.conditions.get(incident)
        if place is None:
            known = ", ".join(columns.conditions) or "none"
            raise RunError(f"'{incident}' is no condition (there are: {known})")
        layers = tuple((s.start, s.stop) for s in columns.fields.values())
        means = torch.stack([x[:, a:b].sum(1).mean() for a, b in layers])
        hottest = tuple(int(x[:, a:b].mean(0).argmax()) for a, b in layers)
        step = cls(
            layers, int(means.argmax()), hottest, place.start, columns.scales[incident],
            unit_of(incident, columns), slack, threshold,
        )  # fmt: skip
        step._check(x, c)
        return step

    def _check(self, x: Tensor, c: Tensor) -> None:
        energies = self._energies(_cut(x, self.threshold))
        share = energies.sum(1) / positive(self._incident_energy(c))
        if (share >= 1 + self.slack).any():
            at = int(share.argmax())
            raise DataError(
                f"event {at} deposits {share[at].item():.4f} of its incident energy;"
                f" check the units, or allow more with 'slack' (now {self.slack:g})"
            )
        if (empty := energies[:, self.reference] <= 0).any():
            at = int(empty.nonzero()[0, 0])
            raise DataError(f"event {at} has no energy in its brightest layer")

    def _energies(self, cells: Tensor) -> Tensor:
        return torch.stack([cells[:, a:b].sum(1) for a, b in self.layers], 1)

    def _incident_energy(self, c: Tensor) -> Tensor:
        width = self.incident.columns
        return self.incident.decode(c[:, self.column : self.column + width]) * self.unit

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """``cells[E, F]`` to ``[E, F + L]``."""
        cells = _cut(x, self.threshold)
        energies = self._energies(cells)
        total = energies.sum(1, keepdim=True)
        share = total[:, 0] / self._incident_energy(c.to(x))
        missing = -torch.log1p(-share / (1 + self.slack))
        bright = energies[:, self.reference, None]
        there = energies.clamp_min(self.threshold)
        ratios = torch.log(there / bright * (total / self.threshold))
        ratios = torch.where(energies > 0, ratios, -uniform(energies, noise))
        others = [ratios[:, i] for i in range(len(self.layers)) if i != self.reference]
        return torch.cat([cells, torch.stack([*others, missing], 1)], 1)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Cells whose sums are exactly what the last L columns say; cells below the threshold are 0."""
        count = len(self.layers)
        cells, sums = x[:, :-count], x[:, -count:]
        share = -(1 + self.slack) * torch.expm1(-sums[:, -1:]).clamp_max(0)
        total = self._incident_energy(c.to(x))[:, None] * share
        # No ratio beyond e^20, so that no untrained network overflows.
        yard = torch.log(total.clamp_min(self.threshold) / self.threshold)
        others = torch.exp((sums[:, :-1] - yard).clamp_max(20))
        others = torch.where(sums[:, :-1] <= 0, torch.zeros_like(others), others)
        one, at = torch.ones_like(total), self.reference
        ratios = torch.cat([others[:, :at], one, others[:, at:]], 1)
        energies = total * ratios / ratios.sum(1, keepdim=True)
        parts = [
            self._scaled(cells[:, a:b], energies[:, i, None], hottest)
            for i, ((a, b), hottest) in enumerate(zip(self.layers, self.hottest, strict=True))
        ]
        return torch.cat(parts, 1)

    def _scaled(self, cells: Tensor, energy: Tensor, hottest: int) -> Tensor:
        """``cells[E, K]`` with the sum ``energy[E, 1]``; twice, because the first time some fall below the threshold."""
        energy = torch.where(energy <= self.threshold, torch.zeros_like(energy), energy)
        for _ in range(2):
            total = cells.sum(1, keepdim=True)
            scale = energy / total.clamp_min(1e-6 * self.threshold)
            cells = _cut(cells * scale, self.threshold)
        total = cells.sum(1, keepdim=True)
        dark = torch.where(total > 0, torch.zeros_like(energy), energy)
        there = torch.arange(cells.shape[1], device=cells.device) == hottest
        return cells * (energy / total.clamp_min(self.threshold)) + dark * there


def positive(incident: Tensor) -> Tensor:
    """Returns the incident energies ``[E]`` of training events.

    Raises:
        DataError: one of them is not positive.
    """
    if not (there := incident > 0).all():
        at = int((~there).nonzero()[0, 0])
        raise DataError(f"event {at} has an incident energy of {incident[at].item():g}")
    return incident


def _cut(cells: Tensor, threshold: float) -> Tensor:
    # Not `cells > threshold`: NaN stays NaN.
    return torch.where(cells <= threshold, torch.zeros_like(cells), cells)


def unit_of(incident: str, columns: Columns) -> float:
    """The incident energy's unit in the layers' unit.

    Raises:
        RunError: a unit is not one of energy, or layers differ in theirs.
    """
    of_layers = {columns.units[name] for name in columns.fields}
    units = {columns.units[incident], *of_layers}
    if len(of_layers) > 1 or not units <= set(ENERGY_UNITS):
        found = ", ".join(f"'{columns.units[n]}' ({n})" for n in [incident, *columns.fields])
        known = ", ".join(ENERGY_UNITS)
        raise RunError(
            f"it needs units of energy in the schema ({known}), one for all layers, but has {found}"
        )
    return ENERGY_UNITS[columns.units[incident]] / ENERGY_UNITS[of_layers.pop()]

"""Energies as fractions of sums: cells of their layer, layers of the total, the total of the incident energy.

One after the other they are what the flows of the CaloChallenge start from (arXiv:2106.05285): what a layer holds and how it
is shared out are apart, and decoding shares out exactly what the sums say.
"""

import dataclasses
from typing import Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import Columns, ConditionScale, Noise
from hepgan.data.encoding.layer_energies import positive, unit_of
from hepgan.errors import DataError, RunError


@dataclasses.dataclass(frozen=True)
class Fractions:
    """Groups of columns divided by their sums, which are appended. An empty group has fractions 0 and the sum 0.

    Decoding clips negative fractions at 0 and shares a group's sum out among the others; a sum below 0 counts as 0.
    """

    groups: tuple[tuple[int, int], ...]

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """``x[E, F]`` to ``[E, F + groups]``."""
        sums = [x[:, a:b].sum(1, keepdim=True) for a, b in self.groups]
        return torch.cat([self._multiplied(x, [_inverse(s) for s in sums]), *sums], 1)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back to the groups' own columns."""
        count = len(self.groups)
        shares, sums = x[:, :-count], x[:, -count:].clamp_min(0)
        first, last = self.groups[0][0], self.groups[-1][1]
        shares = torch.cat(
            [shares[:, :first], shares[:, first:last].clamp_min(0), shares[:, last:]], 1
        )
        factors = [
            sums[:, i, None] * _inverse(shares[:, a:b].sum(1, keepdim=True))
            for i, (a, b) in enumerate(self.groups)
        ]
        return self._multiplied(shares, factors)

    def _multiplied(self, x: Tensor, factors: list[Tensor]) -> Tensor:
        first, last = self.groups[0][0], self.groups[-1][1]
        parts = [x[:, a:b] * f for (a, b), f in zip(self.groups, factors, strict=True)]
        return torch.cat([x[:, :first], *parts, x[:, last:]], 1)


@dataclasses.dataclass(frozen=True)
class LayerFractions(Fractions):
    """Every field is a layer."""

    @classmethod
    def fit(cls, x: Tensor, c: Tensor, columns: Columns, noise: Noise) -> Self:
        """Appends a column with the energy of each layer.

        Raises:
            DataError: a cell is negative.
        """
        _check_not_negative(x)
        return cls(tuple((s.start, s.stop) for s in columns.fields.values()))


@dataclasses.dataclass(frozen=True)
class TotalFractions(Fractions):
    """The columns that ``layer_fractions`` has appended are one group; without it, those of all fields are."""

    @classmethod
    def fit(cls, x: Tensor, c: Tensor, columns: Columns, noise: Noise) -> Self:
        """Appends a column with the total.

        Raises:
            DataError: an energy is negative.
        """
        width = x.shape[1]
        group = (columns.size, width) if width > columns.size else (0, width)
        _check_not_negative(x[:, slice(*group)])
        return cls((group,))


@dataclasses.dataclass(frozen=True)
class IncidentFraction:
    """Columns divided by the incident energy.

    Attributes:
        mask: ``[F]`` booleans: which columns.
        column: The incident energy's column of ``c``.
        incident: How that column was made.
        unit: The incident energy's unit in the fields' unit.
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
        columns: Columns,
        noise: Noise,
        *,
        incident: str,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Of ``fields``, or of the last column, where ``total_fractions`` has put the total.

        Raises:
            RunError: ``incident`` is no condition, a unit is missing, or no column has been appended.
        """
        place = columns.conditions.get(incident)
        if place is None:
            known = ", ".join(columns.conditions) or "none"
            raise RunError(f"'{incident}' is no condition (there are: {known})")
        mask = columns.mask(fields, x.shape[1])
        if not fields:
            if x.shape[1] == columns.size:
                raise RunError("it comes after total_fractions, or names its 'fields'")
            mask = torch.arange(x.shape[1]) == x.shape[1] - 1
        unit = unit_of(incident, columns)
        step = cls(mask, place.start, columns.scales[incident], unit)
        positive(step._energy(c)[:, 0])
        return step

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Energies to fractions."""
        return torch.where(self.mask, x / self._energy(c.to(x)), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Fractions to energies."""
        return torch.where(self.mask, x * self._energy(c.to(x)), x)

    def _energy(self, c: Tensor) -> Tensor:
        values = self.incident.decode(c[:, self.column : self.column + self.incident.columns])
        return values[:, None] * self.unit


def _inverse(sums: Tensor) -> Tensor:
    """``1 / sums``, and 0 where a sum is 0."""
    there = sums > 0
    return there / torch.where(there, sums, torch.ones_like(sums))


def _check_not_negative(x: Tensor) -> None:
    if (x < 0).any():
        at = int((x < 0).any(1).nonzero()[0, 0])
        raise DataError(f"event {at} has a negative energy; cut such cells with 'threshold'")

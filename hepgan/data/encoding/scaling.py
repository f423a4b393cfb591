"""Steps that shift and stretch each column: ``scale``, ``standardise``, ``robust_standardise``."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import Columns, Finite, Moments, Noise
from hepgan.errors import DataError, RunError

NORMAL_QUARTILES = 1.3489795
"""Distance between the quartiles of a normal distribution of width 1."""


@dataclasses.dataclass(frozen=True)
class Affine:
    """``(x - offset) / width`` column by column.

    Attributes:
        offset: ``[F]``.
        width: ``[F]``.
        clip: The range that encoded values are clipped to when they are decoded.
        mask: ``[F]`` booleans: the columns of the step's fields; ``clip`` applies to no others.
    """

    offset: Tensor
    width: Tensor
    clip: tuple[float, float] | None
    mask: Tensor

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The constants of a step that was saved before it had a mask: other columns were left as they were."""
        if "mask" in values:
            return dict(values)
        moved = (values["offset"] != 0) | (values["width"] != 1)
        return {**values, "mask": moved | ~moved.any()}

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """To about [-1, 1] or to width 1."""
        return (x - self.offset.to(x)) / self.width.to(x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back; what lies outside ``clip`` counts as its edge."""
        x = torch.where(self.mask, x.clamp(*self.clip), x) if self.clip else x
        return x * self.width.to(x) + self.offset.to(x)


@dataclasses.dataclass(frozen=True)
class Scale(Affine):
    """A range to [-1, 1], or to another."""

    @classmethod
    def fit(
        cls,
        x: Tensor | Moments,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        range: tuple[Finite, Finite] | None = None,
        to: tuple[Finite, Finite] = (-1.0, 1.0),
        fields: tuple[str, ...] = (),
        per_column: bool = True,
        clip: bool = True,
    ) -> Self:
        """``range`` is that of the values; their own smallest and largest, ``per_column`` or of all, where it is not given.

        Raises:
            DataError: a value lies outside of ``range``.
            RunError: a range that does not rise.
        """
        seen = Moments.of(x)
        mask = columns.mask(fields, len(seen.low))
        low, high = _span(seen, range, mask, per_column=per_column)
        _check_range(seen, low, high, mask)
        if not to[0] < to[1]:
            raise RunError(f"to = {list(to)} should rise")
        middle, width = _where(mask, (low + high) / 2, (high - low) / (to[1] - to[0]))
        offset = torch.where(mask, middle - (to[0] + to[1]) / 2 * width, 0.0)
        return cls(offset, width, to if clip else None, mask)


@dataclasses.dataclass(frozen=True)
class Standardise(Affine):
    """Mean 0 and width 1; a constant column keeps width 1."""

    @classmethod
    def fit(
        cls,
        x: Tensor | Moments,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        fields: tuple[str, ...] = (),
        per_column: bool = True,
    ) -> Self:
        """With ``per_column = false`` all columns of ``fields`` share one mean and width (pixels of an image)."""
        seen = Moments.of(x)
        mean, width = seen.mean, seen.width
        mask = columns.mask(fields, len(mean))
        if not per_column:
            own, middle = mean[mask], mean[mask].mean()
            square = (seen.square[mask] + seen.events * (own - middle) ** 2).sum()
            width = (square / max(1, seen.events * len(own) - 1)).sqrt().expand(len(mean))
            mean = middle.expand(len(mean))
        return cls(*_where(mask, mean, width), None, mask)


@dataclasses.dataclass(frozen=True)
class RobustStandardise(Affine):
    """Median 0, and quartiles as far apart as those of a normal distribution of width 1.

    Where the quartiles are equal (mostly zeros) the width is the standard deviation; a constant column keeps width 1.
    """

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Of ``fields``, or of all columns."""
        ordered = x.sort(0).values
        low, middle, high = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
        width = torch.where(high > low, (high - low) / NORMAL_QUARTILES, Moments.of(x).width)
        mask = columns.mask(fields, x.shape[1])
        return cls(*_where(mask, middle, width), None, mask)


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """``[F]`` of ``ordered[E, F]``; ``torch.quantile`` takes 16 million values at the most."""
    place = share * (len(ordered) - 1)
    low = int(place)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], place - low)


def _span(
    seen: Moments, values: tuple[float, float] | None, mask: Tensor, *, per_column: bool
) -> tuple[Tensor, Tensor]:
    """The lowest and highest value ``[F]`` of each column: ``values``, or what there is."""
    if values is None and per_column:
        return seen.low, seen.high
    low, high = values or (seen.low[mask].min().item(), seen.high[mask].max().item())
    if values and not low < high:
        raise RunError(f"range = {[low, high]} should rise")
    return torch.full_like(seen.low, low), torch.full_like(seen.low, high)


def _check_range(seen: Moments, low: Tensor, high: Tensor, mask: Tensor) -> None:
    for extreme in (seen.low, seen.high):
        outside = ((extreme < low) | (extreme > high)) & mask
        if outside.any():
            worst = extreme[outside].abs().max().item()
            raise DataError(
                f"the range does not hold all values: {worst:g} lies outside of it; widen 'range'"
            )


def _where(mask: Tensor, offset: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    # As it is saved, in float32.
    there = width > torch.finfo(torch.float32).tiny
    width = torch.where(there, width, torch.ones_like(width))
    return torch.where(mask, offset, 0.0), torch.where(mask, width, 1.0)

"""Steps that shift and scale each column: ``scale``, ``standardize``, ``robust_standardize``."""

import dataclasses
from typing import Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import ColumnLayout, Finite, Moments, Noise, register_step
from hepgan.data.encoding.weighted import quantiles
from hepgan.errors import DataError, RunError

NORMAL_QUARTILES = 1.3489795
"""Interquartile range of the standard normal distribution."""


@dataclasses.dataclass(frozen=True)
class Affine:
    """Affine map ``(x - offset) / width`` of each column.

    Attributes:
        offset: ``[F]``.
        width: ``[F]``.
        clip: Range to which encoded values are clipped before decoding.
        mask: ``[F]`` booleans: the columns of the step's fields, to which ``clip`` applies.
    """

    offset: Tensor
    width: Tensor
    clip: tuple[float, float] | None
    mask: Tensor

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the scaled values."""
        return (x - self.offset.to(x)) / self.width.to(x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values; those outside ``clip`` are clipped first."""
        x = torch.where(self.mask, x.clamp(*self.clip), x) if self.clip else x
        return x * self.width.to(x) + self.offset.to(x)


@register_step("scale", from_moments=True)
@dataclasses.dataclass(frozen=True)
class Scale(Affine):
    """Maps a range to [-1, 1], or to another range."""

    @classmethod
    def fit(
        cls,
        x: Tensor | Moments,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        *,
        range: tuple[Finite, Finite] | None = None,
        to: tuple[Finite, Finite] = (-1.0, 1.0),
        fields: tuple[str, ...] = (),
        per_column: bool = True,
        clip: bool = True,
    ) -> Self:
        """Maps ``range`` to ``to``; default: the smallest and largest value, ``per_column`` or of all columns.

        Raises:
            DataError: a value is outside ``range``.
            RunError: the limits of a range are not in increasing order.
        """
        moments = Moments.of(x)
        mask = columns.mask(fields, len(moments.low))
        low, high = _span(moments, range, mask, per_column=per_column)
        _check_range(moments, low, high, mask)
        if not to[0] < to[1]:
            raise RunError(f"to = {list(to)} is not increasing; give [low, high]")
        middle, width = _masked(mask, (low + high) / 2, (high - low) / (to[1] - to[0]))
        offset = torch.where(mask, middle - (to[0] + to[1]) / 2 * width, 0.0)
        return cls(offset, width, to if clip else None, mask)


@register_step("standardize", from_moments=True)
@dataclasses.dataclass(frozen=True)
class Standardize(Affine):
    """Standardizes each column to mean 0 and standard deviation 1; a constant column is only shifted."""

    @classmethod
    def fit(
        cls,
        x: Tensor | Moments,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        weights: Tensor | None = None,
        *,
        fields: tuple[str, ...] = (),
        per_column: bool = True,
    ) -> Self:
        """With ``per_column = false`` all columns of ``fields`` share one mean and standard deviation (pixels of an image)."""
        moments = Moments.of(x, weights)
        mean, width = moments.mean, moments.std
        mask = columns.mask(fields, len(mean))
        if not per_column:
            own, middle = mean[mask], mean[mask].mean()
            square = (moments.square[mask] + moments.events * (own - middle) ** 2).sum()
            width = (square / max(1, moments.events * len(own) - 1)).sqrt().expand(len(mean))
            mean = middle.expand(len(mean))
        return cls(*_masked(mask, mean, width), None, mask)


@register_step("robust_standardize")
@dataclasses.dataclass(frozen=True)
class RobustStandardize(Affine):
    """Standardizes each column to median 0 and the interquartile range of the standard normal distribution.

    If the quartiles are equal (mostly zeros), the standard deviation is used; a constant column is only shifted.
    """

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        weights: Tensor | None = None,
        *,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Applies to ``fields``, or to all columns."""
        levels = torch.tensor([0.25, 0.5, 0.75], dtype=x.dtype)
        low, middle, high = quantiles(x, levels, weights)
        width = torch.where(high > low, (high - low) / NORMAL_QUARTILES, Moments.of(x, weights).std)
        mask = columns.mask(fields, x.shape[1])
        return cls(*_masked(mask, middle, width), None, mask)


def _span(
    moments: Moments, values: tuple[float, float] | None, mask: Tensor, *, per_column: bool
) -> tuple[Tensor, Tensor]:
    """Returns the lower and upper limit ``[F]`` of each column: ``values``, or those of the data."""
    if values is None and per_column:
        return moments.low, moments.high
    low, high = values or (moments.low[mask].min().item(), moments.high[mask].max().item())
    if values and not low < high:
        raise RunError(f"range = {[low, high]} is not increasing; give [low, high]")
    return torch.full_like(moments.low, low), torch.full_like(moments.low, high)


def _check_range(moments: Moments, low: Tensor, high: Tensor, mask: Tensor) -> None:
    for extreme in (moments.low, moments.high):
        outside = ((extreme < low) | (extreme > high)) & mask
        if outside.any():
            worst = extreme[outside].abs().max().item()
            raise DataError(f"the value {worst:g} is outside the range; widen 'range'")


def _masked(mask: Tensor, offset: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Returns offset and width with 0 and 1 outside ``mask`` and for widths of zero."""
    # Constants are saved as float32, where a smaller width would be zero.
    usable = width > torch.finfo(torch.float32).tiny
    width = torch.where(usable, width, torch.ones_like(width))
    return torch.where(mask, offset, 0.0), torch.where(mask, width, 1.0)

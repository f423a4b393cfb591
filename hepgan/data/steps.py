"""The steps of an encoding: invertible maps of ``x[E, F]``, given the encoded conditions ``c[E, C]``.

| step | what it is for |
|---|---|
| ``scale`` | images and other bounded values to [-1, 1] |
| ``standardise`` | columns of about one size: mean 0, width 1 |
| ``dequantise`` | integers to continuous values, by uniform noise that decoding cuts off |
| ``log`` | energies with a read-out threshold: log above it, zeros spread out below |
| ``logit`` | shares in [0, 1] |
| ``layer_sums`` | energies of layers apart from their shapes, so that sums hold exactly (``hepgan.data.copula``) |
| ``copula`` | to independent normal coordinates, given the conditions (``hepgan.data.copula``) |

A step is a frozen dataclass: settings and fitted constants, made by its ``fit`` from the training events. ``encode`` may
draw noise (where values are discrete); ``decode`` draws none and is differentiable.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, Protocol, Self

import torch
from torch import Generator, Tensor

from hepgan.errors import DataError, RunError


@dataclasses.dataclass(frozen=True)
class ConditionScale:
    """How a scalar condition becomes columns of ``c[E, C]``.

    Attributes:
        range: The smallest and largest value that may be asked for, in the condition's own unit.
        scale: ``linear`` or ``log`` map the range to [-1, 1]; ``share`` divides by the largest value; ``onehot`` makes a
            column for each integer in the range.
    """

    range: tuple[float, float]
    scale: Literal["linear", "log", "share", "onehot"] = "linear"

    def __post_init__(self) -> None:
        low, high = self.range
        whole = self.scale != "onehot" or (float(low).is_integer() and float(high).is_integer())
        finite = math.isfinite(low) and math.isfinite(high)
        positive = {"log": low, "share": high}.get(self.scale, 1.0) > 0
        if not (finite and low < high and whole and positive):
            raise RunError(
                f"a condition's range {list(self.range)} does not suit its scale '{self.scale}'"
            )

    @property
    def columns(self) -> int:
        """How many columns of ``c`` it takes."""
        return int(self.range[1] - self.range[0]) + 1 if self.scale == "onehot" else 1

    def allows(self, values: Tensor) -> Tensor:
        """``[E]`` booleans: which values lie in the range, and are a class where there are classes."""
        low, high = self.range
        # A float32 of a limit may lie a rounding error outside of it.
        room = 1e-6 * max(abs(low), abs(high))
        inside = (values >= low - room) & (values <= high + room)
        return inside & (values == values.round()) if self.scale == "onehot" else inside

    def encode(self, values: Tensor) -> Tensor:
        """``values[E]`` to ``c[E, columns]``."""
        low, high = self.range
        if self.scale == "onehot":
            classes = (values - low).round().long()
            return torch.nn.functional.one_hot(classes, self.columns).to(values.dtype)
        if self.scale == "share":
            return (values / high)[:, None]
        if self.scale == "log":
            values, low, high = torch.log(values), math.log(low), math.log(high)
        return (2 * (values - low) / (high - low) - 1)[:, None]

    def decode(self, c: Tensor) -> Tensor:
        """``c[E, columns]`` back to values ``[E]``."""
        low, high = self.range
        if self.scale == "onehot":
            return c.argmax(1).to(c.dtype) + low
        if self.scale == "share":
            return c[:, 0] * high
        if self.scale == "log":
            low, high = math.log(low), math.log(high)
            return torch.exp(low + (c[:, 0] + 1) / 2 * (high - low))
        return low + (c[:, 0] + 1) / 2 * (high - low)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where things are: the columns of each field in ``x`` and of each condition in ``c``, with units and scales.

    ``layer_sums`` and the like append columns behind those of the fields, which stay where they are.
    """

    fields: Mapping[str, slice]
    units: Mapping[str, str]
    conditions: Mapping[str, slice]
    scales: Mapping[str, ConditionScale]

    @property
    def size(self) -> int:
        """How many columns the fields take together."""
        return max(int(s.stop) for s in self.fields.values())

    def mask(self, fields: tuple[str, ...], width: int) -> Tensor:
        """``[width]`` booleans: the columns of ``fields``, or all of them where ``fields`` is empty.

        Raises:
            RunError: a name that is no field.
        """
        found = torch.full((width,), not fields)
        for name in fields:
            if name not in self.fields:
                raise RunError(
                    f"an encoding step names '{name}', but the fields are {', '.join(self.fields)}"
                )
            found[self.fields[name]] = True
        return found


class Step(Protocol):
    """What every step has besides its own ``fit(x, c, columns, noise, *, settings…)``."""

    def encode(self, x: Tensor, c: Tensor, noise: Generator) -> Tensor:
        """``x[E, F]`` one step nearer to the network."""
        ...

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """The way back."""
        ...


@dataclasses.dataclass(frozen=True)
class Affine:
    """``(x - offset) / width`` column by column: what ``scale`` and ``standardise`` fit."""

    offset: Tensor
    width: Tensor
    clip: tuple[float, float] | None

    def encode(self, x: Tensor, c: Tensor, noise: Generator) -> Tensor:
        """To about [-1, 1] or to width 1."""
        return (x - self.offset.to(x)) / self.width.to(x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back; what lies outside ``clip`` counts as its edge."""
        x = x.clamp(*self.clip) if self.clip else x
        return x * self.width.to(x) + self.offset.to(x)


@dataclasses.dataclass(frozen=True)
class Scale(Affine):
    """A range to [-1, 1], or to another."""

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Generator,
        *,
        range: tuple[float, float] | None = None,
        to: tuple[float, float] = (-1.0, 1.0),
        fields: tuple[str, ...] = (),
        per_column: bool = True,
        clip: bool = True,
    ) -> Self:
        """``range`` is that of the values; their own smallest and largest, ``per_column`` or of all, where it is not given."""
        mask = columns.mask(fields, x.shape[1])
        low, high = _span(x, range, mask, per_column=per_column)
        _outside(x, low, high, mask)
        if not to[0] < to[1]:
            raise RunError(f"an encoding's range to = {list(to)} should rise")
        middle, width = _where(mask, (low + high) / 2, (high - low) / (to[1] - to[0]))
        offset = torch.where(mask, middle - (to[0] + to[1]) / 2 * width, 0.0)
        return cls(offset, width, to if clip else None)


@dataclasses.dataclass(frozen=True)
class Standardise(Affine):
    """Mean 0 and width 1; a constant column keeps width 1."""

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Generator,
        *,
        fields: tuple[str, ...] = (),
        per_column: bool = True,
    ) -> Self:
        """With ``per_column = false`` all columns share one mean and width (pixels of an image)."""
        mean, width = (x.mean(0), x.std(0)) if per_column else (x.mean(), x.std())
        mean, width = mean.expand(x.shape[1]), width.expand(x.shape[1])
        return cls(*_where(columns.mask(fields, x.shape[1]), mean, width), clip=None)


def _span(
    x: Tensor, values: tuple[float, float] | None, mask: Tensor, *, per_column: bool
) -> tuple[Tensor, Tensor]:
    """The lowest and highest value ``[F]`` of each column: ``values``, or what ``x[E, F]`` has."""
    if values is None and per_column:
        return x.amin(0), x.amax(0)
    low, high = values or (x[:, mask].min().item(), x[:, mask].max().item())
    if not low < high:
        raise RunError(f"an encoding's range {[low, high]} should rise")
    return x.new_full((x.shape[1],), low), x.new_full((x.shape[1],), high)


def _outside(x: Tensor, low: Tensor, high: Tensor, mask: Tensor) -> None:
    outside = ((x < low) | (x > high)) & mask
    if outside.any():
        worst = x[outside].abs().max().item()
        raise DataError(
            f"the encoding's range does not hold all values: {worst:g} lies outside of it; widen 'range'"
        )


def _where(mask: Tensor, offset: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    width = torch.where(width > 0, width, torch.ones_like(width))
    return torch.where(mask, offset, 0.0), torch.where(mask, width, 1.0)


@dataclasses.dataclass(frozen=True)
class Dequantise:
    """Integers to continuous values: uniform noise in [0, 1) is added, and the floor taken on the way back."""

    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Generator,
        *,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Of ``fields``, or of all columns."""
        return cls(columns.mask(fields or tuple(columns.fields), x.shape[1]))

    def encode(self, x: Tensor, c: Tensor, noise: Generator) -> Tensor:
        """Adds the noise."""
        return torch.where(self.mask, x + uniform(x, noise), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Takes the floor, whose gradient is that of the identity."""
        return torch.where(self.mask, x + (x.floor() - x).detach(), x)


@dataclasses.dataclass(frozen=True)
class Log:
    """``log(x / threshold)`` above the threshold; what lies below counts as zero and is spread over (-1, 0).

    Zeros become continuous, and decoding cuts them off again: cells below the threshold come out as exactly 0.
    """

    threshold: float
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Generator,
        *,
        threshold: float,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``threshold`` in the fields' own unit.

        Raises:
            DataError: a negative value.
        """
        if threshold <= 0:
            raise RunError(
                f"the threshold of the encoding step 'log' should be positive, but is {threshold}"
            )
        mask = columns.mask(fields or tuple(columns.fields), x.shape[1])
        if (x[:, mask] < 0).any():
            raise DataError(
                "the encoding step 'log' needs values of 0 or more, but some are negative"
            )
        return cls(threshold, mask)

    def encode(self, x: Tensor, c: Tensor, noise: Generator) -> Tensor:
        """To logarithms above 0 and spread zeros below."""
        above = torch.log(x.clamp_min(self.threshold) / self.threshold)
        return torch.where(self.mask, torch.where(x > self.threshold, above, -uniform(x, noise)), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back to energies; at most e^60 thresholds, so that no untrained network overflows."""
        energies = self.threshold * torch.exp(x.clamp(0, 60))
        return torch.where(self.mask, torch.where(x > 0, energies, torch.zeros_like(x)), x)


@dataclasses.dataclass(frozen=True)
class Logit:
    """``logit(alpha + (1 - 2 alpha) x)`` of shares in [0, 1]."""

    alpha: float
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Generator,
        *,
        alpha: float = 1e-6,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``alpha`` keeps 0 and 1 finite.

        Raises:
            DataError: a value outside [0, 1].
        """
        mask = columns.mask(fields or tuple(columns.fields), x.shape[1])
        _outside(x, torch.zeros(()), torch.ones(()), mask)
        return cls(alpha, mask)

    def encode(self, x: Tensor, c: Tensor, noise: Generator) -> Tensor:
        """To the whole line."""
        return torch.where(self.mask, torch.logit(self.alpha + (1 - 2 * self.alpha) * x), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back to [0, 1]."""
        shares = (torch.sigmoid(x) - self.alpha) / (1 - 2 * self.alpha)
        return torch.where(self.mask, shares.clamp(0, 1), x)


def uniform(x: Tensor, noise: Generator) -> Tensor:
    """Uniform in (0, 1), never 0: a zero stays strictly below the threshold."""
    drawn = torch.rand(x.shape, generator=noise, dtype=torch.float32)
    return drawn.clamp(1e-6, 1 - 1e-6).to(x)

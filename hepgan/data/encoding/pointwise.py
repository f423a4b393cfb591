"""Steps that act on each value independently: ``power``, ``threshold``, ``dequantize``, ``zero_noise``, ``log``, ``logit``."""

import dataclasses
import math
from typing import Annotated, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import (
    ColumnLayout,
    Finite,
    Moments,
    Noise,
    Positive,
    register_step,
    uniform,
)
from hepgan.errors import DataError

Exponent = Annotated[float, Within(0.01, 1)]
Alpha = Annotated[float, Within(0, 0.5, below=True)]


@register_step("power")
@dataclasses.dataclass(frozen=True)
class Power:
    """Compresses values: ``sign(x) |x|^exponent``; zeros stay zeros."""

    exponent: Exponent
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        *,
        exponent: Exponent,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``exponent`` is at most 1, so that decoding has a finite gradient, and not so small that precision is lost."""
        return cls(exponent, _of_fields(columns, fields, x))

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the compressed values."""
        return torch.where(self.mask, x.sign() * x.abs() ** self.exponent, x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values, limited to e^80, so that an untrained network does not overflow."""
        # Zero in other columns: overflowing powers would turn their gradients into NaN.
        own = torch.where(self.mask, x, 0.0)
        size = own.abs().clamp_max(math.exp(80 * self.exponent))
        return torch.where(self.mask, own.sign() * size ** (1 / self.exponent), x)


@register_step("threshold")
@dataclasses.dataclass(frozen=True)
class Threshold:
    """Sets values at or below ``threshold`` to 0 when encoding and decoding, like the threshold of a readout."""

    threshold: Finite
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        *,
        threshold: Finite,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``threshold`` is in the unit of the values at this step of the encoding."""
        return cls(threshold, _of_fields(columns, fields, x))

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Applies the threshold."""
        return self.decode(x, c)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Applies the threshold."""
        return torch.where(self.mask & (x <= self.threshold), 0.0, x)


@register_step("dequantize")
@dataclasses.dataclass(frozen=True)
class Dequantize:
    """Makes integers continuous by adding uniform noise in [0, 1); decoding takes the floor."""

    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        *,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Applies to ``fields``, or to all columns."""
        return cls(_of_fields(columns, fields, x))

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Adds the noise."""
        return torch.where(self.mask, x + uniform(x, noise), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Takes the floor, with the gradient of the identity (straight-through)."""
        return torch.where(self.mask, x + (x.floor() - x).detach(), x)


@register_step("zero_noise", from_moments=True)
@dataclasses.dataclass(frozen=True)
class ZeroNoise:
    """Adds uniform noise of full ``width`` to constant columns; decoding restores the constant.

    TMVA does this with pixels that are zero in every image. A different value in a later event is kept if it is farther from the
    constant than the noise.

    Attributes:
        width: Full width of the noise.
        value: ``[F]`` the constants.
        mask: ``[F]`` booleans: the constant columns.
    """

    width: Positive
    value: Tensor
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor | Moments,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        *,
        width: Positive = 1e-3,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Applies to ``fields``, or to all columns."""
        moments = Moments.of(x)
        constant = (moments.low == moments.high) & columns.mask(fields, len(moments.low))
        return cls(width, torch.where(constant, moments.low, 0.0), constant)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Adds the noise."""
        noisy = x + self.width * (uniform(x, noise) - 0.5)
        return torch.where(self.mask & (x == self.value), noisy, x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Removes the noise."""
        value = self.value.to(x)
        # The sum of a large value and the noise is rounded, by half a unit in the last place.
        tolerance = self.width / 2 + torch.finfo(x.dtype).eps * value.abs()
        return torch.where(self.mask & ((x - value).abs() <= tolerance), value, x)


@register_step("log")
@dataclasses.dataclass(frozen=True)
class Log:
    """Logarithm ``log(x / threshold)`` above the threshold; smaller values count as zero and are spread over (-1, 0).

    Decoding sets negative numbers back to exactly 0.
    """

    threshold: Positive
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        *,
        threshold: Positive,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``threshold`` is in the unit of the fields.

        Raises:
            DataError: a negative value.
        """
        mask = _of_fields(columns, fields, x)
        if (x.amin(0)[mask] < 0).any():
            raise DataError("some values are negative, but a logarithm needs values of 0 or more")
        return cls(threshold, mask)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns positive logarithms, and negative random numbers for zeros."""
        above = torch.log(x.clamp_min(self.threshold) / self.threshold)
        return torch.where(self.mask, torch.where(x > self.threshold, above, -uniform(x, noise)), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values, limited to e^60 thresholds, so that an untrained network does not overflow."""
        energies = self.threshold * torch.exp(x.clamp(0, 60))
        return torch.where(self.mask, torch.where(x <= 0, 0.0, energies), x)


@register_step("logit")
@dataclasses.dataclass(frozen=True)
class Logit:
    """Logit of fractions in [0, 1]: ``logit(alpha + (1 - 2 alpha) x)``."""

    alpha: Alpha
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        *,
        alpha: Alpha = 1e-6,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``alpha`` keeps the logits of 0 and 1 finite.

        Raises:
            DataError: a value outside [0, 1].
        """
        mask = _of_fields(columns, fields, x)
        for extreme in (x.amin(0)[mask], x.amax(0)[mask]):
            if ((extreme < 0) | (extreme > 1)).any():
                worst = extreme.abs().max().item()
                raise DataError(f"the value {worst:g} is not a fraction between 0 and 1")
        return cls(alpha, mask)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the logits."""
        return torch.where(self.mask, torch.logit(self.alpha + (1 - 2 * self.alpha) * x), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the fractions."""
        fractions = (torch.sigmoid(x) - self.alpha) / (1 - 2 * self.alpha)
        return torch.where(self.mask, fractions.clamp(0, 1), x)


def _of_fields(columns: ColumnLayout, fields: tuple[str, ...], x: Tensor) -> Tensor:
    """Returns ``[F]`` booleans: the columns of ``fields``, or of all fields (without appended columns)."""
    return columns.mask(fields or tuple(columns.fields), x.shape[1])

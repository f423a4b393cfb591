"""Steps that treat each value by itself: ``power``, ``threshold``, ``dequantise``, ``zero_noise``, ``log``, ``logit``."""

import dataclasses
import math
from typing import Annotated, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import Columns, Finite, Moments, Noise, Positive, uniform
from hepgan.errors import DataError

Exponent = Annotated[float, Within(0.01, 1)]
Alpha = Annotated[float, Within(0, 0.5, below=True)]


@dataclasses.dataclass(frozen=True)
class Power:
    """``sign(x) |x|^exponent``: the energy scale of a cell compressed, zeros stay zeros."""

    exponent: Exponent
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        exponent: Exponent,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``exponent`` of at most 1, so that the way back has a slope everywhere, and not so small that digits are lost."""
        return cls(exponent, _of_fields(columns, fields, x))

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Pulls large values in."""
        return torch.where(self.mask, x.sign() * x.abs() ** self.exponent, x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Stretches them again, to at most e^80, so that no untrained network overflows."""
        # Other columns are kept out, lest their powers overflow and spoil their gradients.
        own = torch.where(self.mask, x, torch.zeros_like(x))
        size = own.abs().clamp_max(math.exp(80 * self.exponent))
        return torch.where(self.mask, own.sign() * size ** (1 / self.exponent), x)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """What lies at or below ``threshold`` is 0, before and after: a read-out's cut."""

    threshold: Finite
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        threshold: Finite,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``threshold`` in the unit that the values have at this place of the chain."""
        return cls(threshold, _of_fields(columns, fields, x))

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Cuts."""
        return self.decode(x, c)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Cuts."""
        return torch.where(self.mask & (x <= self.threshold), torch.zeros_like(x), x)


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
        noise: Noise,
        *,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Of ``fields``, or of all columns."""
        return cls(_of_fields(columns, fields, x))

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Adds the noise."""
        return torch.where(self.mask, x + uniform(x, noise), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Takes the floor, whose gradient is that of the identity."""
        return torch.where(self.mask, x + (x.floor() - x).detach(), x)


@dataclasses.dataclass(frozen=True)
class ZeroNoise:
    """Uniform noise of full ``width`` on columns that have one value throughout; decoding puts the value back.

    TMVA's way with pixels that are zero in every image. An unseen event with another value there keeps it, where it is
    farther away than the noise.

    Attributes:
        width: Of the noise.
        value: ``[F]`` the values.
        mask: ``[F]`` booleans: the columns that have but one.
    """

    width: Positive
    value: Tensor
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor | Moments,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        width: Positive = 1e-3,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Of ``fields``, or of all columns."""
        seen = Moments.of(x)
        constant = (seen.low == seen.high) & columns.mask(fields, len(seen.low))
        return cls(width, torch.where(constant, seen.low, 0.0), constant)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Adds the noise."""
        spread = x + self.width * (uniform(x, noise) - 0.5)
        return torch.where(self.mask & (x == self.value), spread, x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Takes it away."""
        value = self.value.to(x)
        # The noise of a large value is rounded: half a unit in the last place more.
        room = self.width / 2 + torch.finfo(x.dtype).eps * value.abs()
        return torch.where(self.mask & ((x - value).abs() <= room), value, x)


@dataclasses.dataclass(frozen=True)
class Log:
    """``log(x / threshold)`` above the threshold; what lies below counts as zero and is spread over (-1, 0).

    Zeros become continuous, and decoding cuts them off again: cells below the threshold come out as exactly 0.
    """

    threshold: Positive
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        threshold: Positive,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``threshold`` in the fields' own unit.

        Raises:
            DataError: a negative value.
        """
        mask = _of_fields(columns, fields, x)
        if (x.amin(0)[mask] < 0).any():
            raise DataError("values should be 0 or more, but some are negative")
        return cls(threshold, mask)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """To logarithms above 0 and spread zeros below."""
        above = torch.log(x.clamp_min(self.threshold) / self.threshold)
        return torch.where(self.mask, torch.where(x > self.threshold, above, -uniform(x, noise)), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back to energies; at most e^60 thresholds, so that no untrained network overflows."""
        energies = self.threshold * torch.exp(x.clamp(0, 60))
        return torch.where(self.mask, torch.where(x <= 0, torch.zeros_like(x), energies), x)


@dataclasses.dataclass(frozen=True)
class Logit:
    """``logit(alpha + (1 - 2 alpha) x)`` of shares in [0, 1]."""

    alpha: Alpha
    mask: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        alpha: Alpha = 1e-6,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """``alpha`` keeps 0 and 1 finite.

        Raises:
            DataError: a value outside [0, 1].
        """
        mask = _of_fields(columns, fields, x)
        for extreme in (x.amin(0)[mask], x.amax(0)[mask]):
            if ((extreme < 0) | (extreme > 1)).any():
                worst = extreme.abs().max().item()
                raise DataError(f"values should be shares between 0 and 1, but there is {worst:g}")
        return cls(alpha, mask)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """To the whole line."""
        return torch.where(self.mask, torch.logit(self.alpha + (1 - 2 * self.alpha) * x), x)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back to [0, 1]."""
        shares = (torch.sigmoid(x) - self.alpha) / (1 - 2 * self.alpha)
        return torch.where(self.mask, shares.clamp(0, 1), x)


def _of_fields(columns: Columns, fields: tuple[str, ...], x: Tensor) -> Tensor:
    """``[F]`` booleans: the columns of ``fields``, or those of all fields, but not the appended ones."""
    return columns.mask(fields or tuple(columns.fields), x.shape[1])

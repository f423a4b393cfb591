"""The encoding step ``marginals``: normal scores of each column, from tables that depend on one condition."""

import dataclasses
import math
from typing import Annotated, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import ColumnLayout, Noise, register_step
from hepgan.data.encoding.kernels import table_values, use_kernels
from hepgan.data.encoding.weighted import LEAST_VARIANCE, cumulated, positions
from hepgan.data.weights import effective_sample_size
from hepgan.errors import DataError, RunError

Z_MAX = 4.0
"""Largest normal score in the tables; values are extrapolated linearly beyond it."""

Windows = Annotated[int, Within(1, 4096)]
PerWindow = Annotated[int, Within(2, 10**9)]
Knots = Annotated[int, Within(3, 4096)]

_MAX_NUMBERS = 2**30
"""Maximum size of the tables."""

_RISE = 1e-5
"""Smallest difference between knots, which keeps tables of tied values invertible; relative to the range of small values."""


@register_step("marginals")
@dataclasses.dataclass(frozen=True)
class Marginals:
    """Maps each column to normal scores by its ranks, with tables at several values of one condition.

    Tables are interpolated linearly. Columns with censored zeros have an atom: scores below ``zero`` are zeros, and the table
    describes the values above.

    Attributes:
        column: Column of ``c`` on which the tables depend; −1 for a single table.
        centers: ``[W]`` values of the condition at the tables.
        zero: ``[W, F]`` score below which a column is zero; −Z_MAX for columns without zeros.
        table: ``[W, K, F]`` values at K scores, evenly spaced from ``zero`` to Z_MAX.
        slope: ``[2, F]`` slope of the extrapolation below and above the tables.
        censored: ``[F]`` booleans: the columns with censored zeros.
    """

    column: int
    centers: Tensor
    zero: Tensor
    table: Tensor
    slope: Tensor
    censored: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        weights: Tensor | None = None,
        *,
        condition: str | None = None,
        windows: Windows = 24,
        per_window: PerWindow = 400,
        knots: Knots = 65,
        censored_zeros: bool = False,
    ) -> Self:
        """Makes a table from the ``per_window`` events that are nearest to each of ``windows`` values of ``condition``.

        With ``censored_zeros``, values in (-1, 0] are zeros, as ``log`` and ``layer_sums`` encode them, in columns without smaller
        values. ``per_window`` is an effective number of events if they have weights.

        Raises:
            RunError: ``condition`` is not a condition with one column, or the tables are too large.
            DataError: the net weight of a window is not positive.
        """
        column = -1 if condition is None else columns.condition_column(condition)
        if (numbers := windows * knots * x.shape[1]) > _MAX_NUMBERS:
            raise RunError(f"its tables would have {numbers:,} numbers; use fewer windows or knots")
        lowest, highest = x.amin(0), x.amax(0)
        rise = _RISE * (highest - lowest).clamp_max(1)
        censored = (lowest <= 0) & (lowest > -1) & censored_zeros
        follows = torch.zeros(len(x), dtype=x.dtype) if column < 0 else c[:, column].to(x)
        centers = _centers(follows, windows)
        if len(centers) == 1:
            column, follows, per_window = -1, torch.zeros_like(follows), len(x)
        if weights is not None:
            per_window = math.ceil(per_window * len(x) / effective_sample_size(weights.numpy()))
        size = min(per_window, len(x))
        fitted = [
            _fit_window(x, follows - at, size, knots, censored, rise, weights) for at in centers
        ]
        table, zero = (torch.stack(part) for part in zip(*fitted, strict=True))
        table = _fill_empty(table)
        # A constant column has no scale.
        least = torch.where(rise > 0, rise, _RISE)
        return cls(column, centers, zero, table, _slopes(table, zero, least), censored)

    def scores_of_zero(self, c: Tensor) -> Tensor:
        """Returns ``[E, F]`` scores below which each column is zero, for the conditions of each event."""
        upper, weight = self._between(c)
        return torch.lerp(self.zero[upper - 1].to(weight), self.zero[upper].to(weight), weight)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the scores, float32."""
        x = x.float()
        upper, weight = self._between(c.to(x))
        zero = self.scores_of_zero(c.to(x))
        position = self._position(x, upper, weight) / (self.table.shape[1] - 1)
        score = zero + position * (Z_MAX - zero)
        first, last = self._knot(0, upper, weight), self._knot(-1, upper, weight)
        below, above = self.slope.to(x)
        score = torch.where(x > last, Z_MAX + (x - last) / above, score)
        below = zero + (x - first) / below
        if not self.censored.any():
            return torch.where(x < first, below, score)
        below = torch.where(self.censored, _censored(x, zero), below)
        return torch.where(torch.where(self.censored, x <= 0, x < first), below, score)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values; censored zeros become negative numbers."""
        if use_kernels(x, self.table):
            upper, weight = self._between(c.to(x))
            return table_values(
                x, upper, weight, self.zero, self.table, self.slope, self.censored, Z_MAX
            )
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self._values(x, c)[0]
        # Piecewise linear: one multiplication by the slope is the backward pass of a dozen operations.
        with torch.no_grad():
            values, rise = self._values(x, c)
            zero, slopes = self.scores_of_zero(c.to(x)), self.slope.to(x)
            slope = torch.where(x < zero, slopes[0], torch.where(x > Z_MAX, slopes[1], rise))
            slope = torch.where(self.censored & (x <= zero), 1.0, slope)
        return values + (x - x.detach()) * slope

    def _values(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the values ``[E, F]``, and their slopes within the tables."""
        upper, weight = self._between(c.to(x))
        zero, steps = self.scores_of_zero(c.to(x)), self.table.shape[1] - 1
        per_score = steps / (Z_MAX - zero)
        position = (x - zero) / (Z_MAX - zero) * steps
        knot = position.detach().nan_to_num(0.0).clamp(0, steps - 1).int()
        place = self._start(upper) + knot * self.table.shape[2]
        low, high = self._at(place, weight), self._at(place + self.table.shape[2], weight)
        inside = low + (high - low) * (position - knot).clamp(0, 1)
        slopes = self.slope.to(x)
        above, below = (x - Z_MAX).clamp_min(0), (x - zero).clamp_max(0)
        beyond = slopes[0] * below + slopes[1] * above
        values = torch.where(self.censored & (x <= zero), x - zero, inside + beyond)
        return values, (high - low) * per_score

    def _between(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the upper table ``[E]`` of each event and its interpolation weight ``[E, 1]``."""
        if self.column < 0:
            # Not len(c), which would become a constant in an exported model.
            upper = torch.zeros(c.shape[0], dtype=torch.long, device=c.device)
            return upper, c.new_ones(c.shape[0], 1)
        at, centers = c[:, self.column].contiguous(), self.centers.to(c)
        upper = torch.searchsorted(centers, at).clamp(1, len(centers) - 1)
        width = centers[upper] - centers[upper - 1]
        return upper, ((at - centers[upper - 1]) / width).clamp(0, 1)[:, None]

    def _start(self, upper: Tensor) -> Tensor:
        """Returns ``[E, F]`` offsets of each column of each event's upper table in the flattened tables."""
        _, knots, features = self.table.shape
        # Reading 32-bit indices is twice as fast.
        kind = torch.int32 if self.table.numel() < 2**31 else torch.int64
        columns = torch.arange(features, device=upper.device, dtype=kind)
        return (upper * (knots * features)).to(kind)[:, None] + columns

    def _at(self, place: Tensor, weight: Tensor) -> Tensor:
        """Returns ``[E, F]`` values of the flattened tables, interpolated between the two tables of each event."""
        windows, knots, features = self.table.shape
        flat = self.table.to(weight).reshape(-1)
        high = flat.index_select(0, place.reshape(-1)).view(place.shape)
        if windows == 1:
            return high
        low = flat.index_select(0, place.reshape(-1) - knots * features).view(place.shape)
        return torch.lerp(low, high, weight)

    def _knot(self, knot: int, upper: Tensor, weight: Tensor) -> Tensor:
        """Returns ``[E, F]`` values at one knot, interpolated between the two tables of each event."""
        values = self.table[:, knot].to(weight)
        return torch.lerp(values[upper - 1], values[upper], weight)

    def _position(self, x: Tensor, upper: Tensor, weight: Tensor) -> Tensor:
        """Returns ``[E, F]`` fractional knot numbers of the values, by bisection in all columns at once."""
        _, knots, features = self.table.shape
        start = self._start(upper)
        place, last = start, start + (knots - 2) * features
        for power in range((knots - 2).bit_length() - 1, -1, -1):
            ahead = torch.minimum(place + 2**power * features, last)
            place = place + (ahead - place) * (x >= self._at(ahead, weight))
        low, high = self._at(place, weight), self._at(place + features, weight)
        # Knots of large values may coincide in float32.
        rise = (high - low).clamp_min(torch.finfo(x.dtype).tiny)
        return (place - start) // features + (x - low) / rise


def _centers(follows: Tensor, windows: int) -> Tensor:
    """Returns ``[W]`` values of the condition, a compromise between evenly spaced and equally populated windows.

    They are distinct in float32; if the condition is constant, the only one is 0.
    """
    low, high = follows.min(), follows.max()
    if windows == 1 or low.float() == high.float():
        return follows.new_zeros(1)
    at = torch.linspace(0, 1, windows, dtype=follows.dtype)
    ordered = follows.sort().values
    place = at * (len(ordered) - 1)
    first = place.long()
    second = (first + 1).clamp_max(len(ordered) - 1)
    populated = torch.lerp(ordered[first], ordered[second], place - first)
    centers = (0.3 * (low + at * (high - low)) + 0.7 * populated).float()
    return centers[torch.cat([at[:1] == 0, centers.diff() > 0])].to(follows)


def _fit_window(
    x: Tensor,
    distance: Tensor,
    size: int,
    knots: int,
    censored: Tensor,
    rise: Tensor,
    weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Returns a table ``[K, F]`` (NaN for columns of zeros) and its ``zero[F]``, from the ``size`` nearest events."""
    near = torch.topk(distance.abs(), size, largest=False).indices
    values, distance = x[near], distance[near, None]
    weight = torch.ones_like(distance) if weights is None else weights.to(x)[near, None]
    if not weight.sum() > 0:
        raise DataError(
            f"the weights of the {size:,} events nearest to one of the values of the condition sum to {weight.sum().item():.3g}, but the sum"
            " must be positive; increase per_window"
        )
    present = ~censored | (values > 0)
    values = _shift_to_center(values, distance, present, weight)
    values = torch.where(censored & present, values.maximum(rise), values)
    ordered, order = torch.where(present, values, -torch.inf).sort(0)
    absent = (~present).sum(0)
    fraction = _zero_fraction(~present, distance, weight)
    zero = torch.where(censored, torch.special.ndtri(fraction), -Z_MAX)
    zero = zero.clamp_min(-Z_MAX).to(x)
    scores = zero + torch.linspace(0, 1, knots, dtype=x.dtype)[:, None] * (Z_MAX - zero)
    start = torch.where(censored, torch.special.ndtr(zero), 0.0)
    quantile = (torch.special.ndtr(scores) - start) / (1 - start)
    if weights is None:
        position = absent + quantile * (size - absent) - 0.5
    else:
        sums = cumulated(weight[:, 0][order])
        below = sums.gather(0, absent[None])
        position = positions(sums, below + quantile * (sums[-1:] - below))
    position = position.clamp_min(absent).clamp_max(size - 1)
    position = position.minimum(torch.full_like(position, size - 1))
    low = position.long()
    high = (low + 1).clamp_max(size - 1)
    table = torch.lerp(ordered.gather(0, low), ordered.gather(0, high), position - low)
    table[0] = torch.where(censored, 0.0, table[0])
    table = torch.cummax(table, 0).values + rise * torch.arange(knots, dtype=x.dtype)[:, None]
    return torch.where(absent < size, table, torch.nan), zero


def _shift_to_center(values: Tensor, distance: Tensor, present: Tensor, weight: Tensor) -> Tensor:
    """Returns ``values`` moved to ``distance`` 0, with mean and log width of each column linear in the distance."""
    weight = present.to(values) * weight
    total = weight.sum(0).clamp_min(1)
    effective = total**2 / weight.square().sum(0).clamp_min(1)
    mean = (weight * distance).sum(0) / total
    middle, slope = _linear_fit(values, distance - mean, weight)
    slope = torch.where(effective >= 30, slope, 0.0)
    residuals = values - middle - slope * (distance - mean)
    size = torch.log(residuals.abs() + 1e-3 * (weight * residuals.abs()).sum(0) / total + 1e-12)
    _, growth = _linear_fit(size, distance - mean, weight)
    growth = torch.where(effective >= 100, growth, 0.0)
    return middle - slope * mean + residuals * torch.exp((-growth * distance).clamp(-1, 1))


def _zero_fraction(absent: Tensor, distance: Tensor, weight: Tensor) -> Tensor:
    """Returns the fraction of zeros ``[F]`` at ``distance`` 0, by linear regression."""
    values, mean = absent.to(distance), (weight * distance).sum(0) / weight.sum()
    fraction, slope = _linear_fit(values, distance - mean, weight.expand_as(values))
    least = 0.5 / len(values)
    return torch.where(fraction > 0, (fraction - slope * mean).clamp(least, 1 - least), 0.0)


def _linear_fit(values: Tensor, distance: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and slope ``[F]`` of ``values[E, F]`` over ``distance[E, F]``, whose weighted mean is 0."""
    mean = (weight * values).sum(0) / weight.sum(0).clamp_min(1)
    square, absolute = ((w * distance**2).sum(0) for w in (weight, weight.abs()))
    cross = (weight * (values - mean) * distance).sum(0)
    usable = square > LEAST_VARIANCE * absolute
    return mean, torch.where(usable, cross / square.clamp_min(1e-12), 0.0)


def _fill_empty(table: Tensor) -> Tensor:
    """Returns the tables with columns without values copied from the nearest window with values, upper windows first."""
    parts = list(table)
    for order in (range(len(parts) - 2, -1, -1), range(1, len(parts))):
        for i in order:
            other = parts[i + 1] if order.step < 0 else parts[i - 1]
            parts[i] = torch.where(parts[i].isnan(), other, parts[i])
    ramp = _RISE * torch.arange(1, table.shape[1] + 1, dtype=table.dtype)[:, None]
    return torch.stack([torch.where(part.isnan(), ramp, part) for part in parts])


def _slopes(table: Tensor, zero: Tensor, least: Tensor) -> Tensor:
    """Returns ``[2, F]`` mean slopes of the lower and upper half of the tables, at least ``least[F]``."""
    middle = table[:, table.shape[1] // 2]
    part = table.shape[1] // 2 / (table.shape[1] - 1)
    lower = (middle - table[:, 0]) / ((Z_MAX - zero) * part)
    upper = (table[:, -1] - middle) / ((Z_MAX - zero) * (1 - part))
    return torch.stack([lower.mean(0), upper.mean(0)]).maximum(least)


def _censored(x: Tensor, zero: Tensor) -> Tensor:
    """Returns scores below ``zero`` for zeros ``x`` in (-1, 0), uniform in probability."""
    fraction = (1 + x.clamp(-1 + 1e-6, -1e-6)) * torch.special.ndtr(zero)
    score: Tensor = torch.special.ndtri(fraction.clamp_min(1e-7))
    return score

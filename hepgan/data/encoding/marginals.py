"""The encoding step ``marginals``: ranks to normal scores, column by column, with tables that follow one condition."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import Columns, Noise, column_of
from hepgan.errors import RunError

Z_MAX = 4.0
"""The tables' largest normal score; beyond it values go on linearly."""

Windows = Annotated[int, Within(1, 4096)]
PerWindow = Annotated[int, Within(2, 10**9)]
Knots = Annotated[int, Within(3, 4096)]

_MOST = 2**30
"""Numbers in the tables at the most."""

_RISE = 1e-5
"""Smallest rise from knot to knot, which keeps tables of tied values invertible; as a part of the range of small values."""


@dataclasses.dataclass(frozen=True)
class Marginals:
    """Ranks to normal scores, with tables at several values of one condition.

    Between tables everything is interpolated linearly. Columns with zeros have an atom: scores below ``zero`` are zeros,
    and the table describes the values above.

    Attributes:
        column: The column of ``c`` that the tables follow; −1 where there is one table for all.
        centres: ``[W]`` its values at the tables.
        zero: ``[W, F]`` the score at which a column leaves zero; −Z_MAX for columns without zeros.
        table: ``[W, K, F]`` values at K scores, evenly spaced from ``zero`` to Z_MAX.
        slope: ``[2, F]`` value per score below and above the tables.
        spread: ``[F]`` booleans: the columns with zeros.
    """

    column: int
    centres: Tensor
    zero: Tensor
    table: Tensor
    slope: Tensor
    spread: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        given: str | None = None,
        windows: Windows = 24,
        per_window: PerWindow = 400,
        knots: Knots = 65,
        zeros: bool = False,
    ) -> Self:
        """Tables from the ``per_window`` events nearest in the condition ``given`` to each of ``windows`` values.

        With ``zeros``, columns that have values in (-1, 0] and none below have zeros there, as ``log`` and ``layer_sums``
        spread them.

        Raises:
            RunError: ``given`` is no condition of one column, or the tables are too large.
        """
        column = -1 if given is None else column_of(given, columns)
        if (numbers := windows * knots * x.shape[1]) > _MOST:
            raise RunError(
                f"its tables would hold {numbers:,} numbers; give fewer windows or knots"
            )
        lowest, highest = x.amin(0), x.amax(0)
        rise = _RISE * (highest - lowest).clamp_max(1)
        spread = (lowest <= 0) & (lowest > -1) & zeros
        follows = torch.zeros(len(x), dtype=x.dtype) if column < 0 else c[:, column].to(x)
        centres = _centres(follows, windows)
        if len(centres) == 1:
            column, follows, per_window = -1, torch.zeros_like(follows), len(x)
        size = min(per_window, len(x))
        fitted = [_window(x, follows - at, size, knots, spread, rise) for at in centres]
        table, zero = (torch.stack(part) for part in zip(*fitted, strict=True))
        table = _fill_empty(table)
        # A constant column has no size of its own.
        least = torch.where(rise > 0, rise, _RISE)
        return cls(column, centres, zero, table, _slopes(table, zero, least), spread)

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The constants of a step that was saved with one slope for both ends."""
        if values["slope"].dim() == 2:
            return dict(values)
        return {**values, "slope": _slopes(values["table"], values["zero"], torch.tensor(_RISE))}

    def scores_of_zero(self, c: Tensor) -> Tensor:
        """``[E, F]`` scores at which each column leaves zero for an event's conditions."""
        upper, share = self._between(c)
        return torch.lerp(self.zero[upper - 1].to(share), self.zero[upper].to(share), share)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Values to scores, float32."""
        x = x.float()
        upper, share = self._between(c.to(x))
        zero = self.scores_of_zero(c.to(x))
        position = self._position(x, upper, share) / (self.table.shape[1] - 1)
        score = zero + position * (Z_MAX - zero)
        first, last = self._knot(0, upper, share), self._knot(-1, upper, share)
        below, above = self.slope.to(x)
        score = torch.where(x > last, Z_MAX + (x - last) / above, score)
        below = zero + (x - first) / below
        if not self.spread.any():
            return torch.where(x < first, below, score)
        below = torch.where(self.spread, _censored(x, zero), below)
        return torch.where(torch.where(self.spread, x <= 0, x < first), below, score)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Scores to values; the spread zeros come out as some number below 0."""
        upper, share = self._between(c.to(x))
        zero, steps = self.scores_of_zero(c.to(x)), self.table.shape[1] - 1
        position = (x - zero) / (Z_MAX - zero) * steps
        knot = position.detach().nan_to_num(0.0).clamp(0, steps - 1).int()
        place = self._start(upper) + knot * self.table.shape[2]
        low, high = self._at(place, share), self._at(place + self.table.shape[2], share)
        inside = low + (high - low) * (position - knot).clamp(0, 1)
        slopes = self.slope.to(x)
        above, below = (x - Z_MAX).clamp_min(0), (x - zero).clamp_max(0)
        beyond = slopes[0] * below + slopes[1] * above
        return torch.where(self.spread & (x <= zero), x - zero, inside + beyond)

    def _between(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """For each event the table above its condition ``[E]`` and how near it is ``[E, 1]``."""
        if self.column < 0:
            # Not len(c), which an exported model would take for a constant.
            upper = torch.zeros(c.shape[0], dtype=torch.long, device=c.device)
            return upper, c.new_ones(c.shape[0], 1)
        at, centres = c[:, self.column].contiguous(), self.centres.to(c)
        upper = torch.searchsorted(centres, at).clamp(1, len(centres) - 1)
        width = centres[upper] - centres[upper - 1]
        return upper, ((at - centres[upper - 1]) / width).clamp(0, 1)[:, None]

    def _start(self, upper: Tensor) -> Tensor:
        """``[E, F]`` where each column of each event's upper table starts in the flattened tables."""
        _, knots, features = self.table.shape
        # Half as wide indices are read twice as fast.
        kind = torch.int32 if self.table.numel() < 2**31 else torch.int64
        columns = torch.arange(features, device=upper.device, dtype=kind)
        return (upper * (knots * features)).to(kind)[:, None] + columns

    def _at(self, place: Tensor, share: Tensor) -> Tensor:
        """``[E, F]`` values of the flattened tables, between the two tables of each event."""
        windows, knots, features = self.table.shape
        flat = self.table.to(share).reshape(-1)
        high = flat.index_select(0, place.reshape(-1)).view(place.shape)
        if windows == 1:
            return high
        low = flat.index_select(0, place.reshape(-1) - knots * features).view(place.shape)
        return torch.lerp(low, high, share)

    def _knot(self, knot: int, upper: Tensor, share: Tensor) -> Tensor:
        """``[E, F]`` all tables' values at one knot."""
        values = self.table[:, knot].to(share)
        return torch.lerp(values[upper - 1], values[upper], share)

    def _position(self, x: Tensor, upper: Tensor, share: Tensor) -> Tensor:
        """``[E, F]`` where each value is among the knots, by bisection in all columns at once."""
        _, knots, features = self.table.shape
        start = self._start(upper)
        place, last = start, start + (knots - 2) * features
        for power in range((knots - 2).bit_length() - 1, -1, -1):
            ahead = torch.minimum(place + 2**power * features, last)
            place = place + (ahead - place) * (x >= self._at(ahead, share))
        low, high = self._at(place, share), self._at(place + features, share)
        # Large values may have knots that float32 cannot tell apart.
        rise = (high - low).clamp_min(torch.finfo(x.dtype).tiny)
        return (place - start) // features + (x - low) / rise


def _centres(follows: Tensor, windows: int) -> Tensor:
    """``[W]`` between evenly spaced and equally populated: dense where events are, and none far apart.

    All differ in float32; there is one, 0, where the condition does not vary.
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
    centres = (0.3 * (low + at * (high - low)) + 0.7 * populated).float()
    return centres[torch.cat([at[:1] == 0, centres.diff() > 0])].to(follows)


def _window(
    x: Tensor, distance: Tensor, size: int, knots: int, spread: Tensor, rise: Tensor
) -> tuple[Tensor, Tensor]:
    """One table ``[K, F]`` (NaN where a column is all zeros) and its ``zero[F]``, from the ``size`` nearest events."""
    near = torch.topk(distance.abs(), size, largest=False).indices
    values, distance = x[near], distance[near, None]
    present = ~spread | (values > 0)
    values = _levelled(values, distance, present)
    values = torch.where(spread & present, values.maximum(rise), values)
    ordered = torch.where(present, values, -torch.inf).sort(0).values
    absent = (~present).sum(0)
    zero = torch.where(spread, torch.special.ndtri(_empty_share(~present, distance)), -Z_MAX)
    zero = zero.clamp_min(-Z_MAX).to(x)
    scores = zero + torch.linspace(0, 1, knots, dtype=x.dtype)[:, None] * (Z_MAX - zero)
    start = torch.where(spread, torch.special.ndtr(zero), 0.0)
    quantile = (torch.special.ndtr(scores) - start) / (1 - start)
    position = (absent + quantile * (size - absent) - 0.5).clamp_min(absent).clamp_max(size - 1)
    position = position.minimum(torch.full_like(position, size - 1))
    low = position.long()
    high = (low + 1).clamp_max(size - 1)
    table = torch.lerp(ordered.gather(0, low), ordered.gather(0, high), position - low)
    table[0] = torch.where(spread, 0.0, table[0])
    table = torch.cummax(table, 0).values + rise * torch.arange(knots, dtype=x.dtype)[:, None]
    return torch.where(absent < size, table, torch.nan), zero


def _levelled(values: Tensor, distance: Tensor, present: Tensor) -> Tensor:
    """``values`` moved to ``distance`` 0: along each column's straight line, and as its width grows or shrinks."""
    weight = present.to(values)
    total = weight.sum(0).clamp_min(1)
    mean = (weight * distance).sum(0) / total
    middle, slope = _line(values, distance - mean, weight)
    slope = torch.where(total >= 30, slope, 0.0)
    apart = values - middle - slope * (distance - mean)
    size = torch.log(apart.abs() + 1e-3 * (weight * apart.abs()).sum(0) / total + 1e-12)
    _, growth = _line(size, distance - mean, weight)
    growth = torch.where(total >= 100, growth, 0.0)
    return middle - slope * mean + apart * torch.exp((-growth * distance).clamp(-1, 1))


def _empty_share(absent: Tensor, distance: Tensor) -> Tensor:
    """``[F]`` the share of zeros at ``distance`` 0, from a straight line through where they are."""
    values, mean = absent.to(distance), distance.mean(0)
    share, slope = _line(values, distance - mean, torch.ones_like(values))
    least = 0.5 / len(values)
    return torch.where(share > 0, (share - slope * mean).clamp(least, 1 - least), 0.0)


def _line(values: Tensor, distance: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``[F]`` mean and slope of ``values[E, F]`` over ``distance[E, F]``, whose weighted mean is 0."""
    mean = (weight * values).sum(0) / weight.sum(0).clamp_min(1)
    square = (weight * distance**2).sum(0)
    cross = (weight * (values - mean) * distance).sum(0)
    return mean, torch.where(square > 0, cross / square.clamp_min(1e-12), 0.0)


def _fill_empty(table: Tensor) -> Tensor:
    """Tables of columns without any value, from the nearest window that has some, upwards first."""
    parts = list(table)
    for order in (range(len(parts) - 2, -1, -1), range(1, len(parts))):
        for i in order:
            other = parts[i + 1] if order.step < 0 else parts[i - 1]
            parts[i] = torch.where(parts[i].isnan(), other, parts[i])
    ramp = _RISE * torch.arange(1, table.shape[1] + 1, dtype=table.dtype)[:, None]
    return torch.stack([torch.where(part.isnan(), ramp, part) for part in parts])


def _slopes(table: Tensor, zero: Tensor, least: Tensor) -> Tensor:
    """``[2, F]`` value per score, on average over the lower and the upper half of the tables; at ``least[F]``."""
    middle = table[:, table.shape[1] // 2]
    part = table.shape[1] // 2 / (table.shape[1] - 1)
    lower = (middle - table[:, 0]) / ((Z_MAX - zero) * part)
    upper = (table[:, -1] - middle) / ((Z_MAX - zero) * (1 - part))
    return torch.stack([lower.mean(0), upper.mean(0)]).maximum(least)


def _censored(x: Tensor, zero: Tensor) -> Tensor:
    """Scores below ``zero`` for spread zeros ``x`` in (-1, 0), uniform in probability."""
    share = (1 + x.clamp(-1 + 1e-6, -1e-6)) * torch.special.ndtr(zero)
    score: Tensor = torch.special.ndtri(share.clamp_min(1e-7))
    return score

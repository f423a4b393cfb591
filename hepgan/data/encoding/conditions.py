"""Conditions as columns of ``c[E, C]``: linear, logarithmic, a fraction of the maximum, sine and cosine of an angle, or classes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.errors import DataError, RunError

MAX_CLASSES = 1000
"""Maximum number of classes of a condition; each takes a column of ``c``."""

LARGEST_CLASS = 2**24
"""Largest class: the largest integer up to which float32 represents all."""

MIN_EVENTS = 10
"""Minimum number of training events of a class."""

PERIODS = {"angle": 2 * math.pi, "degrees": 360.0}
"""Full circle of each scale for angles."""

UNITS = {"angle": ("rad", "radian", "radians"), "degrees": ("deg", "degree", "degrees", "°")}
"""Units that each scale for angles stands for."""

CLOSED = 1e-4
"""Fraction of a circle by which the range of a full circle may differ from it, so that ``[0.0, 6.2832]`` is one."""

Scale = Literal["linear", "log", "fraction", "angle", "degrees", "classes", "onehot"]


@dataclasses.dataclass(frozen=True)
class ConditionScale:
    """Map between a scalar condition and columns of ``c[E, C]``.

    Attributes:
        range: Smallest and largest allowed value in the unit of the condition; equal if there is only one value. By default the
            full circle of an angle, and the smallest and largest class.
        scale: ``linear`` and ``log`` map the range to [-1, 1]; ``fraction`` divides by the largest value; ``angle`` (in rad) and
            ``degrees`` make two columns, sine and cosine, and take values modulo the full circle; ``classes`` makes one column
            for each class; ``onehot`` makes one for each integer in the range.
        values: Classes of the scale ``classes``: any different integers, such as PDG ids.
    """

    range: tuple[float, float] = ()  # type: ignore[assignment]  # has two values after __post_init__
    scale: Scale = "linear"
    values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        limits: tuple[float, ...] = self.range
        if self.scale == "classes":
            self._check_classes(limits)
            object.__setattr__(self, "range", (float(min(self.values)), float(max(self.values))))
            return
        if self.values:
            raise RunError(
                f"a condition has values = {list(self.values)}, but the scale '{self.scale}'; write scale = \"classes\""
            )
        if not limits and self.scale not in PERIODS:
            raise RunError(f"a condition with the scale '{self.scale}' needs range = [low, high]")
        if not limits:
            object.__setattr__(self, "range", (0.0, self.period))
        self._check_range()

    def _check_classes(self, limits: tuple[float, ...]) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise RunError(
                f"a condition has the classes {list(self.values)}; give different integers, such as values = [22, -11]"
            )
        if limits and limits != (min(self.values), max(self.values)):
            raise RunError(
                f"a condition has values = {list(self.values)} and range = {list(limits)}; omit the range"
            )
        if max(map(abs, self.values)) > LARGEST_CLASS:
            raise RunError(
                f"a condition has the class {max(self.values, key=abs)}, which float32 cannot represent; use integers up to"
                f" {LARGEST_CLASS}"
            )
        self._check_number()

    def _check_range(self) -> None:
        low, high = self.range
        whole = self.scale != "onehot" or (float(low).is_integer() and float(high).is_integer())
        limits = torch.finfo(torch.float32)
        representable = max(abs(low), abs(high), high - low) <= limits.max
        positive = {"log": low, "fraction": high}.get(self.scale, 1.0) >= limits.tiny
        if not (representable and low <= high and whole and positive):
            raise RunError(
                f"a condition's range {list(self.range)} does not suit its scale '{self.scale}'"
            )
        if self.scale in PERIODS and high - low > self.period * (1 + CLOSED):
            raise RunError(
                f"a condition's range {list(self.range)} is wider than a full circle, which is {self.period:.6g} for the scale"
                f" '{self.scale}'"
            )
        self._check_number()

    def _check_number(self) -> None:
        if self.columns > MAX_CLASSES:
            raise RunError(
                f"a condition has {self.columns:.6g} classes, but the scale '{self.scale}' allows at most {MAX_CLASSES};"
                " use 'linear', or train one GAN per class"
            )

    @property
    def period(self) -> float:
        """Full circle of an angle in its unit; infinite for other scales."""
        return PERIODS.get(self.scale, math.inf)

    @property
    def circle(self) -> bool:
        """True if the condition is an angle that covers the full circle."""
        return self.range[1] - self.range[0] >= self.period * (1 - CLOSED)

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes in the order of their columns; empty for scales without classes."""
        if self.scale == "onehot":
            return tuple(range(int(self.range[0]), int(self.range[1]) + 1))
        return self.values

    @property
    def columns(self) -> int:
        """Number of columns of ``c``."""
        if self.scale == "onehot":
            return int(self.range[1] - self.range[0]) + 1
        return len(self.values) or (2 if self.scale in PERIODS else 1)

    def __str__(self) -> str:
        """Returns the allowed values in words, such as "1 to 100" or "one of 22, -11"."""
        if self.scale == "classes":
            return f"one of {', '.join(map(str, self.values))}"
        return f"{self.range[0]:g} to {self.range[1]:g}"

    def table(self) -> dict[str, Any]:
        """Returns the scale as a table for JSON, for ``from_table``."""
        table = {"range": list(self.range), "scale": self.scale}
        return {**table, "values": list(self.values)} if self.values else table

    def allows(self, values: Tensor) -> Tensor:
        """Returns ``[E]`` booleans: whether each value is finite and in the range, or is a class."""
        if self.scale == "classes":
            return torch.isin(values, self._classes_like(values))
        low, high = self.range
        # A limit stored as float32 may lie a rounding error outside the range.
        tolerance = 1e-6 * max(abs(low), abs(high))
        if self.scale in PERIODS:
            inside = torch.remainder(values - low + tolerance, self.period) <= (
                high - low + 2 * tolerance
            )
            return values.isfinite() & (inside | self.circle)
        inside = (values >= low - tolerance) & (values <= high + tolerance)
        return inside & (values == values.round()) if self.scale == "onehot" else inside

    def allows_range(self, low: float, high: float) -> bool:
        """Returns whether all values from ``low`` to ``high`` are allowed, or all classes between these two."""
        ends = bool(self.allows(torch.tensor([low, high], dtype=torch.float64)).all())
        # On a circle, the arc between two allowed angles may be the one that is not.
        narrow = high - low <= (self.range[1] - self.range[0]) * (1 + 1e-6)
        return ends and (narrow or self.circle or self.scale not in PERIODS)

    def encode(self, values: Tensor) -> Tensor:
        """Returns ``c[E, columns]`` for ``values[E]``."""
        low, high = self.range
        if self.classes:
            # The nearest class, so that a class that was rounded to float32 is still one.
            distances = (values[:, None] - self._classes_like(values)).abs()
            return torch.nn.functional.one_hot(distances.argmin(1), self.columns).to(values.dtype)
        if self.scale in PERIODS:
            angles = values * (2 * math.pi / self.period)
            return torch.stack([angles.sin(), angles.cos()], 1)
        if self.scale == "fraction":
            return (values / high)[:, None]
        if self.scale == "log":
            values, low, high = torch.log(values), math.log(low), math.log(high)
        if low == high:
            return (values - low)[:, None]
        return (2 * (values - low) / (high - low) - 1)[:, None]

    def decode(self, c: Tensor) -> Tensor:
        """Returns the values ``[E]`` of ``c[E, columns]``; angles within half a circle of the middle of the range."""
        low, high = self.range
        if self.classes:
            return self._classes_like(c)[c.argmax(1)]
        if self.scale in PERIODS:
            return self.wrap(torch.atan2(c[:, 0], c[:, 1]) * (self.period / (2 * math.pi)))
        if self.scale == "fraction":
            return c[:, 0] * high
        if self.scale == "log":
            low, high = math.log(low), math.log(high)
            return torch.exp(low + (c[:, 0] + 1) / 2 * (high - low))
        return low + (c[:, 0] + 1) / 2 * (high - low)

    def _classes_like(self, values: Tensor) -> Tensor:
        """Returns the classes in the type and on the device of ``values``."""
        return torch.tensor(self.classes, dtype=values.dtype).to(values.device)

    def wrap(self, angles: Tensor) -> Tensor:
        """Returns ``angles`` plus whole circles, within half a circle of the middle of the range."""
        start = (sum(self.range) - self.period) / 2
        return start + torch.remainder(angles - start, self.period)

    def examples(self, number: int) -> Tensor:
        """Returns ``number`` allowed values: evenly spaced over the range, or one class after the other."""
        if not self.classes:
            return torch.linspace(*self.range, number)
        return torch.tensor(self.classes, dtype=torch.float32)[torch.arange(number) % self.columns]


@dataclasses.dataclass(frozen=True)
class ConditionStatistics:
    """Number of events, and smallest value, largest value and sum of each column of ``c``; those of two chunks add.

    Attributes:
        events: Number of events.
        low: ``[C]``; infinite without events.
        high: ``[C]``.
        total: ``[C]``; for a class, its number of events.
        weighted: ``[C]``, the same with the weights of the events.
    """

    events: int
    low: Tensor
    high: Tensor
    total: Tensor
    weighted: Tensor

    @classmethod
    def of(cls, c: Tensor, weights: Tensor | None = None) -> "ConditionStatistics":
        """Returns the statistics of ``c[E, C]`` of events with ``weights[E]``."""
        bound = c.new_full((1, c.shape[1]), math.inf)
        low, high = torch.cat([c, bound]).amin(0), torch.cat([c, -bound]).amax(0)
        total = c.sum(0)
        return cls(len(c), low, high, total, total if weights is None else weights.to(c) @ c)

    def __add__(self, other: "ConditionStatistics") -> "ConditionStatistics":
        return ConditionStatistics(
            self.events + other.events,
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
            self.total + other.total,
            self.weighted + other.weighted,
        )

    def check(self, scales: Mapping[str, ConditionScale]) -> None:
        """Checks that a fit can determine the dependence on each condition.

        Raises:
            DataError: one of a condition's ``values`` has fewer than ``MIN_EVENTS`` events or no positive net weight, or a condition has the
                same value in all events although its range allows others.
        """
        first = 0
        for name, scale in scales.items():
            columns = slice(first, first + scale.columns)
            first += scale.columns
            events = dict(zip(scale.values, self.total[columns].int().tolist(), strict=False))
            for label, number in events.items():
                if number < MIN_EVENTS:
                    raise DataError(
                        f"{name} = {label} has {number} training events, but a class needs at least {MIN_EVENTS}; add events, or"
                        f" remove the class from [encoding.conditions.{name}]"
                    )
            for label, weight in zip(scale.values, self.weighted[columns].tolist(), strict=False):
                if not weight > 0:
                    raise DataError(
                        f"the weights of the training events with {name} = {label} sum to {weight:.3g}, but the sum must be positive; add"
                        f" events, or remove the class from [encoding.conditions.{name}]"
                    )
            low, high = scale.range
            constant = self.events > 1 and bool((self.low == self.high)[columns].all())
            if constant and low < high and not scale.classes:
                value = scale.decode(self.low[None, columns]).item()
                raise DataError(
                    f"{name} = {value:g} in all {self.events:,} training events, but its range is {scale}; write"
                    f" [encoding.conditions.{name}] range = [{value:g}, {value:g}], or add events with other values"
                )


def encode_conditions(
    values: Mapping[str, npt.ArrayLike] | ak.Array, scales: Mapping[str, ConditionScale]
) -> Tensor:
    """Returns ``c[E, C]`` in float64.

    Raises:
        DataError: a condition is missing, not finite, not allowed, or differs in length from the others.
    """
    names = values.fields if isinstance(values, ak.Array) else values
    parts = []
    for name, scale in scales.items():
        if name not in names:
            raise DataError(f"the condition '{name}' is missing; it may be {scale}")
        numbers = torch.from_numpy(np.array(values[name], dtype=np.float64, ndmin=1))
        check_condition(name, numbers, scale)
        parts.append(scale.encode(numbers))
    if not parts:
        return torch.empty(
            len(values) if isinstance(values, ak.Array) else 0, 0, dtype=torch.float64
        )
    if len({len(part) for part in parts}) > 1:
        raise DataError("the conditions differ in length: " + ", ".join(f"{len(p)}" for p in parts))
    return torch.cat(parts, 1)


def check_condition(name: str, values: Tensor, scale: ConditionScale) -> None:
    """Checks that all ``values[E]`` are allowed.

    Raises:
        DataError: a value is not; names the first.
    """
    outside = ~scale.allows(values)
    if not outside.any():
        return
    at = int(outside.nonzero()[0])
    value = values[at].item()
    if not math.isfinite(value):
        raise DataError(f"{name} = {value:g} in event {at} is not finite; it may be {scale}")
    if scale.classes:
        near = f"; did you mean {-value:g}?" if -value in scale.classes else ""
        raise DataError(f"{name} = {value:g} is not a class; it may be {scale}{near}")
    raise DataError(
        f"{name} = {value:g} is outside the trained range of {scale}; give a value in this range"
    )

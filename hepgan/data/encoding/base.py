"""What the steps of an encoding share: invertible maps of ``x[E, F]``, given the encoded conditions ``c[E, C]``.

| step | what it is for |
|---|---|
| ``scale`` | images and other bounded values to [-1, 1] or another range |
| ``standardise`` | columns of about one size: mean 0, width 1 |
| ``robust_standardise`` | the same by median and quartiles, where tails are long |
| ``power`` | large values pulled in: the sign stays, the size gets an exponent |
| ``threshold`` | small values to 0 |
| ``dequantise`` | integers to continuous values, by uniform noise that decoding cuts off |
| ``zero_noise`` | columns that never move get a little noise, as in TMVA |
| ``log`` | energies with a read-out threshold: log above it, zeros spread out below |
| ``logit`` | shares in [0, 1] |
| ``layer_fractions`` | each layer's cells over the layer's energy, which is appended |
| ``total_fractions`` | each layer's energy over the total, which is appended |
| ``incident_fraction`` | the total over the incident energy |
| ``layer_sums`` | all three in one, with ratios on the whole line, so that sums hold exactly |
| ``marginals`` | each column's ranks to a normal score, given a condition |
| ``whiten`` | principal components of width 1, of some columns before the others |
| ``copula`` | ``marginals`` and ``whiten``, with zeros that follow the dependence |
| ``regress`` | distances from what some columns (energies) say of the others, as it changes with a condition |

They are in ``scaling``, ``pointwise``, ``fractions``, ``layers``, ``marginals``, ``copula`` and ``regress``. A step is a frozen dataclass: settings
and fitted constants, made by its ``fit`` from the training events. ``encode`` may draw noise (where values are discrete);
``decode`` draws none and is differentiable.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.errors import RunError
from hepgan.random_streams import keyed_uniforms, stream_key

Finite = Annotated[float, Within()]
Positive = Annotated[float, Within(0, above=True)]
NotNegative = Annotated[float, Within(0)]
"""Numbers in the settings of steps."""

MOST_CLASSES = 1000
"""Of a one-hot condition: each is a column of ``c``."""

APPENDED = "appended"
"""What the columns behind those of the fields are called in a step's ``fields``."""


@dataclasses.dataclass(frozen=True)
class ConditionScale:
    """How a scalar condition becomes columns of ``c[E, C]``.

    Attributes:
        range: The smallest and largest value that may be asked for, in the condition's own unit; the same where there is but one.
        scale: ``linear`` or ``log`` map the range to [-1, 1]; ``share`` divides by the largest value; ``onehot`` makes a
            column for each integer in the range.
    """

    range: tuple[float, float]
    scale: Literal["linear", "log", "share", "onehot"] = "linear"

    def __post_init__(self) -> None:
        low, high = self.range
        whole = self.scale != "onehot" or (float(low).is_integer() and float(high).is_integer())
        limits = torch.finfo(torch.float32)
        held = max(abs(low), abs(high), high - low) <= limits.max
        positive = {"log": low, "share": high}.get(self.scale, 1.0) >= limits.tiny
        if not (held and low <= high and whole and positive):
            raise RunError(
                f"a condition's range {list(self.range)} does not suit its scale '{self.scale}'"
            )
        if self.columns > MOST_CLASSES:
            raise RunError(
                f"a condition's range {list(self.range)} has {self.columns:.6g} classes, but the scale 'onehot' takes"
                f" {MOST_CLASSES} at the most; write 'linear', or give each kind of events its own GAN"
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
        if low == high:
            return (values - low)[:, None]
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

    ``layer_sums`` and the like append columns behind those of the fields, which stay where they are; all appended ones
    together are called ``appended``.
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
        """``[width]`` booleans: the columns of ``fields`` (or ``appended``), or all of them where ``fields`` is empty.

        Raises:
            RunError: a name that is no field, or ``appended`` where nothing has been.
        """
        found = torch.full((width,), not fields)
        for name in fields:
            if name == APPENDED and name not in self.fields:
                if width == self.size:
                    raise RunError(
                        f"an encoding step names '{APPENDED}', but no step before it appends any column, as layer_sums does"
                    )
                found[self.size :] = True
                continue
            if name not in self.fields:
                raise RunError(
                    f"an encoding step names '{name}', but the fields are {', '.join(self.fields)}"
                )
            found[self.fields[name]] = True
        return found


class Moments(NamedTuple):
    """What some steps need to know of all events; the moments of two chunks add up to those of both.

    Attributes:
        events: How many.
        mean: ``[F]``.
        square: ``[F]``, sum of squared distances from the mean.
        low: ``[F]``, smallest value.
        high: ``[F]``, largest value.
    """

    events: int
    mean: Tensor
    square: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, x: "Tensor | Moments") -> "Moments":
        """Of ``x[E, F]``; moments are what they are."""
        if isinstance(x, Moments):
            return x
        square, mean = torch.var_mean(x, 0, correction=0)
        return cls(len(x), mean, len(x) * square, x.amin(0), x.amax(0))

    def merged(self, other: "Moments") -> "Moments":
        """Of both samples (T. F. Chan, G. H. Golub, R. J. LeVeque, Am. Stat. 37 (1983) 242)."""
        events = self.events + other.events
        apart = other.mean - self.mean
        return Moments(
            events,
            self.mean + apart * other.events / events,
            self.square + other.square + apart**2 * (self.events * other.events / events),
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
        )

    @property
    def width(self) -> Tensor:
        """``[F]``, the sample's standard deviation."""
        return (self.square / max(1, self.events - 1)).sqrt()


@dataclasses.dataclass(frozen=True)
class Noise:
    """Where steps draw from: each number is a function of (seed, what it is for, entry, column), in whichever chunks events come.

    Attributes:
        seed: The seed.
        children: Of the stream ``encoding``: what it is for, the events' file, the step.
        entries: ``[E]`` the events' entries in that file.
    """

    seed: int
    children: tuple[int | str, ...]
    entries: npt.NDArray[np.int64]

    def child(self, name: int | str) -> "Noise":
        """Returns other noise for the same events: for a step, or for one of its draws."""
        return dataclasses.replace(self, children=(*self.children, name))


class Step(Protocol):
    """What every step has besides its own ``fit(x, c, columns, noise, *, settings…)``."""

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """``x[E, F]`` one step nearer to the network."""
        ...

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """The way back."""
        ...


def column_of(given: str, columns: Columns) -> int:
    """The column of ``c`` that is the scalar condition ``given``.

    Raises:
        RunError: it is no condition, or one of several columns.
    """
    place = columns.conditions.get(given)
    if place is None or place.stop - place.start != 1:
        known = ", ".join(columns.conditions) or "none"
        raise RunError(
            f"an encoding step is given '{given}', which is no scalar condition (there are: {known})"
        )
    return int(place.start)


def uniform(x: Tensor, noise: Noise) -> Tensor:
    """Returns numbers in (0, 1) of the shape of ``x[E, K]``, never 0: a zero stays strictly below the threshold.

    The same noise gives the same numbers; what draws twice takes children of it.
    """
    key = stream_key(noise.seed, "encoding", *noise.children)
    drawn = torch.from_numpy(keyed_uniforms(noise.entries, x.shape[1], key=key))
    return drawn.clamp(1e-6, 1 - 1e-6).to(x)

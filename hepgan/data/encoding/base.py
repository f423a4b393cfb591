"""Steps of an encoding: invertible maps of ``x[E, F]``, conditional on ``c[E, C]``, and their registry.

| step | use |
|---|---|
| ``scale`` | map images and other bounded values to [-1, 1] or another range |
| ``standardize`` | mean 0 and standard deviation 1 |
| ``robust_standardize`` | the same from median and quartiles, for long tails |
| ``power`` | compress large values: an exponent on the magnitude, the sign is kept |
| ``threshold`` | set small values to 0 |
| ``dequantize`` | make integers continuous with uniform noise, which decoding removes |
| ``zero_noise`` | add a little noise to constant columns, as in TMVA |
| ``log`` | energies with a readout threshold: logarithm above it, zeros spread out below |
| ``logit`` | fractions in [0, 1] |
| ``layer_fractions`` | divide the cells of each layer by the layer energy, which is appended |
| ``total_fractions`` | divide each layer energy by the total, which is appended |
| ``incident_fraction`` | divide the total by the incident energy |
| ``layer_sums`` | all three at once, with unbounded ratios; the sums are exact by construction |
| ``marginals`` | map the ranks of each column to normal scores, conditional on one condition |
| ``whiten`` | principal components with standard deviation 1; other columns may be conditioned on some |
| ``copula`` | ``marginals`` and ``whiten``, with zeros drawn from the dependence |
| ``energy_tree`` | showers: splits of the energy between layers and cells, conditional on all conditions |
| ``autoregressive`` | tables: each column conditional on all conditions and the columns before it |
| ``correlation`` | correlations that are left between normal scores, as after ``energy_tree`` |
| ``regress`` | standardized residuals of a regression on some columns (energies) and one condition |

A step is a frozen dataclass of settings and fitted constants, returned by its ``fit`` from the training events. ``encode`` may draw
noise (for discrete values); ``decode`` is deterministic and differentiable.

``@register_step`` makes a step of your own available in run files (examples/own_step.py).
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.errors import RunError
from hepgan.plugins import plugin_of
from hepgan.random_streams import keyed_uniforms, stream_key

Finite = Annotated[float, Within()]
Positive = Annotated[float, Within(0, above=True)]
NotNegative = Annotated[float, Within(0)]
"""Numbers in the settings of steps."""

APPENDED = "appended"
"""Name by which a step's ``fields`` refers to the appended columns."""


@dataclasses.dataclass(frozen=True)
class ColumnLayout:
    """Columns of each field in ``x`` and of each condition in ``c``, with units, scales and the shapes of fields.

    Some steps, such as ``layer_sums``, append columns after those of the fields, whose positions do not change; all appended
    columns together are called ``appended``.
    """

    fields: Mapping[str, slice]
    units: Mapping[str, str]
    conditions: Mapping[str, slice]
    scales: Mapping[str, ConditionScale]
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of columns of all fields."""
        return max(int(s.stop) for s in self.fields.values())

    def mask(self, fields: tuple[str, ...], width: int) -> Tensor:
        """Returns ``[width]`` booleans: the columns of ``fields`` (which may include ``appended``), or all if ``fields`` is empty.

        Raises:
            RunError: an unknown field, or ``appended`` although no column has been appended.
        """
        mask = torch.full((width,), not fields)
        for name in fields:
            if name == APPENDED and name not in self.fields:
                if width == self.size:
                    raise RunError(
                        f"an encoding step names '{APPENDED}', but no previous step appends a column, as layer_sums does"
                    )
                mask[self.size :] = True
                continue
            if name not in self.fields:
                raise RunError(
                    f"an encoding step names '{name}', but the fields are {', '.join(self.fields)}"
                )
            mask[self.fields[name]] = True
        return mask

    def condition_columns(self, names: tuple[str, ...]) -> Tensor:
        """Returns the columns ``[K]`` of ``c`` that hold the conditions ``names``, or all if there are no names.

        Raises:
            RunError: an unknown condition.
        """
        for name in names:
            if name not in self.conditions:
                known = ", ".join(self.conditions) or "none"
                raise RunError(
                    f"conditions names '{name}', which is not a condition (known: {known})"
                )
        slices = [self.conditions[name] for name in names or self.conditions]
        columns = [column for at in slices for column in range(at.start, at.stop)]
        return torch.tensor(columns, dtype=torch.int64)

    def condition_column(self, name: str) -> int:
        """Returns the column of ``c`` that holds the scalar condition ``name``.

        Raises:
            RunError: there is no such condition, or it has several columns.
        """
        columns = self.conditions.get(name)
        if columns is not None and columns.stop - columns.start != 1:
            raise RunError(
                f"an encoding step names the condition '{name}', whose scale '{self.scales[name].scale}' has"
                f" {columns.stop - columns.start} columns, but the step takes a condition with one number"
            )
        if columns is None:
            known = ", ".join(self.conditions) or "none"
            raise RunError(
                f"an encoding step names the condition '{name}', which is not a scalar condition (known: {known})"
            )
        return int(columns.start)


class Moments(NamedTuple):
    """Moments and range of each column; those of two chunks can be merged.

    Attributes:
        events: Number of events.
        weight: Sum of their weights; the number of events if they are unweighted.
        center: ``[F]``, mean of the unweighted events.
        first: ``[F]``, weighted sum of deviations from the center; the sums of weights of a chunk may be 0.
        second: ``[F]``, weighted sum of squared deviations from the center.
        low: ``[F]``, smallest value.
        high: ``[F]``, largest value.
    """

    events: int
    weight: float
    center: Tensor
    first: Tensor
    second: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, x: "Tensor | Moments", weights: Tensor | None = None) -> "Moments":
        """Returns the moments of ``x[E, F]``; moments are returned unchanged."""
        if isinstance(x, Moments):
            return x
        square, center = torch.var_mean(x, 0, correction=0)
        weight, first, second = float(len(x)), torch.zeros_like(center), len(x) * square
        if weights is not None:
            weight = float(weights.sum())
            first, second = (weights.to(x) @ (x - center) ** power for power in (1, 2))
        return cls(len(x), weight, center, first, second, x.amin(0), x.amax(0))

    def merge(self, other: "Moments") -> "Moments":
        """Returns the moments of both samples, as T. F. Chan, G. H. Golub, R. J. LeVeque, Am. Stat. 37 (1983) 242."""
        events = self.events + other.events
        center = self.center + (other.center - self.center) * other.events / events
        one, two = self._about(center), other._about(center)
        return Moments(
            events,
            self.weight + other.weight,
            center,
            one[0] + two[0],
            one[1] + two[1],
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
        )

    def _about(self, center: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the weighted sums of deviations from ``center``, and of their squares."""
        shift = self.center - center
        first = self.first + self.weight * shift
        return first, self.second + shift * (2 * self.first + self.weight * shift)

    @property
    def mean(self) -> Tensor:
        """``[F]``."""
        return self.center + self.first / self.weight

    @property
    def square(self) -> Tensor:
        """``[F]``, squared deviations from the mean, added up over events of mean weight 1."""
        return (self.second - self.first**2 / self.weight) * (self.events / self.weight)

    @property
    def std(self) -> Tensor:
        """``[F]``, sample standard deviation; 0 if negative weights leave a negative variance."""
        return (self.square / max(1, self.events - 1)).clamp_min(0).sqrt()


@dataclasses.dataclass(frozen=True)
class Noise:
    """Source of random numbers for steps: each is a function of (seed, purpose, entry, column), however events are chunked.

    Attributes:
        seed: The seed.
        children: Names of the child stream below ``encoding``: the purpose, the events' file, the step.
        entries: ``[E]`` entry numbers of the events in that file.
    """

    seed: int
    children: tuple[int | str, ...]
    entries: npt.NDArray[np.int64]

    def child(self, name: int | str) -> "Noise":
        """Returns independent noise for the same events: for a step, or for one of its draws."""
        return dataclasses.replace(self, children=(*self.children, name))


def uniform(x: Tensor, noise: Noise) -> Tensor:
    """Returns uniform random numbers in (0, 1) with the shape of ``x[E, K]``.

    The same noise gives the same numbers; a step that draws twice must use two children of its noise.
    """
    key = stream_key(noise.seed, "encoding", *noise.children)
    drawn = torch.from_numpy(keyed_uniforms(noise.entries, x.shape[1], key=key))
    # Strictly inside: a spread-out zero must stay below the threshold.
    return drawn.clamp(1e-6, 1 - 1e-6).to(x)


class Step(Protocol):
    """Interface of a fitted step, in addition to its class method ``fit(x, c, columns, noise, *, settings…)``.

    A ``fit`` may have two more parameters: ``progress``, a progress callback, if it takes long, and ``weights``, ``[E]`` weights of the
    events, which add up to E and may be negative, or ``None`` for unweighted events. Without the second one, it is fitted to the
    unweighted events: the step is invertible all the same, and the GAN learns the rest.
    """

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Encodes ``x[E, F]``, conditional on ``c[E, C]``."""
        ...

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Inverts ``encode``; deterministic and differentiable."""
        ...


@typing.runtime_checkable
class SummarizedStep(Protocol):
    """Step with a line of its own in the representations of an encoding."""

    def summary(self) -> str:
        """Returns the quality of the fit in one line."""
        ...


T = TypeVar("T", bound=type)

STEPS: dict[str, type] = {}
"""The registered steps by their names in a run file."""

NAMES: dict[type, str] = {}
"""The names of all classes that are saved as steps."""

NETWORKS: set[type] = set()
"""Classes among them whose tensors are all weights of a network."""

FROM_MOMENTS: set[type] = set()
"""Steps that are fitted to ``Moments``, and therefore to all events of a stream."""


def register_step(name: str, *, from_moments: bool = False) -> Callable[[T], T]:
    """Class decorator that makes an encoding step available in run files and saved GANs.

    The class is a frozen dataclass with ``fit``, ``encode`` and ``decode`` (see ``Step``). The keyword-only parameters of ``fit``
    are the settings in the run file, checked against their annotations. Attributes are tensors, numbers, text, tuples of these,
    or other registered steps; tensors are moved and saved with the encoding.

    Args:
        name: Name of the step in a run file.
        from_moments: ``fit`` accepts ``Moments`` in place of ``x``, so that it uses all events of a stream instead of a sample.

    Raises:
        RunError: the class does not have this form, or the name is taken.
    """

    def register(cls: T) -> T:
        _check_step(cls, name)
        tensor_record(cls)
        STEPS[name], NAMES[cls] = cls, name
        if from_moments:
            FROM_MOMENTS.add(cls)
        return cls

    return register


def _check_step(cls: type, name: str) -> None:
    known = STEPS.get(name)
    # Importing a module again (a notebook, a reload) replaces its own step.
    if known is not None and (plugin_of(known), known.__qualname__) != (
        plugin_of(cls),
        cls.__qualname__,
    ):
        raise RunError(
            f"the encoding step '{name}' is already defined by {known.__module__}.{known.__qualname__}; choose another name"
        )
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise RunError(
            f"the encoding step '{name}' must be a frozen dataclass; write @dataclasses.dataclass(frozen=True) below"
            " @register_step"
        )
    for method in ("fit", "encode", "decode"):
        if not callable(getattr(cls, method, None)):
            raise RunError(f"the encoding step '{name}' has no method '{method}'")
    for parameter in settings_of(cls).values():
        if parameter.annotation is inspect.Parameter.empty:
            raise RunError(
                f"the setting '{parameter.name}' of the encoding step '{name}' has no type; annotate it in 'fit'"
            )


def settings_of(step: type) -> dict[str, inspect.Parameter]:
    """Returns the settings of a step: the keyword-only parameters of its ``fit``."""
    return {
        key: parameter
        for key, parameter in inspect.signature(typing.cast(Any, step).fit).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def tensor_record(cls: T) -> T:
    """Class decorator for dataclasses with tensors: ``==`` compares values, ``hash`` is consistent with it, ``repr`` shows shapes."""

    def equal(self: Any, other: object) -> Any:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(value, getattr(other, name)) for name, value in _attributes(self))

    def hashed(self: Any) -> int:
        shapes = (tuple(v.shape) for _, v in _attributes(self) if isinstance(v, Tensor))
        return hash((type(self), *shapes))

    def shown(self: Any) -> str:
        parts = (
            f"{name}=[{' × '.join(map(str, v.shape))}]" if isinstance(v, Tensor) else f"{name}={v}"
            for name, v in _attributes(self)
        )
        return f"{type(self).__name__}({', '.join(parts)})"

    methods = {"__eq__": equal, "__hash__": hashed, "__repr__": shown}
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls


def _attributes(record: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.device == other.device and one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)

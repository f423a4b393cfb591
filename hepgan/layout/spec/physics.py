"""The words made for events: their conditions, energies and occupancies, and how alike a batch's events are."""

import dataclasses
from collections.abc import Iterable

from hepgan.layout.spec.base import (
    LINEAR,
    Activation,
    LayerSpec,
    Shape,
    ShapeContext,
    at_least,
    size,
)
from hepgan.layout.spec.composite import channel_axis
from hepgan.layout.spec.diagnostics import MisfitError


@dataclasses.dataclass(frozen=True)
class CondSpec(LayerSpec):
    """The event's conditions beside what comes, constant over an image; ``COND|width`` embeds them in a dense layer first."""

    word = "COND"
    forms = ((), ("width",))
    width: int = at_least(1, 0)
    activation: Activation = LINEAR

    def check(self, *, given: Iterable[str] = ()) -> None:
        """An activation acts on the embedding."""
        super().check(given=given)
        if not self.width and not self.formulas and self.activation != LINEAR:
            raise MisfitError(
                "an activation of the conditions needs a width: COND|width|activation", ""
            )

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Deeper, or wider, by the conditions."""
        axis, more = channel_axis(shape), self.width or _conditions(self, setting)
        return (*shape[:axis], shape[axis] + more, *shape[axis + 1 :])

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """Those of the embedding."""
        return self.width * (_conditions(self, setting) + 1)

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """Those of the embedding."""
        return self.width * setting.conditions


@dataclasses.dataclass(frozen=True)
class TimesSpec(LayerSpec):
    """Every value times a condition of the event; ``TIMES|1`` takes the second one."""

    word = "TIMES"
    forms = ((), ("condition",))
    condition: int = at_least(0, 0)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Unchanged."""
        _conditions(self, setting, self.condition)
        return shape


@dataclasses.dataclass(frozen=True)
class ScaleSpec(LayerSpec):
    """Every value times a constant."""

    word = "SCALE"
    forms = (("factor",),)
    factor: float


@dataclasses.dataclass(frozen=True)
class SumSpec(LayerSpec):
    """The sum of all values: a layer's energy."""

    word = "SUM"

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """One value."""
        return (1,)


@dataclasses.dataclass(frozen=True)
class OccupancySpec(LayerSpec):
    """The share of values above ``threshold``; ``softness`` > 0 makes the step a sigmoid of that width, with a gradient."""

    word = "OCCUPANCY"
    forms = ((), ("threshold",), ("threshold", "softness"))
    threshold: float = 0.0
    softness: float = at_least(0, 0.0)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """One value."""
        return (1,)


@dataclasses.dataclass(frozen=True)
class BalanceSpec(LayerSpec):
    """How far the sum of all values is from ``scale`` times a condition, and 10 where that is beyond ``limit``, else 0."""

    word = "BALANCE"
    forms = (("scale", "limit"), ("scale", "limit", "condition"))
    scale: float
    limit: float
    condition: int = at_least(0, 0)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Two values."""
        _conditions(self, setting, self.condition)
        return (2,)


@dataclasses.dataclass(frozen=True)
class MinibatchDiscriminationSpec(LayerSpec):
    """How near an event is to the others of its batch in ``features`` trained projections (arXiv:1606.03498, section 3.2).

    The input is kept, flat, in front of the features; with ALONE it is not.
    """

    word = "MBDISC"
    forms = (("features", "dimensions"),)
    known_flags = (("ALONE",),)
    features: int = at_least(1)
    dimensions: int = at_least(1)
    activation: Activation = LINEAR

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Flat, longer by the features."""
        return ((0 if "ALONE" in self.flags else size(shape)) + self.features,)

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """A projection with bias for each feature and dimension."""
        return self.features * self.dimensions * (size(shape) + 1)

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """The projections."""
        return self.features * self.dimensions * size(shape)


def _conditions(word: LayerSpec, setting: ShapeContext, index: int = 0) -> int:
    if not setting.conditions:
        raise MisfitError(f"{word.word} needs conditions, but the events have none", "")
    if index >= setting.conditions:
        message = f"no condition {index}: the events have {setting.conditions}, counted from 0"
        raise MisfitError(message, "condition")
    return setting.conditions


#: Words that say where the conditions go; a layout without any takes them at its input.
CONDITIONED: tuple[type[LayerSpec], ...] = (CondSpec, TimesSpec, BalanceSpec)

WORDS: tuple[type[LayerSpec], ...] = (
    *(CondSpec, TimesSpec, ScaleSpec, SumSpec, OccupancySpec, BalanceSpec),
    MinibatchDiscriminationSpec,
)

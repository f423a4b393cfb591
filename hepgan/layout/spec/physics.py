"""Layer words for events: conditions, energies, occupancies, and minibatch discrimination."""

import dataclasses
from collections.abc import Iterable

from hepgan.layout.spec.base import (
    LINEAR,
    Activation,
    LayerSpec,
    MisfitError,
    Shape,
    ShapeContext,
    at_least,
    channel_axis,
    register_layer,
    size,
)


@register_layer
@dataclasses.dataclass(frozen=True)
class CondSpec(LayerSpec):
    """Concatenation of the event's conditions, constant over an image; ``COND|width`` embeds them in a dense layer first."""

    word = "COND"
    uses_conditions = True
    forms = ((), ("width",))
    width: int = at_least(1, 0)
    activation: Activation = LINEAR

    @classmethod
    def spellings(cls) -> list[str]:
        """Returns the word without and with an embedding; only an embedding has an activation."""
        return ["COND", "COND|width[|activation]"]

    def check(self, *, given: Iterable[str] = ()) -> None:
        """Raises ``MisfitError`` also for an activation without an embedding."""
        super().check(given=given)
        if not self.width and not self.formulas and self.activation != LINEAR:
            raise MisfitError(
                "an activation of the conditions needs a width; write COND|width|activation", ""
            )

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape with the conditions as additional channels."""
        axis, more = channel_axis(shape), self.width or _conditions(self, context)
        return (*shape[:axis], shape[axis] + more, *shape[axis + 1 :])

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts those of the embedding."""
        return self.width * (_conditions(self, context) + 1)

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts those of the embedding."""
        return self.width * context.conditions


@register_layer
@dataclasses.dataclass(frozen=True)
class TimesSpec(LayerSpec):
    """Multiplication by a condition of the event; ``TIMES|1`` takes the second one."""

    word = "TIMES"
    uses_conditions = True
    forms = ((), ("condition",))
    condition: int = at_least(0, 0)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape."""
        _conditions(self, context, self.condition)
        return shape


@register_layer
@dataclasses.dataclass(frozen=True)
class ScaleSpec(LayerSpec):
    """Multiplication by a constant."""

    word = "SCALE"
    forms = (("factor",),)
    factor: float


@register_layer
@dataclasses.dataclass(frozen=True)
class SumSpec(LayerSpec):
    """Sum of all values, such as a layer's energy."""

    word = "SUM"

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the shape of one value."""
        return (1,)


@register_layer
@dataclasses.dataclass(frozen=True)
class OccupancySpec(LayerSpec):
    """Fraction of values above ``threshold``; a ``softness`` > 0 replaces the step by a sigmoid of that width, with a gradient."""

    word = "OCCUPANCY"
    forms = ((), ("threshold",), ("threshold", "softness"))
    threshold: float = 0.0
    softness: float = at_least(0, 0.0)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the shape of one value."""
        return (1,)


@register_layer
@dataclasses.dataclass(frozen=True)
class BalanceSpec(LayerSpec):
    """Distance of the sum of all values from ``scale`` times a condition; and 10 if it exceeds ``limit``, else 0."""

    word = "BALANCE"
    uses_conditions = True
    forms = (("scale", "limit"), ("scale", "limit", "condition"))
    scale: float
    limit: float
    condition: int = at_least(0, 0)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the shape of two values."""
        _conditions(self, context, self.condition)
        return (2,)


@register_layer
@dataclasses.dataclass(frozen=True)
class MinibatchDiscriminationSpec(LayerSpec):
    """Minibatch discrimination: similarity of an event to the rest of its batch, in ``features`` trained projections (arXiv:1606.03498).

    The features are appended to the flattened input; with ALONE, they replace it.
    """

    word = "MBDISC"
    forms = (("features", "dimensions"),)
    known_flags = (("ALONE",),)
    features: int = at_least(1)
    dimensions: int = at_least(1)
    activation: Activation = LINEAR

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns a flat shape with the features appended."""
        return ((0 if "ALONE" in self.flags else size(shape)) + self.features,)

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts a projection with bias for each feature and dimension."""
        return self.features * self.dimensions * (size(shape) + 1)

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the projections."""
        return self.features * self.dimensions * size(shape)


def _conditions(word: LayerSpec, context: ShapeContext, index: int = 0) -> int:
    if not context.conditions:
        raise MisfitError(f"{word.word} needs conditions, but the events have none", "")
    if index >= context.conditions:
        message = f"no condition {index}: the events have {context.conditions}, counted from 0"
        raise MisfitError(message, "condition")
    return context.conditions

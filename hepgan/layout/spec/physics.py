"""Layer words for events: conditions, energies, occupancies, and statistics of the batch."""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

from hepgan.layout.spec.base import (
    EPSILONS,
    INITIALIZATIONS,
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
    within,
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


@dataclasses.dataclass(frozen=True)
class _EmbeddingSpec(LayerSpec):
    """Base class of words with an embedding of the conditions: a linear map, or one with a hidden layer of ``width`` units."""

    uses_conditions = True
    forms: ClassVar[tuple[tuple[str, ...], ...]] = ((), ("width",))
    width: int = at_least(1, 0)
    activation: Activation = LINEAR

    @classmethod
    def spellings(cls) -> list[str]:
        """Returns the word without and with a hidden layer; only a hidden layer has an activation."""
        return [cls.word, f"{cls.word}|width[|activation]"]

    def check(self, *, given: Iterable[str] = ()) -> None:
        """Raises ``MisfitError`` also for an activation without a hidden layer."""
        super().check(given=given)
        if not self.width and not self.formulas and self.activation != LINEAR:
            raise MisfitError(
                f"an activation of the embedding needs a width; write {self.word}|width|activation",
                "",
            )

    def embedding(self, context: ShapeContext, outputs: int, *, bias: bool) -> tuple[int, int]:
        """Returns the numbers of weights and of biases of an embedding with ``outputs`` values."""
        conditions = _conditions(self, context)
        if not self.width:
            return conditions * outputs, bias * outputs
        return self.width * (conditions + outputs), self.width + bias * outputs


@register_layer
@dataclasses.dataclass(frozen=True)
class ModulateSpec(_EmbeddingSpec):
    """Scale and shift of each channel as functions of the conditions (arXiv:1709.07871); the identity before training.

    They are linear in the conditions; ``MODULATE|width|activation`` adds a hidden layer.
    """

    word = "MODULATE"

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the embedding, with a scale and a shift of each channel."""
        return sum(self.embedding(context, 2 * shape[channel_axis(shape)], bias=True))

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights of the embedding."""
        return self.embedding(context, 2 * shape[channel_axis(shape)], bias=True)[0]


@register_layer
@dataclasses.dataclass(frozen=True)
class AdaptiveLayerNormSpec(ModulateSpec):
    """Layer normalization over all values of an event, with a scale and shift of each channel that depend on the conditions.

    Before training it is a layer normalization. The scale and shift are those of MODULATE (arXiv:2212.09748).
    """

    word = "ADALN"
    forms = ((), ("width",), ("width", "epsilon"))
    epsilon: float = within(*EPSILONS, 1e-5)

    @classmethod
    def spellings(cls) -> list[str]:
        """Returns the word without and with a hidden layer; only a hidden layer has an activation."""
        return ["ADALN", "ADALN|width[|activation]", "ADALN|width|epsilon[|activation]"]


@register_layer
@dataclasses.dataclass(frozen=True)
class ProjectionSpec(_EmbeddingSpec):
    """Projection discriminator: a linear function of the features plus their product with an embedding of the conditions.

    One output, the last layer of a discriminator (arXiv:1802.05637). Of classes, the embedding is one vector for each; that of other
    conditions gains from a hidden layer, ``PROJECTION|width|activation``.
    """

    word = "PROJECTION"
    known_flags = (INITIALIZATIONS, ("SN",))

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the shape of one value."""
        return (1,)

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts a weight per feature, a bias and the embedding, whose last layer has no bias."""
        return size(shape) + 1 + sum(self.embedding(context, size(shape), bias=False))

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the linear function, the product and the weights of the embedding."""
        return 2 * size(shape) + self.embedding(context, size(shape), bias=False)[0]


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


@register_layer
@dataclasses.dataclass(frozen=True)
class MinibatchStdSpec(LayerSpec):
    """Standard deviation over the batch, averaged over all values of an event, as an additional constant channel (arXiv:1710.10196)."""

    word = "MINIBATCHSTD"

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape with one more channel."""
        axis = channel_axis(shape)
        return (*shape[:axis], shape[axis] + 1, *shape[axis + 1 :])


def _conditions(word: LayerSpec, context: ShapeContext, index: int = 0) -> int:
    if not context.conditions:
        raise MisfitError(f"{word.word} needs conditions, but the events have none", "")
    if index >= context.conditions:
        message = f"no condition {index}: the events have {context.conditions}, counted from 0"
        raise MisfitError(message, "condition")
    return context.conditions

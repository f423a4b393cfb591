"""Layer words for any shape: dense layers, activations, reshaping, normalization and dropout."""

import dataclasses
from collections.abc import Iterable

from hepgan.layout.spec.base import (
    EPSILONS,
    TANH,
    WEIGHT_FLAGS,
    Activation,
    LayerSpec,
    MisfitError,
    Shape,
    ShapeContext,
    at_least,
    format_shape,
    register_layer,
    size,
    within,
)


@register_layer
@dataclasses.dataclass(frozen=True)
class DenseSpec(LayerSpec):
    """Fully connected layer on the flattened input; width 0 is the network's number of outputs."""

    word = "DENSE"
    forms = ((), ("width",))
    known_flags = WEIGHT_FLAGS
    width: int = at_least(0, 0)
    activation: Activation = TANH

    def resolved(self, context: ShapeContext) -> LayerSpec:
        """Returns this word with formulas evaluated and width 0 replaced by the number of outputs, as in TMVA."""
        word = super().resolved(context)
        if isinstance(word, DenseSpec) and word.width:
            return word
        if self.formulas:
            raise MisfitError(f"width must be at least 1, but {self.formulas[0][1]} is 0", "width")
        if not context.outputs:
            raise MisfitError(
                "no width means the number of outputs, which is not known here", "width"
            )
        return dataclasses.replace(self, width=context.outputs)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns a flat shape."""
        return (self.width,)

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts one weight per input and output, and one bias per output."""
        return self.width * (size(shape) + ("NOBIAS" not in self.flags))

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts one multiply-add per input and output."""
        return self.width * size(shape)


@register_layer
@dataclasses.dataclass(frozen=True)
class ActSpec(LayerSpec):
    """Activation without a layer."""

    word = "ACT"
    activation: Activation


@register_layer
@dataclasses.dataclass(frozen=True)
class ReshapeSpec(LayerSpec):
    """Reshaping of the same values, row-major; with FLAT, to a flat shape."""

    word = "RESHAPE"
    forms = (
        (),
        ("width",),
        ("height", "width"),
        ("depth", "height", "width"),
        ("depth", "length", "height", "width"),
    )
    known_flags = (("FLAT",),)
    depth: int = at_least(1, 0)
    length: int = at_least(1, 0)
    height: int = at_least(1, 0)
    width: int = at_least(1, 0)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the given sizes, or a flat shape."""
        named = {
            n: s for n in ("depth", "length", "height", "width") if (s := getattr(self, n)) > 0
        }
        values, wanted = size(shape), size(tuple(named.values()))
        if not named and not self.flags:
            raise MisfitError("RESHAPE needs depth|height|width, FLAT, or both", "")
        if named and wanted != values:
            raise self._wrong(values, named, shape)
        return (values,) if self.flags else tuple(named.values())

    def _wrong(self, values: int, named: dict[str, int], shape: Shape) -> MisfitError:
        others = size(tuple(named.values())) // self.width
        message = (
            f"RESHAPE to {format_shape(tuple(named.values()))} = {others * self.width} values, but "
        )
        message += f"its input is {format_shape(shape)} = {values} values"
        if values % others:
            return MisfitError(message, *named)
        flat = " or RESHAPE|FLAT" if self.flags else ""
        return MisfitError(f"{message}; use {values // others} here{flat}", "width")


@register_layer
@dataclasses.dataclass(frozen=True)
class BatchNormSpec(LayerSpec):
    """Batch normalization of each feature, or each channel of an image, with a trained scale and shift.

    ``momentum`` is the fraction of the running mean that is kept at each batch (as in TMVA and Keras; torch's momentum is one
    minus this); a negative value, the default, averages over all batches.
    """

    word = "BNORM"
    forms = ((), ("momentum",), ("momentum", "epsilon"))
    momentum: float = within(-1, 1, -1.0)
    epsilon: float = within(*EPSILONS, 1e-4)

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts scale, shift, running mean and running variance of each channel."""
        return 4 * channel_count(shape)

    def statistics(self, shape: Shape) -> int:
        """Counts running mean and variance."""
        return 2 * channel_count(shape)


@register_layer
@dataclasses.dataclass(frozen=True)
class LayerNormSpec(LayerSpec):
    """Layer normalization over all values of an event, with a trained scale and shift of each (arXiv:1607.06450)."""

    word = "LNORM"
    forms = ((), ("epsilon",))
    epsilon: float = within(*EPSILONS, 1e-5)

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts scale and shift of each value."""
        return 2 * size(shape)


@register_layer
@dataclasses.dataclass(frozen=True)
class GroupNormSpec(LayerSpec):
    """Group normalization over groups of channels, with a trained scale and shift per channel (arXiv:1803.08494)."""

    word = "GNORM"
    forms = (("groups",), ("groups", "epsilon"))
    groups: int = at_least(1)
    epsilon: float = within(*EPSILONS, 1e-5)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape."""
        if len(shape) == 2 or shape[0] % self.groups:
            message = f"{self.groups} groups do not divide the depth of {format_shape(shape)}"
            raise MisfitError(message, "groups")
        if size(shape) == self.groups:
            raise MisfitError(f"{self.groups} groups of one value each", "groups")
        return shape

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts scale and shift of each channel."""
        return 2 * shape[0]


@register_layer
@dataclasses.dataclass(frozen=True)
class InstanceNormSpec(LayerSpec):
    """Instance normalization of each channel, with a trained scale and shift (arXiv:1607.08022)."""

    word = "INORM"
    forms = ((), ("epsilon",))
    epsilon: float = within(*EPSILONS, 1e-5)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape."""
        if len(shape) < 3 or size(shape[1:]) < 2:
            raise MisfitError(
                f"INORM needs several values per channel, but its input is {format_shape(shape)}",
                "",
            )
        return shape

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts scale and shift of each channel."""
        return 2 * shape[0]


@register_layer
@dataclasses.dataclass(frozen=True)
class DropoutSpec(LayerSpec):
    """Dropout: in training, sets each value to 0 with probability ``rate`` and scales up the others."""

    word = "DROPOUT"
    forms = (("rate",),)
    rate: float = at_least(0)

    def check(self, *, given: Iterable[str] = ()) -> None:
        """Raises ``MisfitError`` also for a rate of 1, which would drop everything."""
        super().check(given=given)
        if self.rate >= 1:
            raise MisfitError(f"rate must be below 1, not {self.rate:g}", "rate")


def channel_count(shape: Shape) -> int:
    """Returns the number of channels of a batch norm: the depth of an image, else the last axis (TMVA's 1|1|n is flat)."""
    return shape[0] if is_image(shape) else shape[-1]


def is_image(shape: Shape) -> bool:
    """Returns whether a shape is that of channels with several values each, rather than of features."""
    return len(shape) > 2 and shape[:2] != (1, 1)

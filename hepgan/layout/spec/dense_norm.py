"""The layer words that act on any shape, and ``WORDS``, all words by name.

One frozen dataclass a word; images' words are in ``images`` and ``pooling``, sequences' in ``recurrent``, those with networks
inside in ``streams`` and those made for events in ``physics``. To add a word: its dataclass, and its builder in ``builders``.
"""

import dataclasses
from collections.abc import Iterable

from hepgan.layout.spec import composite, convolution, physics, pooling, recurrent
from hepgan.layout.spec.base import (
    EPSILONS,
    TANH,
    WEIGHT_FLAGS,
    Activation,
    LayerSpec,
    Shape,
    ShapeContext,
    at_least,
    format_shape,
    size,
    within,
)
from hepgan.layout.spec.diagnostics import MisfitError


@dataclasses.dataclass(frozen=True)
class DenseSpec(LayerSpec):
    """Every output from every value of the input, whatever its shape; width 0 is the number of the network's outputs."""

    word = "DENSE"
    forms = ((), ("width",))
    known_flags = WEIGHT_FLAGS
    width: int = at_least(0, 0)
    activation: Activation = TANH

    def resolved(self, setting: ShapeContext) -> LayerSpec:
        """Width 0 becomes the number of outputs, as in TMVA."""
        word = super().resolved(setting)
        if isinstance(word, DenseSpec) and word.width:
            return word
        if self.formulas:
            raise MisfitError(f"width must be at least 1, but {self.formulas[0][1]} is 0", "width")
        if not setting.outputs:
            raise MisfitError(
                "no width stands for the number of outputs, which is not known here", "width"
            )
        return dataclasses.replace(self, width=setting.outputs)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """A flat shape."""
        return (self.width,)

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """A weight an input and output, a bias an output."""
        return self.width * (size(shape) + ("NOBIAS" not in self.flags))

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """One an input and output."""
        return self.width * size(shape)


@dataclasses.dataclass(frozen=True)
class ActSpec(LayerSpec):
    """An activation without a layer."""

    word = "ACT"
    activation: Activation


@dataclasses.dataclass(frozen=True)
class ReshapeSpec(LayerSpec):
    """Another shape for the same values, row-major; with FLAT a flat one, whatever sizes are named."""

    word = "RESHAPE"
    forms = (
        (),
        ("width",),
        ("height", "width"),
        ("depth", "height", "width"),
        ("depth", "length", "height", "width"),
    )
    known_flags = (("AXES_2D",),)
    depth: int = at_least(1, 0)
    length: int = at_least(1, 0)
    height: int = at_least(1, 0)
    width: int = at_least(1, 0)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """The named sizes, or all values in a row."""
        named = {
            n: s for n in ("depth", "length", "height", "width") if (s := getattr(self, n)) > 0
        }
        values, wanted = size(shape), size(tuple(named.values()))
        if not named and not self.flags:
            raise MisfitError("RESHAPE needs depth|height|width, AXES_2D, or both", "")
        if named and wanted != values:
            raise self._wrong(values, named, shape)
        return (values,) if self.flags else tuple(named.values())

    def _wrong(self, values: int, named: dict[str, int], shape: Shape) -> MisfitError:
        others = size(tuple(named.values())) // self.width
        message = (
            f"RESHAPE to {format_shape(tuple(named.values()))} = {others * self.width} values, but "
        )
        message += f"{format_shape(shape)} = {values} values reach it"
        if values % others:
            return MisfitError(message, *named)
        flat = " or RESHAPE|AXES_2D" if self.flags else ""
        return MisfitError(f"{message}; {values // others} would be right here{flat}", "width")


@dataclasses.dataclass(frozen=True)
class BatchNormSpec(LayerSpec):
    """Each feature, or each image depth, to mean 0 and width 1 over the batch, then a trained scale and shift.

    ``momentum`` is the share that the running mean keeps of itself at each batch (TMVA's and Keras's meaning; torch's is one
    minus it); a negative one, as by default, takes the mean over all batches seen.
    """

    word = "BNORM"
    forms = ((), ("momentum",), ("momentum", "epsilon"))
    momentum: float = within(-1, 1, -1.0)
    epsilon: float = within(*EPSILONS, 1e-4)

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """Scale, shift, running mean and running variance of each."""
        return 4 * channel_count(shape)

    def statistics(self, shape: Shape) -> int:
        """Running mean and variance."""
        return 2 * channel_count(shape)


@dataclasses.dataclass(frozen=True)
class LayerNormSpec(LayerSpec):
    """All values of an event to mean 0 and width 1, then a trained scale and shift of each (arXiv:1607.06450)."""

    word = "LNORM"
    forms = ((), ("epsilon",))
    epsilon: float = within(*EPSILONS, 1e-5)

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """Scale and shift of each value."""
        return 2 * size(shape)


@dataclasses.dataclass(frozen=True)
class GroupNormSpec(LayerSpec):
    """Groups of depths of one event to mean 0 and width 1, then a trained scale and shift a depth (arXiv:1803.08494)."""

    word = "GNORM"
    forms = (("groups",), ("groups", "epsilon"))
    groups: int = at_least(1)
    epsilon: float = within(*EPSILONS, 1e-5)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Unchanged."""
        if len(shape) == 2 or shape[0] % self.groups:
            message = f"{self.groups} groups do not divide the depth of {format_shape(shape)}"
            raise MisfitError(message, "groups")
        if size(shape) == self.groups:
            raise MisfitError(f"{self.groups} groups of one value each", "groups")
        return shape

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """Scale and shift a depth."""
        return 2 * shape[0]


@dataclasses.dataclass(frozen=True)
class InstanceNormSpec(LayerSpec):
    """Each depth of one event to mean 0 and width 1, then a trained scale and shift (arXiv:1607.08022)."""

    word = "INORM"
    forms = ((), ("epsilon",))
    epsilon: float = within(*EPSILONS, 1e-5)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Unchanged."""
        if len(shape) < 3 or size(shape[1:]) < 2:
            raise MisfitError(
                f"INORM needs several values a depth, but {format_shape(shape)} reaches it", ""
            )
        return shape

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """Scale and shift a depth."""
        return 2 * shape[0]


@dataclasses.dataclass(frozen=True)
class DropoutSpec(LayerSpec):
    """Each value set to 0 with probability ``rate`` in training, the rest scaled up to make good for it."""

    word = "DROPOUT"
    forms = (("rate",),)
    rate: float = at_least(0)

    def check(self, *, given: Iterable[str] = ()) -> None:
        """A rate of 1 would leave nothing."""
        super().check(given=given)
        if self.rate >= 1:
            raise MisfitError(f"rate must be below 1, not {self.rate:g}", "rate")


def channel_count(shape: Shape) -> int:
    """How many features a batch norm keeps apart: an image's depths, else the last axis (TMVA's 1|1|n is flat)."""
    return shape[0] if is_image(shape) else shape[-1]


def is_image(shape: Shape) -> bool:
    """Whether a shape has depths with several values each, rather than features."""
    return len(shape) > 2 and shape[:2] != (1, 1)


_HERE: tuple[type[LayerSpec], ...] = (
    *(
        DenseSpec,
        ActSpec,
        ReshapeSpec,
        DropoutSpec,
        BatchNormSpec,
        LayerNormSpec,
        GroupNormSpec,
        InstanceNormSpec,
    ),
)

#: Every word of the language by its name; a stream's is ``""``.
LAYERS: dict[str, type[LayerSpec]] = {
    word.word: word
    for word in (
        *_HERE,
        *recurrent.WORDS,
        *convolution.WORDS,
        *pooling.WORDS,
        *composite.WORDS,
        *physics.WORDS,
    )
}

"""The layer words with weights for images (depth|height|width) and voxels (depth|length|height|width)."""

import dataclasses
from typing import ClassVar

from hepgan.layout.spec.base import (
    TANH,
    WEIGHT_FLAGS,
    Activation,
    LayerSpec,
    Shape,
    ShapeContext,
    at_least,
    format_shape,
    side,
    size,
)
from hepgan.layout.spec.diagnostics import MisfitError

#: The fields of a sliding window, of its steps and of its padding.
AXES_2D = ("height", "width"), ("stride_rows", "stride_cols"), ("pad_height", "pad_width")
AXES_3D = (
    ("length", "height", "width"),
    ("stride_length", "stride_rows", "stride_cols"),
    ("pad_length", "pad_height", "pad_width"),
)
CIRCULAR = (("CIRCH",), ("CIRCW",))
_TO_RANK = {3: "depth|height|width", 4: "depth|length|height|width"}


@dataclasses.dataclass(frozen=True)
class SlidingSpec(LayerSpec):
    """What slides a window over an image or over voxels."""

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The fields of the window, of its steps and of the padding."""
        return AXES_2D

    def _tuple(self, which: int) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in self.names[which])

    @property
    def kernel(self) -> tuple[int, ...]:
        """The window's size along each axis."""
        return self._tuple(0)

    @property
    def stride(self) -> tuple[int, ...]:
        """The window's step along each axis."""
        return self._tuple(1)

    @property
    def padding(self) -> tuple[int, ...]:
        """What is added at both ends of each axis."""
        return self._tuple(2) if len(self.names) > 2 else (0,) * len(self.kernel)

    @property
    def circular(self) -> tuple[bool, ...]:
        """Which axes are padded with their other end."""
        flags = ("CIRCL", "CIRCH", "CIRCW")[-len(self.kernel) :]
        return tuple(flag in self.flags for flag in flags)

    def slid(self, shape: Shape) -> Shape:
        """How many places the window takes along each axis: floor((in − window + 2 padding)/stride) + 1."""
        places = []
        for axis, length in enumerate(spatial_axes(self, shape, len(self.kernel))):
            window, pad = self.kernel[axis], self.padding[axis]
            if self.circular[axis] and pad > length:
                raise MisfitError(f"circular padding {pad} of only {length}", self.names[2][axis])
            if window > length + 2 * pad:
                padded = f" with padding {pad}" if pad else ""
                message = f"{self.word} with a {self.names[0][axis]} of {window}, but only {length}{padded} there"
                raise MisfitError(
                    f"{message}: {format_shape(shape)} reaches it", self.names[0][axis]
                )
            places.append((length - window + 2 * pad) // self.stride[axis] + 1)
        return tuple(places)


@dataclasses.dataclass(frozen=True)
class ConvolutionSpec(SlidingSpec):
    """What CONV, CONV3D and the locally connected LOCAL share."""

    depth: int = at_least(1)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """``depth`` images of the window's places."""
        return (self.depth, *self.slid(shape))

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """The window's weights, and a bias a depth."""
        return self.depth * (shape[0] * size(self.kernel) + ("NOBIAS" not in self.flags))

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """The window's weights at each of its places."""
        return size(self.output(shape, setting)) * shape[0] * size(self.kernel)


@dataclasses.dataclass(frozen=True)
class ConvSpec(ConvolutionSpec):
    """A convolution. TMVA's older form has no padding pair; an eighth number splits the depths into groups of their own."""

    word = "CONV"
    forms: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("depth", *AXES_2D[0], *AXES_2D[1]),
        ("depth", *AXES_2D[0], *AXES_2D[1], *AXES_2D[2]),
        ("depth", *AXES_2D[0], *AXES_2D[1], *AXES_2D[2], "groups"),
    )
    known_flags = (*WEIGHT_FLAGS, *CIRCULAR)
    height: int = side(1)
    width: int = side(1)
    stride_rows: int = side(1)
    stride_cols: int = side(1)
    pad_height: int = side(0, 0)
    pad_width: int = side(0, 0)
    groups: int = at_least(1, 1)
    activation: Activation = TANH

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """``depth`` images of the window's places."""
        if shape[0] % self.groups or self.depth % self.groups:
            message = f"{self.groups} groups do not divide both depths, {shape[0]} and {self.depth}"
            raise MisfitError(message, "groups")
        return super().output(shape, setting)

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """The window's weights on one group, and a bias a depth."""
        return super().parameters((shape[0] // self.groups, *shape[1:]), setting)

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """The window's weights at each of its places."""
        return super().operations(shape, setting) // self.groups


@dataclasses.dataclass(frozen=True)
class LocalSpec(ConvSpec):
    """A convolution whose weights differ from place to place (Keras's LocallyConnected2D)."""

    word = "LOCAL"
    forms = ConvSpec.forms[:2]

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """A convolution's weights at each place."""
        return size(self.slid(shape)) * super().parameters(shape, setting)


@dataclasses.dataclass(frozen=True)
class Conv3dSpec(ConvolutionSpec):
    """A convolution of voxels."""

    word = "CONV3D"
    forms = (("depth", *AXES_3D[0], *AXES_3D[1]), ("depth", *AXES_3D[0], *AXES_3D[1], *AXES_3D[2]))
    known_flags = (*WEIGHT_FLAGS, ("CIRCL",), *CIRCULAR)
    length: int = side(1)
    height: int = side(1)
    width: int = side(1)
    stride_length: int = side(1)
    stride_rows: int = side(1)
    stride_cols: int = side(1)
    pad_length: int = side(0, 0)
    pad_height: int = side(0, 0)
    pad_width: int = side(0, 0)
    activation: Activation = TANH

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Three axes each."""
        return AXES_3D


@dataclasses.dataclass(frozen=True)
class TransposedSpec(ConvolutionSpec):
    """What TCONV and TCONV3D share: out = (in − 1) stride − 2 padding + window."""

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """``depth`` images, larger by the stride."""
        grown = []
        for axis, length in enumerate(spatial_axes(self, shape, len(self.kernel))):
            pad = self.padding[axis]
            grown.append((length - 1) * self.stride[axis] - 2 * pad + self.kernel[axis])
            if grown[-1] < 1:
                message = f"padding {pad} leaves nothing of {self.word}'s output from {format_shape(shape)}"
                raise MisfitError(message, self.names[2][axis])
        return (self.depth, *grown)

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """The window's weights at each place of the input."""
        return size(shape) * self.depth * size(self.kernel)


@dataclasses.dataclass(frozen=True)
class TConvSpec(TransposedSpec):
    """A transposed convolution of an image."""

    word = "TCONV"
    forms = ConvSpec.forms[:2]
    known_flags = WEIGHT_FLAGS
    height: int = side(1)
    width: int = side(1)
    stride_rows: int = side(1)
    stride_cols: int = side(1)
    pad_height: int = side(0, 0)
    pad_width: int = side(0, 0)
    activation: Activation = TANH


@dataclasses.dataclass(frozen=True)
class TConv3dSpec(TransposedSpec):
    """A transposed convolution of voxels."""

    word = "TCONV3D"
    forms = Conv3dSpec.forms
    known_flags = WEIGHT_FLAGS
    length: int = side(1)
    height: int = side(1)
    width: int = side(1)
    stride_length: int = side(1)
    stride_rows: int = side(1)
    stride_cols: int = side(1)
    pad_length: int = side(0, 0)
    pad_height: int = side(0, 0)
    pad_width: int = side(0, 0)
    activation: Activation = TANH

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Three axes each."""
        return AXES_3D


def spatial_axes(word: LayerSpec, shape: Shape, rank: int) -> Shape:
    """The axes of an image or of voxels behind its depth; raises ``MisfitError`` for another shape."""
    if len(shape) != rank + 1:
        message = f"{word.word} needs {_TO_RANK[rank + 1]}, but {format_shape(shape)} reaches it"
        raise MisfitError(f"{message}; put a RESHAPE before it", "")
    return shape[1:]


WORDS: tuple[type[LayerSpec], ...] = (ConvSpec, Conv3dSpec, LocalSpec, TConvSpec, TConv3dSpec)

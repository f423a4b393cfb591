"""Layer words of convolutions on images (depth|height|width) and voxels (depth|length|height|width)."""

import dataclasses
from typing import ClassVar

from hepgan.layout.spec.base import (
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
    side,
    size,
)

#: The fields of a sliding window, its strides and its padding.
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
    """Base class of words that slide a window over images or voxels."""

    @property
    def axis_fields(self) -> tuple[tuple[str, ...], ...]:
        """Fields of the window, its strides and its padding."""
        return AXES_2D

    def _tuple(self, which: int) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in self.axis_fields[which])

    @property
    def kernel(self) -> tuple[int, ...]:
        """Size of the window along each axis."""
        return self._tuple(0)

    @property
    def stride(self) -> tuple[int, ...]:
        """Stride of the window along each axis."""
        return self._tuple(1)

    @property
    def padding(self) -> tuple[int, ...]:
        """Padding at both ends of each axis."""
        return self._tuple(2) if len(self.axis_fields) > 2 else (0,) * len(self.kernel)

    @property
    def circular(self) -> tuple[bool, ...]:
        """Circular padding of each axis, as booleans."""
        flags = ("CIRCL", "CIRCH", "CIRCW")[-len(self.kernel) :]
        return tuple(flag in self.flags for flag in flags)

    def window_positions(self, shape: Shape) -> Shape:
        """Returns the number of window positions along each axis: floor((in − window + 2 padding)/stride) + 1."""
        positions = []
        for axis, length in enumerate(spatial_axes(self, shape, len(self.kernel))):
            window, pad = self.kernel[axis], self.padding[axis]
            if self.circular[axis] and pad > length:
                raise MisfitError(
                    f"circular padding {pad} exceeds the length {length}", self.axis_fields[2][axis]
                )
            if window > length + 2 * pad:
                padded = f" with padding {pad}" if pad else ""
                message = f"{self.word} with a {self.axis_fields[0][axis]} of {window}, but the input has only {length}{padded}"
                raise MisfitError(f"{message}: {format_shape(shape)}", self.axis_fields[0][axis])
            positions.append((length - window + 2 * pad) // self.stride[axis] + 1)
        return tuple(positions)


@dataclasses.dataclass(frozen=True)
class ConvolutionSpec(SlidingSpec):
    """Base class of CONV, CONV3D and LOCAL."""

    depth: int = at_least(1)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns ``depth`` channels of the window positions."""
        return (self.depth, *self.window_positions(shape))

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights of the window, and one bias per output channel."""
        return self.depth * (shape[0] * size(self.kernel) + ("NOBIAS" not in self.flags))

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights of the window at each position."""
        return size(self.output(shape, context)) * shape[0] * size(self.kernel)


@register_layer
@dataclasses.dataclass(frozen=True)
class ConvSpec(ConvolutionSpec):
    """Convolution. TMVA's older form has no padding pair; an eighth number is the number of channel groups."""

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

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns ``depth`` channels of the window positions."""
        if shape[0] % self.groups or self.depth % self.groups:
            message = f"{self.groups} groups do not divide the input depth {shape[0]} and the output depth {self.depth}"
            raise MisfitError(message, "groups")
        return super().output(shape, context)

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights of the window on one group, and one bias per output channel."""
        return super().parameters((shape[0] // self.groups, *shape[1:]), context)

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights of the window at each position."""
        return super().operations(shape, context) // self.groups


@register_layer
@dataclasses.dataclass(frozen=True)
class LocalSpec(ConvSpec):
    """Locally connected layer: a convolution with different weights at each position (Keras's LocallyConnected2D)."""

    word = "LOCAL"
    forms = ConvSpec.forms[:2]

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights of a convolution at each position."""
        return size(self.window_positions(shape)) * super().parameters(shape, context)


@register_layer
@dataclasses.dataclass(frozen=True)
class Conv3dSpec(ConvolutionSpec):
    """Convolution of voxels."""

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
    def axis_fields(self) -> tuple[tuple[str, ...], ...]:
        """Fields of three axes each."""
        return AXES_3D


@dataclasses.dataclass(frozen=True)
class TransposedSpec(ConvolutionSpec):
    """Base class of TCONV and TCONV3D: out = (in − 1) stride − 2 padding + window."""

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns ``depth`` channels, enlarged by the stride."""
        sizes = []
        for axis, length in enumerate(spatial_axes(self, shape, len(self.kernel))):
            pad = self.padding[axis]
            sizes.append((length - 1) * self.stride[axis] - 2 * pad + self.kernel[axis])
            if sizes[-1] < 1:
                message = f"padding {pad} leaves nothing of {self.word}'s output from {format_shape(shape)}"
                raise MisfitError(message, self.axis_fields[2][axis])
        return (self.depth, *sizes)

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights of the window at each position of the input."""
        return size(shape) * self.depth * size(self.kernel)


@register_layer
@dataclasses.dataclass(frozen=True)
class TConvSpec(TransposedSpec):
    """Transposed convolution of images."""

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


@register_layer
@dataclasses.dataclass(frozen=True)
class TConv3dSpec(TransposedSpec):
    """Transposed convolution of voxels."""

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
    def axis_fields(self) -> tuple[tuple[str, ...], ...]:
        """Fields of three axes each."""
        return AXES_3D


def spatial_axes(word: LayerSpec, shape: Shape, rank: int) -> Shape:
    """Returns the spatial axes of an image or of voxels; raises ``MisfitError`` for another rank."""
    if len(shape) != rank + 1:
        message = f"{word.word} needs {_TO_RANK[rank + 1]}, but its input is {format_shape(shape)}"
        raise MisfitError(f"{message}; put a RESHAPE before it", "")
    return shape[1:]

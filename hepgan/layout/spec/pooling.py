"""Layer words without weights that resize images and voxels."""

import dataclasses

from hepgan.layout.spec.base import (
    LayerSpec,
    MisfitError,
    Shape,
    ShapeContext,
    register_layer,
    side,
)
from hepgan.layout.spec.convolution import AXES_2D, AXES_3D, CIRCULAR, SlidingSpec, spatial_axes


@dataclasses.dataclass(frozen=True)
class PoolSpec(SlidingSpec):
    """Base class of MAXPOOL and AVGPOOL; six numbers pool voxels."""

    forms = ((*AXES_2D[0], *AXES_2D[1]), (*AXES_3D[0], *AXES_3D[1]))
    height: int = side(1)
    width: int = side(1)
    stride_rows: int = side(1)
    stride_cols: int = side(1)
    length: int = side(1, 0)
    stride_length: int = side(1, 0)

    @property
    def axis_fields(self) -> tuple[tuple[str, ...], ...]:
        """Fields of the window and its strides."""
        return AXES_3D[:2] if self.length else AXES_2D[:2]

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the same depth, and the window positions."""
        return (shape[0], *self.window_positions(shape))


@register_layer
@dataclasses.dataclass(frozen=True)
class MaxPoolSpec(PoolSpec):
    """Max pooling."""

    word = "MAXPOOL"


@register_layer
@dataclasses.dataclass(frozen=True)
class AvgPoolSpec(PoolSpec):
    """Average pooling."""

    word = "AVGPOOL"


@register_layer
@dataclasses.dataclass(frozen=True)
class AdaptiveSpec(LayerSpec):
    """Adaptive average pooling to the given output size."""

    word = "ADAPTIVE"
    forms = (AXES_2D[0], AXES_3D[0])
    height: int = side(1)
    width: int = side(1)
    length: int = side(1, 0)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the same depth, and the given size."""
        target = axis_values(self)
        spatial_axes(self, shape, len(target))
        return (shape[0], *target)


@register_layer
@dataclasses.dataclass(frozen=True)
class UpsampleSpec(LayerSpec):
    """Upsampling by integer factors: nearest neighbor (NEAREST, the default) or, for images, BILINEAR."""

    word = "UPSAMPLE"
    forms = (AXES_2D[0], AXES_3D[0])
    known_flags = (("NEAREST", "BILINEAR"),)
    height: int = side(1)
    width: int = side(1)
    length: int = side(1, 0)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape enlarged by the factors."""
        factors = axis_values(self)
        if len(factors) == 3 and "BILINEAR" in self.flags:
            raise MisfitError("BILINEAR is for images, not for voxels", "")
        sizes = spatial_axes(self, shape, len(factors))
        return (shape[0], *(a * b for a, b in zip(sizes, factors, strict=True)))


@register_layer
@dataclasses.dataclass(frozen=True)
class PadSpec(LayerSpec):
    """Zero padding of an image: the same at both ends (top|left), or all four sides."""

    word = "PAD"
    forms = (("top", "left"), ("top", "bottom", "left", "right"))
    known_flags = CIRCULAR
    top: int = side(0)
    left: int = side(0)
    bottom: int = side(0, -1)
    right: int = side(0, -1)

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Padding at top, bottom, left and right."""
        bottom = self.top if self.bottom < 0 else self.bottom
        right = self.left if self.right < 0 else self.right
        return self.top, bottom, self.left, right

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape enlarged by the padding."""
        height, width = spatial_axes(self, shape, 2)
        top, bottom, left, right = self.sides
        if "CIRCH" in self.flags and max(top, bottom) > height:
            raise MisfitError(f"circular padding exceeds the {height} rows", "top", "bottom")
        if "CIRCW" in self.flags and max(left, right) > width:
            raise MisfitError(f"circular padding exceeds the {width} columns", "left", "right")
        return (shape[0], height + top + bottom, width + left + right)


def axis_values(word: AdaptiveSpec | UpsampleSpec) -> tuple[int, ...]:
    """Returns the word's values along each axis: two for an image, three for voxels."""
    return (word.length, word.height, word.width)[0 if word.length else 1 :]

"""The layer words without weights that make images and voxels smaller or larger."""

import dataclasses

from hepgan.layout.spec.base import LayerSpec, Shape, ShapeContext, side
from hepgan.layout.spec.convolution import AXES_2D, AXES_3D, CIRCULAR, SlidingSpec, spatial_axes
from hepgan.layout.spec.diagnostics import MisfitError


@dataclasses.dataclass(frozen=True)
class PoolSpec(SlidingSpec):
    """What MAXPOOL and AVGPOOL share; six numbers pool voxels."""

    forms = ((*AXES_2D[0], *AXES_2D[1]), (*AXES_3D[0], *AXES_3D[1]))
    height: int = side(1)
    width: int = side(1)
    stride_rows: int = side(1)
    stride_cols: int = side(1)
    length: int = side(1, 0)
    stride_length: int = side(1, 0)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The fields of the window and of its steps."""
        return AXES_3D[:2] if self.length else AXES_2D[:2]

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """As deep as before, the window's places wide."""
        return (shape[0], *self.slid(shape))


@dataclasses.dataclass(frozen=True)
class MaxPoolSpec(PoolSpec):
    """The largest value in the window."""

    word = "MAXPOOL"


@dataclasses.dataclass(frozen=True)
class AvgPoolSpec(PoolSpec):
    """The mean value in the window."""

    word = "AVGPOOL"


@dataclasses.dataclass(frozen=True)
class AdaptiveSpec(LayerSpec):
    """Means over as many windows as asked for, whatever the size of the input."""

    word = "ADAPTIVE"
    forms = (AXES_2D[0], AXES_3D[0])
    height: int = side(1)
    width: int = side(1)
    length: int = side(1, 0)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """As deep as before, of the size asked for."""
        asked = axis_values(self)
        spatial_axes(self, shape, len(asked))
        return (shape[0], *asked)


@dataclasses.dataclass(frozen=True)
class UpsampleSpec(LayerSpec):
    """Each value repeated (NEAREST, as by default) or images interpolated (BILINEAR)."""

    word = "UPSAMPLE"
    forms = (AXES_2D[0], AXES_3D[0])
    known_flags = (("NEAREST", "BILINEAR"),)
    height: int = side(1)
    width: int = side(1)
    length: int = side(1, 0)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Larger by the factors."""
        factors = axis_values(self)
        if len(factors) == 3 and "BILINEAR" in self.flags:
            raise MisfitError("BILINEAR is for images, not for voxels", "")
        sizes = spatial_axes(self, shape, len(factors))
        return (shape[0], *(a * b for a, b in zip(sizes, factors, strict=True)))


@dataclasses.dataclass(frozen=True)
class PadSpec(LayerSpec):
    """Zeros around an image: the same at both ends (height|width) or each side its own."""

    word = "PAD"
    forms = (("top", "left"), ("top", "bottom", "left", "right"))
    known_flags = CIRCULAR
    top: int = side(0)
    left: int = side(0)
    bottom: int = side(0, -1)
    right: int = side(0, -1)

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right."""
        bottom = self.top if self.bottom < 0 else self.bottom
        right = self.left if self.right < 0 else self.right
        return self.top, bottom, self.left, right

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Larger by the sides."""
        height, width = spatial_axes(self, shape, 2)
        top, bottom, left, right = self.sides
        if "CIRCH" in self.flags and max(top, bottom) > height:
            raise MisfitError(f"circular padding of only {height} rows", "top", "bottom")
        if "CIRCW" in self.flags and max(left, right) > width:
            raise MisfitError(f"circular padding of only {width} columns", "left", "right")
        return (shape[0], height + top + bottom, width + left + right)


def axis_values(word: AdaptiveSpec | UpsampleSpec) -> tuple[int, ...]:
    """The numbers of a word that takes two for an image and three for voxels."""
    return (word.length, word.height, word.width)[0 if word.length else 1 :]


WORDS: tuple[type[LayerSpec], ...] = (MaxPoolSpec, AvgPoolSpec, AdaptiveSpec, UpsampleSpec, PadSpec)

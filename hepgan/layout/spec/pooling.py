"""The layer words without weights that make images and voxels smaller or larger."""

import dataclasses

from hepgan.layout.spec.base import Shape, ShapeContext, Word, side
from hepgan.layout.spec.convolution import CIRCULAR, DEEP, FLAT, Sliding, image
from hepgan.layout.spec.diagnostics import MisfitError


@dataclasses.dataclass(frozen=True)
class Pool(Sliding):
    """What MAXPOOL and AVGPOOL share; six numbers pool voxels."""

    forms = ((*FLAT[0], *FLAT[1]), (*DEEP[0], *DEEP[1]))
    height: int = side(1)
    width: int = side(1)
    stride_rows: int = side(1)
    stride_cols: int = side(1)
    length: int = side(1, 0)
    stride_length: int = side(1, 0)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The fields of the window and of its steps."""
        return DEEP[:2] if self.length else FLAT[:2]

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """As deep as before, the window's places wide."""
        return (shape[0], *self.slid(shape))


@dataclasses.dataclass(frozen=True)
class MaxPool(Pool):
    """The largest value in the window."""

    word = "MAXPOOL"


@dataclasses.dataclass(frozen=True)
class AvgPool(Pool):
    """The mean value in the window."""

    word = "AVGPOOL"


@dataclasses.dataclass(frozen=True)
class Adaptive(Word):
    """Means over as many windows as asked for, whatever the size of the input."""

    word = "ADAPTIVE"
    forms = (FLAT[0], DEEP[0])
    height: int = side(1)
    width: int = side(1)
    length: int = side(1, 0)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """As deep as before, of the size asked for."""
        asked = axes(self)
        image(self, shape, len(asked))
        return (shape[0], *asked)


@dataclasses.dataclass(frozen=True)
class Upsample(Word):
    """Each value repeated (NEAREST, as by default) or images interpolated (BILINEAR)."""

    word = "UPSAMPLE"
    forms = (FLAT[0], DEEP[0])
    known_flags = (("NEAREST", "BILINEAR"),)
    height: int = side(1)
    width: int = side(1)
    length: int = side(1, 0)

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """Larger by the factors."""
        factors = axes(self)
        if len(factors) == 3 and "BILINEAR" in self.flags:
            raise MisfitError("BILINEAR is for images, not for voxels", "")
        sizes = image(self, shape, len(factors))
        return (shape[0], *(a * b for a, b in zip(sizes, factors, strict=True)))


@dataclasses.dataclass(frozen=True)
class Pad(Word):
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
        height, width = image(self, shape, 2)
        top, bottom, left, right = self.sides
        if "CIRCH" in self.flags and max(top, bottom) > height:
            raise MisfitError(f"circular padding of only {height} rows", "top", "bottom")
        if "CIRCW" in self.flags and max(left, right) > width:
            raise MisfitError(f"circular padding of only {width} columns", "left", "right")
        return (shape[0], height + top + bottom, width + left + right)


def axes(word: Adaptive | Upsample) -> tuple[int, ...]:
    """The numbers of a word that takes two for an image and three for voxels."""
    return (word.length, word.height, word.width)[0 if word.length else 1 :]


WORDS: tuple[type[Word], ...] = (MaxPool, AvgPool, Adaptive, Upsample, Pad)

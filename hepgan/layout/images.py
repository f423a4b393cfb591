"""The layer words for images (depth|height|width) and voxels (depth|length|height|width)."""

import dataclasses

from hepgan.layout.place import MisfitError
from hepgan.layout.word import (
    TANH,
    WEIGHT_FLAGS,
    Activation,
    Setting,
    Shape,
    Word,
    at_least,
    shown,
    size,
)

_FLAT = ("height", "width"), ("stride_rows", "stride_cols"), ("pad_height", "pad_width")
_DEEP = (
    ("length", "height", "width"),
    ("stride_length", "stride_rows", "stride_cols"),
    ("pad_length", "pad_height", "pad_width"),
)
_CIRCULAR = (("CIRCH",), ("CIRCW",))
_TO_RANK = {3: "depth|height|width", 4: "depth|length|height|width"}


@dataclasses.dataclass(frozen=True)
class Sliding(Word):
    """What slides a window over an image or over voxels."""

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The fields of the window, of its steps and of the padding."""
        return _FLAT

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
        for axis, length in enumerate(image(self, shape, len(self.kernel))):
            window, pad = self.kernel[axis], self.padding[axis]
            if self.circular[axis] and pad > length:
                raise MisfitError(f"circular padding {pad} of only {length}", self.names[2][axis])
            if window > length + 2 * pad:
                padded = f" with padding {pad}" if pad else ""
                message = f"{self.word} with a {self.names[0][axis]} of {window}, but only {length}{padded} there"
                raise MisfitError(f"{message}: {shown(shape)} reaches it", self.names[0][axis])
            places.append((length - window + 2 * pad) // self.stride[axis] + 1)
        return tuple(places)


@dataclasses.dataclass(frozen=True)
class Convolution(Sliding):
    """What CONV, CONV3D and the locally connected LOCAL share."""

    depth: int = at_least(1)

    def output(self, shape: Shape, setting: Setting) -> Shape:
        """``depth`` images of the window's places."""
        return (self.depth, *self.slid(shape))

    def parameters(self, shape: Shape, setting: Setting) -> int:
        """The window's weights, and a bias a depth."""
        return self.depth * (shape[0] * size(self.kernel) + ("NOBIAS" not in self.flags))

    def operations(self, shape: Shape, setting: Setting) -> int:
        """The window's weights at each of its places."""
        return size(self.output(shape, setting)) * shape[0] * size(self.kernel)


@dataclasses.dataclass(frozen=True)
class Conv(Convolution):
    """A convolution. TMVA's older form has no padding pair."""

    word = "CONV"
    forms = (("depth", *_FLAT[0], *_FLAT[1]), ("depth", *_FLAT[0], *_FLAT[1], *_FLAT[2]))
    known_flags = (*WEIGHT_FLAGS, *_CIRCULAR)
    height: int = at_least(1)
    width: int = at_least(1)
    stride_rows: int = at_least(1)
    stride_cols: int = at_least(1)
    pad_height: int = at_least(0, 0)
    pad_width: int = at_least(0, 0)
    activation: Activation = TANH


@dataclasses.dataclass(frozen=True)
class Local(Conv):
    """A convolution whose weights differ from place to place (Keras's LocallyConnected2D)."""

    word = "LOCAL"

    def parameters(self, shape: Shape, setting: Setting) -> int:
        """A convolution's weights at each place."""
        return size(self.slid(shape)) * super().parameters(shape, setting)


@dataclasses.dataclass(frozen=True)
class Conv3d(Convolution):
    """A convolution of voxels."""

    word = "CONV3D"
    forms = (("depth", *_DEEP[0], *_DEEP[1]), ("depth", *_DEEP[0], *_DEEP[1], *_DEEP[2]))
    known_flags = (*WEIGHT_FLAGS, ("CIRCL",), *_CIRCULAR)
    length: int = at_least(1)
    height: int = at_least(1)
    width: int = at_least(1)
    stride_length: int = at_least(1)
    stride_rows: int = at_least(1)
    stride_cols: int = at_least(1)
    pad_length: int = at_least(0, 0)
    pad_height: int = at_least(0, 0)
    pad_width: int = at_least(0, 0)
    activation: Activation = TANH

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Three axes each."""
        return _DEEP


@dataclasses.dataclass(frozen=True)
class Transposed(Convolution):
    """What TCONV and TCONV3D share: out = (in − 1) stride − 2 padding + window."""

    def output(self, shape: Shape, setting: Setting) -> Shape:
        """``depth`` images, larger by the stride."""
        grown = []
        for axis, length in enumerate(image(self, shape, len(self.kernel))):
            pad = self.padding[axis]
            grown.append((length - 1) * self.stride[axis] - 2 * pad + self.kernel[axis])
            if grown[-1] < 1:
                message = (
                    f"padding {pad} leaves nothing of {self.word}'s output from {shown(shape)}"
                )
                raise MisfitError(message, self.names[2][axis])
        return (self.depth, *grown)

    def operations(self, shape: Shape, setting: Setting) -> int:
        """The window's weights at each place of the input."""
        return size(shape) * self.depth * size(self.kernel)


@dataclasses.dataclass(frozen=True)
class TConv(Transposed):
    """A transposed convolution of an image."""

    word = "TCONV"
    forms = Conv.forms
    known_flags = WEIGHT_FLAGS
    height: int = at_least(1)
    width: int = at_least(1)
    stride_rows: int = at_least(1)
    stride_cols: int = at_least(1)
    pad_height: int = at_least(0, 0)
    pad_width: int = at_least(0, 0)
    activation: Activation = TANH


@dataclasses.dataclass(frozen=True)
class TConv3d(Transposed):
    """A transposed convolution of voxels."""

    word = "TCONV3D"
    forms = Conv3d.forms
    known_flags = WEIGHT_FLAGS
    length: int = at_least(1)
    height: int = at_least(1)
    width: int = at_least(1)
    stride_length: int = at_least(1)
    stride_rows: int = at_least(1)
    stride_cols: int = at_least(1)
    pad_length: int = at_least(0, 0)
    pad_height: int = at_least(0, 0)
    pad_width: int = at_least(0, 0)
    activation: Activation = TANH

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Three axes each."""
        return _DEEP


@dataclasses.dataclass(frozen=True)
class Pool(Sliding):
    """What MAXPOOL and AVGPOOL share; six numbers pool voxels."""

    forms = ((*_FLAT[0], *_FLAT[1]), (*_DEEP[0], *_DEEP[1]))
    height: int = at_least(1)
    width: int = at_least(1)
    stride_rows: int = at_least(1)
    stride_cols: int = at_least(1)
    length: int = at_least(1, 0)
    stride_length: int = at_least(1, 0)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The fields of the window and of its steps."""
        return _DEEP[:2] if self.length else _FLAT[:2]

    def output(self, shape: Shape, setting: Setting) -> Shape:
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
    forms = (_FLAT[0], _DEEP[0])
    height: int = at_least(1)
    width: int = at_least(1)
    length: int = at_least(1, 0)

    def output(self, shape: Shape, setting: Setting) -> Shape:
        """As deep as before, of the size asked for."""
        asked = axes(self)
        image(self, shape, len(asked))
        return (shape[0], *asked)


@dataclasses.dataclass(frozen=True)
class Upsample(Word):
    """Each value repeated (NEAREST, as by default) or images interpolated (BILINEAR)."""

    word = "UPSAMPLE"
    forms = (_FLAT[0], _DEEP[0])
    known_flags = (("NEAREST", "BILINEAR"),)
    height: int = at_least(1)
    width: int = at_least(1)
    length: int = at_least(1, 0)

    def output(self, shape: Shape, setting: Setting) -> Shape:
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
    known_flags = _CIRCULAR
    top: int = at_least(0)
    left: int = at_least(0)
    bottom: int = at_least(0, -1)
    right: int = at_least(0, -1)

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right."""
        bottom = self.top if self.bottom < 0 else self.bottom
        right = self.left if self.right < 0 else self.right
        return self.top, bottom, self.left, right

    def output(self, shape: Shape, setting: Setting) -> Shape:
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


def image(word: Word, shape: Shape, rank: int) -> Shape:
    """The axes of an image or of voxels behind its depth; raises ``MisfitError`` for another shape."""
    if len(shape) != rank + 1:
        message = f"{word.word} needs {_TO_RANK[rank + 1]}, but {shown(shape)} reaches it"
        raise MisfitError(f"{message}; put a RESHAPE before it", "")
    return shape[1:]


WORDS: tuple[type[Word], ...] = (
    *(Conv, Conv3d, Local, TConv, TConv3d),
    *(MaxPool, AvgPool, Adaptive, Upsample, Pad),
)

"""Base classes of layer words, layouts and branches, and the registry of words.

A word of your own takes two decorators, in a module that a run file names in ``plugins`` (``examples/own_layer.py``)::

    @register_layer
    @dataclasses.dataclass(frozen=True)
    class CenterSpec(LayerSpec):
        word = "CENTER"

    @register_builder(CenterSpec)
    def build_center(spec, step, init):
        return Center()
"""

import dataclasses
import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from hepgan.errors import LayoutError
from hepgan.layout.spec.formula import LARGEST, evaluate

if TYPE_CHECKING:
    from torch import nn

#: One event's shape inside a network: ``(n,)`` flat, ``(time, width)``, ``(depth, height, width)`` an image,
#: ``(depth, length, height, width)`` voxels.
Shape = tuple[int, ...]
Role = Literal["generator", "discriminator"]

#: Activations by name, with the default of their slope (``NAME|slope``) if they have one.
ACTIVATIONS: dict[str, float | None] = {
    **dict.fromkeys(
        ("RELU", "TANH", "FTANH", "SYMMRELU", "SOFTSIGN", "SIGMOID", "LINEAR", "GAUSS")
    ),
    "LRELU": 0.2,
    "ELU": 1.0,
    **dict.fromkeys(("SILU", "GELU", "SOFTPLUS", "SOFTMAX")),
}

#: Weight initializations of a single layer, as a flag. GAUSS is missing because it is an activation.
INITIALIZATIONS: tuple[str, ...] = (
    *("XAVIER", "XAVIERUNIFORM", "UNIFORM", "IDENTITY", "ZERO"),
    *("HE", "HEUNIFORM", "LECUN", "ORTHOGONAL", "TORCH"),
)

#: Flags of every layer with weights: initialization, spectral norm, no bias.
WEIGHT_FLAGS: tuple[tuple[str, ...], ...] = (INITIALIZATIONS, ("SN",), ("NOBIAS",))


class MisfitError(LayoutError):
    """A word that does not fit its input, before its position in the text is known.

    Attributes:
        fields: The faulty fields of the word, ``""`` for the whole word.
    """

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields or ("",)


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation and, for LRELU and ELU, its slope; ``None`` is the default slope."""

    name: str = "TANH"
    slope: float | None = None

    def __str__(self) -> str:
        return self.name if self.slope is None else f"{self.name}|{self.slope!r}"

    @property
    def parameter(self) -> float:
        """Slope in effect; 0 for activations without one."""
        default = ACTIVATIONS[self.name] or 0.0
        return default if self.slope is None else self.slope


#: The default activations: TMVA's TANH for layers with weights, LINEAR for the others.
TANH = Activation("TANH")
LINEAR = Activation("LINEAR")


@dataclasses.dataclass(frozen=True)
class ShapeContext:
    """Context of a layer's shape inference, besides its input shape.

    Attributes:
        features: ``N``, the number of values of an event.
        conditions: ``C``, the number of conditions of an event.
        outputs: Number of outputs of the network, which a width of 0 stands for; 0 if unknown.
        fields: Shapes of the event's fields, in the order of ``x[B, N]``.
        role: Role of the network; ``None`` if not declared.
        is_raw_event: Whether the layer's input is the event ``x`` itself.
        branch_outputs: Output shapes of the named branches further left.
    """

    features: int = 0
    conditions: int = 0
    outputs: int = 0
    fields: Mapping[str, Shape] = dataclasses.field(default_factory=dict)
    role: Role | None = None
    is_raw_event: bool = False
    branch_outputs: Mapping[str, Shape] = dataclasses.field(default_factory=dict)


#: Upper bound of windows, strides, paddings and factors; larger ones overflow the integers of convolutions.
LONGEST_SIDE = 10**6

#: Bounds of a nonzero number: float32 would round smaller ones to 0, and products of larger ones overflow.
SMALLEST, LARGEST_FACTOR = 1e-30, 1e12

#: Beyond these bounds, a normalization or activation gives NaN or infinity after a few layers.
EPSILONS, SLOPES = (1e-12, 1.0), (-1e3, 1e3)


def within(least: float, most: float, default: Any = dataclasses.MISSING) -> Any:
    """Returns a dataclass field for a number from ``least`` to ``most``."""
    return dataclasses.field(default=default, metadata={"bounds": (least, most)})


def at_least(least: float, default: Any = dataclasses.MISSING) -> Any:
    """Returns a dataclass field for a number of at least ``least``."""
    return within(least, LARGEST, default)


def side(least: int, default: Any = dataclasses.MISSING) -> Any:
    """Returns a dataclass field for a window, stride or padding along one axis, at least ``least``."""
    return within(least, LONGEST_SIDE, default)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """Base class of layer words. Subclasses are frozen dataclasses whose fields are the word's arguments.

    Attributes:
        word: Name of the layer in a layout.
        forms: Permitted argument lists: for each number of arguments, the fields that they fill, in order.
        known_flags: Names that may follow, at most one of each group.
        uses_conditions: Whether the word reads the conditions; a layout without such a word takes them at its input.
        flags: The flags that are set.
        formulas: Fields given as a formula of ``N``; the fields are 0 until ``resolved``.
        spans: Positions of the fields in the text, for error messages: ``(field, start, end)``; field ``""`` is the whole word.
    """

    word: ClassVar[str]
    forms: ClassVar[tuple[tuple[str, ...], ...]] = ((),)
    known_flags: ClassVar[tuple[tuple[str, ...], ...]] = ()
    uses_conditions: ClassVar[bool] = False

    flags: tuple[str, ...] = ()
    formulas: tuple[tuple[str, str], ...] = ()
    spans: tuple[tuple[str, int, int], ...] = dataclasses.field(
        default=(), compare=False, repr=False
    )

    def __str__(self) -> str:
        values = {name: getattr(self, name) for name in self._shortest()} | dict(self.formulas)
        shown = [_number(values[name]) for name in self._shortest()]
        return "|".join([self.word, *shown, *self._activation(), *self.flags])

    def _activation(self) -> list[str]:
        """Returns the activation's text; nothing if it is LINEAR by default."""
        default = {f.name: f.default for f in dataclasses.fields(self)}.get("activation")
        activation = getattr(self, "activation", None)
        return [] if activation is None or activation == default == LINEAR else [str(activation)]

    def _shortest(self) -> tuple[str, ...]:
        """Returns the shortest form that contains every field that differs from its default."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        needed = {name for name, _ in self.formulas}
        numbers = {name for form in self.forms for name in form}
        needed |= {name for name in numbers if getattr(self, name) != defaults[name]}
        fitting = [form for form in self.forms if needed <= set(form)]
        return min(fitting or self.forms, key=len)

    def resolved(self, context: ShapeContext) -> "LayerSpec":
        """Returns this word with its formulas evaluated.

        Raises:
            MisfitError: a formula has no value, or a number is out of bounds.
        """
        values: dict[str, Any] = {}
        for name, text in self.formulas:
            try:
                values[name] = evaluate(text, context.features)
            except LayoutError as fault:
                raise MisfitError(str(fault), name) from None
        word = dataclasses.replace(self, formulas=(), **values)
        word.check(given=values)
        return word

    def check(self, *, given: Iterable[str] = ()) -> None:
        """Raises ``MisfitError`` if a number is out of bounds.

        A default may be out of bounds, if it stands for a number that was not ``given``. Formulas are checked once they
        have a value.
        """
        formulas = dict(self.formulas)
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, Activation):
                if value.slope is not None:
                    _check_number(value.slope, "slope", SLOPES, name)
            elif type(value) in (int, float) and name not in formulas:
                if value == field.default and name not in given:
                    continue
                bounds = field.metadata.get("bounds", (-LARGEST_FACTOR, LARGEST_FACTOR))
                _check_number(value, name.replace("_", " "), bounds, name)

    @classmethod
    def spellings(cls) -> list[str]:
        """Returns the spellings of the word, without its flags.

        >>> LAYERS["MAXPOOL"].spellings()[0]
        'MAXPOOL|height|width|stride rows|stride cols'
        >>> LAYERS["ACT"].spellings(), LAYERS["COND"].spellings()
        (['ACT|activation'], ['COND', 'COND|width[|activation]'])
        """
        activation = {field.name: field for field in dataclasses.fields(cls)}.get("activation")
        tail = "" if activation is None else "[|activation]"
        if activation is not None and activation.default is dataclasses.MISSING:
            tail = "|activation"
        return ["|".join([cls.word, *form]).replace("_", " ") + tail for form in cls.forms]

    def span(self, *fields: str) -> tuple[int, int] | None:
        """Returns the text range from the first to the last of the ``fields``, or of the whole word without any of them."""
        ranges = [(start, end) for name, start, end in self.spans if name in fields]
        ranges = ranges or [(start, end) for name, start, end in self.spans if name == ""]
        return (min(s for s, _ in ranges), max(e for _, e in ranges)) if ranges else None

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the output shape for the input ``shape``; raises ``MisfitError`` if the layer does not fit it."""
        del context
        return shape

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Returns the parameter count: weights, biases and running statistics."""
        del shape, context
        return 0

    def statistics(self, shape: Shape) -> int:
        """Returns the number of running statistics among the parameters, which are not trained."""
        del shape
        return 0

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Returns the multiply-adds of the weights for one event; biases, activations and pooling are not counted."""
        del shape, context
        return 0


@dataclasses.dataclass(frozen=True, repr=False)
class Layout:
    """A network as a tuple of words. ``parse(str(layout)) == layout``.

    Attributes:
        words: The layers, from first to last.
        text: The string that was parsed, for error messages; empty for a layout that was not parsed.
    """

    words: tuple[LayerSpec, ...]
    text: str = dataclasses.field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        return ", ".join(map(str, self.words))

    def __iter__(self) -> Iterator[LayerSpec]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        text = str(self)
        return f"Layout({text if len(text) <= 200 else text[:199] + '…'!r})"

    def _repr_html_(self) -> str:
        """Returns the layers as an HTML table, one row per word."""
        rows = "".join(
            f"<tr><td>{number}</td><td><code>{html.escape(str(word))}</code></td>"
            f"<td>{html.escape(_first_line(word))}</td></tr>"
            for number, word in enumerate(self.words, start=1)
        )
        return f"<table><tr><th></th><th>layer</th><th>description</th></tr>{rows}</table>"


@dataclasses.dataclass(frozen=True)
class Branch:
    """One of the parallel networks of a stream; ``name`` is often that of an event's field, or ``""``."""

    layout: Layout
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.layout}" if self.name else str(self.layout)


@dataclasses.dataclass(frozen=True)
class ContainerSpec(LayerSpec):
    """Base class of words that contain networks: streams, residual blocks, attention."""

    branches: tuple[Branch, ...]

    def __str__(self) -> str:
        return f"{self.word}[{'; '.join(map(str, self.branches))}]"

    @classmethod
    def spellings(cls) -> list[str]:
        """Returns the word with the network in brackets."""
        return [f"{cls.word}[network]"]

    def branch_input(self, branch: Branch, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape of ``branch`` for the word's input ``shape``."""
        del branch, context
        return shape

    def combine(self, outputs: tuple[Shape, ...], shape: Shape, context: ShapeContext) -> Shape:
        """Returns the output shape for the branches' ``outputs``."""
        raise NotImplementedError


#: Builds the module of a layer from its dataclass, its ``shapes.Step`` and the ``nn.network.WeightInit``.
Builder = Callable[[Any, Any, Any], "nn.Module"]

LAYERS: dict[str, type[LayerSpec]] = {}
"""The dataclass of each word; that of a stream is ``""``."""

BUILDERS: dict[type[LayerSpec], Builder] = {}
"""The builder of each dataclass's module, filled by ``hepgan.layout.nn.network``."""

S = TypeVar("S", bound=LayerSpec)
B = TypeVar("B", bound=Builder)


def register_layer(spec: type[S]) -> type[S]:
    """Class decorator that adds a layer word to the language.

    Raises:
        ValueError: another class has registered the word, or it cannot be read back from a layout.
    """
    word = spec.word
    if word and (
        not word.isascii() or not word.isalnum() or not word[0].isalpha() or word != word.upper()
    ):
        raise ValueError(f"the word {word!r} should be letters A to Z and digits, a letter first")
    if word in ACTIVATIONS or word == "N":
        raise ValueError(f"the word {word!r} is already an activation or the number of features")
    known = LAYERS.get(word)
    if known is not None and (known.__module__, known.__qualname__) != (
        spec.__module__,
        spec.__qualname__,
    ):
        raise ValueError(
            f"the word {word!r} is already registered by {known.__module__}.{known.__qualname__}"
        )
    LAYERS[word] = spec
    return spec


def register_builder(*specs: type[LayerSpec]) -> Callable[[B], B]:
    """Decorator of the function ``(spec, step, init) -> nn.Module`` that builds the module of the words ``specs``."""

    def register(builder: B) -> B:
        BUILDERS.update(dict.fromkeys(specs, builder))
        return builder

    return register


def size(shape: Shape) -> int:
    """Returns the number of values in a shape."""
    return math.prod(shape)


def format_shape(shape: Shape) -> str:
    """Returns a shape as written in layouts.

    >>> format_shape((12, 27, 27))
    '12|27|27'
    """
    return "|".join(map(str, shape))


def channel_axis(shape: Shape) -> int:
    """Returns the channel axis of a shape: the depth of an image, the width of a sequence."""
    return 1 if len(shape) == 2 else 0


def _first_line(word: LayerSpec) -> str:
    return (type(word).__doc__ or "").split("\n")[0].replace("``", "")


def _check_number(value: float, name: str, bounds: tuple[float, float], field: str) -> None:
    least, most = bounds
    if value < least:
        raise MisfitError(f"{name} must be at least {least:g}, not {value}", field)
    if isinstance(value, int) and value > LARGEST:
        raise MisfitError(f"{name} is larger than any network could be", field)
    if value > most:
        limit = f"{most:,}" if isinstance(most, int) else f"{most:g}"
        raise MisfitError(f"{name} must be at most {limit}, not {value}", field)
    if 0 < abs(value) < SMALLEST:
        raise MisfitError(f"{name} must be 0 or {SMALLEST:g} or more, not {value}", field)


def _number(value: Any) -> str:
    return (
        repr(value)
        if isinstance(value, float)
        else str(int(value))
        if value in (0, 1)
        else str(value)
    )

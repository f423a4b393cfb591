"""What all layer words share: how they print, how formulas become sizes, and what they need to know of their surroundings."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

from hepgan.layout.spec.diagnostics import MisfitError
from hepgan.layout.spec.formula import LARGEST, evaluate

#: One event's shape inside a network: ``(n,)`` flat, ``(time, width)``, ``(depth, height, width)`` an image,
#: ``(depth, length, height, width)`` voxels.
Shape = tuple[int, ...]
Role = Literal["generator", "discriminator"]

#: Activations by name, with the parameter that ``NAME|parameter`` sets where there is one.
ACTIVATIONS: dict[str, float | None] = {
    **dict.fromkeys(
        ("RELU", "TANH", "FTANH", "SYMMRELU", "SOFTSIGN", "SIGMOID", "LINEAR", "GAUSS")
    ),
    "LRELU": 0.2,
    "ELU": 1.0,
    **dict.fromkeys(("SILU", "GELU", "SOFTPLUS", "SOFTMAX")),
}

#: Ways to initialise one layer's weights, as a flag in its word. GAUSS is an activation there.
INITIALIZATIONS: tuple[str, ...] = (
    *("XAVIER", "XAVIERUNIFORM", "UNIFORM", "IDENTITY", "ZERO"),
    *("HE", "HEUNIFORM", "LECUN", "ORTHOGONAL", "TORCH"),
)

#: The flags of every layer with weights: initialisation, spectral norm, no bias.
WEIGHT_FLAGS: tuple[tuple[str, ...], ...] = (INITIALIZATIONS, ("SN",), ("NOBIAS",))


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation and, for LRELU and ELU, its slope; ``None`` is the usual one."""

    name: str = "TANH"
    slope: float | None = None

    def __str__(self) -> str:
        return self.name if self.slope is None else f"{self.name}|{self.slope!r}"

    @property
    def parameter(self) -> float:
        """The slope that holds, 0 where the activation has none."""
        usual = ACTIVATIONS[self.name] or 0.0
        return usual if self.slope is None else self.slope


#: What layers with weights have where nothing is said, as TMVA's.
TANH = Activation("TANH")
LINEAR = Activation("LINEAR")


@dataclasses.dataclass(frozen=True)
class ShapeContext:
    """What a word may depend on besides the shape that reaches it.

    Attributes:
        features: ``N``, the values of an event.
        conditions: ``C``, the conditions of an event.
        outputs: The values that the network has to give, for a width of 0; 0 where that is not known.
        fields: The shape of each of the event's fields, in the order of ``x[B, N]``.
        role: What the network is for; ``None`` where nobody said.
        untouched: Whether what reaches the word is the event ``x`` itself.
        made: The shapes of the named branches that are already done.
    """

    features: int = 0
    conditions: int = 0
    outputs: int = 0
    fields: Mapping[str, Shape] = dataclasses.field(default_factory=dict)
    role: Role | None = None
    untouched: bool = False
    made: Mapping[str, Shape] = dataclasses.field(default_factory=dict)


#: The longest side of a window, step, padding or factor; longer ones overflow the integers of convolutions.
LONGEST_SIDE = 10**6

#: No number of another size than 0 that float32 would make 0, or whose products would be infinite.
SMALLEST, LARGEST_FACTOR = 1e-30, 1e12

#: Beyond these a normalization or an activation is NaN or infinite after a few layers.
EPSILONS, SLOPES = (1e-12, 1.0), (-1e3, 1e3)


def within(least: float, most: float, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field whose number must be from ``least`` to ``most``."""
    return dataclasses.field(default=default, metadata={"bounds": (least, most)})


def at_least(least: float, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field whose number must not be smaller than ``least``."""
    return within(least, LARGEST, default)


def side(least: int, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field of a window's, step's or padding's length along one axis, ``least`` or more."""
    return within(least, LONGEST_SIDE, default)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """A layer of a layout. Children are frozen dataclasses whose fields are the word's arguments.

    Attributes:
        word: The layer's name in a layout.
        forms: The fields that its numbers fill, in order, one tuple a permitted number of arguments.
        known_flags: Names that may follow; of each group at most one.
        flags: Those that do.
        formulas: Fields given as a formula of ``N``, which hold 0 until ``resolved``.
        places: Where each field stands in the text, for errors: ``(field, start, end)``; field ``""`` is the whole word.
    """

    word: ClassVar[str]
    forms: ClassVar[tuple[tuple[str, ...], ...]] = ((),)
    known_flags: ClassVar[tuple[tuple[str, ...], ...]] = ()

    flags: tuple[str, ...] = ()
    formulas: tuple[tuple[str, str], ...] = ()
    places: tuple[tuple[str, int, int], ...] = dataclasses.field(
        default=(), compare=False, repr=False
    )

    def __str__(self) -> str:
        values = {name: getattr(self, name) for name in self._shortest()} | dict(self.formulas)
        shown = [_number(values[name]) for name in self._shortest()]
        return "|".join([self.word, *shown, *self._activation(), *self.flags])

    def _activation(self) -> list[str]:
        """Left out where the word has none unless told so."""
        default = {f.name: f.default for f in dataclasses.fields(self)}.get("activation")
        activation = getattr(self, "activation", None)
        return [] if activation is None or activation == default == LINEAR else [str(activation)]

    def _shortest(self) -> tuple[str, ...]:
        """The shortest form that says all that differs from the defaults."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        said = {name for name, _ in self.formulas}
        numbers = {name for form in self.forms for name in form}
        said |= {name for name in numbers if getattr(self, name) != defaults[name]}
        fitting = [form for form in self.forms if said <= set(form)]
        return min(fitting or self.forms, key=len)

    def resolved(self, setting: ShapeContext) -> "LayerSpec":
        """This word with its formulas evaluated.

        Raises:
            MisfitError: a formula that has no value, or any number outside its range.
        """
        values: dict[str, Any] = {}
        for name, text in self.formulas:
            try:
                values[name] = evaluate(text, setting.features)
            except MisfitError as fault:
                raise MisfitError(str(fault), name) from None
        word = dataclasses.replace(self, formulas=(), **values)
        word.check(given=values)
        return word

    def check(self, *, given: Iterable[str] = ()) -> None:
        """Raises ``MisfitError`` where a number is out of its range.

        A default may be out of it, where it stands for a number that was not ``given``. Formulas are checked once they
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

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """The shape that the layer makes of ``shape``; raises ``MisfitError`` where it cannot."""
        del setting
        return shape

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """How many numbers the layer holds: its weights, biases and running statistics."""
        del shape, setting
        return 0

    def statistics(self, shape: Shape) -> int:
        """How many of the parameters are running statistics, which no optimizer trains."""
        del shape
        return 0

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """Multiply-adds of the weights for one event; biases, activations and pooling are not counted."""
        del shape, setting
        return 0


@dataclasses.dataclass(frozen=True)
class Layout:
    """A network as a tuple of words. ``parse(str(layout)) == layout``.

    Attributes:
        words: The layers, first to last.
        text: The string that it was read from, for errors; the layout's own where it was made otherwise.
    """

    words: tuple[LayerSpec, ...]
    text: str = dataclasses.field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        return ", ".join(map(str, self.words))

    def __iter__(self) -> Iterator[LayerSpec]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)


@dataclasses.dataclass(frozen=True)
class Branch:
    """One of the networks side by side in a stream; ``name`` is ``""`` or often that of an event's field."""

    layout: Layout
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.layout}" if self.name else str(self.layout)


@dataclasses.dataclass(frozen=True)
class ContainerSpec(LayerSpec):
    """A word that holds networks: a stream, a residual block, an attention."""

    branches: tuple[Branch, ...]

    def __str__(self) -> str:
        return f"{self.word}[{'; '.join(map(str, self.branches))}]"

    def enter(self, branch: Branch, shape: Shape, setting: ShapeContext) -> Shape:
        """The shape that reaches ``branch`` where ``shape`` reaches the word."""
        del branch, setting
        return shape

    def join(self, outputs: tuple[Shape, ...], shape: Shape, setting: ShapeContext) -> Shape:
        """The shape that the word makes of its branches' ``outputs``."""
        raise NotImplementedError


def size(shape: Shape) -> int:
    """How many values a shape holds."""
    return math.prod(shape)


def format_shape(shape: Shape) -> str:
    """A shape as layouts write it.

    >>> shown((12, 27, 27))
    '12|27|27'
    """
    return "|".join(map(str, shape))


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

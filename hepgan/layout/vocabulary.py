"""The layer words that act on any shape, and ``WORDS``, all words by name.

One frozen dataclass a word; images' words are in ``images``, those with networks inside in ``streams`` and those made for
events in ``physics``. To add a word: its dataclass here, its builder in ``network.BUILDERS``.
"""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

from hepgan.layout import images, physics, streams
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


@dataclasses.dataclass(frozen=True)
class Dense(Word):
    """Every output from every value of the input, whatever its shape; width 0 is the number of the network's outputs."""

    word = "DENSE"
    forms = ((), ("width",))
    known_flags = WEIGHT_FLAGS
    width: int = at_least(0, 0)
    activation: Activation = TANH

    def resolved(self, setting: Setting) -> Word:
        """Width 0 becomes the number of outputs, as in TMVA."""
        word = super().resolved(setting)
        if isinstance(word, Dense) and word.width:
            return word
        if self.formulas:
            raise MisfitError(f"width must be at least 1, but {self.formulas[0][1]} is 0", "width")
        if not setting.outputs:
            raise MisfitError(
                "no width stands for the number of outputs, which is not known here", "width"
            )
        return dataclasses.replace(self, width=setting.outputs)

    def output(self, shape: Shape, setting: Setting) -> Shape:
        """A flat shape."""
        return (self.width,)

    def parameters(self, shape: Shape, setting: Setting) -> int:
        """A weight an input and output, a bias an output."""
        return self.width * (size(shape) + ("NOBIAS" not in self.flags))

    def operations(self, shape: Shape, setting: Setting) -> int:
        """One an input and output."""
        return self.width * size(shape)


@dataclasses.dataclass(frozen=True)
class Act(Word):
    """An activation without a layer."""

    word = "ACT"
    activation: Activation


@dataclasses.dataclass(frozen=True)
class Reshape(Word):
    """Another shape for the same values, row-major; with FLAT a flat one, whatever sizes are named."""

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

    def output(self, shape: Shape, setting: Setting) -> Shape:
        """The named sizes, or all values in a row."""
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
        message = f"RESHAPE to {shown(tuple(named.values()))} = {others * self.width} values, but "
        message += f"{shown(shape)} = {values} values reach it"
        if values % others:
            return MisfitError(message, *named)
        flat = " or RESHAPE|FLAT" if self.flags else ""
        return MisfitError(f"{message}; {values // others} would be right here{flat}", "width")


@dataclasses.dataclass(frozen=True)
class BatchNorm(Word):
    """Each feature, or each image depth, to mean 0 and width 1 over the batch, then a trained scale and shift.

    ``momentum`` is the share that the running mean keeps of itself at each batch (TMVA's and Keras's meaning; torch's is one
    minus it); a negative one, as by default, takes the mean over all batches seen.
    """

    word = "BNORM"
    forms = ((), ("momentum",), ("momentum", "epsilon"))
    momentum: float = at_least(-1, -1.0)
    epsilon: float = at_least(0, 1e-4)

    def check(self, *, given: Iterable[str] = ()) -> None:
        """A momentum above 1 would make the running variance negative."""
        super().check(given=given)
        if self.momentum > 1:
            raise MisfitError(f"momentum must be at most 1, not {self.momentum:g}", "momentum")

    def parameters(self, shape: Shape, setting: Setting) -> int:
        """Scale, shift, running mean and running variance of each."""
        return 4 * channels(shape)

    def statistics(self, shape: Shape) -> int:
        """Running mean and variance."""
        return 2 * channels(shape)


@dataclasses.dataclass(frozen=True)
class LayerNorm(Word):
    """All values of an event to mean 0 and width 1, then a trained scale and shift of each (arXiv:1607.06450)."""

    word = "LNORM"
    forms = ((), ("epsilon",))
    epsilon: float = at_least(0, 1e-5)

    def parameters(self, shape: Shape, setting: Setting) -> int:
        """Scale and shift of each value."""
        return 2 * size(shape)


@dataclasses.dataclass(frozen=True)
class GroupNorm(Word):
    """Groups of depths of one event to mean 0 and width 1, then a trained scale and shift a depth (arXiv:1803.08494)."""

    word = "GNORM"
    forms = (("groups",), ("groups", "epsilon"))
    groups: int = at_least(1)
    epsilon: float = at_least(0, 1e-5)

    def output(self, shape: Shape, setting: Setting) -> Shape:
        """Unchanged."""
        if len(shape) == 2 or shape[0] % self.groups:
            message = f"{self.groups} groups do not divide the depth of {shown(shape)}"
            raise MisfitError(message, "groups")
        if size(shape) == self.groups:
            raise MisfitError(f"{self.groups} groups of one value each", "groups")
        return shape

    def parameters(self, shape: Shape, setting: Setting) -> int:
        """Scale and shift a depth."""
        return 2 * shape[0]


@dataclasses.dataclass(frozen=True)
class InstanceNorm(Word):
    """Each depth of one event to mean 0 and width 1, then a trained scale and shift (arXiv:1607.08022)."""

    word = "INORM"
    forms = ((), ("epsilon",))
    epsilon: float = at_least(0, 1e-5)

    def output(self, shape: Shape, setting: Setting) -> Shape:
        """Unchanged."""
        if len(shape) < 3 or size(shape[1:]) < 2:
            raise MisfitError(
                f"INORM needs several values a depth, but {shown(shape)} reaches it", ""
            )
        return shape

    def parameters(self, shape: Shape, setting: Setting) -> int:
        """Scale and shift a depth."""
        return 2 * shape[0]


@dataclasses.dataclass(frozen=True)
class Dropout(Word):
    """Each value set to 0 with probability ``rate`` in training, the rest scaled up to make good for it."""

    word = "DROPOUT"
    forms = (("rate",),)
    rate: float = at_least(0)

    def check(self, *, given: Iterable[str] = ()) -> None:
        """A rate of 1 would leave nothing."""
        super().check(given=given)
        if self.rate >= 1:
            raise MisfitError(f"rate must be below 1, not {self.rate:g}", "rate")


@dataclasses.dataclass(frozen=True)
class Recurrent(Word):
    """What RNN, LSTM and GRU share: a state that walks along a time|width input; one bias a gate, as in TMVA."""

    gates: ClassVar[int]
    forms: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("state", "inputs", "steps"),
        ("state", "inputs", "steps", "remember"),
        ("state", "inputs", "steps", "remember", "sequence"),
    )
    known_flags = (WEIGHT_FLAGS[0],)
    state: int = at_least(1)
    inputs: int = at_least(1)
    steps: int = at_least(1)
    remember: bool = False
    sequence: bool = False

    def output(self, shape: Shape, setting: Setting) -> Shape:
        """The last state, or with ``sequence`` those of all steps."""
        steps, inputs = self.walked(shape)
        if inputs != self.inputs:
            raise MisfitError(f"{self._named(shape)}; input {inputs} would be right", "inputs")
        if steps != self.steps:
            raise MisfitError(f"{self._named(shape)}; {steps} time steps would be right", "steps")
        return (steps, self.state) if self.sequence else (self.state,)

    def walked(self, shape: Shape) -> tuple[int, int]:
        """Time steps and width of ``shape``, which may be an image of depth 1."""
        if len(shape) == 3 and shape[0] == 1:
            return shape[1], shape[2]
        if len(shape) != 2:
            hint = f"RESHAPE|{self.steps}|{self.inputs}"
            raise MisfitError(
                f"{self.word} needs time|width, but {shown(shape)} reaches it; {hint} before it?",
                "",
            )
        return shape[0], shape[1]

    def _named(self, shape: Shape) -> str:
        return f"{self.word} is told of {self.steps} steps of {self.inputs} inputs, but {shown(shape)} reaches it"

    def parameters(self, shape: Shape, setting: Setting) -> int:
        """For each gate the weights of input and state and a bias."""
        return self.gates * self.state * (self.state + self.inputs + 1)

    def operations(self, shape: Shape, setting: Setting) -> int:
        """All weights once a step."""
        return self.steps * self.gates * self.state * (self.state + self.inputs)


@dataclasses.dataclass(frozen=True)
class Rnn(Recurrent):
    """h ← tanh(W x + U h + b)."""

    word = "RNN"
    gates = 1


@dataclasses.dataclass(frozen=True)
class Lstm(Recurrent):
    """Long short-term memory: input, forget and output gates around a cell."""

    word = "LSTM"
    gates = 4


@dataclasses.dataclass(frozen=True)
class Gru(Recurrent):
    """Gated recurrent unit; with ``reset_after`` the reset gate acts behind the state's weights."""

    word = "GRU"
    gates = 3
    forms = (
        *Recurrent.forms,
        ("state", "inputs", "steps", "remember", "sequence", "reset_after"),
    )
    reset_after: bool = False


def channels(shape: Shape) -> int:
    """How many features a batch norm keeps apart: an image's depths, else the last axis (TMVA's 1|1|n is flat)."""
    return shape[0] if is_image(shape) else shape[-1]


def is_image(shape: Shape) -> bool:
    """Whether a shape has depths with several values each, rather than features."""
    return len(shape) > 2 and shape[:2] != (1, 1)


_HERE: tuple[type[Word], ...] = (
    *(Dense, Act, Reshape, Dropout, BatchNorm, LayerNorm, GroupNorm, InstanceNorm),
    *(Rnn, Lstm, Gru),
)

#: Every word of the language by its name; a stream's is ``""``.
WORDS: dict[str, type[Word]] = {
    word.word: word
    for word in (
        *_HERE,
        *images.WORDS,
        *streams.WORDS,
        *physics.WORDS,
    )
}

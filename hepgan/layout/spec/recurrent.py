"""The layer words for sequences, time|width: TMVA's RNN, LSTM and GRU."""

import dataclasses
from typing import ClassVar

from hepgan.layout.spec.base import (
    WEIGHT_FLAGS,
    LayerSpec,
    Shape,
    ShapeContext,
    at_least,
    format_shape,
)
from hepgan.layout.spec.diagnostics import MisfitError


@dataclasses.dataclass(frozen=True)
class RecurrentSpec(LayerSpec):
    """What RNN, LSTM and GRU share: a state that walks along a time|width input; one bias a gate, as in TMVA.

    With ``remember`` a batch in training starts from the state in which the last one of its size ended. Generated events do not
    depend on those before: each batch of them starts from zero.
    """

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

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
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
                f"{self.word} needs time|width, but {format_shape(shape)} reaches it; {hint} before it?",
                "",
            )
        return shape[0], shape[1]

    def _named(self, shape: Shape) -> str:
        return f"{self.word} is told of {self.steps} steps of {self.inputs} inputs, but {format_shape(shape)} reaches it"

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """For each gate the weights of input and state and a bias."""
        return self.gates * self.state * (self.state + self.inputs + 1)

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """All weights once a step."""
        return self.steps * self.gates * self.state * (self.state + self.inputs)


@dataclasses.dataclass(frozen=True)
class RNNSpec(RecurrentSpec):
    """h ← tanh(W x + U h + b)."""

    word = "RNN"
    gates = 1


@dataclasses.dataclass(frozen=True)
class LSTMSpec(RecurrentSpec):
    """Long short-term memory: input, forget and output gates around a cell."""

    word = "LSTM"
    gates = 4


@dataclasses.dataclass(frozen=True)
class GRUSpec(RecurrentSpec):
    """Gated recurrent unit; with ``reset_after`` the reset gate acts behind the state's weights."""

    word = "GRU"
    gates = 3
    forms = (
        *RecurrentSpec.forms,
        ("state", "inputs", "steps", "remember", "sequence", "reset_after"),
    )
    reset_after: bool = False


WORDS: tuple[type[LayerSpec], ...] = (RNNSpec, LSTMSpec, GRUSpec)

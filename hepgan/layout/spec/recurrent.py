"""Layer words for sequences (time|width): TMVA's RNN, LSTM and GRU."""

import dataclasses
from typing import ClassVar

from hepgan.layout.spec.base import (
    WEIGHT_FLAGS,
    LayerSpec,
    MisfitError,
    Shape,
    ShapeContext,
    at_least,
    format_shape,
    register_layer,
)


@dataclasses.dataclass(frozen=True)
class RecurrentSpec(LayerSpec):
    """Base class of RNN, LSTM and GRU: recurrence over a time|width input, with one bias per gate, as in TMVA.

    With ``remember``, a training batch starts from the final state of the previous batch of the same size. Generated events do
    not depend on earlier ones: each batch starts from zero.
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

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the last state, or with ``sequence`` the states of all steps."""
        steps, inputs = self.sequence_shape(shape)
        if inputs != self.inputs:
            raise MisfitError(f"{self._named(shape)}; use {inputs} inputs", "inputs")
        if steps != self.steps:
            raise MisfitError(f"{self._named(shape)}; use {steps} time steps", "steps")
        return (steps, self.state) if self.sequence else (self.state,)

    def sequence_shape(self, shape: Shape) -> tuple[int, int]:
        """Returns time steps and width of ``shape``, which may be an image of depth 1."""
        if len(shape) == 3 and shape[0] == 1:
            return shape[1], shape[2]
        if len(shape) != 2:
            hint = f"RESHAPE|{self.steps}|{self.inputs}"
            raise MisfitError(
                f"{self.word} needs time|width, but its input is {format_shape(shape)}; put {hint} before it",
                "",
            )
        return shape[0], shape[1]

    def _named(self, shape: Shape) -> str:
        return f"{self.word} is declared with {self.steps} time steps of {self.inputs} inputs, but its input has shape {format_shape(shape)}"

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights of input and state and a bias, for each gate."""
        return self.gates * self.state * (self.state + self.inputs + 1)

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts all weights once per time step."""
        return self.steps * self.gates * self.state * (self.state + self.inputs)


@register_layer
@dataclasses.dataclass(frozen=True)
class RNNSpec(RecurrentSpec):
    """Simple recurrent layer: h ← tanh(W x + U h + b)."""

    word = "RNN"
    gates = 1


@register_layer
@dataclasses.dataclass(frozen=True)
class LSTMSpec(RecurrentSpec):
    """Long short-term memory: input, forget and output gates around a cell."""

    word = "LSTM"
    gates = 4


@register_layer
@dataclasses.dataclass(frozen=True)
class GRUSpec(RecurrentSpec):
    """Gated recurrent unit; with ``reset_after``, the reset gate acts after the recurrent weights, as in torch."""

    word = "GRU"
    gates = 3
    forms = (
        *RecurrentSpec.forms,
        ("state", "inputs", "steps", "remember", "sequence", "reset_after"),
    )
    reset_after: bool = False

"""Construction of a layout's ``torch.nn.Module``, and a context manager that freezes its running statistics."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from hepgan.errors import RunError
from hepgan.layout.memory import check_memory
from hepgan.layout.nn.builders import WeightInit, chain
from hepgan.layout.nn.containers import Chain
from hepgan.layout.nn.modules import Tracking
from hepgan.layout.shapes import shape_context, trace_steps
from hepgan.layout.spec.base import Layout, Role, Shape
from hepgan.random_streams import Stream, torch_generator

INIT: dict[Role, Stream] = {"generator": "init_generator", "discriminator": "init_discriminator"}
"""Random stream of the initial weights, by role."""


class Network(nn.Module):
    """Module of a layout; ``forward(x, c)`` takes ``x[B, *input]`` (or flattened) and conditions ``c[B, C]``."""

    def __init__(self, layers: Chain, *, input: Shape, conditions: int) -> None:
        super().__init__()
        self.layers, self.input, self.conditions = layers, input, conditions

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns the output of the last layer.

        Raises:
            RunError: the network needs conditions, but ``c`` is None.
        """
        if c is None:
            if self.conditions:
                raise RunError(f"the network needs conditions c[B, {self.conditions}]")
            c = x.new_zeros(x.shape[0], 0)
        y: Tensor = self.layers(x.reshape(x.shape[0], *self.input), c, {})
        return y


def build(
    layout: Layout,
    *,
    input: Shape,
    seed: int,
    features: int = 0,
    conditions: int = 0,
    fields: Mapping[str, Shape] | None = None,
    outputs: int = 0,
    role: Role | None = None,
    initialization: str = "XAVIERUNIFORM",
) -> Network:
    """Builds the network of ``layout`` on the CPU, in training mode, with zero biases and weights drawn from ``seed``.

    The other arguments are those of ``shapes.trace``. PyTorch's global random state is not used.

    Raises:
        LayoutError: a layer does not fit its input or the available memory.
        RunError: the initialization is unknown, or the seed is not an integer from 0 to 2^64 − 1.
    """
    steps = trace_steps(
        layout, input, shape_context(input, features, conditions, fields, outputs, role)
    )
    check_memory(layout, steps)
    init = WeightInit(initialization, torch_generator(seed, INIT[role or "generator"]))
    with torch.no_grad():
        return Network(chain(steps, init), input=input, conditions=conditions)


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Context manager that disables updates of running statistics, spectral-norm vectors and recurrent states.

    Layers otherwise behave as in training: a batch is normalized by its own statistics.
    """
    tracking = [part for part in module.modules() if isinstance(part, Tracking) and part.tracking]
    for part in tracking:
        part.tracking = False
    try:
        yield
    finally:
        for part in tracking:
            part.tracking = True

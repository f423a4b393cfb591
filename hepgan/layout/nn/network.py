"""A layout as a ``torch.nn.Module``: one builder a word, chained.

``build`` makes the network; ``frozen_statistics`` lets the gradient pass through one without a trace left in it.
"""

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
"""The stream that the first weights of each role are drawn from."""


class Network(nn.Module):
    """A built layout; ``forward(x, c)`` takes ``x[B, *input]`` (or flat) and conditions ``c[B, C]``."""

    def __init__(self, layers: Chain, *, input: Shape, conditions: int) -> None:
        super().__init__()
        self.layers, self.input, self.conditions = layers, input, conditions

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """The output of the last layer, ``[B, *its shape]``.

        Raises:
            RunError: conditions that the network needs are missing.
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
    """The network of ``layout`` on the CPU, in training mode, its biases 0 and its weights drawn from ``seed``.

    The other arguments are those of ``shapes.trace``. torch's global random numbers are neither used nor moved.

    Raises:
        LayoutError: a layer that does not fit what reaches it, or the memory at hand.
        RunError: an unknown initialisation, or a seed that is no integer from 0 to 2^64 − 1.
    """
    steps = trace_steps(
        layout, input, shape_context(input, features, conditions, fields, outputs, role)
    )
    check_memory(layout, steps)
    start = WeightInit(initialization, torch_generator(seed, INIT[role or "generator"]))
    with torch.no_grad():
        return Network(chain(steps, start), input=input, conditions=conditions)


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """While it lasts, running means, spectral norms and remembered states stay as they are, bit for bit, in training mode too.

    Layers behave as in training all the same: a batch is normalised by itself.
    """
    tracking = [part for part in module.modules() if isinstance(part, Tracking) and part.tracking]
    for part in tracking:
        part.tracking = False
    try:
        yield
    finally:
        for part in tracking:
            part.tracking = True

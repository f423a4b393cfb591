"""A layer word of your own: ``CENTER`` subtracts the mean of each event's values.

    python examples/own_layer.py

In a run file, ``plugins = ["own_layer"]`` imports this module, and ``[gan]`` may use the word in its layouts.
"""

import dataclasses

import torch
from torch import Tensor, nn

from hepgan.layout import LayerSpec, build, parse, register_builder, register_layer, trace


@register_layer
@dataclasses.dataclass(frozen=True)
class CenterSpec(LayerSpec):
    """Subtraction of the mean of all values; ``CENTER|strength`` subtracts a fraction of it."""

    word = "CENTER"
    forms = ((), ("strength",))
    strength: float = 1.0


class Center(nn.Module):
    """Subtraction of the mean."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the same shape."""
        mean = x.flatten(1).mean(1).reshape(-1, *[1] * (x.ndim - 1))
        return x - self.strength * mean


@register_builder(CenterSpec)
def build_center(spec: CenterSpec, step: object, init: object) -> nn.Module:
    """Builds the module; ``step`` has the input and output shapes, ``init`` draws weights."""
    return Center(spec.strength)


if __name__ == "__main__":
    layout = parse("CENTER, DENSE|32|LRELU, CENTER|0.5, DENSE|1|LINEAR")
    for layer in trace(layout, input=(1, 12, 12)):
        print(layer.word, layer.output, layer.parameters)
    network = build(layout, input=(1, 12, 12), seed=1)
    print(network(torch.ones(3, 1, 12, 12)))

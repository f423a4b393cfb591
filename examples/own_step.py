"""An encoding step of your own: ``asinh`` compresses both tails, as ``log`` does for one.

    python examples/own_step.py

In a run file, ``plugins = ["own_step"]`` imports this module, and ``[encoding]`` may use ``{ step = "asinh" }``. A saved GAN
names the plugin, so that it is imported before loading: ``hepgan generate runs/mine --plugin own_step``.
"""

import dataclasses
from typing import Self

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from hepgan import Encoding, EncodingSettings, Schema, register_step
from hepgan.data.encoding.base import ColumnLayout, Noise, Positive


@register_step("asinh")
@dataclasses.dataclass(frozen=True)
class Asinh:
    """``asinh(x / width)`` for each column, linear well below ``width`` and logarithmic well above it."""

    width: Tensor

    @classmethod
    def fit(
        cls, x: Tensor, c: Tensor, columns: ColumnLayout, noise: Noise, *, softness: Positive = 1.0
    ) -> Self:
        """Fits the widths: ``softness`` times the median magnitude of each column."""
        return cls(softness * x.abs().median(0).values.clamp_min(1e-6))

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the compressed values."""
        return torch.asinh(x / self.width)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values."""
        return self.width.to(x) * torch.sinh(x)


if __name__ == "__main__":
    momenta = np.random.default_rng(1).standard_cauchy((1000, 3)).astype("f4")
    events = ak.zip({"p": momenta}, depth_limit=1)
    schema = Schema.from_table({"fields": {"p": {"shape": [3], "unit": "GeV"}}})
    encoding = Encoding.fit(events, schema, EncodingSettings(({"step": "asinh"},)), seed=1)
    x, c = encoding.encode(events, seed=1)
    print(f"largest value {np.abs(momenta).max():.0f} GeV, encoded {x.abs().max():.1f}")
    error = np.abs(ak.to_numpy(encoding.decode(x, c)["p"]) / momenta - 1).max()
    print(f"largest relative difference after decoding {error:.0e}")

"""Noise that depends on the seed and the event's number alone, not on how many events are made at once."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024
"""Events that share one counter-based generator (Philox, SC'11), and the size of the batches that are sampled."""


def normal_blocks(n: int, shape: tuple[int, ...], *, seed: int) -> Iterator[tuple[int, Tensor]]:
    """``(start, noise[<= BLOCK, *shape])``, standard normal, for events 0 … n−1.

    Event i's noise is row ``i % BLOCK`` of the block ``i // BLOCK``, whose generator is keyed by (seed, block).
    """
    for number, start in enumerate(range(0, n, BLOCK)):
        key = np.array([seed, number], dtype=np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key))
        noise = rng.standard_normal((min(BLOCK, n - start), *shape), dtype=np.float32)
        yield start, torch.from_numpy(noise)

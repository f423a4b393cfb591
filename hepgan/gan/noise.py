"""Noise that depends on the seed and the event's number alone, not on how many events are made at once.

``normal_blocks`` for events numbered from 0; ``keyed_normals`` for particles of events in files, wherever and in whichever
order they are met. Both draw from Philox, a counter-based generator (SC'11).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.random_streams import numpy_generator, stream_key

BLOCK = 1024
"""Events that share one counter-based generator, and the size of the batches that are sampled."""


def normal_blocks(n: int, shape: tuple[int, ...], *, seed: int) -> Iterator[tuple[int, Tensor]]:
    """``(start, noise[<= BLOCK, *shape])``, standard normal, for events 0 … n−1.

    Event i's noise is row ``i % BLOCK`` of the block ``i // BLOCK``, whose generator is keyed by (seed, block).
    """
    for number, start in enumerate(range(0, n, BLOCK)):
        rng = numpy_generator(seed, "sample", "latent", number)
        noise = rng.standard_normal((min(BLOCK, n - start), *shape), dtype=np.float32)
        yield start, torch.from_numpy(noise)


def keyed_normals(
    entries: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    shape: tuple[int, ...],
    *,
    seed: int,
    file: str,
    tree: str,
) -> Tensor:
    """``noise[P, *shape]``, standard normal: row i is a function of (seed, file, tree, entries[i], numbers[i]).

    Args:
        entries: ``[P]`` the entry of each particle's event.
        numbers: ``[P]`` each particle's number in its event.
        shape: Of one particle's noise.
        seed: The seed.
        file: The file's UUID.
        tree: The tree's name.
    """
    noise = np.empty((len(entries), *shape), dtype=np.float32)
    bits = np.random.Philox(key=stream_key(seed, "sample", "particle", file, tree))
    rng = np.random.Generator(bits)
    # The generator of every row is this one with another counter: a third of the time that making each anew would take.
    state = bits.state
    counter = state["state"]["counter"]
    for row, entry, number in zip(noise, entries.tolist(), numbers.tolist(), strict=True):
        # The first word is what the generator itself counts up.
        counter[:] = (0, number, entry, 0)
        bits.state = state
        rng.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(noise)

"""Noise that is a function of the seed and the number of the event, independent of the batch size.

``normal_blocks`` is for events numbered from 0, ``keyed_normals`` for the particles of events in files, in any order and on any
worker. Both use Philox, a counter-based generator (Salmon et al., SC'11).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.random_streams import numpy_generator, stream_key

BLOCK = 1024
"""Number of events that share a generator, and the batch size of sampling."""


def normal_blocks(n: int, shape: tuple[int, ...], *, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Yields ``(start, noise[<= BLOCK, *shape])``, standard normal, for events 0 … n−1.

    The noise of event i is row ``i % BLOCK`` of the block ``i // BLOCK``, whose generator is keyed by (seed, block).
    """
    for number, start in enumerate(range(0, n, BLOCK)):
        yield start, normal_block(number, min(BLOCK, n - start), shape, seed=seed)


def normal_block(number: int, events: int, shape: tuple[int, ...], *, seed: int) -> Tensor:
    """Returns the noise ``[events, *shape]`` of the first events of a block."""
    rng = numpy_generator(seed, "sample", "latent", number)
    return torch.from_numpy(rng.standard_normal((events, *shape), dtype=np.float32))


def keyed_normals(
    entries: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    shape: tuple[int, ...],
    *,
    seed: int,
    file: str,
    tree: str,
    copies: npt.NDArray[np.int64] | None = None,
) -> Tensor:
    """Returns ``noise[P, *shape]``, standard normal; row i is a function of (seed, file, tree, entries[i], numbers[i], copies[i]).

    Args:
        entries: Entry of each particle's event, ``[P]``.
        numbers: Number of each particle in its event, ``[P]``.
        shape: Shape of the noise of one particle.
        seed: Seed.
        file: UUID of the file.
        tree: Name of the tree.
        copies: Number of the copy of each particle, ``[P]``; by default 0.
    """
    copies = np.zeros_like(entries) if copies is None else copies
    noise = np.empty((len(entries), *shape), dtype=np.float32)
    bits = np.random.Philox(key=stream_key(seed, "sample", "particle", file, tree))
    rng = np.random.Generator(bits)
    # One generator whose counter is set for each row takes a third of the time of a new generator per row.
    state = bits.state
    counter = state["state"]["counter"]
    rows = zip(noise, entries.tolist(), numbers.tolist(), copies.tolist(), strict=True)
    for row, entry, number, copy in rows:
        # The generator itself increments the first word.
        counter[:] = (0, number, entry, copy)
        bits.state = state
        rng.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(noise)

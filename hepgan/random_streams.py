"""Named streams of random numbers, all spawned from one seed.

A stream is keyed by a hash of (seed, name, children), 128 bits of it, so that no two streams share a state: neither two of one seed
(weights and noise, training and validation) nor those of neighboring seeds. Children number the uses of a stream: the phase,
the epoch, the step, the block of events.

| stream | used for |
|---|---|
| ``init_generator`` | the generator's initial weights |
| ``init_discriminator`` | the discriminator's initial weights |
| ``latent`` | the generator's noise in training, and the points of a gradient penalty |
| ``order`` | the order of events, by phase and epoch |
| ``encoding`` | the noise of an encoding's steps, and the choice of events for the fit |
| ``augmentation`` | the rotations of training events |
| ``dropout`` | input dropout |
| ``validation`` | the noise of validation |
| ``sample`` | generated events: their noise and randomly drawn conditions |
| ``evaluation`` | resampling, splits and classifiers of metrics |
| ``bootstrap`` | the weights of a bootstrap of the training events |
| ``member`` | the seeds of the members of an ensemble |
"""

import hashlib
import itertools
import numbers
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from hepgan.errors import RunError

if TYPE_CHECKING:
    import torch

Stream = Literal[
    "init_generator", "init_discriminator", "latent", "order", "encoding", "augmentation", "dropout", "validation",
    "sample", "evaluation", "export", "bootstrap", "member",
]  # fmt: skip
STREAMS: tuple[Stream, ...] = get_args(Stream)

SEEDS = 2**64
"""Number of valid seeds."""

_GAP = 4096
"""Up to this many numbers are drawn and discarded, which is faster than repositioning the generator."""


def check_seed(seed: object) -> int:
    """Returns the seed as an ``int``.

    Raises:
        RunError: the seed is not an integer from 0 to 2^64 − 1.
    """
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= int(seed) < SEEDS:  # type: ignore[call-overload]  # an Integral, as just checked
        raise RunError(f"seed = {seed!r} should be an integer from 0 to 2^64 − 1, such as 1")
    return int(seed)  # type: ignore[call-overload,no-any-return]  # the same


def stream_key(seed: int, stream: Stream, *children: int | str) -> int:
    """Returns the 128-bit key of this stream.

    Args:
        seed: The seed.
        stream: One of ``STREAMS``.
        children: Distinguish the parts of the stream, such as phase and epoch, or file and tree.

    Raises:
        RunError: the seed is not an integer from 0 to 2^64 − 1.
    """
    parts = (part if isinstance(part, str) else int(part) for part in children)
    text = repr((check_seed(seed), stream, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def child_seed(seed: int, stream: Stream, *children: int | str) -> int:
    """Returns a 63-bit seed for functions that take a seed themselves."""
    return stream_key(seed, stream, *children) >> 65


def numpy_generator(seed: int, stream: Stream, *children: int | str) -> np.random.Generator:
    """Returns NumPy's generator of a stream (Philox, counter-based)."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, stream, *children)))


def torch_generator(
    seed: int,
    stream: Stream,
    *children: int | str,
    device: "torch.device | str" = "cpu",
) -> "torch.Generator":
    """Returns torch's generator of a stream on ``device``, or on the CPU if that device is not available."""
    import torch  # here: the command line checks seeds without torch

    device = torch.device(device)
    available = device.type == "cuda" and torch.cuda.is_available()
    generator = torch.Generator(device if available else "cpu")
    reseed(generator, seed, stream, *children)
    return generator


def reseed(generator: "torch.Generator", seed: int, stream: Stream, *children: int | str) -> None:
    """Resets ``generator`` to the start of a stream, without synchronizing with the device."""
    key = stream_key(seed, stream, *children)
    if generator.device.type != "cpu":
        generator.manual_seed(key >> 64)
        return
    # torch's Mersenne Twister takes only 32 bits of a seed: among 100,000 steps, two would be likely to collide.
    generator.manual_seed(0)
    state = generator.get_state()
    words = state.numpy()[_WORDS].view(np.uint64)
    words[:] = np.random.Philox(key=key).random_raw(len(words) // 2).view(np.uint32)
    generator.set_state(state)


_WORDS = slice(24, 24 + 8 * 624)
"""Position of the Mersenne Twister's words in the state of a CPU generator: 32 bits each, stored in 64."""


def keyed_uniforms(
    entries: npt.NDArray[np.int64], width: int, *, key: int
) -> npt.NDArray[np.float32]:
    """Returns ``float32[E, width]``, uniform in [0, 1): row i depends on (key, entries[i]) only.

    Each entry has its own range of the generator's counter, so that consecutive entries are drawn at once.
    """
    steps = -(-width // 8)  # one counter step gives four 64-bit words
    bits = np.random.Philox(key=key)
    rng, state = np.random.Generator(bits), bits.state
    counter = state["state"]["counter"]
    uniforms = np.empty((len(entries), width), dtype=np.float32)
    leaps = np.diff(entries)
    cuts = np.flatnonzero((leaps < 1) | (leaps > 1 + _GAP // (8 * steps or 1))) + 1
    edges = [0, *cuts.tolist(), len(entries)] if len(entries) else []
    for start, stop in itertools.pairwise(edges):
        first, last = int(entries[start]), int(entries[stop - 1])
        # The generator increments the counter before it draws.
        counter[:] = (first * steps, 0, 0, 0)
        bits.state = state
        draws = rng.random((last - first + 1, 8 * steps), dtype=np.float32)
        uniforms[start:stop] = draws[entries[start:stop] - first, :width]
    return uniforms

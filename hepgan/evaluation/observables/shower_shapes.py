"""Shower and image shapes as stateless functions of numpy arrays or torch tensors.

Each takes ``cells[E, K]``, the values of ``K`` cells in ``E`` events, and returns one number per event. With torch, every function
is differentiable where the quantity is, and has a finite gradient elsewhere, so that the same observables can be
discriminator inputs. Definitions: CaloGAN (arXiv:1705.02355) and the CaloChallenge (arXiv:2410.21611).

The shower depth s_d is the ``center`` of the layers' energies, σ_sd their ``width``. An event without energy has no center, width or ratio: the result is ``missing`` (NaN by default).
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

from array_api_compat import array_namespace, device, to_device

Array = Any
"""A numpy array or a torch tensor."""


def total(cells: Array) -> Array:
    """Returns the sum over cells, ``[E]``."""
    return array_namespace(cells).sum(cells, axis=1)


def occupancy(cells: Array, *, threshold: float = 0.0) -> Array:
    """Returns the fraction of cells above ``threshold``: CaloGAN's "sparsity", 1 − the CaloChallenge's sparsity."""
    xp = array_namespace(cells)
    return xp.mean(xp.astype(cells > threshold, cells.dtype), axis=1)


def ratio(numerator: Array, denominator: Array, *, missing: float = math.nan) -> Array:
    """Returns ``numerator[E] / denominator[E]``, or ``missing`` where the denominator is not positive; NaN stays NaN."""
    xp = array_namespace(numerator, denominator)
    positive = ~(denominator <= 0)
    safe = xp.where(positive, denominator, xp.ones_like(denominator))
    return xp.where(positive, numerator / safe, xp.full_like(denominator, missing))


def hottest_ratio(cells: Array, *, missing: float = math.nan) -> Array:
    """Returns ``(e1 − e2) / (e1 + e2)`` of each event's two hottest cells."""
    xp = array_namespace(cells)
    first = xp.max(cells, axis=1)
    numbers = xp.arange(cells.shape[1], device=device(cells))
    hottest = numbers[None, :] == xp.argmax(cells, axis=1)[:, None]
    second = xp.max(xp.where(hottest, xp.full_like(cells, -math.inf), cells), axis=1)
    return ratio(first - second, first + second, missing=missing)


def center(
    cells: Array,
    positions: Sequence[float],
    *,
    missing: float = math.nan,
    energy: Array | None = None,
) -> Array:
    """Returns the mean of ``positions[K]`` weighted with the cells, in the unit of the positions.

    ``energy`` is ``total(cells)``, if it is known already.
    """
    energy = total(cells) if energy is None else energy
    return ratio(cells @ _like(positions, cells), energy, missing=missing)


def width(
    cells: Array,
    positions: Sequence[float],
    *,
    missing: float = math.nan,
    energy: Array | None = None,
    mean: Array | None = None,
) -> Array:
    """Returns the standard deviation of ``positions[K]`` weighted with the cells: sqrt(ΣE c²/E − (ΣE c/E)²).

    ``energy`` is ``total(cells)`` and ``mean`` is ``center(cells, positions)``, if they are known already.
    """
    xp = array_namespace(cells)
    at = _like(positions, cells)
    energy = total(cells) if energy is None else energy
    mean = center(cells, positions, missing=missing, energy=energy) if mean is None else mean
    return safe_sqrt(ratio(cells @ xp.square(at), energy, missing=missing) - xp.square(mean))


def weighted_sum(cells: Array, numbers: Sequence[float]) -> Array:
    """Returns ``Σ numbers[K] · cells[E, K]``: CaloGAN's lateral depth l_d if the cells are layer energies."""
    return cells @ _like(numbers, cells)


def deepest(energies: Array, numbers: Sequence[float]) -> Array:
    """Returns the largest of ``numbers[L]`` whose layer has energy in ``energies[E, L]``; −1 if none has."""
    xp = array_namespace(energies)
    number = xp.broadcast_to(_like(numbers, energies), energies.shape)
    return xp.max(xp.where(energies > 0, number, -xp.ones_like(energies)), axis=1)


def safe_sqrt(square: Array) -> Array:
    """Returns the square root, or 0 with gradient 0 where rounding made the argument negative; NaN stays NaN."""
    xp = array_namespace(square)
    inside = ~(square <= 0)
    safe = xp.where(inside, square, xp.ones_like(square))
    return xp.where(inside, xp.sqrt(safe), xp.zeros_like(square))


def columns(cells: Array, numbers: tuple[int, ...]) -> Array:
    """Returns ``cells[:, numbers]``, a view for consecutive numbers."""
    first, stop = numbers[0], numbers[-1] + 1
    if numbers == tuple(range(first, stop)):
        return cells[:, first:stop]
    xp = array_namespace(cells)
    return xp.take(cells, _constant(xp, numbers, xp.int64, device(cells)), axis=1)


def _like(values: Sequence[float], array: Array) -> Array:
    return _constant(array_namespace(array), tuple(values), array.dtype, device(array))


@functools.lru_cache(maxsize=4096)
def _constant(
    xp: Any, values: tuple[float, ...] | tuple[int, ...], dtype: Any, where: Any
) -> Array:
    """Returns a cached array: copying a constant to the GPU synchronizes with it."""
    return to_device(xp.asarray(values, dtype=dtype), where)

"""Decoding in one pass over memory with numba, where it is installed (it comes with coffea, and with the extra ``fast``).

The steps themselves are the reference, within float32 rounding: they are used without numba, with gradients, on other devices, in
exported programs and for other dtypes. An event does not depend on the others of its batch, nor on the number of threads.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

_EAGER: ContextVar[bool] = ContextVar("eager", default=False)


@contextmanager
def eager() -> Iterator[None]:
    """Context manager in which torch's operators decode, for comparisons."""
    token = _EAGER.set(True)
    try:
        yield
    finally:
        _EAGER.reset(token)


def use_kernels(*tensors: Tensor) -> bool:
    """Returns whether kernels can replace torch's operators for these tensors: numba is installed, and neither gradients nor tracing."""
    return (
        not torch.compiler.is_compiling()  # first: the compiler cannot read context variables
        and not _EAGER.get()
        and all(type(tensor) is Tensor and tensor.device.type == "cpu" for tensor in tensors)
        and all(tensor.dtype == torch.float32 for tensor in tensors)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
        and _jit() is not None
    )


@functools.cache
def _jit() -> Callable[[Any], Any] | None:
    """Returns numba's compiler, or ``None`` without numba; compiled kernels are kept on disk where a folder can be written."""
    try:
        import numba
    except ImportError:
        return None

    def compiled(function: Any) -> Any:
        try:
            return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError:  # no folder for the cache
            return numba.njit(nogil=True, error_model="numpy")(function)

    return compiled


@functools.cache
def compiled(function: Any) -> Any:
    """Returns ``function`` compiled with numba, if it is installed."""
    jit = _jit()
    return jit(function) if jit else function


def table_values(
    x: Tensor,
    upper: Tensor,
    weight: Tensor,
    zero: Tensor,
    table: Tensor,
    slope: Tensor,
    censored: Tensor,
    largest: float,
) -> Tensor:
    """Returns the values ``[E, F]`` of the scores ``x[E, F]``: ``Marginals.decode``.

    Args:
        x: Scores.
        upper: ``[E]``, upper table of each event.
        weight: ``[E, 1]``, its weight.
        zero: ``[W, F]``, first score of the tables.
        table: ``[W, K, F]``.
        slope: ``[2, F]``.
        censored: ``[F]``.
        largest: Last score of the tables.

    Raises:
        RuntimeError: the sizes do not fit, as for torch's operators; kernels do not check indices.
    """
    windows, knots, features = table.shape if table.dim() == 3 else (0, 0, 0)
    fits = zero.shape == (windows, features) and slope.shape == (2, features)
    fits &= censored.shape == (features,) and x.shape[-1] == features and knots > 1
    fits &= x.dim() == 2 and upper.shape == (len(x),) and weight.shape == (len(x), 1)
    if not fits or (len(x) and (upper.min() < 0 or upper.max() >= windows)):
        raise RuntimeError("the sizes of tables and scores do not fit")
    values = torch.empty_like(x, memory_format=torch.contiguous_format)
    compiled(_table_values)(
        x.detach().contiguous().numpy(), upper.numpy(), weight[:, 0].contiguous().numpy(), zero.numpy(), table.numpy(),
        slope.numpy(), censored.numpy(), np.float32(largest), values.numpy(),
    )  # fmt: skip
    return values


def _table_values(
    x: Any, upper: Any, weight: Any, zero: Any, table: Any, slope: Any, censored: Any, largest: Any, values: Any,
) -> None:  # fmt: skip
    events, features = x.shape
    knots, nothing = table.shape[1], np.float32(0)
    steps = np.float32(knots - 1)
    for e in range(events):
        high, w = upper[e], weight[e]
        low = high - 1 if table.shape[0] > 1 else high
        for f in range(features):
            score = x[e, f]
            first = zero[low, f] + w * (zero[high, f] - zero[low, f])
            if censored[f] and score <= first:
                values[e, f] = score - first
                continue
            position = (score - first) / (largest - first) * steps
            if position < nothing:
                position = nothing
            elif position > steps:
                position = steps
            # NaN, which is neither, stays NaN.
            knot = min(int(position), knots - 2) if position >= nothing else 0
            left = table[low, knot, f] + w * (table[high, knot, f] - table[low, knot, f])
            right = table[low, knot + 1, f] + w * (
                table[high, knot + 1, f] - table[low, knot + 1, f]
            )
            value = left + (right - left) * (position - np.float32(knot))
            if score > largest:
                value += slope[1, f] * (score - largest)
            elif score < first:
                value += slope[0, f] * (score - first)
            values[e, f] = value


def scaled_layers(
    cells: Tensor, energies: Tensor, layers: Tensor, hottest: Tensor, threshold: float
) -> Tensor:
    """Returns cells ``[E, F]`` with the layer sums ``energies[E, L]``, cut at the threshold twice: ``LayerSums.decode``.

    Args:
        cells: ``[E, F]``, or with more columns after them.
        energies: Sums of the layers.
        layers: ``[L, 2]``, first column of each layer and the one after its last.
        hottest: ``[L]``, cell of a layer that gets the energy if no other has any.
        threshold: Smallest energy of a cell.

    Raises:
        RuntimeError: the sizes do not fit, as for torch's operators; kernels do not check indices.
    """
    starts, stops = layers.reshape(-1, 2).unbind(1)
    fits = energies.shape == (len(cells), len(layers)) and bool((starts >= 0).all())
    fits &= bool((stops <= cells.shape[1]).all() and (stops <= layers[-1, 1]).all())
    if not fits or bool(((hottest < 0) | (hottest >= stops - starts)).any()):
        raise RuntimeError("the sizes of layers and cells do not fit")
    result = cells.new_empty(len(cells), int(layers[-1, 1]))
    compiled(_scaled_layers)(
        cells.detach().numpy(), energies.detach().contiguous().numpy(), layers.numpy(), hottest.numpy(),
        np.float32(threshold), result.numpy(),
    )  # fmt: skip
    return result


def _scaled_layers(
    cells: Any, energies: Any, layers: Any, hottest: Any, threshold: Any, result: Any
) -> None:
    nothing, least = np.float32(0), 1e-6 * threshold
    for e in range(cells.shape[0]):
        for number in range(len(layers)):
            start, stop = layers[number]
            energy = energies[e, number]
            if energy <= threshold:
                energy = nothing
            total = 0.0
            for f in range(start, stop):
                total += cells[e, f]
                result[e, f] = cells[e, f]
            for _ in range(2):
                scale = np.float32(energy / max(total, least))
                total = 0.0
                for f in range(start, stop):
                    cell = result[e, f] * scale
                    if cell <= threshold:
                        cell = nothing
                    result[e, f] = cell
                    total += cell
            if not total <= 0:  # also NaN
                scale = np.float32(energy / max(total, threshold))
                for f in range(start, stop):
                    result[e, f] *= scale
            else:
                for f in range(start, stop):
                    result[e, f] = nothing
                result[e, start + hottest[number]] = energy

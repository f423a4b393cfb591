"""Splits of a tree in one pass over memory with numba, where it is installed: the same as in ``tree`` and ``distributions``.

Torch's operators are the reference, within float32 rounding; ``encoding.kernels`` says when they are used instead. Functions of many
numbers, such as logarithms of all features, are left to torch, whose operators use the CPU's vector registers.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepgan.data.encoding.kernels import compiled

_GROUPS = (*range(19), 20, 21, 23, 25, 27, 29, 30, 34, 19, 22, 24, 26, 28, 31, 32, 33)
"""Features of a node in the order in which the kernel writes them: 19 of which the logarithm is taken, 8 to compress, and the others."""

_LOGARITHMS, _COMPRESSED = 19, 8
_SINE = len(_GROUPS) - 2

_ORDER = tuple(_GROUPS.index(feature) for feature in range(len(_GROUPS)))


def node_features(
    blocks: Tensor,
    layers: Tensor,
    expected: Tensor,
    threshold: float,
    rows: tuple[Tensor, Tensor],
    tables: tuple[Tensor, ...],
) -> Tensor:
    """Returns the features ``[R, f]`` of nodes: ``tree.node_rows``.

    Args:
        blocks: ``[E, A]`` energies before the split.
        layers: ``[E, L]`` energies of the layers.
        expected: ``[E, L, 2]`` expected centers of gravity.
        threshold: Smallest energy of a cell.
        rows: ``event[R]`` and ``node[R]``.
        tables: ``parent``, ``layer``, ``axis``, ``neighbors``, ``overlaps``, ``weights``, ``positions``, ``members`` and ``moments`` of
            the level.
    """
    event, node = rows
    features = torch.empty(len(_GROUPS), len(event))
    compiled(_node_features)(
        blocks.contiguous().numpy(), layers.contiguous().numpy(), expected.contiguous().numpy(), np.float32(threshold),
        event.numpy(), node.numpy(), *(table.numpy() for table in tables), features.numpy(),
    )  # fmt: skip
    features[:_LOGARITHMS].log1p_()
    compressed = features[_LOGARITHMS : _LOGARITHMS + _COMPRESSED]
    torch.copysign(compressed.abs().log1p_(), compressed, out=compressed)
    features[_LOGARITHMS + _COMPRESSED].log_()
    features[_SINE].sin_()
    features[_SINE + 1].cos_()
    return features.index_select(0, torch.tensor(_ORDER)).T


def _node_features(
    blocks: Any, layers: Any, expected: Any, threshold: Any, event: Any, node: Any, parent: Any, layer: Any, axis: Any,
    neighbors: Any, overlaps: Any, weights: Any, positions: Any, members: Any, moments: Any, features: Any,
) -> None:  # fmt: skip
    before, count = blocks.shape[1], layers.shape[1]
    nothing, one, circle = np.float32(0), np.float32(1), np.float32(2 * math.pi)
    # Of each layer, between two without energy: center of gravity, logarithm of its variance, expected center; logarithm of the energy.
    of = np.zeros((count + 2, 6), np.float32)
    size = np.zeros(count + 2, np.float32)
    sums = np.zeros(5, np.float32)
    described = -1
    for r in range(len(event)):
        e, n = event[r], node[r]
        if e != described:
            described = e
            for number in range(count):
                sums[:] = nothing
                for m in range(members.shape[1]):
                    block = members[number, m]
                    if block < before and blocks[e, block] > 0:
                        for k in range(5):
                            sums[k] += blocks[e, block] * moments[number, m, k]
                total = max(sums[0], np.float32(1e-9))
                for k in range(2):
                    mean = sums[1 + k] / total
                    spread = max(sums[3 + k] / total - mean * mean, nothing)
                    of[number + 1, k] = mean
                    of[number + 1, 2 + k] = np.log(spread + np.float32(1e-5))
                    of[number + 1, 4 + k] = expected[e, number, k]
                size[number + 1] = np.log1p(layers[e, number] / threshold)
        for k in range(neighbors.shape[1]):
            block = neighbors[n, k]
            features[k, r] = blocks[e, block] / threshold if block < before else nothing
        for side in range(4):
            overlap = nothing
            for k in range(overlaps.shape[2]):
                block = overlaps[n, side, k]
                if block < before:
                    overlap += blocks[e, block] * weights[n, side, k]
            features[14 + side, r] = overlap / threshold
        value, own = blocks[e, parent[n]], layer[n] + 1
        a, b = axis[n], 1 - axis[n]
        line, half, half_across = positions[0, n], positions[1, n], positions[2, n]
        cell, across = positions[3, n], positions[4, n]
        shift, offset = of[own, a] - line, of[own, 4 + a] - line
        features[18, r] = value / threshold
        features[19, r] = shift / half
        features[20, r] = shift / cell
        features[21, r] = (of[own, b] - across) / half_across
        for k in range(2):
            other = own - 1 + 2 * k
            has_energy = 0 < other <= count and layers[e, other - 1] > 0
            features[22 + k, r] = (of[other, a] - line) / half if has_energy else nothing
            features[30 + k, r] = size[other]
        features[24, r] = offset / half
        features[25, r] = offset / cell
        features[26, r] = (of[own, 4 + b] - across) / half_across
        features[27, r] = max(value, threshold) / max(layers[e, own - 1], threshold)
        features[28, r] = of[own, 2 + a]
        features[29, r] = of[own, 2 + b]
        features[32, r] = min(max(offset / cell, -3 * one), 3 * one)
        features[33, r] = circle * offset / cell
        features[34, r] = circle * offset / cell


def split_energies(
    blocks: Tensor,
    probabilities: Tensor,
    parameters: Tensor,
    rows: tuple[int, Tensor, Tensor, Tensor],
    tables: tuple[Tensor, ...],
    after: int,
    *constants: Any,
) -> Tensor:
    """Returns the energies ``[E, B]`` after the splits of a level: ``tree.split_blocks``.

    Args:
        blocks: ``[E, A]`` energies before the splits.
        probabilities: ``[E, N]``, of the normal scores of the splits.
        parameters: Parameters ``[R, SPLIT]`` of the splits.
        rows: Number of nodes with energy, and their ``event[R]``, ``node[R]`` and ``energy[R]``.
        tables: ``kept``, ``children`` and ``ranges`` of the level.
        after: B.
        constants: The threshold, and ``distributions.split_constants``.
    """
    result = blocks.new_zeros(len(blocks), after)
    compiled(_keep)(blocks.contiguous().numpy(), tables[0].numpy(), result.numpy())
    _splits(False, result, probabilities, probabilities, parameters, rows, tables[1:], *constants)
    return result


def split_probabilities(
    energies: Tensor,
    uniform: Tensor,
    parameters: Tensor,
    rows: tuple[int, Tensor, Tensor, Tensor],
    tables: tuple[Tensor, ...],
    *constants: Any,
) -> Tensor:
    """Returns the probabilities ``[E, N]`` of splits, NaN for nodes without energy: ``Split.scores``.

    Args:
        energies: ``[E, B]`` energies after the splits.
        uniform: ``[E, N]``, chooses in the interval of an empty part.
        parameters: As for ``split_energies``.
        rows: As for ``split_energies``.
        tables: ``children`` and ``ranges`` of the level.
        constants: As for ``split_energies``.
    """
    result = torch.full_like(uniform, torch.nan, memory_format=torch.contiguous_format)
    _splits(True, energies, uniform, result, parameters, rows, tables, *constants)
    return result


def _keep(blocks: Any, kept: Any, result: Any) -> None:
    for e in range(blocks.shape[0]):
        for k in range(kept.shape[1]):
            result[e, kept[1, k]] = blocks[e, kept[0, k]]


def _splits(
    encode: bool,
    energies: Tensor,
    given: Tensor,
    probabilities: Tensor,
    parameters: Tensor,
    rows: tuple[int, Tensor, Tensor, Tensor],
    tables: tuple[Tensor, ...],
    threshold: float,
    constants: tuple[float, ...],
    edges: Tensor,
) -> None:
    count, *columns = rows
    compiled(_split_rows)(
        encode, energies.contiguous().numpy(), given.contiguous().numpy(), probabilities.contiguous().numpy(),
        parameters.contiguous().numpy(), count, *(values.numpy() for values in (*columns, *tables)),
        np.float32(threshold), np.array(constants, np.float32), edges.numpy(),
    )  # fmt: skip


def _split_rows(
    encode: Any, energies: Any, given: Any, probabilities: Any, parameters: Any, count: Any, event: Any, node: Any, energy: Any,
    children: Any, ranges: Any, threshold: Any, constants: Any, edges: Any,
) -> None:  # fmt: skip
    one, nothing, tiny = np.float32(1), np.float32(0), np.float32(1e-7)
    bins = len(edges) - 1
    smallest, narrowest, widest, impossible = constants
    masses = np.empty(bins, np.float32)
    for r in range(count):
        e, n, value = event[r], node[r], energy[r]
        parts = children[n]
        both = nothing if value > np.float32(2.0001) * threshold else impossible
        first, second = parameters[r, 2 + bins], parameters[r, 3 + bins]
        top = max(first, second, both)
        first, second, both = np.exp(first - top), np.exp(second - top), np.exp(both - top)
        total = first + second + both
        first, second, both = first / total, second / total, both / total
        if encode:
            if energies[e, parts[1]] <= 0:
                probabilities[e, n] = one - first * given[e, n]
                continue
            if energies[e, parts[0]] <= 0:
                probabilities[e, n] = second * given[e, n]
                continue
        elif given[e, n] < second:
            energies[e, parts[1]] = value
            continue
        elif given[e, n] >= one - first:
            energies[e, parts[0]] = value
            continue
        limit = np.log(max((value - threshold) / threshold, np.float32(1e-3)))
        low_end = min(max(ranges[0, n], -limit), limit)
        high_end = min(max(ranges[1, n], -limit), limit)

        top = parameters[r, 2]
        for k in range(1, bins):
            top = max(top, parameters[r, 2 + k])
        total = nothing
        for k in range(bins):
            masses[k] = np.exp(parameters[r, 2 + k] - top)
            total += masses[k]
        factor = (one - smallest) / total
        for k in range(bins):
            masses[k] = masses[k] * factor + smallest * (edges[k + 1] - edges[k])
        location = parameters[r, 0]
        width = np.exp(min(max(parameters[r, 1], narrowest), widest))
        low = one / (one + np.exp((location - low_end) / width))
        high = one / (one + np.exp((location - high_end) / width))
        logistic = nothing
        if encode:
            logit = np.log(energies[e, parts[0]]) - np.log(energies[e, parts[1]])
            logit = min(max(logit, low_end), high_end)
            logistic = one / (one + np.exp((location - logit) / width))
        below, below_low, below_high = nothing, nothing, nothing
        for k in range(bins):
            size = edges[k + 1] - edges[k]
            below_low += masses[k] * min(max((low - edges[k]) / size, nothing), one)
            below_high += masses[k] * min(max((high - edges[k]) / size, nothing), one)
            below += masses[k] * min(max((logistic - edges[k]) / size, nothing), one)
        if encode:
            inner = (below - below_low) / max(below_high - below_low, np.float32(1e-6))
            probabilities[e, n] = second + both * min(max(inner, nothing), one)
            continue
        inner = min(max((given[e, n] - second) / max(both, np.float32(1e-9)), nothing), one)
        wanted, below, k = below_low + (below_high - below_low) * inner, nothing, 0
        while k < bins - 1 and wanted >= below + masses[k]:
            below += masses[k]
            k += 1
        logistic = edges[k] + (wanted - below) / masses[k] * (edges[k + 1] - edges[k])
        logistic = min(max(logistic, tiny), one - tiny)
        logit = location + width * np.log(logistic / (one - logistic))
        logit = min(max(logit, low_end), high_end)
        energies[e, parts[0]] = value * (one / (one + np.exp(-logit)))
        energies[e, parts[1]] = value * (one / (one + np.exp(logit)))


def split_gradients(
    parameters: Tensor,
    kinds: Tensor,
    logits: Tensor,
    log_both: Tensor,
    weights: Tensor,
    constants: tuple[float, ...],
    edges: Tensor,
) -> tuple[float, Tensor]:
    """Returns the weighted log-likelihood of splits and its gradient ``[SPLIT, N]``: ``distributions.split_log_likelihood``.

    Args:
        parameters: ``[SPLIT, N]``.
        kinds: ``[N]``.
        logits: ``[3, N]``.
        log_both: ``[N]``.
        weights: ``[N]``.
        constants: As for ``split_energies``.
        edges: ``[K + 1]``, edges of the bins in probability.
    """
    gradient = torch.empty_like(parameters, memory_format=torch.contiguous_format)
    value = compiled(_split_gradients)(
        parameters.contiguous().numpy(), kinds.numpy(), logits.numpy(), log_both.numpy(), weights.numpy(),
        np.array(constants, np.float32), edges.numpy(), gradient.numpy(),
    )  # fmt: skip
    return float(value), gradient


def _split_gradients(
    parameters: Any, kinds: Any, logits: Any, log_both: Any, weights: Any, constants: Any, edges: Any, gradient: Any,
) -> Any:  # fmt: skip
    one, nothing, least = np.float32(1), np.float32(0), np.float32(1e-4)
    bins = len(edges) - 1
    smallest, narrowest, widest, _ = constants
    sizes, masses = np.empty(bins, np.float32), np.empty(bins, np.float32)
    of_masses = np.empty(bins, np.float32)
    below, part = np.empty(2, np.float32), np.empty(2, np.float32)
    at, logistics = np.empty(2, np.int64), np.empty(2, np.float32)
    sum_of_all = 0.0
    for r in range(parameters.shape[1]):
        weight, kind = weights[r], kinds[r]
        atoms = parameters[2 + bins, r], parameters[3 + bins, r], log_both[r]
        top = max(atoms[0], atoms[1], atoms[2])
        first, second = np.exp(atoms[0] - top), np.exp(atoms[1] - top)
        total = first + second + np.exp(atoms[2] - top)
        value = atoms[kind] - top - np.log(total)
        gradient[2 + bins, r] = weight * ((one if kind == 0 else nothing) - first / total)
        gradient[3 + bins, r] = weight * ((one if kind == 1 else nothing) - second / total)
        if kind != 2:
            gradient[: 2 + bins, r] = nothing
            sum_of_all += weight * value
            continue
        top = parameters[2, r]
        for k in range(1, bins):
            top = max(top, parameters[2 + k, r])
        total = nothing
        for k in range(bins):
            sizes[k] = np.exp(parameters[2 + k, r] - top)
            total += sizes[k]
        factor = (one - smallest) / total
        for k in range(bins):
            masses[k] = sizes[k] * factor + smallest * (edges[k + 1] - edges[k])
            of_masses[k] = nothing
        location, raw = parameters[0, r], parameters[1, r]
        scale = min(max(raw, narrowest), widest)
        inverse = np.exp(-scale)

        # Density at the logit.
        distance = (logits[0, r] - location) * inverse
        logistic = one / (one + np.exp(-distance))
        k = 0
        while k < bins - 1 and logistic > edges[k + 1]:
            k += 1
        value += np.log(masses[k] / (edges[k + 1] - edges[k])) - scale
        value -= abs(distance) + 2 * np.log1p(np.exp(-abs(distance)))
        of_masses[k] += one / masses[k]
        of_location = (2 * logistic - one) * inverse
        of_scale = (2 * logistic - one) * distance - one

        # Probability between the ends.
        for j in range(2):
            logistics[j] = one / (one + np.exp((location - logits[1 + j, r]) * inverse))
            k, below[j] = 0, nothing
            while k < bins - 1 and logistics[j] > edges[k + 1]:
                below[j] += masses[k]
                k += 1
            at[j], part[j] = k, (logistics[j] - edges[k]) / (edges[k + 1] - edges[k])
            below[j] += masses[k] * part[j]
        inside = below[1] - below[0]
        value -= np.log(max(inside, least))
        if inside >= least:
            for j in range(2):
                sign = (one if j == 0 else -one) / inside
                for k in range(at[j]):
                    of_masses[k] += sign
                of_masses[at[j]] += sign * part[j]
                slope = masses[at[j]] / (edges[at[j] + 1] - edges[at[j]])
                of_distance = sign * slope * logistics[j] * (one - logistics[j])
                of_location -= of_distance * inverse
                of_scale -= of_distance * (logits[1 + j, r] - location) * inverse
        mean = nothing
        for k in range(bins):
            mean += of_masses[k] * sizes[k]
        mean /= total
        for k in range(bins):
            gradient[2 + k, r] = weight * factor * sizes[k] * (of_masses[k] - mean)
        gradient[0, r] = weight * of_location
        gradient[1, r] = weight * of_scale if narrowest <= raw <= widest else nothing
        sum_of_all += weight * value
    return sum_of_all


def mapped_spectrum(
    cells: Tensor,
    layer: Tensor,
    limits: Tensor,
    knots: Tensor,
    old: Tensor,
    new: Tensor,
    threshold: float,
) -> Tensor:
    """Returns ``cells[E, F]`` with other spectra of small energies: ``Spectrum.to_reference`` and its inverse.

    Args:
        cells: Energies.
        layer: ``[F]``, layer of each cell.
        limits: ``[L]``, largest small energies.
        knots: ``[K]``, layer of each knot, in order.
        old: ``[K]``, energies at the knots, increasing within a layer.
        new: ``[K]``, their new values.
        threshold: Smallest energy of a cell.
    """
    result = torch.empty_like(cells, memory_format=torch.contiguous_format)
    starts = torch.searchsorted(knots, torch.arange(len(limits) + 1))
    logarithms = torch.log((old / threshold).clamp_min(1))
    keys = torch.log((cells / threshold).clamp_min_(1))
    compiled(_mapped_spectrum)(
        cells.contiguous().numpy(), keys.numpy(), layer.numpy(), limits.numpy(), starts.numpy(),
        logarithms.numpy(), new.numpy(), result.numpy(),
    )  # fmt: skip
    return result


def _mapped_spectrum(
    cells: Any, keys: Any, layer: Any, limits: Any, starts: Any, old: Any, new: Any, result: Any
) -> None:
    one, tiny = np.float32(1), np.float32(1e-30)
    layers = len(limits)
    total, changed, large = np.empty(layers), np.empty(layers), np.empty(layers)
    scale, usable = np.empty(layers, np.float32), np.empty(layers, np.bool_)
    for e in range(cells.shape[0]):
        total[:], changed[:], large[:] = 0, 0, 0
        for f in range(cells.shape[1]):
            energy, number = cells[e, f], layer[f]
            total[number] += energy
            if not (energy > 0 and energy < limits[number]):
                large[number] += energy
                result[e, f] = energy
                continue
            # The first knot at or above the energy.
            key, low, high = keys[e, f], starts[number], starts[number + 1] - 1
            while low < high:
                middle = (low + high) // 2
                if old[middle] < key:
                    low = middle + 1
                else:
                    high = middle
            first = max(high - 1, starts[number])
            part = (key - old[first]) / max(old[high] - old[first], np.float32(1e-5))
            part = min(max(part, np.float32(0)), one)
            ratio = new[high] / new[first]
            result[e, f] = new[first] * (ratio**part if ratio != one else one)
            changed[number] += result[e, f]
        for number in range(layers):
            left = total[number] - changed[number]
            scale[number] = np.float32(left) / max(np.float32(large[number]), tiny)
            usable[number] = min(large[number], left) > 0.5 * total[number]
        for f in range(cells.shape[1]):
            energy, number = cells[e, f], layer[f]
            if energy >= limits[number] and energy * scale[number] < limits[number]:
                usable[number] = False
        for f in range(cells.shape[1]):
            energy, number = cells[e, f], layer[f]
            if not usable[number]:
                result[e, f] = energy
            elif energy >= limits[number]:
                result[e, f] = energy * scale[number]

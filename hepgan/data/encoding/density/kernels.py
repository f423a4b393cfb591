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

_ORDER = torch.tensor([_GROUPS.index(feature) for feature in range(len(_GROUPS))])


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
    return features.index_select(0, _ORDER).T


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
    tails: Tensor,
    parameters: Tensor,
    rows: tuple[int, Tensor, Tensor, Tensor],
    tables: tuple[Tensor, ...],
    after: int,
    *constants: Any,
) -> Tensor:
    """Returns the energies ``[E, B]`` after the splits of a level: ``tree.split_blocks``.

    Args:
        blocks: ``[E, A]`` energies before the splits.
        tails: ``[E, N]``, signed tails of the normal scores of the splits.
        parameters: Parameters ``[R, SPLIT]`` of the splits.
        rows: Number of nodes with energy, and their ``event[R]``, ``node[R]`` and ``energy[R]``.
        tables: ``kept``, ``children`` and ``ranges`` of the level.
        after: B.
        constants: The threshold, and ``distributions.split_constants``.
    """
    result = blocks.new_zeros(len(blocks), after)
    compiled(_keep)(blocks.contiguous().numpy(), tables[0].numpy(), result.numpy())
    _splits(False, result, tails, tails, parameters, rows, tables[1:], *constants)
    return result


def split_tails(
    energies: Tensor,
    uniform: Tensor,
    parameters: Tensor,
    rows: tuple[int, Tensor, Tensor, Tensor],
    tables: tuple[Tensor, ...],
    *constants: Any,
) -> Tensor:
    """Returns the signed tails ``[E, N]`` of splits, NaN for nodes without energy: ``Split.scores``.

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
    tails: Tensor,
    parameters: Tensor,
    rows: tuple[int, Tensor, Tensor, Tensor],
    tables: tuple[Tensor, ...],
    threshold: float,
    constants: tuple[float, ...],
    edges: Tensor,
) -> None:
    count, *columns = rows
    compiled(_split_rows)(
        encode, energies.contiguous().numpy(), given.contiguous().numpy(), tails.contiguous().numpy(),
        parameters.contiguous().numpy(), parameters.exp().numpy(), count, *(values.numpy() for values in (*columns, *tables)),
        np.float32(threshold), np.array(constants, np.float32), edges.numpy(),
    )  # fmt: skip


def _split_rows(
    encode: Any, energies: Any, given: Any, tails: Any, parameters: Any, exponentials: Any, count: Any, event: Any, node: Any, energy: Any,
    children: Any, ranges: Any, threshold: Any, constants: Any, edges: Any,
) -> None:  # fmt: skip
    one, nothing, tiny = np.float32(1), np.float32(0), np.float32(1e-7)
    least, most = np.float32(1e-30), np.float32(1e30)
    bins = len(edges) - 1
    half = bins // 2
    smallest, never = constants[0], np.exp(constants[3])
    narrowest, widest = np.exp(constants[1]), np.exp(constants[2])
    widths = np.empty(bins, np.float32)
    for k in range(half):
        widths[k] = widths[bins - 1 - k] = edges[k + 1] - edges[k]
    # Probabilities from below and from above: of bins, and of the smallest, the largest and the encoded logit.
    masses, found = np.empty((2, bins), np.float32), np.empty((2, 3), np.float32)
    points = np.empty(3, np.float32)
    for r in range(count):
        e, n, value = event[r], node[r], energy[r]
        parts = children[n]
        first, second = exponentials[r, 2 + bins], exponentials[r, 3 + bins]
        both = one if value > np.float32(2.0001) * threshold else never
        total = first + second + both
        if not total < most:
            first, second = parameters[r, 2 + bins], parameters[r, 3 + bins]
            top = max(first, second)
            first, second, both = np.exp(first - top), np.exp(second - top), both * np.exp(-top)
            total = first + second + both
        first, second, both = first / total, second / total, both / total
        tail, below = nothing, False
        if encode:
            uniform = given[e, n]
            if energies[e, parts[1]] <= 0 or energies[e, parts[0]] <= 0:
                if energies[e, parts[1]] <= 0:
                    upper, lower = first * uniform, second + both + first * (one - uniform)
                else:
                    lower, upper = second * uniform, first + both + second * (one - uniform)
                tails[e, n] = -lower if lower <= upper else upper
                continue
        else:
            tail, below = abs(given[e, n]), given[e, n] < 0
            nearer = second if below else first
            if tail < nearer:
                energies[e, parts[1 if below else 0]] = value
                continue
            if tail >= nearer + both:
                energies[e, parts[0 if below else 1]] = value
                continue
            tail = min(max((tail - nearer) / max(both, np.float32(1e-9)), nothing), one)

        total = nothing
        for k in range(half):
            total += exponentials[r, 2 + k] + exponentials[r, 1 + bins - k]
        for k in range(bins):
            masses[0, k] = exponentials[r, 2 + k]
        if not least < total < most:
            top, total = parameters[r, 2], nothing
            for k in range(1, bins):
                top = max(top, parameters[r, 2 + k])
            for k in range(bins):
                masses[0, k] = np.exp(parameters[r, 2 + k] - top)
                total += masses[0, k]
        factor = (one - smallest) / total
        for k in range(bins):
            masses[0, k] = masses[0, k] * factor + smallest * widths[k]
        for k in range(bins):
            masses[1, k] = masses[0, bins - 1 - k]
        limit = np.log(max((value - threshold) / threshold, np.float32(1e-3)))
        points[0] = min(max(ranges[0, n], -limit), limit)
        points[1] = min(max(ranges[1, n], -limit), limit)
        if encode:
            logit = np.log(energies[e, parts[0]]) - np.log(energies[e, parts[1]])
            points[2] = min(max(logit, points[0]), points[1])
        location = parameters[r, 0]
        width = min(max(exponentials[r, 1], narrowest), widest)
        for j in range(3 if encode else 2):
            distance = (points[j] - location) / width
            side = 0 if distance < 0 else 1
            x = np.exp(-abs(distance))
            x = x / (one + x)
            k, near = 0, nothing
            while k < half - 1 and x > edges[k + 1]:
                near += masses[side, k]
                k += 1
            part = (x - edges[k]) / widths[k]
            near += masses[side, k] * part
            far = one - near
            if near > np.float32(0.5):
                far = masses[side, k] * (one - part)
                for m in range(k + 1, bins):
                    far += masses[side, m]
            found[side, j], found[1 - side, j] = near, far
        inside = found[1, 0] - found[1, 1]
        if found[0, 0] <= found[1, 0]:
            inside = found[0, 1] - found[0, 0]
        if encode:
            before = found[1, 0] - found[1, 2]
            if found[0, 0] <= found[1, 0]:
                before = found[0, 2] - found[0, 0]
            after = found[1, 2] - found[1, 1]
            if found[0, 2] <= found[1, 2]:
                after = found[0, 1] - found[0, 2]
            inside = max(inside, np.float32(1e-6))
            lower = second + both * min(max(before / inside, nothing), one)
            upper = first + both * min(max(after / inside, nothing), one)
            tails[e, n] = -lower if lower <= upper else upper
            continue
        lower = found[0, 0] + inside * (tail if below else one - tail)
        upper = found[1, 1] + inside * (one - tail if below else tail)
        side, wanted = (0, lower) if lower <= upper else (1, upper)
        k, near = 0, nothing
        while k < bins - 1 and wanted >= near + masses[side, k]:
            near += masses[side, k]
            k += 1
        part = (wanted - near) / masses[side, k]
        near = max(edges[k] + part * widths[k], tiny)
        far = max(edges[bins - 1 - k] + (one - part) * widths[k], tiny)
        logit = width * np.log(near / far)
        logit = location + (logit if side == 0 else -logit)
        logit = min(max(logit, points[0]), points[1])
        x = np.exp(-abs(logit))
        x, larger = x / (one + x), one / (one + x)
        energies[e, parts[0]] = value * (x if logit < 0 else larger)
        energies[e, parts[1]] = value * (larger if logit < 0 else x)


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
    distances = np.empty(2, np.float32)
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

        # Probability between the ends: from above if both are in the upper half.
        first_bin, step, sign = 0, 1, one
        if logits[1, r] > location:
            first_bin, step, sign = bins - 1, -1, -one
        for j in range(2):
            distances[j] = sign * (logits[1 + j, r] - location) * inverse
            logistics[j] = one / (one + np.exp(-distances[j]))
            k, below[j] = 0, nothing
            while k < bins - 1 and logistics[j] > edges[k + 1]:
                below[j] += masses[first_bin + step * k]
                k += 1
            at[j], part[j] = k, (logistics[j] - edges[k]) / (edges[k + 1] - edges[k])
            below[j] += masses[first_bin + step * k] * part[j]
        inside = sign * (below[1] - below[0])
        value -= np.log(max(inside, least))
        if inside >= least:
            for j in range(2):
                change = (sign if j == 0 else -sign) / inside
                for k in range(at[j]):
                    of_masses[first_bin + step * k] += change
                k = first_bin + step * at[j]
                of_masses[k] += change * part[j]
                slope = masses[k] / (edges[at[j] + 1] - edges[at[j]])
                of_distance = change * slope * logistics[j] * (one - logistics[j])
                of_location -= sign * of_distance * inverse
                of_scale -= of_distance * distances[j]
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

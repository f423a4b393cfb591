"""Weighted means, covariances, quantiles and least-squares fits, for weights that may be negative.

Weights ``[E]`` add up to E, or are ``None`` for unweighted events. With negative weights, estimates that must be monotonic or positive
may not be; they are then replaced by the nearest usable ones:

* a cumulative weight that falls is replaced by the mean of its largest value so far and its smallest value from there on;
* variances in all directions are at least ``LEAST_VARIANCE`` of those with absolute weights.
"""

import torch
from torch import Tensor

LEAST_VARIANCE = 0.05
"""Smallest variance relative to that with absolute weights."""


def mean(x: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the means ``[…]`` of ``x[E, …]``."""
    return x.mean(0) if weights is None else torch.tensordot(weights.to(x), x, 1) / len(x)


def covariance(x: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the sample covariance ``[F, F]`` of ``x[E, F]``; zero for a single event."""
    centered = x - mean(x, weights)
    scale = max(1, len(x) - 1)
    if weights is None:
        return centered.T @ centered / scale
    return _usable(*_products(centered, centered, weights)) / scale


def least_squares(regressors: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns the minimum-norm least-squares coefficients ``[K, F]`` of ``targets[E, F]`` on ``regressors[E, K]``.

    Solved on the CPU by singular value decomposition: the only driver on a GPU assumes linearly independent regressors.
    """
    if targets.shape[1] == 0:  # not supported by the driver
        return targets.new_zeros(regressors.shape[1], 0)
    known, wanted = regressors.cpu(), targets.cpu()
    if weights is not None and weights.min() < 0:
        known, wanted = (
            _usable(*_products(known, known, weights)), _products(known, wanted, weights)[0],
        )  # fmt: skip
    elif weights is not None:
        roots = weights.to(known).sqrt()[:, None]
        known, wanted = roots * known, roots * wanted
    result: Tensor = torch.linalg.lstsq(known, wanted, driver="gelsd").solution
    return result.to(targets.device)


def cumulated(weights: Tensor) -> Tensor:
    """Returns the cumulative weights ``[1 + E, …]`` of ``weights[E, …]``, which start at 0 and do not fall."""
    sums = torch.cat([weights.new_zeros(1, *weights.shape[1:]), weights.cumsum(0)])
    highest = sums.cummax(0).values
    lowest = sums.flip(0).cummin(0).values.flip(0)
    return ((highest + lowest) / 2).clamp_min(0).minimum(sums[-1:])


def positions(sums: Tensor, targets: Tensor) -> Tensor:
    """Returns the fractional indices ``[K, F]`` of events at which cumulative weights reach ``targets[K, F]``.

    Half of an event's weight counts as below it. ``sums[1 + E, F]`` are those of ``cumulated``.
    """
    middle = ((sums[1:] + sums[:-1]) / 2).T.contiguous()
    wanted = targets.to(middle).T.contiguous()
    if middle.shape[1] == 1:
        return torch.zeros_like(targets)
    high = torch.searchsorted(middle, wanted).clamp(1, middle.shape[1] - 1)
    below, above = middle.gather(1, high - 1), middle.gather(1, high)
    part = (wanted - below) / (above - below).clamp_min(torch.finfo(middle.dtype).tiny)
    return (high - 1 + part.clamp(0, 1)).T


def quantiles(x: Tensor, levels: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the quantiles ``[K, F]`` of ``x[E, F]`` at ``levels[K]``, from the smallest value at 0 to the largest at 1."""
    # torch.quantile is limited to 16 million values.
    ordered, order = x.sort(0)
    if weights is None:
        at = (levels.to(x) * (len(x) - 1))[:, None].expand(-1, x.shape[1])
    else:
        sums = cumulated(weights.to(x)[order])
        first, last = (sums[0] + sums[1]) / 2, (sums[-1] + sums[-2]) / 2
        at = positions(sums, first + levels.to(x)[:, None] * (last - first))
    low = at.long()
    high = (low + 1).clamp_max(len(x) - 1)
    return torch.lerp(ordered.gather(0, low), ordered.gather(0, high), at - low)


def _products(x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the weighted sums ``[F, G]`` of products of ``x[E, F]`` and ``y[E, G]``, also with absolute weights."""
    weighted = weights.to(x)[:, None] * x
    absolute = weights.abs().to(x)[:, None] * x
    return weighted.T @ y, absolute.T @ y


def _usable(matrix: Tensor, absolute: Tensor) -> Tensor:
    """Returns a symmetric ``matrix[F, F]`` that is at least ``LEAST_VARIANCE`` times ``absolute`` in every direction."""
    if torch.equal(matrix, absolute):
        return matrix
    values, axes = torch.linalg.eigh(absolute)
    kept = values > 1e-12 * values[-1:].clamp_min(0)
    roots = values[kept].sqrt()
    onto, back = axes[:, kept] / roots, axes[:, kept] * roots
    ratios, directions = torch.linalg.eigh(onto.T @ matrix @ onto)
    back = back @ directions
    result: Tensor = (back * ratios.clamp_min(LEAST_VARIANCE)) @ back.T
    return result

"""Invertible distributions of one number, with parameters from a network: closed-form CDF, density and quantile.

N numbers have parameters ``[P, N]``, so that the same parameter of all numbers is contiguous. All functions are differentiable, and
their slopes are bounded.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from hepgan.data.encoding.density.kernels import split_gradients
from hepgan.data.encoding.kernels import use_kernels

BINS = 12
"""Number of bins in probability of a ``LogisticSpline``; the edges are evenly spaced normal scores, and 0 and 1."""

OUTERMOST = 2.9
"""Normal score of the last edge before 1."""

SPLINE = 2 + BINS
"""Number of parameters of a ``LogisticSpline``."""

SPLIT = SPLINE + 2
"""Number of parameters of a ``Split``."""

LOGISTIC_SCALE = -0.595
"""Logarithm of the scale of a logistic distribution with standard deviation 1."""

_SMALLEST_MASS = 1e-3
_WIDEST = 4.0
_NARROWEST = -6.0
_IMPOSSIBLE = -60.0
Z_LIMIT = 4.9
"""Largest absolute normal score; its probability is representable in float32."""


class LogisticSpline(NamedTuple):
    """Logistic distributions whose probabilities are corrected by piecewise linear functions.

    Attributes:
        location: ``[N]``.
        log_scale: ``[N]``.
        masses: ``[K, N]``, probability of each bin.
        cumulative: ``[K + 1, N]``, probability below each edge.
    """

    location: Tensor
    log_scale: Tensor
    masses: Tensor
    cumulative: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> Self:
        """Returns the distributions of ``parameters[SPLINE, N]``."""
        widths = _edges(parameters).diff()[:, None]
        # torch.softmax is several times slower along the first axis.
        weights = parameters[2:SPLINE]
        weights = torch.exp(weights - weights.detach().amax(0))
        masses = weights * ((1 - _SMALLEST_MASS) / weights.sum(0)) + _SMALLEST_MASS * widths
        cumulative = functional.pad(masses.cumsum(0), (0, 0, 1, 0))
        scale = parameters[1].clamp(_NARROWEST, _WIDEST)
        return cls(parameters[0], scale, masses, cumulative)

    def cdf(self, values: Tensor) -> Tensor:
        """Returns the probabilities ``[J, N]`` below ``values[J, N]``."""
        return self._evaluate(values)[0]

    def cdf_and_log_density(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``[J, N]`` of both for ``values[J, N]``."""
        probability, slope, distance = self._evaluate(values)
        logistic = -distance.abs() - 2 * functional.softplus(-distance.abs())
        return probability, slope.log() - self.log_scale + logistic

    def _evaluate(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        edges = _edges(values)
        distance = (values - self.location) * torch.exp(-self.log_scale)
        logistic = torch.sigmoid(distance)
        bins = torch.bucketize(logistic.detach(), edges[1:-1])
        slope = self.masses.gather(0, bins) / edges.diff()[bins]
        probability = self.cumulative.gather(0, bins) + slope * (logistic - edges[bins])
        return probability, slope, distance

    def quantile(self, probabilities: Tensor) -> Tensor:
        """Returns the values ``[N]`` below which the ``probabilities[N]`` lie."""
        edges = _edges(probabilities)
        bins = (probabilities.detach() >= self.cumulative[1:-1]).sum(0)
        at = bins[None]
        below, mass = self.cumulative.gather(0, at)[0], self.masses.gather(0, at)[0]
        part = (probabilities - below) / mass
        logistic = (edges[bins] + part * edges.diff()[bins]).clamp(1e-7, 1 - 1e-7)
        return self.location + torch.exp(self.log_scale) * torch.logit(logistic)


def _edges(like: Tensor) -> Tensor:
    # Computed on the device: a constant from the host would wait for it.
    scores = torch.linspace(-OUTERMOST, OUTERMOST, BINS - 1, dtype=like.dtype, device=like.device)
    return functional.pad(functional.pad(torch.special.ndtr(scores), (1, 0)), (0, 1), value=1.0)


class Split(NamedTuple):
    """Splits of N energies in two parts, each empty or above a threshold.

    A part is empty with a probability of its own. Otherwise the logit of the first fraction has the distribution ``spline``, truncated so
    that both parts are above the threshold.

    Attributes:
        first_only: ``[N]``, probability that the second part is empty.
        second_only: ``[N]``, probability that the first part is empty.
        both: ``[N]``, probability that neither is empty; 0 for less than twice the threshold.
        ends: ``[2, N]``, smallest and largest logit.
        spline: Distribution of the logit before truncation.
    """

    first_only: Tensor
    second_only: Tensor
    both: Tensor
    ends: Tensor
    spline: LogisticSpline

    @classmethod
    def of(cls, parameters: Tensor, energies: Tensor, threshold: float, ranges: Tensor) -> Self:
        """Returns the splits of ``energies[N]`` with ``parameters[SPLIT, N]`` and logits within ``ranges[2, N]``."""
        ends, log_both = split_limits(energies, threshold, ranges)
        atoms = torch.softmax(torch.cat([parameters[SPLINE:SPLIT], log_both[None]]), 0)
        first_only, second_only, both = atoms.unbind(0)
        return cls(first_only, second_only, both, ends, LogisticSpline.of(parameters))

    def fractions(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the fractions ``[N]`` of the first and second part for normal ``scores[N]``, increasing in the first."""
        probability = torch.special.ndtr(scores.clamp(-Z_LIMIT, Z_LIMIT))
        low, high = self.spline.cdf(self.ends).unbind(0)
        inner = ((probability - self.second_only) / self.both.clamp_min(1e-9)).clamp(0, 1)
        logit = self.spline.quantile(low + (high - low) * inner)
        logit = torch.minimum(torch.maximum(logit, self.ends[0]), self.ends[1])
        nothing, everything = torch.zeros_like(logit), torch.ones_like(logit)
        first, second = probability >= 1 - self.first_only, probability < self.second_only
        return (
            torch.where(second, nothing, torch.where(first, everything, torch.sigmoid(logit))),
            torch.where(first, nothing, torch.where(second, everything, torch.sigmoid(-logit))),
        )

    def scores(self, first: Tensor, second: Tensor, uniform: Tensor) -> Tensor:
        """Returns normal scores ``[N]`` of the parts; an empty part has an interval of scores, in which ``uniform[N]`` chooses."""
        low, high = self.spline.cdf(self.ends).unbind(0)
        logit = torch.log(first.clamp_min(1e-30)) - torch.log(second.clamp_min(1e-30))
        logit = torch.minimum(torch.maximum(logit, self.ends[0]), self.ends[1])
        inner = (self.spline.cdf(logit[None])[0] - low) / (high - low).clamp_min(1e-6)
        probability = self.second_only + self.both * inner.clamp(0, 1)
        probability = torch.where(first <= 0, self.second_only * uniform, probability)
        probability = torch.where(second <= 0, 1 - self.first_only * uniform, probability)
        return normal_scores(probability)


def split_limits(energies: Tensor, threshold: float, ranges: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the smallest and largest logits ``[2, N]`` of splits, and the logarithm ``[N]`` of whether neither part may be empty.

    The latter is 0 where both parts can be above the threshold, else a large negative number.

    Args:
        energies: ``[N]``, energies that are split.
        threshold: Smallest energy of a part.
        ranges: ``[2, N]``, smallest and largest logits at any energy, at which the tails of the distributions end.
    """
    limit = torch.log(((energies - threshold) / threshold).clamp_min(1e-3))
    ends = torch.minimum(torch.maximum(ranges, -limit), limit)
    possible = energies > 2.0001 * threshold
    return ends, torch.where(possible, 0.0, _IMPOSSIBLE).to(energies)


def split_log_likelihood(
    parameters: Tensor,
    kinds: Tensor,
    logits: Tensor,
    log_both: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Returns the (weighted) sum of the log-likelihoods of N splits.

    Args:
        parameters: ``[SPLIT, N]``.
        kinds: ``[N]``: 0 if the second part is empty, 1 if the first is, 2 if neither is.
        logits: ``[3, N]``: the logit of the first fraction, and the smallest and largest possible logit.
        log_both: ``[N]`` of ``split_limits``.
        weights: ``[N]``.
    """
    if use_kernels(parameters.detach(), logits):
        each = torch.ones_like(log_both) if weights is None else weights
        return _split_likelihood(parameters, kinds, logits, log_both, each)
    atoms = torch.log_softmax(torch.cat([parameters[SPLINE:SPLIT], log_both[None]]), 0)
    rows = (kinds == 2).nonzero()[:, 0]
    spline = LogisticSpline.of(parameters.index_select(1, rows))
    cdf, log_density = spline.cdf_and_log_density(logits.index_select(1, rows))
    inside = (cdf[2] - cdf[1]).clamp_min(1e-4).log()
    of_kind = atoms.gather(0, kinds[None])[0]
    if weights is None:
        return of_kind.sum() + log_density[0].sum() - inside.sum()
    return weights @ of_kind + weights[rows] @ (log_density[0] - inside)


class _SplitLikelihood(torch.autograd.Function):
    """Weighted log-likelihood of splits, computed together with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, parameters: Tensor, kinds: Tensor, logits: Tensor, log_both: Tensor, each: Tensor
    ) -> Tensor:
        """Returns the sum of the log-likelihoods."""
        constants, edges = split_constants()
        value, gradient = split_gradients(
            parameters, kinds, logits, log_both, each, constants, edges
        )
        ctx.save_for_backward(gradient)
        return parameters.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *of_value: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradient of the parameters."""
        (gradient,) = ctx.saved_tensors
        return gradient * of_value[0], None, None, None, None


_split_likelihood: Callable[..., Tensor] = _SplitLikelihood.apply


def split_constants() -> tuple[tuple[float, ...], Tensor]:
    """Returns the constants and the edges of bins that the kernels of splits take."""
    constants = _SMALLEST_MASS, _NARROWEST, _WIDEST, _IMPOSSIBLE
    return constants, _edges(torch.empty(0))


def typical_split(kinds: Tensor, logits: Tensor, node: Tensor, nodes: int) -> Tensor:
    """Returns ``[N, SPLIT]``: parameters of splits at N nodes, from the moments of R examples.

    Args:
        kinds: ``[R]`` as in ``split_log_likelihood``.
        logits: ``[R]``, used where neither part is empty.
        node: ``[R]``.
        nodes: N.
    """

    def sums(values: Tensor) -> Tensor:
        return values.new_zeros(nodes).index_add(0, node, values)

    inside = (kinds == 2).to(logits)
    count = sums(inside)
    # One more example at 0 with a standard deviation of 1, for nodes without examples.
    mean = sums(inside * logits) / (count + 1)
    variance = (sums(inside * (logits - mean[node]) ** 2) + 1) / (count + 1)
    parameters = logits.new_zeros(nodes, SPLIT)
    parameters[:, 0], parameters[:, 1] = mean, 0.5 * variance.log() + LOGISTIC_SCALE
    parameters[:, 2:SPLINE] = _edges(logits).diff().log()
    for kind in (0, 1):
        empty, other = (sums((kinds == k).to(logits)) for k in (kind, 1 - kind))
        ratio = torch.log((empty + 0.5) / (count + 0.5))
        # The other part never has energy, as in a layer that is always empty or a dead cell: none is generated there.
        always = (empty > 0) & (count + other == 0)
        parameters[:, SPLINE + kind] = torch.where(always, -_IMPOSSIBLE, ratio)
    return parameters


def standard_spline() -> Tensor:
    """Returns ``[1, SPLINE]``: parameters of a distribution that is nearly standard normal."""
    parameters = torch.zeros(1, SPLINE)
    parameters[:, 1] = LOGISTIC_SCALE
    parameters[:, 2:] = _edges(parameters).diff().log()
    return parameters


def normal_scores(probabilities: Tensor) -> Tensor:
    """Returns the normal scores of probabilities, up to 4.8 in size in float32 and 7.6 in float64."""
    smallest = 1e-6 if probabilities.dtype == torch.float32 else 1e-14
    scores: Tensor = torch.special.ndtri(probabilities.clamp(smallest, 1 - smallest))
    return scores

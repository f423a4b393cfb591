"""Invertible distributions of one number, with parameters from a network: closed-form CDF, density and quantile.

N numbers have parameters ``[P, N]``, so that the same parameter of all numbers is contiguous. All functions are differentiable, and
their slopes are bounded.
"""

import functools
import math
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


class Tails(NamedTuple):
    """Probabilities below and above numbers, which add up to 1.

    Each has a small relative error: in single precision, 1 minus the other one has few digits in its tail.

    Attributes:
        lower: Probability below each number.
        upper: Probability above it.
    """

    lower: Tensor
    upper: Tensor

    @classmethod
    def of_scores(cls, scores: Tensor) -> Self:
        """Returns the probabilities of normal scores."""
        negative, nearer = scores < 0, _normal_tail(scores)
        return cls(
            torch.where(negative, nearer, 1 - nearer), torch.where(negative, 1 - nearer, nearer)
        )

    def scores(self) -> Tensor:
        """Returns the normal scores, up to 4.8 in size in float32 and 7.6 in float64; inverts ``of_scores``."""
        nearer = torch.minimum(self.lower, self.upper)
        scores: Tensor = torch.special.ndtri(nearer.clamp_min(_smallest(nearer)))
        return torch.where(self.lower <= self.upper, scores, -scores)

    def up_to(self, larger: Self) -> Tensor:
        """Returns the probabilities between the numbers and ``larger`` ones."""
        below, above = larger.lower - self.lower, self.upper - larger.upper
        return torch.where(self.lower <= self.upper, below, above)


class LogisticSpline(NamedTuple):
    """Logistic distributions whose probabilities are corrected by piecewise linear functions.

    Attributes:
        location: ``[N]``.
        log_scale: ``[N]``.
        masses: ``[K, N]``, probability of each bin.
        below: ``[K, N]``, probability below each bin.
        above: ``[K, N]``, probability above each bin, from the last one to the first.
        edges: ``[K]``, lower edges of the bins.
        widths: ``[K]``, widths of the bins.
    """

    location: Tensor
    log_scale: Tensor
    masses: Tensor
    below: Tensor
    above: Tensor
    edges: Tensor
    widths: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> Self:
        """Returns the distributions of ``parameters[SPLINE, N]``."""
        edges, widths = _bins(parameters)
        # torch.softmax is several times slower along the first axis.
        weights = parameters[2:SPLINE]
        weights = torch.exp(weights - weights.detach().amax(0))
        least = _SMALLEST_MASS * widths[:, None]
        masses = weights * ((1 - _SMALLEST_MASS) / weights.sum(0)) + least
        below = functional.pad(masses[:-1].cumsum(0), (0, 0, 1, 0))
        above = functional.pad(masses[1:].flip(0).cumsum(0), (0, 0, 1, 0))
        scale = parameters[1].clamp(_NARROWEST, _WIDEST)
        return cls(parameters[0], scale, masses, below, above, edges[:-1], widths)

    def cdf(self, values: Tensor) -> Tails:
        """Returns the probabilities ``[J, N]`` below and above ``values[J, N]``."""
        return self._evaluate(values)[0]

    def cdf_and_log_density(self, values: Tensor) -> tuple[Tails, Tensor]:
        """Returns ``[J, N]`` of both for ``values[J, N]``."""
        probabilities, slope, distance = self._evaluate(values)
        logistic = -distance.abs() - 2 * functional.softplus(-distance.abs())
        return probabilities, slope.log() - self.log_scale + logistic

    def _evaluate(self, values: Tensor) -> tuple[Tails, Tensor, Tensor]:
        distance = (values - self.location) * torch.exp(-self.log_scale)
        # The bins are symmetric: counted from the nearer end, the edges are those of the lower half.
        lower = distance < 0
        nearer = torch.sigmoid(-distance.abs())
        number = torch.bucketize(nearer.detach(), self.edges[1 : BINS // 2])
        width = self.widths[number]
        part = (nearer - self.edges[number]) / width
        rest = 1 - part
        opposite = BINS - 1 - number
        bins, from_above = (
            torch.where(lower, number, opposite),
            torch.where(lower, opposite, number),
        )
        masses = self.masses.gather(0, bins)
        probabilities = Tails(
            self.below.gather(0, bins) + masses * torch.where(lower, part, rest),
            self.above.gather(0, from_above) + masses * torch.where(lower, rest, part),
        )
        return probabilities, masses / width, distance

    def quantile(self, probabilities: Tails) -> Tensor:
        """Returns the values ``[N]`` below and above which the ``probabilities`` lie."""
        lower, upper = probabilities
        nearer = lower <= upper
        from_below = (lower.detach() >= self.below[1:]).sum(0)
        from_above = (upper.detach() >= self.above[1:]).sum(0)
        bins = torch.where(nearer, from_below, BINS - 1 - from_above)
        opposite, at = BINS - 1 - bins, bins[None]
        # From the nearer end, then with the sign of the side.
        before = torch.where(
            nearer,
            lower - self.below.gather(0, at)[0],
            upper - self.above.gather(0, opposite[None])[0],
        )
        part, width = before / self.masses.gather(0, at)[0], self.widths[bins]
        number = torch.where(nearer, bins, opposite)
        logistic = (self.edges[number] + part * width).clamp_min(1e-7)
        complement = (self.edges[BINS - 1 - number] + (1 - part) * width).clamp_min(1e-7)
        logit = torch.log(logistic / complement) * (2 * nearer.to(part) - 1)
        return self.location + torch.exp(self.log_scale) * logit


def _bins(like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the edges ``[K + 1]`` of the bins, and their widths ``[K]``, symmetric as they are: edges near 1 have few digits."""
    # Computed on the device: a constant from the host would wait for it.
    scores = torch.linspace(-OUTERMOST, 0, BINS // 2, dtype=like.dtype, device=like.device)
    half = functional.pad(_normal_tail(scores), (1, 0))
    widths = half.diff()
    return torch.cat([half, 1 - half[:-1].flip(0)]), torch.cat([widths, widths.flip(0)])


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
        nearer, tail = scores < 0, _normal_tail(scores.clamp(-Z_LIMIT, Z_LIMIT))
        low, high = self._ends()
        # From the nearer end, at which one part is empty, to the other one.
        empty = torch.where(nearer, self.second_only, self.first_only)
        near, far = tail < empty, tail >= empty + self.both
        first, second = (nearer & far) | (~nearer & near), (nearer & near) | (~nearer & far)
        inner = ((tail - empty) / self.both.clamp_min(1e-9)).clamp(0, 1)
        before, after = torch.where(nearer, inner, 1 - inner), torch.where(nearer, 1 - inner, inner)
        inside = low.up_to(high)
        logit = self.spline.quantile(
            Tails(low.lower + inside * before, high.upper + inside * after)
        )
        logit = torch.minimum(torch.maximum(logit, self.ends[0]), self.ends[1])
        nothing, everything = torch.zeros_like(logit), torch.ones_like(logit)
        return (
            torch.where(second, nothing, torch.where(first, everything, torch.sigmoid(logit))),
            torch.where(first, nothing, torch.where(second, everything, torch.sigmoid(-logit))),
        )

    def scores(self, first: Tensor, second: Tensor, uniform: Tensor) -> Tensor:
        """Returns normal scores ``[N]`` of the parts; an empty part has an interval of scores, in which ``uniform[N]`` chooses."""
        low, high = self._ends()
        logit = torch.log(first.clamp_min(1e-30)) - torch.log(second.clamp_min(1e-30))
        logit = torch.minimum(torch.maximum(logit, self.ends[0]), self.ends[1])
        at = Tails(*(tail[0] for tail in self.spline.cdf(logit[None])))
        inside = low.up_to(high).clamp_min(1e-6)
        lower = self.second_only + self.both * (low.up_to(at) / inside).clamp(0, 1)
        upper = self.first_only + self.both * (at.up_to(high) / inside).clamp(0, 1)
        only, other = self.second_only * uniform, self.second_only * (1 - uniform)
        lower = torch.where(first <= 0, only, lower)
        upper = torch.where(first <= 0, self.first_only + self.both + other, upper)
        only, other = self.first_only * uniform, self.first_only * (1 - uniform)
        upper = torch.where(second <= 0, only, upper)
        lower = torch.where(second <= 0, self.second_only + self.both + other, lower)
        return Tails(lower, upper).scores()

    def _ends(self) -> tuple[Tails, Tails]:
        """Returns the probabilities ``[N]`` of the smallest and of the largest logit, before truncation."""
        lower, upper = self.spline.cdf(self.ends)
        return Tails(lower[0], upper[0]), Tails(lower[1], upper[1])


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
    low, high = (Tails(cdf.lower[end], cdf.upper[end]) for end in (1, 2))
    inside = low.up_to(high).clamp_min(1e-4).log()
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


@functools.cache
def split_constants() -> tuple[tuple[float, ...], Tensor]:
    """Returns the constants and the edges of bins that the kernels of splits take."""
    constants = _SMALLEST_MASS, _NARROWEST, _WIDEST, _IMPOSSIBLE
    return constants, _bins(torch.empty(0))[0]


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
    parameters[:, 2:SPLINE] = _bins(logits)[1].log()
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
    parameters[:, 2:] = _bins(parameters)[1].log()
    return parameters


def normal_scores(probabilities: Tensor) -> Tensor:
    """Returns the normal scores of probabilities, up to 4.8 in size in float32 and 7.6 in float64."""
    return Tails(probabilities, 1 - probabilities).scores()


def signed_tails(scores: Tensor) -> Tensor:
    """Returns the smaller one of the probabilities below and above normal scores, with their signs."""
    return torch.copysign(_normal_tail(scores), scores)


def signed_tail_scores(tails: Tensor) -> Tensor:
    """Returns the normal scores of signed tails, up to 4.8 in size; inverts ``signed_tails``."""
    scores = torch.special.ndtri(tails.abs().clamp_min(_smallest(tails)))
    return torch.copysign(scores, tails)


def _normal_tail(scores: Tensor) -> Tensor:
    """Returns the probability beyond normal scores, on the side of their sign.

    ``torch.special.ndtr`` has an absolute error instead of a relative one: 3 % at −4.9 in float32.
    """
    # Not abs, whose slope is 0 at 0.
    distance = scores * torch.where(scores < 0, -1.0, 1.0).to(scores)
    return 0.5 * torch.erfc(distance * math.sqrt(0.5))


def _smallest(like: Tensor) -> float:
    return 1e-6 if like.dtype == torch.float32 else 1e-14

"""Normal scores of one number by its ranks, with intervals of scores for values that many events share."""

import dataclasses
from typing import Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import NAMES, tensor_record
from hepgan.data.encoding.density.distributions import Tails, normal_scores
from hepgan.data.encoding.weighted import cumulated

KNOTS = 500
_ATOM = 0.005
"""Smallest fraction of the events that makes a shared value an atom."""

INTEGERS = 256
"""Largest number of different integers that are atoms."""

_SMALLEST_TAIL, _LARGEST_TAIL = 20, 200
"""Numbers of the largest values to which a tail is fitted."""

_LARGEST_SHAPE = 0.3
"""Largest shape of a tail: few values may seem to have one without a mean."""

_ABRUPT = -0.25
"""Shape below which a tail ends abruptly: 0 is an exponential tail, −1 a uniform distribution."""

_BEYOND = torch.tensor([0.4, 0.2, 0.1, 0.04, 0.02, 0.006, 0.002], dtype=torch.float64)
"""Probabilities of the knots of a tail, in units of that of the largest value."""


@tensor_record
@dataclasses.dataclass(frozen=True)
class Ranks:
    """Piecewise linear map to normal scores; an atom, such as the energy of an empty layer, has two knots of the same value.

    Attributes:
        values: ``[K]``, not decreasing.
        scores: ``[K]``, not decreasing.
    """

    values: Tensor
    scores: Tensor

    @classmethod
    def fit(cls, x: Tensor, weights: Tensor | None = None, *, tails: bool = False) -> Self:
        """Returns the ranks of ``x[E]``, whose ``weights[E]`` add up to E; values between which no net weight lies get one score.

        Every value of a column of few integers is an atom. Scores beyond those of the training data decode to its smallest and largest
        value; with ``tails``, to values of their own.
        """
        values, which, counts = torch.unique(x.double(), return_inverse=True, return_counts=True)
        shared = counts > 1
        if weights is not None:
            sums = weights.double().new_zeros(len(values)).index_add(0, which, weights.double())
            counts = cumulated(sums).diff()
        below = counts.cumsum(0) - counts
        few_integers = len(values) <= INTEGERS and bool((values == values.round()).all())
        atoms = (counts > 0) if few_integers else (counts > _ATOM * len(x)) & shared
        # A single number has its middle rank; an atom has its first and last rank, and the next value begins almost where it ends.
        middle = (below + 0.5 * counts) / len(x)
        first, last = below / len(x), (below + counts) / len(x)
        after = atoms.roll(1)
        after[0] = False
        before = atoms.roll(-1)
        before[-1] = False
        grid = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
        tail = torch.logspace(-1, -6, 40, dtype=torch.float64)
        near = torch.searchsorted(middle, torch.cat([grid, tail, 1 - tail])).clamp_max(len(x) - 1)
        chosen = torch.zeros(len(values), dtype=torch.bool)
        chosen[near.clamp_max(len(values) - 1)] = True
        chosen[0] = chosen[-1] = True
        points = [
            (values[chosen & ~atoms], middle[chosen & ~atoms]),
            (values[atoms], first[atoms]),
            (values[atoms], last[atoms]),
            (values[after & ~atoms], torch.lerp(first, last, 1e-3)[after & ~atoms]),
            (values[before & ~atoms], torch.lerp(last, first, 1e-3)[before & ~atoms]),
        ]
        knots = torch.cat([v for v, _ in points])
        probabilities = torch.cat([p for _, p in points]).clamp(0.25 / len(x), 1 - 0.25 / len(x))
        if tails:
            for upward, atom in ((x.double(), atoms[-1]), (-x.double(), atoms[0])):
                if not atom:
                    knots, probabilities = _with_upper_tail(knots, probabilities, upward)
                knots, probabilities = -knots.flip(0), 1 - probabilities.flip(0)
        # By probability, then by value: both are increasing.
        order = knots.argsort(stable=True)
        order = order[probabilities[order].argsort(stable=True)]
        return cls(knots[order].float(), normal_scores(probabilities[order]).float())

    def encode(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Returns the scores of ``x[E]``; ``uniform[E]`` chooses within the interval of an atom."""
        x = x.to(self.values).contiguous()
        last = torch.searchsorted(self.values, x, right=True) - 1
        first = torch.searchsorted(self.values, x)
        last, first = last.clamp(0, len(self.values) - 1), first.clamp(0, len(self.values) - 1)
        low = last.clamp_max(len(self.values) - 2)
        part = (x - self.values[low]) / (self.values[low + 1] - self.values[low]).clamp_min(1e-30)
        between = self.scores[low] + part.clamp(0, 1) * (self.scores[low + 1] - self.scores[low])
        one, other = (Tails.of_scores(self.scores[end]) for end in (first, last))
        lower = torch.lerp(one.lower, other.lower, uniform.to(x))
        upper = torch.lerp(one.upper, other.upper, uniform.to(x))
        return torch.where(first < last, Tails(lower, upper).scores(), between)

    def decode(self, scores: Tensor) -> Tensor:
        """Returns the values ``[E]``; inverts ``encode``."""
        high = torch.searchsorted(self.scores, scores.detach().contiguous(), right=True)
        high = high.clamp(1, len(self.scores) - 1)
        low = high - 1
        part = (scores - self.scores[low]) / (self.scores[high] - self.scores[low]).clamp_min(1e-12)
        return self.values[low] + part.clamp(0, 1) * (self.values[high] - self.values[low])


def _with_upper_tail(knots: Tensor, probabilities: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns knots that continue beyond the largest of ``x[E]``, so that it is not the value of all scores beyond its own.

    The distribution beyond it is the generalized Pareto distribution of the largest values, from probability-weighted moments (Hosking
    and Wallis, Technometrics 29 (1987) 339). Values that end abruptly, as at a cut, do not continue: the largest one gets a larger score.
    """
    count = min(_LARGEST_TAIL, max(_SMALLEST_TAIL, len(x) // 10), len(x) - 1)
    top = x.topk(count + 1).values
    start = top[-1]
    excess = (top[:-1] - start).flip(0)
    position = (torch.arange(1, count + 1, dtype=torch.float64) - 0.35) / count
    mean, weighted = float(excess.mean()), float(((1 - position) * excess).mean())
    if mean <= 2 * weighted or mean <= 0:
        return knots, probabilities
    shape = min(2 - mean / (mean - 2 * weighted), _LARGEST_SHAPE)
    scale = 2 * mean * weighted / (mean - 2 * weighted) + shape * float(excess[-1])
    last = knots.argmax()
    beyond = (1 - probabilities[last]) * _BEYOND.to(knots)
    if shape < _ABRUPT or scale <= 0:
        probabilities = probabilities.clone()
        probabilities[last] = 1 - beyond[2]
        return knots, probabilities
    growth = -torch.log(_BEYOND)
    steps = torch.expm1(shape * growth) / shape if abs(shape) > 1e-6 else growth
    return (
        torch.cat([knots, knots[last] + scale * steps.to(knots)]),
        torch.cat([probabilities, 1 - beyond]),
    )


NAMES[Ranks] = "ranks"  # saved with steps, but not a step of run files

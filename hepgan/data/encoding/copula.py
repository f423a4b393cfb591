"""A Gaussian copula, given the conditions, as an encoding: each column's ranks become normal, then columns independent.

What it encodes to is nearly white noise, so that a generator only has to learn what is not Gaussian; with no network at
all it is already a fair model of showers. Three parts, each of use alone:

* ``Marginals``: ranks to a normal score, column by column, with tables that follow one condition;
* ``Whiten``: principal components of width 1;
* ``Copula``: both, where zeros below a threshold are *censored* scores. Spreading them independently would dilute
  the correlations, so they are drawn from the dependence itself, by Gibbs sweeps (the extended rank
  likelihood of P. D. Hoff, Ann. Appl. Stat. 1 (2007) 265).
"""

import dataclasses
from typing import Annotated, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import Columns, Noise, uniform
from hepgan.data.encoding.marginals import Z_MAX, Knots, Marginals, PerWindow, Windows

Sweeps = Annotated[int, Within(0, 1000)]

BAND = 32
"""Columns of a sweep that share one matrix product."""


@dataclasses.dataclass(frozen=True)
class Whiten:
    """Uncorrelated coordinates of width 1: ``(x - mean) forward``.

    Attributes:
        mean: ``[F]``.
        forward: ``[F, F]``.
        backward: ``[F, F]``, its inverse.
    """

    mean: Tensor
    forward: Tensor
    backward: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        first: tuple[str, ...] = (),
    ) -> Self:
        """From the sample's covariance; directions without any width keep a width of 1e-3.

        The columns of the fields ``first`` (or ``appended``) are whitened by themselves, all others given them: those
        coordinates are the same whatever the others are, so that a generator can make them first.

        Raises:
            RunError: a name that is no field.
        """
        mask = columns.mask(first, x.shape[1]) if first else torch.zeros(x.shape[1]) > 0
        a, b = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
        covariance = _covariance(x)
        # What the others are on average, given the first: x_b = x_a pull.
        pull = torch.linalg.pinv(covariance[a][:, a]) @ covariance[a][:, b]
        forward, backward = torch.zeros_like(covariance), torch.zeros_like(covariance)
        forward_a, backward_a = _principal(covariance[a][:, a])
        forward_b, backward_b = _principal(covariance[b][:, b] - covariance[b][:, a] @ pull)
        for matrix, of_a, of_b, between in (
            (forward, forward_a, forward_b, -pull @ forward_b),
            (backward, backward_a, backward_b, backward_a @ pull),
        ):
            matrix[a[:, None], a], matrix[b[:, None], b], matrix[a[:, None], b] = (
                of_a,
                of_b,
                between,
            )
        return cls(x.mean(0), forward, backward)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """To uncorrelated coordinates, float32."""
        # In float32, twice as fast: decoding scales the rounding errors of narrow directions down again.
        return (x - self.mean.to(x)).float() @ self.forward.float()

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back."""
        return x @ self.backward.to(x) + self.mean.to(x)


def _principal(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """To principal components of width 1, and back."""
    variances, axes = torch.linalg.eigh(covariance)
    widths = variances.clamp_min(1e-6).sqrt()
    return axes / widths, (axes * widths).T.contiguous()


@dataclasses.dataclass(frozen=True)
class Copula:
    """``Marginals``, then ``Whiten``, with zeros drawn from the dependence.

    Attributes:
        precision: ``[F, F]`` inverse covariance of the scores, for drawing the scores of zeros.
        sweeps: Gibbs sweeps over the zeros of an event when it is encoded.
    """

    marginals: Marginals
    whiten: Whiten
    precision: Tensor
    sweeps: Sweeps

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        given: str | None = None,
        windows: Windows = 24,
        per_window: PerWindow = 400,
        knots: Knots = 65,
        zeros: bool = False,
        sweeps: Sweeps = 3,
        first: tuple[str, ...] = (),
    ) -> Self:
        """The options are those of ``Marginals.fit`` and ``Whiten.fit``; ``sweeps`` of Gibbs sampling where there are zeros."""
        marginals = Marginals.fit(
            x, c, columns, noise,
            given=given, windows=windows, per_window=per_window, knots=knots, zeros=zeros,
        )  # fmt: skip
        scores = marginals.encode(x, c, noise).to(x)
        censored = marginals.spread & (x <= 0)
        limit = marginals.scores_of_zero(c.to(x))
        for number in range(sweeps if zeros else 0):
            drawn = uniform(scores, noise.child(number))
            scores = _sweep(scores, limit, censored, scores.mean(0), _precision(scores), drawn)
        whiten = Whiten.fit(scores, c, columns, noise, first=first)
        return cls(marginals, whiten, _precision(scores), sweeps if zeros else 0)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Values to independent normal coordinates."""
        scores = self.marginals.encode(x, c, noise)
        censored = self.marginals.spread & (x <= 0)
        limit = self.marginals.scores_of_zero(c.to(x))
        for number in range(self.sweeps):
            drawn = uniform(scores, noise.child(number))
            scores = _sweep(scores, limit, censored, self.whiten.mean, self.precision, drawn)
        return self.whiten.encode(scores, c, noise)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back to values."""
        return self.marginals.decode(self.whiten.decode(x, c), c)


def _covariance(x: Tensor) -> Tensor:
    """``[F, F]`` of ``x[E, F]``; zero where there is but one event."""
    apart = x - x.mean(0)
    return apart.T @ apart / max(1, len(x) - 1)


def _precision(scores: Tensor) -> Tensor:
    """``[F, F]`` inverse covariance, with a little added to the diagonal for columns that never move."""
    size = scores.shape[1]
    precision: Tensor = torch.linalg.inv(
        _covariance(scores) + 1e-3 * torch.eye(size, dtype=scores.dtype)
    )
    return precision


def _sweep(
    scores: Tensor,
    limit: Tensor,
    censored: Tensor,
    mean: Tensor,
    precision: Tensor,
    drawn: Tensor,
) -> Tensor:
    """Each censored score of ``scores[E, F]`` drawn anew by ``drawn[E, F]``, below its ``limit``, given all others of its event."""
    # Columns in float32 and as rows: the sweep is bound by memory.
    rows = (scores - mean.to(scores)).T.float().contiguous()
    limits = (limit - mean.to(limit)).T.float().contiguous()
    hidden, precision, drawn = censored.T.contiguous(), precision.float(), drawn.T.float()
    for band in torch.split(hidden.any(1).nonzero()[:, 0], BAND):
        # One matrix product for many columns; what those before in the band have moved is added column by column.
        pulls = precision[band] @ rows
        moved = torch.zeros_like(pulls)
        for k, column in enumerate(band.tolist()):
            events = hidden[column].nonzero()[:, 0]
            pull = torch.addmv(pulls[k], moved[:k].T, precision[column, band[:k]])[events]
            old = rows[column, events]
            expected, width = (
                old - pull / precision[column, column],
                precision[column, column].rsqrt(),
            )
            new = _below(limits[column, events], expected, width, drawn[column, events])
            new = new.clamp_min(-1.5 * Z_MAX)
            rows[column, events], moved[k, events] = new, new - old
    return rows.T.to(scores) + mean.to(scores)


def _below(limit: Tensor, expected: Tensor, width: Tensor, drawn: Tensor) -> Tensor:
    """``[E]`` normal numbers around ``expected`` below ``limit``, of the uniform numbers ``drawn``."""
    top = torch.special.ndtr((limit - expected) / width).clamp_min(1e-6)
    scores = torch.special.ndtri((drawn * top).clamp(1e-7, 1 - 1e-6))
    return torch.minimum(expected + width * scores, limit)

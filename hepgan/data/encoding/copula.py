"""Gaussian copula, conditional on one condition: normal scores of each column, then decorrelation.

The encoded events are nearly independent normal numbers, so that a generator only has to learn the non-Gaussian dependence; without
any network the copula is already a fair model of showers.

* ``Marginals``: normal scores column by column, with tables that depend on one condition;
* ``Whiten``: principal components with standard deviation 1;
* ``Copula``: both, where zeros below a threshold are *censored* scores. Independent noise for the zeros would dilute
  the correlations; they are therefore drawn from the dependence by Gibbs sampling (the extended rank likelihood of
  P. D. Hoff, Ann. Appl. Stat. 1 (2007) 265).
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import ColumnLayout, Noise, register_step, uniform
from hepgan.data.encoding.marginals import Z_MAX, Knots, Marginals, PerWindow, Windows
from hepgan.data.encoding.weighted import covariance, mean
from hepgan.errors import RunError

Sweeps = Annotated[int, Within(0, 1000)]

BAND = 32
"""Columns of a Gibbs sweep that share one matrix product."""


@register_step("whiten")
@dataclasses.dataclass(frozen=True)
class Whiten:
    """Uncorrelated coordinates with standard deviation 1: ``(x - mean) forward``.

    Attributes:
        mean: ``[F]``.
        forward: ``[F, F]``.
        backward: ``[F, F]``, inverse of ``forward``.
    """

    mean: Tensor
    forward: Tensor
    backward: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        weights: Tensor | None = None,
        start: Self | None = None,
        *,
        condition_on_first: tuple[str, ...] = (),
    ) -> Self:
        """Uses the sample covariance; directions without variance keep a standard deviation of 1e-3.

        With ``start``, coordinates of other events, the covariance is shrunk towards theirs as far as the statistics of ``x`` requires
        (O. Ledoit and M. Wolf, J. Multivar. Anal. 88 (2004) 365), and the coordinates are as close to theirs as their new covariance
        allows, so that a generator of the other events can start from its weights.

        The columns of the fields in ``condition_on_first`` (or ``appended``) are whitened on their own, all others conditional on
        them: their coordinates do not depend on the other columns, so that a generator can produce them first.

        Raises:
            RunError: an unknown field, or ``start`` has another number of columns.
        """
        mask = torch.zeros(x.shape[1]) > 0
        if condition_on_first:
            mask = columns.mask(condition_on_first, x.shape[1])
        a, b = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
        if start is None:
            return cls(
                mean(x, weights), *_coordinates(covariance(x, weights), a, b, _principal_components)
            )
        old, back = start.forward.to(x), start.backward.to(x)
        if len(old) != x.shape[1]:
            raise RunError(
                f"the step to start from has {len(old)} columns, but here there are {x.shape[1]}"
            )
        shrunk = _shrunk_covariance(x, start.covariance.to(x), weights)
        forward, backward = _coordinates(old.T @ shrunk @ old, a, b, _symmetric_roots)
        return cls(mean(x, weights), old @ forward, backward @ back)

    @property
    def covariance(self) -> Tensor:
        """Covariance ``[F, F]`` of the columns."""
        return self.backward.T.double() @ self.backward.double()

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the uncorrelated coordinates, float32."""
        # float32 is twice as fast: decoding scales the rounding errors of narrow directions down again.
        return (x - self.mean.to(x)).float() @ self.forward.float()

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values."""
        return x @ self.backward.to(x) + self.mean.to(x)


def _coordinates(
    covariance: Tensor, a: Tensor, b: Tensor, roots: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Returns the matrices to and from uncorrelated coordinates: of the columns ``a``, and of ``b`` conditional on them."""
    # Regression of the other columns on the first: E[x_b | x_a] = x_a slope.
    slope = torch.linalg.pinv(covariance[a][:, a]) @ covariance[a][:, b]
    forward, backward = torch.zeros_like(covariance), torch.zeros_like(covariance)
    forward_a, backward_a = roots(covariance[a][:, a])
    forward_b, backward_b = roots(covariance[b][:, b] - covariance[b][:, a] @ slope)
    for matrix, of_a, of_b, between in (
        (forward, forward_a, forward_b, -slope @ forward_b),
        (backward, backward_a, backward_b, backward_a @ slope),
    ):
        matrix[a[:, None], a], matrix[b[:, None], b] = of_a, of_b
        matrix[a[:, None], b] = between
    return forward, backward


def _principal_components(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the matrices to and from principal components with standard deviation 1."""
    variances, axes = torch.linalg.eigh(covariance)
    widths = variances.clamp_min(1e-6).sqrt()
    return axes / widths, (axes * widths).T.contiguous()


def _symmetric_roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the symmetric inverse square root and square root: of all whitening coordinates the closest to the given ones."""
    variances, axes = torch.linalg.eigh(covariance)
    widths = variances.clamp_min(1e-6).sqrt()
    return (axes / widths) @ axes.T, (axes * widths) @ axes.T


def _shrunk_covariance(x: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the mixture of the sample covariance and ``target`` with the least expected squared error (Ledoit and Wolf)."""
    sample, events = covariance(x, weights), max(1, len(x))
    squares = x.new_ones(len(x)) if weights is None else weights.to(x).square()
    norms = (x - mean(x, weights)).square().sum(1).square()
    noise = (squares @ norms - squares.sum() * sample.square().sum()) / events**2
    fraction = (noise / (sample - target).square().sum().clamp_min(1e-30)).clamp(0, 1)
    return fraction * target + (1 - fraction) * sample


@register_step("copula")
@dataclasses.dataclass(frozen=True)
class Copula:
    """``Marginals`` followed by ``Whiten``, with zeros drawn from the dependence.

    Attributes:
        marginals: Normal scores of each column.
        whiten: Decorrelation of the scores.
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
        columns: ColumnLayout,
        noise: Noise,
        weights: Tensor | None = None,
        start: Self | None = None,
        *,
        condition: str | None = None,
        windows: Windows = 24,
        per_window: PerWindow = 400,
        knots: Knots = 65,
        censored_zeros: bool = False,
        sweeps: Sweeps = 3,
        condition_on_first: tuple[str, ...] = (),
    ) -> Self:
        """Takes the options of ``Marginals.fit`` and ``Whiten.fit``, and the number of Gibbs ``sweeps`` for censored zeros.

        The marginals do not depend on ``start``.
        """
        marginals = Marginals.fit(
            x, c, columns, noise, weights,
            condition=condition, windows=windows, per_window=per_window, knots=knots, censored_zeros=censored_zeros,
        )  # fmt: skip
        scores = marginals.encode(x, c, noise).to(x)
        censored = marginals.censored & (x <= 0)
        limit = marginals.scores_of_zero(c.to(x))

        def precision() -> Tensor:
            if start is None:
                return _inverse(covariance(scores, weights))
            return _inverse(_shrunk_covariance(scores, start.whiten.covariance.to(scores), weights))

        for number in range(sweeps if censored_zeros else 0):
            drawn = uniform(scores, noise.child(number))
            scores = _gibbs_sweep(
                scores, limit, censored, mean(scores, weights), precision(), drawn
            )
        whiten = Whiten.fit(
            scores, c, columns, noise, weights, start.whiten if start else None,
            condition_on_first=condition_on_first,
        )  # fmt: skip
        return cls(marginals, whiten, precision(), sweeps if censored_zeros else 0)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns independent normal coordinates."""
        scores = self.marginals.encode(x, c, noise)
        censored = self.marginals.censored & (x <= 0)
        limit = self.marginals.scores_of_zero(c.to(x))
        for number in range(self.sweeps):
            drawn = uniform(scores, noise.child(number))
            scores = _gibbs_sweep(scores, limit, censored, self.whiten.mean, self.precision, drawn)
        return self.whiten.encode(scores, c, noise)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values."""
        return self.marginals.decode(self.whiten.decode(x, c), c)


def _inverse(spread: Tensor) -> Tensor:
    """Returns the inverse ``[F, F]`` of a covariance, regularized on the diagonal for constant columns."""
    inverse: Tensor = torch.linalg.inv(spread + 1e-3 * torch.eye(len(spread), dtype=spread.dtype))
    return inverse


def _gibbs_sweep(
    scores: Tensor,
    limit: Tensor,
    censored: Tensor,
    mean: Tensor,
    precision: Tensor,
    drawn: Tensor,
) -> Tensor:
    """Returns ``scores[E, F]`` with each censored score redrawn below its ``limit``, conditional on the others of its event.

    ``drawn[E, F]`` are the uniform random numbers.
    """
    # Columns in float32 and as rows: the sweep is limited by memory bandwidth.
    rows = (scores - mean.to(scores)).T.float().contiguous()
    limits = (limit - mean.to(limit)).T.float().contiguous()
    hidden, precision, drawn = censored.T.contiguous(), precision.float(), drawn.T.float()
    for band in torch.split(hidden.any(1).nonzero()[:, 0], BAND):
        # One matrix product for many columns; changes of earlier columns of the band are added column by column.
        products = precision[band] @ rows
        changes = torch.zeros_like(products)
        for k, column in enumerate(band.tolist()):
            events = hidden[column].nonzero()[:, 0]
            product = torch.addmv(products[k], changes[:k].T, precision[column, band[:k]])[events]
            old = rows[column, events]
            expected, width = (
                old - product / precision[column, column],
                precision[column, column].rsqrt(),
            )
            new = _truncated_normal(limits[column, events], expected, width, drawn[column, events])
            new = new.clamp_min(-1.5 * Z_MAX)
            rows[column, events], changes[k, events] = new, new - old
    return rows.T.to(scores) + mean.to(scores)


def _truncated_normal(limit: Tensor, expected: Tensor, width: Tensor, drawn: Tensor) -> Tensor:
    """Returns ``[E]`` normal numbers around ``expected`` truncated at ``limit``, from the uniform numbers ``drawn``."""
    top = torch.special.ndtr((limit - expected) / width).clamp_min(1e-6)
    scores = torch.special.ndtri((drawn * top).clamp(1e-7, 1 - 1e-6))
    return torch.minimum(expected + width * scores, limit)

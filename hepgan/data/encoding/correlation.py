"""The encoding step ``correlation``: linear dependence that is left between normal scores.

The scores of a conditional encoding are nearly independent. Which of their many correlations are real is decided by thresholding:
in a sample of E events, independent columns have correlations of about 1 / √E, and the largest one of a column with F others is about
√(2 ln F) times that (P. J. Bickel and E. Levina, Ann. Stat. 36 (2008) 2577).
"""

import dataclasses
import math
from typing import Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import ColumnLayout, Noise, register_step
from hepgan.data.encoding.density.network import fill_vectors
from hepgan.data.encoding.weighted import mean

_SMALLEST_VARIANCE = 0.05
"""Smallest eigenvalue of the correlations that are kept."""

_CHUNK = 1024
"""Rows of the correlation matrix that are computed at once."""


@register_step("correlation")
@dataclasses.dataclass(frozen=True)
class Correlation:
    """Independent normal scores of the K columns that are correlated with others; each depends on the columns before it.

    Attributes:
        columns: ``[K]`` columns of ``x``.
        factor: ``[K, K]``, lower triangular Cholesky factor of the correlations.
        pairs: Number of correlated pairs.
    """

    columns: Tensor
    factor: Tensor
    pairs: int

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        weights: Tensor | None = None,
        *,
        fields: tuple[str, ...] = (),
    ) -> Self:
        """Estimates the correlations that stand out from statistical fluctuations.

        Args:
            x: Normal scores ``[E, F]``, as after ``energy_tree`` or ``autoregressive``.
            c: Encoded conditions ``[E, C]``, not used.
            columns: Columns of the fields and conditions.
            noise: Random numbers, not used.
            weights: ``[E]``, or ``None``; the threshold depends on the effective number of events.
            fields: Fields, or ``appended``; all columns by default.

        Raises:
            RunError: an unknown field.
        """
        at = columns.mask(fields, x.shape[1]).nonzero()[:, 0]
        if weights is None:
            weights = torch.ones(len(x))
        effective = float(weights.sum() ** 2 / weights.square().sum())
        threshold = math.sqrt(2 * math.log(max(2, len(at))) / max(2, effective))
        standard = _standardized(x[:, at], weights)
        weighted = standard * (weights / weights.sum()).to(standard)[:, None]
        correlated = _correlated(standard, weighted, threshold)
        sample = standard[:, correlated].T @ weighted[:, correlated]
        kept = _thresholded(sample.double(), threshold)
        pairs = int((kept != 0).sum() - len(kept)) // 2
        return cls(at[correlated], torch.linalg.cholesky(_positive(kept)).float(), pairs)

    def summary(self) -> str:
        """Returns the number of correlations in one line."""
        return f"{self.pairs:,} correlated pairs among {len(self.columns):,} columns"

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns independent scores."""
        scores = x[:, self.columns]
        independent = torch.linalg.solve_triangular(self.factor.to(x), scores.T, upper=False).T
        return x.index_copy(1, self.columns, independent)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the correlated scores."""
        return fill_vectors(self._decode, x, c)

    def _decode(self, x: Tensor, c: Tensor) -> Tensor:
        correlated = x.index_select(1, self.columns) @ self.factor.T.to(x)
        return x.index_copy(1, self.columns, correlated)


def _standardized(x: Tensor, weights: Tensor) -> Tensor:
    """Returns ``x[E, F]`` with mean 0 and standard deviation 1, in float32; constant columns are 0."""
    centered = x.double() - mean(x.double(), weights)
    std = mean(centered**2, weights).clamp_min(0).sqrt()
    return torch.where(std > 0, centered / std, torch.zeros_like(centered)).float()


def _correlated(standard: Tensor, weighted: Tensor, threshold: float) -> Tensor:
    """Returns the columns ``[K]`` of ``standard[E, F]`` with a correlation above the threshold."""
    largest = []
    for first in range(0, standard.shape[1], _CHUNK):
        part = standard[:, first : first + _CHUNK].T @ weighted
        part.diagonal(first).zero_()
        largest.append(part.abs().amax(1))
    return (torch.cat(largest) > threshold).nonzero()[:, 0]


def _thresholded(sample: Tensor, threshold: float) -> Tensor:
    """Returns the correlations ``[K, K]`` above the threshold, shrunk towards it, and 0 for the others."""
    shrunk = sample * (1 - (threshold / sample) ** 2)
    kept = torch.where(sample.abs() > threshold, shrunk, torch.zeros_like(sample))
    return kept.fill_diagonal_(1.0)


def _positive(correlations: Tensor) -> Tensor:
    """Returns a positive definite matrix near ``correlations[K, K]``."""
    variances, axes = torch.linalg.eigh(correlations)
    positive: Tensor = (axes * variances.clamp_min(_SMALLEST_VARIANCE)) @ axes.T
    widths = positive.diagonal().sqrt()
    return positive / widths[:, None] / widths

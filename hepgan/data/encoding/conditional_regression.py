"""The encoding step ``regress``: standardized residuals of a regression whose coefficients depend on a condition."""

import dataclasses
from typing import Annotated, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import APPENDED, ColumnLayout, Noise, register_step
from hepgan.data.encoding.weighted import least_squares
from hepgan.errors import RunError


@register_step("regress")
@dataclasses.dataclass(frozen=True)
class Regress:
    """Standardized residuals of each column, given the columns of ``condition_on_first`` and one condition.

    The expected value of a column is linear in the columns of ``condition_on_first`` (for one of these: in those before it), with
    polynomials of the condition as coefficients; the logarithm of the residual's width is such a polynomial, too. A copula has one
    dependence for all energies; this step lets it change with the energy.

    Attributes:
        column: Column of ``c`` on which the coefficients depend.
        condition_on_first: The A columns on which the others are regressed, in order.
        expected: ``[1 + A, K, F]`` coefficients of the powers 0 … K−1 of the condition, for the intercept and the A columns.
        width: ``[K, F]`` coefficients of the logarithm of the width.
    """

    column: int
    condition_on_first: tuple[int, ...]
    expected: Tensor
    width: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        weights: Tensor | None = None,
        *,
        condition: str,
        condition_on_first: tuple[str, ...] = (APPENDED,),
        degree: Annotated[int, Within(0, 5)] = 2,
    ) -> Self:
        """Least-squares fit with polynomials of ``degree`` in ``condition``.

        Raises:
            RunError: ``condition`` is not a condition with one column, or ``condition_on_first`` is empty or names an unknown field.
        """
        if not condition_on_first:
            raise RunError("condition_on_first = [] is empty; name at least one field")
        column = columns.condition_column(condition)
        first = tuple(columns.mask(condition_on_first, x.shape[1]).nonzero()[:, 0].tolist())
        size, powers = degree + 1, _powers(c[:, column].to(x), degree + 1)
        expected = x.new_zeros(1 + len(first), size, x.shape[1])
        for known in range(len(first) + 1):
            # Each of the first columns is regressed on those before it, all other columns on all of them.
            rest = torch.ones(x.shape[1], dtype=torch.bool)
            rest[list(first)] = False
            targets = rest if known == len(first) else torch.arange(x.shape[1]) == first[known]
            regressors = _products(x, powers, first[:known])
            solution = least_squares(regressors.flatten(1), x[:, targets], weights)
            expected[: 1 + known, :, targets] = solution.reshape(1 + known, size, -1)
        unscaled = cls(column, first, expected, x.new_zeros(size, x.shape[1]))
        residuals = unscaled.encode(x, c, noise)
        width = log_width(residuals, powers, weights)
        # Columns that are predicted exactly, up to rounding, keep width 1.
        exact = residuals.abs().mean(0) <= 1e-6 * x.abs().mean(0)
        return dataclasses.replace(
            unscaled, width=torch.where(exact, torch.zeros_like(width), width)
        )

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns the standardized residuals."""
        powers = _powers(c[:, self.column].to(x), len(self.width))
        products = _products(x, powers, self.condition_on_first)
        expected = products.flatten(1) @ self.expected.to(x).flatten(0, 1)
        return (x - expected) * torch.exp(-powers @ self.width.to(x))

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values; those of the first columns are computed one after the other."""
        powers = _powers(c[:, self.column].to(x), len(self.width))
        residuals = x * torch.exp(powers @ self.width.to(x))
        products, coefficients = powers, self.expected.to(x)
        for number, column in enumerate(self.condition_on_first):
            known = coefficients[: 1 + number, :, column].flatten()
            value = residuals[:, column] + products @ known
            products = torch.cat([products, value[:, None] * powers], 1)
        return residuals + products @ coefficients.flatten(0, 1)


def log_width(residuals: Tensor, powers: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns coefficients ``[K, F]`` of each column's log width on ``powers[E, K]``, from ``residuals[E, F]``."""
    size = residuals.abs()
    floor = 1e-3 * size.mean(0).clamp_min(1e-6)
    result = least_squares(powers, torch.log(size + floor), weights)
    # For a normal distribution the mean of log|d| is log(sigma) - 0.635.
    result[0] += 0.635
    return result


def _powers(values: Tensor, size: int) -> Tensor:
    """Returns ``[E, K]``: the powers 0 … K−1 of ``values[E]``."""
    return torch.stack([values**power for power in range(size)], 1)


def _products(x: Tensor, powers: Tensor, columns: tuple[int, ...]) -> Tensor:
    """Returns ``[E, 1 + A, K]``: the powers, and their products with each of the columns."""
    one = torch.ones_like(x[:, :1])
    return torch.cat([one, x[:, list(columns)]], 1)[:, :, None] * powers[:, None]

"""The encoding step ``regress``: what some columns say about the others is taken out, as it changes with a condition."""

import dataclasses
from typing import Annotated, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import APPENDED, Columns, Noise, column_of
from hepgan.errors import RunError


@dataclasses.dataclass(frozen=True)
class Regress:
    """Each column as its distance from what is expected of it, in widths: both follow a condition.

    What is expected of a column is linear in those that come ``first`` (of one of these: in those before it), with polynomials of
    the condition as coefficients; so is the logarithm of the width. A copula has one dependence for all energies; this gives
    it one that changes with the energy.

    Attributes:
        column: The column of ``c`` that the coefficients follow.
        first: The columns that others are expected from, in order.
        expected: ``[1 + A, K, F]`` coefficients of the powers 0 … K−1 of the condition, of 1 and of the A first columns.
        width: ``[K, F]`` the same for the logarithm of the width.
    """

    column: int
    first: tuple[int, ...]
    expected: Tensor
    width: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: Columns,
        noise: Noise,
        *,
        given: str,
        first: tuple[str, ...] = (APPENDED,),
        degree: Annotated[int, Within(0, 5)] = 2,
    ) -> Self:
        """Least squares, in polynomials of ``degree`` of the condition ``given``.

        Raises:
            RunError: ``given`` is no condition of one column, or a name in ``first`` no field or nothing.
        """
        if not first:
            raise RunError("first = [] should name columns")
        column = column_of(given, columns)
        chosen = tuple(columns.mask(first, x.shape[1]).nonzero()[:, 0].tolist())
        size, follows = degree + 1, _powers(c[:, column].to(x), degree + 1)
        expected = x.new_zeros(1 + len(chosen), size, x.shape[1])
        for known in range(len(chosen) + 1):
            # First columns know those before them, all others know all of these.
            rest = torch.ones(x.shape[1], dtype=torch.bool)
            rest[list(chosen)] = False
            targets = rest if known == len(chosen) else torch.arange(x.shape[1]) == chosen[known]
            regressors = _products(x, follows, chosen[:known])
            found = least_squares(regressors.flatten(1), x[:, targets])
            expected[: 1 + known, :, targets] = found.reshape(1 + known, size, -1)
        plain = cls(column, chosen, expected, x.new_zeros(size, x.shape[1]))
        distance = plain.encode(x, c, noise)
        width = log_width(distance, follows)
        # Columns that are what is expected of them, but for rounding, keep width 1.
        exact = distance.abs().mean(0) <= 1e-6 * x.abs().mean(0)
        return dataclasses.replace(plain, width=torch.where(exact, torch.zeros_like(width), width))

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Values to distances in widths."""
        follows = _powers(c[:, self.column].to(x), len(self.width))
        expected = _products(x, follows, self.first).flatten(1) @ self.expected.to(x).flatten(0, 1)
        return (x - expected) * torch.exp(-follows @ self.width.to(x))

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Back, the first columns one after the other."""
        follows = _powers(c[:, self.column].to(x), len(self.width))
        apart = x * torch.exp(follows @ self.width.to(x))
        products, coefficients = follows, self.expected.to(x)
        for number, column in enumerate(self.first):
            known = coefficients[: 1 + number, :, column].flatten()
            value = apart[:, column] + products @ known
            products = torch.cat([products, value[:, None] * follows], 1)
        return apart + products @ coefficients.flatten(0, 1)


def least_squares(regressors: Tensor, targets: Tensor) -> Tensor:
    """Returns the coefficients ``[K, F]`` of ``targets[E, F]`` over ``regressors[E, K]``, the smallest where several fit alike.

    On the CPU, by singular values: the only driver on a GPU takes it for granted that no regressor follows from the others.
    """
    if targets.shape[1] == 0:  # which the driver cannot take
        return targets.new_zeros(regressors.shape[1], 0)
    found: Tensor = torch.linalg.lstsq(regressors.cpu(), targets.cpu(), driver="gelsd").solution
    return found.to(targets.device)


def log_width(distance: Tensor, powers: Tensor) -> Tensor:
    """Coefficients ``[K, F]`` of the logarithm of each column's width over ``powers[E, K]``, for ``distance[E, F]`` from its mean."""
    size = distance.abs()
    floor = 1e-3 * size.mean(0).clamp_min(1e-6)
    found = least_squares(powers, torch.log(size + floor))
    # For a normal distribution the mean of log|d| is log(sigma) - 0.635.
    found[0] += 0.635
    return found


def _powers(values: Tensor, size: int) -> Tensor:
    """``[E, K]``: 1, v, v² and so on."""
    return torch.stack([values**power for power in range(size)], 1)


def _products(x: Tensor, follows: Tensor, known: tuple[int, ...]) -> Tensor:
    """``[E, 1 + A, K]``: the powers, and each known column times them."""
    one = torch.ones_like(x[:, :1])
    return torch.cat([one, x[:, list(known)]], 1)[:, :, None] * follows[:, None]

"""Functions behind SUM, OCCUPANCY, TIMES and BALANCE, of events ``x[B, ...]`` and conditions ``c[B, C]``."""

import torch
from torch import Tensor


def total(x: Tensor) -> Tensor:
    """Returns the sum of all values, ``[B, 1]``."""
    return x.flatten(1).sum(1, keepdim=True)


def occupancy(x: Tensor, *, threshold: float, softness: float) -> Tensor:
    """Returns the fraction of values above ``threshold``, ``[B, 1]``; a ``softness`` > 0 replaces the step by a sigmoid of that width."""
    x = x.flatten(1)
    above = torch.sigmoid((x - threshold) / softness) if softness else (x > threshold).to(x.dtype)
    return above.mean(1, keepdim=True)


def times(x: Tensor, c: Tensor, *, condition: int) -> Tensor:
    """Returns ``x`` multiplied by one condition."""
    return x * c[:, condition].reshape(-1, *[1] * (x.ndim - 1))


def balance(x: Tensor, c: Tensor, *, scale: float, limit: float, condition: int) -> Tensor:
    """Returns |sum − scale · condition| and, if that exceeds ``limit``, 10, else 0: ``[B, 2]``."""
    miss = (total(x) - scale * c[:, condition : condition + 1]).abs()
    return torch.cat([miss, 10 * (miss > limit).to(x.dtype)], dim=1)

"""What SUM, OCCUPANCY, TIMES and BALANCE compute: functions of events ``x[B, ...]`` and conditions ``c[B, C]``."""

import torch
from torch import Tensor


def total(x: Tensor) -> Tensor:
    """The sum of all values, ``[B, 1]``."""
    return x.flatten(1).sum(1, keepdim=True)


def occupancy(x: Tensor, *, threshold: float, softness: float) -> Tensor:
    """The share of values above ``threshold``, ``[B, 1]``; by a sigmoid of width ``softness`` where that is not 0."""
    x = x.flatten(1)
    above = torch.sigmoid((x - threshold) / softness) if softness else (x > threshold).to(x.dtype)
    return above.mean(1, keepdim=True)


def times(x: Tensor, c: Tensor, *, condition: int) -> Tensor:
    """``x`` times one condition."""
    return x * c[:, condition].reshape(-1, *[1] * (x.ndim - 1))


def balance(x: Tensor, c: Tensor, *, scale: float, limit: float, condition: int) -> Tensor:
    """|sum − scale · condition| and 10 where that is beyond ``limit``, ``[B, 2]``."""
    miss = (total(x) - scale * c[:, condition : condition + 1]).abs()
    return torch.cat([miss, 10 * (miss > limit).to(x.dtype)], dim=1)

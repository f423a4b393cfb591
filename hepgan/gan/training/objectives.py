"""What the two networks minimise: pure functions of logits, and penalties.

| objective | from | remark |
|---|---|---|
| ``non-saturating`` | arXiv:1406.2661 | TMVA's cross entropy, the generator's target swapped |
| ``least-squares`` | arXiv:1611.04076 | on logits |
| ``sum-of-squares`` | TMVA | on probabilities |
| ``hinge`` | arXiv:1705.02894 | |
| ``wasserstein`` | arXiv:1704.00028 | wants ``gradient_penalty`` and several critic steps |
| ``relativistic`` | arXiv:2501.05441 | wants ``r1`` and ``r2``; compares generated with reference events |

``real`` and ``fake`` are the discriminator's logits ``[B]`` for reference and generated events. Every loss is a mean over the
batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Loss = Callable[[Tensor, Tensor], Tensor]


class Objective(NamedTuple):
    """A pair of losses.

    Attributes:
        discriminator: Loss of (real, fake) logits.
        generator: Loss of (real, fake) logits; most leave ``real`` aside.
        paired: Whether the generator's loss looks at reference events.
    """

    discriminator: Loss
    generator: Loss
    paired: bool = False


def _squares(real: Tensor, fake: Tensor) -> Tensor:
    return (1 - torch.sigmoid(real)).square().mean() + torch.sigmoid(fake).square().mean()


OBJECTIVES: dict[str, Objective] = {
    "non-saturating": Objective(
        lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
        lambda real, fake: F.softplus(-fake).mean(),
    ),
    "least-squares": Objective(
        lambda real, fake: 0.5 * ((real - 1).square().mean() + fake.square().mean()),
        lambda real, fake: 0.5 * (fake - 1).square().mean(),
    ),
    "sum-of-squares": Objective(
        _squares, lambda real, fake: (1 - torch.sigmoid(fake)).square().mean()
    ),
    "hinge": Objective(
        lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
        lambda real, fake: -fake.mean(),
    ),
    "wasserstein": Objective(
        lambda real, fake: fake.mean() - real.mean(),
        lambda real, fake: -fake.mean(),
    ),
    "relativistic": Objective(
        lambda real, fake: F.softplus(fake - real).mean(),
        lambda real, fake: F.softplus(real - fake).mean(),
        paired=True,
    ),
}
"""The objectives by their names in a run file."""


def zero_centered_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """Mean over ``x[B, F]`` of ``|d logit / d x|^2``: R1 on reference events, R2 on generated ones (arXiv:2501.05441).

    ``x`` must require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    squares: Tensor = gradient.square()
    return squares.flatten(1).sum(1).mean()


def one_centered_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """Mean over ``x[B, F]`` of ``(|d logit / d x| - 1)^2``: WGAN-GP's, for ``x`` between the samples (arXiv:1704.00028).

    ``x`` must require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    length: Tensor = gradient.flatten(1).norm(dim=1)
    return (length - 1).square().mean()


def interpolate(real: Tensor, fake: Tensor, place: Tensor) -> Tensor:
    """The points ``[B, F]`` at ``place[B]``, from 0 to 1, on the lines from ``real[B, F]`` to ``fake[B, F]``, requiring gradients."""
    place = place.reshape(-1, *[1] * (real.dim() - 1))
    return torch.lerp(real.detach(), fake.detach(), place).requires_grad_()

"""Objectives and gradient penalties of a GAN, and the registry of objectives.

| objective | from | remark |
|---|---|---|
| ``non-saturating`` | arXiv:1406.2661 | TMVA's cross entropy, with the generator's target swapped |
| ``least-squares`` | arXiv:1611.04076 | on logits |
| ``sum-of-squares`` | TMVA | on probabilities |
| ``hinge`` | arXiv:1705.02894 | |
| ``wasserstein`` | arXiv:1704.00028 | needs ``gradient_penalty`` and several critic steps |
| ``relativistic`` | arXiv:2501.05441 | needs ``r1`` and ``r2``; compares generated with reference events |
| ``mmd`` | arXiv:1207.6076 | no discriminator: maximum mean discrepancy of events and conditions with the distance kernel |

Write your own with ``register_objective``; ``[train] objective`` then accepts its name.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from hepgan.errors import RunError, did_you_mean


class Batch(NamedTuple):
    """Arguments of an objective: one batch of reference events and one of generated events.

    Attributes:
        real: Logits ``[B]`` of the reference events; of no use without a discriminator.
        fake: Logits ``[B]`` of the generated events; of no use without a discriminator.
        events: Discriminator input ``[B, S]`` of the reference events, see ``[gan] discriminator_input``: by default the encoded event.
        generated: Discriminator input ``[B, S]`` of the generated events. Gradients reach the generator in its own loss only.
        noise: Noise ``[B, *Z]`` of the generated events.
        conditions: Encoded conditions ``[B, C]``, the same for both.
        weights: Weights ``[B]`` of the reference events, 1 on average over all training events, perhaps negative; ``None`` if they
            are all equal.
    """

    real: Tensor
    fake: Tensor
    events: Tensor
    generated: Tensor
    noise: Tensor
    conditions: Tensor
    weights: Tensor | None = None

    def real_mean(self, values: Tensor) -> Tensor:
        """Returns the weighted mean of ``values[B]`` of the reference events, or of pairs of a reference and a generated event."""
        return weighted_mean(values, self.weights)

    def fake_mean(self, values: Tensor) -> Tensor:
        """Returns the mean of ``values[B]`` of the generated events, weighted if they share the conditions of the reference events.

        The conditions then have the distribution of the weighted events, too.
        """
        return weighted_mean(values, self.weights if self.conditions.shape[1] else None)


Loss = Callable[[Batch], Tensor]
"""A scalar to minimize, the mean over the batch."""


class Objective(NamedTuple):
    """Losses of the two networks.

    Attributes:
        discriminator: Loss of the discriminator; ``None`` if the generator is trained without one.
        generator: Loss of the generator.
        paired: Whether the generator's loss uses ``Batch.real``; otherwise the logits of the reference events are not computed for
            it, and ``real`` is ``fake``.
        weighted: Whether the losses use ``Batch.weights``; otherwise training on weighted events is an error.
    """

    discriminator: Loss | None
    generator: Loss
    paired: bool = True
    weighted: bool = False


class ObjectiveClass(Protocol):
    """Class whose static methods are the losses of an objective: ``generator``, and ``discriminator`` unless there is none."""

    @staticmethod
    def generator(batch: Batch, /) -> Tensor:
        """Returns the loss of the generator."""


C = TypeVar("C", bound=type[ObjectiveClass])

OBJECTIVES: dict[str, Objective] = {}
"""Objectives by their names in a run file."""


def register_objective(
    name: str, *, paired: bool = True, weighted: bool = False
) -> Callable[[C], C]:
    """Decorator that registers a class with the static methods ``discriminator`` and ``generator`` as an objective.

    With several discriminators the losses are called for each, and their weighted sum is minimized. A class without ``discriminator``
    trains the generator alone.

    >>> @register_objective("smoothed")
    ... class Smoothed:
    ...     @staticmethod
    ...     def discriminator(batch):
    ...         return (0.9 * F.softplus(-batch.real) + 0.1 * F.softplus(batch.real) + F.softplus(batch.fake)).mean()
    ...
    ...     @staticmethod
    ...     def generator(batch):
    ...         return F.softplus(-batch.fake).mean()
    >>> del OBJECTIVES["smoothed"]

    Args:
        name: Name in a run file, ``[train] objective``.
        paired: See ``Objective``.
        weighted: See ``Objective``; ``Batch.real_mean`` and ``Batch.fake_mean`` are the means to use.

    Raises:
        RunError: another objective has this name.
    """

    def register(cls: C) -> C:
        known = OBJECTIVES.get(name)
        if known and known.generator.__module__ != cls.__module__:  # reloading a module is fine
            raise RunError(f"there is an objective '{name}' already; choose another name")
        discriminator = getattr(cls, "discriminator", None)
        OBJECTIVES[name] = Objective(discriminator, cls.generator, paired, weighted)
        return cls

    return register


def objective_named(name: str) -> Objective:
    """Returns the objective with this name.

    Raises:
        RunError: there is none.
    """
    if name not in OBJECTIVES:
        hint = did_you_mean(name, OBJECTIVES) or f"; choose one of {', '.join(OBJECTIVES)}"
        raise RunError(f"unknown objective '{name}'{hint} (or import the plugin that registers it)")
    return OBJECTIVES[name]


@register_objective("non-saturating", paired=False, weighted=True)
class NonSaturating:
    """Cross entropy; the generator maximizes the probability of being taken for real (arXiv:1406.2661)."""

    @staticmethod
    def discriminator(batch: Batch) -> Tensor:
        """Returns ``softplus(-real) + softplus(fake)``."""
        return batch.real_mean(F.softplus(-batch.real)) + batch.fake_mean(F.softplus(batch.fake))

    @staticmethod
    def generator(batch: Batch) -> Tensor:
        """Returns ``softplus(-fake)``."""
        return batch.fake_mean(F.softplus(-batch.fake))


@register_objective("least-squares", paired=False, weighted=True)
class LeastSquares:
    """Squared distance of the logits from 1 and 0 (arXiv:1611.04076)."""

    @staticmethod
    def discriminator(batch: Batch) -> Tensor:
        """Returns ``((real - 1)^2 + fake^2) / 2``."""
        real, fake = (batch.real - 1).square(), batch.fake.square()
        return 0.5 * (batch.real_mean(real) + batch.fake_mean(fake))

    @staticmethod
    def generator(batch: Batch) -> Tensor:
        """Returns ``(fake - 1)^2 / 2``."""
        return 0.5 * batch.fake_mean((batch.fake - 1).square())


@register_objective("sum-of-squares", paired=False, weighted=True)
class SumOfSquares:
    """Squared distance of the probabilities from 1 and 0 (TMVA)."""

    @staticmethod
    def discriminator(batch: Batch) -> Tensor:
        """Returns ``(1 - p(real))^2 + p(fake)^2``."""
        real, fake = torch.sigmoid(batch.real), torch.sigmoid(batch.fake)
        return batch.real_mean((1 - real).square()) + batch.fake_mean(fake.square())

    @staticmethod
    def generator(batch: Batch) -> Tensor:
        """Returns ``(1 - p(fake))^2``."""
        return batch.fake_mean((1 - torch.sigmoid(batch.fake)).square())


@register_objective("hinge", paired=False, weighted=True)
class Hinge:
    """Hinge loss (arXiv:1705.02894)."""

    @staticmethod
    def discriminator(batch: Batch) -> Tensor:
        """Returns ``max(0, 1 - real) + max(0, 1 + fake)``."""
        return batch.real_mean(F.relu(1 - batch.real)) + batch.fake_mean(F.relu(1 + batch.fake))

    @staticmethod
    def generator(batch: Batch) -> Tensor:
        """Returns ``-fake``."""
        return -batch.fake_mean(batch.fake)


@register_objective("wasserstein", paired=False, weighted=True)
class Wasserstein:
    """Difference of the critic's means (arXiv:1704.00028)."""

    @staticmethod
    def discriminator(batch: Batch) -> Tensor:
        """Returns ``fake - real``."""
        return batch.fake_mean(batch.fake) - batch.real_mean(batch.real)

    @staticmethod
    def generator(batch: Batch) -> Tensor:
        """Returns ``-fake``."""
        return -batch.fake_mean(batch.fake)


@register_objective("relativistic", weighted=True)
class Relativistic:
    """Cross entropy of the difference of real and fake logits (arXiv:2501.05441)."""

    @staticmethod
    def discriminator(batch: Batch) -> Tensor:
        """Returns ``softplus(fake - real)``."""
        return batch.real_mean(F.softplus(batch.fake - batch.real))

    @staticmethod
    def generator(batch: Batch) -> Tensor:
        """Returns ``softplus(real - fake)``."""
        return batch.real_mean(F.softplus(batch.real - batch.fake))


@register_objective("mmd", weighted=True)
class MaximumMeanDiscrepancy:
    """Squared maximum mean discrepancy of events and conditions with the distance kernel (arXiv:1207.6076), without a discriminator.

    The kernel of two events is minus their distance: the square root of the mean squared difference of their features plus that of their
    conditions, standardized. It has no width to choose, and it vanishes only for equal distributions of events at all
    conditions. The estimate is unbiased: pairs of an event with itself, or with the generated event of the same conditions, do not count.
    """

    @staticmethod
    def generator(batch: Batch) -> Tensor:
        """Returns twice the mean distance of reference and generated events minus those within both; 0 for a single event."""
        c = batch.conditions - batch.conditions.mean(0)
        std = c.square().mean(0).sqrt()
        c = c / (max(c.shape[1], 1) ** 0.5 * torch.where(std > 0, std, 1.0))
        size = max(batch.events.shape[1], 1) ** 0.5
        real = torch.cat([batch.events / size, c], 1)
        fake = torch.cat([batch.generated / size, c], 1)
        number, ones = len(real), real.new_ones(len(real))
        of_real = ones if batch.weights is None else batch.weights
        of_fake = of_real if batch.conditions.shape[1] else ones

        def mean_distance(a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor) -> Tensor:
            distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
            pairs = (of_a[:, None] * of_b * distance).masked_fill(same, 0.0)
            return pairs.sum() / max(number * (number - 1), 1)

        same = torch.eye(number, dtype=torch.bool, device=real.device)
        return (
            2 * mean_distance(real, fake, of_real, of_fake)
            - mean_distance(real, real, of_real, of_real)
            - mean_distance(fake, fake, of_fake, of_fake)
        )


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the mean of ``values[B]`` times ``weights[B]``.

    It is not divided by the mean weight of the batch, which may be 0 if some weights are negative: the expectation over batches is
    that of the weighted events.
    """
    return values.mean() if weights is None else (weights * values).mean()


def zero_centered_penalty(logits: Tensor, x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns the mean of ``|d logit / d x|^2`` over ``x[B, F]``: R1 on reference events, R2 on generated ones (arXiv:2501.05441).

    ``x`` must require gradients; ``weights[B]`` are not negative.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    squares: Tensor = gradient.square()
    return weighted_mean(squares.flatten(1).sum(1), weights)


def one_centered_penalty(logits: Tensor, x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns the mean of ``(|d logit / d x| - 1)^2`` over ``x[B, F]``: WGAN-GP's penalty, on ``interpolate`` (arXiv:1704.00028).

    ``x`` must require gradients; ``weights[B]`` are not negative.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    norm: Tensor = gradient.flatten(1).norm(dim=1)
    return weighted_mean((norm - 1).square(), weights)


def interpolate(real: Tensor, fake: Tensor, weight: Tensor) -> Tensor:
    """Returns the points ``[B, F]`` on the lines from ``real[B, F]`` to ``fake[B, F]`` at ``weight[B]``; they require gradients."""
    weight = weight.reshape(-1, *[1] * (real.dim() - 1))
    return torch.lerp(real.detach(), fake.detach(), weight).requires_grad_()

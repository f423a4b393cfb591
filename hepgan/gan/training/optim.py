"""Optimizers, their schedules, and the update step of one network."""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop

from hepgan.errors import RunError
from hepgan.gan.model import GAN
from hepgan.gan.networks import network_layers
from hepgan.gan.training import distributed
from hepgan.gan.training.schedule import ends, value_at
from hepgan.gan.training.settings import NetworkSettings, Precision, TrainSettings


def make_optimizers(
    gan: GAN, settings: TrainSettings, encoding: nn.Module | None = None
) -> dict[str, Optimizer]:
    """Returns the optimizer of each network that has weights; ``encoding`` has those of the encoding, if they are trained."""
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    networks |= {"encoding": encoding} if encoding else {}
    return {
        name: make_optimizer(networks[name], network_settings)
        for name, network_settings in settings.networks.items()
        if any(True for _ in networks[name].parameters())
    }


def schedule_optimizers(
    optimizers: dict[str, Optimizer], settings: TrainSettings, step: int
) -> None:
    """Sets the learning rates and β₂ of ``step`` of the phase; the optimizers keep their averages.

    Not ``torch.optim.lr_scheduler``: its schedulers have a state, some multiply the last rate by a ratio, so that rounding accumulates
    and a resumed training would differ, and none changes β₂.
    """
    for name, optimizer in optimizers.items():
        network = settings.networks[name]
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate(network, step)
            if "betas" in group:
                group["betas"] = network.betas[0], value_at(network.betas[1], step, settings.steps)


def make_optimizer(network: nn.Module, settings: NetworkSettings) -> Optimizer:
    """Returns a new optimizer of ``network``, with the first values of its schedules."""
    weights, eps = network.parameters(), settings.epsilon
    (lr, _), (beta, _) = ends(settings.learning_rate), ends(settings.betas[1])
    betas = settings.betas[0], beta
    match settings.optimizer:
        case "adam":
            return Adam(weights, lr, betas=betas, eps=eps, fused=True)
        case "adamw":
            decay = settings.weight_decay
            return AdamW(weights, lr, betas=betas, eps=eps, weight_decay=decay, fused=True)
        case "sgd":
            return SGD(weights, lr, momentum=settings.momentum, fused=True)
        case "adagrad":
            return Adagrad(weights, lr, eps=eps)
        case "rmsprop":
            momentum = settings.momentum
            return RMSprop(weights, lr, alpha=settings.rho, eps=eps, momentum=momentum)
        case "adadelta":
            return Adadelta(weights, lr, rho=settings.rho, eps=eps)


class Update(NamedTuple):
    """Network that a loss updates, its optimizer and its settings."""

    network: nn.Module
    optimizer: Optimizer
    settings: NetworkSettings


def optimizer_step(loss: Tensor, *updates: Update) -> None:
    """Updates networks once: gradients of ``loss`` and of the weight penalties, clipping, and the optimizers' steps."""
    for update in updates:
        update.optimizer.zero_grad(set_to_none=True)
    # Only with respect to the weights: the events require gradients too if there is a gradient penalty.
    weights = [w for update in updates for w in update.network.parameters() if w.requires_grad]
    torch.autograd.backward(loss, inputs=weights)
    for network, optimizer, settings in updates:
        distributed.average_gradients(network)
        _add_weight_penalties(network, settings)
        if settings.clip:
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()


@torch.no_grad()
def _add_weight_penalties(network: nn.Module, settings: NetworkSettings) -> None:
    """Adds the gradients of ``l1`` Σ|w| + ``l2`` Σw² over all weights except biases."""
    if not settings.l1 and not settings.l2:
        return
    for weights in network.parameters():
        if weights.ndim > 1 and weights.grad is not None:
            weights.grad.add_(weights.sign(), alpha=settings.l1).add_(
                weights, alpha=2 * settings.l2
            )


@contextmanager
def input_dropout(network: nn.Module, rates: tuple[float, ...]) -> Iterator[None]:
    """Context manager that applies dropout to the inputs of the layers of ``network`` in training mode, a rate for each layer.

    Raises:
        RunError: there are more rates than layers.
    """
    layers, *_ = network_layers(network) or [[]]
    if len(rates) > len(layers):
        raise RunError(
            f"dropout has {len(rates)} rates, {list(rates)}, but the network has {len(layers)} layers"
        )

    def dropout(rate: float, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *others = inputs
        return (F.dropout(x, rate, training=layer.training), *others)

    with ExitStack() as stack:
        for layer, rate in zip(layers, rates, strict=False):
            if rate:
                handle = layer.register_forward_pre_hook(functools.partial(dropout, rate))
                stack.callback(handle.remove)
        yield


@contextmanager
def autocast(network: nn.Module, precision: Precision) -> Iterator[None]:
    """Context manager that runs ``network`` under torch's autocast to ``precision``; weights and outputs stay float32."""
    if precision == "float32" or not any(True for _ in network.parameters()):
        yield
        return
    plain = network.forward
    device = next(network.parameters()).device.type

    @functools.wraps(plain)
    def forward(*inputs: Any) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            y: Tensor = plain(*inputs)
        return y.float()

    network.forward = forward
    try:
        yield
    finally:
        del network.forward

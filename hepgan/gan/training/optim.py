"""One network's way down its loss: torch's optimizers, weight penalties, clipped gradients, dropped inputs, precision."""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim import SGD, Adadelta, Adagrad, Adam, Optimizer, RMSprop

from hepgan.errors import RunError
from hepgan.gan.networks import network_layers
from hepgan.gan.training import distributed
from hepgan.gan.training.settings import NetworkSettings, Precision


def make_optimizer(network: nn.Module, settings: NetworkSettings) -> Optimizer:
    """The optimizer of ``network`` that ``settings`` ask for, at its first step."""
    weights, rate, epsilon = network.parameters(), settings.learning_rate, settings.epsilon
    match settings.optimizer:
        case "adam":
            return Adam(weights, rate, betas=settings.betas, eps=epsilon, fused=True)
        case "sgd":
            return SGD(weights, rate, momentum=settings.momentum, fused=True)
        case "adagrad":
            return Adagrad(weights, rate, eps=epsilon)
        case "rmsprop":
            momentum = settings.momentum
            return RMSprop(weights, rate, alpha=settings.rho, eps=epsilon, momentum=momentum)
        case "adadelta":
            return Adadelta(weights, rate, rho=settings.rho, eps=epsilon)


def optimizer_step(
    network: nn.Module, optimizer: Optimizer, loss: Tensor, how: NetworkSettings
) -> None:
    """One step of ``network`` down ``loss`` and the penalties on its weights."""
    optimizer.zero_grad(set_to_none=True)
    # Not of the events, which require gradients where a penalty wants them.
    torch.autograd.backward(loss, inputs=[w for w in network.parameters() if w.requires_grad])
    distributed.average_gradients(network)
    _add_weight_penalties(network, how)
    if how.clip:
        nn.utils.clip_grad_norm_(network.parameters(), how.clip)
    optimizer.step()


@torch.no_grad()
def _add_weight_penalties(network: nn.Module, how: NetworkSettings) -> None:
    """Adds the gradients of ``l1`` Σ|w| + ``l2`` Σw² over all weights but biases."""
    if not how.l1 and not how.l2:
        return
    for weights in network.parameters():
        if weights.ndim > 1 and weights.grad is not None:
            weights.grad.add_(weights.sign(), alpha=how.l1).add_(weights, alpha=2 * how.l2)


@contextmanager
def input_dropout(network: nn.Module, rates: tuple[float, ...]) -> Iterator[None]:
    """While it lasts and ``network`` trains, a share of each layer's inputs is set to 0, the others grow in proportion.

    Raises:
        RunError: more rates than layers.
    """
    layers, *_ = network_layers(network) or [[]]
    if len(rates) > len(layers):
        raise RunError(
            f"dropout has {len(rates)} rates, {list(rates)}, but the network has {len(layers)} layers"
        )
    with ExitStack() as stack:
        for layer, rate in zip(layers, rates, strict=False):
            if rate:
                handle = layer.register_forward_pre_hook(functools.partial(_dropped, rate))
                stack.callback(handle.remove)
        yield


@contextmanager
def autocast(network: nn.Module, precision: Precision) -> Iterator[None]:
    """While it lasts, ``network`` computes in ``precision`` where torch's autocast does, on weights of float32, and gives float32."""
    if precision == "float32":
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


def _dropped(rate: float, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    x, *others = inputs
    return (F.dropout(x, rate, training=layer.training), *others)

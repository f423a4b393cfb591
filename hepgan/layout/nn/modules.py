"""Modules and functions of single layers: weights, activations, normalization, recurrence, sums over an event.

Modules with submodules are in ``containers``.

Legend of shapes: ``B`` batch, ``D`` depth, ``T`` time steps, ``W`` width, ``S`` state, ``P`` positions of a window.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own way to write it
from torch import Tensor, nn

from hepgan.layout.spec.base import Activation

_Operation = Callable[[Tensor, Tensor, Tensor | None], Tensor]

_ACTIVATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "RELU": lambda x, _: F.relu(x),
    "TANH": lambda x, _: torch.tanh(x),
    "FTANH": lambda x, _: torch.tanh(x),
    "SYMMRELU": lambda x, _: x.abs(),
    "SOFTSIGN": lambda x, _: F.softsign(x),
    "SIGMOID": lambda x, _: torch.sigmoid(x),
    "LINEAR": lambda x, _: x,
    "GAUSS": lambda x, _: torch.exp(-(x * x)),
    "LRELU": lambda x, slope: F.leaky_relu(x, slope),
    "ELU": lambda x, alpha: F.elu(x, alpha),
    "SILU": lambda x, _: F.silu(x),
    "GELU": lambda x, _: F.gelu(x),
    "SOFTPLUS": lambda x, _: F.softplus(x),
    "SOFTMAX": lambda x, _: torch.softmax(x, dim=-1 if x.ndim == 3 else 1),
}


class Activate(nn.Module):
    """Activation; SOFTMAX acts on the channels of an image, otherwise on the last axis."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.name, self.slope = activation.name, activation.parameter

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the same shape."""
        return _ACTIVATIONS[self.name](x, self.slope)

    def extra_repr(self) -> str:
        """Returns the name, for the ``repr`` of modules."""
        return self.name


class Tracking(nn.Module):
    """Base class of modules that update state in training: running means, singular vectors, recurrent states.

    Attributes:
        tracking: Whether the state is updated; ``network.frozen_statistics`` turns this off temporarily.
    """

    tracking = True


class SpectralNorm(Tracking):
    """Division of a weight by its largest singular value (arXiv:1802.05957), from one power iteration per training step.

    Not ``torch.nn.utils.parametrizations.spectral_norm``: it draws from the global random state and cannot be frozen in
    training mode.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, axis: int, generator: torch.Generator) -> None:
        super().__init__()
        self.axis = axis
        rows, columns = self._matrix(weight).shape
        unit = F.normalize(torch.randn(rows, generator=generator), dim=0)
        self.register_buffer("u", unit)
        self.register_buffer("v", torch.zeros(columns))
        for _ in range(15):
            self._iterate(weight.detach())

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.axis, 0).flatten(1)

    @torch.no_grad()
    def _iterate(self, weight: Tensor) -> None:
        matrix = self._matrix(weight)
        self.v.copy_(F.normalize(matrix.mT @ self.u, dim=0))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the weight, scaled to a largest singular value of 1."""
        if self.training and self.tracking:
            self._iterate(weight)
        # Clones: the next forward pass, before this one's backward, may iterate again.
        return weight / (self.u.clone() @ self._matrix(weight) @ self.v.clone())


class Weighted(nn.Module):
    """Linear operation with a weight and an optional bias: dense, convolution, locally connected."""

    def __init__(
        self,
        operation: _Operation,
        weight: Tensor,
        bias: Tensor | None,
        norm: SpectralNorm | None = None,
    ) -> None:
        super().__init__()
        self.operation, self.norm = operation, norm
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``operation(x, weight, bias)``, with the spectrally normalized weight if there is a ``norm``."""
        weight = self.weight if self.norm is None else self.norm(self.weight)
        return self.operation(x, weight, self.bias)


class Recurrent(Tracking):
    """RNN, LSTM or GRU over ``x[B, T, W]`` with one bias per gate.

    Not ``nn.LSTM``: cuDNN's recurrent layers cannot be differentiated twice, which gradient penalties need, and have two biases.
    With ``remember``, a training batch starts from the final state of the previous batch of the same size, which checkpoints
    contain. Outside of training, each batch starts from zero and leaves that state unchanged.

    Attributes:
        last: The remembered state, ``[B, S]`` each; empty before the first batch.
    """

    def __init__(
        self,
        kind: str,
        weights: tuple[Tensor, Tensor],
        *,
        sequence: bool,
        remember: bool,
        reset_after: bool,
    ) -> None:
        super().__init__()
        self.kind, self.sequence, self.reset_after = kind, sequence, reset_after
        self.remember = remember
        self.weight_input, self.weight_state = map(
            nn.Parameter, weights
        )  # [gates S, W], [gates S, S]
        self.bias = nn.Parameter(torch.zeros(weights[0].shape[0]))
        self.last: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the states ``[B, T, S]``, or the last one, ``[B, S]``."""
        if x.ndim == 4:
            x = x.squeeze(1)
        driven = F.linear(x, self.weight_input, self.bias)  # [B, T, gates S]
        state, states = self._start(x), []
        for step in driven.unbind(1):
            state = _STEPS[self.kind](self, step, state)
            states.append(state[0])
        if self.remember and self.training and self.tracking:
            self.last = tuple(part.detach() for part in state)
        return torch.stack(states, dim=1) if self.sequence else states[-1]

    def _start(self, x: Tensor) -> tuple[Tensor, ...]:
        last = self.last if self.training else ()
        if last and last[0].shape[0] == x.shape[0] and last[0].device == x.device:
            return last
        zero = x.new_zeros(x.shape[0], self.weight_state.shape[1])
        return (zero, zero) if self.kind == "LSTM" else (zero,)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Not a buffer: its shape depends on the last batch, and it does not exist before the first one.
        if self.last:
            destination[f"{prefix}last"] = torch.stack(self.last)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        last = state_dict.get(f"{prefix}last", torch.empty(0))
        shape = 2 if self.kind == "LSTM" else 1, self.weight_state.shape[1]
        fits = last.is_floating_point() and last.ndim == 3 and last.shape[::2] == shape
        if self.remember and fits:
            self.last = tuple(last.to(self.bias.device).unbind(0))
            del state_dict[f"{prefix}last"]
        else:
            # torch rejects a state that does not fit this layer as an unexpected key.
            self.last = ()
        super()._load_from_state_dict(state_dict, prefix, *others)


def _rnn(layer: Recurrent, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (torch.tanh(driven + F.linear(state[0], layer.weight_state)),)


def _lstm(layer: Recurrent, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    hidden, cell = state
    gates = driven + F.linear(hidden, layer.weight_state)
    enter, forget, leave, candidate = gates.chunk(4, dim=1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def _gru(layer: Recurrent, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (hidden,) = state
    weights = layer.weight_state.chunk(3)
    reset_in, update_in, candidate_in = driven.chunk(3, dim=1)
    reset = torch.sigmoid(reset_in + F.linear(hidden, weights[0]))
    update = torch.sigmoid(update_in + F.linear(hidden, weights[1]))
    if layer.reset_after:
        recalled = reset * F.linear(hidden, weights[2])
    else:
        recalled = F.linear(reset * hidden, weights[2])
    return (update * hidden + (1 - update) * torch.tanh(candidate_in + recalled),)


_STEPS = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}


class BatchNorm(Tracking):
    """Batch normalization; ``momentum`` is the fraction of the running mean that is kept, negative for a cumulative mean.

    Not ``nn.BatchNorm2d``: it normalizes the channel axis only, and cannot pause its running statistics in training mode.

    Attributes:
        values: Number of values per event that share a mean; a batch must contain at least two of them.
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(
        self, channels: int, *, values: int, momentum: float, epsilon: float, last_axis: bool
    ) -> None:
        super().__init__()
        self.values = values
        self.momentum, self.epsilon, self.last_axis = momentum, epsilon, last_axis
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the same shape."""
        if self.last_axis:
            return self._normalized(x.reshape(-1, x.shape[-1])).reshape(x.shape)
        return self._normalized(x)

    def _normalized(self, x: Tensor) -> Tensor:
        scale, shift = self.weight, self.bias
        if not self.training:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, scale, shift, eps=self.epsilon)
        # With a momentum of 1, torch writes this batch's mean and variance into these two.
        mean, var = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
        x = F.batch_norm(x, mean, var, scale, shift, training=True, momentum=1.0, eps=self.epsilon)
        if self.tracking:
            self._track(mean, var)
        return x

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        self.batches += 1
        new = (
            1 / self.batches if self.momentum < 0 else torch.ones_like(self.batches) - self.momentum
        )
        self.running_mean.lerp_(mean, new)
        self.running_var.lerp_(var, new)


class Attention(nn.Module):
    """Self-attention between the tokens of sequences ``[B, T, W]``, or the positions of images ``[B, W, …]``.

    Not ``F.scaled_dot_product_attention``: its fast kernels have no second derivative, which gradient penalties need.
    """

    def __init__(
        self, inputs: Weighted, outputs: Weighted, *, heads: int, positions: Tensor | None
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.heads = inputs, outputs, heads
        self.positions = None if positions is None else nn.Parameter(positions)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor of the same shape."""
        tokens = x if x.ndim == 3 else x.flatten(2).transpose(1, 2)
        if self.positions is not None:
            tokens = tokens + self.positions
        parts = self.inputs(tokens).chunk(3, dim=2)
        query, key, value = (p.unflatten(2, (self.heads, -1)).transpose(1, 2) for p in parts)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])  # [B, heads, T, T]
        mixed = (torch.softmax(scores, dim=3) @ value).transpose(1, 2).flatten(2)
        y: Tensor = self.outputs(mixed)
        return y if x.ndim == 3 else y.transpose(1, 2).reshape(x.shape)


class MinibatchDiscrimination(nn.Module):
    """Minibatch discrimination: per event and feature, the sum over the batch of exp(−L1 distance) of the projections."""

    def __init__(self, projection: Weighted, features: int, *, alone: bool, act: Activate) -> None:
        super().__init__()
        self.projection, self.features, self.alone, self.act = projection, features, alone, act

    def forward(self, x: Tensor) -> Tensor:
        """Returns the features, ``[B, features]``, appended to the flattened input unless ``alone``."""
        x = x.flatten(1)
        points = self.projection(x).reshape(
            x.shape[0], self.features, -1
        )  # [B, features, dimensions]
        # Not torch.cdist: it has no second derivative, which gradient penalties need.
        distance = (points.unsqueeze(0) - points.unsqueeze(1)).abs().sum(-1)  # [B, B, features]
        near = self.act(torch.exp(-distance).sum(1))
        return near if self.alone else torch.cat([x, near], dim=1)


def local(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    positions: tuple[int, ...],
) -> Tensor:
    """Returns the locally connected convolution of ``x[B, D, H, W]`` with ``weight[P, D · window, depth]``."""
    for axis in (2, 3):
        x = x.unfold(axis, kernel[axis - 2], stride[axis - 2])
    windows = x.permute(2, 3, 0, 1, 4, 5).reshape(
        weight.shape[0], x.shape[0], -1
    )  # [P, B, D · window]
    y = torch.bmm(windows, weight).permute(1, 2, 0)  # [B, depth, P]
    y = y.reshape(*y.shape[:2], *positions)
    return y if bias is None else y + bias


def padded(x: Tensor, sides: Sequence[tuple[int, int]], circular: Sequence[bool]) -> Tensor:
    """Returns ``x[B, D, ...]`` padded at both ends of its spatial axes, with zeros or circularly."""
    for axis, ((before, after), around) in enumerate(zip(sides, circular, strict=True), start=2):
        if around and before + after:
            length = x.shape[axis]
            head, tail = x.narrow(axis, length - before, before), x.narrow(axis, 0, after)
            x = torch.cat([head, x, tail], dim=axis)
    zeros = [(0, 0) if around else pair for pair, around in zip(sides, circular, strict=True)]
    flat = [side for pair in reversed(zeros) for side in pair]
    return F.pad(x, flat) if any(flat) else x


def total(x: Tensor) -> Tensor:
    """Returns the sum of all values, ``[B, 1]``."""
    return x.flatten(1).sum(1, keepdim=True)


def occupancy(x: Tensor, *, threshold: float, softness: float) -> Tensor:
    """Returns the fraction of values above ``threshold``, ``[B, 1]``; a ``softness`` > 0 replaces the step by a sigmoid of that width."""
    x = x.flatten(1)
    above = torch.sigmoid((x - threshold) / softness) if softness else (x > threshold).to(x.dtype)
    return above.mean(1, keepdim=True)


def with_minibatch_std(x: Tensor) -> Tensor:
    """Returns ``x`` with a constant channel: the standard deviation over the batch, averaged over all values."""
    variance = (x - x.mean(0)).square().mean(0)
    std = (variance + 1e-8).sqrt().mean()
    axis = 2 if x.ndim == 3 else 1
    shape = [1 if number == axis else length for number, length in enumerate(x.shape)]
    return torch.cat([x, std.expand(shape)], dim=axis)


def times(x: Tensor, c: Tensor, *, condition: int) -> Tensor:
    """Returns ``x`` multiplied by one condition."""
    return x * c[:, condition].reshape(-1, *[1] * (x.ndim - 1))


def balance(x: Tensor, c: Tensor, *, scale: float, limit: float, condition: int) -> Tensor:
    """Returns |sum − scale · condition| and, if that exceeds ``limit``, 10, else 0: ``[B, 2]``."""
    miss = (total(x) - scale * c[:, condition : condition + 1]).abs()
    return torch.cat([miss, 10 * (miss > limit).to(x.dtype)], dim=1)

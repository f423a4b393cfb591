"""Construction of a layout's ``torch.nn.Module``, and the builder of each layer word's module."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the customary alias
from torch import Tensor, nn

from hepgan.errors import LayoutError, RunError
from hepgan.layout.memory import check_memory
from hepgan.layout.nn import containers
from hepgan.layout.nn import modules as m
from hepgan.layout.nn.containers import Apply, ApplyConditions, Chain
from hepgan.layout.nn.initialization import initial_weights
from hepgan.layout.shapes import Step, shape_context, trace_steps
from hepgan.layout.spec import composite, convolution, dense_norm, physics, pooling, recurrent
from hepgan.layout.spec.base import (
    BUILDERS,
    INITIALIZATIONS,
    Activation,
    LayerSpec,
    Layout,
    Role,
    Shape,
    channel_axis,
    register_builder,
    size,
)
from hepgan.random_streams import Stream, torch_generator

INIT: dict[Role, Stream] = {"generator": "init_generator", "discriminator": "init_discriminator"}
"""Random stream of the initial weights, by role."""


class Network(nn.Module):
    """Module of a layout; ``forward(x, c)`` takes ``x[B, *input]`` (or flattened) and conditions ``c[B, C]``."""

    def __init__(self, layers: Chain, *, input: Shape, conditions: int) -> None:
        super().__init__()
        self.layers, self.input, self.conditions = layers, input, conditions

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns the output of the last layer.

        Raises:
            RunError: the network needs conditions, but ``c`` is None.
        """
        if c is None:
            if self.conditions:
                raise RunError(f"the network needs conditions c[B, {self.conditions}]")
            c = x.new_zeros(x.shape[0], 0)
        y: Tensor = self.layers(x.reshape(x.shape[0], *self.input), c, {})
        return y


def build(
    layout: Layout,
    *,
    input: Shape,
    seed: int,
    features: int = 0,
    conditions: int = 0,
    fields: Mapping[str, Shape] | None = None,
    outputs: int = 0,
    role: Role | None = None,
    initialization: str = "XAVIERUNIFORM",
) -> Network:
    """Builds the network of ``layout`` on the CPU, in training mode, with zero biases and weights drawn from ``seed``.

    The other arguments are those of ``shapes.trace``. PyTorch's global random state is not used.

    Raises:
        LayoutError: a layer does not fit its input or the available memory.
        RunError: the initialization is unknown, or the seed is not an integer from 0 to 2^64 − 1.
    """
    steps = trace_steps(
        layout, input, shape_context(input, features, conditions, fields, outputs, role)
    )
    check_memory(layout, steps)
    init = WeightInit(initialization, torch_generator(seed, INIT[role or "generator"]))
    with torch.no_grad():
        return Network(chain(steps, init), input=input, conditions=conditions)


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Context manager that disables updates of running statistics, spectral-norm vectors and recurrent states.

    Layers otherwise behave as in training: a batch is normalized by its own statistics.
    """
    tracking = [part for part in module.modules() if isinstance(part, m.Tracking) and part.tracking]
    for part in tracking:
        part.tracking = False
    try:
        yield
    finally:
        for part in tracking:
            part.tracking = True


class WeightInit(NamedTuple):
    """Weight initialization of a network: the default scheme and the random generator of all layers."""

    initialization: str
    generator: torch.Generator

    def draw(self, word: LayerSpec, *shape: int, fan_in: int, fan_out: int) -> Tensor:
        """Returns weights ``[..., outputs, inputs]``, initialized by the word's own flag or else by the network's scheme."""
        own = [flag for flag in word.flags if flag in INITIALIZATIONS]
        name = own[0] if own else self.initialization
        return initial_weights(
            name, shape, fan_in=fan_in, fan_out=fan_out, generator=self.generator
        )

    def weighted(
        self,
        word: LayerSpec,
        operation: Callable[..., Tensor],
        weight: Tensor,
        *,
        bias: tuple[int, ...],
        axis: int = 0,
    ) -> m.Weighted:
        """Returns the layer with bias and spectral norm by the word's flags; ``axis`` is the weight's output axis."""
        norm = m.SpectralNorm(weight, axis, self.generator) if "SN" in word.flags else None
        zeros = None if "NOBIAS" in word.flags else torch.zeros(bias)
        return m.Weighted(operation, weight, zeros, norm)


def chain(steps: tuple[Step, ...], init: WeightInit) -> Chain:
    """Returns the modules of ``steps`` in sequence.

    Raises:
        LayoutError: a layer word of a plugin has no builder.
    """
    for step in steps:
        if type(step.word) not in BUILDERS:
            raise LayoutError(
                f"the word {step.word.word} has no module: decorate its builder with @register_builder({type(step.word).__name__})"
            )
    return Chain([BUILDERS[type(step.word)](step.word, step, init) for step in steps])


def _activated(layer: nn.Module, activation: Activation) -> nn.Module:
    return layer if activation.name == "LINEAR" else nn.Sequential(layer, m.Activate(activation))


def _linear(word: LayerSpec, inputs: int, outputs: int, init: WeightInit) -> m.Weighted:
    weight = init.draw(word, outputs, inputs, fan_in=inputs, fan_out=outputs)
    return init.weighted(word, F.linear, weight, bias=(outputs,))


@register_builder(dense_norm.DenseSpec)
def _dense(word: dense_norm.DenseSpec, step: Step, init: WeightInit) -> nn.Module:
    linear: nn.Module = _linear(word, size(step.input), word.width, init)
    if len(step.input) > 1:
        linear = nn.Sequential(nn.Flatten(), linear)
    return _activated(linear, word.activation)


@register_builder(recurrent.RNNSpec, recurrent.LSTMSpec, recurrent.GRUSpec)
def _recurrent(word: recurrent.RecurrentSpec, _: Step, init: WeightInit) -> nn.Module:
    def drawn(inputs: int) -> Tensor:
        fans = {"fan_in": inputs, "fan_out": word.state}
        gates = [init.draw(word, word.state, inputs, **fans) for _ in range(word.gates)]
        return torch.cat(gates)

    return m.Recurrent(
        word.word,
        (drawn(word.inputs), drawn(word.state)),
        sequence=word.sequence,
        remember=word.remember,
        reset_after=isinstance(word, recurrent.GRUSpec) and word.reset_after,
    )


def _padding(word: convolution.SlidingSpec) -> Apply:
    sides = [(pad, pad) for pad in word.padding]
    return Apply(partial(m.padded, sides=sides, circular=word.circular))


@register_builder(convolution.ConvSpec, convolution.Conv3dSpec)
def _convolution(
    word: convolution.ConvSpec | convolution.Conv3dSpec, step: Step, init: WeightInit
) -> nn.Module:
    groups = word.groups if isinstance(word, convolution.ConvSpec) else 1
    depth, window = step.input[0] // groups, math.prod(word.kernel)
    fans = {"fan_in": depth * window, "fan_out": word.depth // groups * window}
    weight = init.draw(word, word.depth, depth * window, **fans)
    weight = weight.view(word.depth, depth, *word.kernel)
    function: Any = F.conv2d if len(word.kernel) == 2 else F.conv3d
    around = any(word.circular)
    padding = 0 if around else word.padding
    operation = partial(function, stride=word.stride, padding=padding, groups=groups)
    layer: nn.Module = init.weighted(word, operation, weight, bias=(word.depth,))
    return _activated(nn.Sequential(_padding(word), layer) if around else layer, word.activation)


@register_builder(convolution.LocalSpec)
def _local(word: convolution.LocalSpec, step: Step, init: WeightInit) -> nn.Module:
    layer = nn.Sequential(_padding(word), local_layer(word, step.input[0], step.output, init))
    return _activated(layer, word.activation)


def local_layer(
    word: convolution.LocalSpec, depth: int, output: tuple[int, ...], init: WeightInit
) -> m.Weighted:
    """Returns the locally connected layer from ``depth`` channels, already padded, to the shape ``output``."""
    positions, window = output[1:], math.prod(word.kernel)
    fans = {"fan_in": depth * window, "fan_out": word.depth * window}
    weight = init.draw(word, math.prod(positions), word.depth, depth * window, **fans)
    operation = partial(m.local, kernel=word.kernel, stride=word.stride, positions=positions)
    weight = weight.transpose(1, 2).contiguous()
    return init.weighted(word, operation, weight, bias=(word.depth, *positions), axis=2)


@register_builder(convolution.TConvSpec, convolution.TConv3dSpec)
def _transposed(
    word: convolution.TConvSpec | convolution.TConv3dSpec, step: Step, init: WeightInit
) -> nn.Module:
    depth, window = step.input[0], math.prod(word.kernel)
    fans = {"fan_in": depth * window, "fan_out": word.depth * window}
    weight = init.draw(word, word.depth, depth * window, **fans)
    weight = weight.view(word.depth, depth, *word.kernel).transpose(0, 1).contiguous()
    function: Any = F.conv_transpose2d if len(word.kernel) == 2 else F.conv_transpose3d
    operation = partial(function, stride=word.stride, padding=word.padding)
    layer = init.weighted(word, operation, weight, bias=(word.depth,), axis=1)
    return _activated(layer, word.activation)


@register_builder(pooling.MaxPoolSpec)
def _maxpool(word: pooling.MaxPoolSpec, _: Step, __: WeightInit) -> nn.Module:
    function: Any = F.max_pool3d if word.length else F.max_pool2d
    return Apply(partial(function, kernel_size=word.kernel, stride=word.stride))


@register_builder(pooling.AvgPoolSpec)
def _avgpool(word: pooling.AvgPoolSpec, _: Step, __: WeightInit) -> nn.Module:
    function: Any = F.avg_pool3d if word.length else F.avg_pool2d
    return Apply(partial(function, kernel_size=word.kernel, stride=word.stride))


@register_builder(pooling.AdaptiveSpec)
def _adaptive(word: pooling.AdaptiveSpec, step: Step, _: WeightInit) -> nn.Module:
    function: Any = F.adaptive_avg_pool3d if word.length else F.adaptive_avg_pool2d
    return Apply(partial(function, output_size=step.output[1:]))


@register_builder(pooling.UpsampleSpec)
def _upsample(word: pooling.UpsampleSpec, step: Step, _: WeightInit) -> nn.Module:
    mode = "bilinear" if "BILINEAR" in word.flags else "nearest"
    return Apply(partial(F.interpolate, size=list(step.output[1:]), mode=mode))


@register_builder(pooling.PadSpec)
def _pad(word: pooling.PadSpec, _: Step, __: WeightInit) -> nn.Module:
    top, bottom, left, right = word.sides
    circular = ["CIRCH" in word.flags, "CIRCW" in word.flags]
    return Apply(partial(m.padded, sides=[(top, bottom), (left, right)], circular=circular))


@register_builder(dense_norm.BatchNormSpec)
def _batch_norm(word: dense_norm.BatchNormSpec, step: Step, _: WeightInit) -> nn.Module:
    count = dense_norm.channel_count(step.input)
    last = len(step.input) > 1 and count == step.input[-1] and not dense_norm.is_image(step.input)
    values = math.prod(step.input) // count
    return m.BatchNorm(
        count, values=values, momentum=word.momentum, epsilon=word.epsilon, last_axis=last
    )


@register_builder(dense_norm.GroupNormSpec, dense_norm.InstanceNormSpec)
def _group_norm(
    word: dense_norm.GroupNormSpec | dense_norm.InstanceNormSpec, step: Step, _: WeightInit
) -> nn.Module:
    groups = word.groups if isinstance(word, dense_norm.GroupNormSpec) else step.input[0]
    return nn.GroupNorm(groups, step.input[0], eps=word.epsilon)


@register_builder(physics.CondSpec)
def _conditions(word: physics.CondSpec, step: Step, init: WeightInit) -> nn.Module:
    if not word.width:
        return containers.Conditions(None)
    linear = _linear(word, step.context.conditions, word.width, init)
    return containers.Conditions(_activated(linear, word.activation))


def _embedding(
    word: physics.ModulateSpec | physics.ProjectionSpec,
    step: Step,
    outputs: int,
    init: WeightInit,
    flag: str,
) -> nn.Module:
    """Returns the embedding of the conditions: a linear layer with a flag, after a hidden layer if the word has a width."""
    hidden, last = dataclasses.replace(word, flags=()), dataclasses.replace(word, flags=(flag,))
    conditions = step.context.conditions
    if not word.width:
        return _linear(last, conditions, outputs, init)
    first = _activated(_linear(hidden, conditions, word.width, init), word.activation)
    return nn.Sequential(first, _linear(last, word.width, outputs, init))


@register_builder(physics.ModulateSpec, physics.AdaptiveLayerNormSpec)
def _modulate(word: physics.ModulateSpec, step: Step, init: WeightInit) -> nn.Module:
    epsilon = word.epsilon if isinstance(word, physics.AdaptiveLayerNormSpec) else None
    outputs = 2 * step.input[channel_axis(step.input)]
    return containers.Modulate(_embedding(word, step, outputs, init, "ZERO"), epsilon=epsilon)


@register_builder(physics.ProjectionSpec)
def _projection(word: physics.ProjectionSpec, step: Step, init: WeightInit) -> nn.Module:
    features = size(step.input)
    embedding = _embedding(word, step, features, init, "NOBIAS")
    return containers.Projection(_linear(word, features, 1, init), embedding)


@register_builder(physics.MinibatchStdSpec)
def _minibatch_std(_: physics.MinibatchStdSpec, __: Step, ___: WeightInit) -> nn.Module:
    return Apply(m.with_minibatch_std)


@register_builder(composite.AttentionSpec)
def _attention(word: composite.AttentionSpec, step: Step, init: WeightInit) -> nn.Module:
    axis = channel_axis(step.input)
    width, tokens = step.input[axis], size(step.input) // step.input[axis]
    inner = dataclasses.replace(word, flags=())  # with ZERO everywhere no weight would ever change
    inputs, outputs = _linear(inner, width, 3 * width, init), _linear(word, width, width, init)
    positions = torch.zeros(tokens, width) if "POSITIONS" in word.flags else None
    return m.Attention(inputs, outputs, heads=word.heads, positions=positions)


@register_builder(physics.TimesSpec)
def _times(word: physics.TimesSpec, _: Step, __: WeightInit) -> nn.Module:
    return ApplyConditions(partial(m.times, condition=word.condition))


@register_builder(physics.BalanceSpec)
def _balance(word: physics.BalanceSpec, _: Step, __: WeightInit) -> nn.Module:
    function = partial(m.balance, scale=word.scale, limit=word.limit, condition=word.condition)
    return ApplyConditions(function)


@register_builder(physics.MinibatchDiscriminationSpec)
def _minibatch(
    word: physics.MinibatchDiscriminationSpec, step: Step, init: WeightInit
) -> nn.Module:
    projection = _linear(word, size(step.input), word.features * word.dimensions, init)
    act = m.Activate(word.activation)
    alone = "ALONE" in word.flags
    return m.MinibatchDiscrimination(projection, word.features, alone=alone, act=act)


@register_builder(composite.StreamSpec)
def _stream(word: composite.StreamSpec, step: Step, init: WeightInit) -> nn.Module:
    axis = composite.concatenation_axis(tuple(steps[-1].output for steps in step.branches))
    return containers.Stream(
        [chain(steps, init) for steps in step.branches],
        names=[branch.name for branch in word.branches],
        slices=_slices(word, step) if word.reads(step.context) else None,
        order=word.order(step.context),
        axis=None if axis is None else axis + 1,
    )


def _slices(word: composite.StreamSpec, step: Step) -> list[tuple[int, int, tuple[int, ...]]]:
    """Returns the columns of each branch's field in ``x[B, N]`` and the shape in which the branch reads it."""
    ends: dict[str, int] = {}
    total = 0
    for name, shape in step.context.fields.items():
        ends[name] = total = total + size(shape)
    return [
        (ends[branch.name] - size(steps[0].input), ends[branch.name], steps[0].input)
        for branch, steps in zip(word.branches, step.branches, strict=True)
    ]


@register_builder(composite.ResidualSpec)
def _residual(_: composite.ResidualSpec, step: Step, init: WeightInit) -> nn.Module:
    return containers.Residual([chain(steps, init) for steps in step.branches])


@register_builder(composite.AttendSpec)
def _attend(_: composite.AttendSpec, step: Step, init: WeightInit) -> nn.Module:
    word = convolution.LocalSpec(2, 3, 3, 1, 1, 1, 1)
    local = local_layer(word, 2, (2, *step.output[1:]), init)
    if local.bias is not None:
        local.bias[1] = composite.ATTEND_BIAS
    return containers.Attend(chain(step.branches[0], init), nn.Sequential(_padding(word), local))


@register_builder(dense_norm.ActSpec)
def _activation(word: dense_norm.ActSpec, _: Step, __: WeightInit) -> nn.Module:
    return m.Activate(word.activation)


@register_builder(dense_norm.ReshapeSpec)
def _reshape(_: dense_norm.ReshapeSpec, step: Step, __: WeightInit) -> nn.Module:
    unflatten = nn.Unflatten(1, step.output)
    return unflatten if len(step.input) == 1 else nn.Sequential(nn.Flatten(), unflatten)


@register_builder(dense_norm.LayerNormSpec)
def _layer_norm(word: dense_norm.LayerNormSpec, step: Step, _: WeightInit) -> nn.Module:
    return nn.LayerNorm(step.input, eps=word.epsilon)


@register_builder(dense_norm.DropoutSpec)
def _dropout(word: dense_norm.DropoutSpec, _: Step, __: WeightInit) -> nn.Module:
    return nn.Dropout(word.rate)


@register_builder(physics.ScaleSpec)
def _scale(word: physics.ScaleSpec, _: Step, __: WeightInit) -> nn.Module:
    return Apply(partial(torch.mul, other=word.factor))


@register_builder(physics.SumSpec)
def _sum(_: physics.SumSpec, __: Step, ___: WeightInit) -> nn.Module:
    return Apply(m.total)


@register_builder(physics.OccupancySpec)
def _occupancy(word: physics.OccupancySpec, _: Step, __: WeightInit) -> nn.Module:
    return Apply(partial(m.occupancy, threshold=word.threshold, softness=word.softness))


@register_builder(composite.FromSpec)
def _from(word: composite.FromSpec, _: Step, __: WeightInit) -> nn.Module:
    return containers.From(word.name)


@register_builder(composite.PassSpec)
def _pass(_: composite.PassSpec, __: Step, ___: WeightInit) -> nn.Module:
    return nn.Identity()

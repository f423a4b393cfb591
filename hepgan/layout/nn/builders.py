"""One builder a word: ``BUILDERS[type(word)](word, step, start)`` is its module."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own way to write it
from torch import Tensor, nn

from hepgan.layout.nn import containers, physics_ops
from hepgan.layout.nn import modules as m
from hepgan.layout.nn.containers import Apply, ApplyConditions, Chain
from hepgan.layout.nn.initialization import initial
from hepgan.layout.shapes import Step
from hepgan.layout.spec import composite, convolution, dense_norm, physics, pooling, recurrent
from hepgan.layout.spec.base import INITIALIZATIONS, Activation, LayerSpec, size


class WeightInit(NamedTuple):
    """How weights begin: the network's initialisation and the generator that all are drawn from."""

    initialization: str
    generator: torch.Generator

    def draw(self, word: LayerSpec, *shape: int, fan_in: int, fan_out: int) -> Tensor:
        """Weights ``[..., outputs, inputs]`` as the word's own flag says, else the network's."""
        own = [flag for flag in word.flags if flag in INITIALIZATIONS]
        name = own[0] if own else self.initialization
        return initial(name, shape, fan_in=fan_in, fan_out=fan_out, generator=self.generator)

    def weighted(
        self,
        word: LayerSpec,
        operation: Callable[..., Tensor],
        weight: Tensor,
        *,
        bias: tuple[int, ...],
        axis: int = 0,
    ) -> m.Weighted:
        """The layer with its bias and spectral norm as flagged; ``axis`` is that of the weight's outputs."""
        norm = m.SpectralNorm(weight, axis, self.generator) if "SN" in word.flags else None
        zeros = None if "NOBIAS" in word.flags else torch.zeros(bias)
        return m.Weighted(operation, weight, zeros, norm)


def chain(steps: tuple[Step, ...], start: WeightInit) -> Chain:
    """The modules of ``steps`` one behind the other."""
    return Chain([BUILDERS[type(step.word)](step.word, step, start) for step in steps])


def _activated(layer: nn.Module, activation: Activation) -> nn.Module:
    return layer if activation.name == "LINEAR" else nn.Sequential(layer, m.Activate(activation))


def _linear(word: LayerSpec, inputs: int, outputs: int, start: WeightInit) -> m.Weighted:
    weight = start.draw(word, outputs, inputs, fan_in=inputs, fan_out=outputs)
    return start.weighted(word, F.linear, weight, bias=(outputs,))


def _dense(word: dense_norm.DenseSpec, step: Step, start: WeightInit) -> nn.Module:
    linear: nn.Module = _linear(word, size(step.input), word.width, start)
    if len(step.input) > 1:
        linear = nn.Sequential(nn.Flatten(), linear)
    return _activated(linear, word.activation)


def _recurrent(word: recurrent.RecurrentSpec, _: Step, start: WeightInit) -> nn.Module:
    def drawn(inputs: int) -> Tensor:
        fans = {"fan_in": inputs, "fan_out": word.state}
        gates = [start.draw(word, word.state, inputs, **fans) for _ in range(word.gates)]
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


def _convolution(
    word: convolution.ConvSpec | convolution.Conv3dSpec, step: Step, start: WeightInit
) -> nn.Module:
    groups = word.groups if isinstance(word, convolution.ConvSpec) else 1
    depth, window = step.input[0] // groups, math.prod(word.kernel)
    fans = {"fan_in": depth * window, "fan_out": word.depth // groups * window}
    weight = start.draw(word, word.depth, depth * window, **fans)
    weight = weight.view(word.depth, depth, *word.kernel)
    function: Any = F.conv2d if len(word.kernel) == 2 else F.conv3d
    around = any(word.circular)
    padding = 0 if around else word.padding
    operation = partial(function, stride=word.stride, padding=padding, groups=groups)
    layer: nn.Module = start.weighted(word, operation, weight, bias=(word.depth,))
    return _activated(nn.Sequential(_padding(word), layer) if around else layer, word.activation)


def _local(word: convolution.LocalSpec, step: Step, start: WeightInit) -> nn.Module:
    layer = nn.Sequential(_padding(word), local_layer(word, step.input[0], step.output, start))
    return _activated(layer, word.activation)


def local_layer(
    word: convolution.LocalSpec, depth: int, output: tuple[int, ...], start: WeightInit
) -> m.Weighted:
    """The locally connected layer from ``depth`` images, already padded, to ``output``."""
    places, window = output[1:], math.prod(word.kernel)
    fans = {"fan_in": depth * window, "fan_out": word.depth * window}
    weight = start.draw(word, math.prod(places), word.depth, depth * window, **fans)
    operation = partial(m.local, kernel=word.kernel, stride=word.stride, places=places)
    weight = weight.transpose(1, 2).contiguous()
    return start.weighted(word, operation, weight, bias=(word.depth, *places), axis=2)


def _transposed(
    word: convolution.TConvSpec | convolution.TConv3dSpec, step: Step, start: WeightInit
) -> nn.Module:
    depth, window = step.input[0], math.prod(word.kernel)
    fans = {"fan_in": depth * window, "fan_out": word.depth * window}
    weight = start.draw(word, word.depth, depth * window, **fans)
    weight = weight.view(word.depth, depth, *word.kernel).transpose(0, 1).contiguous()
    function: Any = F.conv_transpose2d if len(word.kernel) == 2 else F.conv_transpose3d
    operation = partial(function, stride=word.stride, padding=word.padding)
    layer = start.weighted(word, operation, weight, bias=(word.depth,), axis=1)
    return _activated(layer, word.activation)


def _maxpool(word: pooling.MaxPoolSpec, _: Step, __: WeightInit) -> nn.Module:
    function: Any = F.max_pool3d if word.length else F.max_pool2d
    return Apply(partial(function, kernel_size=word.kernel, stride=word.stride))


def _avgpool(word: pooling.AvgPoolSpec, _: Step, __: WeightInit) -> nn.Module:
    function: Any = F.avg_pool3d if word.length else F.avg_pool2d
    return Apply(partial(function, kernel_size=word.kernel, stride=word.stride))


def _adaptive(word: pooling.AdaptiveSpec, step: Step, _: WeightInit) -> nn.Module:
    function: Any = F.adaptive_avg_pool3d if word.length else F.adaptive_avg_pool2d
    return Apply(partial(function, output_size=step.output[1:]))


def _upsample(word: pooling.UpsampleSpec, step: Step, _: WeightInit) -> nn.Module:
    mode = "bilinear" if "BILINEAR" in word.flags else "nearest"
    return Apply(partial(F.interpolate, size=list(step.output[1:]), mode=mode))


def _pad(word: pooling.PadSpec, _: Step, __: WeightInit) -> nn.Module:
    top, bottom, left, right = word.sides
    circular = ["CIRCH" in word.flags, "CIRCW" in word.flags]
    return Apply(partial(m.padded, sides=[(top, bottom), (left, right)], circular=circular))


def _batch_norm(word: dense_norm.BatchNormSpec, step: Step, _: WeightInit) -> nn.Module:
    count = dense_norm.channel_count(step.input)
    last = len(step.input) > 1 and count == step.input[-1] and not dense_norm.is_image(step.input)
    values = math.prod(step.input) // count
    return m.BatchNorm(
        count, values=values, momentum=word.momentum, epsilon=word.epsilon, last_axis=last
    )


def _group_norm(
    word: dense_norm.GroupNormSpec | dense_norm.InstanceNormSpec, step: Step, _: WeightInit
) -> nn.Module:
    groups = word.groups if isinstance(word, dense_norm.GroupNormSpec) else step.input[0]
    return m.GroupNorm(groups, step.input[0], word.epsilon)


def _conditions(word: physics.CondSpec, step: Step, start: WeightInit) -> nn.Module:
    if not word.width:
        return containers.Conditions(None)
    linear = _linear(word, step.setting.conditions, word.width, start)
    return containers.Conditions(_activated(linear, word.activation))


def _times(word: physics.TimesSpec, _: Step, __: WeightInit) -> nn.Module:
    return ApplyConditions(partial(physics_ops.times, condition=word.condition))


def _balance(word: physics.BalanceSpec, _: Step, __: WeightInit) -> nn.Module:
    function = partial(
        physics_ops.balance, scale=word.scale, limit=word.limit, condition=word.condition
    )
    return ApplyConditions(function)


def _minibatch(
    word: physics.MinibatchDiscriminationSpec, step: Step, start: WeightInit
) -> nn.Module:
    projection = _linear(word, size(step.input), word.features * word.dimensions, start)
    act = m.Activate(word.activation)
    alone = "ALONE" in word.flags
    return m.MinibatchDiscrimination(projection, word.features, alone=alone, act=act)


def _stream(word: composite.StreamSpec, step: Step, start: WeightInit) -> nn.Module:
    axis = composite.concatenation_axis(tuple(steps[-1].output for steps in step.branches))
    return containers.Stream(
        [chain(steps, start) for steps in step.branches],
        names=[branch.name for branch in word.branches],
        slices=_slices(word, step) if word.reads(step.setting) else None,
        order=word.order(step.setting),
        axis=None if axis is None else axis + 1,
    )


def _slices(word: composite.StreamSpec, step: Step) -> list[tuple[int, int, tuple[int, ...]]]:
    """Where each branch's field stands in ``x[B, N]``, and the shape in which the branch takes it."""
    ends: dict[str, int] = {}
    total = 0
    for name, shape in step.setting.fields.items():
        ends[name] = total = total + size(shape)
    return [
        (ends[branch.name] - size(steps[0].input), ends[branch.name], steps[0].input)
        for branch, steps in zip(word.branches, step.branches, strict=True)
    ]


def _residual(_: composite.ResidualSpec, step: Step, start: WeightInit) -> nn.Module:
    return containers.Residual([chain(steps, start) for steps in step.branches])


def _attend(_: composite.AttendSpec, step: Step, start: WeightInit) -> nn.Module:
    word = convolution.LocalSpec(2, 3, 3, 1, 1, 1, 1)
    local = local_layer(word, 2, (2, *step.output[1:]), start)
    if local.bias is not None:
        local.bias[1] = composite.ATTEND_BIAS
    return containers.Attend(chain(step.branches[0], start), nn.Sequential(_padding(word), local))


#: A builder for each word; the modules of the parameterless ones are functions.
BUILDERS: dict[type[LayerSpec], Callable[[Any, Step, WeightInit], nn.Module]] = {
    dense_norm.DenseSpec: _dense,
    dense_norm.ActSpec: lambda word, _, __: m.Activate(word.activation),
    dense_norm.ReshapeSpec: lambda _, step, __: (
        nn.Unflatten(1, step.output)
        if len(step.input) == 1
        else nn.Sequential(nn.Flatten(), nn.Unflatten(1, step.output))
    ),
    dense_norm.BatchNormSpec: _batch_norm,
    dense_norm.LayerNormSpec: lambda word, step, _: nn.LayerNorm(step.input, eps=word.epsilon),
    dense_norm.GroupNormSpec: _group_norm,
    dense_norm.InstanceNormSpec: _group_norm,
    dense_norm.DropoutSpec: lambda word, _, __: nn.Dropout(word.rate),
    recurrent.RNNSpec: _recurrent,
    recurrent.LSTMSpec: _recurrent,
    recurrent.GRUSpec: _recurrent,
    convolution.ConvSpec: _convolution,
    convolution.Conv3dSpec: _convolution,
    convolution.LocalSpec: _local,
    convolution.TConvSpec: _transposed,
    convolution.TConv3dSpec: _transposed,
    pooling.MaxPoolSpec: _maxpool,
    pooling.AvgPoolSpec: _avgpool,
    pooling.AdaptiveSpec: _adaptive,
    pooling.UpsampleSpec: _upsample,
    pooling.PadSpec: _pad,
    physics.CondSpec: _conditions,
    physics.TimesSpec: _times,
    physics.ScaleSpec: lambda word, _, __: Apply(partial(torch.mul, other=word.factor)),
    physics.SumSpec: lambda _, __, ___: Apply(physics_ops.total),
    physics.OccupancySpec: lambda word, _, __: Apply(
        partial(physics_ops.occupancy, threshold=word.threshold, softness=word.softness)
    ),
    physics.BalanceSpec: _balance,
    physics.MinibatchDiscriminationSpec: _minibatch,
    composite.StreamSpec: _stream,
    composite.ResidualSpec: _residual,
    composite.AttendSpec: _attend,
    composite.FromSpec: lambda word, _, __: containers.From(word.name),
    composite.PassSpec: lambda _, __, ___: nn.Identity(),
}

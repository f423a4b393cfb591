"""Shapes, parameter counts and multiply-adds of a layout, without torch and before any data is read."""

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from hepgan.errors import LayoutError
from hepgan.layout.parser import parse
from hepgan.layout.spec.arguments import spans
from hepgan.layout.spec.base import (
    Branch,
    ContainerSpec,
    LayerSpec,
    Layout,
    Role,
    Shape,
    ShapeContext,
    format_shape,
    size,
)
from hepgan.layout.spec.composite import StreamSpec
from hepgan.layout.spec.dense_norm import ReshapeSpec
from hepgan.layout.spec.diagnostics import MisfitError, error_at
from hepgan.layout.spec.formula import LARGEST
from hepgan.layout.spec.physics import CONDITIONED, CondSpec


class LayerInfo(NamedTuple):
    """A line of the table of layers.

    Attributes:
        word: The layer as layouts write it, its formulas evaluated; of a stream or block the brackets alone.
        output: The shape of what it gives.
        parameters: The numbers that it holds, running statistics among them, as Keras and the papers count.
        operations: Multiply-adds of its weights for one event.
        statistics: How many of the parameters are running statistics, which no optimizer trains.
        branch: The path of streams that it stands in: ``layer_0``, ``1/layer_0``; empty outside.
    """

    word: str
    output: Shape
    parameters: int
    operations: int
    statistics: int = 0
    branch: str = ""


class Step(NamedTuple):
    """A word in its place: with evaluated formulas, what reaches it, what it gives, and its branches' steps."""

    word: LayerSpec
    input: Shape
    output: Shape
    setting: ShapeContext
    branches: tuple[tuple["Step", ...], ...] = ()


def trace(
    layout: Layout,
    *,
    input: Shape,
    features: int = 0,
    conditions: int = 0,
    fields: Mapping[str, Shape] | None = None,
    outputs: int = 0,
    role: Role | None = None,
) -> list[LayerInfo]:
    """One line a layer, in the order of the layout; those of a stream's branches stand before the stream's own.

    Args:
        layout: The network.
        input: The shape of one event at its input.
        features: ``N``, the values of an event; 0 takes those of ``fields``, else of ``input``.
        conditions: ``C``; where the layout never says where they go, they are concatenated at the input.
        fields: The shape of each field of the event, in order.
        outputs: The values that the network has to give: the width of a DENSE that has none.
        role: Whether branches named after fields make or read them; without it they read them where the event's ``N``
            values reach their stream untouched.

    Raises:
        LayoutError: a layer that does not fit what reaches it, with its place in the layout's text.
    """
    steps = trace_steps(
        layout, input, shape_context(input, features, conditions, fields, outputs, role)
    )
    return layer_table(steps)


def shape_context(
    input: Shape,
    features: int = 0,
    conditions: int = 0,
    fields: Mapping[str, Shape] | None = None,
    outputs: int = 0,
    role: Role | None = None,
) -> ShapeContext:
    """What a network's first word finds around it; the arguments are those of ``trace``."""
    fields = fields or {}
    if not input or any(length < 1 for length in input):
        raise LayoutError(f"an input of shape {input}; each size must be at least 1")
    if size(input) > LARGEST:
        raise LayoutError(
            f"an input of shape {format_shape(input)[:60]} has more values than any network could take"
        )
    features = features or sum(map(size, fields.values())) or size(input)
    untouched = role == "discriminator" or (role is None and size(input) == features)
    return ShapeContext(features, conditions, outputs, fields, role, untouched)


def trace_steps(layout: Layout, shape: Shape, setting: ShapeContext) -> tuple[Step, ...]:
    """The layout's words in their places, once formulas and conditions are settled."""
    if not layout.text:
        layout = parse(str(layout))
    if setting.conditions and not _says_conditions(layout):
        layout = _conditioned(layout)
    return _walk(layout, shape, setting)


def _walk(layout: Layout, shape: Shape, setting: ShapeContext) -> tuple[Step, ...]:
    steps: list[Step] = []
    for word in layout:
        try:
            steps.append(_step(word, shape, setting))
        except MisfitError as fault:
            start, end = spans(word, *fault.fields) or (0, len(layout.text))
            raise error_at(str(fault), layout.text, start, end) from None
        shape = steps[-1].output
        setting = dataclasses.replace(setting, untouched=False)
    return tuple(steps)


def _step(word: LayerSpec, shape: Shape, setting: ShapeContext) -> Step:
    if not isinstance(word, ContainerSpec):
        word = word.resolved(setting)
        output = word.output(shape, setting)
        if size(output) > LARGEST:
            raise MisfitError(f"its output {format_shape(output)} is larger than any memory")
        return Step(word, shape, output, setting)
    made = dict(setting.made)
    branches: list[tuple[Step, ...]] = []
    for branch in word.branches:
        entered = word.enter(branch, shape, setting)
        reads = isinstance(word, StreamSpec) and word.reads(setting)
        untouched = setting.untouched and not reads
        inner = dataclasses.replace(setting, made=MappingProxyType(made), untouched=untouched)
        branches.append(_walk(branch.layout, entered, inner))
        if branch.name:
            made[branch.name] = branches[-1][-1].output
    output = word.join(tuple(steps[-1].output for steps in branches), shape, setting)
    return Step(word, shape, output, setting, tuple(branches))


def _says_conditions(layout: Layout) -> bool:
    return any(
        isinstance(word, CONDITIONED)
        or (
            isinstance(word, ContainerSpec)
            and any(_says_conditions(b.layout) for b in word.branches)
        )
        for word in layout
    )


def _conditioned(layout: Layout) -> Layout:
    """COND in front, but behind a RESHAPE, whose sizes are meant without the conditions.

    It goes inside of a leading stream, so that branches named after fields still read them.
    """
    first, rest = layout.words[0], layout.words[1:]
    if isinstance(first, ReshapeSpec):
        inner = _conditioned(Layout(rest, layout.text)).words if rest else (CondSpec(),)
        return Layout((first, *inner), layout.text)
    if isinstance(first, StreamSpec):
        branches = tuple(
            Branch(_conditioned(branch.layout), branch.name) for branch in first.branches
        )
        return Layout((dataclasses.replace(first, branches=branches), *rest), layout.text)
    return Layout((CondSpec(places=first.places), *layout.words), layout.text)


def layer_table(steps: tuple[Step, ...]) -> list[LayerInfo]:
    """The table of a network's layers."""
    return list(_lines(steps, ""))


def _lines(steps: tuple[Step, ...], branch: str) -> Iterator[LayerInfo]:
    for step in steps:
        word, text = step.word, str(step.word)
        if isinstance(word, ContainerSpec):
            for number, (part, inner) in enumerate(zip(word.branches, step.branches, strict=True)):
                name = part.name or f"{word.word}{number}"
                yield from _lines(inner, f"{branch}/{name}" if branch else name)
            text = f"{word.word}[{'; '.join(b.name or '…' for b in word.branches)}]"
        yield LayerInfo(
            text,
            step.output,
            word.parameters(step.input, step.setting),
            word.operations(step.input, step.setting),
            word.statistics(step.input),
            branch,
        )

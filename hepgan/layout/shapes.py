"""Shapes, parameter counts and multiply-adds of a layout, without torch and before any data is read."""

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from hepgan.errors import LayoutError, with_caret
from hepgan.layout.parser import parse
from hepgan.layout.spec.base import (
    Branch,
    ContainerSpec,
    LayerSpec,
    Layout,
    MisfitError,
    Role,
    Shape,
    ShapeContext,
    format_shape,
    size,
)
from hepgan.layout.spec.composite import StreamSpec
from hepgan.layout.spec.dense_norm import ReshapeSpec
from hepgan.layout.spec.formula import LARGEST
from hepgan.layout.spec.physics import CondSpec


class LayerInfo(NamedTuple):
    """A row of the layer table.

    Attributes:
        word: The layer as written in layouts, with formulas evaluated; streams and blocks without their contents.
        output: Output shape.
        parameters: Parameter count including running statistics, as in Keras and the papers.
        operations: Multiply-adds of the weights for one event.
        statistics: Number of running statistics among the parameters, which are not trained.
        branch: Path of the enclosing branches, such as ``layer_0`` or ``1/layer_0``; empty outside of streams.
    """

    word: str
    output: Shape
    parameters: int
    operations: int
    statistics: int = 0
    branch: str = ""


class Step(NamedTuple):
    """A layer with evaluated formulas, its input and output shapes, its context and its branches' steps."""

    word: LayerSpec
    input: Shape
    output: Shape
    context: ShapeContext
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
    """Returns one row per layer, in the order of the layout; a stream follows the rows of its branches.

    Args:
        layout: The network.
        input: Shape of one event at the network's input.
        features: ``N``, the number of values of an event; 0 counts those of ``fields``, or else of ``input``.
        conditions: ``C``; a layout without a word for conditions takes them at its input.
        fields: Shapes of the event's fields, in order.
        outputs: Number of outputs of the network: the width of a DENSE without one.
        role: Whether branches named after fields generate or read them; without it, they read them if the stream's input is the
            event's ``N`` values.

    Raises:
        LayoutError: a layer does not fit its input; with its position in the layout's text.
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
    """Returns the context of a network's first layer; the arguments are those of ``trace``."""
    fields = fields or {}
    if not input or any(length < 1 for length in input):
        raise LayoutError(f"invalid input shape {input}: each size must be at least 1")
    if size(input) > LARGEST:
        raise LayoutError(
            f"the input of shape {format_shape(input)[:60]} is too large: at most {LARGEST:,} values"
        )
    features = features or sum(map(size, fields.values())) or size(input)
    is_raw_event = role == "discriminator" or (role is None and size(input) == features)
    return ShapeContext(features, conditions, outputs, fields, role, is_raw_event)


def trace_steps(layout: Layout, shape: Shape, context: ShapeContext) -> tuple[Step, ...]:
    """Returns the layers with their shapes, after evaluating formulas and placing the conditions."""
    if not layout.text:
        layout = parse(str(layout))
    if context.conditions and not _uses_conditions(layout):
        layout = _with_conditions(layout)
    return _walk(layout, shape, context)


def _walk(layout: Layout, shape: Shape, context: ShapeContext) -> tuple[Step, ...]:
    steps: list[Step] = []
    for word in layout:
        try:
            steps.append(_step(word, shape, context))
        except MisfitError as fault:
            start, end = word.span(*fault.fields) or (0, len(layout.text))
            raise LayoutError(with_caret(str(fault), layout.text, start, end)) from None
        shape = steps[-1].output
        context = dataclasses.replace(context, is_raw_event=False)
    return tuple(steps)


def _step(word: LayerSpec, shape: Shape, context: ShapeContext) -> Step:
    if not isinstance(word, ContainerSpec):
        word = word.resolved(context)
        output = word.output(shape, context)
        if size(output) > LARGEST:
            raise MisfitError(f"its output {format_shape(output)} exceeds any memory")
        return Step(word, shape, output, context)
    branch_outputs = dict(context.branch_outputs)
    branches: list[tuple[Step, ...]] = []
    for branch in word.branches:
        branch_shape = word.branch_input(branch, shape, context)
        reads = isinstance(word, StreamSpec) and word.reads(context)
        is_raw_event = context.is_raw_event and not reads
        inner = dataclasses.replace(
            context, branch_outputs=MappingProxyType(branch_outputs), is_raw_event=is_raw_event
        )
        branches.append(_walk(branch.layout, branch_shape, inner))
        if branch.name:
            branch_outputs[branch.name] = branches[-1][-1].output
    output = word.combine(tuple(steps[-1].output for steps in branches), shape, context)
    return Step(word, shape, output, context, tuple(branches))


def _uses_conditions(layout: Layout) -> bool:
    return any(
        word.uses_conditions
        or (
            isinstance(word, ContainerSpec)
            and any(_uses_conditions(b.layout) for b in word.branches)
        )
        for word in layout
    )


def _with_conditions(layout: Layout) -> Layout:
    """Returns ``layout`` with COND in front, or after a leading RESHAPE, whose sizes do not include the conditions.

    A leading stream takes it inside its branches, so that those named after fields still read them.
    """
    first, rest = layout.words[0], layout.words[1:]
    if isinstance(first, ReshapeSpec):
        inner = _with_conditions(Layout(rest, layout.text)).words if rest else (CondSpec(),)
        return Layout((first, *inner), layout.text)
    if isinstance(first, StreamSpec):
        branches = tuple(
            Branch(_with_conditions(branch.layout), branch.name) for branch in first.branches
        )
        return Layout((dataclasses.replace(first, branches=branches), *rest), layout.text)
    return Layout((CondSpec(spans=first.spans), *layout.words), layout.text)


def layer_table(steps: tuple[Step, ...]) -> list[LayerInfo]:
    """Returns the layer table of a network."""
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
            word.parameters(step.input, step.context),
            word.operations(step.input, step.context),
            word.statistics(step.input),
            branch,
        )

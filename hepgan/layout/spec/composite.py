"""Layer words that contain networks: streams ``[a; b]``, residual blocks ``RES[a]``, attention; and FROM and PASS."""

import dataclasses

from hepgan.errors import clipped, did_you_mean
from hepgan.layout.spec.base import (
    INITIALIZATIONS,
    Branch,
    ContainerSpec,
    LayerSpec,
    MisfitError,
    Shape,
    ShapeContext,
    at_least,
    channel_axis,
    format_shape,
    register_layer,
    size,
)

#: Initial bias of the branch's weight, such that attention starts with the image alone.
ATTEND_BIAS = -10.0


@register_layer
@dataclasses.dataclass(frozen=True)
class StreamSpec(ContainerSpec):
    """Parallel branches on the same input, with concatenated outputs.

    Images of one size are concatenated along their depth, sequences of one length along their width, everything else flat.
    A branch named after a field of the event reads that field if the stream's input is the event itself (in a discriminator),
    and generates it otherwise (in a generator); generated fields are put in the order of the event's fields.
    """

    word = ""

    @classmethod
    def spellings(cls) -> list[str]:
        """Returns the brackets, without a word."""
        return ["[network; …]"]

    def branch_input(self, branch: Branch, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the field's shape if the branch reads one (a field of two axes is an image of depth 1), else ``shape``."""
        if not self.named_after_fields(context):
            return shape
        if self.reads(context):
            field = context.fields[branch.name] or (1,)
            return (1, *field) if len(field) == 2 else field
        if context.role == "discriminator":
            message = (
                f"'{branch.name}' reads a field of the event, so its stream must be the first layer"
            )
            raise MisfitError(message, branch_key(self, branch))
        return shape

    def combine(self, outputs: tuple[Shape, ...], shape: Shape, context: ShapeContext) -> Shape:
        """Returns the concatenated shape."""
        if self.named_after_fields(context) and not self.reads(context):
            self._check_fields(outputs, context)
        axis = concatenation_axis(outputs)
        if axis is None:
            return (sum(map(size, outputs)),)
        total = sum(output[axis] for output in outputs)
        return (*outputs[0][:axis], total, *outputs[0][axis + 1 :])

    def reads(self, context: ShapeContext) -> bool:
        """Returns whether the branches read the event's fields."""
        return context.is_raw_event and self.named_after_fields(context)

    def named_after_fields(self, context: ShapeContext) -> bool:
        """Returns whether the branches are named after fields: all of them or none."""
        known = [branch for branch in self.branches if branch.name in context.fields]
        for branch in self.branches if known else ():
            if branch.name not in context.fields:
                near = did_you_mean(branch.name, context.fields)
                subject = (
                    f"'{clipped(branch.name)}' is not a field of the event"
                    if branch.name
                    else "a branch has no name"
                )
                message = f"{subject}, but other branches are named after fields{near}"
                raise MisfitError(message, branch_key(self, branch))
        return bool(known)

    def order(self, context: ShapeContext) -> tuple[int, ...]:
        """Returns the branches in the order of their outputs: that of the fields, if they are named after fields."""
        numbers = range(len(self.branches))
        if not self.named_after_fields(context):
            return tuple(numbers)
        fields = list(context.fields)
        return tuple(sorted(numbers, key=lambda i: fields.index(self.branches[i].name)))

    def _check_fields(self, outputs: tuple[Shape, ...], context: ShapeContext) -> None:
        names = [branch.name for branch in self.branches]
        for name in context.fields:
            if name not in names:
                raise MisfitError(f"no branch generates the event's field '{name}'", "")
        for branch, output in zip(self.branches, outputs, strict=True):
            field = context.fields[branch.name]
            if size(output) != size(field):
                message = f"'{branch.name}' is {format_shape(field or (1,))} = {size(field)} values, but the output of its branch is "
                raise MisfitError(
                    f"{message}{format_shape(output)} = {size(output)}", branch_key(self, branch)
                )


@register_layer
@dataclasses.dataclass(frozen=True)
class ResidualSpec(ContainerSpec):
    """``RES[a]`` is x + a(x) (arXiv:1512.03385); ``RES[a; b; …]`` is the sum of the branches, without x."""

    word = "RES"

    def combine(self, outputs: tuple[Shape, ...], shape: Shape, context: ShapeContext) -> Shape:
        """Returns the common shape of all terms."""
        terms = (shape, *outputs) if len(outputs) == 1 else outputs
        for branch, output in zip(self.branches[-len(terms[1:]) :], terms[1:], strict=True):
            if output != terms[0]:
                message = f"cannot add {format_shape(output)} to {format_shape(terms[0])}"
                hint = (
                    "; a second branch (RES[a; b]) can bring x to that shape"
                    if len(outputs) == 1
                    else ""
                )
                raise MisfitError(message + hint, branch_key(self, branch))
        return terms[0]


@register_layer
@dataclasses.dataclass(frozen=True)
class AttendSpec(ContainerSpec):
    """CaloGAN's attention: per-cell weighted average of the image and its branch, both of depth 1.

    The weights are the softmax of a locally connected 3 × 3 layer on both; its bias of −10 for the branch makes it start with
    the image alone (arXiv:1712.10321, section III B).
    """

    word = "ATTEND"

    def combine(self, outputs: tuple[Shape, ...], shape: Shape, context: ShapeContext) -> Shape:
        """Returns the shape of the image."""
        if len(self.branches) != 1:
            raise MisfitError("ATTEND takes one network", "")
        if len(shape) != 3 or shape[0] != 1:
            raise MisfitError(
                f"ATTEND needs an image of depth 1, but its input is {format_shape(shape)}", ""
            )
        if outputs[0] != shape:
            message = f"ATTEND averages images of one size, but the branch's output is {format_shape(outputs[0])} and the input "
            raise MisfitError(f"{message}{format_shape(shape)}", branch_key(self, self.branches[0]))
        return shape

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts two 3 × 3 windows on two images and two biases for each cell."""
        return size(shape) * (2 * 9 * 2 + 2)

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts each weight once."""
        return size(shape) * 2 * 9 * 2


@register_layer
@dataclasses.dataclass(frozen=True)
class AttentionSpec(LayerSpec):
    """Self-attention with ``heads`` heads (arXiv:1706.03762) between the positions of an image or voxel grid, or the steps of a sequence.

    The width of the tokens is the number of channels. ``RES[LNORM, ATTENTION|4|ZERO]`` starts as the identity: with ZERO the weights of
    the output are 0. POSITIONS adds a trained vector to each token, without which attention does not depend on their order.
    """

    word = "ATTENTION"
    forms = (("heads",),)
    known_flags = (INITIALIZATIONS, ("POSITIONS",))
    heads: int = at_least(1)

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the input shape."""
        if len(shape) < 2:
            raise MisfitError(
                f"ATTENTION needs tokens, a sequence length|width or an image, but its input is {format_shape(shape)}",
                "",
            )
        if shape[channel_axis(shape)] % self.heads:
            raise MisfitError(
                f"{self.heads} heads do not divide the {shape[channel_axis(shape)]} channels of {format_shape(shape)}",
                "heads",
            )
        return shape

    def parameters(self, shape: Shape, context: ShapeContext) -> int:
        """Counts queries, keys, values and output, with biases, and the vectors of the positions."""
        width = shape[channel_axis(shape)]
        return 4 * width * (width + 1) + ("POSITIONS" in self.flags) * size(shape)

    def operations(self, shape: Shape, context: ShapeContext) -> int:
        """Counts the weights for each token, and the products of queries with keys and of weights with values."""
        width = shape[channel_axis(shape)]
        tokens = size(shape) // width
        return 4 * tokens * width**2 + 2 * tokens**2 * width


@register_layer
@dataclasses.dataclass(frozen=True)
class FromSpec(LayerSpec):
    """Output of a named branch further left in the enclosing streams, in place of the input: ``FROM|layer_0``."""

    word = "FROM"
    name: str

    @classmethod
    def spellings(cls) -> list[str]:
        """Returns the word with the name of a branch."""
        return ["FROM|name"]

    def __str__(self) -> str:
        return f"FROM|{self.name}"

    def output(self, shape: Shape, context: ShapeContext) -> Shape:
        """Returns the output shape of the branch."""
        if self.name not in context.branch_outputs:
            near = did_you_mean(self.name, context.branch_outputs)
            message = f"no branch '{clipped(self.name)}' further left{near}"
            raise MisfitError(message, "name")
        return context.branch_outputs[self.name]


@register_layer
@dataclasses.dataclass(frozen=True)
class PassSpec(LayerSpec):
    """Identity, for a branch that passes its input on next to the others."""

    word = "PASS"


def branch_key(word: ContainerSpec, branch: Branch) -> str:
    """Returns the key of ``branch`` in the word's ``spans``."""
    return f"[{next(i for i, b in enumerate(word.branches) if b is branch)}]"


def concatenation_axis(outputs: tuple[Shape, ...]) -> int | None:
    """Returns the axis along which outputs are concatenated; ``None`` if they are flattened first."""
    ranks = {len(output) for output in outputs}
    if len(ranks) != 1:
        return None
    axis = channel_axis(outputs[0])
    others = {output[:axis] + output[axis + 1 :] for output in outputs}
    return axis if len(others) == 1 else None

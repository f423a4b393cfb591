"""The words that hold networks: streams ``[a; b]``, residual blocks ``RES[a]`` and attention between layers, and FROM."""

import dataclasses

from hepgan.errors import did_you_mean
from hepgan.layout.spec.base import (
    Branch,
    ContainerSpec,
    LayerSpec,
    Shape,
    ShapeContext,
    format_shape,
    size,
)
from hepgan.layout.spec.diagnostics import MisfitError, clipped

#: With this bias on the branch's side, attention starts with the image alone.
ATTEND_BIAS = -10.0


@dataclasses.dataclass(frozen=True)
class StreamSpec(ContainerSpec):
    """Branches side by side on the same input, their outputs concatenated.

    Images of one size are concatenated along their depth, sequences of one length along their width, everything else flat.
    A branch that has the name of an event's field reads that field where the event itself reaches the stream (in a
    discriminator), and makes it elsewhere (in a generator); what is made is put in the fields' order.
    """

    word = ""

    def enter(self, branch: Branch, shape: Shape, setting: ShapeContext) -> Shape:
        """The field's shape where the branch reads one; a field of two axes is an image of depth 1."""
        if not self.named_after_fields(setting):
            return shape
        if self.reads(setting):
            field = setting.fields[branch.name] or (1,)
            return (1, *field) if len(field) == 2 else field
        if setting.role == "discriminator":
            message = (
                f"'{branch.name}' reads a field of the event, so nothing may come before its stream"
            )
            raise MisfitError(message, branch_key(self, branch))
        return shape

    def join(self, outputs: tuple[Shape, ...], shape: Shape, setting: ShapeContext) -> Shape:
        """The concatenated shape."""
        if self.named_after_fields(setting) and not self.reads(setting):
            self._check_made(outputs, setting)
        axis = concatenation_axis(outputs)
        if axis is None:
            return (sum(map(size, outputs)),)
        total = sum(output[axis] for output in outputs)
        return (*outputs[0][:axis], total, *outputs[0][axis + 1 :])

    def reads(self, setting: ShapeContext) -> bool:
        """Whether the branches read the event's fields."""
        return setting.untouched and self.named_after_fields(setting)

    def named_after_fields(self, setting: ShapeContext) -> bool:
        """Whether the branches bear fields' names: all or none of them."""
        known = [branch for branch in self.branches if branch.name in setting.fields]
        for branch in self.branches if known else ():
            if branch.name not in setting.fields:
                near = did_you_mean(branch.name, setting.fields)
                who = (
                    f"'{clipped(branch.name)}' is no field of the event"
                    if branch.name
                    else "no name"
                )
                message = f"{who}, unlike the other branches' names{near}"
                raise MisfitError(message, branch_key(self, branch))
        return bool(known)

    def order(self, setting: ShapeContext) -> tuple[int, ...]:
        """The branches in the order of their outputs: the fields' where they are named after fields."""
        numbers = range(len(self.branches))
        if not self.named_after_fields(setting):
            return tuple(numbers)
        fields = list(setting.fields)
        return tuple(sorted(numbers, key=lambda i: fields.index(self.branches[i].name)))

    def _check_made(self, outputs: tuple[Shape, ...], setting: ShapeContext) -> None:
        made = [branch.name for branch in self.branches]
        for name in setting.fields:
            if name not in made:
                raise MisfitError(f"no branch makes the event's field '{name}'", "")
        for branch, output in zip(self.branches, outputs, strict=True):
            field = setting.fields[branch.name]
            if size(output) != size(field):
                message = f"'{branch.name}' is {format_shape(field or (1,))} = {size(field)} values, but its branch makes "
                raise MisfitError(
                    f"{message}{format_shape(output)} = {size(output)}", branch_key(self, branch)
                )


@dataclasses.dataclass(frozen=True)
class ResidualSpec(ContainerSpec):
    """``RES[a]`` is x + a(x) (arXiv:1512.03385); ``RES[a; b; …]`` is the sum of the branches, without x."""

    word = "RES"

    def join(self, outputs: tuple[Shape, ...], shape: Shape, setting: ShapeContext) -> Shape:
        """The shape that all terms have."""
        terms = (shape, *outputs) if len(outputs) == 1 else outputs
        for branch, output in zip(self.branches[-len(terms[1:]) :], terms[1:], strict=True):
            if output != terms[0]:
                message = f"cannot add {format_shape(output)} to {format_shape(terms[0])}"
                hint = (
                    "; a second branch (RES[a; b]) may bring x to that shape"
                    if len(outputs) == 1
                    else ""
                )
                raise MisfitError(message + hint, branch_key(self, branch))
        return terms[0]


@dataclasses.dataclass(frozen=True)
class AttendSpec(ContainerSpec):
    """CaloGAN's attention: image and branch (of one size, depth 1 each) mixed by weights for each cell.

    The weights are the softmax of a locally connected 3 × 3 layer that sees both; its bias of −10 on the branch's side
    lets it start with the image alone (arXiv:1712.10321, section III B).
    """

    word = "ATTEND"

    def join(self, outputs: tuple[Shape, ...], shape: Shape, setting: ShapeContext) -> Shape:
        """The image's shape."""
        if len(self.branches) != 1:
            raise MisfitError("ATTEND takes one network", "")
        if len(shape) != 3 or shape[0] != 1:
            raise MisfitError(
                f"ATTEND needs an image of depth 1, but {format_shape(shape)} reaches it", ""
            )
        if outputs[0] != shape:
            message = f"ATTEND mixes images of one size, but the branch makes {format_shape(outputs[0])} and "
            raise MisfitError(
                f"{message}{format_shape(shape)} reaches it", branch_key(self, self.branches[0])
            )
        return shape

    def parameters(self, shape: Shape, setting: ShapeContext) -> int:
        """For each cell two 3 × 3 windows on two images, and two biases."""
        return size(shape) * (2 * 9 * 2 + 2)

    def operations(self, shape: Shape, setting: ShapeContext) -> int:
        """The weights once each."""
        return size(shape) * 2 * 9 * 2


@dataclasses.dataclass(frozen=True)
class FromSpec(LayerSpec):
    """The output of a named branch further left in the enclosing streams, in place of the input: ``FROM|layer_0``."""

    word = "FROM"
    name: str

    def __str__(self) -> str:
        return f"FROM|{self.name}"

    def output(self, shape: Shape, setting: ShapeContext) -> Shape:
        """The branch's output shape."""
        if self.name not in setting.made:
            near = did_you_mean(self.name, setting.made)
            message = f"no branch '{clipped(self.name)}' is made further left{near}"
            raise MisfitError(message, "name")
        return setting.made[self.name]


@dataclasses.dataclass(frozen=True)
class PassSpec(LayerSpec):
    """The input as it is: for a branch that carries it on beside what others make of it."""

    word = "PASS"


def branch_key(word: ContainerSpec, branch: Branch) -> str:
    """The name under which the place of ``branch`` in the text is kept."""
    return f"[{next(i for i, b in enumerate(word.branches) if b is branch)}]"


def concatenation_axis(outputs: tuple[Shape, ...]) -> int | None:
    """The axis along which outputs are concatenated; ``None`` where they are flattened first."""
    ranks = {len(output) for output in outputs}
    if len(ranks) != 1:
        return None
    axis = channel_axis(outputs[0])
    others = {output[:axis] + output[axis + 1 :] for output in outputs}
    return axis if len(others) == 1 else None


def channel_axis(shape: Shape) -> int:
    """Where a shape takes more of its kind: an image in its depth, a sequence in its width."""
    return 1 if len(shape) == 2 else 0


WORDS: tuple[type[LayerSpec], ...] = (StreamSpec, ResidualSpec, AttendSpec, FromSpec, PassSpec)

"""Modules that combine other modules, conditions ``c[B, C]`` or the outputs of named branches.

A plain layer is called with ``x``; a ``Contextual`` one with ``(x, c, branch_outputs)``.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

_BranchOutputs = Mapping[str, Tensor]


class Contextual(nn.Module):
    """Base class of modules whose ``forward`` takes ``(x, c, branch_outputs)``."""


class Apply(nn.Module):
    """Function of ``x`` without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``function(x)``."""
        return self.function(x)


class ApplyConditions(Contextual):
    """Function of ``x`` and ``c`` without weights."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns ``function(x, c)``."""
        del branch_outputs
        return self.function(x, c)


class Chain(Contextual):
    """Layers in sequence."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns the output of the last layer."""
        for layer in self.layers:
            x = layer(x, c, branch_outputs) if isinstance(layer, Contextual) else layer(x)
        return x


class Conditions(Contextual):
    """Concatenation of ``x`` and the conditions, or their embedding, along the channel axis."""

    def __init__(self, embedding: nn.Module | None) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns ``x`` with more features (flat, sequences) or channels (images)."""
        del branch_outputs
        c = c if self.embedding is None else self.embedding(c)
        if x.ndim == 3:
            return torch.cat([x, c[:, None].expand(-1, x.shape[1], -1)], dim=2)
        image = c.reshape(*c.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return torch.cat([x, image], dim=1)


class Modulate(Contextual):
    """Scale and shift of each channel from the conditions, after a layer normalization unless ``epsilon`` is ``None``."""

    def __init__(self, embedding: nn.Module, *, epsilon: float | None) -> None:
        super().__init__()
        self.embedding, self.epsilon = embedding, epsilon

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns a tensor of the same shape."""
        del branch_outputs
        if self.epsilon is not None:
            x = nn.functional.layer_norm(x, x.shape[1:], eps=self.epsilon)
        values = self.embedding(c)
        if x.ndim == 3:
            scale, shift = values[:, None].chunk(2, dim=2)
        else:
            scale, shift = values.reshape(*values.shape, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        y: Tensor = x * (1 + scale) + shift
        return y


class Projection(Contextual):
    """Linear function of the flattened ``x`` plus its product with an embedding of the conditions."""

    def __init__(self, linear: nn.Module, embedding: nn.Module) -> None:
        super().__init__()
        self.linear, self.embedding = linear, embedding

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns ``[B, 1]``."""
        del branch_outputs
        x = x.flatten(1)
        y: Tensor = self.linear(x) + (x * self.embedding(c)).sum(1, keepdim=True)
        return y


class Stream(Contextual):
    """Parallel branches on the input, or on one slice of it each, concatenated along ``axis`` (flattened if None)."""

    def __init__(
        self,
        branches: Sequence[Chain],
        *,
        names: Sequence[str],
        slices: Sequence[tuple[int, int, tuple[int, ...]]] | None,
        order: Sequence[int],
        axis: int | None,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.names, self.slices, self.order, self.axis = names, slices, order, axis

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns the concatenated outputs, in ``order``."""
        outputs = []
        for number, branch in enumerate(self.branches):
            y = branch(self._part(x, number), c, branch_outputs)
            branch_outputs = {**branch_outputs, self.names[number]: y}
            outputs.append(y if self.axis is not None else y.flatten(1))
        return torch.cat([outputs[number] for number in self.order], dim=self.axis or 1)

    def _part(self, x: Tensor, number: int) -> Tensor:
        if self.slices is None:
            return x
        first, last, shape = self.slices[number]
        return x.flatten(1)[:, first:last].reshape(x.shape[0], *shape)


class Residual(Contextual):
    """Sum of several branches, or of ``x`` and a single branch."""

    def __init__(self, branches: Sequence[Chain]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns the sum."""
        terms = [branch(x, c, branch_outputs) for branch in self.branches]
        total: Tensor = x + terms[0] if len(terms) == 1 else terms[0]
        for term in terms[1:]:
            total = total + term
        return total


class Attend(Contextual):
    """Average of an image and the branch's output, with per-pixel weights computed from both by ``local``."""

    def __init__(self, branch: Chain, local: nn.Module) -> None:
        super().__init__()
        self.branch, self.local = branch, local

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns ``[B, 1, H, W]``."""
        both = torch.cat([x, self.branch(x, c, branch_outputs)], dim=1)
        weights: Tensor = torch.softmax(self.local(both), dim=1)
        return (both * weights).sum(1, keepdim=True)


class From(Contextual):
    """Output of a named branch, in place of the input."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor, c: Tensor, branch_outputs: _BranchOutputs) -> Tensor:
        """Returns the output of that branch."""
        del x, c
        return branch_outputs[self.name]

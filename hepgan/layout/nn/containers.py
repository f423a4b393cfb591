"""The torch modules that see more than ``x``: the conditions ``c[B, C]`` and the outputs of named branches.

A plain layer is called with ``x``; a ``Contextual`` one with ``(x, c, made)``.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

_Made = Mapping[str, Tensor]


class Contextual(nn.Module):
    """A module whose ``forward`` takes ``(x, c, made)``."""


class Apply(nn.Module):
    """A function of ``x`` without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """``function(x)``."""
        return self.function(x)


class ApplyConditions(Contextual):
    """A function of ``x`` and ``c`` without weights."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, c: Tensor, made: _Made) -> Tensor:
        """``function(x, c)``."""
        del made
        return self.function(x, c)


class Chain(Contextual):
    """Layers one behind the other."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, c: Tensor, made: _Made) -> Tensor:
        """The last layer's output."""
        for layer in self.layers:
            x = layer(x, c, made) if isinstance(layer, Contextual) else layer(x)
        return x


class Conditions(Contextual):
    """The conditions, embedded where ``embedding`` is given, beside ``x`` on its axis for them."""

    def __init__(self, embedding: nn.Module | None) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, x: Tensor, c: Tensor, made: _Made) -> Tensor:
        """``x`` wider (flat, sequences) or deeper (images)."""
        del made
        c = c if self.embedding is None else self.embedding(c)
        if x.ndim == 3:
            return torch.cat([x, c[:, None].expand(-1, x.shape[1], -1)], dim=2)
        image = c.reshape(*c.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return torch.cat([x, image], dim=1)


class Stream(Contextual):
    """Branches on the same input, or each on its ``slices`` of it, concatenated along ``axis`` of the batch (flat if None)."""

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

    def forward(self, x: Tensor, c: Tensor, made: _Made) -> Tensor:
        """All outputs in ``order``."""
        outputs = []
        for number, branch in enumerate(self.branches):
            y = branch(self._part(x, number), c, made)
            made = {**made, self.names[number]: y}
            outputs.append(y if self.axis is not None else y.flatten(1))
        return torch.cat([outputs[number] for number in self.order], dim=self.axis or 1)

    def _part(self, x: Tensor, number: int) -> Tensor:
        if self.slices is None:
            return x
        first, last, shape = self.slices[number]
        return x.flatten(1)[:, first:last].reshape(x.shape[0], *shape)


class Residual(Contextual):
    """The sum of the branches; ``x`` and the branch where there is but one."""

    def __init__(self, branches: Sequence[Chain]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor, c: Tensor, made: _Made) -> Tensor:
        """The sum."""
        terms = [branch(x, c, made) for branch in self.branches]
        total: Tensor = x + terms[0] if len(terms) == 1 else terms[0]
        for term in terms[1:]:
            total = total + term
        return total


class Attend(Contextual):
    """An image and its branch's, mixed by weights that ``local`` sees in both."""

    def __init__(self, branch: Chain, local: nn.Module) -> None:
        super().__init__()
        self.branch, self.local = branch, local

    def forward(self, x: Tensor, c: Tensor, made: _Made) -> Tensor:
        """``[B, 1, H, W]``."""
        both = torch.cat([x, self.branch(x, c, made)], dim=1)
        shares: Tensor = torch.softmax(self.local(both), dim=1)
        return (both * shares).sum(1, keepdim=True)


class From(Contextual):
    """What a named branch has made."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor, c: Tensor, made: _Made) -> Tensor:
        """That branch's output."""
        del x, c
        return made[self.name]

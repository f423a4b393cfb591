"""Two networks as one: a generator in two stages, and two discriminators side by side."""

import torch
from torch import Tensor, nn


class TwoStages(nn.Module):
    """A generator of energies, and one of cells that is given them; ``forward(noise, c)`` gives cells and energies behind them.

    Args:
        energies: ``noise[B, …], c[B, C]`` -> ``[B, A]``; ``None`` takes the noise as it is.
        cells: ``noise[B, …], c[B, C + A]`` -> ``[B, F - A]``.
        first: How many numbers of the noise are the first stage's.
    """

    def __init__(self, energies: nn.Module | None, cells: nn.Module, *, first: int) -> None:
        super().__init__()
        self.energies, self.cells, self.first = energies, cells, first

    def forward(self, noise: Tensor, c: Tensor) -> Tensor:
        """``x[B, F]``."""
        energies, rest = noise[:, : self.first], noise[:, self.first :]
        if self.energies is not None:
            energies = self.energies(energies, c).flatten(1)
        cells = self.cells(rest, torch.cat([c, energies], 1))
        return torch.cat([cells.flatten(1), energies], 1)


class TwoDiscriminators(nn.Module):
    """One discriminator of all and one of the energies; ``forward(seen, c)`` gives the logits of both, ``[B, 2]``.

    Args:
        whole: ``seen[B, S], c[B, C]`` -> ``[B, 1]``.
        energies: ``[B, A], c[B, C]`` -> ``[B, 1]``.
        place: The columns of ``seen`` that are the energies.
    """

    def __init__(self, whole: nn.Module, energies: nn.Module, *, place: slice) -> None:
        super().__init__()
        self.whole, self.energies, self.place = whole, energies, place

    def forward(self, seen: Tensor, c: Tensor) -> Tensor:
        """Logits ``[B, 2]``."""
        parts = self.whole(seen, c), self.energies(seen[:, self.place], c)
        return torch.cat([part.flatten(1) for part in parts], 1)

"""Combinations of two networks: a generator in two stages, and two discriminators of the same events."""

import torch
from torch import Tensor, nn


class TwoStages(nn.Module):
    """Generator of energies followed by a generator of cells, which is conditioned on the energies.

    Args:
        energies: First stage, ``noise[B, …], c[B, C] -> [B, A]``; with ``None`` the noise itself is the energies.
        cells: Second stage, ``noise[B, …], c[B, C + A] -> [B, F - A]``.
        energy_noise: Number of noise values of the first stage; they come first.
    """

    def __init__(self, energies: nn.Module | None, cells: nn.Module, *, energy_noise: int) -> None:
        super().__init__()
        self.energies, self.cells, self.energy_noise = energies, cells, energy_noise

    def forward(self, noise: Tensor, c: Tensor) -> Tensor:
        """Returns ``x[B, F]``: the cells, followed by the energies."""
        energies, rest = noise[:, : self.energy_noise], noise[:, self.energy_noise :]
        if self.energies is not None:
            energies = self.energies(energies, c).flatten(1)
        cells = self.cells(rest, torch.cat([c, energies], 1))
        return torch.cat([cells.flatten(1), energies], 1)


class TwoDiscriminators(nn.Module):
    """Discriminator of the whole event and discriminator of its energies, side by side.

    Args:
        whole: Discriminator of the whole input, ``[B, S], c[B, C] -> [B, 1]``.
        energies: Discriminator of the energies, ``[B, A], c[B, C] -> [B, 1]``.
        energy_columns: Columns of the input that are the energies.
    """

    def __init__(self, whole: nn.Module, energies: nn.Module, *, energy_columns: slice) -> None:
        super().__init__()
        self.whole, self.energies, self.energy_columns = whole, energies, energy_columns

    def forward(self, features: Tensor, c: Tensor) -> Tensor:
        """Returns the logits ``[B, 2]`` of both."""
        logits = self.whole(features, c), self.energies(features[:, self.energy_columns], c)
        return torch.cat([column.flatten(1) for column in logits], 1)

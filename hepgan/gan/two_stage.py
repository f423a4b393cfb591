"""Combinations of networks: a generator in two stages, and several discriminators of the same events."""

from collections.abc import Sequence

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


class Discriminators(nn.Module):
    """Discriminators side by side, each of some columns of the input; there may be none.

    Args:
        networks: Discriminators, ``[B, n], c[B, C] -> [B, 1]``.
        columns: The n columns of each.
    """

    def __init__(self, networks: Sequence[nn.Module], columns: Sequence[slice]) -> None:
        super().__init__()
        self.networks, self.columns = nn.ModuleList(networks), tuple(columns)

    def forward(self, features: Tensor, c: Tensor) -> Tensor:
        """Returns the logits ``[B, K]`` of all K."""
        pairs = zip(self.networks, self.columns, strict=True)
        logits = [net(features[:, part], c).flatten(1) for net, part in pairs]
        return torch.cat([features[:, :0], *logits], 1)

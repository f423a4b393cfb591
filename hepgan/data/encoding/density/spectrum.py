"""Correction of the spectra of small cell energies, whose lines a smooth distribution of fractions cannot describe."""

import dataclasses
from typing import Self

import torch
from torch import Tensor

from hepgan.data.encoding.base import NAMES, tensor_record
from hepgan.data.encoding.density.kernels import mapped_spectrum
from hepgan.data.encoding.kernels import use_kernels
from hepgan.data.encoding.weighted import quantiles

ENERGY_FRACTION = 0.05
"""Cells are small if, in order of energy, they hold this fraction of their layer's energy on average."""

KNOTS = 2000
PER_KNOT = 50
"""Smallest number of cells per knot."""

_STRIDE = 64.0
"""Distance of two layers in the keys; logarithms of energies over the threshold are smaller."""


@tensor_record
@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Map of small cell energies, layer by layer, by their ranks; large cells are scaled to keep the sum of their layer.

    Lines are reproduced exactly: energies that many reference cells share are those of several knots. A layer of an event in which large
    cells hold less than half of the energy is left unchanged.

    Attributes:
        threshold: Smallest energy of a cell.
        layer: ``[F]``, layer of each cell.
        limits: ``[L]``, largest small energy.
        knots: ``[K]``, layer of each knot.
        generated: ``[K]``, generated energies, increasing within a layer.
        reference: ``[K]``, reference energies of the same ranks.
    """

    threshold: float
    layer: Tensor
    limits: Tensor
    knots: Tensor
    generated: Tensor
    reference: Tensor

    @classmethod
    def fit(
        cls,
        generated: Tensor,
        reference: Tensor,
        layer: Tensor,
        threshold: float,
        weights: Tensor | None = None,
    ) -> Self:
        """Returns the map between the spectra of two samples ``[E, F]``; layers with few cells are left unchanged.

        The samples have the same conditions, and the same ``weights[E]``.
        """
        limits, knots = [], []
        for number in range(int(layer.max()) + 1):
            one, other = (x[:, layer == number] for x in (generated, reference))
            limit = _small_limit(other[other > 0], threshold)
            small = [(x > 0) & (x < limit) for x in (one, other)]
            of_cells = [None if weights is None else weights[at.nonzero()[:, 0]] for at in small]
            one, other = (
                x[at].clamp_min(threshold).double()
                for x, at in zip((one, other), small, strict=True)
            )
            count = min(KNOTS, min(len(one), len(other)) // PER_KNOT)
            if any(w is not None and w.sum() <= 0 for w in of_cells):
                count = 0
            limits.append(limit if count >= 2 else threshold)
            first, last = torch.tensor([[threshold], [limit]], dtype=torch.float64)
            pair = [torch.cat([first, last])] * 2
            if count >= 2:
                ranks = torch.linspace(0, 1, count + 1, dtype=torch.float64)
                pair = [
                    torch.cat([first, quantiles(x[:, None], ranks, w)[:, 0], last])
                    for x, w in zip((one, other), of_cells, strict=True)
                ]
            knots.append(torch.stack([torch.full_like(pair[0], number), *pair]))
        layers, old, new = torch.cat(knots, 1)
        return cls(threshold, layer, torch.tensor(limits), layers.long(), old.float(), new.float())

    @classmethod
    def identity(cls, layer: Tensor, threshold: float) -> Self:
        """Returns the map that leaves all layers unchanged."""
        none = torch.zeros(0, len(layer))
        return cls.fit(none, none, layer, threshold)

    def to_reference(self, cells: Tensor) -> Tensor:
        """Returns ``cells[E, F]`` with the spectra of the reference; differentiable."""
        return self._mapped(cells, self.generated, self.reference)

    def to_generated(self, cells: Tensor) -> Tensor:
        """Inverts ``to_reference``."""
        return self._mapped(cells, self.reference, self.generated)

    def _mapped(self, cells: Tensor, old: Tensor, new: Tensor) -> Tensor:
        if use_kernels(cells, old, new):
            return mapped_spectrum(
                cells, self.layer, self.limits, self.knots, old, new, self.threshold
            )
        small = (cells > 0) & (cells < self.limits[self.layer])
        logs = torch.log((cells / self.threshold).clamp_min(1))
        old_logs = torch.log((old / self.threshold).clamp_min(1))
        # Both sums are rounded in the same way: a small energy is never after the last knot of its layer.
        keys = logs.detach() + _STRIDE * self.layer
        high = torch.searchsorted(old_logs + _STRIDE * self.knots, keys.contiguous())
        high = high.clamp(1, len(old) - 1)
        within = self.knots[high - 1] == self.layer  # not an energy at the threshold
        low_old, low_new = old_logs[high - 1], torch.where(within, new[high - 1], new[high])
        # The knots of a line coincide; their slope is limited.
        part = ((logs - low_old) / (old_logs[high] - low_old).clamp_min(1e-5)).clamp(0, 1)
        # Exact on a line, where the ratio is 1.
        mapped = low_new * (new[high] / low_new) ** part
        changed = torch.where(small, mapped, torch.zeros_like(cells))
        large = torch.where(small, torch.zeros_like(cells), cells)
        total, of_changed, of_large = (self._sums(x) for x in (cells, changed, large))
        scale = (total - of_changed) / of_large.clamp_min(1e-30)
        # The same for a layer before and after the map: mostly large cells, which stay large.
        shrunk = (large > 0) & (large * scale[:, self.layer] < self.limits[self.layer])
        usable = (torch.minimum(of_large, total - of_changed) > 0.5 * total) & (
            self._sums(shrunk.to(cells)) == 0
        )
        kept = usable[:, self.layer]
        return torch.where(kept, changed + large * scale[:, self.layer], cells)

    def _sums(self, cells: Tensor) -> Tensor:
        return cells.new_zeros(cells.shape[0], len(self.limits)).index_add(1, self.layer, cells)


NAMES[Spectrum] = "spectrum"  # saved with steps, but not a step of run files


def _small_limit(energies: Tensor, threshold: float) -> float:
    """Returns the energy below which the smallest of ``energies[N]`` hold ``ENERGY_FRACTION`` of their sum."""
    if not len(energies):
        return threshold
    ordered = energies.double().sort().values
    below = ordered.cumsum(0) <= ENERGY_FRACTION * ordered.sum()
    return float(ordered[below.sum().clamp_max(len(ordered) - 1)])

"""FastCaloSim (``fcs-proj/FastCaloSim``, and Athena's ``ISF_FastCaloSimEvent``): networks of ``TFCSGANEtaSlice`` read by ``TFCSONNXHandler``.

FastCaloSim has a network for each particle and slice in η, in a file whose name says which: the name of the exported file is
that name.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepgan.errors import RunError
from hepgan.gan.export.hosts import (
    Array,
    HostModel,
    Layers,
    check_conditions,
    incident_energy,
    register_host,
)
from hepgan.gan.model import GAN

MASSES = {22: 0.0, 11: 0.51099895, 211: 139.57039, 2212: 938.27209}
"""Masses of the particles with networks of their own, by PDG id [MeV]."""

MOMENTA = {"High12": (12, 22), "UltraLow12": (6, 12), "All": (8, 22), "High10": (10, 22)}
"""Ranges of momentum by the last part of the file's name, as powers of 2 [MeV]."""

RANGES = {
    22: ("High12", "UltraLow12"),
    11: ("High12", "UltraLow12"),
    211: ("All",),
    2212: ("High10",),
}
"""Networks of each particle."""

VERSION = 2
"""Version of the network in the binning: networks of version 1 have one condition, others two, of which the second is 0."""

SPECIAL_BINS = 32
"""Number of bins in α that FastCaloSim takes for a number that varies with r."""

_NAME = re.compile(r"neural_net_(\d+)_eta_(\d+)_(\d+)_(\w+)")

BINNING = """\
<!-- Voxels of the GAN in {model}, written by hepgan {version}; add it to the binning.xml of your networks. -->
<Bins>
  <Particle name="{pid}" pid="{xml_pid}" latentDim="{noise}" symmetriseAlpha="false">
    <Bin regionId="0" etaMin="{low}" etaMax="{high}" ganVersion="{gan_version}">
{layers}
    </Bin>
  </Particle>
</Bins>
"""


@dataclasses.dataclass(frozen=True)
class Slice:
    """Particle, slice in η and range of momentum of a network.

    Attributes:
        pid: PDG id.
        eta: Edges in η, times 100.
        momenta: Name of the range of momentum.
    """

    pid: int
    eta: tuple[int, int]
    momenta: str

    @classmethod
    def of(cls, path: Path) -> "Slice":
        """Returns the slice of a file.

        Raises:
            RunError: FastCaloSim does not open a file of that name.
        """
        match = _NAME.fullmatch(path.stem)
        pid = int(match[1]) if match else 0
        if not match or match[4] not in RANGES.get(pid, ()) or int(match[3]) != int(match[2]) + 5:
            known = "; ".join(f"{pid}: {' or '.join(names)}" for pid, names in RANGES.items())
            raise RunError(
                f"FastCaloSim does not open a network called '{path.name}'; name it neural_net_22_eta_20_25_High12.onnx: the PDG id,"
                f" |η| times 100 in a slice of 5, and the range of momentum ({known})"
            )
        return cls(pid, (int(match[2]), int(match[3])), match[4])

    @property
    def kinetic(self) -> tuple[float, float]:
        """Kinetic energies of the range of momentum [MeV]."""
        mass = MASSES[self.pid]
        low, high = (math.hypot(2.0**power, mass) - mass for power in MOMENTA[self.momenta])
        return low, high


@register_host("fastcalosim")
class FastCaloSim(HostModel):
    """Inputs ``Noise[1, Z]``, normal with mean and standard deviation 0.5, and ``mycond[1, 2]``, log(E / E₁) / log(E₂ / E₁) and 0.

    E₁ and E₂ are the kinetic energies at both ends of the range of momentum. One output ``out[1, voxels]``: fractions of the kinetic
    energy, by layer in order of their numbers, then r, and α fastest.
    """

    title = "FastCaloSim"
    inputs = ("Noise", "mycond")
    outputs = ("out",)

    def __init__(self, gan: GAN, *, fixed: Mapping[str, float], path: Path) -> None:
        super().__init__(gan, fixed=fixed, path=path)
        self.slice = Slice.of(path)
        self.energy, self.energy_unit = incident_energy(self)
        check_conditions(self, (self.energy,))
        self.layers = Layers.of(gan, self)
        self.numbers = [
            number for i, layer in enumerate(self.layers) for number in _numbers(layer, i)
        ]
        for layer in self.layers:
            _check_voxels(layer)
        if len(set(self.numbers)) < len(self.numbers):
            raise RunError(
                f"FastCaloSim needs different numbers of layers, but they are {', '.join(map(str, self.numbers))}; give each a"
                " [geometry.<field>] number"
            )
        low, high = self._range()
        if low >= high:
            first, last = (e / 1e3 for e in self.slice.kinetic)
            raise RunError(
                f"FastCaloSim calls {path.name} for {first:g} to {last:g} GeV, but the GAN was trained for {self.scales[self.energy]}"
                f" {self.schema.conditions[self.energy].unit}; choose another range of momentum"
            )
        self.order = np.argsort(self.numbers, kind="stable").tolist()

    def _range(self) -> tuple[float, float]:
        """Returns the kinetic energies that both the network and the GAN cover [MeV]."""
        trained = [limit * self.energy_unit for limit in self.scales[self.energy].range]
        first, last = self.slice.kinetic
        return max(first, trained[0]), min(last, trained[1])

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Returns the fractions of the energy."""
        low, high = self.slice.kinetic
        energy = low * torch.exp(condition[:, 0] * math.log(high / low))
        normal = (2 * noise - 1).reshape(-1, *self.latent)
        fields = self.decoded(normal, energy / self.energy_unit)
        voxels = [
            part.transpose(1, 2).flatten(1)
            for layer, field in zip(self.layers, fields, strict=True)
            for part in (field.reshape(-1, *layer.shape) * layer.unit).unbind(1)
        ]
        return torch.cat([voxels[i] for i in self.order], 1) / energy[:, None]

    def draw(self, rng: np.random.Generator, events: int) -> Array:
        """Returns normal numbers with mean and standard deviation 0.5."""
        drawn = rng.normal(0.5, 0.5, (events, self.noise_values))
        return drawn.astype(np.float32)

    def normal(self, noise: Array) -> Array:
        """Returns the standard normal numbers."""
        return (2 * noise - 1).reshape(-1, *self.latent)

    def examples(self, name: str, events: int) -> Array:
        """Returns energies between those that both the network and the GAN cover, evenly spaced in their logarithm."""
        low, high = self._range()
        return (np.geomspace(low, high, events) / self.energy_unit).clip(*self.scales[name].range)

    def feed(self, noise: Array, conditions: Mapping[str, Array]) -> list[Array]:
        """Returns both tensors; FastCaloSim computes the condition in double precision."""
        low, high = self.slice.kinetic
        label = np.log(self._kinetic(conditions) / low) / math.log(high / low)
        return [noise, np.stack([label, np.zeros_like(label)], 1).astype(np.float32)]

    def read(self, outputs: Sequence[Array], conditions: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the fields; FastCaloSim multiplies the fractions by the kinetic energy."""
        cells = outputs[0].astype(np.float64) * self._kinetic(conditions)[:, None]
        shapes = [layer.shape[1:] for layer in self.layers for _ in range(layer.shape[0])]
        parts: dict[int, Array] = {}
        start = 0
        for i in self.order:
            angles, radii = shapes[i]
            part = cells[:, start : start + angles * radii].reshape(-1, radii, angles)
            parts[i], start = part.transpose(0, 2, 1), start + angles * radii
        fields, first = {}, 0
        for layer in self.layers:
            stacked = np.stack([parts[first + k] for k in range(layer.shape[0])], 1) / layer.unit
            fields[layer.field] = stacked.reshape(-1, *self.schema.fields[layer.field].shape)
            first += layer.shape[0]
        return fields

    def _kinetic(self, conditions: Mapping[str, Array]) -> Array:
        energy: Array = conditions[self.energy].astype(np.float64) * self.energy_unit
        return energy

    def about(self) -> dict[str, Any]:
        """Returns shapes, units, distributions and the slice."""
        low, high = self._range()
        size = sum(math.prod(layer.shape) for layer in self.layers)
        return {
            "inputs": {
                "Noise": {"shape": [self.noise_values], "distribution": "normal(0.5, 0.5)"},
                "mycond": {"shape": [2], "kinetic energies [MeV]": list(self.slice.kinetic)},
            },
            "outputs": {"out": {"shape": [size], "layers": [self.numbers[i] for i in self.order],
                                "unit": "fraction of E"}},
            "slice": dataclasses.asdict(self.slice),
            "trained kinetic energies [MeV]": [low, high],
        }  # fmt: skip

    def text(self) -> tuple[str, str]:
        """Returns the voxels as FastCaloSim's binning."""
        layers = [layer for layer in self.layers for _ in range(layer.shape[0])]
        lines = [
            f'      <Layer id="{self.numbers[i]}" r_edges="{",".join(f"{r:g}" for r in layers[i].geometry.r_edges)}"'
            f' n_bin_alpha="{layers[i].shape[1]}" />'
            for i in self.order
        ]
        pid = self.slice.pid
        return ".xml", BINNING.format(
            model=self.path.name, version=version("hepgan"), pid=pid, xml_pid=pid if pid in (11, 22) else 211,
            noise=self.noise_values, low=self.slice.eta[0], high=self.slice.eta[1], gan_version=VERSION,
            layers="\n".join(lines),
        )  # fmt: skip


def _numbers(layer: Layers, index: int) -> list[int]:
    """Returns the numbers of the layers of a field: of its geometry, otherwise at the end of its name, otherwise its ``index``."""
    trailing = re.search(r"(\d+)$", layer.field)
    number = layer.geometry.number
    first = int(number) if number is not None else int(trailing[1]) if trailing else index
    return [first + part for part in range(layer.shape[0])]


def _check_voxels(layer: Layers) -> None:
    """Checks that the cells of a field are voxels of FastCaloSim.

    Raises:
        RunError: they are not in α and r, there is a single bin in r, or the number of bins in α has a special meaning.
    """
    table, (_, angles, radii) = f"[geometry.{layer.field}]", layer.shape
    if not layer.geometry.r_edges:
        raise RunError(f"FastCaloSim has voxels in α and r, but {table} has no r_edges; add them")
    if len(layer.geometry.r_edges) != radii + 1:
        raise RunError(f"{table} has {len(layer.geometry.r_edges)} r_edges for {radii} bins in r")
    if radii == 1:
        raise RunError(
            f"FastCaloSim takes a layer with one bin in r for an unused one, but '{layer.field}' has one"
        )
    if angles == SPECIAL_BINS:
        raise RunError(
            f"FastCaloSim takes {SPECIAL_BINS} bins in α for a number that varies with r, but '{layer.field}' has {SPECIAL_BINS}"
        )

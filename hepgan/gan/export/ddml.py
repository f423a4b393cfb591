"""DDML (``key4hep/DDML``): ``RegularGridGANModel`` with ``ONNXInference``, in DD4hep simulations.

DDML draws 100 numbers uniform in (−1, 1), whatever ``LatentVectorSize`` is: the shape of the tensor is a constant of its class.
The model makes the GAN's normal numbers of them. A GAN with more than 100 noise values gets combinations of all 100, modulo a
prime number: any 100 of them are independent and uniform, and dependences of more are far below what floats resolve.
"""

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
    mesh_of,
    register_host,
    stack_layers,
    unstack_layers,
)
from hepgan.gan.model import GAN
from hepgan.random_streams import numpy_generator

NOISE = 100
"""Number of noise values that DDML draws."""

PRIME = 2**31 - 1

_STEPS = 2**23
"""Steps per unit in which float32 numbers around 1 are resolved."""

_SMALLEST = 2.0**-26

STEERING = '''\
"""DDML with the GAN in {model}, written by hepgan {version}. In the steering file of ddsim:

    from {module} import add_gan

    SIM.physics.setupUserPhysics(add_gan)

It generates showers of {low:g} to {high:g} GeV. Adapt the names of the region and of the detector, and the symmetry.
"""


def add_gan(kernel):
    from DDG4 import DetectorConstruction, Geant4, PhysicsList
    from g4units import GeV

    model = DetectorConstruction(kernel, "RegularGridGANPolyhedraBarrelONNXModel/HepganModel")
    model.RegionName = "EcalBarrelRegion"
    model.Detector = "EcalBarrel"
    model.Symmetry = 8
    model.Enable = True
    model.ApplicableParticles = {{"e+", "e-", "gamma"}}
    model.Etrigger = {{"e+": {low:g} * GeV, "e-": {low:g} * GeV, "gamma": {low:g} * GeV}}
    model.ModelPath = "{model}"
    model.LatentVectorSize = {noise}
    model.NCellsX, model.NCellsY, model.NCellsZ = {x}, {y}, {z}
{size}
    model.enableUI()
    Geant4(kernel).detectorConstruction().adopt(model)

    physics = PhysicsList(kernel, "Geant4FastPhysics/FastPhysicsList")
    physics.EnabledParticles = ["e+", "e-", "gamma"]
    physics.enableUI()
    kernel.physicsList().adopt(physics)
'''


@register_host("ddml")
class Ddml(HostModel):
    """Inputs ``[1, 100, 1, 1, 1]``, uniform in (−1, 1), and ``[1, 1, 1, 1, 1]``, the kinetic energy [GeV].

    One output ``[1, cells]`` [MeV]: the layers in depth, then x, and y fastest.
    """

    title = "DDML"
    inputs = ("noise", "energy")
    outputs = ("energies",)

    def __init__(self, gan: GAN, *, fixed: Mapping[str, float], path: Path) -> None:
        super().__init__(gan, fixed=fixed, path=path)
        self.energy, self.energy_unit = incident_energy(self)
        check_conditions(self, (self.energy,))
        self.layers = Layers.of(gan, self)
        for layer in self.layers:
            if layer.geometry.r_edges:
                raise RunError(
                    f"DDML has a grid in x and y, but [geometry.{layer.field}] describes cells in α and r"
                )
        self.mesh = mesh_of(self.layers, self.title)
        rng = numpy_generator(0, "export", "ddml")
        mixed = rng.integers(1, PRIME, (NOISE, self.noise_values), dtype=np.int64)
        self.register_buffer("mixing", torch.from_numpy(mixed), persistent=False)

    def forward(self, noise: Tensor, energy: Tensor) -> Tensor:
        """Returns the energies."""
        normal = self._normal(noise.flatten(1)).reshape(-1, *self.latent)
        energies = energy.flatten() * (1e3 / self.energy_unit)
        return stack_layers(self.layers, self.decoded(normal, energies)).flatten(1)

    def _normal(self, uniform: Tensor) -> Tensor:
        """Returns normal numbers ``[B, Z]`` of ``uniform[B, 100]``."""
        if self.noise_values > NOISE:
            steps = ((uniform + 1) * _STEPS).to(torch.int64)
            mixed = (steps @ self.get_buffer("mixing")) % PRIME
            low = mixed < PRIME // 2
            tail = (torch.where(low, mixed, PRIME - 1 - mixed).to(uniform) + 0.5) / PRIME
            return torch.where(low, -upper_quantile(tail), upper_quantile(tail))
        uniform = uniform[:, : self.noise_values]
        return torch.copysign(upper_quantile((1 - uniform.abs()) / 2), uniform)

    def draw(self, rng: np.random.Generator, events: int) -> Array:
        """Returns uniform numbers, rounded to single precision as DDML does."""
        return rng.uniform(-1, 1, (events, NOISE)).astype(np.float32)

    def normal(self, noise: Array) -> Array:
        """Returns the normal numbers."""
        with torch.no_grad():
            return self._normal(torch.from_numpy(noise)).numpy().reshape(-1, *self.latent)

    def feed(self, noise: Array, conditions: Mapping[str, Array]) -> list[Array]:
        """Returns both tensors."""
        energy = conditions[self.energy].astype(np.float64) * self.energy_unit / 1e3
        return [
            noise.reshape(-1, NOISE, 1, 1, 1),
            energy.astype(np.float32).reshape(-1, 1, 1, 1, 1),
        ]

    def read(self, outputs: Sequence[Array], conditions: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the fields."""
        return unstack_layers(self.layers, outputs[0].reshape(-1, *self.mesh), self)

    def about(self) -> dict[str, Any]:
        """Returns shapes, units and distributions."""
        depth, rows, columns = self.mesh
        return {
            "inputs": {
                "noise": {"shape": [NOISE, 1, 1, 1], "distribution": "uniform in (-1, 1)"},
                "energy": {
                    "shape": [1, 1, 1, 1],
                    "unit": "GeV",
                    "range": [e * self.energy_unit / 1e3 for e in self.scales[self.energy].range],
                },
            },
            "outputs": {
                "energies": {
                    "shape": [depth * rows * columns],
                    "order": {"z": depth, "x": rows, "y": columns},
                    "unit": "MeV",
                }
            },
        }

    def text(self) -> tuple[str, str]:
        """Returns a function for a steering file of ddsim."""
        depth, rows, columns = self.mesh
        low, high = (limit * self.energy_unit / 1e3 for limit in self.scales[self.energy].range)
        pitches = self.layers[0].geometry.cell[-2:]
        size = "    # as in the simulation of the training data [mm]:\n    # model.CellSizeX, model.CellSizeY = …"
        if pitches:
            size = f"    model.CellSizeX, model.CellSizeY = {pitches[0]:g}, {pitches[1]:g}"
        return ".py", STEERING.format(
            model=self.path.name, module=self.path.stem, version=version("hepgan"), low=low, high=high,
            noise=NOISE, x=rows, y=columns, z=depth, size=size,
        )  # fmt: skip


def upper_quantile(tail: Tensor) -> Tensor:
    """Returns the standard normal quantile of ``1 - tail``, for probabilities ``tail`` from 0 to 1/2, to single precision.

    It is algorithm AS 241, PPND7 (M. J. Wichura, Appl. Stat. 37 (1988) 477), made of operators that every exporter has.
    """
    tail = tail.clamp_min(_SMALLEST)
    q = 0.5 - tail
    r = 0.180625 - q * q
    center = (
        q
        * (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179)
        / (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0)
    )
    s = torch.sqrt(-torch.log(tail)) - 1.6
    outer = (((0.17023821103 * s + 1.3067284816) * s + 2.7568153900) * s + 1.4234372777) / (
        (0.12021132975 * s + 0.73700164250) * s + 1.0
    )
    return torch.where(q <= 0.425, center, outer)

"""Geant4's example Par04 (``examples/extended/parameterisations/Par04``), model type VAE, inference library ONNX."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
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

MAX_ENERGY = 1_024_000.0
"""Energy by which the example divides the kinetic energy [MeV]."""

MAX_ANGLE = 90.0
"""Angle by which it divides the polar angle [degrees]."""

DEGREES = {"rad": 180 / np.pi, "deg": 1.0, "°": 1.0}
"""Units of a polar angle [degrees]."""

_THETA = re.compile(r"(.*_)?theta(_.*)?|polar.*", re.IGNORECASE)

MACRO = """\
# Par04 with the GAN in {model}, written by hepgan {version}; run it after /run/initialize.
# It generates {particles} of {low:g} to {high:g} GeV{angles}.
/Par04/inference/setSizeLatentVector {noise}
/Par04/inference/setSizeConditionVector 4
/Par04/inference/setModelPathName {model}
/Par04/inference/setModelType VAE
/Par04/inference/setProfileFlag 0
/Par04/inference/setOptimizationFlag 0
/Par04/inference/setInferenceLibrary ONNX
{size}
/Par04/inference/setNbOfRhoCells {rho}
/Par04/inference/setNbOfPhiCells {phi}
/Par04/inference/setNbOfZCells {z}
/param/ActivateModel defineMesh
/param/ActivateModel inferenceModel
"""


@register_host("par04")
class Par04(HostModel):
    """One input ``[1, noise + 4]``: standard normal noise, E / 1.024 TeV, θ / 90°, and two numbers for the geometry, which are not used.

    One output ``[1, cells]``: the energies of the cells as fractions of E, with r slowest, then φ, and z fastest.
    """

    title = "Par04"
    inputs = ("input",)
    outputs = ("energies",)

    def __init__(self, gan: GAN, *, fixed: Mapping[str, float], path: Path) -> None:
        super().__init__(gan, fixed=fixed, path=path)
        self.energy, self.energy_unit = incident_energy(self)
        self.theta = next((n for n in self.conditions if _THETA.fullmatch(n)), "")
        check_conditions(self, (self.energy, self.theta))
        self.theta_unit = self._degrees() if self.theta else 1.0
        self.layers = Layers.of(gan, self)
        for layer in self.layers:
            if layer.geometry.cell:
                raise RunError(
                    f"Par04 has a cylindrical mesh, but [geometry.{layer.field}] describes a grid of cells with a pitch in x and y"
                )
        self.mesh = mesh_of(self.layers, self.title)

    def _degrees(self) -> float:
        unit = self.schema.conditions[self.theta].unit
        if unit not in DEGREES:
            raise RunError(
                f"Par04 passes the polar angle, but '{self.theta}' has the unit '{unit}'; correct it in the schema (rad or deg) and"
                " train again"
            )
        return DEGREES[unit]

    def forward(self, vector: Tensor) -> Tensor:
        """Returns the fractions of the energy."""
        split = self.noise_values
        noise = vector[:, :split].reshape(-1, *self.latent)
        energy = vector[:, split] * MAX_ENERGY
        values = {self.energy: energy / self.energy_unit}
        if self.theta:
            values[self.theta] = vector[:, split + 1] * (MAX_ANGLE / self.theta_unit)
        fields = self.decoded(noise, *(values[name] for name in self.conditions))
        cells = stack_layers(self.layers, fields).permute(0, 3, 2, 1).flatten(1)
        return cells / energy[:, None]

    def feed(self, noise: Array, conditions: Mapping[str, Array]) -> list[Array]:
        """Returns the vector."""
        vector = np.zeros((len(noise), noise.shape[1] + 4), np.float32)
        vector[:, :-4] = noise
        vector[:, -4] = self._energy(conditions) / np.float32(MAX_ENERGY)
        if self.theta:
            theta = conditions[self.theta] * self.theta_unit
            vector[:, -3] = theta / np.float32(MAX_ANGLE)
        vector[:, -1] = 1
        return [vector]

    def read(self, outputs: Sequence[Array], conditions: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the fields; the example multiplies the fractions by the kinetic energy, in double precision."""
        depth, rows, columns = self.mesh
        cells = outputs[0].astype(np.float64) * self._energy(conditions)[:, None]
        cells = cells.reshape(-1, columns, rows, depth).transpose(0, 3, 2, 1)
        return unstack_layers(self.layers, cells, self)

    def _energy(self, conditions: Mapping[str, Array]) -> Array:
        """Returns the kinetic energies [MeV], double precision."""
        energy: Array = conditions[self.energy].astype(np.float64) * self.energy_unit
        return energy

    def about(self) -> dict[str, Any]:
        """Returns the parts of both vectors."""
        depth, rows, columns = self.mesh
        parts = [
            f"{self.noise_values} standard normal", "E / 1024000 MeV", "θ / 90°", "2 not used",
        ]  # fmt: skip
        return {
            "inputs": {"input": {"shape": [self.noise_values + 4], "parts": parts}},
            "outputs": {
                "energies": {
                    "shape": [columns * rows * depth],
                    "order": {"r": columns, "phi": rows, "z": depth},
                    "unit": "fraction of E",
                }
            },
        }

    def text(self) -> tuple[str, str]:
        """Returns a macro."""
        depth, rows, columns = self.mesh
        low, high = (limit * self.energy_unit / 1e3 for limit in self.scales[self.energy].range)
        angles = ", all angles alike"
        if self.theta:
            first, last = (limit * self.theta_unit for limit in self.scales[self.theta].range)
            angles = f" at {first:g} to {last:g} degrees"
        particles = ", ".join(f"{name} = {value:g}" for name, value in self.fixed.items())
        return ".mac", MACRO.format(
            model=self.path.name, version=version("hepgan"), noise=self.noise_values,
            particles=f"showers ({particles})" if particles else "showers",
            low=low, high=high, angles=angles, size=self._sizes(), rho=columns, phi=rows, z=depth,
        )  # fmt: skip

    def _sizes(self) -> str:
        """Returns the commands for the sizes of the cells, commented out where the geometry does not have them."""
        edges = self.layers[0].geometry.r_edges
        rho = (edges[-1] - edges[0]) / (len(edges) - 1) if edges else 0.0
        lines = [
            f"/Par04/inference/setSizeOfRhoCells {rho:g} mm"
            if edges
            else "# as in the simulation of the training data:\n# /Par04/inference/setSizeOfRhoCells … mm",
            "# /Par04/inference/setSizeOfZCells … mm",
        ]
        return "\n".join(lines)

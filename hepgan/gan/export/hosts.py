"""Hosts: programs that run an exported GAN in a way of their own, by name.

A host's contract is a module with exactly its inputs and outputs, and the code around the call, written again in NumPy so that
an exported file can be compared with ``GAN.sample`` as the host would run it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hepgan.data.units import ENERGY_UNITS
from hepgan.errors import RunError, did_you_mean
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan.export.decoded import DecodedGenerator
from hepgan.gan.model import GAN

Array = npt.NDArray[Any]


class HostModel(nn.Module):
    """Generator and decoding with the inputs and outputs of a host.

    Args:
        gan: GAN, which is copied.
        fixed: Values of conditions that are constants of the model, in the schema's units.
        path: File that is written.

    Attributes:
        title: Name of the host in messages.
        any_batch: Whether the host may run any number of events at once; otherwise exactly one.
        operators: ONNX operators that the host has; ``None`` for those of ONNX Runtime.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
        conditions: Names of the GAN's conditions that the host passes.

    Raises:
        RunError: the GAN does not fit the host.
    """

    title: ClassVar[str]
    any_batch: ClassVar[bool] = False
    operators: ClassVar[frozenset[str] | None] = None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init__(self, gan: GAN, *, fixed: Mapping[str, float], path: Path) -> None:
        super().__init__()
        self.decoded = DecodedGenerator(gan, fixed=fixed)
        self.path, self.fixed = path, dict(fixed)
        self.schema, self.scales, self.latent = gan.schema, gan.encoding.scales, gan.latent
        self.conditions = tuple(name for name in self.scales if name not in fixed)

    @property
    def noise_values(self) -> int:
        """Number of noise values of the GAN."""
        return math.prod(self.latent)

    def draw(self, rng: np.random.Generator, events: int) -> Array:
        """Returns noise ``float32[events, …]`` with the host's shape and distribution."""
        return rng.standard_normal((events, self.noise_values), dtype=np.float32)

    def normal(self, noise: Array) -> Array:
        """Returns the GAN's noise ``float32[events, *latent]`` that the model makes of the host's."""
        return noise.reshape(-1, *self.latent)

    def examples(self, name: str, events: int) -> Array:
        """Returns ``[events]`` values of a condition that the host may pass, in the schema's unit."""
        return self.scales[name].examples(events).numpy()

    def feed(self, noise: Array, conditions: Mapping[str, Array]) -> list[Array]:
        """Returns the inputs that the host makes of its noise and of the conditions in the schema's units."""
        raise NotImplementedError

    def read(self, outputs: Sequence[Array], conditions: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the fields that the host makes of the outputs, in the schema's units."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Returns the metadata of the inputs and outputs."""
        raise NotImplementedError

    def text(self) -> tuple[str, str]:
        """Returns the suffix and the content of the text that configures the host; empty if there is none."""
        return "", ""


T = TypeVar("T", bound=type[HostModel])

HOSTS: dict[str, type[HostModel]] = {}
"""The hosts by their names."""


def register_host(name: str) -> Callable[[T], T]:
    """Returns a class decorator that adds a host."""

    def register(cls: T) -> T:
        HOSTS[name] = cls
        return cls

    return register


def host_of(name: str) -> type[HostModel]:
    """Returns the host of that name.

    Raises:
        RunError: there is none.
    """
    if name not in HOSTS:
        near = did_you_mean(name, HOSTS) or f"; there are: {', '.join(HOSTS)}"
        raise RunError(f"unknown host '{name}'{near}")
    return HOSTS[name]


def incident_energy(model: HostModel) -> tuple[str, float]:
    """Returns the condition that is the incident energy, and its unit in MeV.

    Raises:
        RunError: there is no such condition among the inputs, or its unit is unknown.
    """
    name = model.schema.incident
    if name not in model.conditions:
        raise RunError(
            f"{model.title} passes the energy of the incident particle, but the GAN has no such condition to pass it to; name it in the"
            ' schema, [schema] incident = "energy", and do not fix it'
        )
    return name, _mev(name, model)


def check_conditions(model: HostModel, passed: Sequence[str]) -> None:
    """Checks that the host passes all conditions that are not fixed.

    Raises:
        RunError: it does not; names the first.
    """
    for name in model.conditions:
        if name not in passed:
            value = model.examples(name, 1)[0]
            raise RunError(
                f"{model.title} does not pass the condition '{name}'; export the GAN for one of its values, {model.scales[name]}, for"
                f" example --fix {name}={value:g}"
            )


@dataclasses.dataclass(frozen=True)
class Layers:
    """Field of layers with equal shapes, or a single layer.

    Attributes:
        field: Name of the field.
        shape: Number of layers, then of cells along both axes; the first axis of a field with one axis has a single bin.
        unit: Unit of the cells in MeV.
        geometry: Geometry of the field.
    """

    field: str
    shape: tuple[int, int, int]
    unit: float
    geometry: LayerGeometry

    @classmethod
    def of(cls, gan: GAN, model: HostModel) -> "list[Layers]":
        """Returns the fields of a GAN.

        Raises:
            RunError: a field is not a layer of regular cells with energies.
        """
        result = []
        for name, field in gan.schema.fields.items():
            if not 1 <= len(field.shape) <= 3:
                raise RunError(
                    f"{model.title} needs layers of cells, but the field '{name}' has the shape {list(field.shape)}"
                )
            depth, rows, columns = (1, 1, *field.shape)[-3:]
            geometry = gan.geometry.get(name, LayerGeometry())
            if geometry.positions:
                raise RunError(
                    f"{model.title} has a regular mesh, but [geometry.{name}] has cells at irregular positions; export the GAN with --for plain"
                )
            result.append(cls(name, (depth, rows, columns), _mev(name, model), geometry))
        return result


def mesh_of(layers: Sequence[Layers], title: str) -> tuple[int, int, int]:
    """Returns the number of layers and the number of cells along their axes.

    Raises:
        RunError: the layers differ in shape.
    """
    shapes = {layer.shape[1:] for layer in layers}
    if len(shapes) > 1:
        found = ", ".join(
            f"{layer.field} {' × '.join(map(str, layer.shape[1:]))}" for layer in layers
        )
        raise RunError(
            f"{title} has a mesh with the same cells in every layer, but the GAN's layers differ: {found}"
        )
    return (sum(layer.shape[0] for layer in layers), *layers[0].shape[1:])


def stack_layers(layers: Sequence[Layers], fields: Sequence[Tensor]) -> Tensor:
    """Returns the cells ``[B, layers, rows, columns]`` of all fields [MeV]."""
    parts = [
        field.reshape(field.shape[0], *layer.shape) * layer.unit
        for layer, field in zip(layers, fields, strict=True)
    ]
    return torch.cat(parts, 1)


def unstack_layers(layers: Sequence[Layers], cells: Array, model: HostModel) -> dict[str, Array]:
    """Returns the fields of ``cells[B, layers, rows, columns]`` [MeV]; inverts ``stack_layers``."""
    fields, start = {}, 0
    for layer in layers:
        part = cells[:, start : start + layer.shape[0]] / layer.unit
        fields[layer.field] = part.reshape(-1, *model.schema.fields[layer.field].shape)
        start += layer.shape[0]
    return fields


def _mev(name: str, model: HostModel) -> float:
    unit = model.schema.all[name].unit
    if unit not in ENERGY_UNITS:
        raise RunError(
            f"{model.title} needs energies, but '{name}' has the unit '{unit}'; correct the unit in the schema"
            f" ({', '.join(ENERGY_UNITS)}) and train again"
        )
    return ENERGY_UNITS[unit]

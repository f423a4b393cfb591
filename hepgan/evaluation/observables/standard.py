"""Standard observables of a schema, the same for numpy and torch.

| quantity | observables |
|---|---|
| energy | ``E_tot``, ``E_tot_over_E_inc``, ``<layer>.energy``, ``<layer>.fraction`` |
| shower shape | ``<layer>.center_<axis>``, ``<layer>.width_<axis>``, ``<layer>.E_ratio`` |
| shower depth | ``depth``, ``l_d``, ``s_d``, ``sigma_sd`` (CaloGAN's names) |
| cells | ``<layer>.occupancy``, ``<layer>.spectrum`` |
| images and other arrays | ``<field>.mean``, ``.nonzero``, ``.center_<axis>``, ``.width_<axis>``, ``.spectrum`` |

``register_observable`` adds observables of your own. Names are unique: if an observable has the name of a field, the one of lower
rank (shower observables, then fields, then observables of a field) has its label appended: ``x_0 (x[0])`` next to a field ``x_0``.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from array_api_compat import array_namespace

from hepgan.data.schema import Field, Schema
from hepgan.data.units import ENERGY_UNITS, energy_ratio
from hepgan.errors import DataError, RunError, did_you_mean
from hepgan.evaluation.observables import shower_shapes
from hepgan.evaluation.observables.base import (
    REGISTERED,
    Observable,
    Values,
    arrays,
    chunks,
    evaluate_observables,
    once,
)
from hepgan.evaluation.observables.geometry import Layer, LayerGeometry, shower_layers
from hepgan.evaluation.observables.shower_shapes import Array

__all__ = [
    "Observable",
    "Values",
    "arrays",
    "chunks",
    "evaluate_observables",
    "observables_for",
    "select_observables",
]

RESERVED = frozenset({"E_inc", "E_tot_over_E_inc"})
"""Names that metrics and figures use for the incident energy and the response; fields of these names are renamed."""

AXES = ("x", "y", "z")
"""Names of the axes of an array: columns, rows, and channels."""

MAX_VECTOR_LENGTH = 16
"""Largest one-dimensional field with one observable per value."""


def observables_for(
    schema: Schema,
    geometry: Mapping[str, LayerGeometry] | None = None,
    *,
    missing: float = math.nan,
) -> dict[str, Observable]:
    """Returns the standard observables of a schema and the registered ones that fit it, by name.

    Fields with a ``[geometry.<field>]`` table, or with two or three axes and a unit of energy, are layers of a shower; other
    fields with two axes are images; the rest are columns. ``missing`` is the value for events that have none.

    Raises:
        RunError: the geometry does not fit its field.
    """
    geometry, incident = geometry or {}, schema.incident
    showers = {name: f for name, f in schema.fields.items() if _is_layer(name, f, geometry)}
    of_showers: list[Observable] = []
    if showers:
        layers = layers_for(schema, geometry)
        of_showers = _of_showers(layers, _one_unit(showers), schema, missing)
    of_fields = [
        observable
        for name, field in schema.all.items()
        if name not in showers and not (showers and name == incident)
        for observable in _of_field(name, field, missing)
    ]
    result = {o.name: o for o in _distinct(of_showers, of_fields)}
    for name, registered in REGISTERED.items():
        if set(registered.fields) <= set(schema.all):
            if name in result:
                raise RunError(
                    f"the registered observable '{name}' has the name of a standard one; rename it"
                )
            result[name] = registered.observable
    return result


def select_observables(
    observables: Mapping[str, Observable], names: Sequence[str]
) -> dict[str, Observable]:
    """Returns the observables with these names; all of them if there are no names.

    Raises:
        DataError: there is no such observable; suggests the nearest name.
    """
    for name in names:
        if name not in observables:
            hint = did_you_mean(name, observables) or f"; choose some of {', '.join(observables)}"
            raise DataError(f"the events have no observable '{name}'{hint}")
    return {name: observables[name] for name in names or observables}


def layers_for(schema: Schema, geometry: Mapping[str, LayerGeometry] | None = None) -> list[Layer]:
    """Returns the layers of the shower that a schema describes; none if it describes no shower.

    Raises:
        RunError: the geometry does not fit its field.
    """
    geometry = geometry or {}
    shapes = {name: f.shape for name, f in schema.fields.items() if _is_layer(name, f, geometry)}
    return shower_layers(shapes, geometry)


def _distinct(of_showers: list[Observable], of_fields: list[Observable]) -> list[Observable]:
    """Returns all observables under unique names, assigned first to shower observables, then to fields, then to the rest."""
    observables = [*of_showers, *of_fields]

    def rank(i: int) -> int:
        if i < len(of_showers):
            return 0
        return 1 if observables[i].name == observables[i].label else 2  # a field

    taken: set[str] = set()
    for i in sorted(range(len(observables)), key=rank):
        observable = observables[i]
        name, label = observable.name, observable.label
        while name in taken or (rank(i) > 0 and name in RESERVED):
            name = f"{name} ({'field' if label == observable.name else label})"
        taken.add(name)
        observables[i] = dataclasses.replace(observable, name=name)
    return observables


def _is_layer(name: str, field: Field, geometry: Mapping[str, LayerGeometry]) -> bool:
    return name in geometry or (len(field.shape) in (2, 3) and field.unit in ENERGY_UNITS)


def _one_unit(showers: Mapping[str, Field]) -> str:
    units = {name: field.unit for name, field in showers.items()}
    if len(set(units.values())) > 1:
        units_text = ", ".join(f"{name} [{unit}]" for name, unit in units.items())
        raise RunError(f"the layers of a shower must have the same unit, but have {units_text}")
    return next(iter(units.values()))


def _of_showers(layers: list[Layer], unit: str, schema: Schema, missing: float) -> list[Observable]:
    numbers = [layer.number for layer in layers]

    cells = [once(layer.cells) for layer in layers]
    sums = [_total(of_layer) for of_layer in cells]

    @once
    def energies(events: Mapping[str, Array]) -> Array:
        each = [layer_energy(events) for layer_energy in sums]
        return array_namespace(each[0]).stack(each, axis=1)

    total = _total(energies)

    observables = [Observable("E_tot", total, "total energy", unit, "log10")]
    if schema.incident:
        incident_unit = schema.all[schema.incident].unit
        observables += _of_incident(total, unit, schema.incident, incident_unit, missing)
    if len(layers) > 1:
        observables += _of_depth(energies, numbers, unit, missing)
    for i, layer in enumerate(layers):
        observables += _of_layer(layer, cells[i], sums[i], unit, missing)
        if len(layers) > 1:
            observables.append(_fraction(layer, i, energies, total, missing))
    return observables


def _of_incident(
    total: Callable[[Mapping[str, Array]], Array],
    unit: str,
    incident: str,
    incident_unit: str,
    missing: float,
) -> list[Observable]:
    observables = [
        Observable("E_inc", lambda e: e[incident], "incident energy", incident_unit, "log10")
    ]
    if unit in ENERGY_UNITS and incident_unit in ENERGY_UNITS:
        factor = energy_ratio(unit, incident_unit)
        observables.append(
            Observable(
                "E_tot_over_E_inc",
                lambda e: shower_shapes.ratio(factor * total(e), e[incident], missing=missing),
                "total energy / incident energy",
            )
        )
    return observables


def _of_depth(
    energies: Callable[[Mapping[str, Array]], Array],
    numbers: list[float],
    unit: str,
    missing: float,
) -> list[Observable]:
    def weighted(events: Mapping[str, Array]) -> Array:
        return shower_shapes.weighted_sum(energies(events), numbers)

    def mean(events: Mapping[str, Array]) -> Array:
        return shower_shapes.center(energies(events), numbers, missing=missing)

    def width(events: Mapping[str, Array]) -> Array:
        return shower_shapes.width(energies(events), numbers, missing=missing)

    def deepest(events: Mapping[str, Array]) -> Array:
        return shower_shapes.deepest(energies(events), numbers)

    return [
        Observable("depth", deepest, "deepest layer with energy", step=1.0),
        Observable("l_d", weighted, "energy-weighted sum of the layer numbers", unit),
        Observable("s_d", mean, "shower depth"),
        Observable("sigma_sd", width, "width of the shower depth"),
    ]


def _fraction(
    layer: Layer,
    index: int,
    energies: Callable[[Mapping[str, Array]], Array],
    total: Callable[[Mapping[str, Array]], Array],
    missing: float,
) -> Observable:
    def fraction(events: Mapping[str, Array]) -> Array:
        return shower_shapes.ratio(energies(events)[:, index], total(events), missing=missing)

    return Observable(f"{layer.name}.fraction", fraction, f"{layer.name}: fraction of the energy")


def _total(
    cells: Callable[[Mapping[str, Array]], Array],
) -> Callable[[Mapping[str, Array]], Array]:
    """Returns the function of events that sums ``cells``."""
    return once(lambda events: shower_shapes.total(cells(events)))


def _of_layer(
    layer: Layer,
    cells: Callable[[Mapping[str, Array]], Array],
    total: Callable[[Mapping[str, Array]], Array],
    unit: str,
    missing: float,
) -> list[Observable]:
    name = layer.name

    def hottest(events: Mapping[str, Array]) -> Array:
        return shower_shapes.hottest_ratio(cells(events), missing=missing)

    energy = Observable(f"{name}.energy", total, f"{name}: energy", unit, "log10")
    ratio = Observable(f"{name}.E_ratio", hottest, f"{name}: (e1 − e2) / (e1 + e2)")
    moments = _moments(name, cells, total, layer.positions, layer.length, missing)
    return [energy, *_of_cells(name, cells, layer, unit), ratio, *moments]


def _of_cells(
    name: str, cells: Callable[[Mapping[str, Array]], Array], layer: Layer, unit: str
) -> list[Observable]:
    def hit_fraction(events: Mapping[str, Array]) -> Array:
        return shower_shapes.occupancy(cells(events), threshold=layer.threshold)

    step = 1 / math.prod(layer.shape)
    return [
        Observable(
            f"{name}.occupancy",
            hit_fraction,
            f"{name}: fraction of hit cells",
            "",
            "complement",
            step=step,
        ),
        Observable(
            f"{name}.spectrum",
            cells,
            f"{name}: energy of a cell",
            unit,
            spectrum=True,
            shape=layer.shape,
        ),
    ]


def _moments(
    name: str,
    cells: Callable[[Mapping[str, Array]], Array],
    total: Callable[[Mapping[str, Array]], Array],
    positions: Mapping[str, tuple[float, ...]],
    length: str,
    missing: float,
) -> list[Observable]:
    observables = []
    for axis, at in positions.items():
        center = once(functools.partial(_center, cells, total, at, missing))
        width = functools.partial(_width, cells, total, center, at, missing)
        observables += [
            Observable(
                f"{name}.center_{axis}", center, f"{name}: center in {axis}", length, "length"
            ),
            Observable(f"{name}.width_{axis}", width, f"{name}: width in {axis}", length, "length"),
        ]
    return observables


def _center(
    cells: Callable[[Mapping[str, Array]], Array],
    total: Callable[[Mapping[str, Array]], Array],
    positions: tuple[float, ...],
    missing: float,
    events: Mapping[str, Array],
) -> Array:
    return shower_shapes.center(cells(events), positions, missing=missing, energy=total(events))


def _width(
    cells: Callable[[Mapping[str, Array]], Array],
    total: Callable[[Mapping[str, Array]], Array],
    center: Callable[[Mapping[str, Array]], Array],
    positions: tuple[float, ...],
    missing: float,
    events: Mapping[str, Array],
) -> Array:
    return shower_shapes.width(
        cells(events), positions, missing=missing, energy=total(events), mean=center(events)
    )


def _of_field(name: str, field: Field, missing: float) -> list[Observable]:
    if field.shape == ():
        return [Observable(name, lambda e: e[name], name, field.unit)]
    if len(field.shape) == 1 and field.size <= MAX_VECTOR_LENGTH:
        return [
            Observable(
                f"{name}_{i}", functools.partial(_column, name, i), f"{name}[{i}]", field.unit
            )
            for i in range(field.size)
        ]
    return _of_array(name, field, missing)


def _of_array(name: str, field: Field, missing: float) -> list[Observable]:
    """Returns the observables of an image, also of several channels, or of a long vector."""
    pixels = once(functools.partial(_flat, name))
    total = _total(pixels)
    last_first = np.indices(field.shape, dtype=float).reshape(len(field.shape), -1)[::-1]
    positions = {
        axis: tuple(at.tolist())
        for axis, at, size in zip(AXES, last_first, field.shape[::-1], strict=False)
        if size > 1
    }
    step = 1 / field.size
    return [
        Observable(
            f"{name}.mean",
            lambda e: total(e) / field.size,
            f"{name}: mean",
            field.unit,
        ),
        Observable(
            f"{name}.nonzero",
            lambda e: shower_shapes.occupancy(pixels(e)),
            f"{name}: fraction of nonzero pixels",
            step=step,
        ),
        *_moments(name, pixels, total, positions, "pixels", missing),
        Observable(
            f"{name}.spectrum",
            pixels,
            f"{name}: value of a pixel",
            field.unit,
            spectrum=True,
            shape=field.shape,
        ),
    ]


def _column(name: str, number: int, events: Mapping[str, Array]) -> Array:
    return events[name][:, number]


def _flat(name: str, events: Mapping[str, Array]) -> Array:
    values = events[name]
    return values.reshape(values.shape[0], -1)

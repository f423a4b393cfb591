"""Fitted steps as a table for JSON and tensors beside it, and back; no pickle."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hepgan.config import value_of
from hepgan.data.encoding.base import ConditionScale
from hepgan.data.encoding.bounds import Bounds
from hepgan.data.encoding.conditional_regression import Regress
from hepgan.data.encoding.copula import Copula, Whiten
from hepgan.data.encoding.fractions import IncidentFraction, LayerFractions, TotalFractions
from hepgan.data.encoding.layer_energies import LayerSums
from hepgan.data.encoding.marginals import Marginals
from hepgan.data.encoding.pointwise import Dequantise, Log, Logit, Power, Threshold, ZeroNoise
from hepgan.data.encoding.scaling import RobustStandardise, Scale, Standardise

STEPS: dict[str, type] = {
    "scale": Scale,
    "standardize": Standardise,
    "robust_standardize": RobustStandardise,
    "power": Power,
    "threshold": Threshold,
    "dequantize": Dequantise,
    "zero_noise": ZeroNoise,
    "log": Log,
    "logit": Logit,
    "layer_fractions": LayerFractions,
    "total_fractions": TotalFractions,
    "incident_fraction": IncidentFraction,
    "layer_sums": LayerSums,
    "marginals": Marginals,
    "whiten": Whiten,
    "copula": Copula,
    "regress": Regress,
}
"""The steps by their names in a run file."""

SAVED: dict[str, type] = {**STEPS, "bounds": Bounds}
"""The same and those that no run file names."""

NAMES = {cls: name for name, cls in SAVED.items()}


def converted(record: Any, to: torch.device | str | torch.dtype) -> Any:
    """A step with its tensors on another device, or its floating-point tensors of another type."""

    def moved(value: Tensor) -> Tensor:
        plain = isinstance(to, torch.dtype) and not value.is_floating_point()
        return value if plain else value.to(to)

    return mapped(record, moved)


def mapped(record: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Returns a step with ``function`` applied to each of its tensors, in the order in which ``pack_step`` adds them."""
    changes = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = function(value)
        elif type(value) in NAMES:
            changes[field.name] = mapped(value, function)
    return dataclasses.replace(record, **changes)


def pack_step(record: Any, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The table of a step; its tensors are added to ``tensors`` under names that start with ``prefix``."""
    table: dict[str, Any] = {"step": NAMES[type(record)]}
    for field in dataclasses.fields(record):
        value, place = getattr(record, field.name), f"{prefix}.{field.name}"
        if isinstance(value, Tensor):
            tensors[place] = value
            table[field.name] = {"tensor": place}
        elif type(value) in NAMES:
            table[field.name] = pack_step(value, place, tensors)
        elif isinstance(value, ConditionScale):
            table[field.name] = {"range": list(value.range), "scale": value.scale}
        else:
            table[field.name] = value
    return table


def unpack_step(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """The step of such a table, also of one that an earlier version saved: ``upgraded`` adds what it lacks."""
    cls = SAVED[table["step"]]
    hints = typing.get_type_hints(cls, include_extras=True)
    upgraded = getattr(cls, "upgraded", dict)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name not in table and upgraded is not dict:
            continue
        value = table[field.name]
        if isinstance(value, Mapping) and "tensor" in value:
            values[field.name] = tensors[value["tensor"]]
        elif isinstance(value, Mapping) and "step" in value:
            values[field.name] = unpack_step(value, tensors)
        else:
            values[field.name] = value_of(hints[field.name], value, field.name)
    return cls(**upgraded(values))

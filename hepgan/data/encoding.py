"""Events to ``x[B, F]``, ``c[B, C]`` and back: a chain of fitted, invertible steps.

>>> import awkward as ak
>>> schema = Schema.from_table({"fields": {"mass": {"unit": "GeV"}}})
>>> events = ak.Array({"mass": [80.0, 91.0, 125.0]})
>>> encoding = Encoding.fit(events, schema, EncodingSettings(({"step": "standardise"},)), seed=1)
>>> x, c = encoding.encode(events, seed=1)
>>> encoding.decode(x, c)["mass"].tolist()
[80.0, 91.0, 125.0]
"""

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from hepgan.data.copula import Copula, Marginals, Whiten
from hepgan.data.layers import LayerSums
from hepgan.data.schema import Schema
from hepgan.data.steps import (
    Columns,
    ConditionScale,
    Dequantise,
    Log,
    Logit,
    Scale,
    Standardise,
    Step,
)
from hepgan.errors import CheckpointError, DataError, RunError, did_you_mean
from hepgan.tables import value_of

STEPS: dict[str, type] = {
    "scale": Scale,
    "standardise": Standardise,
    "dequantise": Dequantise,
    "log": Log,
    "logit": Logit,
    "layer_sums": LayerSums,
    "marginals": Marginals,
    "whiten": Whiten,
    "copula": Copula,
}
"""The steps by their names in a run file."""


@dataclasses.dataclass(frozen=True)
class EncodingSettings:
    """The table ``[encoding]`` of a run file.

    Attributes:
        steps: Tables with the key ``step`` and the settings of that step's ``fit``, in the order of encoding.
        conditions: How each condition of the schema becomes columns of ``c``.
    """

    steps: tuple[Mapping[str, Any], ...]
    conditions: Mapping[str, ConditionScale] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Fitted steps between events and what networks see. ``decode`` undoes ``encode`` to float32.

    Attributes:
        schema: What an event is.
        scales: Each condition's scale.
        steps: The fitted steps, in the order of encoding.
        features: F, the width of ``x``; at least the schema's number of values.
    """

    schema: Schema
    scales: Mapping[str, ConditionScale]
    steps: tuple[Step, ...]
    features: int

    @classmethod
    def fit(
        cls, events: ak.Array, schema: Schema, settings: EncodingSettings, *, seed: int
    ) -> "Encoding":
        """Fits one step after the other to ``events``.

        Raises:
            RunError: an unknown step or setting, or a condition without a scale.
            DataError: events that a step cannot take, or conditions outside their range.
        """
        _same_names(schema, settings)
        columns = _columns(schema, settings.conditions)
        noise = Generator().manual_seed(seed)
        c = _conditions(events, settings.conditions)
        x = _flatten(events, schema)
        steps: list[Step] = []
        for i, table in enumerate(settings.steps):
            step = _fit_step(table, x, c, columns, noise, where=f"encoding.steps[{i}]")
            # As they are saved, so that a loaded encoding is the same to the last bit.
            step = _converted(step, torch.float32)
            x = step.encode(x, c, noise)
            steps.append(step)
        return cls(schema, settings.conditions, tuple(steps), x.shape[1])

    @property
    def conditions(self) -> int:
        """C, the width of ``c``."""
        return sum(scale.columns for scale in self.scales.values())

    def encode(self, events: ak.Array, *, seed: int) -> tuple[Tensor, Tensor]:
        """``x[E, F]`` and ``c[E, C]`` of events, float32. The seed is for steps that spread discrete values.

        Raises:
            DataError: a condition outside its range.
        """
        noise = Generator().manual_seed(seed)
        x = _flatten(events, self.schema)
        c = _conditions(events, self.scales)
        for step in self.steps:
            x = step.encode(x, c, noise)
        return x.float(), c.float()

    def encode_conditions(self, values: Mapping[str, npt.ArrayLike]) -> Tensor:
        """``c[E, C]`` of condition values ``[E]`` in the schema's units, float32.

        Raises:
            DataError: a condition is missing, unknown, of another length, or outside the range that was trained.
        """
        return _conditions(values, self.scales).float()

    def decode_tensors(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Each field's values ``[B, *shape]``, on the device and differentiable where the steps are."""
        for step in reversed(self.steps):
            x = step.decode(x, c)
        columns = _columns(self.schema, self.scales).fields
        return {
            name: x[:, place].reshape(-1, *self.schema.fields[name].shape)
            for name, place in columns.items()
        }

    def decode(self, x: Tensor, c: Tensor) -> ak.Array:
        """Events of ``x[E, F]``, ``c[E, C]``: the schema's fields and conditions, with the types of the file they come from."""
        with torch.no_grad():
            found = self.decode_tensors(x, c) | self.decode_conditions(c)
        fields = self.schema.all
        return ak.zip(
            {
                name: typed(values.cpu().numpy(), fields[name].dtype)
                for name, values in found.items()
            },
            depth_limit=1,
        )

    def decode_conditions(self, c: Tensor) -> dict[str, Tensor]:
        """Each condition's values ``[B]``, in the schema's units."""
        places = _columns(self.schema, self.scales).conditions
        return {name: self.scales[name].decode(c[:, place]) for name, place in places.items()}

    def to(self, device: torch.device | str) -> "Encoding":
        """The same encoding with its constants on ``device``."""
        return dataclasses.replace(self, steps=tuple(_converted(s, device) for s in self.steps))

    def pack(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What ``unpack`` takes: a table for JSON and the tensors that it names."""
        tensors: dict[str, Tensor] = {}
        table = {
            "features": self.features,
            "conditions": {name: dataclasses.asdict(s) for name, s in self.scales.items()},
            "steps": [_pack(step, f"encoding.{i}", tensors) for i, step in enumerate(self.steps)],
        }
        return table, tensors

    @classmethod
    def unpack(
        cls, schema: Schema, table: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> "Encoding":
        """The encoding that ``pack`` described.

        Raises:
            CheckpointError: a step or tensor that is unknown or missing.
        """
        try:
            scales = {
                name: ConditionScale(tuple(scale["range"]), scale["scale"])
                for name, scale in table["conditions"].items()
            }
            steps = tuple(_unpack(step, tensors) for step in table["steps"])
            return cls(schema, scales, steps, int(table["features"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"the saved encoding is damaged: {error!r}") from error


def typed(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """``values`` as ``dtype``, float32 where it is empty; integers are rounded and clipped to what the type holds."""
    kind = np.dtype(dtype or "float32")
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        values = np.clip(np.rint(values), limits.min, limits.max)
    found: npt.NDArray[Any] = values.astype(kind)
    return found


def _columns(schema: Schema, scales: Mapping[str, ConditionScale]) -> Columns:
    fields = _slices({name: field.size for name, field in schema.fields.items()})
    conditions = _slices({name: scale.columns for name, scale in scales.items()})
    units = {name: field.unit for name, field in schema.all.items()}
    return Columns(fields, units, conditions, scales)


def _slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}


def _same_names(schema: Schema, settings: EncodingSettings) -> None:
    for name, field in schema.conditions.items():
        if field.shape:
            raise RunError(
                f"[schema.conditions.{name}] should be a scalar, but has the shape {list(field.shape)}"
            )
        if name not in settings.conditions:
            raise RunError(
                f"the condition '{name}' needs a range: [encoding.conditions.{name}] range = [low, high]"
            )
    for name in settings.conditions:
        if name not in schema.conditions:
            raise RunError(f"[encoding.conditions.{name}] is no condition of the schema")


def _flatten(events: ak.Array, schema: Schema) -> Tensor:
    """``[E, F]`` in float64: fields flattened row-major, in the schema's order."""
    parts = [
        np.asarray(ak.to_numpy(events[name]), dtype=np.float64).reshape(len(events), -1)
        for name in schema.fields
    ]
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _conditions(
    values: Mapping[str, npt.ArrayLike] | ak.Array,
    scales: Mapping[str, ConditionScale],
) -> Tensor:
    """``[E, C]`` in float64."""
    names = values.fields if isinstance(values, ak.Array) else values
    parts = []
    for name, scale in scales.items():
        if name not in names:
            raise DataError(f"the condition '{name}' is missing; give it in {list(scale.range)}")
        found = torch.from_numpy(np.array(values[name], dtype=np.float64, ndmin=1))
        check_condition(name, found, scale)
        parts.append(scale.encode(found))
    if not parts:
        return torch.empty(_length(values), 0, dtype=torch.float64)
    if len({len(part) for part in parts}) > 1:
        raise DataError("the conditions differ in length: " + ", ".join(f"{len(p)}" for p in parts))
    return torch.cat(parts, 1)


def _length(values: Mapping[str, npt.ArrayLike] | ak.Array) -> int:
    return len(values) if isinstance(values, ak.Array) else 0


def check_condition(name: str, values: Tensor, scale: ConditionScale) -> None:
    """Every one of ``values[E]`` is in the condition's range.

    Raises:
        DataError: with the first that is not.
    """
    outside = ~scale.allows(values)
    if outside.any():
        low, high = scale.range
        kind = "is no class" if scale.scale == "onehot" else "lies outside"
        raise DataError(
            f"{name} = {values[outside][0].item():g} {kind} of {low:g} to {high:g}, the range that this GAN is made for"
        )


def _fit_step(
    table: Mapping[str, Any],
    x: Tensor,
    c: Tensor,
    columns: Columns,
    noise: Generator,
    *,
    where: str,
) -> Step:
    name = str(table.get("step"))
    if name not in STEPS:
        known = ", ".join(STEPS)
        raise RunError(
            f"{where}: unknown step '{name}'{did_you_mean(name, STEPS)} (known: {known})"
        )
    fit = typing.cast(Any, STEPS[name]).fit
    hints = typing.get_type_hints(fit)
    options = {
        key: parameter
        for key, parameter in inspect.signature(fit).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    settings = {key: value for key, value in table.items() if key != "step"}
    for key in settings:
        if key not in options:
            known = ", ".join(options) or "nothing"
            raise RunError(f"{where}: the step '{name}' has no setting '{key}'; it takes {known}")
    for key, parameter in options.items():
        if parameter.default is inspect.Parameter.empty and key not in settings:
            raise RunError(f"{where}: the step '{name}' needs the setting '{key}'")
    values = {key: value_of(hints[key], value, f"{where}.{key}") for key, value in settings.items()}
    return typing.cast(Step, fit(x, c, columns, noise, **values))


def _converted(record: Any, to: torch.device | str | torch.dtype) -> Any:
    """A step with its tensors on another device, or its floating-point tensors of another type."""
    changes = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            plain = isinstance(to, torch.dtype) and not value.is_floating_point()
            changes[field.name] = value if plain else value.to(to)
        elif dataclasses.is_dataclass(value):
            changes[field.name] = _converted(value, to)
    return dataclasses.replace(record, **changes)


def _pack(record: Any, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    names = {cls: name for name, cls in STEPS.items()}
    table: dict[str, Any] = {"step": names[type(record)]}
    for field in dataclasses.fields(record):
        value, place = getattr(record, field.name), f"{prefix}.{field.name}"
        if isinstance(value, Tensor):
            tensors[place] = value
            table[field.name] = {"tensor": place}
        elif type(value) in names:
            table[field.name] = _pack(value, place, tensors)
        elif isinstance(value, ConditionScale):
            table[field.name] = {"range": list(value.range), "scale": value.scale}
        else:
            table[field.name] = value
    return table


def _unpack(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    cls = STEPS[table["step"]]
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        value = table[field.name]
        if isinstance(value, Mapping) and "tensor" in value:
            values[field.name] = tensors[value["tensor"]]
        elif isinstance(value, Mapping) and "step" in value:
            values[field.name] = _unpack(value, tensors)
        else:
            values[field.name] = value_of(hints[field.name], value, field.name)
    return cls(**values)

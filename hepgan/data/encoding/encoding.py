"""Events to ``x[B, F]``, ``c[B, C]`` and back: a chain of fitted, invertible steps.

>>> import awkward as ak
>>> schema = Schema.from_table({"fields": {"mass": {"unit": "GeV"}}})
>>> events = ak.Array({"mass": [80.0, 91.0, 125.0]})
>>> encoding = Encoding.fit(events, schema, EncodingSettings(({"step": "standardize"},)), seed=1)
>>> x, c = encoding.encode(events, seed=1)
>>> encoding.decode(x, c)["mass"].tolist()
[80.0, 91.0, 125.0]
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hepgan.data.encoding.base import Columns, ConditionScale, Noise, Step
from hepgan.data.encoding.bounds import Bounds, check_bounds
from hepgan.data.encoding.fit import apply_steps, fit_steps, sample_of
from hepgan.data.encoding.registry import converted, mapped, pack_step, unpack_step
from hepgan.data.io.dtypes import to_dtype
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, DataError, NotFiniteError, RunError
from hepgan.random_streams import numpy_generator

CPU = torch.device("cpu")
BLOCK = 2**19
"""Values that are encoded or decoded together."""

MOST_FEATURES = 2**24
"""Of a saved encoding: 400 times those of the largest published showers."""


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

    An encoding is fitted on the CPU and lives on one device, ``device``; ``to`` gives one on another. All its methods take and
    return tensors on that device. Encoding is done on the CPU, so that its result is the same to the last bit on every device.

    Attributes:
        schema: What an event is.
        scales: Each condition's scale.
        steps: The fitted steps, in the order of encoding, behind the bounds of the values.
        features: F, the width of ``x``; at least the schema's number of values.
        device: Where its constants are.
    """

    schema: Schema
    scales: Mapping[str, ConditionScale]
    steps: tuple[Step, ...]
    features: int
    device: torch.device = CPU

    @classmethod
    def fit(
        cls, events: ak.Array, schema: Schema, settings: EncodingSettings, *, seed: int
    ) -> "Encoding":
        """Fits one step after the other to ``events``.

        Raises:
            RunError: an unknown step or setting, or a condition without a scale.
            DataError: events that a step cannot take, or conditions outside their range.
        """
        columns = _columns(schema, settings)
        if len(events) == 0:
            raise DataError("there is no event to fit the encoding to; give at least one")
        x, c = _tensors(events, schema, settings.conditions)
        bounds = Bounds.fit(schema, x.amin(0), x.amax(0))
        noise = Noise(seed, ("fit",), np.arange(len(x)))
        steps, features = fit_steps(settings.steps, x, c, columns, noise)
        return cls(schema, settings.conditions, (bounds, *steps), features)

    @classmethod
    def fit_stream(
        cls,
        chunks: Callable[[], Iterable[ak.Array]],
        schema: Schema,
        settings: EncodingSettings,
        *,
        seed: int,
        sample: int = 50_000,
    ) -> "Encoding":
        """Fits to events that do not fit in memory.

        Ranges, means, widths and constant columns are those of all events, at one more pass over the chunks each; what
        needs ranks or covariances is fitted to ``sample`` events, drawn evenly from all.

        Args:
            chunks: Starts a pass over the events, e.g. ``lambda: split_chunks(files, schema, shares, "train")``.
            schema: What an event is.
            settings: As in ``fit``.
            seed: For the sample and for steps that spread discrete values.
            sample: How many events are held in memory.

        Raises:
            RunError: as ``fit``.
            DataError: as ``fit``, or there is no event.
        """
        columns = _columns(schema, settings)

        def pieces() -> Iterator[tuple[Tensor, Tensor]]:
            first = 0
            for events in chunks():
                yield _tensors(events, schema, settings.conditions, first=first)
                first += len(events)

        rng = numpy_generator(seed, "encoding", "sample")
        x, c, (low, high) = sample_of(pieces(), sample, rng)
        bounds = Bounds.fit(schema, low, high)
        noise = Noise(seed, ("fit",), np.arange(len(x)))
        steps, features = fit_steps(settings.steps, x, c, columns, noise, pieces=pieces)
        return cls(schema, settings.conditions, (bounds, *steps), features)

    @property
    def conditions(self) -> int:
        """C, the width of ``c``."""
        return sum(scale.columns for scale in self.scales.values())

    def encode(
        self,
        events: ak.Array,
        *,
        seed: int,
        file: str = "",
        entries: npt.NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns ``x[E, F]`` and ``c[E, C]`` of events, float32.

        Args:
            events: The events.
            seed: For steps that spread discrete values. Their noise is a function of (seed, file, entry).
            file: Names the events' file. Whoever encodes chunk by chunk gives it and the entries, as ``StreamingLoader`` does,
                lest each chunk gets the same noise.
            entries: ``[E]`` the events' entries in that file; their places in ``events`` where there are none.

        Raises:
            DataError: a condition outside its range, an event that a step cannot take, or not as many entries as events.
            RunError: the seed is no integer from 0 to 2^64 − 1.
        """
        entries = np.arange(len(events)) if entries is None else np.asarray(entries)
        if len(entries) != len(events):
            raise DataError(f"{len(entries)} entries are given for {len(events)} events")
        noise = Noise(seed, ("encode", file), entries)
        c = _conditions(events, self.scales)
        values, steps = _values(events, self.schema), self.to("cpu").steps
        x = torch.empty(len(events), self.features)
        for start in range(0, len(events), rows := _rows(self.features)):
            part = slice(start, start + rows)
            here = dataclasses.replace(noise, entries=entries[part])
            x[part] = apply_steps(steps, _flatten(values, part), c[part], here, first=start)
        return x.to(self.device), c.float().to(self.device)

    def encode_conditions(self, values: Mapping[str, npt.ArrayLike]) -> Tensor:
        """``c[E, C]`` of condition values ``[E]`` in the schema's units, float32.

        Raises:
            DataError: a condition is missing, unknown, of another length, or outside the range that was trained.
        """
        return _conditions(values, self.scales).float().to(self.device)

    def decode_tensors(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Each field's values ``[B, *shape]``, within their bounds, differentiable where the steps are."""
        for step in reversed(self.steps):
            x = step.decode(x, c)
        places = _slices({name: field.size for name, field in self.schema.fields.items()})
        return {
            name: x[:, place].reshape(-1, *self.schema.fields[name].shape)
            for name, place in places.items()
        }

    def decode(
        self, x: Tensor, c: Tensor, *, given: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> ak.Array:
        """Events of ``x[E, F]``, ``c[E, C]``: the schema's fields and conditions, with the types of the file they come from.

        ``given`` are values of conditions ``[E]`` that are taken as they are, not as they come back from the encoding.

        Raises:
            NotFiniteError: a number of ``x`` or of an event is NaN or infinite; names the field and the first event.
        """
        fields, given = self.schema.all, given or {}
        found = {
            name: given.get(name, np.empty((len(x), *field.shape), field.dtype or "float32"))
            for name, field in fields.items()
        }
        with torch.no_grad():
            for start in range(0, len(x), rows := _rows(self.features)):
                part = slice(start, start + rows)
                _check_finite("the encoded event", x[part].cpu().numpy(), first=start)
                made = self.decode_tensors(x[part], c[part]) | self.decode_conditions(c[part])
                for name, values in made.items():
                    if name not in given:
                        numbers = values.cpu().numpy()
                        _check_finite(f"field '{name}'", numbers, first=start)
                        found[name][part] = to_dtype(
                            numbers, fields[name].dtype or "float32", name, first=start
                        )
        for name, field in fields.items():
            if field.fill is not None:  # what lies behind a list's end is no value
                inside = np.arange(field.shape[0]) < found[field.count][:, None]
                found[name][~inside] = field.fill
        # As ak.zip has it, which takes a third of the time of a single event.
        columns = [ak.contents.NumpyArray(values) for values in found.values()]
        return ak.Array(ak.contents.RecordArray(columns, list(found)))

    def decode_conditions(self, c: Tensor) -> dict[str, Tensor]:
        """Each condition's values ``[B]``, in the schema's units."""
        places = _slices({name: scale.columns for name, scale in self.scales.items()})
        return {name: self.scales[name].decode(c[:, place]) for name, place in places.items()}

    def to(self, device: torch.device | str) -> "Encoding":
        """Returns the same encoding on ``device``."""
        steps = tuple(converted(step, device) for step in self.steps)
        return dataclasses.replace(self, steps=steps, device=torch.device(device))

    def pack(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What ``unpack`` takes: a table for JSON and the tensors that it names."""
        tensors: dict[str, Tensor] = {}
        table = {
            "features": self.features,
            "conditions": {name: dataclasses.asdict(s) for name, s in self.scales.items()},
            "steps": [
                pack_step(step, f"encoding.{i}", tensors) for i, step in enumerate(self.steps)
            ],
        }
        return table, tensors

    @classmethod
    def unpack(
        cls, schema: Schema, table: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> "Encoding":
        """The encoding that ``pack`` described.

        Raises:
            CheckpointError: a step or tensor that is unknown or missing, or a size that no schema has.
        """
        try:
            scales = {
                name: ConditionScale(tuple(scale["range"]), scale["scale"])
                for name, scale in table["conditions"].items()
            }
            steps = tuple(unpack_step(step, tensors) for step in table["steps"])
            features = int(table["features"])
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"the saved encoding is damaged: {error!r}") from error
        if not schema.features <= features <= MOST_FEATURES:
            raise CheckpointError(
                f"the saved encoding is damaged: it has {features:,} features of {schema.features:,} values"
            )
        return cls(schema, scales, steps, features)


class EncodingModule(nn.Module):
    """Holds an encoding in a module: its constants are buffers, so that ``.to`` of the module around it moves them too."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self._fitted = encoding
        self.register_buffer("place", torch.empty(0, device=encoding.device), persistent=False)
        for name, constant in encoding.pack()[1].items():
            self.register_buffer(name.replace(".", "_"), constant, persistent=False)

    @property
    def encoding(self) -> Encoding:
        """The encoding, on the device and in the precision of the module."""
        place, *constants = self.buffers()
        left = iter(constants)
        steps = tuple(mapped(step, lambda _: next(left)) for step in self._fitted.steps)
        return dataclasses.replace(self._fitted, steps=steps, device=place.device)


def _columns(schema: Schema, settings: EncodingSettings) -> Columns:
    _same_names(schema, settings)
    fields = _slices({name: field.size for name, field in schema.fields.items()})
    conditions = _slices({name: scale.columns for name, scale in settings.conditions.items()})
    units = {name: field.unit for name, field in schema.all.items()}
    return Columns(fields, units, conditions, settings.conditions)


def _slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}


def _check_finite(of: str, values: npt.NDArray[Any], *, first: int) -> None:
    if not np.isfinite(values).all():
        at, *_ = np.argwhere(~np.isfinite(values))[0]
        bad = values[at][~np.isfinite(values[at])]
        raise NotFiniteError(
            f"{of} is {bad.flat[0]} in generated event {first + at}, so the generator is not to be used"
        )


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


def _rows(features: int) -> int:
    """Events that are encoded together: few enough for the processor's cache, enough to be worth a call."""
    return max(64, BLOCK // features)


def _values(events: ak.Array, schema: Schema, *, first: int = 0) -> list[npt.NDArray[Any]]:
    """The fields' values ``[E, n]``, row-major, in the schema's order and their own types; events are counted from ``first``.

    Raises:
        DataError: a value beyond the declared limits of its field.
    """
    return [
        check_bounds(
            ak.to_numpy(events[name]).reshape(len(events), field.size), field, name, first=first
        )
        for name, field in schema.fields.items()
    ]


def _flatten(values: Sequence[npt.NDArray[Any]], part: slice) -> Tensor:
    """``[E, F]`` in float64: a part of the events."""
    return torch.from_numpy(np.concatenate([v[part] for v in values], axis=1, dtype=np.float64))


def _tensors(
    events: ak.Array, schema: Schema, scales: Mapping[str, ConditionScale], *, first: int = 0
) -> tuple[Tensor, Tensor]:
    """``x[E, F]`` and ``c[E, C]`` in float64, before any step; events are counted from ``first``."""
    values = _values(events, schema, first=first)
    return _flatten(values, slice(None)), _conditions(events, scales)


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

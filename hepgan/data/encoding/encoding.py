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
import hashlib
import html
import itertools
import json
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hepgan.config import from_table
from hepgan.data.dtypes import to_dtype
from hepgan.data.encoding.base import NAMES, ColumnLayout, Noise, Step, SummarizedStep
from hepgan.data.encoding.bounds import Bounds, check_bounds
from hepgan.data.encoding.conditions import (
    UNITS,
    ConditionScale,
    ConditionStatistics,
    encode_conditions,
)
from hepgan.data.encoding.steps import (
    apply_steps,
    are_weights,
    draw_sample,
    fit_steps,
    map_tensors,
    pack_step,
    step_to,
    unpack_step,
)
from hepgan.data.schema import Schema
from hepgan.data.weights import (
    LEAST_EFFECTIVE,
    WeightSums,
    effective_sample_size,
    event_weights,
    normalized_weights,
)
from hepgan.errors import CheckpointError, DataError, NotFiniteError, RunError
from hepgan.progress import ProgressCallback, no_progress
from hepgan.random_streams import numpy_generator

CPU = torch.device("cpu")
BLOCK = 2**19
"""Number of values that are encoded or decoded at once."""

MAX_FEATURES = 2**24
"""Maximum size of a saved encoding: 400 times the largest published showers."""


@dataclasses.dataclass(frozen=True)
class EncodingSettings:
    """The table ``[encoding]`` of a run file.

    Attributes:
        steps: Tables with the key ``step`` and the settings of that step's ``fit``, in the order of encoding.
        conditions: Scale of each condition of the schema.
        candidates: Steps of several encodings by name, instead of ``steps``: all are fitted, and the one whose events, decoded from
            normal numbers, are hardest to tell from those of the validation split is used.
    """

    steps: tuple[Mapping[str, Any], ...] = typing.cast(Any, None)  # required without candidates
    conditions: Mapping[str, ConditionScale] = dataclasses.field(default_factory=dict)
    candidates: Mapping[str, tuple[Mapping[str, Any], ...]] = dataclasses.field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        if self.candidates and self.steps:
            raise RunError("[encoding] has both 'steps' and 'candidates'; remove one of them")
        if typing.cast(object, self.steps) is None:
            if not self.candidates:
                raise RunError(
                    "[encoding] has no 'steps'; give the steps of the encoding, or [encoding.candidates]"
                )
            object.__setattr__(self, "steps", ())

    @property
    def every_step(self) -> tuple[Mapping[str, Any], ...]:
        """The steps, those of all candidates included."""
        return (*self.steps, *itertools.chain.from_iterable(self.candidates.values()))


@dataclasses.dataclass(frozen=True, repr=False)
class Encoding:
    """Fitted, invertible map between events and tensors; ``decode`` inverts ``encode`` to float32 precision.

    An encoding is fitted on the CPU and has one device; ``to`` returns a copy on another. Its methods take and return tensors on that
    device. Events are encoded on the CPU, so that the result is bit for bit the same on every device.

    Attributes:
        schema: Fields and conditions of an event.
        scales: Scale of each condition.
        steps: Fitted steps in the order of encoding, after the bounds of the values.
        features: F, the number of columns of ``x``; at least the number of values in the schema.
        device: Device of the constants.
        fitted_events: Number of events used in the fit; 0 if unknown.
        effective_events: Effective number of these events, if they have different weights, otherwise 0.
        choice: Reason for which this encoding was chosen among candidates; empty if there were none.
    """

    schema: Schema
    scales: Mapping[str, ConditionScale]
    steps: tuple[Step, ...]
    features: int
    device: torch.device = CPU
    fitted_events: int = 0
    choice: str = ""
    effective_events: float = 0.0

    def __hash__(self) -> int:
        return hash((self.steps, self.features, self.device))

    def __repr__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self._summary()]
        return f"Encoding({'; '.join(lines)})"

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._summary()
        )
        return f"<table>{''.join(rows)}</table>"

    def _summary(self) -> list[tuple[str, str]]:
        """Returns the rows of the short representations."""
        steps = ", ".join(NAMES[type(step)] for step in self.steps)
        values = sum(field.size for field in self.schema.fields.values())
        rows = [("steps", steps), ("x", f"{values:,} values → {self.features:,} features")]
        scales = (f"{name} {scale.scale} {scale}" for name, scale in self.scales.items())
        if self.scales:
            rows.append(("c", f"{', '.join(scales)} → {self.conditions} columns"))
        if self.fitted_events:
            rows.append(("fitted to", self.about_events))
        rows += [
            (NAMES[type(step)], step.summary())
            for step in self.steps
            if isinstance(step, SummarizedStep)
        ]
        if self.choice:
            rows.append(("chosen", self.choice))
        return rows

    @classmethod
    def fit(
        cls,
        events: ak.Array,
        schema: Schema,
        settings: EncodingSettings,
        *,
        seed: int,
        start: "Encoding | None" = None,
        progress: ProgressCallback = no_progress,
    ) -> "Encoding":
        """Fits the steps in order to ``events``, weighted with their field ``weight`` unless it is a field of the schema.

        Args:
            events: Training events.
            schema: Fields and conditions of an event.
            settings: Steps, and scales of the conditions.
            seed: Seed of steps that add noise, and of their networks.
            start: Encoding of other events of the same kind: networks start from its networks, correlations are a mixture of its
                and those of ``events``; all else is fitted to ``events``.
            progress: Progress callback.

        Raises:
            RunError: an unknown step or setting, or a condition without a scale.
            DataError: events that a step does not support, conditions outside their range or without variation in it, a class
                with too few events, or weights as in ``normalized_weights``.
        """
        columns = _columns(schema, settings)
        if len(events) == 0:
            raise DataError("there are no events to fit the encoding to; give at least one")
        x, c = _tensors(events, schema, settings.conditions)
        weights = normalized_weights(events, schema, least=LEAST_EFFECTIVE)
        ConditionStatistics.of(c, weights).check(settings.conditions)
        bounds = Bounds.fit(schema, x.amin(0), x.amax(0))
        noise = Noise(seed, ("fit",), np.arange(len(x)))
        steps, features = fit_steps(
            settings.steps,
            x,
            c,
            columns,
            noise,
            weights,
            start=_steps_of(start, settings),
            progress=progress,
        )
        return cls(
            schema, settings.conditions, (bounds, *steps), features, fitted_events=len(events),
            effective_events=0.0 if weights is None else effective_sample_size(weights.numpy()),
        )  # fmt: skip

    @classmethod
    def fit_stream(
        cls,
        chunks: Callable[[], Iterable[ak.Array]],
        schema: Schema,
        settings: EncodingSettings,
        *,
        seed: int,
        sample: int = 50_000,
        start: "Encoding | None" = None,
        progress: ProgressCallback = no_progress,
    ) -> "Encoding":
        """Fits to events that do not fit in memory.

        Ranges, means, standard deviations and constant columns are those of all events, at the cost of another pass over the chunks per
        step; steps that need ranks or covariances are fitted to a uniform random sample of ``sample`` events.

        Args:
            chunks: Function that starts a pass over the events, e.g. ``lambda: split_chunks(files, schema, fractions, "train")``.
            schema: Fields and conditions of an event.
            settings: As in ``fit``.
            seed: Seed of the sample and of steps that add noise to discrete values.
            sample: Number of events in memory.
            start: As in ``fit``.
            progress: Progress callback.

        Raises:
            RunError: as ``fit``.
            DataError: as ``fit``, or there are no events.
        """
        columns = _columns(schema, settings)

        def tensors() -> Iterator[tuple[Tensor, ...]]:
            first = 0
            for events in chunks():
                x, c = _tensors(events, schema, settings.conditions, first=first)
                weights = event_weights(events, schema)
                yield (x, c) if weights is None else (x, c, torch.from_numpy(weights))
                first += len(events)

        seen = ConditionStatistics.of(
            torch.empty(
                0, sum(s.columns for s in settings.conditions.values()), dtype=torch.float64
            )
        )

        sums = WeightSums()

        def counted() -> Iterator[tuple[Tensor, ...]]:
            nonlocal seen, sums
            for x, c, *weights in tensors():
                seen = seen + ConditionStatistics.of(c, *weights)
                for values in weights:
                    sums = sums.merge(WeightSums.of(values.numpy()))
                yield x, c, *weights

        rng = numpy_generator(seed, "encoding", "sample")
        (x, c, *sampled), (low, high) = draw_sample(counted(), sample, rng)
        seen.check(settings.conditions)
        weights = None
        if sampled and not sums.equal:
            sums.check(least=LEAST_EFFECTIVE)
            of_sample = WeightSums.of(sampled[0].numpy())
            of_sample.check(least=LEAST_EFFECTIVE)
            weights = torch.from_numpy(of_sample.normalized(sampled[0].numpy()))
        bounds = Bounds.fit(schema, low, high)
        noise = Noise(seed, ("fit",), np.arange(len(x)))
        steps, features = fit_steps(
            settings.steps, x, c, columns, noise, weights,
            chunks=tensors, start=_steps_of(start, settings), progress=progress,
        )  # fmt: skip
        return cls(
            schema, settings.conditions, (bounds, *steps), features, fitted_events=seen.events,
            effective_events=0.0 if weights is None else sums.effective,
        )  # fmt: skip

    @property
    def step_names(self) -> list[str]:
        """Names of the steps in the order of encoding, without the bounds."""
        return [NAMES[type(step)] for step in self.steps if not isinstance(step, Bounds)]

    @property
    def about_events(self) -> str:
        """Number of events used in the fit, and their effective number if they have weights."""
        weighted = self.effective_events
        effective = f" with weights, effective number {weighted:,.0f}" if weighted else ""
        return f"{self.fitted_events:,} events{effective}"

    @property
    def conditions(self) -> int:
        """C, the number of columns of ``c``."""
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
            seed: Seed of steps that add noise to discrete values; the noise is a function of (seed, file, entry).
            file: Name of the events' file. Required with ``entries`` to encode chunk by chunk, as ``StreamingLoader`` does; otherwise
                every chunk gets the same noise.
            entries: ``[E]`` entry numbers of the events in that file; default: their positions in ``events``.

        Raises:
            DataError: a condition outside its range, an event that a step does not support, or unequal numbers of entries and events.
            RunError: the seed is not an integer from 0 to 2^64 − 1.
        """
        entries = np.arange(len(events)) if entries is None else np.asarray(entries)
        if len(entries) != len(events):
            raise DataError(
                f"there are {len(entries)} entries for {len(events)} events; give one entry per event"
            )
        noise = Noise(seed, ("encode", file), entries)
        c = encode_conditions(events, self.scales)
        values, steps = _values(events, self.schema), self.to("cpu").steps
        x = torch.empty(len(events), self.features)
        for start in range(0, len(events), rows := _rows(self.features)):
            part = slice(start, start + rows)
            here = dataclasses.replace(noise, entries=entries[part])
            x[part] = apply_steps(steps, _flatten(values, part), c[part], here, first=start)
        return x.to(self.device), c.float().to(self.device)

    def encode_conditions(self, values: Mapping[str, npt.ArrayLike]) -> Tensor:
        """Returns ``c[E, C]`` of condition values ``[E]`` in the units of the schema, float32.

        Raises:
            DataError: a condition is missing, of another length, or outside the trained range.
        """
        return encode_conditions(values, self.scales).float().to(self.device)

    def decode_tensors(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Returns the values ``[B, *shape]`` of each field, within their bounds; differentiable."""
        for step in reversed(self.steps):
            x = step.decode(x, c)
        slices = _slices({name: field.size for name, field in self.schema.fields.items()})
        return {
            name: x[:, columns].reshape(-1, *self.schema.fields[name].shape)
            for name, columns in slices.items()
        }

    def decode(
        self, x: Tensor, c: Tensor, *, given: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> ak.Array:
        """Returns the events of ``x[E, F]``, ``c[E, C]``: the fields and conditions of the schema, with the types of the training file.

        ``given`` are values ``[E]`` of conditions to use instead of the decoded ones, which are rounded.

        Raises:
            NotFiniteError: ``x`` or an event has a NaN or infinite value; names the field and the first event.
        """
        return self.events(self.decode_parts(x, c), c, given=given)

    def decode_parts(self, x: Tensor, c: Tensor) -> Iterator[dict[str, Tensor]]:
        """Yields the fields of ``x[E, F]``, ``c[E, C]``, so many events at once that they fit into the cache, without gradients.

        Raises:
            NotFiniteError: ``x`` has a NaN or infinite value; names the first event.
        """
        for start in range(0, len(x), rows := _rows(self.features)):
            part = slice(start, start + rows)
            _check_finite("the encoded event", x[part].detach().cpu().numpy(), first=start)
            with torch.no_grad():
                fields = self.decode_tensors(x[part], c[part])
            yield fields

    @torch.no_grad()
    def events(
        self,
        parts: Iterable[Mapping[str, Tensor]],
        c: Tensor,
        *,
        given: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> ak.Array:
        """Returns the events whose decoded fields are ``parts``, a batch after the other, as ``decode``.

        Raises:
            NotFiniteError: an event has a NaN or infinite value; names the field and the first event.
        """
        fields, given, start = self.schema.all, given or {}, 0
        columns = {
            name: given.get(name, np.empty((len(c), *field.shape), field.dtype or "float32"))
            for name, field in fields.items()
        }
        for decoded in parts:
            part = slice(start, start + len(next(iter(decoded.values()))))
            for name, values in (dict(decoded) | self.decode_conditions(c[part])).items():
                if name not in given:
                    numbers = values.cpu().numpy()
                    _check_finite(f"field '{name}'", numbers, first=start)
                    dtype = fields[name].dtype or "float32"
                    columns[name][part] = to_dtype(numbers, dtype, name, first=start)
            start = part.stop
        for name, field in fields.items():
            if field.fill is not None:  # padding
                inside = np.arange(field.shape[0]) < columns[field.count][:, None]
                columns[name][~inside] = field.fill
        # Equivalent to ak.zip, which takes a third of the time for a single event.
        contents = [ak.contents.NumpyArray(values) for values in columns.values()]
        return ak.Array(ak.contents.RecordArray(contents, list(columns)))

    def decode_conditions(self, c: Tensor) -> dict[str, Tensor]:
        """Returns the values ``[B]`` of each condition in the units of the schema."""
        slices = _slices({name: scale.columns for name, scale in self.scales.items()})
        return {name: self.scales[name].decode(c[:, columns]) for name, columns in slices.items()}

    def to(self, device: torch.device | str) -> "Encoding":
        """Returns the same encoding on ``device``."""
        steps = tuple(step_to(step, device) for step in self.steps)
        return dataclasses.replace(self, steps=steps, device=torch.device(device))

    def pack(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Returns a table for JSON and the tensors that it names, for ``unpack``."""
        tensors: dict[str, Tensor] = {}
        table = {
            "features": self.features,
            "fitted_events": self.fitted_events,
            "effective_events": self.effective_events,
            "choice": self.choice,
            "conditions": {name: scale.table() for name, scale in self.scales.items()},
            "steps": [
                pack_step(step, f"encoding.{i}", tensors) for i, step in enumerate(self.steps)
            ],
        }
        return table, tensors

    def fingerprint(self) -> str:
        """Returns a hash of the settings and the exact fitted constants."""
        table, tensors = self.pack()
        digest = hashlib.blake2b(json.dumps(table, sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def unpack(
        cls, schema: Schema, table: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> "Encoding":
        """Returns the encoding of a table and tensors from ``pack``.

        Raises:
            CheckpointError: an unknown or missing step or tensor, an impossible size, or a step of a plugin that is not imported.
        """
        try:
            scales = {
                name: from_table(ConditionScale, scale, where=f"conditions.{name}")
                for name, scale in table["conditions"].items()
            }
            steps = tuple(unpack_step(step, tensors) for step in table["steps"])
            features, events = int(table["features"]), int(table["fitted_events"])
            effective = float(table.get("effective_events", 0.0))
            choice = str(table.get("choice", ""))
        except KeyError as error:
            raise CheckpointError(
                f"the saved encoding is damaged, or of an unreleased version of hepgan: it has no {error}; train again"
            ) from error
        except (TypeError, AttributeError) as error:
            raise CheckpointError(f"the saved encoding is damaged: {error!r}") from error
        except RunError as error:
            raise CheckpointError(f"the saved encoding is damaged: {error}") from error
        if not schema.features <= features <= MAX_FEATURES:
            raise CheckpointError(
                f"the saved encoding is damaged: it has {features:,} features for {schema.features:,} values"
            )
        return cls(
            schema, scales, steps, features,
            fitted_events=events, choice=choice, effective_events=effective,
        )  # fmt: skip


class EncodingModule(nn.Module):
    """Module with the constants of an encoding as buffers, so that ``.to`` of the parent module moves them.

    Args:
        encoding: The encoding.
        trained: Whether the weights of its networks are parameters: copies, through which gradients flow.

    Raises:
        RunError: an encoding without networks cannot be trained.
    """

    def __init__(self, encoding: Encoding, *, trained: bool = False) -> None:
        super().__init__()
        self._fitted = encoding
        self._names: list[str] = []
        of_networks = [flag for step in encoding.steps for flag in are_weights(step)]
        if trained and not any(of_networks):
            names = ", ".join(NAMES[type(step)] for step in encoding.steps) or "none"
            raise RunError(
                "[train] encoding_learning_rate trains the networks of an encoding, as energy_tree and autoregressive have, but there"
                f" are none in the steps of this one ({names}); set it to 0"
            )
        self.register_buffer(
            "device_marker", torch.empty(0, device=encoding.device), persistent=False
        )
        constants = encoding.pack()[1].items()
        for (full, constant), of_network in zip(constants, of_networks, strict=True):
            self._names.append(name := full.replace(".", "_"))
            if trained and of_network:
                self.register_parameter(name, nn.Parameter(constant.detach().clone()))
            else:
                self.register_buffer(name, constant, persistent=False)

    @property
    def encoding(self) -> Encoding:
        """Encoding on the device and in the precision of the module."""
        remaining = iter([self._constant(name) for name in self._names])
        steps = tuple(map_tensors(step, lambda _: next(remaining)) for step in self._fitted.steps)
        device = self.get_buffer("device_marker").device
        return dataclasses.replace(self._fitted, steps=steps, device=device)

    def _constant(self, name: str) -> Tensor:
        constant: Tensor = getattr(self, name)
        if isinstance(constant, nn.Parameter) and not (
            constant.requires_grad and torch.is_grad_enabled()
        ):
            return constant.detach()  # so that kernels apply
        return constant


def _steps_of(start: Encoding | None, settings: EncodingSettings) -> tuple[Step, ...]:
    """Returns the steps of an encoding to start from, without the bounds.

    Raises:
        RunError: its steps are of other types than those of ``settings``.
    """
    if start is None:
        return ()
    there = start.step_names
    if there != (here := step_names(settings.steps)):
        raise RunError(
            f"the encoding to start from has the steps {', '.join(there) or 'none'}, but here they are {', '.join(here) or 'none'};"
            " use the same steps"
        )
    return tuple(step for step in start.steps if not isinstance(step, Bounds))


def step_names(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the names in tables of steps."""
    return [str(table.get("step")) for table in steps]


def _columns(schema: Schema, settings: EncodingSettings) -> ColumnLayout:
    _check_conditions(schema, settings)
    fields = _slices({name: field.size for name, field in schema.fields.items()})
    conditions = _slices({name: scale.columns for name, scale in settings.conditions.items()})
    units = {name: field.unit for name, field in schema.all.items()}
    shapes = {name: field.shape for name, field in schema.fields.items()}
    return ColumnLayout(fields, units, conditions, settings.conditions, shapes)


def _slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    ends = itertools.accumulate(sizes.values())
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}


def _check_finite(name: str, values: npt.NDArray[Any], *, first: int) -> None:
    with np.errstate(all="ignore"):
        finite = np.isfinite(values.sum()) or np.isfinite(values).all()  # the sum is faster
    if not finite:
        at, *_ = np.argwhere(~np.isfinite(values))[0]
        bad = values[at][~np.isfinite(values[at])]
        raise NotFiniteError(
            f"{name} is {bad.flat[0]} in generated event {first + at}; do not use this generator"
        )


def _check_conditions(schema: Schema, settings: EncodingSettings) -> None:
    for name, field in schema.conditions.items():
        if field.shape:
            raise RunError(
                f"[schema.conditions.{name}] has the shape {list(field.shape)}, but a condition must be a scalar"
            )
        if name not in settings.conditions:
            raise RunError(
                f"the condition '{name}' needs a range: [encoding.conditions.{name}] range = [low, high]"
            )
    for name, scale in settings.conditions.items():
        if name not in schema.conditions:
            raise RunError(f"[encoding.conditions.{name}] is not a condition of the schema")
        unit, units = schema.conditions[name].unit, UNITS.get(scale.scale, ())
        if unit and units and unit not in units:
            raise RunError(
                f"[schema.conditions.{name}] unit = '{unit}', but [encoding.conditions.{name}] scale = '{scale.scale}' is for angles"
                f" in {units[0]}; 'angle' is for rad, 'degrees' for deg"
            )


def _rows(features: int) -> int:
    """Returns the number of events to encode at once: few enough for the CPU cache, enough to amortize the call."""
    return max(64, BLOCK // features)


def _values(events: ak.Array, schema: Schema, *, first: int = 0) -> list[npt.NDArray[Any]]:
    """Returns the values ``[E, n]`` of each field, row-major, in the order of the schema; events are counted from ``first``.

    Raises:
        DataError: a value outside the declared limits of its field.
    """
    return [
        check_bounds(
            ak.to_numpy(events[name]).reshape(len(events), field.size), field, name, first=first
        )
        for name, field in schema.fields.items()
    ]


def _flatten(values: Sequence[npt.NDArray[Any]], part: slice) -> Tensor:
    """Returns ``[E, F]`` in float64 for a part of the events."""
    return torch.from_numpy(np.concatenate([v[part] for v in values], axis=1, dtype=np.float64))


def _tensors(
    events: ak.Array, schema: Schema, scales: Mapping[str, ConditionScale], *, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Returns ``x[E, F]`` and ``c[E, C]`` in float64, before any step; events are counted from ``first``."""
    values = _values(events, schema, first=first)
    return _flatten(values, slice(None)), encode_conditions(events, scales)

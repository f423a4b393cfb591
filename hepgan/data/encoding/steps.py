"""Chain of steps: fitted in memory or to a stream, applied, moved, and saved as JSON and tensors (no pickle)."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepgan.config import value_of

# Importing the modules registers their steps, in the order of the documentation.
from hepgan.data.encoding import (  # noqa: F401
    autoregressive,
    bounds,
    conditional_regression,
    copula,
    correlation,
    energy_tree,
    layer_energies,
    marginals,
    pointwise,
    scaling,
)
from hepgan.data.encoding.base import (
    FROM_MOMENTS,
    NAMES,
    NETWORKS,
    STEPS,
    ColumnLayout,
    Moments,
    Noise,
    Step,
    settings_of,
)
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.density.tree import TreeLevel
from hepgan.errors import CheckpointError, DataError, RunError, did_you_mean
from hepgan.plugins import plugin_of
from hepgan.progress import ProgressCallback, no_progress, part_of

Chunks = Callable[[], Iterable[tuple[Tensor, ...]]]
"""Function that starts a pass over ``(x[E, F], c[E, C])`` of all events, and ``w[E]`` if they are weighted."""


def fit_steps(
    tables: Sequence[Mapping[str, Any]],
    x: Tensor,
    c: Tensor,
    columns: ColumnLayout,
    noise: Noise,
    weights: Tensor | None = None,
    *,
    chunks: Chunks | None = None,
    start: Sequence[Step] = (),
    progress: ProgressCallback = no_progress,
) -> tuple[tuple[Step, ...], int]:
    """Returns the fitted steps and the number of encoded columns.

    Args:
        tables: Settings of the steps.
        x: Features ``[E, F]``.
        c: Encoded conditions ``[E, C]``.
        columns: Columns of the fields and conditions.
        noise: Random numbers of the steps.
        weights: Weights ``[E]`` of the events, which add up to E; ``None`` if they are all equal.
        start: Fitted steps of other events, of the same types, to start from; steps whose ``fit`` has no parameter ``start`` ignore
            theirs.
        chunks: If ``x`` and ``c`` are only a sample: all events, to which steps are fitted that need only moments.
        progress: Progress callback.

    Raises:
        RunError: an unknown step or setting.
        DataError: events that a step does not support.
    """
    steps: list[Step] = []
    for i, table in enumerate(tables):
        data: Tensor | Moments = x
        if chunks is not None and STEPS.get(str(table.get("step"))) in FROM_MOMENTS:
            data = _encoded_moments(chunks(), steps, noise.child("moments"))
        report = part_of(progress, "fitting the encoding", i, len(tables))
        step = fit_step(
            table, data, c, columns, noise.child(i), report, weights,
            start=start[i] if start else None, where=f"encoding.steps[{i}]",
        )  # fmt: skip
        # In the precision in which they are saved: a loaded encoding is identical.
        steps.append(step_to(step, torch.float32))
        if i + 1 == len(tables):
            # Nothing is fitted to the columns of the last step, of which one event has as many.
            x, c = x[:1], c[:1]
            noise = dataclasses.replace(noise, entries=noise.entries[:1])
        x = apply_steps(steps[-1:], x, c, noise.child(i))
    return tuple(steps), x.shape[1]


def apply_steps(
    steps: Sequence[Step], x: Tensor, c: Tensor, noise: Noise, *, first: int = 0
) -> Tensor:
    """Returns ``x[E, F]`` encoded by all steps in order.

    Raises:
        DataError: a step returns NaN or infinity; names the step and the first event, counted from ``first``.
    """
    for number, step in enumerate(steps):
        x = step.encode(x, c, noise.child(number))
        if not x.sum().isfinite() and not x.isfinite().all():
            event = first + int((~x.isfinite()).any(1).nonzero()[0, 0])
            raise DataError(
                f"the encoding step '{NAMES[type(step)]}' makes event {event} not finite: its values are outside the "
                "range that the step was fitted to or supports; exclude it with a selection"
            )
    return x


def draw_sample(
    chunks: Iterable[tuple[Tensor, ...]], events: int, rng: np.random.Generator
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Returns the tensors of a uniform random sample of at most ``events`` events, and ``[2, F]`` the range of all events.

    Raises:
        DataError: there are no events.
    """
    sample: tuple[Tensor, ...] = ()
    extremes: list[Tensor] = []
    for chunk in chunks:
        if len(chunk[0]):
            values = torch.cat([chunk[0], *extremes])
            extremes = [torch.stack([values.amin(0), values.amax(0)])]
        # The events with the smallest random numbers are kept.
        keys = torch.from_numpy(rng.random(len(chunk[0])))
        parts = (*chunk, keys)
        sample = tuple(map(torch.cat, zip(sample, parts, strict=True))) if sample else parts
        if len(sample[0]) > events:
            kept = sample[-1].topk(events, largest=False).indices.sort().values
            sample = tuple(part[kept] for part in sample)
    if not sample or len(sample[0]) == 0:
        raise DataError("there is no event to fit the encoding to; give at least one")
    return sample[:-1], extremes[0]


def _encoded_moments(
    chunks: Iterable[tuple[Tensor, ...]], steps: Sequence[Step], noise: Noise
) -> Moments:
    """Returns the moments of all events encoded by ``steps``."""

    def parts() -> Iterator[Moments]:
        first = 0
        for x, c, *weights in chunks:
            entries = np.arange(first, first + len(x))
            first += len(x)
            if len(x):
                encoded = apply_steps(steps, x, c, dataclasses.replace(noise, entries=entries))
                yield Moments.of(encoded, *weights)

    return functools.reduce(Moments.merge, parts())


def fit_step(
    table: Mapping[str, Any],
    x: Tensor | Moments,
    c: Tensor,
    columns: ColumnLayout,
    noise: Noise,
    progress: ProgressCallback = no_progress,
    weights: Tensor | None = None,
    *,
    start: Step | None = None,
    where: str,
) -> Step:
    """Returns the fitted step of a table with the key ``step`` and its settings; ``where`` is its position, for messages.

    The progress callback is called at the start and the end, and by a ``fit`` that has a parameter ``progress``. Weights are used by a
    ``fit`` that has a parameter ``weights``, and the step ``start`` of other events by one that has a parameter ``start``.

    Raises:
        RunError: an unknown step or setting, or a missing setting.
        DataError: events that the step does not support.
    """
    name = str(table.get("step"))
    if name not in STEPS:
        known = ", ".join(STEPS)
        raise RunError(
            f"{where}: unknown step '{name}'{did_you_mean(name, STEPS)} (known: {known}); a step of your own is known when"
            " its module is in 'plugins'"
        )
    fit = typing.cast(Any, STEPS[name]).fit
    hints = typing.get_type_hints(fit, include_extras=True)
    options = settings_of(STEPS[name])
    settings = {key: value for key, value in table.items() if key != "step"}
    for key in settings:
        if key not in options:
            known = ", ".join(options) or "nothing"
            raise RunError(
                f"{where}: the step '{name}' has no setting '{key}'; its settings are {known}"
            )
    for key, parameter in options.items():
        if parameter.default is inspect.Parameter.empty and key not in settings:
            raise RunError(f"{where}: the step '{name}' needs the setting '{key}'")
    values = {
        key: value_of(hints[key], value, f"the step '{name}': {where}.{key}")
        for key, value in settings.items()
    }
    more = {"progress": part_of(progress, name), "weights": weights, "start": start}
    for key in (more.keys() & inspect.signature(fit).parameters.keys()) - options.keys():
        values[key] = more[key]
    progress(name, 0.0, "")
    try:
        step = typing.cast(Step, fit(x, c, columns, noise, **values))
    except (RunError, DataError) as error:
        raise type(error)(f"{where}, the step '{name}': {error}") from error
    progress(name, 1.0, "")
    return step


def step_to(record: Any, to: torch.device | str | torch.dtype) -> Any:
    """Returns a step with its tensors on another device, or its floating-point tensors with another dtype."""

    def move(value: Tensor) -> Tensor:
        keep = isinstance(to, torch.dtype) and not value.is_floating_point()
        return value if keep else value.to(to)

    return map_tensors(record, move)


def map_tensors(record: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Returns a step with ``function`` applied to each of its tensors, in the order in which ``pack_step`` adds them."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = function(value)
        elif type(value) in NAMES:
            changes[field.name] = map_tensors(value, function)
        elif _is_records(value):
            changes[field.name] = tuple(map_tensors(part, function) for part in value)
    return dataclasses.replace(record, **changes)


def are_weights(record: Any) -> Iterator[bool]:
    """Yields for each tensor of a step, in the same order, whether it holds weights of a network."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            yield type(record) in NETWORKS
        elif type(value) in NAMES:
            yield from are_weights(value)
        elif _is_records(value):
            for part in value:
                yield from are_weights(part)


def pack_step(record: Any, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Returns the table of a step; its tensors are added to ``tensors`` with names that start with ``prefix``.

    Raises:
        RunError: an attribute of a plugin's step cannot be saved.
    """
    table: dict[str, Any] = {"step": NAMES[type(record)]}
    if plugin := plugin_of(type(record)):
        table["plugin"] = plugin
    for field in dataclasses.fields(record):
        value, name = getattr(record, field.name), f"{prefix}.{field.name}"
        if isinstance(value, Tensor):
            tensors[name] = value
            table[field.name] = {"tensor": name}
        elif type(value) in NAMES:
            table[field.name] = pack_step(value, name, tensors)
        elif _is_records(value):
            table[field.name] = [
                pack_step(part, f"{name}.{i}", tensors) for i, part in enumerate(value)
            ]
        elif isinstance(value, ConditionScale):
            table[field.name] = value.table()
        elif value is None or isinstance(value, (bool, int, float, str, tuple)):
            table[field.name] = value
        else:
            raise RunError(
                f"the encoding step '{table['step']}' cannot be saved: its attribute '{field.name}' is a"
                f" {type(value).__name__}; use numbers, text, tuples of these, tensors or registered steps"
            )
    return table


def unpack_step(table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """Returns the step that ``pack_step`` saved.

    Raises:
        CheckpointError: the step is defined by a plugin that has not been imported.
    """
    name = table["step"]
    classes = {**{known: cls for cls, known in NAMES.items()}, **STEPS}
    if name not in classes and isinstance(plugin := table.get("plugin"), str):
        raise CheckpointError(
            f"the encoding step {name!r:.80} is defined by the plugin {plugin!r:.80}, which is not imported;"
            f" import it in Python, or pass --plugin"
        )
    cls = classes[name]
    hints = typing.get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        value = table[field.name]
        if isinstance(value, Mapping) and "tensor" in value:
            values[field.name] = tensors[value["tensor"]]
        elif isinstance(value, Mapping) and "step" in value:
            values[field.name] = unpack_step(value, tensors)
        elif isinstance(value, list) and value and all(_is_packed(part) for part in value):
            values[field.name] = tuple(unpack_step(part, tensors) for part in value)
        else:
            values[field.name] = value_of(hints[field.name], value, field.name)
    step = cls(**values)
    if isinstance(step, TreeLevel):
        step.check_loaded()
    return step


def _is_records(value: object) -> bool:
    """Returns true for a tuple of registered records."""
    return isinstance(value, tuple) and bool(value) and all(type(part) in NAMES for part in value)


def _is_packed(value: object) -> bool:
    return isinstance(value, Mapping) and "step" in value

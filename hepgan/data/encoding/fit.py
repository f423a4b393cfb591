"""Fitting a chain of steps: each to what those before it make of the events, in memory or on a stream."""

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
from hepgan.data.encoding.base import Columns, Moments, Noise, Step
from hepgan.data.encoding.pointwise import ZeroNoise
from hepgan.data.encoding.registry import NAMES, STEPS, converted
from hepgan.data.encoding.scaling import Scale, Standardise
from hepgan.errors import DataError, RunError, did_you_mean

ADDING = (Scale, Standardise, ZeroNoise)
"""The steps that are fitted to moments, which add up over chunks."""

Pieces = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Starts a pass over ``(x[E, F], c[E, C])`` of all events."""


def fit_steps(
    tables: Sequence[Mapping[str, Any]],
    x: Tensor,
    c: Tensor,
    columns: Columns,
    noise: Noise,
    *,
    pieces: Pieces | None = None,
) -> tuple[tuple[Step, ...], int]:
    """The fitted steps and the width of what they encode to.

    Args:
        tables: The steps' settings.
        x: Features ``[E, F]``.
        c: Encoded conditions ``[E, C]``.
        columns: Where things are.
        noise: For steps that draw.
        pieces: Where ``x`` and ``c`` are only a sample: all events, which the steps that add up are fitted to.

    Raises:
        RunError: an unknown step or setting.
        DataError: events that a step cannot take.
    """
    steps: list[Step] = []
    for i, table in enumerate(tables):
        seen: Tensor | Moments = x
        if pieces is not None and STEPS.get(str(table.get("step"))) in ADDING:
            seen = _moments(pieces(), steps, noise.child("moments"))
        step = fit_step(table, seen, c, columns, noise.child(i), where=f"encoding.steps[{i}]")
        # As they are saved, so that a loaded encoding is the same to the last bit.
        steps.append(converted(step, torch.float32))
        x = apply_steps(steps[-1:], x, c, noise.child(i))
    return tuple(steps), x.shape[1]


def apply_steps(
    steps: Sequence[Step], x: Tensor, c: Tensor, noise: Noise, *, first: int = 0
) -> Tensor:
    """``x[E, F]`` encoded by one step after the other.

    Raises:
        DataError: a step gives NaN or infinity; names it and the first event, counted from ``first``.
    """
    for number, step in enumerate(steps):
        x = step.encode(x, c, noise.child(number))
        if not x.sum().isfinite() and not x.isfinite().all():
            event = first + int((~x.isfinite()).any(1).nonzero()[0, 0])
            raise DataError(
                f"the encoding step '{NAMES[type(step)]}' makes event {event} not finite: it lies outside of what the "
                "step was fitted to, or can take; leave it out with a selection"
            )
    return x


def sample_of(
    pieces: Iterable[tuple[Tensor, Tensor]], events: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns at most ``events`` of all, each as likely as any other, in their order; and ``[2, F]`` the smallest and largest values of all.

    Raises:
        DataError: there is none.
    """
    held: tuple[Tensor, ...] = ()
    extremes: list[Tensor] = []
    for piece in pieces:
        if len(piece[0]):
            seen = torch.cat([piece[0], *extremes])
            extremes = [torch.stack([seen.amin(0), seen.amax(0)])]
        # Whoever drew the smallest numbers stays.
        lots = torch.from_numpy(rng.random(len(piece[0])))
        parts = (*piece, lots)
        held = tuple(map(torch.cat, zip(held, parts, strict=True))) if held else parts
        if len(held[0]) > events:
            kept = held[-1].topk(events, largest=False).indices.sort().values
            held = tuple(part[kept] for part in held)
    if not held or len(held[0]) == 0:
        raise DataError("there is no event to fit the encoding to; give at least one")
    return held[0], held[1], extremes[0]


def _moments(
    pieces: Iterable[tuple[Tensor, Tensor]], steps: Sequence[Step], noise: Noise
) -> Moments:
    """Of all events, as the ``steps`` so far make them."""

    def parts() -> Iterator[Moments]:
        first = 0
        for x, c in pieces:
            entries = np.arange(first, first + len(x))
            first += len(x)
            if len(x):
                yield Moments.of(
                    apply_steps(steps, x, c, dataclasses.replace(noise, entries=entries))
                )

    return functools.reduce(Moments.merged, parts())


def fit_step(
    table: Mapping[str, Any],
    x: Tensor | Moments,
    c: Tensor,
    columns: Columns,
    noise: Noise,
    *,
    where: str,
) -> Step:
    """The step of a table with the key ``step`` and its settings, fitted; ``where`` is its place for messages.

    Raises:
        RunError: an unknown step or setting, or one that is missing.
        DataError: events that the step cannot take.
    """
    name = str(table.get("step"))
    if name not in STEPS:
        known = ", ".join(STEPS)
        raise RunError(
            f"{where}: unknown step '{name}'{did_you_mean(name, STEPS)} (known: {known})"
        )
    fit = typing.cast(Any, STEPS[name]).fit
    hints = typing.get_type_hints(fit, include_extras=True)
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
    values = {
        key: value_of(hints[key], value, f"the step '{name}': {where}.{key}")
        for key, value in settings.items()
    }
    try:
        return typing.cast(Step, fit(x, c, columns, noise, **values))
    except (RunError, DataError) as error:
        raise type(error)(f"{where}, the step '{name}': {error}") from error

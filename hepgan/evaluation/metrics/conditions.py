"""Conditions of generated events: their kind, their slices, and the correlation of observables with them.

A condition is a class (integers without a unit), an angle (periodic) or a number. Slices of a condition are its classes, its few distinct
values, or its quartiles; ``by`` gives other edges: ``energy=1,10,50,100``, or ``pdg`` for the default. Correlations use normal
scores (ranks mapped to a Gaussian), which no outlier dominates; an angle has a cosine and a sine, a class an indicator.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from hepgan.data.schema import Schema
from hepgan.errors import DataError, did_you_mean
from hepgan.evaluation.formatting import distinct_texts
from hepgan.evaluation.metrics.statistics import Floats, normal_scores
from hepgan.evaluation.observables.shower_shapes import Array

MAX_DISTINCT = 20
"""Largest number of distinct values of a condition with one slice per value."""
QUARTILES = 4
CIRCLES = {"rad": 2 * math.pi, "deg": 360.0}


class Slice(NamedTuple):
    """Range of a condition.

    Attributes:
        condition: Name of the condition.
        label: The range in words, such as ``10 … 50 GeV`` or ``pdg = 22``.
        low: Smallest value.
        high: Upper edge, which belongs to the slice only if it is the last one or a single value.
        closed: Whether the upper edge belongs to the slice.
    """

    condition: str
    label: str
    low: float
    high: float
    closed: bool

    def contains(self, values: Array) -> npt.NDArray[np.bool_]:
        """Returns ``[E]`` booleans: whether each value lies in the slice."""
        below = values <= self.high if self.closed else values < self.high
        return np.asarray((values >= self.low) & below)


class Condition(NamedTuple):
    """Condition of generated events.

    Attributes:
        name: Name.
        kind: ``number``, ``angle`` or ``class``.
        unit: Unit of the values.
        slices: Slices, in increasing order.
        classes: Names of the classes of the reference, in increasing order; empty for other kinds.
    """

    name: str
    kind: Literal["number", "angle", "class"]
    unit: str
    slices: tuple[Slice, ...]
    classes: tuple[str, ...] = ()


class ConditionCorrelation(NamedTuple):
    """Correlation of an observable with a condition in both samples.

    Attributes:
        observable: Name of the observable.
        condition: Name of the condition.
        column: Function of the condition: its name, ``cos phi``, or ``pdg = 22``.
        reference: Correlation coefficient of normal scores in the reference.
        reference_error: Statistical error.
        generated: The same in the generated sample.
        generated_error: Statistical error.
        p_value: Probability of a difference at least as large if both samples have the same distribution.
    """

    observable: str
    condition: str
    column: str
    reference: float
    reference_error: float
    generated: float
    generated_error: float
    p_value: float

    @property
    def n_sigma(self) -> float:
        """Difference in units of the combined uncertainty; positive if the generated correlation is larger."""
        error = math.hypot(self.reference_error, self.generated_error)
        return (self.generated - self.reference) / error if error > 0 else 0.0


class ConditionResponse(NamedTuple):
    """Strength with which generated events follow a condition, relative to the reference.

    Attributes:
        condition: Name of the condition.
        value: 1 if the observables depend on the condition as in the reference, 0 if the condition is ignored, negative if the
            dependence is reversed (two classes are swapped).
        error: Statistical error.
        reference_significance: Significance of the dependence in the reference [standard deviations].
        remark: ``ignored``, ``weak``, ``strong``, ``reversed``, or names of swapped classes; empty if nothing is wrong.
    """

    condition: str
    value: float
    error: float
    reference_significance: float
    remark: str


def conditions_of(
    schema: Schema, reference: Mapping[str, Array], by: Sequence[str] = ()
) -> dict[str, Condition]:
    """Returns the scalar conditions of a schema by name, with slices from the reference or from ``by``.

    Args:
        schema: Schema that declares the conditions.
        reference: Arrays of the reference, which set the default slices.
        by: Conditions to slice, ``name`` or ``name=edge,edge,…``; all by default.

    Raises:
        DataError: ``by`` names an unknown condition or has invalid edges.
    """
    scalars = {name: field for name, field in schema.conditions.items() if field.shape == ()}
    chosen = dict(parse_slices(text) for text in by)
    for name in chosen:
        if name not in scalars:
            hint = did_you_mean(name, scalars) or f"; the conditions are {', '.join(scalars)}"
            raise DataError(f"by = '{name}' is not a condition of the events{hint}")
    result = {}
    for name, field in scalars.items():
        values = np.asarray(reference[name], dtype=np.float64)
        kind = _kind(values, field.unit)
        if by and name not in chosen:
            slices: tuple[Slice, ...] = ()
        elif edges := chosen.get(name):
            slices = _between(name, field.unit, edges)
        else:
            slices = _default_slices(name, field.unit, values, kind)
        classes = tuple(map(_class_name, np.unique(values))) if kind == "class" else ()
        result[name] = Condition(name, kind, field.unit, slices, classes)
    return result


def parse_slices(text: str) -> tuple[str, tuple[float, ...]]:
    """Returns the condition and the edges of ``name`` or ``name=edge,edge,…``.

    >>> parse_slices("energy=1,10,50")
    ('energy', (1.0, 10.0, 50.0))

    Raises:
        DataError: the edges are not increasing numbers.
    """
    name, equals, rest = text.partition("=")
    if not equals:
        return name.strip(), ()
    try:
        edges = tuple(float(edge) for edge in rest.split(","))
    except ValueError as error:
        raise DataError(
            f"by = '{text}' should be a condition and numbers, such as energy=1,10,50"
        ) from error
    increasing = all(a < b for a, b in itertools.pairwise(edges))
    if len(edges) < 2 or not increasing or not all(map(math.isfinite, edges)):
        raise DataError(f"by = '{text}' should have at least two edges in increasing order")
    return name.strip(), edges


def _kind(values: Floats, unit: str) -> Literal["number", "angle", "class"]:
    if unit in CIRCLES and float(np.ptp(values)) > CIRCLES[unit] / 2:
        return "angle"
    distinct = np.unique(values)
    if not unit and len(distinct) <= MAX_DISTINCT and np.all(distinct == np.round(distinct)):
        return "class"
    return "number"


def _default_slices(name: str, unit: str, values: Floats, kind: str) -> tuple[Slice, ...]:
    distinct = np.unique(values)
    suffix = f" {unit}" if unit else ""
    if len(distinct) < 2:
        return ()
    if len(distinct) <= MAX_DISTINCT:
        texts = [_class_name(v) for v in distinct] if kind == "class" else distinct_texts(distinct)
        return tuple(
            Slice(name, f"{name} = {text}{suffix}", float(v), float(v), closed=True)
            for v, text in zip(distinct, texts, strict=True)
        )
    edges = np.quantile(values, np.linspace(0, 1, QUARTILES + 1))
    return _between(name, unit, tuple(np.unique(edges).tolist()))


def _between(name: str, unit: str, edges: Sequence[float]) -> tuple[Slice, ...]:
    suffix = f" {unit}" if unit else ""
    last, texts = len(edges) - 2, distinct_texts(edges)
    return tuple(
        Slice(name, f"{name} = {texts[i]} … {texts[i + 1]}{suffix}", low, high, closed=i == last)
        for i, (low, high) in enumerate(itertools.pairwise(edges))
    )


def _class_name(value: float) -> str:
    return f"{value:.0f}".replace("-", "−")


def columns_of(
    condition: Condition, reference: Array, generated: Array
) -> dict[str, tuple[Floats, Floats]]:
    """Returns the columns ``[E]`` of a condition in both samples by name: normal scores, cosine and sine, or indicators of classes."""
    x, y = (np.asarray(values, dtype=np.float64) for values in (reference, generated))
    if condition.kind == "angle":
        turn = 2 * math.pi / CIRCLES[condition.unit]
        return {
            f"{label} {condition.name}": (function(turn * x), function(turn * y))
            for label, function in (("cos", np.cos), ("sin", np.sin))
        }
    if condition.kind == "class":
        classes = np.unique(np.concatenate([x, y]))
        # the indicator of the first of two classes follows from the other one
        shown = classes[1:] if len(classes) == 2 else classes
        return {
            f"{condition.name} = {_class_name(value)}": ((x == value) * 1.0, (y == value) * 1.0)
            for value in shown
        }
    scores = normal_scores(np.concatenate([x, y]))
    return {condition.name: (scores[: len(x)], scores[len(x) :])}

"""Scores of a generated sample, and metrics that were skipped."""

import dataclasses
import html
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import scipy.stats

from hepgan.data.io.names import printable
from hepgan.errors import DataError, did_you_mean
from hepgan.evaluation.formatting import significance_text, with_error
from hepgan.evaluation.metrics.conditions import ConditionCorrelation, ConditionResponse
from hepgan.evaluation.metrics.slices import SliceScore
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.evaluation.metrics.worth import Interval, Worth

if TYPE_CHECKING:
    from hist import Hist

    from hepgan.evaluation.sample import Sample

OVERALL = "all"
"""Name of the observable in scores of all observables together."""

LOWEST = -3.0
"""Smallest significance of a p-value: for tests of distances, p-values near 1 mean no more than that nothing is seen."""

MAX_ROWS = 40
"""Largest number of scores that a table shows."""

CLASSIFIER_INPUTS = {
    "auc_observables": "all observables",
    "auc_boosted": "all observables (boosted trees)",
    "auc_high": "the CaloChallenge's observables",
    "auc_low": "cells",
    "auc_log": "log cells",
    "auc_image": "images",
}
"""Inputs of the classifiers, by metric."""

HIGHER_IS_BETTER = {"precision", "recall", "density", "coverage", "digit_confidence"}


METRICS_OF_TASK = {
    "distribution": ("separation", "chi_square", "kolmogorov", "wasserstein", "tails"),
    "spectrum": ("separation", "chi_square", "mean_image"),
    "conditions": ("slice", "condition_correlation"),
    "worth": ("worth",),
    "correlation": ("correlation",),
    "tails": ("tails",),
    "duplicates": ("duplicates",),
    "copies": ("copies",),
    "energy_distance": ("energy_distance",),
    "sliced_wasserstein": ("sliced_wasserstein",),
    "fpd": ("fpd",),
    "fpd_trimmed": ("fpd_trimmed",),
    "kpd": ("kpd",),
    "precision": ("precision", "recall", "density", "coverage"),
    **{name: (name, name.replace("auc", "accuracy")) for name in CLASSIFIER_INPUTS},
    "digits": ("digit_confidence", "digit_balance", "digit_frechet"),
}
"""Standard metrics that are computed together, by task."""

STANDARD = frozenset(name for names in METRICS_OF_TASK.values() for name in names)
"""Names of the standard metrics."""


class RegisteredMetric(NamedTuple):
    """A registered metric.

    Attributes:
        function: Function of ``(reference, generated, seed=…)`` that returns an ``Estimate``.
        label: Name in the report.
    """

    function: "MetricFunction"
    label: str


class MetricFunction(Protocol):
    """Function that compares two samples."""

    __qualname__: str

    def __call__(self, reference: "Sample", generated: "Sample", *, seed: int) -> Estimate:
        """Returns value, error, baseline and its error; raises ``DataError`` if the metric does not apply."""


REGISTERED: dict[str, RegisteredMetric] = {}
"""Metrics added by ``register_metric``, by name."""


def register_metric(
    name: str, *, label: str = "", higher_is_better: bool = False
) -> Callable[[MetricFunction], MetricFunction]:
    """Returns a decorator that registers a function of two samples as a metric.

    The metric is computed for every evaluation, and appears in scores, ``scores.json`` and the report.

    Args:
        name: Name of the metric.
        label: Name in the report; by default ``name``.
        higher_is_better: Whether values below the baseline are worse.

    Raises:
        DataError: another function is registered under this name, or it is the name of a standard metric.
    """

    def register(function: MetricFunction) -> MetricFunction:
        known = REGISTERED.get(name)
        if name in STANDARD or (known and known.function.__qualname__ != function.__qualname__):
            raise DataError(f"a metric '{name}' already exists; choose another name")
        REGISTERED[name] = RegisteredMetric(function, label or name)
        (HIGHER_IS_BETTER.add if higher_is_better else HIGHER_IS_BETTER.discard)(name)
        return function

    return register


def check_metrics(names: Iterable[str]) -> None:
    """Checks that ``names`` are standard or registered metrics.

    Raises:
        DataError: there is no such metric; suggests the nearest name.
    """
    known = sorted(STANDARD | REGISTERED.keys())
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"; choose some of {', '.join(known)}"
            raise DataError(
                f"unknown metric '{name}'{hint} (or import the plugin that registers it)"
            )


@dataclasses.dataclass(frozen=True)
class Score:
    """Value of a metric with its error and its baseline.

    Attributes:
        metric: Name of the metric.
        observable: Name of the observable; ``all`` for all together.
        value: Value.
        error: Statistical error.
        baseline: Value for reference against reference with the same numbers of events.
        n_reference: Events in the reference.
        n_generated: Events in the generated sample.
        baseline_error: Standard deviation of the baseline.
        p_value: Probability of a value at least as large if both samples have the same distribution, or ``None`` for a score that
            does not count for the verdict.
        source: Name of the generated sample.
        measured_baseline: Measured value for reference against reference where the baseline is known from theory (AUC), or ``None``.
        measured_baseline_error: Statistical error of the measured baseline.
    """

    metric: str
    observable: str
    value: float
    error: float
    baseline: float
    n_reference: int
    n_generated: int
    baseline_error: float = 0.0
    p_value: float | None = None
    source: str = "generated"
    measured_baseline: float | None = None
    measured_baseline_error: float = 0.0

    @property
    def n_sigma(self) -> float:
        """Significance of the difference from the baseline [standard deviations]; positive means worse.

        It is that of the p-value, or else the distance in units of the combined uncertainty.
        """
        if self.p_value is not None and self.p_value > 0:
            return max(float(scipy.stats.norm.isf(self.p_value)), LOWEST)
        difference = self.value - self.baseline
        uncertainty = float(np.hypot(self.error, self.baseline_error))
        n_sigma = (
            difference / uncertainty if uncertainty > 0 else 0.0 if difference == 0 else np.inf
        )
        return -n_sigma if self.metric in HIGHER_IS_BETTER else n_sigma


class Scores(tuple[Score, ...]):
    """Scores, shown as a table: those of all observables together first, then the most significant ones."""

    __slots__ = ()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Scores":
        """Reads ``scores.json``; numbers that are null there, infinite or undefined ones, are NaN.

        Raises:
            DataError: the file does not exist or does not hold scores.
        """
        try:
            rows = json.loads(Path(path).read_text(encoding="utf-8"))["scores"]
            return cls(map(_score_of, rows))
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(f"{path} does not hold scores: {error}") from error

    @property
    def overall(self) -> "Scores":
        """Scores of all observables together."""
        return Scores(score for score in self if score.observable == OVERALL)

    def __repr__(self) -> str:
        rows = self._table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) for row in rows
        )
        return "\n".join(map(str.rstrip, [*lines, *self._omitted()]))

    def _repr_html_(self) -> str:
        head, *rows = (
            "".join(f"<td>{html.escape(cell)}</td>" for cell in r) for r in self._table()
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        omitted = "".join(f"<p>{line}</p>" for line in self._omitted())
        return f"<table><tr>{head.replace('td>', 'th>')}</tr>{body}</table>{omitted}"

    def _table(self) -> list[list[str]]:
        """Returns the cells of the head and of at most ``MAX_ROWS`` rows; the sample is named if there are several."""
        order = sorted(
            self, key=lambda s: (s.observable != OVERALL, s.observable != OVERALL and -s.n_sigma)
        )
        several = len({score.source for score in self}) > 1
        head = ["metric", "observable", "value", "baseline", "n_sigma"]
        rows = [
            [
                score.metric, printable(score.observable), with_error(score.value, score.error),
                with_error(score.baseline, score.baseline_error), significance_text(score.n_sigma),
            ]
            + [printable(score.source)] * several
            for score in order[:MAX_ROWS]
        ]  # fmt: skip
        return [head + ["sample"] * several, *rows]

    def _omitted(self) -> list[str]:
        return [f"… and {len(self) - MAX_ROWS} more"] if len(self) > MAX_ROWS else []


def _score_of(row: Mapping[str, Any]) -> Score:
    """Returns the score of a row of ``scores.json``."""

    def number(key: str) -> float:
        return math.nan if row[key] is None else float(row[key])

    def optional(key: str) -> float | None:
        return None if row.get(key) is None else float(row[key])

    return Score(
        metric=str(row["metric"]),
        observable=str(row["observable"]),
        value=number("value"),
        error=number("error"),
        baseline=number("baseline"),
        n_reference=int(row["n_reference"]),
        n_generated=int(row["n_generated"]),
        baseline_error=number("baseline_error"),
        p_value=optional("p_value"),
        source=str(row["source"]),
        measured_baseline=optional("measured_baseline"),
        measured_baseline_error=float(row.get("measured_baseline_error", 0.0)),
    )


class SkippedMetric(NamedTuple):
    """A metric, or a field, that is not in the scores, and the reason."""

    metric: str
    observable: str
    reason: str
    source: str = "generated"


class Finding(NamedTuple):
    """Fault with a name.

    Attributes:
        kind: ``condition`` or ``slice``, or the metric that shows it.
        subject: Condition or observable.
        text: The fault in words.
    """

    kind: str
    subject: str
    text: str


class TellingEvents(NamedTuple):
    """Generated events that give the sample away, according to a classifier.

    Attributes:
        events: Indices of the most telling events in the generated sample, the most telling first.
        probabilities: Probability of each of being generated.
        fraction: Fraction of the tested events that ``observables`` describes.
        observables: Mean normal score of each observable among that fraction, the largest magnitude first: 0 for an observable with
            the reference's distribution, ±1 for one that is a standard deviation off.
    """

    events: tuple[int, ...]
    probabilities: tuple[float, ...]
    fraction: float
    observables: Mapping[str, float]


class LearningCurve(NamedTuple):
    """AUC of a classifier against the number of events.

    Attributes:
        numbers: Events of each sample.
        aucs: AUC for each number.
        errors: Statistical errors.
        limit: AUC extrapolated to infinitely many events, with its 68 % interval.
    """

    numbers: tuple[int, ...]
    aucs: tuple[float, ...]
    errors: tuple[float, ...]
    limit: Interval


class SmallestShift(NamedTuple):
    """Smallest shift of an observable that would have been seen, and the standard deviation of the observable, in its unit."""

    shift: float
    width: float


class MetricResults(NamedTuple):
    """Results of all metrics of one generated sample.

    Attributes:
        scores: Scores.
        skipped: Metrics that could not be computed.
        curves: ROC curves ``[2, 101]`` by metric.
        slices: Scores in slices of the conditions.
        condition_correlations: Correlations of observables with conditions.
        condition_responses: Strength with which generated events follow each condition.
        different_conditions: Conditions whose distributions differ between the samples.
        worth: Worth in reference events, of each observable and overall.
        telling: The most telling events by classifier.
        classifier_weights: ``Hist(source, classifier_weight)`` of the test events by classifier.
        learning_curves: AUC against the number of events by classifier.
        findings: Faults with a name, shown if the metric that finds them is significant.
        effective_tests: Number of independent tests that the tests of observables, slices and conditions are worth.
        smallest_shifts: Smallest shift of each observable that would have been seen.
    """

    scores: list[Score]
    skipped: list[SkippedMetric]
    curves: dict[str, Floats]
    slices: Sequence[SliceScore] = ()
    condition_correlations: Sequence[ConditionCorrelation] = ()
    condition_responses: Sequence[ConditionResponse] = ()
    different_conditions: Sequence[str] = ()
    worth: Sequence[Worth] = ()
    telling: Mapping[str, TellingEvents] = MappingProxyType({})
    classifier_weights: "Mapping[str, Hist[Any]]" = MappingProxyType({})
    learning_curves: Mapping[str, LearningCurve] = MappingProxyType({})
    findings: Sequence[Finding] = ()
    effective_tests: float = 1.0
    smallest_shifts: Mapping[str, SmallestShift] = MappingProxyType({})

"""The verdict on a generated sample: which scores count, how their p-values are corrected, and the smallest difference that would show.

Every score with a p-value counts: χ², Kolmogorov distance and tails of each observable, mean images, classifiers, distances of all
observables together, and the tests in slices of the conditions and of the correlations with them. A p-value p is corrected to
1 − (1 − p)^n (Šidák), where n is the number of independent tests that the correlated tests are worth, from permutations of events
between the samples. A sample is distinguishable if the smallest corrected p-value is below the significance level, which therefore is the
probability that a perfect sample is called distinguishable. Scores without a p-value describe the size of a difference and never count.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from hepgan.data.weights import effective_sample_size
from hepgan.evaluation.formatting import percent, rounded, with_error
from hepgan.evaluation.metrics.scores import (
    CLASSIFIER_INPUTS,
    OVERALL,
    Finding,
    MetricResults,
    Score,
)
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.metrics.worth import Worth

SIGNIFICANCE_LEVEL = 0.01
POWER = 0.9
"""Probability with which the smallest differences of ``Sensitivity`` would have been seen."""
MAX_NAMED = 3
"""Number of observables that a verdict names."""
MAX_FINDINGS = 6
"""Number of findings that a verdict names."""
CONTRAST = 1.5
"""Least ratio of the significance in the only wrong slice of an observable to that in the second worst one."""
CLEAR_CONTRAST = 6.0
"""The same beside other findings, which may themselves disturb a slice."""
SAME_CONDITIONS = "generate with --conditions-from FILE to compare the same conditions"
"""Remedy for samples with different distributions of conditions."""


class CountedScore(NamedTuple):
    """Test that counts for the verdict.

    Attributes:
        metric: Name of the metric; ``slice`` or ``condition_correlation`` for the tests of conditions.
        observable: Name of the observable; ``all`` for all together.
        part: Slice, or column of a condition; empty for all events.
        condition: Name of the condition; empty for all events.
        p_value: Probability of a difference at least as large if both samples have the same distribution.
        corrected: The same for the smallest p-value of all tests.
        significant: Whether the corrected p-value is below the significance level.
    """

    metric: str
    observable: str
    part: str
    condition: str
    p_value: float
    corrected: float
    significant: bool


class Sensitivity(NamedTuple):
    """Smallest differences that would have been seen with a probability of 90 %.

    Attributes:
        auc: AUC of the most sensitive classifier, or ``None`` if none was trained.
        shift: Median over observables of the smallest shift in units of the standard deviation.
        shifts: Smallest shift by observable, in its unit.
    """

    auc: float | None
    shift: float
    shifts: Mapping[str, float]


class SampleEvaluation(NamedTuple):
    """Verdict on one generated sample.

    Attributes:
        distinguishable: Whether it can be distinguished from the reference.
        sentence: The verdict in words.
        shown_by: Observables that differ, the most significant first.
        rows: Tests that count, the most significant first.
        p_value: Smallest corrected p-value: uniform between 0 and 1 for a perfect sample.
        level: Significance level: the probability that a perfect sample is called distinguishable.
        effective_tests: Number of independent tests that the tests are worth.
        sensitivity: Smallest differences that would have been seen, or ``None`` without any test.
        findings: Faults with a name, such as an ignored condition.
    """

    distinguishable: bool
    sentence: str
    shown_by: tuple[str, ...]
    rows: tuple[CountedScore, ...] = ()
    p_value: float = 1.0
    level: float = SIGNIFICANCE_LEVEL
    effective_tests: float = 1.0
    sensitivity: Sensitivity | None = None
    findings: tuple[Finding, ...] = ()

    def significant(self, metric: str, observable: str) -> bool | None:
        """Returns whether a score is significant, or ``None`` if it does not count."""
        for row in self.rows:
            if (row.metric, row.observable, row.condition) == (metric, observable, ""):
                return row.significant
        return None


def evaluate_sample(results: MetricResults, name: str) -> SampleEvaluation:
    """Returns the verdict on one sample from its scores."""
    tests = [*_tests(results)]
    if not results.scores:
        return SampleEvaluation(True, f"{name} could not be compared with the reference.", ())
    if not tests:
        sentence = f"{name} was not tested: none of the computed metrics has a p-value."
        return SampleEvaluation(True, sentence, ())
    number = number_of_tests(results)
    rows = sorted((_counted(*row, number) for row in tests), key=lambda row: row.p_value)
    significant = [row for row in rows if row.significant]
    strength: dict[str, float] = {}
    sigmas = {(s.metric, s.observable): s.n_sigma for s in results.scores}
    for row in significant:
        if row.observable != OVERALL:
            n_sigma = sigmas.get((row.metric, row.observable), 0.0) if not row.condition else 0.0
            strength[row.observable] = max(
                strength.get(row.observable, 0.0), n_sigma, significance(row.p_value)
            )
    shown_by = tuple(sorted(strength, key=lambda observable: -strength[observable]))
    findings = _findings(results, significant)
    sensitivity = _sensitivity(results, number)
    sentence = _sentence(results, name, significant, shown_by, findings, sensitivity)
    return SampleEvaluation(
        bool(significant), sentence, shown_by, tuple(rows), rows[0].corrected, SIGNIFICANCE_LEVEL,
        number, sensitivity, findings,
    )  # fmt: skip


PER_OBSERVABLE = frozenset({"chi_square", "kolmogorov", "mean_image", "tails"})
"""Metrics of single observables, whose correlations the number of effective tests includes."""


def significance(p_value: float) -> float:
    """Returns the Gaussian significance of a p-value [standard deviations]."""
    return float(scipy.stats.norm.isf(max(p_value, 1e-300)))


def different_distributions(conditions: Sequence[str]) -> str:
    """Returns the fault of samples with different distributions of ``conditions`` in words."""
    return f"the samples have different distributions of {' and '.join(conditions)}"


def smallest_p_value(number: float) -> float:
    """Returns the p-value that is just significant among ``number`` independent tests."""
    return -math.expm1(math.log1p(-SIGNIFICANCE_LEVEL) / number)


def number_of_tests(results: MetricResults) -> float:
    """Returns the number of independent tests of a sample: that of the pooled tests, and one for each joint score."""
    joint = sum(
        1 for s in results.scores if s.p_value is not None and s.metric not in PER_OBSERVABLE
    )
    tests = (
        len(results.slices)
        + len(results.condition_correlations)
        + len([s for s in results.scores if s.metric in PER_OBSERVABLE and s.p_value is not None])
    )
    return max(1.0, min(results.effective_tests, tests) + joint)


def _tests(results: MetricResults) -> Iterable[tuple[str, str, str, str, float]]:
    for score in results.scores:
        if score.p_value is not None:
            yield score.metric, score.observable, "", "", score.p_value
    for one in results.slices:
        yield "slice", one.observable, one.slice.label, one.slice.condition, one.p_value
    for each in results.condition_correlations:
        yield "condition_correlation", each.observable, each.column, each.condition, each.p_value


def _counted(
    metric: str, observable: str, part: str, condition: str, p_value: float, number: float
) -> CountedScore:
    corrected = -math.expm1(number * math.log1p(-min(p_value, 1 - 1e-16)))
    return CountedScore(
        metric, observable, part, condition, p_value, corrected, corrected < SIGNIFICANCE_LEVEL
    )


def _findings(results: MetricResults, significant: Sequence[CountedScore]) -> tuple[Finding, ...]:
    """Returns the faults with a name that significant tests show, those of conditions first."""
    conditions = {row.condition for row in significant} | set(results.different_conditions)
    pairs = {(row.metric, row.observable) for row in significant if not row.condition}
    of_conditions = [
        (
            response.remark in {"weak", "strong"},
            Finding("condition", response.condition, _of_response(response)),
        )
        for response in results.condition_responses
        if response.remark and response.condition in conditions
    ]
    differing = results.different_conditions
    text = f"{different_distributions(differing)} ({SAME_CONDITIONS})"
    findings = [Finding("condition", differing[0], text)] if differing else []
    findings += [finding for partial, finding in of_conditions if not partial]
    findings += [
        finding for finding in results.findings if (finding.kind, finding.subject) in pairs
    ]
    findings += [
        finding
        for score in results.scores
        if score.observable == OVERALL
        and (score.metric, OVERALL) in pairs
        and (finding := _of_events(score))
    ]
    findings += [finding for partial, finding in of_conditions if partial]
    if findings:
        named = {finding.subject for finding in findings if finding.kind == "condition"}
        findings += _local(results, significant, contrast=CLEAR_CONTRAST, without=named)
    else:
        findings = (
            _local(results, significant)
            + [
                finding
                for score in results.scores
                if (score.metric, score.observable) in pairs and (finding := _of_events(score))
            ][:MAX_NAMED]
        )
    return tuple(findings[:MAX_FINDINGS])


def _of_events(score: Score) -> Finding | None:
    """Returns the fault that a significant fraction of events shows, or ``None``."""
    value, expected = percent(score.value), percent(score.baseline)
    if score.metric == "duplicates":
        text = f"{value} of the events repeat another one ({expected} expected)"
    elif score.metric == "copies" and score.value > score.baseline:
        text = f"{value} of the events are close to a training event ({expected} expected)"
    elif score.metric == "tails" and not 0.5 < score.value / max(score.baseline, 1e-9) < 2:
        kind = "cut" if score.value < score.baseline else "too long"
        where = "all observables" if score.observable == OVERALL else score.observable
        text = f"the tails of {where} are {kind} ({value} of the events beyond 3 standard deviations instead of {expected})"
    else:
        return None
    return Finding(score.metric, score.observable, text)


def _of_response(response: Any) -> str:
    strength = f"the observables follow it {with_error(response.value, response.error)} times as strongly as in the reference"
    if response.remark.startswith("swapped"):
        classes = response.remark.removeprefix("swapped: ")
        return f"the classes {classes} of the condition {response.condition} are swapped"
    verb = {
        "ignored": "is ignored",
        "weak": "is followed too weakly",
        "strong": "is followed too strongly",
        "reversed": "is followed in reverse",
    }[response.remark]
    return f"the condition {response.condition} {verb} ({strength})"


def _local(
    results: MetricResults,
    significant: Sequence[CountedScore],
    *,
    contrast: float = CONTRAST,
    without: Collection[str] = (),
) -> list[Finding]:
    """Returns observables that are wrong in only one slice of a condition.

    Args:
        results: Results of the metrics.
        significant: Significant tests.
        contrast: Least ratio of the significance in this slice to that in the second worst one.
        without: Conditions whose slices are not considered.
    """
    by_test: dict[tuple[str, str], list[Any]] = {}
    for one in results.slices:
        by_test.setdefault((one.observable, one.slice.condition), []).append(one)
    wrong = {(r.observable, r.condition) for r in significant if r.metric == "slice"}
    candidates: list[tuple[float, Finding]] = []
    for (observable, condition), parts in by_test.items():
        if (observable, condition) not in wrong or len(parts) < 2 or condition in without:
            continue
        worst, second = sorted(parts, key=lambda part: part.p_value)[:2]
        others = max(significance(second.p_value), 1.0)
        if second.p_value < 1e-3 or significance(worst.p_value) < contrast * others:
            continue
        text = f"{observable} is wrong only for {worst.slice.label} ({_difference(worst)})"
        candidates.append((worst.p_value, Finding("slice", observable, text)))
    best: dict[str, Finding] = {}
    for _, finding in sorted(candidates, key=lambda pair: pair[0]):
        best.setdefault(finding.subject, finding)
    return list(best.values())[:MAX_NAMED]


def _difference(one: Any) -> str:
    shift = one.mean_generated - one.mean_reference
    scale = abs(one.mean_reference)
    relative = scale > one.width_reference
    unit = percent(shift / scale, sign="+") if relative else rounded(shift, sign="+")
    width = one.width_generated / one.width_reference if one.width_reference > 0 else 1.0
    return f"mean {unit}, width × {rounded(width)}"


def _sensitivity(results: MetricResults, number: float) -> Sensitivity:
    sigmas = significance(smallest_p_value(number)) + float(scipy.stats.norm.isf(1 - POWER))
    aucs = [
        0.5 + sigmas * s.baseline_error
        for s in results.scores
        if s.metric in CLASSIFIER_INPUTS and s.baseline_error > 0
    ]
    shifts = results.smallest_shifts
    relative = [shift / width for shift, width in shifts.values() if width > 0]
    return Sensitivity(
        min(aucs, default=None),
        float(np.median(relative)) if relative else math.inf,
        {name: shift for name, (shift, _) in shifts.items()},
    )


def smallest_shift(values: Floats, weights: tuple[Floats, Floats], p_value: float) -> float:
    """Returns the smallest shift of an observable that the Kolmogorov distance would show with a probability of 90 %.

    Args:
        values: Finite values ``[E]`` of the reference.
        weights: Weights of the reference and of the generated sample.
        p_value: p-value that is just significant.
    """
    n, m = (effective_sample_size(w) for w in weights)
    size = math.sqrt(n * m / (n + m))
    # the distance fluctuates by at most half of 1/size where it is largest
    margin = 0.5 * float(scipy.stats.norm.isf(1 - POWER))
    distance = (float(scipy.stats.kstwobign.isf(p_value)) + margin) / size
    inside = math.ceil(distance * len(values))
    if inside >= len(values):
        return math.inf
    ordered = np.sort(values)
    return float(np.min(ordered[inside:] - ordered[: len(values) - inside]))


def _sentence(
    results: MetricResults,
    name: str,
    significant: Sequence[CountedScore],
    shown_by: Sequence[str],
    findings: Sequence[Finding],
    sensitivity: Sensitivity,
) -> str:
    first = results.scores[0]
    among = f"with {first.n_reference:,} reference and {first.n_generated:,} generated events"
    if not significant:
        differing = results.different_conditions
        rest = f"; {different_distributions(differing)} ({SAME_CONDITIONS})" if differing else ""
        return (
            f"{name} is indistinguishable from the reference: no significant difference between {first.n_generated:,} generated and"
            f" {first.n_reference:,} reference events; {_seen(sensitivity)}{rest}."
        )
    reasons = [finding.text for finding in findings]
    if shown_by:
        more = f" and {len(shown_by) - MAX_NAMED} more" if len(shown_by) > MAX_NAMED else ""
        reasons.append(f"most clearly by {', '.join(shown_by[:MAX_NAMED])}{more}")
    scores = {(s.metric, s.observable): s for s in results.scores}
    joint = [
        scores[row.metric, row.observable]
        for row in significant
        if row.observable == OVERALL and not row.condition
    ]
    if any(score.metric == "correlation" for score in joint) and not findings:
        reasons.append("the correlations between observables differ")
    classified = [s for s in joint if s.metric in CLASSIFIER_INPUTS]
    if classified:
        best = max(classified, key=lambda s: s.value)
        reasons.append(
            f"by a classifier of {CLASSIFIER_INPUTS[best.metric]} with an AUC of {with_error(best.value, best.error)}"
        )
    elif joint and not reasons:
        reasons.append(f"by {', '.join(score.metric for score in joint[:MAX_NAMED])}")
    return f"{name} is distinguishable from the reference {among}: {'; '.join(reasons)}."


def _seen(sensitivity: Sensitivity) -> str:
    visible = []
    if sensitivity.auc is not None:
        visible.append(f"an AUC above {sensitivity.auc:.2f}")
    if math.isfinite(sensitivity.shift):
        visible.append(
            f"a shift above {sensitivity.shift:.2g} standard deviations of an observable"
        )
    if not visible:
        return "no classifier and no distribution of an observable was compared"
    return f"with this number only {' or '.join(visible)} would have been noticed"


def as_json(sample: SampleEvaluation, results: MetricResults) -> dict[str, Any]:
    """Returns the verdict and the results that are not scores for ``scores.json``."""
    sensitivity = sample.sensitivity
    return {
        "distinguishable": sample.distinguishable,
        "sentence": sample.sentence,
        "p_value": sample.p_value,
        "level": sample.level,
        "tests": len(sample.rows),
        "effective_tests": sample.effective_tests,
        "sensitivity": sensitivity
        and {
            "auc": sensitivity.auc,
            "shift": sensitivity.shift if math.isfinite(sensitivity.shift) else None,
        },
        "findings": [finding._asdict() for finding in sample.findings],
        "significant": [row._asdict() for row in sample.rows if row.significant],
        "condition_responses": [response._asdict() for response in results.condition_responses],
        "condition_correlations": [each._asdict() for each in results.condition_correlations],
        "slices": [
            one._asdict() | one.slice._asdict() | {"slice": one.slice.label}
            for one in results.slices
        ],
        "worth": [_worth_as_json(one) for one in results.worth],
        "telling_events": {name: one._asdict() for name, one in results.telling.items()},
        "learning_curves": {name: one._asdict() for name, one in results.learning_curves.items()},
    }


def _worth_as_json(one: Worth) -> dict[str, Any]:
    intervals = {
        "equivalent": one.equivalent,
        "limit": one.limit,
        "amplification": one.amplification,
    }
    return {"observable": one.observable} | {
        name: interval and [each if math.isfinite(each) else None for each in interval]
        for name, interval in intervals.items()
    }

"""Scores of two samples: every number with its error, its N and its baseline.

| metric | meaning | for equal distributions |
|---|---|---|
| ``separation`` | distance of two histograms, 0 to 1 | its baseline |
| ``chi_square`` | test of any difference between two histograms | 1 |
| ``kolmogorov``, ``wasserstein`` | distances of two distributions; the second in units of the reference's standard deviation | their baselines |
| ``tails`` | fraction of values, or of events with a value, beyond three standard deviations | that of the reference |
| ``mean_image`` | largest pull over cells of the mean square root of the energy | its baseline |
| ``auc_observables``, ``auc_boosted`` | AUC of a network, or of boosted trees, of all observables and conditions | 0.5 |
| ``auc_low``, ``auc_high`` | AUC of a classifier of cells, or of the CaloChallenge's observables | 0.5 |
| ``auc_log``, ``auc_image`` | AUC of a small classifier of log cells, and of a convolutional one, with ``quick=False`` | 0.5 |
| ``accuracy_low``, … | their accuracy | 0.5 |
| ``fpd``, ``kpd``, ``fpd_trimmed`` | distances of the CaloChallenge's observables and the conditions; the last of clipped values | 0 |
| ``energy_distance``, ``sliced_wasserstein`` | distances of all observables and conditions | 0, its baseline |
| ``duplicates``, ``copies`` | fractions of events that repeat another one, or are close to a training event | that of the reference |
| ``precision``, ``recall``, ``density``, ``coverage`` | quality and variety of events | their baselines |
| ``correlation`` | root mean square difference of correlation coefficients | its baseline |
| ``digit_*`` | scores from a digit classifier | that of the reference |

Metrics that cannot be computed (too few events, a constant observable) are skipped with a reason. With event
weights, distributions, mean images and correlations are weighted; FPD, KPD, neighbors and classifiers use unweighted events.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from hepgan.data.weights import effective_sample_size
from hepgan.errors import DataError, RunError
from hepgan.evaluation import histograms
from hepgan.evaluation.histograms import Events
from hepgan.evaluation.metrics import (
    classifiers,
    copies,
    features,
    fpd,
    kpd,
    per_observable,
    permutations,
    pooled,
    prdc,
    sliced,
    statistics,
    verdict,
    worth,
)
from hepgan.evaluation.metrics.classifiers import Details, Estimates, Task
from hepgan.evaluation.metrics.context import MetricContext
from hepgan.evaluation.metrics.scores import (
    METRICS_OF_TASK,
    OVERALL,
    REGISTERED,
    STANDARD,
    Finding,
    MetricFunction,
    MetricResults,
    Score,
    Scores,
    SkippedMetric,
    SmallestShift,
    check_metrics,
)
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.evaluation.metrics.worth import Worth
from hepgan.evaluation.observables.standard import Observable
from hepgan.evaluation.sample import build_sample, unweight
from hepgan.progress import ProgressCallback, no_progress
from hepgan.random_streams import child_seed

MAX_FEATURES = 500
"""Largest number of features of correlations and Fréchet distances, whose cost grows with its square and cube."""


POOLED = frozenset({*verdict.PER_OBSERVABLE, *METRICS_OF_TASK["conditions"]})
"""Metrics whose correlated tests ``pooled_tests`` counts."""

JOINT = STANDARD.difference(
    *(METRICS_OF_TASK[task] for task in ("distribution", "spectrum", "conditions", "worth"))
)
"""Standard metrics of all observables or cells together."""


def score(
    reference: Events,
    generated: Events,
    observables: Mapping[str, Observable],
    *,
    seed: int = 1,
    quick: bool = True,
    metrics: Sequence[str] = (),
    weights: Mapping[str, Floats] | None = None,
    digits: bool = False,
) -> Scores:
    """Returns the scores of one generated sample; ``compute_metrics`` also returns the skipped metrics.

    Args:
        reference: Events that training never saw, as an awkward record array or as numpy arrays ``[E, …]`` by field.
        generated: The same.
        observables: Observables to compare.
        seed: Seed of resampling, splits and classifiers.
        quick: Whether to train a small classifier once instead of the CaloChallenge's three times.
        metrics: Standard and registered metrics to compute; by default all that apply.
        weights: Event weights for ``reference``, ``generated`` or both.
        digits: Whether the events are MNIST's digits, which the digit classifier scores.

    Raises:
        DataError: there is no observable or no metric of a name, or a sample has no events.
    """
    check_metrics(metrics)
    source, weights = "generated", weights or {}
    samples = {
        name: histograms.to_arrays(events)
        for name, events in ((histograms.REFERENCE, reference), (source, generated))
    }
    filled = histograms.compare(
        samples[histograms.REFERENCE], samples[source], observables, weights=weights
    )
    first, second = (build_sample(e, observables, weights.get(n)) for n, e in samples.items())
    context = MetricContext(
        first, second, observables, filled, source, seed, quick,
        digits=digits, metrics=frozenset(metrics),
    )  # fmt: skip
    return Scores(compute_metrics(context).scores)


def validation_distance(
    reference: Mapping[str, Floats],
    generated: Mapping[str, Floats],
    weights: tuple[Floats | None, Floats | None] = (None, None),
) -> float:
    """Returns the Fréchet distance of the observables in units of the reference's standard deviation: fast enough for validation.

    Unlike a sum of one-dimensional distances, it is sensitive to correlations. Values are clipped at 6 standard deviations, which
    limits the influence of single events.

    Args:
        reference: Values ``[E]`` by observable, as returned by ``evaluate_observables``.
        generated: The same. Missing values are replaced by the mean of the reference and flagged in an additional feature.
        weights: Weights ``[E]`` of both, perhaps negative.
    """
    x: list[Floats] = []
    y: list[Floats] = []
    for name, values in reference.items():
        there = np.isfinite(values)
        center, unit = (
            (values[there].mean(), per_observable.std_or_one(values[there]))
            if there.any()
            else (0.0, 1.0)
        )
        complete = there.all() and np.isfinite(generated[name]).all()
        for sample, columns in ((values, x), (generated[name], y)):
            distance = np.where(np.isfinite(sample), (sample - center) / unit, 0.0)
            columns.append(distance.clip(-6, 6))
            if not complete:
                columns.append(~np.isfinite(sample) * 1.0)
    return fpd.frechet_distance(np.stack(x, axis=1), np.stack(y, axis=1), weights)


def compute_metrics(
    context: MetricContext, *, progress: ProgressCallback = no_progress
) -> MetricResults:
    """Returns all scores that can be computed from the two samples, and the reasons for those that cannot."""
    scores: list[Score] = []
    skipped: list[SkippedMetric] = []
    findings: list[Finding] = []
    details = Details({}, {}, {}, {})
    measured = MetricResults(
        scores, skipped, details.curves,
        telling=details.telling, classifier_weights=details.weights, learning_curves=details.learning_curves,
        findings=findings,
    )  # fmt: skip
    tasks = [
        task
        for task in (
            *_single_tasks(context, findings),
            *(
                _joint_tasks(context, skipped, details, progress)
                if context.includes(*JOINT)
                else ()
            ),
            *_registered_tasks(context),
        )
        if context.includes(*METRICS_OF_TASK.get(task[0], task[:1]))
    ]
    for i, (metric, observable, estimate) in enumerate(tasks):
        progress("comparing", i / len(tasks), "")
        try:
            estimates = estimate()
        except DataError as error:
            skipped.append(SkippedMetric(metric, observable, str(error), context.source))
            continue
        scores.extend(
            _score(context, name, observable, estimate)
            for name, estimate in estimates.items()
            if context.includes(name)
        )
    if context.generated.weighted:
        details.telling.clear()  # these are indices of an unweighted selection
    if context.includes("worth"):
        measured = measured._replace(worth=list(_worth(context, scores)))
    enough = min(context.reference.number, context.generated.number) >= per_observable.MIN_VALUES
    if not enough or not context.includes(*POOLED):
        return measured
    tests = pooled.pooled_tests(
        context.reference, context.generated, context.observables, context.histograms, context.conditions,
        seed=context.seed, progress=progress,
    )  # fmt: skip
    if tests.different:
        skipped.append(
            SkippedMetric(
                "slices and correlations of conditions", OVERALL,
                f"{verdict.different_distributions(tests.different)}: the dependence on the conditions cannot be compared",
                context.source,
            )
        )  # fmt: skip
    measured = measured._replace(
        slices=tests.slices if context.includes("slice") else (),
        condition_correlations=tests.correlations
        if context.includes("condition_correlation")
        else (),
        condition_responses=tests.responses,
        different_conditions=tests.different,
        effective_tests=permutations.effective_tests(tests.smallest[1:]),
    )
    return measured._replace(smallest_shifts=_smallest_shifts(context, measured))


def _worth(context: MetricContext, scores: Sequence[Score]) -> Iterator[Worth]:
    n_training = effective_sample_size(context.training.weights) if context.training else None
    for score in scores:
        if score.metric == "energy_distance":
            number = effective_sample_size(context.generated.weights)
            yield worth.of_energy_distance(OVERALL, score.value, score.error, number, n_training)
    for name, observable in context.observables.items():
        if observable.spectrum:
            continue
        result = worth.worth(
            name,
            context.reference.values[name],
            context.generated.values[name],
            (context.reference.weights, context.generated.weights),
            n_training=n_training,
        )
        if result is not None:
            yield result


def _smallest_shifts(context: MetricContext, measured: MetricResults) -> dict[str, SmallestShift]:
    smallest = verdict.smallest_p_value(verdict.number_of_tests(measured))
    weights = context.reference.weights, context.generated.weights
    shifts = {}
    for name, values in context.reference.values.items():
        valid = values[np.isfinite(values)]
        if len(valid) >= per_observable.MIN_VALUES and np.ptp(valid) > 0:
            shift = verdict.smallest_shift(valid, weights, smallest)
            if shift > 0:  # discrete values do not shift by less than a step
                shifts[name] = SmallestShift(shift, float(valid.std()))
    return shifts


def _score(context: MetricContext, metric: str, observable: str, estimate: Estimate) -> Score:
    value, error, baseline, baseline_error, p_value, measured = estimate
    numbers = context.reference.number, context.generated.number
    return Score(
        metric, observable, value, error, baseline, *numbers, baseline_error, p_value, context.source,
        *(measured or ()),
    )  # fmt: skip


def _single_tasks(context: MetricContext, findings: list[Finding]) -> Iterator[Task]:
    for name, observable in context.observables.items():
        if observable.spectrum:
            yield "spectrum", name, functools.partial(_spectrum, context, observable, findings)
        else:
            yield "distribution", name, functools.partial(_distribution, context, name)


def _registered_tasks(context: MetricContext) -> Iterator[Task]:
    for name, metric in REGISTERED.items():
        yield name, OVERALL, functools.partial(_registered, context, name, metric.function)


def _registered(context: MetricContext, name: str, function: MetricFunction) -> Estimates:
    estimate = function(context.reference, context.generated, seed=context.seed)
    if not isinstance(estimate, Estimate):
        raise RunError(
            f"the metric '{name}' returned {estimate!r:.100}; return a hepgan.Estimate(value, error, baseline, baseline_error)"
        )
    return {name: estimate}


def _distribution(context: MetricContext, name: str) -> Estimates:
    reference, generated = (
        per_observable.finite(s, name) for s in (context.reference, context.generated)
    )
    return per_observable.of_values(
        reference, generated, context.histograms[name], source=context.source, seed=context.seed
    )


def _spectrum(context: MetricContext, observable: Observable, findings: list[Finding]) -> Estimates:
    samples = context.reference, context.generated
    cells = [np.asarray(observable.function(s.events), float) for s in samples]
    finding = per_observable.cell_finding(observable, *cells)
    findings.extend([finding] if finding else [])
    weights = context.reference.weights, context.generated.weights
    return per_observable.of_spectrum(
        cells[0], cells[1], weights, context.histograms[observable.name], seed=context.seed
    )


def _digits(context: MetricContext, observable: Observable) -> Estimates:
    """Returns the digit classifier's scores."""
    cells = np.asarray(observable.function(context.reference.events), float)
    return per_observable.of_digits(
        cells, observable.function(context.generated.events), seed=context.seed
    )


def _joint_tasks(
    context: MetricContext,
    skipped: list[SkippedMetric],
    details: Details,
    progress: ProgressCallback,
) -> Iterator[Task]:
    single = any(not observable.spectrum for observable in context.observables.values())
    if single:
        yield "correlation", OVERALL, functools.partial(_correlation, context)
        yield from _event_tasks(context)
    else:
        reason = "no observable has one value per event"
        skipped.append(
            SkippedMetric("fpd, kpd, neighbors, correlations", OVERALL, reason, context.source)
        )
    try:
        first, second = (
            unweight(sample, seed=child_seed(context.seed, "evaluation", name))
            for name, sample in (("reference", context.reference), ("generated", context.generated))
        )
    except DataError as error:
        which = histograms.REFERENCE if context.reference.weights.min() < 0 else context.source
        skipped.append(
            SkippedMetric("fpd, kpd, neighbors, classifiers", OVERALL, str(error), which)
        )
        return
    plain = context._replace(reference=first, generated=second)
    if single:
        yield from _high_level_tasks(plain)
    yield from classifiers.tasks(plain, details, progress)
    for observable in context.observables.values() if context.digits else ():
        if observable.spectrum:
            yield "digits", observable.name, functools.partial(_digits, plain, observable)


def _event_tasks(context: MetricContext) -> Iterator[Task]:
    """Yields the tests of single events: how many are in the tails, repeated, or memorized."""
    dependent = [
        name
        for name in context.reference.values
        if name not in context.conditions and name != "E_inc"
    ]
    if not dependent:
        return
    reference, generated = (
        {name: sample.values[name] for name in dependent}
        for sample in (context.reference, context.generated)
    )
    incident = context.reference.values.get("E_inc")
    fields = [
        name
        for name, values in context.reference.events.items()
        if name not in context.conditions
        and (incident is None or not np.array_equal(values, incident))
    ]
    n, m = context.reference.number, context.generated.number

    def tails() -> Estimate:
        both = [np.concatenate([reference[name], generated[name]]) for name in dependent]
        return statistics.tail_fraction(*statistics.any_in_tails(both, n))

    functions: dict[str, Callable[[], Estimate]] = {
        "duplicates": lambda: copies.duplicates(
            reference, generated,
            ({name: context.reference.events[name] for name in fields}, {name: context.generated.events[name] for name in fields}),
            seed=context.seed,
        )
    }  # fmt: skip
    if not context.reference.weighted and not context.generated.weighted:
        functions["tails"] = tails
    if context.training is not None:
        training = {name: context.training.values[name] for name in dependent}
        functions["copies"] = lambda: copies.copies(
            reference, generated, training, seed=context.seed
        )

    def checked(name: str) -> Estimates:
        if min(n, m) < per_observable.MIN_VALUES:
            raise DataError(
                f"needs {per_observable.MIN_VALUES} events in each sample, but there are {n} and {m}"
            )
        return {name: functions[name]()}

    for name in functions:
        yield name, OVERALL, functools.partial(checked, name)


def _not_too_wide(high: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Returns ``high`` unless it has too many features.

    Raises:
        DataError: there are more than ``MAX_FEATURES``.
    """
    if high[0].shape[1] > MAX_FEATURES:
        raise DataError(
            f"{high[0].shape[1]:,} observables are too many, at most {MAX_FEATURES} are compared together; choose some with --observable, or"
            " with observables in [evaluate] of a run file"
        )
    return high


def _correlation(context: MetricContext) -> Estimates:
    scaled = features.standardize(*_not_too_wide(context.published))
    weights = context.reference.weights, context.generated.weights
    return {"correlation": per_observable.correlation_distance(*scaled, weights, seed=context.seed)}


def _high_level_tasks(context: MetricContext) -> Iterator[Task]:
    high, (_, every) = context.published_and_conditions, context.all_observables
    weights = context.reference.weights, context.generated.weights
    metrics: dict[str, Callable[[], Estimates | Estimate]] = {
        "fpd": lambda: fpd.fpd(*_not_too_wide(high), seed=context.seed),
        "fpd_trimmed": lambda: fpd.trimmed_fpd(*_not_too_wide(high), seed=context.seed),
        "kpd": lambda: kpd.kpd(*high, seed=context.seed),
        "energy_distance": lambda: kpd.energy_distance(*every, seed=context.seed),
        "sliced_wasserstein": lambda: sliced.sliced_wasserstein(*every, weights, seed=context.seed),
        "precision": lambda: prdc.prdc_scores(*features.standardize(*high), seed=context.seed),
    }
    for name, function in metrics.items():
        yield name, OVERALL, functools.partial(_named, name, function)


def _named(name: str, function: Callable[[], Estimates | Estimate]) -> Estimates:
    result = function()
    return {name: result} if isinstance(result, Estimate) else result

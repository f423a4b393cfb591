"""Two samples -> scores: every number with its error, its N and its floor.

| metric | says | alike |
|---|---|---|
| ``separation`` | how far apart two histograms are, 0 to 1 | its floor |
| ``chi_square`` | whether two histograms differ at all | 1 |
| ``kolmogorov``, ``wasserstein`` | how far apart two distributions are; the second in units of the reference's spread | their floors |
| ``mean_image`` | the largest pull of a cell's mean root energy, among all cells | its floor |
| ``auc_low``, ``auc_high`` | whether a classifier tells cells, or observables, apart | 0.5 |
| ``accuracy_low``, ``accuracy_high`` | how often it is right | 0.5 |
| ``fpd``, ``kpd`` | distances in all observables together | 0 |
| ``precision``, ``recall``, ``density``, ``coverage`` | whether events are possible, and all kinds are there | their floors |
| ``correlation`` | root mean square difference of the observables' correlation coefficients | its floor |
| ``digit_*`` | images in a digit classifier's eyes | the reference's |

What cannot be computed (too few events, a constant observable) is a gap that says why, and the rest is computed.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from hist import Hist

from hepgan.errors import DataError
from hepgan.evaluate import classifier, compare, frechet, neighbours, pairs, vectors
from hepgan.evaluate.kernels import Array
from hepgan.evaluate.observables import Observable, evaluate
from hepgan.evaluate.statistics import Estimate, Floats
from hepgan.evaluate.vectors import Singles

OVERALL = "all"
"""What stands for an observable's name where a score is about all of them."""

SMALL_IS_BAD = {"precision", "recall", "density", "coverage", "digit_confidence"}


@dataclasses.dataclass(frozen=True)
class Score:
    """One number that compares a generated sample with the reference.

    Attributes:
        metric: Which number.
        observable: Of which quantity; ``all`` for all together.
        value: The number.
        error: Its statistical error.
        floor: What reference against reference gives.
        n_reference: Events in the reference.
        n_generated: Events in the generated sample.
        floor_error: Spread of the floor.
        p_value: Chance of a value as large if the samples were alike, where it is known.
        source: Name of the generated sample.
    """

    metric: str
    observable: str
    value: float
    error: float
    floor: float
    n_reference: int
    n_generated: int
    floor_error: float = 0.0
    p_value: float | None = None
    source: str = "generated"

    @property
    def away(self) -> float:
        """How far from the floor, in errors of both; positive is worse than the floor."""
        difference = self.value - self.floor
        spread = float(np.hypot(self.error, self.floor_error))
        away = difference / spread if spread > 0 else 0.0 if difference == 0 else np.inf
        return -away if self.metric in SMALL_IS_BAD else away


def with_error(value: float, error: float) -> str:
    """A value with its error, both to the error's second digit.

    >>> with_error(0.55384, 0.0102)
    '0.554 ± 0.010'
    """
    if not error > 0:
        return f"{value:.3g}"
    exponent = math.floor(math.log10(error))
    if exponent < -5 or abs(value) >= 1e6:
        return f"{value:.2e} ± {error:.0e}".replace("-", "−")
    digits = max(0, 1 - exponent)
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


class Gap(NamedTuple):
    """What could not be computed, and why."""

    metric: str
    observable: str
    reason: str
    source: str = "generated"


class Measured(NamedTuple):
    """All scores of one generated sample, what is missing, and what plots need beside them.

    Attributes:
        scores: The scores.
        gaps: What could not be computed.
        curves: ROC curves ``[2, 101]`` by metric.
    """

    scores: list[Score]
    gaps: list[Gap]
    curves: dict[str, Floats]


Tick = Callable[[str, float], None]
Estimates = dict[str, Estimate]
Task = tuple[str, str, Callable[[], Estimates]]
"""What is measured, of which observable, and how."""


def score(
    reference: Mapping[str, Array],
    generated: Mapping[str, Array],
    observables: Mapping[str, Observable],
    *,
    seed: int,
    quick: bool,
) -> list[Score]:
    """The scores of one generated sample; ``measure`` tells also what could not be computed."""
    return measure(reference, generated, observables, seed=seed, quick=quick).scores


def validation_distance(reference: Mapping[str, Floats], generated: Mapping[str, Floats]) -> float:
    """Fréchet distance of the observables in units of the reference's spread: quick enough to choose a checkpoint by.

    Unlike a sum of one-dimensional distances it sees correlations. Values are cut off at 6 spreads, so that no single event
    decides.

    Args:
        reference: Values ``[E]`` by observable, as ``observables.evaluate`` gives them.
        generated: The same. A missing value counts as the reference's mean, and that it is missing as a quantity of its own.
    """
    x: list[Floats] = []
    y: list[Floats] = []
    for name, values in reference.items():
        there = np.isfinite(values)
        centre, unit = (
            (values[there].mean(), pairs.spread(values[there])) if there.any() else (0.0, 1.0)
        )
        complete = there.all() and np.isfinite(generated[name]).all()
        for sample, columns in ((values, x), (generated[name], y)):
            distance = np.where(np.isfinite(sample), (sample - centre) / unit, 0.0)
            columns.append(distance.clip(-6, 6))
            if not complete:
                columns.append(~np.isfinite(sample) * 1.0)
    return frechet.frechet_distance(np.stack(x, axis=1), np.stack(y, axis=1))


def measure(
    reference: Mapping[str, Array],
    generated: Mapping[str, Array],
    observables: Mapping[str, Observable],
    *,
    seed: int,
    quick: bool,
    source: str = "generated",
    histograms: "Mapping[str, Hist[Any]] | None" = None,
    device: str = "cpu",
    tick: Tick = lambda _text, _share: None,
) -> Measured:
    """Every score that the two samples allow.

    Args:
        reference: Events as arrays, unseen by the training.
        generated: Events as arrays.
        observables: What is compared.
        seed: Of resampling, splits and classifiers.
        quick: A small classifier instead of the CaloChallenge's, and one training instead of three.
        source: The generated sample's name.
        histograms: What ``compare`` made of the samples; made here where it is not given.
        device: Where classifiers are trained.
        tick: Told each step, and the share of that step that is done.
    """
    found = histograms or compare.compare(reference, {source: generated}, observables)
    n, m = len(next(iter(reference.values()))), len(next(iter(generated.values())))
    measured = Measured([], [], {})
    plan = Plan(reference, generated, observables, found, source, seed, quick, device)
    tasks = [*_single_tasks(plan), *_joint_tasks(plan, measured.curves, tick)]
    for i, (metric, observable, estimate) in enumerate(tasks):
        tick("comparing", i / len(tasks))
        try:
            estimates = estimate()
        except DataError as error:
            measured.gaps.append(Gap(metric, observable, str(error), source))
            continue
        for name, e in estimates.items():
            measured.scores.append(
                Score(
                    name,
                    observable,
                    e.value,
                    e.error,
                    e.floor,
                    n,
                    m,
                    e.floor_error,
                    e.p_value,
                    source,
                )
            )
    return measured


class Plan(NamedTuple):
    """What the tasks share."""

    reference: Mapping[str, Array]
    generated: Mapping[str, Array]
    observables: Mapping[str, Observable]
    histograms: "Mapping[str, Hist[Any]]"
    source: str
    seed: int
    quick: bool
    device: str


def _single_tasks(plan: Plan) -> Iterator[Task]:
    values = evaluate(plan.reference, plan.observables), evaluate(plan.generated, plan.observables)
    for name, observable in plan.observables.items():
        if observable.spectrum:
            yield "spectrum", name, functools.partial(_spectrum, plan, observable)
        else:
            pair = functools.partial(pairs.of_values, values[0][name], values[1][name])
            yield (
                "distribution",
                name,
                functools.partial(pair, plan.histograms[name], source=plan.source, seed=plan.seed),
            )


def _spectrum(plan: Plan, observable: Observable) -> Estimates:
    cells = [
        np.asarray(observable.function(events), float)
        for events in (plan.reference, plan.generated)
    ]
    histogram = plan.histograms[observable.name]
    found = pairs.of_spectrum(cells[0], cells[1], histogram, seed=plan.seed)
    if pairs.are_digits(cells[0]):
        found |= pairs.of_digits(cells[0], cells[1], seed=plan.seed)
    return found


def _joint_tasks(plan: Plan, curves: dict[str, Floats], tick: Tick) -> Iterator[Task]:
    values = evaluate(plan.reference, plan.observables), evaluate(plan.generated, plan.observables)
    high = vectors.high_level(*values, plan.observables)
    scaled = vectors.standardised(*high)
    seed = plan.seed
    yield "fpd", OVERALL, lambda: {"fpd": frechet.fpd(*high, seed=seed)}
    yield "kpd", OVERALL, lambda: {"kpd": frechet.kpd(*high, seed=seed)}
    yield "precision", OVERALL, lambda: neighbours.neighbour_scores(*scaled, seed=seed)
    yield (
        "correlation",
        OVERALL,
        lambda: {"correlation": pairs.correlation_distance(*scaled, seed=seed)},
    )
    single = scaled[0].astype(np.float32), scaled[1].astype(np.float32)
    yield "auc_high", OVERALL, lambda: _classified("auc_high", *single, plan, curves, tick)
    if any(observable.spectrum for observable in plan.observables.values()):
        yield "auc_low", OVERALL, lambda: _classified("auc_low", *_low(plan), plan, curves, tick)


def _low(plan: Plan) -> tuple[Singles, Singles]:
    network: classifier.Network = "quick" if plan.quick else "challenge"
    return vectors.low_level(plan.reference, plan.generated, plan.observables, network=network)


def _classified(
    metric: str, x: Singles, y: Singles, plan: Plan, curves: dict[str, Floats], tick: Tick
) -> Estimates:
    """The classifier's AUC and calibrated accuracy, with those of one half of the reference against the other."""

    def told(share: float) -> None:
        tick(f"training the classifier for {metric}", share)

    network: classifier.Network = "quick" if plan.quick else "challenge"
    found = classifier.separability(
        x,
        y,
        seed=plan.seed,
        network=network,
        trainings=1 if plan.quick else 3,
        device=plan.device,
        tick=told,
    )
    # halves of the reference know the floor no better for a wider network
    order = np.random.default_rng(plan.seed).permutation(len(x))
    one, other = x[order[::2]], x[order[1::2]]
    null = classifier.separability(one, other, seed=plan.seed, device=plan.device)
    curves[metric] = found.curve
    accuracy = metric.replace("auc", "accuracy")
    return {
        metric: Estimate(found.auc, found.error, null.auc, null.error),
        accuracy: Estimate(
            found.accuracy, found.accuracy_error, null.accuracy, null.accuracy_error
        ),
    }

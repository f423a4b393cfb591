"""Scores of the classifiers of an evaluation: their inputs, baselines, learning curves and most telling events."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from hepgan.errors import DataError
from hepgan.evaluation.metrics import boosting, classifier, features, telling
from hepgan.evaluation.metrics.classifier import Image, Network, Separability
from hepgan.evaluation.metrics.context import MetricContext
from hepgan.evaluation.metrics.features import Float32s, Pair
from hepgan.evaluation.metrics.learning_curve import learning_curve
from hepgan.evaluation.metrics.scores import OVERALL, LearningCurve, TellingEvents
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.progress import ProgressCallback
from hepgan.random_streams import numpy_generator

Estimates = dict[str, Estimate]
Task = tuple[str, str, Callable[[], Estimates]]
"""Metric, observable, and the function that computes the estimates."""


class Details(NamedTuple):
    """Results of classifiers that are not scores, by metric: ROC curves ``[2, 101]``, telling events and learning curves."""

    curves: dict[str, Floats]
    telling: dict[str, TellingEvents]
    learning_curves: dict[str, LearningCurve]


class Input(NamedTuple):
    """Input of a classifier.

    Attributes:
        network: Network and training, or ``boosted`` for trees.
        features: Function that returns the features of both samples.
        images: Function that returns the images among the features.
    """

    network: Network | None
    features: Callable[[], Pair | tuple[Float32s, Float32s]]
    images: Callable[[], list[Image]] = list


def tasks(plan: MetricContext, details: Details, progress: ProgressCallback) -> Iterator[Task]:
    """Yields a task for each classifier that the observables allow; ROC curves and so on are added to ``details``."""
    for metric, chosen in _inputs(plan).items():
        yield (
            metric,
            OVERALL,
            functools.partial(_classified, metric, chosen, plan, details, progress),
        )


def _inputs(plan: MetricContext) -> dict[str, Input]:
    of_challenge: Network = "quick" if plan.quick else "challenge"
    spectra = [observable for observable in plan.observables.values() if observable.spectrum]
    found: dict[str, Input] = {}
    if len(spectra) < len(plan.observables):
        every = functools.cache(lambda: plan.all_observables[1])
        found["auc_observables"] = Input("quick", every)
        found["auc_boosted"] = Input(None, every)
        found["auc_high"] = Input(of_challenge, lambda: features.standardize(*plan.published))
    if spectra:
        found["auc_low"] = Input(of_challenge, lambda: _cells(plan, of_challenge))
        if not plan.quick and "E_inc" in plan.observables:
            # with few showers, the CaloChallenge's network learns little from cell fractions that span decades
            found["auc_log"] = Input("quick", lambda: _cells(plan, "quick"))
        if not plan.quick and _images(plan):
            found["auc_image"] = Input(
                "image", lambda: _cells(plan, "quick"), lambda: _images(plan)
            )
    return found


def _cells(plan: MetricContext, network: Network) -> tuple[Float32s, Float32s]:
    cells = features.low_level(
        plan.reference.events, plan.generated.events, plan.observables,
        network="challenge" if network == "challenge" else "quick",
    )  # fmt: skip
    columns = plan.other_conditions
    if not columns:
        return cells
    x, y = (
        np.column_stack([each, *(pair[i].astype(np.float32) for pair in columns.values())])
        for i, each in enumerate(cells)
    )
    return x, y


def _images(plan: MetricContext) -> list[Image]:
    """Returns the images among the low-level features: all slices of the spectra with at least two axes."""
    start = 1 if "E_inc" in plan.observables else 0
    found = []
    for observable in plan.observables.values():
        if not observable.spectrum:
            continue
        size = int(np.prod(observable.shape))
        if len(observable.shape) >= 2:
            rows, columns = observable.shape[-2:]
            found += [
                Image(start + first, (rows, columns)) for first in range(0, size, rows * columns)
            ]
        if not observable.shape:
            return []
        start += size
    return found


def _classified(
    metric: str,
    chosen: Input,
    plan: MetricContext,
    details: Details,
    progress: ProgressCallback,
) -> Estimates:
    """Returns AUC and calibrated accuracy; the measured baseline compares halves of the reference.

    Raises:
        DataError: there are too few events.
    """

    def separability(x: Float32s, y: Float32s, name: str, *, trainings: int) -> Separability:
        if chosen.network is None:
            return boosting.boosted_separability(x, y, seed=plan.seed)
        return classifier.separability(
            x, y,
            seed=plan.seed, network=chosen.network, images=chosen.images(), trainings=trainings,
            device=plan.device,
            progress=lambda _, fraction, remark: progress(f"training: {name}", fraction, remark),
        )  # fmt: skip

    number = plan.reference.number
    if number < 2 * classifier.MIN_EVENTS:
        raise DataError(
            f"a classifier and its baseline need {2 * classifier.MIN_EVENTS} reference events, but there are {number}"
        )
    trainings = 1 if plan.quick else 3
    x, y = (values.astype(np.float32, copy=False) for values in chosen.features())
    found = separability(x, y, metric, trainings=trainings)
    order = numpy_generator(plan.seed, "evaluation", "halves").permutation(len(x))
    null = None
    if chosen.network or not plan.quick:  # five trainings of trees take long; their baseline is 0.5
        halves = x[order[::2]], x[order[1::2]]
        null = separability(*halves, f"baseline of {metric}", trainings=trainings)
    details.curves[metric] = found.curve
    if metric == "auc_observables":
        details.telling[metric] = telling.telling_events(found, plan.all_observables[0], y)
        curve = learning_curve(
            x[order], y[numpy_generator(plan.seed, "evaluation", "learning curve").permutation(len(y))],
            found,
            lambda a, b: separability(a, b, f"learning curve of {metric}", trainings=trainings),
        )  # fmt: skip
        if curve is not None:
            details.learning_curves[metric] = curve
    return {
        metric: Estimate(
            found.auc,
            found.error,
            0.5,
            found.null_error,
            found.p_value,
            (null.auc, null.error) if null else None,
        ),
        metric.replace("auc", "accuracy"): Estimate(
            found.accuracy,
            found.accuracy_error,
            *((null.accuracy, null.accuracy_error) if null else (0.5, 0.0)),
        ),
    }

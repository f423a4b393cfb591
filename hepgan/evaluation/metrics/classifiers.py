"""Scores of the classifiers of an evaluation: their inputs, baselines, learning curves and most telling events."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from hist import Hist

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
    """Results of classifiers that are not scores, by metric: ROC curves ``[2, 101]``, telling events, weights and learning curves."""

    curves: dict[str, Floats]
    telling: dict[str, TellingEvents]
    weights: "dict[str, Hist[Any]]"
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


def tasks(context: MetricContext, details: Details, progress: ProgressCallback) -> Iterator[Task]:
    """Yields a task for each classifier that the observables allow; ROC curves and so on are added to ``details``."""
    for metric, chosen in _inputs(context).items():
        yield (
            metric,
            OVERALL,
            functools.partial(_classified, metric, chosen, context, details, progress),
        )


def _inputs(context: MetricContext) -> dict[str, Input]:
    of_challenge: Network = "quick" if context.quick else "challenge"
    spectra = [observable for observable in context.observables.values() if observable.spectrum]
    inputs: dict[str, Input] = {}
    if len(spectra) < len(context.observables):
        every = functools.cache(lambda: context.all_observables[1])
        inputs["auc_observables"] = Input("quick", every)
        inputs["auc_boosted"] = Input(None, every)
        published = any(o.feature != "none" for o in context.observables.values())
        # those of a table are the same columns once more
        if spectra or published or "auc_high" in context.metrics:
            inputs["auc_high"] = Input(
                of_challenge, lambda: features.standardize(*context.published)
            )
    if spectra:
        inputs["auc_low"] = Input(of_challenge, lambda: _cells(context, of_challenge))
        if not context.quick and "E_inc" in context.observables:
            # with few showers, the CaloChallenge's network learns little from cell fractions that span decades
            inputs["auc_log"] = Input("quick", lambda: _cells(context, "quick"))
        if not context.quick and _images(context):
            inputs["auc_image"] = Input(
                "image", lambda: _cells(context, "quick"), lambda: _images(context)
            )
    return inputs


def _cells(context: MetricContext, network: Network) -> tuple[Float32s, Float32s]:
    cells = features.low_level(
        context.reference.events, context.generated.events, context.observables,
        network="challenge" if network == "challenge" else "quick",
    )  # fmt: skip
    columns = context.other_conditions
    if not columns:
        return cells
    x, y = (
        np.column_stack([each, *(pair[i].astype(np.float32) for pair in columns.values())])
        for i, each in enumerate(cells)
    )
    return x, y


def _images(context: MetricContext) -> list[Image]:
    """Returns the images among the low-level features: all slices of the spectra with at least two axes."""
    start = 1 if "E_inc" in context.observables else 0
    images = []
    for observable in context.observables.values():
        if not observable.spectrum:
            continue
        size = int(np.prod(observable.shape))
        if len(observable.shape) >= 2:
            rows, columns = observable.shape[-2:]
            images += [
                Image(start + first, (rows, columns)) for first in range(0, size, rows * columns)
            ]
        if not observable.shape:
            return []
        start += size
    return images


def _classified(
    metric: str,
    chosen: Input,
    context: MetricContext,
    details: Details,
    progress: ProgressCallback,
) -> Estimates:
    """Returns AUC and calibrated accuracy; the measured baseline compares halves of the reference.

    Raises:
        DataError: there are too few events.
    """

    def separability(x: Float32s, y: Float32s, name: str, *, trainings: int) -> Separability:
        if chosen.network is None:
            return boosting.boosted_separability(x, y, seed=context.seed)
        return classifier.separability(
            x, y,
            seed=context.seed, network=chosen.network, images=chosen.images(), trainings=trainings,
            device=context.device,
            progress=lambda _, fraction, remark: progress(f"training: {name}", fraction, remark),
        )  # fmt: skip

    number = context.reference.number
    if number < 2 * classifier.MIN_EVENTS:
        raise DataError(
            f"a classifier and its baseline need {2 * classifier.MIN_EVENTS} reference events, but there are {number}"
        )
    trainings = 1 if context.quick else 3
    x, y = (values.astype(np.float32, copy=False) for values in chosen.features())
    result = separability(x, y, metric, trainings=trainings)
    order = numpy_generator(context.seed, "evaluation", "halves").permutation(len(x))
    null = None
    # five trainings of trees take long; their baseline is 0.5
    if context.classifier_checks and (chosen.network or not context.quick):
        halves = x[order[::2]], x[order[1::2]]
        null = separability(*halves, f"baseline of {metric}", trainings=trainings)
    details.curves[metric] = result.curve
    if metric == "auc_observables":
        details.telling[metric] = telling.telling_events(result, context.all_observables[0], y)
        details.weights[metric] = telling.weight_histogram(result, context.source)
    if metric == "auc_observables" and context.classifier_checks:
        curve = learning_curve(
            x[order], y[numpy_generator(context.seed, "evaluation", "learning curve").permutation(len(y))],
            result,
            lambda a, b: separability(a, b, f"learning curve of {metric}", trainings=trainings),
        )  # fmt: skip
        if curve is not None:
            details.learning_curves[metric] = curve
    return {
        metric: Estimate(
            result.auc,
            result.error,
            0.5,
            result.null_error,
            result.p_value,
            (null.auc, null.error) if null else None,
        ),
        metric.replace("auc", "accuracy"): Estimate(
            result.accuracy,
            result.accuracy_error,
            *((null.accuracy, null.accuracy_error) if null else (0.5, 0.0)),
        ),
    }

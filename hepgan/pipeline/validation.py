"""Validation during training: the distance of generated events from the validation split."""

from collections.abc import Callable

import awkward as ak
import numpy as np

from hepgan.data.encoding.encoding import Encoding
from hepgan.data.schema import Schema
from hepgan.data.weights import event_weights, normalized_weights, with_weights_of
from hepgan.errors import DataError
from hepgan.evaluation.metrics import compute, digits, fpd
from hepgan.evaluation.metrics.scores import CLASSIFIER_INPUTS, HIGHER_IS_BETTER, REGISTERED
from hepgan.evaluation.observables.standard import arrays, evaluate_observables, observables_for
from hepgan.evaluation.report.evaluation import evaluate
from hepgan.evaluation.sample import build_sample
from hepgan.gan.model import GAN
from hepgan.gan.training.validation import Validation
from hepgan.pipeline.config import RunConfig
from hepgan.random_streams import child_seed

VALIDATED = 5000
"""Approximate number of generated events per validation score."""


def make_validation(run: RunConfig, reference: ak.Array, encoding: Encoding) -> Validation:
    """Returns the validation of a training: a GAN's distance from ``reference``, the validation split, and the encoded split.

    The distance is the Fréchet distance of the observables or, with ``[evaluate] digits``, that of the digit classifier's features,
    since observables hardly distinguish digits from scribbles. ``[evaluate] validation`` names a registered metric or a classifier
    instead. Generated events that have the conditions of weighted events have their weights, too.

    Raises:
        DataError: a classifier cannot use negative weights.
    """
    weights = event_weights(reference, run.schema)
    negative = 0 if weights is None else int((weights < 0).sum())
    if negative and run.evaluate.validation in CLASSIFIER_INPUTS:
        raise DataError(
            f"[evaluate] validation = '{run.evaluate.validation}' trains a classifier, which cannot use the negative weights of {negative:,} of"
            f" {len(reference):,} validation events; omit it, and the Fréchet distance, which can, is used"
        )
    # Several generated events per reference event: the fluctuations of the reference are the same in every score.
    of_classifier = run.evaluate.validation in CLASSIFIER_INPUTS
    # Classifiers compare as many events of each kind.
    copies = 1 if of_classifier else max(1, VALIDATED // len(reference))
    conditions = {
        name: np.tile(ak.to_numpy(reference[name]), copies) for name in run.schema.conditions
    }
    seed = child_seed(run.seed, "validation")
    if of_classifier:
        distance = classifier_distance(reference, run, seed=seed)
    elif run.evaluate.validation:
        distance = metric_distance(reference, run, seed=seed)
    elif run.evaluate.digits:
        distance = digit_distance(reference, run.schema)
    else:
        distance = observable_distance(reference, run)

    def score(gan: GAN) -> float:
        generated = gan.sample(copies * len(reference), conditions=conditions, seed=seed)
        return distance(with_weights_of(reference, generated, run.schema))

    encoded = encoding.encode(reference, seed=seed)
    normalized = normalized_weights(reference, run.schema)
    return Validation(
        score, encoded if normalized is None else (*encoded, normalized.to(encoded[0]))
    )


def observable_distance(reference: ak.Array, run: RunConfig) -> Callable[[ak.Array], float]:
    """Returns a function of events: the Fréchet distance of their observables to those of ``reference``, in widths of the reference."""
    observables = observables_for(run.schema, run.geometry)
    expected = evaluate_observables(arrays(reference, run.schema.all), observables)

    def distance(events: ak.Array) -> float:
        generated = evaluate_observables(arrays(events, run.schema.all), observables)
        weights = event_weights(reference, run.schema), event_weights(events, run.schema)
        return compute.validation_distance(expected, generated, weights)

    return distance


def metric_distance(
    reference: ak.Array, run: RunConfig, *, seed: int
) -> Callable[[ak.Array], float]:
    """Returns a function of events: the value of the metric ``[evaluate] validation``, negated if higher values are better."""
    observables = observables_for(run.schema, run.geometry)
    expected = build_sample(
        arrays(reference, run.schema.all), observables, event_weights(reference, run.schema)
    )
    metric = REGISTERED[run.evaluate.validation].function
    sign = -1.0 if run.evaluate.validation in HIGHER_IS_BETTER else 1.0

    def distance(events: ak.Array) -> float:
        weights = event_weights(events, run.schema)
        generated = build_sample(arrays(events, run.schema.all), observables, weights)
        return sign * metric(expected, generated, seed=seed).value

    return distance


def classifier_distance(
    reference: ak.Array, run: RunConfig, *, seed: int
) -> Callable[[ak.Array], float]:
    """Returns a function of events: the AUC of the classifier ``[evaluate] validation``, which also sees the conditions.

    The function raises a DataError if the classifier cannot be used for these events.
    """
    metric = run.evaluate.validation

    def distance(events: ak.Array) -> float:
        result = evaluate(
            reference, events,
            schema=run.schema, geometry=run.geometry, metrics=(metric,), seed=seed,
        )  # fmt: skip
        for score in result.scores:
            if score.metric == metric:
                return score.value
        reasons = [skipped.reason for skipped in result.skipped if skipped.metric == metric]
        raise DataError(
            f"[evaluate] validation = '{metric}' cannot be computed for these events"
            f"{': ' if reasons else ''}{'; '.join(reasons)}; choose another metric"
        )

    return distance


def digit_distance(reference: ak.Array, schema: Schema) -> Callable[[ak.Array], float]:
    """Returns a function of events: the Fréchet distance of their digits to those of ``reference``."""
    name = digits.digit_field(schema)

    def scores(events: ak.Array) -> digits.DigitScores:
        return digits.digit_scores(ak.to_numpy(events[name]).reshape(-1, 28, 28))

    expected = scores(reference)

    def distance(events: ak.Array) -> float:
        weights = event_weights(reference, schema), event_weights(events, schema)
        return fpd.frechet_distance(expected.features, scores(events).features, weights)

    return distance

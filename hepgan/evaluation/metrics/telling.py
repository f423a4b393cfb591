"""Events that give a generated sample away, according to a classifier, and where they are in the observables."""

import numpy as np

from hepgan.evaluation.metrics.classifier import Separability
from hepgan.evaluation.metrics.features import Float32s
from hepgan.evaluation.metrics.scores import TellingEvents

SHOWN = 5
FRACTION = 0.01
MIN_EVENTS = 20


def telling_events(result: Separability, names: list[str], features: Float32s) -> TellingEvents:
    """Returns the events with the largest probability of being generated.

    Args:
        result: Result of the classifier.
        names: Names of the features.
        features: Normal scores ``[G, F]`` of the generated events.
    """
    order = np.argsort(-result.probabilities, kind="stable")
    number = min(len(order), max(MIN_EVENTS, round(FRACTION * len(order))))
    extreme = result.tested[order[:number]]
    means = features[extreme].mean(axis=0)
    by_size = np.argsort(-np.abs(means))
    return TellingEvents(
        tuple(extreme[:SHOWN].tolist()),
        tuple(result.probabilities[order[:SHOWN]].tolist()),
        number / len(order),
        {names[i]: float(means[i]) for i in by_size},
    )

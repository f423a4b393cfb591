"""Events that give a generated sample away, according to a classifier: their weights, and where they are in the observables.

The weight (1 − p) / p of an event, where p is its calibrated probability of being generated, is the ratio of the densities of the reference
and of the generated sample. Weights far from 1 are the tails of a distribution around 1 that is narrow for a good generator
(arXiv:2305.16774).
"""

from typing import Any

import hist
import numpy as np
from hist import Hist

from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics.classifier import Separability
from hepgan.evaluation.metrics.features import Float32s
from hepgan.evaluation.metrics.scores import TellingEvents

SHOWN = 5
WEIGHT_BINS = 40
WEIGHT_DECADES = 2
"""Decades on either side of 1 that the axis of the classifier's weights covers."""
FRACTION = 0.01
MIN_EVENTS = 20


def weight_histogram(result: Separability, source: str) -> "Hist[Any]":
    """Returns ``Hist(source, classifier_weight)`` of the weights of the test events; weights of 0 and ∞ are in the flow bins."""
    axis = hist.axis.Regular(
        WEIGHT_BINS, 10**-WEIGHT_DECADES, 10**WEIGHT_DECADES,
        name="classifier_weight", label="classifier weight (1 − p) / p", transform=hist.axis.transform.log,
    )  # fmt: skip
    sources = hist.axis.StrCategory([REFERENCE, source], name="source")
    filled: Hist[Any] = Hist(sources, axis, storage=hist.storage.Weight())
    for name, p in ((REFERENCE, result.reference_probabilities), (source, result.probabilities)):
        with np.errstate(divide="ignore"):
            filled.fill(name, (1 - p) / p)
    return filled


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

"""Learning curve of a classifier: its AUC against the number of events, extrapolated to infinitely many.

A sharper classifier needs more events; an AUC that still rises with N says that more events would show more. The AUC corresponds to a
separation d = √2 Φ⁻¹(AUC) of two Gaussians (the binormal ROC curve; Hanley and McNeil, Radiology 143 (1982) 29), to which a − b / √N
is fitted, so that the extrapolated AUC Φ(a / √2) lies between 0 and 1.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.stats

from hepgan.evaluation.metrics.classifier import FOLDS, MIN_EVENTS, Separability
from hepgan.evaluation.metrics.features import Float32s
from hepgan.evaluation.metrics.scores import LearningCurve
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.metrics.worth import Interval

FRACTIONS = (1 / 8, 1 / 4, 1 / 2)


def learning_curve(
    reference: Float32s,
    generated: Float32s,
    whole: Separability,
    separability: Callable[[Float32s, Float32s], Separability],
) -> LearningCurve | None:
    """Returns the AUC for fractions of the events, or ``None`` if there are too few for two of them.

    Args:
        reference: Features ``[E, F]`` in random order.
        generated: The same.
        whole: Result of all events.
        separability: Function that trains a classifier of two samples.
    """
    number = min(len(reference), len(generated))
    sizes = [round(fraction * number) for fraction in FRACTIONS]
    sizes = [size for size in sizes if size >= MIN_EVENTS]
    if len(sizes) < 2:
        return None
    results = [separability(reference[:size], generated[:size]) for size in sizes] + [whole]
    numbers = np.array([*sizes, number], dtype=float)
    aucs, errors = (np.array([getattr(one, key) for one in results]) for key in ("auc", "error"))
    return LearningCurve(
        (*sizes, number), tuple(aucs.tolist()), tuple(errors.tolist()),
        extrapolate(numbers, aucs, errors),
    )  # fmt: skip


def extrapolate(numbers: Floats, aucs: Floats, errors: Floats) -> Interval:
    """Returns the AUC of infinitely many events with its 68 % interval, from those of ``numbers`` of events of each sample."""
    resolution = FOLDS / numbers  # one test event
    inside = np.clip(aucs, resolution, 1 - resolution)
    separations = math.sqrt(2) * scipy.stats.norm.ppf(inside)
    slopes = scipy.stats.norm.pdf(separations / math.sqrt(2)) / math.sqrt(2)
    doubts = np.maximum(errors, np.where(inside == aucs, 0.0, resolution)) / slopes
    design = np.stack([np.ones(len(numbers)), -1 / np.sqrt(numbers)], axis=1) / doubts[:, None]
    covariance = np.linalg.inv(design.T @ design)
    limit = float((covariance @ design.T @ (separations / doubts))[0])
    doubt = math.sqrt(covariance[0, 0])
    return Interval(
        *(float(scipy.stats.norm.cdf(each / math.sqrt(2))) for each in (limit, limit - doubt, limit + doubt))
    )  # fmt: skip

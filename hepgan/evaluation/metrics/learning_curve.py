"""Learning curve of a classifier: its AUC against the number of events, extrapolated to infinitely many.

A sharper classifier needs more events; an AUC that still rises with N says that more events would show more. The extrapolation is
a fit of a − b / √N.
"""

from collections.abc import Callable

import numpy as np

from hepgan.evaluation.metrics.classifier import MIN_EVENTS, Separability
from hepgan.evaluation.metrics.features import Float32s
from hepgan.evaluation.metrics.scores import LearningCurve

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
    found = [separability(reference[:size], generated[:size]) for size in sizes] + [whole]
    numbers = np.array([*sizes, number], dtype=float)
    aucs, errors = (np.array([getattr(one, name) for one in found]) for name in ("auc", "error"))
    design = np.stack([np.ones(len(numbers)), -1 / np.sqrt(numbers)], axis=1) / errors[:, None]
    covariance = np.linalg.inv(design.T @ design)
    limit = float((covariance @ design.T @ (aucs / errors))[0])
    return LearningCurve(
        (*sizes, number), tuple(aucs.tolist()), tuple(errors.tolist()),
        limit, float(np.sqrt(covariance[0, 0])),
    )  # fmt: skip

"""A number that compares two samples, and the skip where there is none."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from hepgan.evaluation.metrics.statistics import Floats

OVERALL = "all"
"""What stands for an observable's name where a score is about all of them."""

CLASSIFIER_INPUTS = {"auc_low": "cells", "auc_log": "log cells", "auc_high": "observables"}
"""What a classifier sees, by its metric."""

HIGHER_IS_BETTER = {"precision", "recall", "density", "coverage", "digit_confidence"}


@dataclasses.dataclass(frozen=True)
class Score:
    """One number that compares a generated sample with the reference.

    Attributes:
        metric: Which number.
        observable: Of which quantity; ``all`` for all together.
        value: The number.
        error: Its statistical error.
        baseline: What reference against reference gives.
        n_reference: Events in the reference.
        n_generated: Events in the generated sample.
        baseline_error: Spread of the baseline.
        p_value: Chance of a value as large if the samples were alike, where it is known.
        source: Name of the generated sample.
    """

    metric: str
    observable: str
    value: float
    error: float
    baseline: float
    n_reference: int
    n_generated: int
    baseline_error: float = 0.0
    p_value: float | None = None
    source: str = "generated"

    @property
    def n_sigma(self) -> float:
        """How far from the baseline, in errors of both; positive is worse than the baseline."""
        difference = self.value - self.baseline
        spread = float(np.hypot(self.error, self.baseline_error))
        n_sigma = difference / spread if spread > 0 else 0.0 if difference == 0 else np.inf
        return -n_sigma if self.metric in HIGHER_IS_BETTER else n_sigma


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


class SkippedMetric(NamedTuple):
    """What could not be computed, and why."""

    metric: str
    observable: str
    reason: str
    source: str = "generated"


class MetricResults(NamedTuple):
    """All scores of one generated sample, what is missing, and what plots need beside them.

    Attributes:
        scores: The scores.
        skipped: What could not be computed.
        curves: ROC curves ``[2, 101]`` by metric.
    """

    scores: list[Score]
    skipped: list[SkippedMetric]
    curves: dict[str, Floats]

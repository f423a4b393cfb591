"""Input of all metrics of one generated sample."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from hist import Hist

from hepgan.evaluation.metrics import features
from hepgan.evaluation.metrics.conditions import Condition
from hepgan.evaluation.metrics.features import Pair
from hepgan.evaluation.observables.standard import Observable
from hepgan.evaluation.sample import Sample


class MetricContext(NamedTuple):
    """Input of all metrics of one generated sample.

    Attributes:
        reference: The reference.
        generated: The generated sample.
        observables: Observables to compare.
        histograms: Histograms by observable.
        source: Name of the generated sample.
        seed: Seed of resampling, splits and classifiers.
        quick: Whether to train a small classifier once instead of the CaloChallenge's three times.
        device: Device on which classifiers are trained.
        digits: Whether the events are MNIST's digits, which the digit classifier scores.
        metrics: Metrics to compute; if empty, all that apply.
        conditions: Conditions of the events, with their slices.
        training: Events that the generator was trained on, if known.
        classifier_checks: Whether to measure the baselines and the learning curves of the classifiers, which do not count for the
            verdict and take half of the time.
    """

    reference: Sample
    generated: Sample
    observables: Mapping[str, Observable]
    histograms: "Mapping[str, Hist[Any]]"
    source: str
    seed: int
    quick: bool
    device: str = "cpu"
    digits: bool = False
    metrics: frozenset[str] = frozenset()
    conditions: Mapping[str, Condition] = MappingProxyType({})
    training: Sample | None = None
    classifier_checks: bool = True

    def includes(self, *metrics: str) -> bool:
        """Returns whether one of ``metrics`` is to be computed."""
        return not self.metrics or not self.metrics.isdisjoint(metrics)

    @property
    def published(self) -> Pair:
        """High-level features of both samples; for showers, those of the CaloChallenge."""
        return features.high_level(self.reference.values, self.generated.values, self.observables)

    @property
    def all_observables(self) -> tuple[list[str], Pair]:
        """Names and normal scores of all observables, with columns of the conditions."""
        return features.all_observables(
            self.reference, self.generated, self.observables, self.conditions
        )

    @property
    def other_conditions(self) -> Mapping[str, Pair]:
        """Columns of the conditions other than the incident energy, which the published features contain."""
        incident = self.reference.values.get("E_inc")
        others = {
            name: condition
            for name, condition in self.conditions.items()
            if incident is None or not np.array_equal(self.reference.events[name], incident)
        }
        return features.condition_columns(self.reference, self.generated, others)

    @property
    def published_and_conditions(self) -> Pair:
        """High-level features and the columns of all conditions."""
        if any(observable.feature != "none" for observable in self.observables.values()):
            return features.with_columns(self.published, self.other_conditions)
        return self.all_observables[1] if self.conditions else self.published

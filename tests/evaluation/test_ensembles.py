"""Bands of ensembles: their coverage on toys."""

import numpy as np
import pytest

from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.evaluation import histograms, observables_for
from hepgan.evaluation.metrics.ensembles import ensemble_bands

SCHEMA = Schema({"x": Field()})


def coverage(*, members: int, spread: float, bias: float, toys: int = 40) -> float:
    """Mean coverage of Gaussians whose means vary by ``spread`` and are off by ``bias``; the reference is one more of them."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(toys):
        reference = {"x": rng.normal(rng.normal(0, spread), 1, 4000)}
        generated = {
            f"seed {i}": {"x": rng.normal(rng.normal(bias, spread), 1, 2000)}
            for i in range(members)
        }
        filled = histograms.compare(reference, generated, observables_for(SCHEMA))
        found.append(ensemble_bands(filled)["x"].coverage)
    return float(np.mean(found))


@pytest.mark.parametrize(("members", "spread"), [(3, 0.0), (8, 0.0), (8, 0.1)])
def test_two_thirds_of_the_bins_of_an_unbiased_ensemble_lie_within_the_band(
    members: int, spread: float
) -> None:
    assert coverage(members=members, spread=spread, bias=0.0) == pytest.approx(0.683, abs=0.09)


def test_a_bias_that_all_members_share_lowers_the_coverage() -> None:
    assert coverage(members=8, spread=0.02, bias=0.3) < 0.4


def test_an_ensemble_of_two_is_an_error() -> None:
    events = {"x": np.random.default_rng(2).normal(size=100)}
    filled = histograms.compare(events, {"a": events, "b": events}, observables_for(SCHEMA))
    with pytest.raises(DataError, match="needs 3 generated samples, but there are 2"):
        ensemble_bands(filled)

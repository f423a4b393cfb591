"""χ² and Kolmogorov tests of two histograms against scipy, and under the null hypothesis."""

import json
import warnings
from pathlib import Path

import boost_histogram as bh
import hist
import mplhep
import numpy as np
import pytest
import scipy.stats

import hepgan
from hepgan.errors import DataError
from hepgan.evaluation.histograms import compare, load_histograms, save_histograms
from hepgan.evaluation.observables.standard import Observable

AXIS = hist.axis.Regular(20, -2, 2, name="x", label="x [mm]")


def filled(values: np.ndarray, weights: np.ndarray | None = None) -> hist.Hist:
    storage = hist.storage.Double() if weights is None else hist.storage.Weight()
    return hist.Hist(AXIS, storage=storage).fill(values, weight=weights)


def two(seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=2000), rng.normal(shift, 1, 3000)


def test_chi_square_of_unweighted_histograms_is_that_of_the_contingency_table() -> None:
    first, second = (filled(values) for values in two(1))
    table = [first.values(flow=True), second.values(flow=True)]
    expected = scipy.stats.chi2_contingency(table, correction=False)
    # the test divides by the variances of the two bins, the table by their expectation under the null hypothesis
    found = hepgan.chi_square_test(first, second)
    assert found.statistic == pytest.approx(expected.statistic, rel=0.02)
    assert found.ndf == expected.dof == 21
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.01)


def test_without_flow_only_the_bins_count() -> None:
    first, second = (
        filled(np.zeros(100)),
        filled(np.concatenate([np.zeros(100), np.full(900, 9.0)])),
    )
    assert hepgan.chi_square_test(first, second, flow=False).statistic == 0
    assert hepgan.chi_square_test(first, second).p_value < 1e-3
    assert hepgan.kolmogorov_test(first, second, flow=False).statistic == 0
    assert hepgan.kolmogorov_test(first, second).statistic == pytest.approx(0.9)


def test_kolmogorov_distance_is_that_of_values_at_the_edges() -> None:
    x, y = two(2, shift=0.1)
    expected = max(abs((x < edge).mean() - (y < edge).mean()) for edge in AXIS.edges)
    found = hepgan.kolmogorov_test(filled(x), filled(y))
    assert found.statistic == pytest.approx(expected)
    exact = scipy.stats.ks_2samp(x, y)
    assert exact.pvalue <= found.p_value < 1.5 * exact.pvalue + 0.05


@pytest.mark.parametrize("test", [hepgan.chi_square_test, hepgan.kolmogorov_test])
def test_a_common_factor_of_the_weights_changes_nothing(test) -> None:
    x, y = two(3)
    weights = np.random.default_rng(4).exponential(size=len(y))
    one, other = (filled(y, factor * weights) for factor in (1, 7))
    np.testing.assert_allclose(test(filled(x), one), test(filled(x), other))


@pytest.mark.parametrize(
    ("test", "tolerance"), [(hepgan.chi_square_test, 0.07), (hepgan.kolmogorov_test, None)]
)
def test_p_values_of_weighted_histograms_are_uniform_or_conservative(test, tolerance) -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(400):
        x, y = rng.normal(size=1500), rng.normal(size=1000)
        found.append(test(filled(x), filled(y, rng.exponential(size=1000))).p_value)
    if tolerance:
        assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3
    for level in (0.05, 0.2, 0.5):  # never more often rejected than the level says
        assert np.mean(np.array(found) < level) < level + 0.05


def test_histograms_of_several_dimensions_and_of_boost_histogram_are_tested() -> None:
    rng = np.random.default_rng(6)
    axes = bh.axis.Regular(5, -2, 2), bh.axis.Regular(4, -2, 2)
    first, second = (bh.Histogram(*axes).fill(*rng.normal(size=(2, 4000))) for _ in range(2))
    found = hepgan.chi_square_test(first, second)
    assert found.ndf > 20
    assert found.p_value > 1e-3
    with pytest.raises(DataError, match="has 2; project it"):
        hepgan.kolmogorov_test(first, second)


def test_different_axes_missing_variances_and_empty_histograms_are_errors() -> None:
    other = hist.Hist(hist.axis.Regular(10, -2, 2, name="x")).fill([0.0])
    with pytest.raises(DataError, match="axes of the two histograms differ"):
        hepgan.chi_square_test(filled(np.zeros(3)), other)
    no_squares = hist.Hist(AXIS, storage=hist.storage.Double()).fill([0.0, 1.0], weight=[2.0, 3.0])
    with pytest.raises(DataError, match="second histogram was filled with weights"):
        hepgan.chi_square_test(filled(np.zeros(3)), no_squares)
    with pytest.raises(DataError, match="first histogram sum to 0"):
        hepgan.kolmogorov_test(filled(np.zeros(0)), filled(np.zeros(3)))


def test_compared_histograms_are_ready_for_mplhep_and_uhi(tmp_path: Path) -> None:
    observable = Observable("width", lambda e: e["x"], "width", "mm")
    rng = np.random.default_rng(7)
    events = [{"x": rng.normal(size=500)} for _ in range(2)]
    found = compare(*events, {"width": observable})
    one = found["width"]
    assert [axis.name for axis in one.axes] == ["source", "width"]
    reference, generated = one["reference", :], one["generated", :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's own
        _, _, bottom = mplhep.comp.hists(generated, reference, xlabel=one.axes[1].label)
    assert bottom.get_xlabel() == "width [mm]"
    assert hepgan.chi_square_test(reference, generated).p_value > 1e-3
    save_histograms(tmp_path / "histograms.json", found)
    assert json.loads((tmp_path / "histograms.json").read_text())["width"]["uhi_schema"] == 1
    assert load_histograms(tmp_path / "histograms.json")["width"] == one

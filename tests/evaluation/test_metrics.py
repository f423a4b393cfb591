"""Scores against scipy, analytic Gaussians and toys under the null."""

import math

import awkward as ak
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation import histograms
from hepgan.evaluation.metrics import (
    classifier,
    classifiers,
    compute,
    digits,
    fpd,
    kpd,
    per_observable,
    prdc,
    statistics,
)
from hepgan.evaluation.metrics.scores import Score
from hepgan.evaluation.metrics.statistics import Counts
from hepgan.evaluation.observables.standard import observables_for
from hepgan.evaluation.sample import build_sample

TOYS = 100


def counts(values: np.ndarray, edges: np.ndarray) -> Counts:
    found = np.histogram(values, np.concatenate([[-np.inf], edges, [np.inf]]))[0].astype(float)
    return Counts(found, found)


def is_uniform(p_values: list[float]) -> bool:
    return scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3


@settings(max_examples=30, deadline=None)
@given(
    x=st.lists(st.floats(-100, 100), min_size=2, max_size=40),
    y=st.lists(st.floats(-100, 100), min_size=2, max_size=40),
)
def test_wasserstein_and_kolmogorov_equal_scipys(x: list[float], y: list[float]) -> None:
    a, b = np.array(x), np.array(y)
    distance = statistics.wasserstein(a, b, seed=1)
    assert distance.value == pytest.approx(scipy.stats.wasserstein_distance(x, y), abs=1e-9)
    assert statistics.kolmogorov(a, b).value == pytest.approx(
        scipy.stats.ks_2samp(x, y, method="asymp").statistic
    )


def test_kolmogorov_p_value_equals_scipys_asymptotic_one() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=2000), rng.normal(0.05, 1, 3000)
    expected = scipy.stats.kstwobign.sf(
        scipy.stats.ks_2samp(x, y, method="asymp").statistic * math.sqrt(2000 * 3000 / 5000)
    )
    assert statistics.kolmogorov(x, y).p_value == pytest.approx(expected)


def test_separation_power_equals_the_calochallenge_formula() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.random(40), rng.random(40)
    a, b = p / p.sum(), q / q.sum()
    expected = 0.5 * sum((i - j) ** 2 / (i + j) for i, j in zip(a, b, strict=True))
    found = statistics.separation(Counts(p, p), Counts(q, q), seed=1)
    assert found.value == pytest.approx(expected, rel=1e-9)


def test_separation_power_includes_overflow() -> None:
    edges = np.linspace(0, 1, 5)
    inside = np.full(100, 0.5)
    outside = np.full(100, 7.0)
    found = statistics.separation(counts(inside, edges), counts(outside, edges), seed=1)
    assert found.value == pytest.approx(1.0)


def test_baselines_agree_with_toys_under_the_null() -> None:
    rng = np.random.default_rng(2)
    edges, n = np.linspace(-3, 3, 21), 2000
    values: dict[str, list[float]] = {"separation": [], "kolmogorov": [], "wasserstein": []}
    baselines: dict[str, list[float]] = {name: [] for name in values}
    for seed in range(60):
        x, y = rng.normal(size=(2, n))
        found = {
            "separation": statistics.separation(counts(x, edges), counts(y, edges), seed=seed),
            "kolmogorov": statistics.kolmogorov(x, y),
            "wasserstein": statistics.wasserstein(x, y, seed=seed),
        }
        for name, estimate in found.items():
            values[name].append(estimate.value)
            baselines[name].append(estimate.baseline)
    for name, found_values in values.items():
        error = np.std(found_values) / math.sqrt(60)
        assert np.mean(baselines[name]) == pytest.approx(np.mean(found_values), abs=4 * error), name


@pytest.mark.parametrize("name", ["separation", "kolmogorov", "wasserstein"])
def test_errors_have_the_right_coverage(name: str) -> None:
    rng = np.random.default_rng(3)
    edges, n, shift = np.linspace(-3, 4, 21), 2000, 0.5
    found = []
    for seed in range(400 if name != "wasserstein" else 250):
        x, y = rng.normal(size=n), rng.normal(shift, 1, n)
        if name == "separation":
            estimate = statistics.separation(counts(x, edges), counts(y, edges), seed=seed)
        elif name == "kolmogorov":
            estimate = statistics.kolmogorov(x, y)
        else:
            estimate = statistics.wasserstein(x, y, seed=seed)
        found.append((estimate.value, estimate.error))
    values, errors = np.array(found).T
    pulls = (values - values.mean()) / errors
    assert pulls.std() == pytest.approx(1.0, abs=0.1)


def test_analytic_distances_of_shifted_gaussians() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=100_000), rng.normal(0.5, 1, 100_000)
    ks, w1 = statistics.kolmogorov(x, y), statistics.wasserstein(x, y, seed=1)
    assert ks.value == pytest.approx(2 * scipy.stats.norm.cdf(0.25) - 1, abs=4 * ks.error)
    assert w1.value == pytest.approx(0.5, abs=4 * w1.error)
    edges = np.linspace(-5, 5.5, 400)
    centers = (edges[1:] + edges[:-1]) / 2
    p, q = scipy.stats.norm.pdf(centers), scipy.stats.norm.pdf(centers, 0.5)
    expected = 0.5 * np.sum((p - q) ** 2 / (p + q)) * np.diff(edges)[0]
    found = statistics.separation(counts(x, edges), counts(y, edges), seed=1)
    assert found.value - found.baseline == pytest.approx(expected, rel=0.05)


def test_chi_square_is_uniform_under_the_null_of_weighted_histograms() -> None:
    rng = np.random.default_rng(5)
    edges = np.concatenate([[-np.inf], np.linspace(-2.5, 2.5, 19), [np.inf]])
    p_values = []
    for _ in range(1000):
        samples = []
        for number in (1500, 800):
            x, w = rng.normal(size=number), rng.gamma(4, 0.25, number)
            samples.append(
                Counts(
                    np.histogram(x, edges, weights=w)[0], np.histogram(x, edges, weights=w**2)[0]
                )
            )
        p_values.append(statistics.chi_square(*samples).p_value)
    assert is_uniform(p_values)


def test_chi_square_of_spectra_is_uniform_although_cells_are_correlated() -> None:
    rng = np.random.default_rng(6)
    p_values, naive = [], []
    for _ in range(1000):
        samples = []
        for number in (600, 500):
            scale = rng.exponential(1.0, (number, 1))
            cells = scale * rng.exponential(1.0, (number, 30))
            bins = np.digitize(cells, [0.05, 0.1, 0.2, 0.5, 1, 2, 4])
            samples.append(
                np.stack([(bins == b).sum(axis=1) for b in range(8)], axis=1).astype(float)
            )
        ones = tuple(np.ones(len(sample)) for sample in samples)
        p_values.append(statistics.clustered_chi_square(*samples, ones).p_value)
        sums = [s.sum(axis=0) for s in samples]
        naive.append(statistics.chi_square(*(Counts(s, s) for s in sums)).p_value)
    assert is_uniform(p_values)
    assert np.mean(np.array(naive) < 0.05) > 0.3  # counting cells as if they were alone cries wolf


def test_merging_leaves_enough_in_every_bin() -> None:
    rng = np.random.default_rng(7)
    p, q = rng.poisson(3, (2, 30)).astype(float)
    groups = statistics.merge_sparse_bins([p, q], [p, q])
    fractions = np.bincount(groups, p / p.sum() + q / q.sum()) / 2
    assert min(p.sum(), q.sum()) * fractions.min() >= statistics.MIN_ENTRIES - 1e-9
    assert set(np.diff(groups)) <= {0, 1}


def test_a_range_that_is_empty_in_one_sample_is_not_merged_away() -> None:
    p, q = np.array([0.0, 100, 0, 0]), np.array([0.0, 0, 60, 40])
    assert statistics.chi_square(Counts(p, p), Counts(q, q)).p_value < 1e-10


def test_the_mean_image_has_uniform_p_values_and_finds_a_dead_row() -> None:
    rng = np.random.default_rng(8)

    def cells(number: int) -> np.ndarray:
        lit = rng.random((number, 60)) < 0.3
        return rng.exponential(1.0, (number, 60)) * lit

    null = [
        per_observable.mean_image(cells(400), cells(400))["mean_image"].p_value for _ in range(300)
    ]
    assert is_uniform(null)
    dead = cells(400)
    dead[:, 7] = 0
    assert per_observable.mean_image(cells(400), dead)["mean_image"].p_value < 1e-6


def test_frechet_distance_equals_the_formula_with_scipys_matrix_square_root() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
    y = rng.normal(1, 1, (200, 6)) @ rng.normal(size=(6, 6))
    c1, c2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(c1 @ c2))
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(c1 + c2 - 2 * root)
    assert fpd.frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)


def test_constant_and_repeated_features_have_a_frechet_distance() -> None:
    x = np.random.default_rng(10).normal(size=(200, 2))
    double = np.column_stack([x, x[:, 0], np.ones(200)])
    assert fpd.frechet_distance(double, double) == pytest.approx(0, abs=1e-6)


def test_extrapolated_frechet_distance_of_gaussians_is_unbiased_with_the_right_coverage() -> None:
    rng = np.random.default_rng(11)
    shift, widths = 0.3, np.linspace(1, 2, 8)
    expected = shift**2 + np.sum((widths - 1.1 * widths) ** 2)
    found = []
    for seed in range(TOYS):
        x = rng.normal(size=(1500, 8)) * widths
        y = rng.normal(size=(1500, 8)) * widths * 1.1
        y[:, 0] += shift
        estimate = fpd.extrapolated_frechet(x, y, seed=seed)
        found.append((estimate.value, estimate.error))
        assert abs(estimate.baseline) < 5 * estimate.baseline_error + 0.01
    values, errors = np.array(found).T
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / math.sqrt(TOYS))
    assert ((values - values.mean()) / errors).std() == pytest.approx(1.0, abs=0.2)


def test_the_frechet_fit_is_the_published_one_corrected_for_bias() -> None:
    rng = np.random.default_rng(22)
    x, y = rng.uniform(-1, 1, (2, 8000, 5))
    y[:, 0] *= 0.8
    # Published: distances of samples of ten sizes, even in 1/N, and a straight line through them.
    sizes = (1 / np.linspace(1 / 3200, 1 / 8000, 10)).astype(int)
    means = []
    for size in sizes:
        draws = [
            (x[rng.permutation(8000)[:size]], y[rng.permutation(8000)[:size]]) for _ in range(20)
        ]
        means.append(np.mean([fpd.frechet_distance(a, b) for a, b in draws]))
    published = np.polynomial.Polynomial.fit(1 / sizes, means, 1)(0.0)
    found = fpd.fpd(x, y, seed=1)
    # Both fits move by about a quarter of the error with the groups that are drawn.
    assert found.value == pytest.approx(published, abs=found.error / 2)


def bounded(rng: np.random.Generator, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features with sharp edges, so that the largest magnitude is the same in every sample."""
    mixing = np.eye(6) + 0.4 * np.tri(6, k=-1)
    x, y = np.tanh(rng.normal(size=(2, 2000, 6)) @ mixing.T)
    return x, np.asarray(y * (1 + shift) + shift * np.eye(6)[0])


@pytest.mark.parametrize("name", ["kpd", "density", "coverage", "correlation", "chi_square"])
def test_errors_of_joint_scores_have_the_right_coverage(name: str) -> None:
    rng = np.random.default_rng(23)
    found = []
    for seed in range(TOYS):
        x, y = bounded(rng, 0.3)
        if name == "kpd":
            estimate = kpd.kpd(x, y, seed=seed)
        elif name == "correlation":
            estimate = per_observable.correlation_distance(x, y + 0.5 * y[:, ::-1], seed=seed)
        elif name == "chi_square":
            edges = np.linspace(-2, 2, 21)
            estimate = statistics.chi_square(counts(x[:, 0], edges), counts(y[:, 0], edges))
        else:
            estimate = prdc.prdc_scores(x, y, seed=seed)[name]
        found.append((estimate.value, estimate.error))
    values, errors = np.array(found).T
    pulls = (values - values.mean()) / errors
    assert pulls.std() == pytest.approx(1.0, abs=0.2)  # 100 toys know a width to 7 %


@pytest.mark.parametrize("name", ["fpd", "kpd", "separation"])
def test_errors_of_identically_distributed_samples_equal_the_baseline_errors(name: str) -> None:
    rng = np.random.default_rng(24)
    edges, found = np.linspace(-1, 1, 21), []
    for seed in range(TOYS):
        x, y = bounded(rng, 0.0)
        if name == "fpd":
            estimate = fpd.fpd(x, y, seed=seed)
        elif name == "kpd":
            estimate = kpd.kpd(x, y, seed=seed)
        else:
            estimate = statistics.separation(
                counts(x[:, 0], edges), counts(y[:, 0], edges), seed=seed
            )
        found.append(estimate[:4])
    values, errors, baselines, baseline_errors = np.array(found).T
    assert values.mean() == pytest.approx(baselines.mean(), abs=4 * values.std() / math.sqrt(TOYS))
    assert baseline_errors.mean() == pytest.approx(values.std(), rel=0.25)
    assert np.median(errors) == pytest.approx(values.std(), rel=0.25)


def test_kernel_distance_equals_the_unbiased_double_sum() -> None:
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=(2, 400, 4)).astype(np.float32)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.astype(float) @ b.astype(float).T / 4 + 1) ** 4

    n = len(x)
    inside = [(kernel(a, a).sum() - np.trace(kernel(a, a))) / (n * (n - 1)) for a in (x, y)]
    expected = sum(inside) - 2 * kernel(x, y).mean()
    groups = [np.split(sample, kpd.GROUPS) for sample in (x, y)]
    every = np.arange(kpd.GROUPS)
    found = kpd.distance(kpd.kernel_sums(*groups), every, every)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_auc_is_the_mann_whitney_statistic_and_its_error_has_the_right_coverage() -> None:
    rng = np.random.default_rng(13)
    a, b = rng.integers(0, 20, 300).astype(float), rng.integers(3, 23, 200).astype(float)
    u = scipy.stats.mannwhitneyu(b, a).statistic / (300 * 200)
    assert classifier.area_under_curve(a, b)[0] == pytest.approx(u)
    true = scipy.stats.norm.cdf(1 / math.sqrt(2))
    pulls = []
    for _ in range(400):
        area, error = classifier.area_under_curve(rng.normal(size=200), rng.normal(1, 1, 200))
        pulls.append((area - true) / error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.1)


def test_a_classifier_finds_the_analytic_auc_of_overlapping_gaussians_and_half_under_the_null() -> (
    None
):
    rng = np.random.default_rng(14)
    x, y, z = rng.normal(size=(3, 4000, 3)).astype(np.float32)
    y[:, 0] += 1
    found = classifier.separability(x, y, seed=1)
    expected = scipy.stats.norm.cdf(1 / math.sqrt(2))
    assert found.auc == pytest.approx(expected, abs=4 * found.error)
    assert found.accuracy == pytest.approx(scipy.stats.norm.cdf(0.5), abs=0.03)
    null = classifier.separability(x, z, seed=2)
    assert null.auc == pytest.approx(0.5, abs=4 * null.error)
    assert classifier.separability(x, y, seed=1).auc == found.auc


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.4])
def test_errors_of_auc_and_accuracy_have_the_right_coverage(shift: float) -> None:
    rng = np.random.default_rng(25)
    found = []
    for seed in range(200):
        x, y = (sample.astype(np.float32) for sample in bounded(rng, shift))
        one = classifier.separability(x, y, seed=seed)
        found.append((one.auc, one.error, one.accuracy, one.accuracy_error))
    auc, error, accuracy, accuracy_error = np.array(found).T
    assert ((auc - auc.mean()) / error).std() == pytest.approx(1.0, abs=0.15)
    assert ((accuracy - accuracy.mean()) / accuracy_error).std() == pytest.approx(1.0, abs=0.15)
    if shift == 0:
        assert auc.mean() == pytest.approx(0.5, abs=4 * auc.std() / math.sqrt(200))


def test_repeated_classifiers_use_different_test_events_and_their_mean_has_a_smaller_error() -> (
    None
):
    rng = np.random.default_rng(26)
    x, y = (sample.astype(np.float32) for sample in bounded(rng, 0.1))
    tested = [classifier._three_parts(x, y, 2000, 1, turn, "cpu")[2][0] for turn in range(5)]
    rows = np.unique(np.concatenate(tested), axis=0)
    assert len(rows) == 4000
    one, three = (classifier.separability(x, y, seed=1, trainings=n) for n in (1, 3))
    assert three.error == pytest.approx(one.error / math.sqrt(3), rel=0.1)


def test_prdc_is_at_its_baseline_for_equal_distributions_and_detects_lost_modes() -> None:
    rng = np.random.default_rng(15)
    x, y = rng.normal(size=(2, 4000, 2))
    alike = prdc.prdc_scores(x, y, seed=1)
    for name, estimate in alike.items():
        spread = math.hypot(estimate.error, estimate.baseline_error)
        assert abs(estimate.value - estimate.baseline) < 5 * spread, name
    half = prdc.prdc_scores(x, y[y[:, 0] > 0], seed=1)
    assert half["coverage"].value < 0.7 * half["coverage"].baseline
    assert half["recall"].value < 0.7 * half["recall"].baseline
    assert half["precision"].value > 0.95 * half["precision"].baseline


def test_a_precision_of_one_has_a_nonzero_error() -> None:
    rng = np.random.default_rng(28)
    narrow = prdc.prdc_scores(rng.normal(size=(2000, 2)), np.zeros((1000, 2)), seed=1)
    assert narrow["precision"].value == 1
    assert 0 < narrow["precision"].error < 0.01


def test_a_lost_correlation_is_detected() -> None:
    rng = np.random.default_rng(16)
    x = rng.normal(size=(3000, 2))
    together = np.column_stack([x[:, 0], x[:, 0] * 0.6 + x[:, 1] * 0.8])
    found = per_observable.correlation_distance(together, x, seed=1)
    assert found.value == pytest.approx(0.6, abs=5 * found.error)
    same = per_observable.correlation_distance(x[::2], x[1::2], seed=1)
    assert same.value < same.baseline + 5 * same.baseline_error


def test_validation_distance_of_shifts_is_the_sum_of_their_standardized_squares() -> None:
    rng = np.random.default_rng(17)
    reference = {"a": 3 * rng.normal(size=50_000), "b": rng.normal(size=50_000)}
    generated = {"a": reference["a"] + 1.5, "b": reference["b"] - 0.25}
    expected = 0.5**2 + 0.25**2
    assert compute.validation_distance(reference, generated) == pytest.approx(expected, rel=0.01)
    assert compute.validation_distance(reference, reference) == pytest.approx(0, abs=1e-6)
    missing = {**reference, "b": np.where(np.arange(50_000) < 5000, np.nan, reference["b"])}
    assert compute.validation_distance(reference, missing) > 0.05


def test_validation_distance_detects_a_lost_correlation() -> None:
    rng = np.random.default_rng(18)
    u, v = rng.normal(size=(2, 20_000))
    reference = {"a": u, "b": 0.8 * u + 0.6 * v}
    lost = {"a": u, "b": rng.permutation(reference["b"])}
    # Two unit Gaussians of correlations r and q: tr(S1 + S2 - 2 sqrt(S1 S2)), where S1 and S2 commute.
    r, q = (np.corrcoef(u, sample["b"])[0, 1] for sample in (reference, lost))
    expected = 4 - 2 * (np.sqrt((1 + r) * (1 + q)) + np.sqrt((1 - r) * (1 - q)))
    assert compute.validation_distance(reference, lost) == pytest.approx(expected, rel=0.01)


def test_too_few_events_and_constants_are_skipped_with_a_reason() -> None:
    schema = Schema({"x": Field(), "y": Field()})
    events = {"x": np.ones(60), "y": np.random.default_rng(18).normal(size=60)}
    observables = observables_for(schema)
    sample = build_sample(events, observables)
    filled = histograms.compare(events, events, observables)
    plan = compute.MetricContext(sample, sample, observables, filled, "generated", 1, True)
    found = compute.compute_metrics(plan)
    reasons = {skip.metric + " " + skip.observable: skip.reason for skip in found.skipped}
    assert "is 1 in every event" in reasons["distribution x"]
    assert "need 400 reference events" in reasons["auc_observables all"]
    assert "auc_high all" not in reasons  # a table has no observables of the CaloChallenge
    assert {s.observable for s in found.scores} >= {"y"}


def test_events_of_one_vector_are_compared_by_its_values() -> None:
    schema = Schema({"v": Field((20,))})
    rng = np.random.default_rng(27)
    samples = [{"v": rng.normal(size=(500, 20))} for _ in range(2)]
    found = compute.score(*samples, observables_for(schema), seed=1, quick=True)
    assert {score.metric for score in found} >= {"separation", "mean_image", "auc_low"}


def test_scores_are_the_same_for_the_same_seed() -> None:
    rng = np.random.default_rng(19)
    samples = [{"x": rng.normal(size=500), "y": rng.normal(size=500)} for _ in range(2)]
    observables = observables_for(Schema({"x": Field(), "y": Field()}))
    found = [compute.score(*samples, observables, seed=3, quick=True) for _ in range(2)]
    assert found[0] == found[1]


def test_n_sigma_is_positive_only_when_worse_than_the_baseline() -> None:
    one = Score("wasserstein", "x", 5.0, 3.0, 0.0, 10, 10, baseline_error=4.0)
    assert one.n_sigma == pytest.approx(1.0)
    other = Score("recall", "all", 0.5, 0.1, 0.9, 10, 10)
    assert other.n_sigma == pytest.approx(4.0)


def test_digit_scores_require_images_of_digits() -> None:
    with pytest.raises(DataError, match=r"\(E, 28, 28\)"):
        digits.digit_scores(np.zeros((5, 20, 20)))


def test_images_of_784_values_are_digits_only_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classifiers, "_classified", lambda *_args: {})
    images = np.random.default_rng(20).integers(0, 256, (1200, 28, 28))
    schema = Schema({"image": Field((28, 28))})
    samples = ak.Array({"image": images[:600]}), ak.Array({"image": images[600:]})

    def digit_metrics(*, digits: bool) -> set[str]:
        found = compute.score(*samples, observables_for(schema), seed=1, quick=True, digits=digits)
        return {score.metric for score in found if score.metric.startswith("digit")}

    assert digit_metrics(digits=False) == set()
    assert digit_metrics(digits=True) == {"digit_confidence", "digit_balance", "digit_frechet"}


def test_digits_of_another_size_raise() -> None:
    with pytest.raises(
        RunError, match=r"one field of 28 × 28 pixels, but the schema has image \[20, 20\]"
    ):
        digits.digit_field(Schema({"image": Field((20, 20))}))


def test_awkward_events_have_the_scores_of_arrays() -> None:
    rng = np.random.default_rng(21)
    columns = [{"x": rng.normal(size=300), "y": rng.normal(size=300)} for _ in range(2)]
    observables = observables_for(Schema({"x": Field(), "y": Field()}))
    arrays = compute.score(*columns, observables, seed=1, quick=True)
    assert compute.score(*map(ak.Array, columns), observables, seed=1, quick=True) == arrays


@pytest.mark.parametrize(
    ("observables", "number", "message"),
    [({}, 10, "no observable to compare"), ({"x": None}, 0, "reference has no events")],
)
def test_nothing_to_compare_raises(observables, number: int, message: str) -> None:
    events = ak.Array({"x": np.zeros(number)})
    with pytest.raises(DataError, match=message):
        compute.score(events, events, observables, seed=1, quick=True)

"""The rule of the verdict: its error rate on toys, faults that it names, and the worth of samples with a known answer."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import scipy.stats

from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.evaluation import histograms
from hepgan.evaluation.metrics import (
    boosting,
    classifier,
    compute,
    copies,
    dependence,
    kpd,
    learning_curve,
    permutations,
    sliced,
    statistics,
    telling,
    verdict,
    worth,
)
from hepgan.evaluation.metrics.conditions import (
    Condition,
    columns_of,
    conditions_of,
    parse_slices,
)
from hepgan.evaluation.metrics.context import MetricContext
from hepgan.evaluation.metrics.scores import OVERALL, MetricResults, Score
from hepgan.evaluation.metrics.verdict import (
    SampleEvaluation,
    Sensitivity,
    _seen,
    evaluate_sample,
)
from hepgan.evaluation.observables.standard import observables_for
from hepgan.evaluation.sample import build_sample

Columns = Mapping[str, np.ndarray]

SCHEMA = Schema(
    {"response": Field(), "center": Field((), "mm"), "width": Field((), "mm"), "depth": Field(), "cells": Field((4, 5))},
    {"energy": Field((), "GeV"), "pdg": Field(), "phi": Field((), "rad")},
)  # fmt: skip
WITHOUT_CLASSIFIERS = frozenset({
    "chi_square", "condition_correlation", "correlation", "duplicates", "energy_distance", "fpd", "kolmogorov", "kpd", "mean_image",
    "precision", "slice", "sliced_wasserstein", "tails", "worth",
})  # fmt: skip


QUICK = WITHOUT_CLASSIFIERS - {
    "correlation", "energy_distance", "fpd", "kpd", "precision", "sliced_wasserstein", "worth",
}  # fmt: skip


def showers(number: int, seed: int) -> dict[str, np.ndarray]:
    """Showers in small, whose observables depend on three conditions."""
    rng = np.random.default_rng(seed)
    energy, pdg = rng.uniform(1, 100, number), rng.choice([11, 22, 211], number)
    phi = rng.uniform(0, 2 * math.pi, number)
    depth = 3 + 0.4 * np.log(energy) + 0.5 * (pdg == 22) + 0.9 * (pdg == 211)
    cells = rng.exponential(1.0, (number, 4, 5)) * (rng.random((number, 4, 5)) < 0.4)
    return {
        "energy": energy,
        "pdg": pdg,
        "phi": phi,
        "response": rng.normal(0.995, 0.008, number),
        "center": 2 * np.cos(phi) + rng.normal(0, 1, number),
        "width": rng.gamma(4, 1 + 0.1 * (pdg == 22), number),
        "depth": depth + rng.standard_t(4, number) * 0.3,
        "cells": cells * energy[:, None, None] ** 0.2,
    }


def results(
    reference: Columns, generated: Columns, metrics: frozenset[str] = WITHOUT_CLASSIFIERS
) -> MetricResults:
    observables = observables_for(SCHEMA)
    filled = histograms.compare(reference, generated, observables)
    first, second = (build_sample(events, observables) for events in (reference, generated))
    context = MetricContext(
        first, second, observables, filled, "generated", 1, quick=True, metrics=metrics,
        conditions=conditions_of(SCHEMA, reference),
    )  # fmt: skip
    return compute.compute_metrics(context)


def judge(generated: Columns, number: int = 5000) -> SampleEvaluation:
    return evaluate_sample(results(showers(number, 1), generated, QUICK), "generated")


PERFECT = showers(5000, 2)
RNG = np.random.default_rng(0)


def permuted(condition: str) -> dict[str, np.ndarray]:
    return {**PERFECT, condition: np.random.default_rng(1).permutation(PERFECT[condition])}


@pytest.fixture(scope="module")
def perfect() -> SampleEvaluation:
    return judge(PERFECT)


def test_a_perfect_sample_is_indistinguishable_and_the_verdict_says_what_would_have_been_seen(
    perfect: SampleEvaluation,
) -> None:
    assert not perfect.distinguishable
    assert (
        "indistinguishable from the reference: no significant difference between"
        in perfect.sentence
    )
    assert "standard deviations of an observable would have been noticed" in perfect.sentence
    assert not any(row.significant for row in perfect.rows)
    assert perfect.findings == ()


@pytest.mark.parametrize("condition", ["energy", "pdg", "phi"])
def test_an_ignored_condition_is_named(condition: str) -> None:
    assert f"the condition {condition} is ignored" in judge(permuted(condition)).sentence


def with_energies(energy: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Showers of other energies whose observables depend on them as those of ``showers``."""
    rng, events = np.random.default_rng(seed), showers(len(energy), seed)
    depth = events["depth"] + 0.4 * (np.log(energy) - np.log(events["energy"]))
    cells = events["cells"] * ((energy / events["energy"]) ** 0.2)[:, None, None]
    order = rng.permutation(len(energy))
    return {name: values[order] for name, values in {**events, "energy": energy, "depth": depth, "cells": cells}.items()}  # fmt: skip


def test_different_distributions_of_a_condition_are_named_and_the_generator_is_not_blamed() -> None:
    energy = np.exp(np.random.default_rng(3).uniform(0, math.log(100), 5000))
    found = results(showers(5000, 1), with_energies(energy, 2), QUICK)
    assert found.different_conditions == ["energy"]
    assert not found.slices
    assert not found.condition_correlations
    assert [each.remark for each in found.condition_responses] == [""] * 3
    sentence = evaluate_sample(found, "generated").sentence
    assert "the samples have different distributions of energy (generate with --conditions-from" in sentence  # fmt: skip
    assert "followed" not in sentence
    (skipped,) = (each for each in found.skipped if "slices" in each.metric)
    assert "energy" in skipped.reason


def test_the_strength_of_a_response_does_not_depend_on_the_spectrum() -> None:
    energy = np.exp(np.random.default_rng(3).uniform(0, math.log(100), 5000))
    found = results(showers(5000, 1), with_energies(energy, 2), QUICK)
    for each in found.condition_responses:
        assert abs(each.value - 1) < 4 * each.error
        assert each.error < 0.15


def test_classes_of_other_fractions_are_compared_class_by_class() -> None:
    rare = showers(8000, 2)
    kept = (rare["pdg"] != 22) | (np.random.default_rng(4).random(8000) < 0.5)
    found = results(showers(5000, 1), {name: values[kept] for name, values in rare.items()}, QUICK)
    assert found.different_conditions == ["pdg"]
    assert {each.slice.label for each in found.slices} == {"pdg = 11", "pdg = 22", "pdg = 211"}
    assert min(each.p_value for each in found.slices) > 1e-4


def test_swapped_classes_are_named() -> None:
    pdg = PERFECT["pdg"]
    swapped = np.where(pdg == 22, 211, np.where(pdg == 211, 22, pdg))
    found = judge({**PERFECT, "pdg": swapped})
    assert "the classes 22, 211 of the condition pdg are swapped" in found.sentence


def test_one_percent_at_one_end_of_the_energies_is_named_with_its_slice() -> None:
    wrong = PERFECT["response"] * np.where(PERFECT["energy"] > 75, 1.01, 1.0)
    found = judge({**PERFECT, "response": wrong})
    assert "response is wrong only for energy = 7" in found.sentence
    assert "mean +1 %" in found.sentence
    assert found.shown_by[0] == "response"


def test_a_dead_cell_is_named() -> None:
    cells = PERFECT["cells"].copy()
    cells[:, 2, 3] = 0
    assert "cells: cell [2, 3] is dead" in judge({**PERFECT, "cells": cells}).sentence


def test_cut_tails_are_named() -> None:
    depth = PERFECT["depth"]
    inside = np.abs(depth - depth.mean()) < 3 * depth.std()
    width = PERFECT["width"]
    inside &= np.abs(width - width.mean()) < 3 * width.std()
    found = judge({name: values[inside] for name, values in PERFECT.items()})
    assert "the tails of width are cut (0." in found.sentence
    assert "the tails of depth are cut (0." in found.sentence


def test_repeated_events_are_named() -> None:
    rows = np.concatenate([np.arange(5000), np.arange(100)])
    found = judge({name: values[rows] for name, values in PERFECT.items()})
    assert "2 % of the events repeat another one (0 % expected)" in found.sentence


def test_copies_of_training_events_are_seen_and_independent_events_are_not() -> None:
    names = ("response", "center", "width", "depth")
    training, reference, independent = (
        {name: showers(3000, seed)[name] for name in names} for seed in (10, 11, 12)
    )
    memorized = {name: np.concatenate([v[:1500], independent[name][:1500]]) for name, v in training.items()}  # fmt: skip
    found = copies.copies(reference, memorized, training, seed=1)
    assert found.value == pytest.approx(0.5, abs=0.05)
    assert found.p_value is not None
    assert found.p_value < 1e-20
    fair = copies.copies(reference, independent, training, seed=1)
    assert fair.p_value is not None
    assert fair.p_value > 1e-3


def test_no_row_is_significant_under_a_green_verdict_and_some_row_is_under_a_red_one() -> None:
    for condition in ("phi", ""):
        found = judge(permuted(condition) if condition else PERFECT)
        assert found.distinguishable == any(row.significant for row in found.rows)
        assert found.p_value == min(row.corrected for row in found.rows)


def test_scores_without_a_p_value_do_not_count(perfect: SampleEvaluation) -> None:
    assert perfect.significant("separation", "depth") is None
    assert perfect.significant("chi_square", "depth") is False
    score = Score("wasserstein", OVERALL, 1.0, 0.1, 0.0, 500, 500)
    assert "was not tested" in evaluate_sample(MetricResults([score], [], {}), "generated").sentence


def test_the_smallest_shift_is_that_which_the_kolmogorov_test_finds_in_nine_of_ten_samples() -> (
    None
):
    rng = np.random.default_rng(3)
    n, p_value = 2000, 1e-4
    shift = verdict.smallest_shift(rng.normal(size=n), (np.ones(n), np.ones(n)), p_value)
    found = [
        statistics.kolmogorov(rng.normal(size=n), rng.normal(shift, 1, n)).p_value
        for _ in range(200)
    ]
    assert np.mean(np.array(found) < p_value) == pytest.approx(verdict.POWER, abs=0.08)


def test_the_null_error_of_an_auc_is_that_of_toys() -> None:
    rng = np.random.default_rng(4)
    aucs = [
        classifier.area_under_curve(rng.normal(size=200), rng.normal(size=150))[0]
        for _ in range(400)
    ]
    assert classifier.null_error(200, 150) == pytest.approx(np.std(aucs), rel=0.1)


def test_events_that_agree_in_their_observables_repeat_only_if_their_cells_agree() -> None:
    rng = np.random.default_rng(11)
    cells = rng.exponential(size=(2, 300, 4, 5))
    energy = [{"energy": rng.integers(1, 20, 300) * 1.0} for _ in cells]  # repeats by nature
    found = copies.duplicates(*energy, tuple({"layer": each} for each in cells), seed=1)
    assert (found.value, found.baseline) == (0, 0)
    cells[1, 200:], energy[1]["energy"][200:] = cells[1, :100], energy[1]["energy"][:100]
    repeated = copies.duplicates(*energy, tuple({"layer": each} for each in cells), seed=1)
    assert (repeated.value, repeated.baseline) == (pytest.approx(1 / 3), 0)
    assert repeated.p_value is not None
    assert repeated.p_value < 1e-6


def test_the_effective_number_of_independent_tests_is_their_number_and_that_of_copies_is_one() -> (
    None
):
    p_values = np.random.default_rng(5).random((4000, 30))
    assert permutations.effective_tests(p_values.min(axis=1)) == pytest.approx(30, rel=0.2)
    assert permutations.effective_tests(p_values[:, 0]) == pytest.approx(1, rel=0.2)


def test_differences_of_permuted_groups_have_unit_variance_with_weights_too() -> None:
    rng = np.random.default_rng(6)
    weights = rng.gamma(3, 1, 3000)
    pooled = permutations.pool(weights[:1000], weights[1000:], seed=1)
    z = permutations.differences(pooled, rng.exponential(1, (3000, 3)))
    assert z[1:].std() == pytest.approx(1.0, abs=0.06)
    assert z[1:].mean() == pytest.approx(0.0, abs=0.06)


def p_values(number: int, toys: int) -> np.ndarray:
    return np.array(
        [
            evaluate_sample(
                results(showers(number, 100 + i), showers(number, 5000 + i)), ""
            ).p_value
            for i in range(toys)
        ]
    )


@pytest.mark.slow
def test_the_p_value_of_the_verdict_is_uniform_for_perfect_samples() -> None:
    found = p_values(1000, 200)
    assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3
    assert np.mean(found < 0.1) == pytest.approx(0.1, abs=0.07)
    assert np.mean(found < verdict.SIGNIFICANCE_LEVEL) < 0.04


@pytest.mark.parametrize("name", ["energy_distance", "sliced_wasserstein", "duplicates", "kpd"])
def test_p_values_of_distances_are_uniform_under_the_null(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliced, "DIRECTIONS", 8)
    rng = np.random.default_rng(7)
    found = []
    for seed in range(60):
        x, y = rng.normal(size=(2, 400, 3))
        if name == "energy_distance":
            estimate = kpd.energy_distance(x, y, seed=seed)
        elif name == "kpd":
            estimate = kpd.kpd(x, y, seed=seed)
        elif name == "sliced_wasserstein":
            estimate = sliced.sliced_wasserstein(x, y, (np.ones(400), np.ones(400)), seed=seed)
        else:
            discrete = np.round(np.concatenate([x[:, :2], y[:, :2]]), 1)
            columns = [{"a": d[:, 0], "b": d[:, 1]} for d in np.split(discrete, 2)]
            estimate = copies.duplicates(*columns, seed=seed)
        found.append(estimate.p_value)
    assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3


def test_the_energy_distance_of_shifted_gaussians_is_the_analytic_one() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(5000, 1)), rng.normal(0.5, 1, (5000, 1))
    found = kpd.energy_distance(x, y, seed=1)
    # E|x − y| for a difference of N(μ, 2): a folded normal distribution
    folded = [scipy.stats.foldnorm.mean(shift / math.sqrt(2), scale=math.sqrt(2)) for shift in (0.0, 0.5)]  # fmt: skip
    assert found.value == pytest.approx(
        2 * (folded[1] - folded[0]) / folded[0], abs=4 * found.error
    )


def shifted_limit(shift: float) -> float:
    """Worth of infinitely many events of a Gaussian shifted by ``shift`` standard deviations: in 20 bins of equal fractions."""
    edges = scipy.stats.norm.ppf(np.linspace(0, 1, worth.BINS + 1))
    p, q = np.diff(scipy.stats.norm.cdf(edges)), np.diff(scipy.stats.norm.cdf(edges - shift))
    return (worth.BINS - 1) / float(np.sum((p - q) ** 2 / ((p + q) / 2)))


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_the_interval_of_the_worth_covers_toys_with_a_known_answer(shift: float) -> None:
    rng = np.random.default_rng(9)
    n, limit = 2000, shifted_limit(shift) if shift else math.inf
    equivalent = 1 / (1 / n + 1 / limit)
    covered, values = [], []
    for _ in range(300):
        found = worth.worth(
            "x",
            rng.normal(size=n),
            rng.normal(shift, 1, n),
            (np.ones(n), np.ones(n)),
            n_training=500,
        )
        assert found is not None
        assert found.amplification is not None
        assert found.amplification.low == pytest.approx(found.limit.low / 500)
        covered.append(found.equivalent.low <= equivalent <= found.equivalent.high)
        values.append(found.equivalent.value)
    # for a perfect sample the interval reaches the number of events unless the lower limit is above zero
    expected = 0.5 * (1 + worth.LEVEL) if shift == 0 else worth.LEVEL
    assert np.mean(covered) == pytest.approx(expected, abs=0.09)
    assert np.median(values) == pytest.approx(equivalent, rel=0.25)


def test_a_reference_subset_is_worth_its_number_of_events() -> None:
    rng = np.random.default_rng(10)
    found = [
        worth.worth(
            "x", rng.normal(size=20_000), rng.normal(size=500), (np.ones(20_000), np.ones(500))
        )
        for _ in range(60)
    ]
    values = [one.equivalent.value for one in found if one is not None]
    assert np.median(values) == pytest.approx(500, rel=0.1)


def test_the_slices_of_a_condition_are_its_classes_quartiles_or_given_edges() -> None:
    reference = showers(500, 1)
    conditions = conditions_of(SCHEMA, reference)
    assert [part.label for part in conditions["pdg"].slices] == ["pdg = 11", "pdg = 22", "pdg = 211"]  # fmt: skip
    assert {name: c.kind for name, c in conditions.items()} == {
        "energy": "number", "pdg": "class", "phi": "angle",
    }  # fmt: skip
    inside = [part.contains(reference["energy"]).mean() for part in conditions["energy"].slices]
    assert inside == pytest.approx([0.25] * 4)
    chosen = conditions_of(SCHEMA, reference, ["energy=1,10,100"])
    assert [part.label for part in chosen["energy"].slices] == ["energy = 1 … 10 GeV", "energy = 10 … 100 GeV"]  # fmt: skip
    assert chosen["pdg"].slices == ()


def test_labels_of_slices_are_plain_numbers_with_units() -> None:
    schema = Schema({"x": Field()}, {"energy": Field((), "MeV"), "pdg": Field()})
    reference = {
        "energy": np.linspace(1000.0, 52_753.0, 400),
        "pdg": np.tile([-11.0, 1_000_020_040.0], 200),
    }
    conditions = conditions_of(schema, reference, ["energy=1000,2638.4,50000", "pdg"])
    assert [part.label for part in conditions["energy"].slices] == [
        "energy = 1,000 … 2,640 MeV", "energy = 2,640 … 50,000 MeV",
    ]  # fmt: skip
    assert [part.label for part in conditions["pdg"].slices] == ["pdg = −11", "pdg = 1000020040"]


def test_two_swapped_classes_are_named_without_slices_of_the_condition() -> None:
    reference, generated = showers(2000, 1), showers(2000, 2)
    for sample in (reference, generated):
        sample["pdg"] = np.where(sample["pdg"] == 211, 22, sample["pdg"])
    generated["pdg"] = 33 - generated["pdg"]
    observables = {name: o for name, o in observables_for(SCHEMA).items() if not o.spectrum}
    filled = histograms.compare(reference, generated, observables)
    samples = [build_sample(events, observables) for events in (reference, generated)]
    context = MetricContext(
        *samples, observables, filled, "generated", 1, quick=True,
        metrics=frozenset({"chi_square", "slice", "condition_correlation"}),
        conditions=conditions_of(SCHEMA, reference, ["energy"]),
    )  # fmt: skip
    sentence = evaluate_sample(compute.compute_metrics(context), "generated").sentence
    assert "the classes 11, 22 of the condition pdg are swapped" in sentence


@pytest.mark.parametrize(
    ("text", "message"),
    [("energy=1,a", "such as energy=1,10,50"), ("energy=5,1", "increasing"), ("energy=5", "at least two edges")],
)  # fmt: skip
def test_wrong_edges_of_slices_are_errors(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_slices(text)


def test_an_unknown_condition_to_slice_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"by = 'enrgy' is not a condition.*energy"):
        conditions_of(SCHEMA, showers(50, 1), ["enrgy"])


def test_correlations_with_conditions_have_their_errors() -> None:
    pulls = []
    observables = {name: o for name, o in observables_for(SCHEMA).items() if not o.spectrum}
    names = [name for name in observables if name not in SCHEMA.conditions]
    for seed in range(60):
        samples = [build_sample(showers(400, seed + 1000 * i), observables) for i in range(2)]
        pooled = permutations.pool(*(sample.weights for sample in samples), seed=seed)
        scores = dependence.scores_of(
            {name: np.concatenate([s.values[name] for s in samples]) for name in names}
        )
        for condition in conditions_of(SCHEMA, samples[0].events).values():
            pairs = columns_of(condition, *(sample.events[condition.name] for sample in samples))
            columns = {column: np.concatenate(pair) for column, pair in pairs.items()}
            smallest = np.ones(len(pooled.labels))
            pulls += [
                each.n_sigma
                for each in dependence.correlations(
                    pooled, names, scores, condition, columns, smallest
                )
            ]
    assert np.std(pulls) == pytest.approx(1.0, abs=0.1)


def test_slices_hold_mean_and_width_of_both_samples() -> None:
    reference = showers(4000, 1)
    found = results(reference, showers(4000, 3), frozenset({"slice"}))
    (one,) = (
        each
        for each in found.slices
        if each.observable == "depth" and each.slice.label == "pdg = 22"
    )
    inside = reference["depth"][reference["pdg"] == 22]
    assert (one.mean_reference, one.width_reference) == pytest.approx(
        (inside.mean(), inside.std(ddof=1))
    )
    assert one.mean_generated == pytest.approx(
        one.mean_reference, abs=5 * math.hypot(one.mean_reference_error, one.mean_generated_error)
    )


def test_boosted_trees_find_the_analytic_auc_and_half_under_the_null() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(11)
    x, y, z = rng.normal(size=(3, 2000, 3)).astype(np.float32)
    y[:, 0] += 1
    found = boosting.boosted_separability(x, y, seed=1)
    assert found.auc == pytest.approx(scipy.stats.norm.cdf(1 / math.sqrt(2)), abs=0.03)
    null = boosting.boosted_separability(x, z, seed=1)
    assert null.p_value > 1e-3


def test_a_convolutional_classifier_finds_a_pattern_wherever_it_is() -> None:
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=(2, 700, 8, 8)).astype(np.float32)
    for image in y:  # a bright pair of neighbors
        row, column = rng.integers(0, 7, 2)
        image[row, column : column + 2] += 3
    images = [classifier.Image(0, (8, 8))]
    flat = [sample.reshape(-1, 64) for sample in (x, y)]
    convolutional = classifier.separability(*flat, seed=1, network="image", images=images)
    dense = classifier.separability(*flat, seed=1)
    assert convolutional.auc > dense.auc + 0.05


def test_the_telling_events_are_those_that_are_wrong() -> None:
    rng = np.random.default_rng(13)
    x, y = rng.normal(size=(2, 4000, 3)).astype(np.float32)
    y[:40, 1] += 6
    found = classifier.separability(x, y, seed=1)
    told = telling.telling_events(found, ["a", "b", "c"], y)
    assert next(iter(told.observables)) == "b"
    assert set(told.events) <= set(range(40))


def test_the_weights_of_a_classifier_are_those_of_all_test_events_and_near_one_for_equal_samples() -> (
    None
):
    rng = np.random.default_rng(14)
    x, y = rng.normal(size=(2, 2000, 3)).astype(np.float32)
    for sample, spread in ((y, 0.0), (y + 3, 1.0)):
        result = classifier.separability(x, sample, seed=1)
        weights = telling.weight_histogram(result, "generated")
        counts = {name: weights[name, :].values(flow=True) for name in ("reference", "generated")}
        assert {name: each.sum() for name, each in counts.items()} == {"reference": 400, "generated": 400}  # fmt: skip
        edges = weights.axes[1].edges
        far = (edges[1:] < 0.2) | (edges[:-1] > 5)
        outside = sum(each[1:-1][far].sum() + each[0] + each[-1] for each in counts.values()) / 800
        assert outside == pytest.approx(spread, abs=0.2)


def test_the_learning_curve_extrapolates_an_auc_that_rises_with_the_number_of_events() -> None:
    def separability(x: np.ndarray, _y: np.ndarray) -> classifier.Separability:
        d = 1.2 - 8 / math.sqrt(len(x))
        auc = float(scipy.stats.norm.cdf(d / math.sqrt(2)))
        return classifier.Separability(auc, 0.01, 0.5, 0.1, np.zeros((2, 2)))

    x = np.zeros((8000, 1), dtype=np.float32)
    curve = learning_curve.learning_curve(x, x, separability(x, x), separability)
    assert curve is not None
    assert curve.numbers == (1000, 2000, 4000, 8000)
    limit = float(scipy.stats.norm.cdf(1.2 / math.sqrt(2)))
    assert curve.limit.value == pytest.approx(limit)
    assert 0.5 < curve.limit.low < limit < curve.limit.high < 1


def test_the_extrapolated_auc_and_its_interval_stay_below_one() -> None:
    numbers = np.array([1000.0, 2000.0, 4000.0, 8000.0])
    rising, errors = np.array([0.93, 0.96, 0.98, 0.995]), np.array([0.02, 0.01, 0.004, 0.002])
    limit = learning_curve.extrapolate(numbers, rising, errors)
    assert 0.995 < limit.value < 1
    assert limit.low < limit.value < limit.high <= 1
    perfect = learning_curve.extrapolate(numbers, np.ones(4), np.zeros(4))
    assert 0.99 < perfect.low < perfect.value <= perfect.high <= 1


def test_a_condition_without_variation_has_no_slices() -> None:
    constant = {**showers(100, 1), "energy": np.full(100, 50.0)}
    conditions: Mapping[str, Condition] = conditions_of(SCHEMA, constant)
    assert conditions["energy"].slices == ()


def test_a_sensitivity_that_no_metric_defines_is_not_stated() -> None:
    assert (
        _seen(Sensitivity(0.55, math.inf, {}))
        == "with this number only an AUC above 0.55 would have been noticed"
    )
    assert "inf" not in _seen(Sensitivity(None, math.inf, {}))

"""Profiles, responses and correlations against known answers."""

import itertools

import numpy as np
import pytest

from hepgan.data.schema import Field, Schema
from hepgan.evaluation import profiles
from hepgan.evaluation.histograms import compare
from hepgan.evaluation.metrics import per_observable
from hepgan.evaluation.metrics.ensembles import ensemble_bands
from hepgan.evaluation.observables.geometry import LayerGeometry, shower_layers
from hepgan.evaluation.observables.shower_profile import (
    containment_radius,
    evaluated_observables,
    profile_observables,
)
from hepgan.evaluation.observables.standard import layers_for
from hepgan.evaluation.plots import curves, images
from hepgan.evaluation.sample import Sample, build_sample

GRID = Schema({f"layer_{i}": Field((20, 20), "MeV") for i in range(3)})
PITCH = {name: LayerGeometry(cell=(5.0, 5.0)) for name in GRID.fields}


def gaussian_showers(seed: int, width: float = 12.0, events: int = 40) -> dict[str, np.ndarray]:
    """Events with Gaussian profiles of ``width`` mm around x = 7, y = −4, and energies 1, 3, 2 in the layers."""
    rng = np.random.default_rng(seed)
    at = (np.arange(20) - 9.5) * 5.0
    cells = np.exp(-((at[:, None] - 7) ** 2 + (at[None] + 4) ** 2) / (2 * width**2))
    scale = rng.normal(1, 0.05, (events, 1, 1))
    return {f"layer_{i}": e * scale * cells / cells.sum() for i, e in enumerate((1.0, 3.0, 2.0))}


def sample(events: dict[str, np.ndarray]) -> Sample:
    return build_sample(events, {})


def test_the_containment_radius_of_a_gaussian_shower_is_that_of_rayleighs_distribution() -> None:
    layers = shower_layers(dict.fromkeys(GRID.fields, (20, 20)), PITCH)
    found = containment_radius(gaussian_showers(1), layers)
    assert found == pytest.approx(12.0 * np.sqrt(2 * np.log(10)), rel=0.02)


def test_the_containment_radius_of_rings_interpolates_between_their_centers() -> None:
    layers = shower_layers({"layer": (1, 4)}, {"layer": LayerGeometry(r_edges=(0, 2, 4, 6, 8))})
    events = {"layer": np.array([[[80.0, 20, 0, 0]], [[0, 0, 0, 5.0]], [[0.0, 0, 0, 0]]])}
    found = containment_radius(events, layers)
    np.testing.assert_allclose(
        found[:2], [2.0, 6.8]
    )  # 80 % at 1 mm and 100 % at 3 mm: 90 % at 2 mm
    assert np.isnan(found[2])


def test_the_shower_maximum_is_the_layer_with_the_most_energy() -> None:
    observable = profile_observables(GRID, PITCH)["shower_max"]
    events = gaussian_showers(2, events=2)
    events["layer_2"][1] *= 10
    np.testing.assert_array_equal(observable.function(events), [1, 2])


def test_profile_observables_need_layers_and_positions() -> None:
    assert set(profile_observables(GRID, PITCH)) == {"shower_max", "radius_90"}
    assert set(profile_observables(GRID)) == {"shower_max"}  # lengths are in cells
    assert not profile_observables(Schema({"x": Field()}))
    assert {"E_tot", "shower_max"} <= set(evaluated_observables(GRID, PITCH))


def test_the_longitudinal_profile_has_the_mean_energies_of_the_layers_and_uniform_p_values() -> (
    None
):
    samples = {"reference": sample(gaussian_showers(3)), "gan": sample(gaussian_showers(4))}
    found = profiles.longitudinal(samples, layers_for(GRID, PITCH), unit="MeV")
    np.testing.assert_allclose(found.histogram.values()[0], [1, 3, 2], rtol=0.03)
    assert list(found.histogram.axes[1]) == ["0", "1", "2"]
    # one fluctuating number: a single degree of freedom
    assert found.tests["gan"].ndf == 1
    assert found.tests["gan"].p_value > 1e-3


def test_the_radial_profile_holds_all_energy_and_falls_as_that_of_the_shower() -> None:
    events = gaussian_showers(5)
    events = {name: np.roll(cells, (-1, 1), axis=(1, 2)) for name, cells in events.items()}
    samples = {"reference": sample(events), "gan": sample(events)}
    found = profiles.radial(samples, layers_for(GRID, PITCH), unit="MeV")
    assert found is not None
    axis = found.histogram.axes[1]
    total = found.histogram.values() @ axis.widths
    np.testing.assert_allclose(
        total, sum(cells.sum(axis=(1, 2)).mean() for cells in events.values())
    )
    density = found.histogram.values()[0] / axis.centers
    assert np.all(np.diff(density[2:10]) < 0)
    assert found.histogram.label == "mean dE/dr [MeV/mm]"


def test_layers_without_two_axes_have_no_radial_profile() -> None:
    schema = Schema({"strip": Field((1, 9), "MeV")})
    samples = {"reference": sample({"strip": np.ones((9, 1, 9))})}
    assert profiles.radial(samples, layers_for(schema, {}), unit="MeV") is None


def test_the_core_of_a_gaussian_with_tails_has_its_width() -> None:
    rng = np.random.default_rng(6)
    values = np.concatenate([rng.normal(0.9, 0.02, 20_000), rng.uniform(0, 2, 600)])
    mean, width = profiles.gaussian_core(values, np.ones(len(values)))
    assert mean == pytest.approx(0.9, abs=5e-4)
    assert width == pytest.approx(0.02, rel=0.04)
    assert values.std() > 0.08


def test_the_fit_returns_the_terms_of_the_resolution_within_their_errors() -> None:
    rng = np.random.default_rng(7)
    energy = rng.choice([1.0, 2, 5, 10, 20, 50, 100], 40_000)
    sigma = np.sqrt(0.1**2 / energy + 0.01**2)
    values = rng.normal(0.95, 0.95 * sigma)
    edges = profiles.energy_edges(energy)
    assert len(edges) == 8  # a bin for each energy
    found = profiles.response(energy, values, np.ones(len(energy)), edges, seed=1)
    np.testing.assert_allclose(found.energy, [1, 2, 5, 10, 20, 50, 100])
    assert np.all(np.abs(found.mean - 0.95) < 4 * found.mean_error)
    fit = profiles.fit_resolution(found)
    assert fit is not None
    for (value, error), true in ((fit.stochastic, 0.1), (fit.constant, 0.01)):
        assert abs(value - true) < 4 * error
        assert error < 0.1 * true


def test_the_bootstrap_errors_of_a_response_cover() -> None:
    rng = np.random.default_rng(8)
    edges, pulls = np.array([0.5, 1.5]), []
    for seed in range(60):
        values = rng.normal(1, 0.1, 400)
        found = profiles.response(np.ones(400), values, np.ones(400), edges, seed=seed)
        pulls.append(
            ((found.mean - 1) / found.mean_error, (found.resolution - 0.1) / found.resolution_error)
        )
    assert np.std(np.array(pulls)[:, :, 0], axis=0) == pytest.approx(1.0, abs=0.3)


def test_continuous_energies_get_logarithmic_bins_with_enough_events() -> None:
    edges = profiles.energy_edges(np.geomspace(1, 100, 600))
    assert len(edges) - 1 == 4
    np.testing.assert_allclose(np.diff(np.log(edges)), np.log(100) / 4)


def test_correlations_that_differ_come_first_with_their_significance() -> None:
    rng = np.random.default_rng(9)

    def draw(correlation: float) -> Sample:
        x, y, z = rng.normal(size=(3, 4000))
        y = correlation * x + np.sqrt(1 - correlation**2) * y
        return Sample({}, np.ones(4000), {"x": x, "y": y, "z": z, "c": np.ones(4000)})

    found = profiles.correlations({"reference": draw(0.6), "gan": draw(0.5)}, ["x", "y", "z", "c"])
    assert found is not None
    assert found.names == ["x", "y", "z"]  # a constant has no correlation
    first = found.differences[0]
    assert (first.first, first.second, first.source) == ("x", "y", "gan")
    expected = (np.arctanh(0.5) - np.arctanh(0.6)) / np.sqrt(2 / 3997)
    assert first.n_sigma == pytest.approx(expected, abs=4)
    assert all(abs(each.n_sigma) < 4.5 for each in found.differences[1:])


def heavy_tailed(rng: np.random.Generator, kind: str, events: int) -> np.ndarray:
    """Two columns of correlated events whose fourth moments, or variances, do not exist or are dominated by few events."""
    x, y = rng.normal(size=(2, events))
    y = 0.5 * x + np.sqrt(0.75) * y
    if kind == "Student":
        return np.stack([x, y], axis=1) * np.sqrt(2 / rng.chisquare(2, (events, 1)))
    if kind == "log-normal":
        return np.exp(1.5 * np.stack([x, y], axis=1))
    outlier = rng.random((events, 1)) < 3 / events
    return np.where(
        outlier, 20 * (1 + 0.2 * rng.normal(size=(events, 2))), np.stack([x, y], axis=1)
    )


@pytest.mark.parametrize("kind", ["Student", "log-normal", "outliers"])
@pytest.mark.parametrize("weighted", [False, True])
def test_pulls_of_correlations_of_heavy_tailed_halves_are_standard_normal(
    kind: str, weighted: bool
) -> None:
    rng = np.random.default_rng(21)
    pulls = []
    for _ in range(200):
        halves = [heavy_tailed(rng, kind, 400) for _ in range(2)]
        weights = [
            np.where(rng.random(400) < 0.1, -1, 1) * rng.exponential(size=400)
            if weighted
            else np.ones(400)
            for _ in range(2)
        ]
        pulls.append(per_observable.correlation_pulls(*halves, tuple(weights))[0, 1])
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.02, abs=0.18)
    assert np.mean(np.abs(pulls) > 3) < 0.02
    assert np.max(np.abs(pulls)) < 4


def test_pulls_of_correlations_do_not_count_a_difference_in_widths_or_means() -> None:
    rng = np.random.default_rng(22)
    pulls = []
    for _ in range(50):
        x, y = heavy_tailed(rng, "log-normal", 800) ** 0.1, heavy_tailed(rng, "log-normal", 3000) ** 0.1  # fmt: skip
        weights = np.ones(len(x)), np.ones(len(y))
        pulls.append(per_observable.correlation_pulls(x, y * [1, 1.5] + [1, -1], weights)[0, 1])
    assert np.sqrt(np.mean(np.square(pulls))) < 1.2


def test_ratio_panels_scale_with_the_ratios_and_mark_those_off_scale() -> None:
    rng = np.random.default_rng(10)
    schema = Schema({"x": Field()})
    observables = evaluated_observables(schema)
    reference = rng.normal(size=50_000)
    near = np.where(rng.random(50_000) < 0.002, 3.0, rng.normal(size=50_000))
    for generated, limits, markers in (
        (near, (0.9, 1.1), True),
        (reference, (0.9, 1.1), False),
        (reference + 1, (0.0, 2.0), True),
    ):
        histogram = compare({"x": reference}, {"x": generated}, observables)["x"]
        axes = curves.observable(histogram).axes[1]
        np.testing.assert_allclose(axes.get_ylim(), limits)
        marked = [line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata())]
        assert bool(marked) == markers
        if markers:
            assert any(abs(x - 3) < 0.3 for x in marked[0].get_xdata())


def test_a_figure_names_n_and_chi_square() -> None:
    rng = np.random.default_rng(11)
    observables = evaluated_observables(Schema({"x": Field((), "mm")}))
    events = [{"x": rng.normal(size=2000)} for _ in range(2)]
    figure = curves.observable(compare(*events, observables)["x"])
    texts = [text.get_text() for text in figure.texts]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts[0].startswith("χ²/ndf = ")
    assert "p = " in texts[0]
    assert legend == ["reference (N = 2,000)", "generated (N = 2,000)"]
    assert figure.axes[1].get_xlabel() == "x [mm]"


def test_figures_of_an_empty_layer_are_drawn() -> None:
    schema = Schema({"a": Field((2, 2), "MeV")})
    observables = evaluated_observables(schema)
    events = {"a": np.zeros((50, 2, 2))}
    for name, histogram in compare(events, events, observables).items():
        figure = curves.observable(histogram, per_event=observables[name].spectrum)
        assert len(figure.axes) == 2


def test_names_of_the_axes_of_a_field_with_depth_are_those_of_its_last_axes() -> None:
    geometry = {"s": LayerGeometry(cell=(1.0, 2.0, 3.0), axes=("z", "y", "x"))}
    (layer, *_) = shower_layers({"s": (2, 3, 5)}, geometry)
    assert layer.positions["y"][:6] == (-2, -2, -2, -2, -2, 0)
    assert layer.positions["x"][:5] == (-6, -3, 0, 3, 6)


def test_the_band_of_an_ensemble_is_drawn_with_the_coverage_of_the_reference() -> None:
    rng = np.random.default_rng(12)
    observables = evaluated_observables(Schema({"x": Field()}))
    reference, *others = ({"x": rng.normal(size=3000)} for _ in range(5))
    histogram = compare(reference, dict(zip("abcd", others, strict=True)), observables)["x"]
    band = ensemble_bands({"x": histogram})["x"]
    figure = curves.observable(histogram, band=band)
    assert f"{100 * band.coverage:.0f} ±" in figure.texts[-1].get_text()
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "68 % band of the ensemble" in legend


def test_energies_over_one_decade_have_plain_labels_that_do_not_overlap() -> None:
    rng = np.random.default_rng(12)
    observables = evaluated_observables(Schema({"x": Field((), "GeV")}))
    events = [{"x": np.exp(rng.uniform(0, np.log(50), 2000))} for _ in range(2)]
    figure = curves.observable(compare(*events, observables)["x"])
    figure.canvas.draw()
    axis = figure.axes[1].xaxis
    boxes = [text.get_window_extent() for text in axis.get_ticklabels(which="both") if text.get_text()]  # fmt: skip
    labels = [text.get_text() for text in axis.get_ticklabels(which="both") if text.get_text()]
    assert {"2", "5", "10", "20"} <= set(labels)
    boxes.sort(key=lambda box: box.x0)
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_points_of_several_samples_lie_beside_each_other_within_their_bin() -> None:
    rng = np.random.default_rng(13)
    observables = evaluated_observables(Schema({"x": Field()}))
    x, y = ({"x": rng.normal(size=5000)} for _ in range(2))
    histogram = compare(x, {"a": y, "b": y}, observables)["x"]
    lower = curves.observable(histogram).axes[1]
    first, second = (container.lines[0].get_xdata() for container in lower.containers)
    width = histogram.axes[1].widths[0]
    np.testing.assert_allclose(second - first, width / 3)


def test_the_legend_of_roc_curves_is_inside_the_figure_with_distinct_lines() -> None:
    x = np.linspace(0, 1, 101)
    figure = curves.roc({f"sample: classifier {i}: 0.5 ± 0.1": np.stack([x, x]) for i in range(12)})
    figure.canvas.draw()
    legend = figure.axes[0].get_legend().get_window_extent()
    assert legend.y0 >= 0
    lines = figure.axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines)


def test_events_of_flat_layers_fit_on_a_page_whatever_their_number_of_strips() -> None:
    for strips in (12, 96):
        figure = images.sample_grid(np.ones((5, 3, strips)), columns=1, log=True, unit="MeV")
        assert figure.get_figheight() < 6

"""Histograms of two samples: flow bins, clusters, addition and automatic axes."""

import subprocess
import sys
from pathlib import Path

import hist
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.data.schema import Field, Schema
from hepgan.evaluation.histograms import (
    axes_for,
    axis_for,
    bin_occupancies,
    compare,
    fill,
    load_histograms,
    save_histograms,
)
from hepgan.evaluation.observables.standard import Observable, observables_for

X = Observable("x", lambda e: e["x"], "x", "mm")
CELLS = Observable("cells", lambda e: e["cells"], "cells", "MeV", spectrum=True)


def test_every_event_is_counted_once_including_overflow() -> None:
    rng = np.random.default_rng(0)
    reference = {"x": rng.normal(size=1000)}
    generated = {"x": np.concatenate([rng.normal(size=900), [1e9, -1e9, np.nan], np.zeros(97)])}
    found = compare(reference, generated, {"x": X})["x"]
    counts = found.view(flow=True)["value"]
    assert list(found.axes["source"]) == ["reference", "generated"]
    assert counts[0].sum() == counts[1].sum() == 1000
    assert counts[1][0] >= 1
    assert counts[1][-1] >= 2  # what is missing goes where it is seen


def test_axes_depend_only_on_the_reference() -> None:
    rng = np.random.default_rng(1)
    reference = {"x": rng.normal(size=1000)}
    axes = [
        compare(reference, {"x": rng.normal(shift, 1, 100)}, {"x": X})["x"].axes["x"]
        for shift in (0, 50)
    ]
    assert axes[0] == axes[1]


def test_a_spectrum_is_filled_once_per_event_and_bin() -> None:
    cells = np.array([[1.0, 1.2, 5.0], [1.1, 9.0, 9.5]])
    axis = hist.axis.Regular(2, 0, 6, name="value")
    found = fill({"cells": cells}, {"cells": CELLS}, {"cells": axis}, source="reference")["cells"]
    first = found.view(flow=True)[0]
    np.testing.assert_array_equal(first["value"], [0, 3, 1, 2])
    np.testing.assert_array_equal(first["variance"], [0, 2**2 + 1, 1, 2**2])
    np.testing.assert_array_equal(bin_occupancies(cells, axis), [[0, 2, 1, 0], [0, 1, 0, 2]])


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(1, 99))
def test_histograms_of_chunks_add_up_to_the_histogram_of_all(cut: int) -> None:
    rng = np.random.default_rng(2)
    events = {"x": rng.normal(size=100), "cells": rng.exponential(size=(100, 5))}
    observables = {"x": X, "cells": CELLS}
    axes = axes_for(events, observables)
    whole = fill(events, observables, axes, source="generated")
    parts = [
        fill({k: v[part] for k, v in events.items()}, observables, axes, source="generated")
        for part in (slice(None, cut), slice(cut, None))
    ]
    for name in observables:
        assert parts[0][name] + parts[1][name] == whole[name]


def test_several_generated_samples_share_one_histogram() -> None:
    samples = {name: {"x": np.full(n, 0.5)} for name, n in (("gan", 10), ("flow", 20))}
    found = compare({"x": np.linspace(0, 1, 30)}, samples, {"x": X})["x"]
    assert [found[{"source": s}].sum(flow=True).value for s in ("reference", "gan", "flow")] == [
        30,
        10,
        20,
    ]


def test_discrete_values_get_one_bin_each() -> None:
    rng = np.random.default_rng(3)
    lit = Observable("lit", lambda e: e["lit"], "lit", step=1 / 288)
    axis = axis_for(rng.binomial(288, 0.4, 5000) / 288, lit)
    steps = np.diff(axis.edges) * 288
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    np.testing.assert_allclose(axis.edges[0] * 288 % 1, 0.5, atol=1e-6)


def test_an_axis_over_decades_is_logarithmic_and_outliers_do_not_stretch_it() -> None:
    rng = np.random.default_rng(4)
    wide = axis_for(np.exp(rng.normal(0, 3, 5000)), X)
    ratios = wide.edges[1:] / wide.edges[:-1]
    np.testing.assert_allclose(ratios, ratios[0])
    narrow = axis_for(np.concatenate([rng.normal(size=5000), [1e6]]), X)
    assert narrow.edges[-1] < 10


def test_the_axis_of_a_nonnegative_observable_starts_at_zero() -> None:
    axis = axis_for(np.random.default_rng(7).uniform(0, 10, 1000), X)
    assert axis.edges[0] == pytest.approx(0, abs=0.05)
    assert axis.edges[0] >= 0


def test_constant_and_empty_observables_have_an_axis() -> None:
    assert axis_for(np.full(10, 3.0), X).index(3.0) == 1
    assert axis_for(np.array([]), X).size > 0


def test_saved_histograms_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    schema = Schema({"layer": Field((4, 4), "MeV")})
    events = {"layer": rng.exponential(size=(100, 4, 4))}
    found = compare(events, events, observables_for(schema))
    save_histograms(tmp_path / "h.json", found)
    assert load_histograms(tmp_path / "h.json") == found


def test_given_axes_are_used() -> None:
    axis = hist.axis.Regular(7, -1, 1, name="x")
    found = compare({"x": np.zeros(3)}, {"x": np.zeros(3)}, {"x": X}, axes={"x": axis})
    assert found["x"].axes["x"].size == 7


def test_the_public_compare_is_the_function_whatever_was_imported_before() -> None:
    code = "import hepgan; hepgan.evaluate; assert callable(hepgan.compare); assert callable(hepgan.score)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("column", [0, 1])
def test_reference_and_generated_are_filled_the_same_way(column: int) -> None:
    values = np.random.default_rng(6).normal(size=(500, 2))
    found = compare({"x": values[:, column]}, {"x": values[:, column]}, {"x": X})["x"]
    counts = found.view(flow=True)["value"]
    np.testing.assert_array_equal(counts[0], counts[1])


@pytest.mark.parametrize(
    ("name", "logarithmic"),
    [("log-uniform", True), ("with zeros", True), ("uniform", False), ("normal", False)],
)
def test_axes_are_logarithmic_where_values_span_decades_also_beside_zeros(
    name: str, logarithmic: bool
) -> None:
    rng = np.random.default_rng(5)
    values = {
        "log-uniform": np.geomspace(1, 50, 1000),
        "with zeros": np.where(rng.random(1000) < 0.3, 0.0, np.geomspace(1, 500, 1000)),
        "uniform": rng.uniform(0, 100, 1000),
        "normal": rng.normal(10, 3, 1000).clip(0),
    }[name]
    steps = np.diff(axis_for(values, X).edges)
    assert (steps[-1] > 2 * steps[0]) == logarithmic

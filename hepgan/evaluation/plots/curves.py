"""Distributions, training curves, ROC curves, class fractions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mplhep
import numpy as np
from hist import Hist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics import histogram_tests
from hepgan.evaluation.metrics.ensembles import EnsembleBand
from hepgan.evaluation.metrics.histogram_tests import HistogramTest
from hepgan.evaluation.metrics.scores import LearningCurve
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.plots import style


def observable(
    histogram: "Hist[Any]",
    *,
    events: Mapping[str, float] | None = None,
    per_event: bool = False,
    tests: Mapping[str, HistogramTest] | None = None,
    band: EnsembleBand | None = None,
) -> Figure:
    """Draws the distributions of one observable (top) and their ratios to the reference (bottom), with statistical errors.

    Above the panels stand χ²/ndf with its p-value, and the fractions outside the axis; triangles mark ratios that are off scale.

    Args:
        histogram: ``Hist(source, observable)``.
        events: Sums of the event weights by source, for the legend; by default the entries.
        per_event: Whether to draw entries per event, for spectra; others are drawn as fractions of all entries.
        tests: χ² tests by generated source; by default those of the histograms, or none for spectra, whose entries are correlated.
        band: Band of the generated samples as an ensemble.
    """
    shapes = by_source(histogram)
    entries = {name: _sum(one, flow=True) for name, one in shapes.items()}
    numbers = events or entries
    whole = numbers if per_event else entries
    scaled = {n: one * (1 / whole[n] if whole[n] else 1.0) for n, one in shapes.items()}
    reference = scaled.pop(REFERENCE)
    if tests is None and not per_event:
        tests = {
            name: histogram_tests.chi_square_test(shapes[REFERENCE], shapes[name])
            for name in scaled
            if entries[name] > 0 < entries[REFERENCE]
        }
    tests = tests or {}
    colors = dict(zip(scaled, style.colors(len(scaled)), strict=True))
    notes = [
        (style.chi_square_note(name, tests[name], len(scaled)), colors[name])
        for name in scaled
        if name in tests
    ]
    if outside := _outside(
        shapes, entries, "empty or off axis" if per_event else "missing or off axis"
    ):
        notes.append((outside, style.INK))
    if band:
        text = f"reference in the band: {100 * band.coverage:.0f} ± {100 * band.coverage_error:.0f} % of bins"
        notes.append((text, style.INK))
    figure, top, bottom = style.ratio_figure(notes)
    label = f"{REFERENCE} (N = {numbers[REFERENCE]:,.0f})"
    options: dict[str, Any] = {"ax": top, "flow": "none"}
    mplhep.histplot(reference, histtype="fill", color=style.GREY, alpha=0.3, yerr=False, label=label, **options)  # fmt: skip
    mplhep.histplot(reference, histtype="step", color=style.GREY, lw=1.0, yerr=True, **options)
    for name, shape in scaled.items():
        label = f"{style.name(name)} (N = {numbers[name]:,.0f})"
        mplhep.histplot(shape, histtype="step", color=colors[name], lw=1.2, yerr=True, label=label, **options)  # fmt: skip
    axis = histogram.axes[1]
    if _is_log(axis.edges):
        top.set_xscale("log")
        style.log_ticks(top.xaxis, axis.edges[0], axis.edges[-1])
    else:
        top.xaxis.set_major_locator(MaxNLocator(6))
    contents = np.concatenate([reference.values(), *(shape.values() for shape in scaled.values())])
    if logarithmic := _spans_decades(np.asarray(reference.values(), float)):
        top.set_yscale("log")
    legend = 1 + len(scaled) + (band is not None)
    headroom(top, contents, logarithmic=logarithmic, entries=legend)
    top.set_xlim(axis.edges[0], axis.edges[-1])
    if axis.size <= 8 and np.allclose(axis.centers, np.round(axis.centers)):
        bottom.set_xticks(axis.centers)
        bottom.minorticks_off()
    top.set_ylabel("entries per event" if per_event else "fraction of events")
    top.set_xlabel("")
    draw_ratios(bottom, reference, scaled, colors, edges=axis.edges)
    if band:
        _draw_band(top, bottom, band, axis.edges, entries[REFERENCE] / whole[REFERENCE])
    bottom.set_xlabel(style.name(axis.label))
    style.legend(top, loc="best")
    return style.styled(figure)


def by_source(histogram: "Hist[Any]") -> "dict[str, Hist[Any]]":
    """Returns the histogram of each source."""
    slices: Any = histogram
    return {name: slices[{"source": name}] for name in histogram.axes["source"]}


def _draw_band(top: Axes, bottom: Axes, band: EnsembleBand, edges: Floats, scale: float) -> None:
    """Draws the band of an ensemble in both panels; ``scale`` converts fractions of entries to the unit of the upper one."""
    low, high, reference = (values[1:-1] for values in (band.low, band.high, band.reference))
    options: dict[str, Any] = {"fill": True, "color": style.COLORS[0], "alpha": 0.3, "lw": 0}
    floor = top.get_ylim()[0]
    top.stairs(
        np.maximum(high * scale, floor), edges, baseline=np.maximum(low * scale, floor), label="68 % band of the ensemble", **options,
    )  # fmt: skip
    there = np.where(reference > 0, reference, np.nan)
    bottom.stairs(high / there, edges, baseline=low / there, **options)


def _sum(histogram: "Hist[Any]", *, flow: bool) -> float:
    return float(np.sum(histogram.values(flow=flow)))


def _outside(shapes: Mapping[str, "Hist[Any]"], entries: Mapping[str, float], what: str) -> str:
    """Returns the fractions of entries in the flow bins; nothing if all are below 0.5 %."""
    fractions = {
        name: 1 - _sum(one, flow=False) / entries[name] if entries[name] else 0.0
        for name, one in shapes.items()
    }
    if max(map(abs, fractions.values())) < 5e-3:
        return ""
    percent = [f"{100 * fractions.pop(REFERENCE):.2g} % ({REFERENCE})"]
    return f"{what}: {', '.join([*percent, *(f'{100 * f:.2g} %' for f in fractions.values())])}"


def headroom(axes: Axes, contents: Floats, *, logarithmic: bool, entries: int) -> None:
    """Leaves room above the histograms for a legend of so many ``entries``."""
    positive = contents[contents > 0]
    if len(positive) == 0:
        return
    low, high = float(positive.min()), float(positive.max())
    if logarithmic:
        axes.set_ylim(0.6 * low, high * (high / low) ** (0.16 + 0.12 * entries))
    else:
        axes.set_ylim(0, (1.0 + 0.22 * entries) * high)


def draw_ratios(
    axes: Axes,
    reference: "Hist[Any]",
    shapes: Mapping[str, "Hist[Any]"],
    colors: Mapping[str, str],
    *,
    edges: Floats,
) -> None:
    """Draws the ratios with errors and the reference's error band; triangles at the edge mark ratios that are off scale."""
    below, centers = np.asarray(reference.values(), float), (edges[1:] + edges[:-1]) / 2
    if _is_log(edges):
        centers = np.sqrt(edges[1:] * edges[:-1])
    there = below > 0
    safe = np.where(there, below, 1.0)
    band = np.where(there, np.sqrt(np.asarray(reference.variances(), float)) / safe, 0.0)
    axes.stairs(1 + band, edges, baseline=1 - band, fill=True, color=style.GREY, alpha=0.3)
    axes.axhline(1, color=style.GREY, lw=0.8)
    ratios = {n: np.asarray(one.values(), float)[there] / below[there] for n, one in shapes.items()}
    errors = {
        n: np.sqrt(np.asarray(one.variances(), float))[there] / below[there]
        for n, one in shapes.items()
    }
    half = _ratio_range(
        np.concatenate([*ratios.values()]),
        np.concatenate([np.hypot(e, band[there]) for e in errors.values()]),
    )
    low, high = 1 - half, 1 + half
    for i, (name, ratio) in enumerate(ratios.items()):
        shown = (ratio >= low) & (ratio <= high) & (ratio > 0)
        points = _beside(edges, (i + 1) / (len(ratios) + 1)) if len(ratios) > 1 else centers
        axes.errorbar(
            points[there][shown], ratio[shown], errors[name][shown], fmt=".", ms=3, lw=0.8, color=colors[name]
        )  # fmt: skip
        only_generated = centers[~there & (np.asarray(shapes[name].values(), float) > 0)]
        above = np.concatenate([centers[there][ratio > high], only_generated])
        under = centers[there][(ratio < low) | (ratio <= 0)]
        for x, y, marker in ((above, high, "^"), (under, low, "v")):
            axes.plot(x, np.full(len(x), y), marker, ms=3.5, color=colors[name], clip_on=False, zorder=5)  # fmt: skip
    axes.set_ylim(low, high)
    axes.set_ylabel("ratio")
    axes.yaxis.set_major_locator(MaxNLocator(4, prune="both"))


def _beside(edges: Floats, fraction: float) -> Floats:
    """Returns the points at a fraction of the width of each bin, so that those of several samples do not cover each other."""
    low, high = edges[:-1], edges[1:]
    if _is_log(edges):
        return np.asarray(low * (high / low) ** fraction)
    return np.asarray(low + (high - low) * fraction)


def _ratio_range(ratios: Floats, errors: Floats) -> float:
    """Returns the smallest half range around 1 that shows 90 % of the ratios known to better than half of it."""
    for half in (0.05, 0.1, 0.2, 0.5):
        known = errors < half / 2
        if known.sum() > 0.3 * len(known) and np.mean(np.abs(ratios[known] - 1) < half) >= 0.9:
            return half
    return 1.0


def losses(rows: Sequence[Mapping[str, Any]], *, kept: int | None = None) -> Figure:
    """Draws training curves from rows of a history: losses (top) and the other numbers (bottom); a line marks the ``kept`` step."""
    numbers = sorted(
        {
            k
            for row in rows
            for k, v in row.items()
            if isinstance(v, (int, float)) and not isinstance(v, bool)
        }
    )
    drawn = [k for k in numbers if k not in {"step", "epoch", "phase", "seconds", "time"}]
    first = [k for k in drawn if "loss" in k]
    panels = [panel for panel in (first, [k for k in drawn if k not in first]) if panel]
    figure = style.figure(style.PAGE, 1.9 * max(len(panels), 1) + 0.3)
    grid = np.atleast_1d(figure.subplots(max(len(panels), 1), 1, sharex=True))
    for axes, panel in zip(grid, panels, strict=False):
        for color, key in zip(style.colors(len(panel)), panel, strict=True):
            points = [
                (row.get("step", i), row[key])
                for i, row in enumerate(rows)
                if row.get(key) is not None
            ]
            axes.plot(
                *zip(*points, strict=True),
                color=color,
                lw=1.0,
                label=style.name(key.replace("_", " ")),
                marker="." if len(points) < 30 else "",
            )
        if kept is not None:
            axes.axvline(kept, color=style.GREY, lw=1.0, ls="--", label=f"kept: step {kept:,}")
        axes.set_ylabel("loss" if panel is first else "score")
        style.legend(axes, loc="upper right")
    grid[-1].set_xlabel("generator step")
    return style.styled(figure)


def roc(curves: Mapping[str, Floats]) -> Figure:
    """Draws ROC curves ``[2, points]`` by label."""
    figure = style.figure(style.COLUMN, style.COLUMN + 1.15 * style.LINE * (len(curves) + 2))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=style.GREY, lw=1, ls="--", label="indistinguishable: 0.5")
    for i, (name, curve) in enumerate(curves.items()):
        color, line = style.COLORS[i % len(style.COLORS)], ("-", "--", ":")[i // len(style.COLORS) % 3]  # fmt: skip
        axes.plot(*curve, line, color=color, lw=1.2, label=style.name(name))
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="false positive rate (reference)",
        ylabel="true positive rate (generated)",
        aspect="equal",
        anchor="N",
    )
    style.legend(axes, loc="upper left", bbox_to_anchor=(-0.05, -0.16), borderaxespad=0.0)
    return style.styled(figure)


def learning_curve(curve: LearningCurve) -> Figure:
    """Draws the AUC of a classifier against the number of events of each sample, and its extrapolation to infinitely many."""
    figure = style.figure(style.COLUMN, 2.4)
    axes = figure.subplots()
    axes.errorbar(curve.numbers, curve.aucs, curve.errors, fmt="o-", ms=3, lw=1, color=style.COLORS[0], label="AUC")  # fmt: skip
    limit = curve.limit
    label = f"N → ∞: {limit.value:.3f} [{limit.low:.3f}, {limit.high:.3f}]"
    axes.axhline(limit.value, color=style.COLORS[1], lw=1, label=label)
    axes.axhspan(limit.low, limit.high, color=style.COLORS[1], alpha=0.2, lw=0)
    axes.axhline(0.5, color=style.GREY, lw=0.8, ls="--")
    axes.set(xscale="log", xlabel="events of each sample", ylabel="AUC")
    axes.set_xticks(curve.numbers, [f"{number:,}" for number in curve.numbers])
    axes.minorticks_off()
    style.legend(axes, loc="best")
    return style.styled(figure)


def class_fractions(
    classes: Mapping[str, Floats],
    *,
    labels: Iterable[str],
    events: Mapping[str, float] | None = None,
) -> Figure:
    """Draws the fractions of classes as grouped bars.

    Args:
        classes: Fractions by source.
        labels: Names of the classes.
        events: Numbers of events by source, for binomial errors.
    """
    figure = style.figure(style.COLUMN, 2.3)
    axes = figure.subplots()
    at = np.arange(len(next(iter(classes.values()))))
    width = 0.8 / len(classes)
    for i, (color, (name, values)) in enumerate(
        zip((style.GREY, *style.colors(len(classes) - 1)), classes.items(), strict=True)
    ):
        axes.bar(
            at + (i - (len(classes) - 1) / 2) * width,
            values,
            width,
            color=color,
            label=style.name(name),
            yerr=np.sqrt(values * (1 - values) / events[name]) if events else None,
            error_kw={"elinewidth": 0.8, "ecolor": style.INK},
        )
    axes.set_xticks(at, list(labels))
    axes.set(xlabel="class", ylabel="fraction of images")
    axes.set_ylim(0, 1.35 * max(float(values.max()) for values in classes.values()))
    style.legend(axes)
    return style.styled(figure)


def _is_log(edges: Floats) -> bool:
    steps = np.diff(edges)
    return bool(len(steps) > 3 and edges[0] > 0 and steps[-1] > 2 * steps[0])


def _spans_decades(values: Floats) -> bool:
    positive = values[values > 0]
    return bool(len(positive) > 3 and positive.max() > 300 * np.quantile(positive, 0.2))

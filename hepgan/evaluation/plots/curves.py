"""Distributions, responses, training curves, ROC curves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mplhep
import numpy as np
from hist import Hist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics import statistics
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.plots import style


def observable(histogram: "Hist[Any]", *, per_event: Mapping[str, float] | None = None) -> Figure:
    """Draws the distributions of one observable with errors (top) and the ratio to the reference (bottom).

    Args:
        histogram: ``Hist(source, observable)``.
        per_event: Sums of the event weights by source, for spectra, which are drawn per event; others are drawn as fractions of all entries.
    """
    figure = style.figure(4.2, 3.6, layout=None)
    place = {"left": 0.15, "right": 0.97, "bottom": 0.12, "top": 0.97, "hspace": 0.08}
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1), **place})
    axis = histogram.axes[1]
    shapes = {name: _scaled(histogram, name, per_event) for name in histogram.axes["source"]}
    reference = shapes.pop(REFERENCE)
    mplhep.histplot(
        reference,
        ax=top,
        histtype="fill",
        flow="none",
        color=style.GREY,
        alpha=0.3,
        yerr=False,
        label=REFERENCE,
    )
    mplhep.histplot(
        reference, ax=top, histtype="step", flow="none", color=style.GREY, lw=1.2, yerr=True
    )
    for color, (name, shape) in zip(style.colors(len(shapes)), shapes.items(), strict=True):
        mplhep.histplot(
            shape,
            ax=top,
            histtype="step",
            flow="none",
            color=color,
            lw=1.2,
            yerr=True,
            label=style.name(name),
        )
        _ratio(bottom, shape, reference, color)
    if _is_log(axis.edges):
        top.set_xscale("log")
    if _spans_decades(np.asarray(reference.values(), float)):
        top.set_yscale("log")
    top.set_xlim(axis.edges[0], axis.edges[-1])
    if axis.size <= 8 and np.allclose(axis.centers, np.round(axis.centers)):
        bottom.set_xticks(axis.centers)
    top.set_ylabel("cells per event" if per_event else "fraction of events")
    top.set_xlabel("")
    _reference_band(bottom, reference)
    bottom.set_xlabel(style.name(axis.label))
    bottom.set_ylabel("ratio")
    style.legend(top)
    return style.styled(figure)


def losses(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws training curves from rows of a history: losses (top) and the other numbers (bottom)."""
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
    figure = style.figure(5.6, 2.2 * max(len(panels), 1) + 0.3)
    for axes, panel in zip(
        np.atleast_1d(figure.subplots(max(len(panels), 1), 1, sharex=True)), panels, strict=False
    ):
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
                label=style.name(key),
                marker="." if len(points) < 30 else "",
            )
        style.legend(axes)
        axes.set_xlabel("step")
    return style.styled(figure)


def response(
    samples: Mapping[str, tuple[Floats, Floats, Floats]], *, unit: str, bins: int = 12
) -> Figure:
    """Draws mean (top) and relative width (bottom) of the response against the incident energy.

    Args:
        samples: Incident energies, responses and weights, ``[E]`` each, by source.
        unit: Unit of the incident energies.
        bins: Number of bins, equidistant in the logarithm of the energy if it spans a decade.
    """
    figure = style.figure(4.2, 3.6)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.06})
    energies = samples[REFERENCE][0]
    low, high = float(energies.min()), float(energies.max())
    logarithmic = low > 0 and high > 10 * low
    edges = np.geomspace(low, high, bins + 1) if logarithmic else np.linspace(low, high, bins + 1)
    for color, (name, profiled) in zip(
        (style.GREY, *style.colors(len(samples) - 1)), samples.items(), strict=True
    ):
        center, mean, error, spread, doubt = _profile(*profiled, edges)
        options = {"fmt": "o-", "ms": 3, "lw": 1, "color": color, "label": style.name(name)}
        top.errorbar(center, mean, error, **options)
        scale = np.where(mean != 0, np.abs(mean), 1.0)
        bottom.errorbar(center, spread / scale, doubt / scale, **options)
    if logarithmic:
        bottom.set_xscale("log")
    top.set_ylabel("mean response")
    bottom.set_ylabel("width / mean")
    bottom.set_xlabel(style.name(f"incident energy [{unit}]"))
    style.legend(top)
    return style.styled(figure)


def roc(curves: Mapping[str, Floats]) -> Figure:
    """Draws ROC curves ``[2, points]`` by label."""
    figure = style.figure(3.6, 3.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=style.GREY, lw=1, ls="--", label="indistinguishable")
    for color, (name, curve) in zip(style.colors(len(curves)), curves.items(), strict=True):
        axes.plot(*curve, color=color, lw=1.4, label=style.name(name))
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="false positive rate (reference)",
        ylabel="true positive rate (generated)",
        aspect="equal",
    )
    style.legend(axes)
    return style.styled(figure)


def class_fractions(classes: Mapping[str, Floats], *, labels: Iterable[str]) -> Figure:
    """Draws the fractions of classes as grouped bars."""
    figure = style.figure(4.2, 2.6)
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
        )
    axes.set_xticks(at, list(labels))
    axes.set(xlabel="class", ylabel="fraction of images")
    axes.set_ylim(0, 1.35 * max(float(values.max()) for values in classes.values()))
    style.legend(axes)
    return style.styled(figure)


def _scaled(
    histogram: "Hist[Any]", source: str, per_event: Mapping[str, float] | None
) -> "Hist[Any]":
    one: Any = histogram[{"source": source}]
    whole = per_event[source] if per_event else float(one.sum(flow=True).value)
    scaled: Hist[Any] = one * (1 / whole if whole else 1.0)
    return scaled


def _ratio(axes: Axes, shape: "Hist[Any]", reference: "Hist[Any]", color: str) -> None:
    bottom, top = reference.values(), shape.values()
    there = (bottom > 0) & (top > 0)
    centers = reference.axes[0].centers
    ratio = top[there] / bottom[there]
    errors = ratio * np.sqrt(np.asarray(shape.variances())[there]) / top[there]
    axes.errorbar(centers[there], ratio, errors, fmt=".", ms=3, lw=0.8, color=color)


def _reference_band(axes: Axes, reference: "Hist[Any]") -> None:
    values = reference.values()
    there = values > 0
    error = np.sqrt(np.asarray(reference.variances())) / np.where(there, values, 1)
    axes.stairs(
        1 + error,
        reference.axes[0].edges,
        baseline=1 - error,
        fill=True,
        color=style.GREY,
        alpha=0.3,
    )
    axes.axhline(1, color=style.GREY, lw=0.8)
    axes.set_ylim(0, 2)
    axes.yaxis.set_major_locator(MaxNLocator(4, prune="both"))


def _is_log(edges: Floats) -> bool:
    steps = np.diff(edges)
    return bool(len(steps) > 3 and edges[0] > 0 and steps[-1] > 2 * steps[0])


def _spans_decades(values: Floats) -> bool:
    positive = values[values > 0]
    return bool(len(positive) > 3 and positive.max() > 300 * np.quantile(positive, 0.2))


def _profile(energy: Floats, values: Floats, weights: Floats, edges: Floats) -> Floats:
    """Returns rows of center, mean and its error, standard deviation and its error, for each bin of ``energy`` with entries."""
    there = np.isfinite(values) & (energy >= edges[0]) & (energy <= edges[-1])
    place = np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, len(edges) - 2)
    columns = []
    for i in range(len(edges) - 1):
        inside = there & (place == i)
        found, each = values[inside], weights[inside]
        if len(found) < 2 or found.min() == found.max() or each.sum() <= 0:
            continue
        mean, error = statistics.weighted_mean(found, each)
        variance, doubt = statistics.weighted_mean((found - mean) ** 2, each)
        if variance > 0:
            # tails make the error of the width much larger than width / sqrt(2 n)
            spread = np.sqrt(variance)
            center = statistics.weighted_mean(energy[inside], each)[0]
            columns.append((center, mean, np.sqrt(error), spread, np.sqrt(doubt) / (2 * spread)))
    return np.array(columns, dtype=float).reshape(-1, 5).T

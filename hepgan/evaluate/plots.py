"""Figures of two or more samples. The only module that imports matplotlib and mplhep; no global state is touched.

Every function returns a ``Figure`` of its own, without pyplot. ``svg`` turns one into text whose ink follows the
page's colour, so that one picture serves light and dark pages; ``png`` is for slides and papers.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import mplhep
import numpy as np
from hist import Hist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hepgan.evaluate.compare import REFERENCE
from hepgan.evaluate.statistics import Floats

INK = "#0a0b0c"
"""Text and axes; ``svg`` writes it as the page's own colour."""
COLOURS = ("#3f90da", "#e76300", "#bd1f01", "#832db6", "#2a9d5c", "#b9ac70")
"""Of the generated samples; colours that the colour-blind can tell apart (arXiv:2107.02270)."""
GREY = "#8a8f98"
SIZE = 8.0


def observable(histogram: "Hist[Any]", *, per_event: Mapping[str, int] | None = None) -> Figure:
    """One observable: the samples' distributions with errors above, generated over reference below.

    Args:
        histogram: ``Hist(source, value)``.
        per_event: Numbers of events by source, for spectra, which are shown per event; others as shares of all entries.
    """
    figure = _figure(4.2, 3.6, layout="none")
    place = {"left": 0.15, "right": 0.97, "bottom": 0.12, "top": 0.97, "hspace": 0.08}
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1), **place})
    axis = histogram.axes["value"]
    shapes = {name: _scaled(histogram, name, per_event) for name in histogram.axes["source"]}
    reference = shapes.pop(REFERENCE)
    mplhep.histplot(
        reference,
        ax=top,
        histtype="fill",
        flow="none",
        color=GREY,
        alpha=0.3,
        yerr=False,
        label=REFERENCE,
    )
    mplhep.histplot(reference, ax=top, histtype="step", flow="none", color=GREY, lw=1.2, yerr=True)
    for colour, (name, shape) in zip(_colours(len(shapes)), shapes.items(), strict=True):
        mplhep.histplot(
            shape, ax=top, histtype="step", flow="none", color=colour, lw=1.2, yerr=True, label=name
        )
        _ratio(bottom, shape, reference, colour)
    if _is_log(axis.edges):
        top.set_xscale("log")
    if _spans_decades(np.asarray(reference.values(), float)):
        top.set_yscale("log")
    top.set_xlim(axis.edges[0], axis.edges[-1])
    if axis.size <= 8 and np.allclose(axis.centers, np.round(axis.centers)):
        bottom.set_xticks(axis.centers)
    top.set_ylabel("cells per event" if per_event else "share of events")
    top.set_xlabel("")
    _reference_band(bottom, reference)
    bottom.set_xlabel(axis.label)
    bottom.set_ylabel("ratio")
    _legend(top)
    return _styled(figure)


def mean_images(
    means: Mapping[str, Floats],
    *,
    names: Sequence[str] = ("x", "y"),
    unit: str = "",
    log: bool = True,
) -> Figure:
    """The mean ``[H, W]`` images of the samples side by side, then generated − reference on a symmetric logarithmic scale.

    Wide images are stacked instead.
    """
    reference, (high, wide) = means[REFERENCE], means[REFERENCE].shape
    differences = {f"{n} − {REFERENCE}": m - reference for n, m in means.items() if n != REFERENCE}
    number = len(means) + len(differences)
    if wide > 2 * high:
        figure = _figure(4.6, 1.35 * number)
        panels = np.atleast_1d(figure.subplots(number, 1, sharex=True))
    else:
        figure = _figure(1.75 * number, 2.6)
        panels = np.atleast_1d(figure.subplots(1, number, sharey=True))
    bars = {"location": "right" if wide > 2 * high else "bottom"}
    norm = _positive_norm(means) if log else None
    for axes, (name, image) in zip(panels, means.items(), strict=False):
        _image(axes, image, name, names, norm=norm, cmap="viridis", unit=unit, **bars)
    scale = _signed_norm(differences)
    for axes, (name, image) in zip(panels[len(means) :], differences.items(), strict=True):
        _image(axes, image, name, names, norm=scale, cmap="RdBu_r", unit=unit, **bars)
    return _styled(figure)


def sample_grid(images: Floats, *, columns: int = 10, log: bool = False) -> Figure:
    """``images[E, H, W]`` as a grid, first row first, on one scale."""
    rows = -(-len(images) // columns)
    high, wide = images.shape[1:]
    figure = _figure(5.0, 5.0 * rows / columns * min(max(high / wide, 0.4), 1.6))
    canvas = np.full((rows * (high + 1) - 1, columns * (wide + 1) - 1), np.nan)
    for i, image in enumerate(images):
        top, left = i // columns * (high + 1), i % columns * (wide + 1)
        canvas[top : top + high, left : left + wide] = image
    axes = figure.subplots()
    highest = max(float(images.max()), 1e-30)
    norm = LogNorm(highest * 1e-5, highest, clip=True) if log else None
    axes.imshow(
        canvas, cmap="viridis" if log else "gray", norm=norm, aspect="auto", interpolation="nearest"
    )
    axes.set_axis_off()
    return _styled(figure)


def losses(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Training curves from rows of a history: what has "loss" in its name above, the other numbers below."""
    numbers = sorted(
        {
            k
            for row in rows
            for k, v in row.items()
            if isinstance(v, (int, float)) and not isinstance(v, bool)
        }
    )
    drawn = [k for k in numbers if k not in {"step", "epoch", "seconds", "time"}]
    first = [k for k in drawn if "loss" in k]
    panels = [panel for panel in (first, [k for k in drawn if k not in first]) if panel]
    figure = _figure(5.6, 2.2 * max(len(panels), 1) + 0.3)
    for axes, panel in zip(
        np.atleast_1d(figure.subplots(max(len(panels), 1), 1, sharex=True)), panels, strict=False
    ):
        for colour, key in zip(_colours(len(panel)), panel, strict=True):
            points = [
                (row.get("step", i), row[key])
                for i, row in enumerate(rows)
                if row.get(key) is not None
            ]
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                lw=1.0,
                label=key,
                marker="." if len(points) < 30 else "",
            )
        _legend(axes)
        axes.set_xlabel("step")
    return _styled(figure)


def response(samples: Mapping[str, tuple[Floats, Floats]], *, unit: str, bins: int = 12) -> Figure:
    """Mean (above) and relative spread (below) of the response against the incident energy.

    Args:
        samples: Incident energies and responses, ``[E]`` each, by source.
        unit: Of the incident energies.
        bins: How many, even in the logarithm of the energy where it spans a decade.
    """
    figure = _figure(4.2, 3.6)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.06})
    energies = samples[REFERENCE][0]
    low, high = float(energies.min()), float(energies.max())
    logarithmic = low > 0 and high > 10 * low
    edges = np.geomspace(low, high, bins + 1) if logarithmic else np.linspace(low, high, bins + 1)
    for colour, (name, (energy, values)) in zip(
        (GREY, *_colours(len(samples) - 1)), samples.items(), strict=True
    ):
        centre, mean, spread, doubt, number = _profile(energy, values, edges)
        style = {"fmt": "o-", "ms": 3, "lw": 1, "color": colour, "label": name}
        top.errorbar(centre, mean, spread / np.sqrt(number), **style)
        relative = spread / mean
        bottom.errorbar(centre, relative, doubt / mean, **style)
    if logarithmic:
        bottom.set_xscale("log")
    top.set_ylabel("mean response")
    bottom.set_ylabel("spread / mean")
    bottom.set_xlabel(f"incident energy [{unit}]")
    _legend(top)
    return _styled(figure)


def correlations(features: Mapping[str, Floats], names: Sequence[str]) -> Figure:
    """Correlation matrices of ``[E, d]`` features of reference and generated, and their difference."""
    matrices = {name: np.corrcoef(values, rowvar=False) for name, values in features.items()}
    panels = [*matrices.items()]
    panels += [(f"{n} − {REFERENCE}", m - matrices[REFERENCE]) for n, m in panels[1:]]
    figure = _figure(2.6 * len(panels) + 1.2, 3.6)
    for i, (axes, (title, matrix)) in enumerate(
        zip(np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels, strict=True)
    ):
        shown = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        axes.set_title(title, fontsize=SIZE, color=INK)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names if i == 0 else [""] * len(names))
    _bar(axes, shown, "", "right")
    _styled(figure)
    for axes in figure.axes[: len(panels)]:
        axes.tick_params(labelsize=min(SIZE - 1, 150 / len(names)))
    return figure


def roc(curves: Mapping[str, Floats]) -> Figure:
    """ROC curves ``[2, points]`` by label."""
    figure = _figure(3.6, 3.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="indistinguishable")
    for colour, (name, curve) in zip(_colours(len(curves)), curves.items(), strict=True):
        axes.plot(*curve, color=colour, lw=1.4, label=name)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="reference taken for generated",
        ylabel="generated found",
        aspect="equal",
    )
    _legend(axes)
    return _styled(figure)


def shares(classes: Mapping[str, Floats], *, labels: Iterable[str]) -> Figure:
    """Shares of classes as bars side by side."""
    figure = _figure(4.2, 2.6)
    axes = figure.subplots()
    at = np.arange(len(next(iter(classes.values()))))
    width = 0.8 / len(classes)
    for i, (colour, (name, values)) in enumerate(
        zip((GREY, *_colours(len(classes) - 1)), classes.items(), strict=True)
    ):
        axes.bar(at + (i - (len(classes) - 1) / 2) * width, values, width, color=colour, label=name)
    axes.set_xticks(at, list(labels))
    axes.set(xlabel="class", ylabel="share of images")
    _legend(axes)
    return _styled(figure)


def svg(figure: Figure) -> str:
    """The figure as SVG text for a page, without XML head and size; its ink is the page's ``currentColor``."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    found = text.getvalue()
    found = found[found.index("<svg") :].replace(INK, "currentColor")
    found = re.sub(r' d="([^"]*)"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), found)
    found = re.sub(r"<metadata>.*?</metadata>", "", found, flags=re.DOTALL)
    found = re.sub(
        r' id="(?:figure|axes|patch|line2d|matplotlib\.axis|text|xtick|ytick|legend|PathCollection|QuadMesh|LineCollection|FillBetweenPolyCollection|PolyCollection)_\d+"',
        "",
        found,
    )
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"',
        r"<svg \1",
        re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", found, count=1),
        count=1,
    )


def png(figure: Figure) -> bytes:
    """The figure as PNG on white."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150, facecolor="white")
    return data.getvalue()


def _figure(
    width: float, height: float, *, layout: Literal["constrained", "none"] = "constrained"
) -> Figure:
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _styled(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.tick_params(which="both", colors=INK, labelsize=SIZE - 1, direction="in")
        for spine in axes.spines.values():
            spine.set_color(INK)
            spine.set_linewidth(0.6)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(INK)
            label.set_fontsize(SIZE)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_offset_text().set(color=INK, fontsize=SIZE - 1)
    return figure


def _colours(number: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(number)]


def _scaled(
    histogram: "Hist[Any]", source: str, per_event: Mapping[str, int] | None
) -> "Hist[Any]":
    one: Any = histogram[{"source": source}]
    whole = per_event[source] if per_event else float(one.sum(flow=True).value)
    scaled: Hist[Any] = one * (1 / whole if whole else 1.0)
    return scaled


def _ratio(axes: Axes, shape: "Hist[Any]", reference: "Hist[Any]", colour: str) -> None:
    bottom, top = reference.values(), shape.values()
    there = (bottom > 0) & (top > 0)
    centres = reference.axes[0].centers
    ratio = top[there] / bottom[there]
    errors = ratio * np.sqrt(np.asarray(shape.variances())[there]) / top[there]
    axes.errorbar(centres[there], ratio, errors, fmt=".", ms=3, lw=0.8, color=colour)


def _reference_band(axes: Axes, reference: "Hist[Any]") -> None:
    values = reference.values()
    there = values > 0
    error = np.sqrt(np.asarray(reference.variances())) / np.where(there, values, 1)
    axes.stairs(
        1 + error, reference.axes[0].edges, baseline=1 - error, fill=True, color=GREY, alpha=0.3
    )
    axes.axhline(1, color=GREY, lw=0.8)
    axes.set_ylim(0, 2)
    axes.yaxis.set_major_locator(MaxNLocator(4, prune="both"))


def _is_log(edges: Floats) -> bool:
    steps = np.diff(edges)
    return bool(len(steps) > 3 and edges[0] > 0 and steps[-1] > 2 * steps[0])


def _spans_decades(values: Floats) -> bool:
    positive = values[values > 0]
    return bool(len(positive) > 3 and positive.max() > 300 * np.quantile(positive, 0.2))


def _profile(energy: Floats, values: Floats, edges: Floats) -> Floats:
    """Rows of centre, mean, standard deviation with its error, and number, for each bin of ``energy`` with entries."""
    there = np.isfinite(values) & (energy >= edges[0]) & (energy <= edges[-1])
    energy, values = energy[there], values[there]
    place = np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, len(edges) - 2)
    columns = []
    for i in range(len(edges) - 1):
        inside = values[place == i]
        if len(inside) < 2 or inside.min() == inside.max():
            continue
        spread = inside.std(ddof=1)
        # tails make the spread far more uncertain than spread / sqrt(2 n)
        fourth = np.mean((inside - inside.mean()) ** 4)
        doubt = np.sqrt(max(fourth - spread**4, 0.0) / len(inside)) / (2 * spread)
        columns.append((energy[place == i].mean(), inside.mean(), spread, doubt, len(inside)))
    return np.array(columns, dtype=float).reshape(-1, 5).T


def _positive_norm(means: Mapping[str, Floats]) -> LogNorm | None:
    reference = means[REFERENCE]
    highest = float(max(image.max() for image in means.values()))
    positive = reference[reference > 0]
    if highest <= 0 or len(positive) == 0 or positive.min() >= highest:
        return None
    return LogNorm(max(float(positive.min()), highest * 1e-6), highest)


def _signed_norm(differences: Mapping[str, Floats]) -> SymLogNorm:
    largest = max((float(np.abs(d).max()) for d in differences.values()), default=1.0) or 1.0
    return SymLogNorm(linthresh=largest / 100, vmin=-largest, vmax=largest)


def _image(
    axes: Axes,
    image: Floats,
    title: str,
    names: Sequence[str],
    *,
    norm: LogNorm | SymLogNorm | None,
    cmap: str,
    unit: str,
    location: str,
) -> None:
    shown = axes.imshow(image, norm=norm, aspect="auto", interpolation="nearest", cmap=cmap)
    axes.set_title(title)
    first = axes.get_subplotspec()
    if location == "bottom" or (first is not None and first.is_last_row()):
        axes.set_xlabel(names[1])
    if location == "right" or (first is not None and first.is_first_col()):
        axes.set_ylabel(names[0])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    bar = _bar(axes, shown, unit, location)
    if isinstance(norm, SymLogNorm):
        # ticks between the linear and the logarithmic part would run into each other
        power = np.floor(np.log10(norm.vmax or 1.0))
        bar.set_ticks([-(10.0**power), 0, 10.0**power])
        bar.minorticks_off()


def _bar(axes: Axes, shown: Any, unit: str, location: str) -> Any:
    bar = axes.figure.colorbar(
        shown, ax=axes, location=location, fraction=0.06, pad=0.03, aspect=15
    )
    bar.ax.tick_params(which="both", colors=INK, labelsize=SIZE - 2)
    bar.outline.set_edgecolor(INK)
    bar.set_label(unit, color=INK, fontsize=SIZE - 1)
    return bar


def _legend(axes: Axes) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(frameon=False, fontsize=SIZE - 1, labelcolor=INK)

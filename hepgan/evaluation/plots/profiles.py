"""Profiles in depth and radius, response and resolution."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hist import Hist
from matplotlib.figure import Figure

from hepgan.evaluation.formatting import with_error
from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics.histogram_tests import HistogramTest
from hepgan.evaluation.metrics.slices import SliceScore
from hepgan.evaluation.plots import style
from hepgan.evaluation.plots.curves import by_source, draw_ratios, headroom
from hepgan.evaluation.profiles import Resolution, Response, resolution_curve


def profile(
    histogram: "Hist[Any]",
    *,
    events: Mapping[str, float],
    tests: Mapping[str, HistogramTest] | None = None,
) -> Figure:
    """Draws mean energies along an axis (top) and their ratios to the reference (bottom), with errors of the means.

    Args:
        histogram: ``Hist(source, axis)`` of means with their variances; its label is the title of the vertical axis.
        events: Sums of the event weights by source.
        tests: χ² tests by generated source.
    """
    shapes = by_source(histogram)
    reference = shapes.pop(REFERENCE)
    colors = dict(zip(shapes, style.colors(len(shapes)), strict=True))
    notes = [
        (style.chi_square_note(name, tests[name], len(shapes)), colors[name])
        for name in shapes
        if tests and name in tests
    ]
    figure, top, bottom = style.ratio_figure(notes)
    axis = histogram.axes[1]
    discrete = not hasattr(axis.traits, "continuous") or not axis.traits.continuous
    edges = np.arange(axis.size + 1) - 0.5 if discrete else axis.edges
    centers = (edges[1:] + edges[:-1]) / 2
    for name, one, color in [
        (REFERENCE, reference, style.GREY),
        *((n, s, colors[n]) for n, s in shapes.items()),
    ]:
        values, errors = one.values(), np.sqrt(np.asarray(one.variances(), float))
        label = f"{style.name(name)} (N = {events[name]:,.0f})"
        if name == REFERENCE:
            top.stairs(values, edges, fill=True, color=color, alpha=0.3, label=label)
            label = ""
        top.stairs(values, edges, color=color, lw=1.2, label=label or None)
        top.errorbar(centers, values, errors, fmt="none", ecolor=color, lw=0.8)
    contents = np.concatenate([reference.values(), *(one.values() for one in shapes.values())])
    positive = contents[contents > 0]
    if logarithmic := len(positive) > 1 and positive.max() > 100 * positive.min():
        top.set_yscale("log")
    headroom(top, contents, logarithmic=bool(logarithmic), entries=1 + len(shapes))
    top.set_xlim(edges[0], edges[-1])
    top.set_ylabel(style.name(histogram.label or ""))
    draw_ratios(bottom, reference, shapes, colors, edges=edges)
    if discrete:
        every = max(1, -(-axis.size // 12))
        bottom.set_xticks(centers[::every], list(axis)[::every])
        bottom.minorticks_off()
        top.tick_params(axis="x", which="minor", length=0)
    bottom.set_xlabel(style.name(axis.label))
    style.legend(top, loc="best")
    return style.styled(figure)


def slices(parts: Mapping[str, Sequence[SliceScore]], *, label: str) -> Figure:
    """Draws mean (top) and standard deviation (bottom) of an observable in slices of a condition.

    Args:
        parts: Slices by generated source, all of one condition.
        label: Title of the observable.
    """
    figure = style.figure(style.COLUMN, 3.2)
    top, bottom = figure.subplots(2, 1, sharex=True)
    reference = max(parts.values(), key=len)
    ticks = {part.slice.label: i for i, part in enumerate(reference)}
    condition = reference[0].slice.condition
    texts = [style.name(text.removeprefix(f"{condition} = "), longest=24) for text in ticks]
    offset = 0.5 / (len(parts) + 1)
    for i, (name, color) in enumerate(
        zip((REFERENCE, *parts), (style.GREY, *style.colors(len(parts))), strict=True)
    ):
        slice_scores = reference if name == REFERENCE else parts[name]
        at = [
            ticks[p.slice.label] + (i - len(parts) / 2) * offset
            for p in slice_scores
            if p.slice.label in ticks
        ]
        slice_scores = [p for p in slice_scores if p.slice.label in ticks]
        options: dict[str, Any] = {"fmt": "o", "ms": 3, "lw": 1, "color": color}
        own = name == REFERENCE
        top.errorbar(
            at,
            [p.mean_reference if own else p.mean_generated for p in slice_scores],
            [p.mean_reference_error if own else p.mean_generated_error for p in slice_scores],
            label=style.name(name),
            **options,
        )
        bottom.errorbar(
            at,
            [p.width_reference if own else p.width_generated for p in slice_scores],
            [p.width_reference_error if own else p.width_generated_error for p in slice_scores],
            **options,
        )
    top.set_ylabel("mean")
    top.set_title(style.name(label))
    bottom.set_ylabel("standard deviation")
    bottom.set_xticks(range(len(ticks)), texts, parse_math=False)
    bottom.set_xlabel(style.name(condition))
    if sum(map(len, texts)) > 44:  # side by side they would overlap
        bottom.tick_params(axis="x", rotation=30 if len(ticks) < 8 else 90)
        for tick in bottom.get_xticklabels():
            tick.set_horizontalalignment("right")
    for axes in (top, bottom):
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.margins(y=0.15)
    style.legend(top, loc="best")
    return style.styled(figure)


def response(
    responses: Mapping[str, Response], fits: Mapping[str, Resolution], *, unit: str, to_gev: float
) -> Figure:
    """Draws mean (top) and resolution (bottom) of the Gaussian core of the response against the incident energy.

    Args:
        responses: Responses by source.
        fits: Fits of the resolution by source, drawn as lines.
        unit: Unit of the incident energies.
        to_gev: Factor from this unit to GeV.
    """
    below = 1.1 * style.LINE * len(fits)
    figure = style.figure(style.COLUMN, 3.3 + below, layout=None)
    high = figure.get_figheight()
    top, bottom = figure.subplots(
        2, 1, sharex=True,
        gridspec_kw={"hspace": 0.07, "left": 0.175, "right": 0.965, "bottom": (0.42 + below) / high, "top": 1 - 0.08 / high},
    )  # fmt: skip
    colors = dict(zip(responses, (style.GREY, *style.colors(len(responses) - 1)), strict=True))
    spread: list[float] = []
    for name, response in responses.items():
        options: dict[str, Any] = {"ms": 3, "lw": 1, "color": colors[name]}
        top.errorbar(response.energy, response.mean, response.mean_error, fmt="o-", label=style.name(name), **options)  # fmt: skip
        label = f"{style.name(name, longest=16)}: {_fit_text(fits[name])}" if name in fits else None
        line = "o" if name in fits else "o-"
        bottom.errorbar(response.energy, 100 * response.resolution, 100 * response.resolution_error, fmt=line, label=label, **options)  # fmt: skip
        if name in fits:
            grid = np.geomspace(response.energy.min(), response.energy.max(), 100)
            bottom.plot(
                grid, 100 * resolution_curve(fits[name], grid * to_gev), lw=1, color=colors[name]
            )
        spread += response.energy.tolist()
    if spread and min(spread) > 0 and max(spread) > 10 * min(spread):
        bottom.set_xscale("log")
        style.log_ticks(bottom.xaxis, min(spread), max(spread))
    bottom.set_ylim(min(bottom.get_ylim()[0], 0.0))
    top.set_ylabel("mean response")
    bottom.set_ylabel("resolution σ/E [%]")
    bottom.set_xlabel(style.name(f"incident energy [{unit}]"))
    style.legend(top, loc="best")
    style.legend(
        bottom, loc="lower left", bbox_to_anchor=(0.0, 0.0), bbox_transform=figure.transFigure, borderaxespad=0.2
    )  # fmt: skip
    return style.styled(figure)


def _fit_text(fit: Resolution) -> str:
    """Returns the terms of a fit in percent, without those that vanish."""
    terms = [
        f"{term} = {with_error(100 * value, 100 * error)}"
        for term, (value, error) in zip("abc", fit, strict=True)
        if value > 0
    ]
    return f"{', '.join(terms)} %" if terms else "0 %"

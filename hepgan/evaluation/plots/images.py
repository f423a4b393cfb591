"""Mean images, grids of single events, correlation matrices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.plots import style

MAX_PULL = 5.0
"""End of the color scale of pulls."""


ARCS = 72
"""Minimum number of straight edges of a circle."""

FLAT = 0.25
"""Height over width of a single event of a flat layer, such as 3 × 96 strips."""


def mean_images(
    means: Mapping[str, Floats],
    *,
    pulls: Mapping[str, Floats] | None = None,
    names: Sequence[str] = ("x", "y"),
    extent: tuple[float, float, float, float] | None = None,
    r_edges: Sequence[float] = (),
    unit: str = "",
    log: bool = True,
) -> Figure:
    """Draws the mean ``[H, W]`` images of all samples, and the pulls (generated − reference) / σ of each cell.

    Args:
        means: Mean images by source.
        pulls: Pulls by generated source.
        names: Labels of the rows' and the columns' axis.
        extent: First and last edge of the columns, then of the rows; by default cells are counted.
        r_edges: Edges in r for cells in (α, r), which are drawn in polar coordinates.
        unit: Unit of the means.
        log: Whether colors are logarithmic.
    """
    high, wide = means[REFERENCE].shape
    stacked = wide > 2 * high and not r_edges
    minus = " − " if stacked else "\n− "
    panels = [(style.name(n), image, False) for n, image in means.items()]
    panels += [
        (f"{style.name(n)}{minus}{REFERENCE}", pull, True) for n, pull in (pulls or {}).items()
    ]
    number = len(panels)
    subplots = {"projection": "polar"} if r_edges else {}
    if stacked:
        figure = style.figure(style.COLUMN, 1.1 * number + 0.3)
        grid = np.atleast_1d(figure.subplots(number, 1, sharex=True, subplot_kw=subplots))
    else:
        width = min(style.PAGE / number, 1.9)
        figure = style.figure(width * number, width + (1.05 if r_edges else 0.85))
        grid = np.atleast_1d(figure.subplots(1, number, sharey=not r_edges, subplot_kw=subplots))
    location = "right" if stacked else "bottom"
    norm = _positive_norm(means) if log else _common_norm(means)
    pull_norm = Normalize(-MAX_PULL, MAX_PULL)
    for axes, (title, image, is_pull) in zip(grid, panels, strict=True):
        scale, colors = (pull_norm, "RdBu_r") if is_pull else (norm, "viridis")
        draw = _polar if r_edges else _image
        shown = draw(
            axes,
            image,
            names,
            norm=scale,
            cmap=colors,
            extent=extent,
            r_edges=r_edges,
            label_all=not stacked,
        )
        axes.set_title(title)
        bar = style.bar(
            axes,
            shown,
            "pull" if is_pull else unit,
            location,
            extend="both" if is_pull else "neither",
        )
        if is_pull:
            bar.set_ticks([-MAX_PULL, 0, MAX_PULL])
    style.styled(figure)
    if r_edges:
        for axes in grid:
            axes.tick_params(axis="x", labelsize=style.SIZE - 2, pad=-3)
    return figure


def sample_grid(
    images: Floats,
    *,
    columns: int = 10,
    log: bool = False,
    highest: float | None = None,
    unit: str = "",
) -> Figure:
    """Draws ``images[E, H, W]`` as a grid with a common scale.

    Args:
        images: Images of single events.
        columns: Images per row.
        log: Whether colors are logarithmic, over five decades.
        highest: End of the logarithmic scale; by default the largest value.
        unit: Unit of the values, for the color bar.
    """
    flat = images.shape[2] > 2 * images.shape[1]
    if flat:  # keeps flat layers visible between the gaps
        images = np.repeat(images, 4, axis=1)
    rows = -(-len(images) // columns)
    high, wide = images.shape[1:]
    width = style.COLUMN
    body = width * rows / columns * (FLAT if flat else min(max(high / wide, 0.4), 1.6))
    figure = style.figure(width, body + 0.45 * log)
    gap = max(1, high // 40)
    sheet = np.full((rows * (high + gap) - gap, columns * (wide + gap) - gap), np.nan)
    for i, image in enumerate(images):
        top, left = i // columns * (high + gap), i % columns * (wide + gap)
        sheet[top : top + high, left : left + wide] = image
    axes = figure.subplots()
    most = max(highest or float(np.nanmax(images)), 1e-30)
    norm = LogNorm(most * 1e-5, most, clip=True) if log else None
    shown = axes.imshow(
        sheet, cmap="viridis" if log else "gray", norm=norm, aspect="auto", interpolation="nearest"
    )
    if log:
        style.bar(axes, shown, unit, "bottom", extend="min")
    axes.set_axis_off()
    return style.styled(figure)


def correlations(matrices: Mapping[str, Floats], names: Sequence[str]) -> Figure:
    """Draws the ``[d, d]`` correlation matrix of the reference, and those of the generated samples minus it."""
    reference = matrices[REFERENCE]
    differences = {name: m - reference for name, m in matrices.items() if name != REFERENCE}
    panels = [(REFERENCE, reference, 1.0)]
    largest = max((float(np.abs(d).max()) for d in differences.values()), default=1.0)
    scale = min(1.0, max(0.1, np.ceil(largest * 10) / 10))
    panels += [(f"{style.name(n)} − {REFERENCE}", d, scale) for n, d in differences.items()]
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = style.figure(style.PAGE, 0.9 + 3.0 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    labels = [style.name(name, longest=24) for name in names]
    for i, (axes, (title, matrix, limit)) in enumerate(zip(grid, panels, strict=False)):
        shown = axes.imshow(
            matrix, vmin=-limit, vmax=limit, cmap="RdBu_r", interpolation="nearest", aspect="auto"
        )
        axes.set_title(title)
        style.bar(axes, shown, "", "right")
        if i % columns == 0:
            axes.set_yticks(range(len(names)), labels, parse_math=False)
        axes.set_xticks(range(len(names)), labels, parse_math=False)
        axes.tick_params(axis="x", labelbottom=i + columns >= len(panels))
    style.styled(figure)
    for axes in grid[: len(panels)]:
        axes.tick_params(labelsize=min(style.SIZE - 1, 150 / len(names)), length=0)
        axes.tick_params(axis="x", rotation=90)
    return figure


def _positive_norm(means: Mapping[str, Floats]) -> LogNorm | None:
    reference = means[REFERENCE]
    highest = float(max(np.nanmax(image) for image in means.values()))
    positive = reference[reference > 0]
    if highest <= 0 or len(positive) == 0 or positive.min() >= highest:
        return None
    return LogNorm(max(float(positive.min()), highest * 1e-6), highest)


def _common_norm(means: Mapping[str, Floats]) -> Normalize:
    low = min(float(np.nanmin(image)) for image in means.values())
    high = max(float(np.nanmax(image)) for image in means.values())
    return Normalize(low, high if high > low else low + 1)


def _image(
    axes: Axes,
    image: Floats,
    names: Sequence[str],
    *,
    norm: Normalize | None,
    cmap: str,
    extent: tuple[float, float, float, float] | None,
    r_edges: Sequence[float],
    label_all: bool,
) -> ScalarMappable:
    """Draws a rectangular image; an axis with physical positions points upward, rows of pixels downward."""
    shown = axes.imshow(
        _with_empty(image, norm), norm=norm, cmap=cmap, extent=extent, aspect="auto",
        origin="lower" if extent else "upper", interpolation="nearest",
    )  # fmt: skip
    spec = axes.get_subplotspec()
    if label_all or (spec is not None and spec.is_last_row()):
        axes.set_xlabel(style.name(names[1]))
    if not label_all or (spec is not None and spec.is_first_col()):
        axes.set_ylabel(style.name(names[0]))
    for axis, length in ((axes.xaxis, image.shape[1]), (axes.yaxis, image.shape[0])):
        axis.set_major_locator(MaxNLocator(min(4, length), integer=extent is None))
    return shown


def _polar(
    axes: Any,
    image: Floats,
    names: Sequence[str],
    *,
    norm: Normalize | None,
    cmap: str,
    extent: tuple[float, float, float, float] | None,
    r_edges: Sequence[float],
    label_all: bool,
) -> ScalarMappable:
    """Draws cells in (α, r) with round edges; a layer without bins in α as rings."""
    drawn = np.repeat(image, -(-ARCS // len(image)), axis=0)
    alpha = np.linspace(-np.pi, np.pi, len(drawn) + 1)
    shown: ScalarMappable = axes.pcolormesh(
        alpha, np.asarray(r_edges), _with_empty(drawn, norm).T, norm=norm, cmap=cmap, shading="flat"
    )
    axes.grid(visible=False)
    axes.set_xticks(np.arange(4) * np.pi / 2, ["0", "π/2", "π", "−π/2"])
    axes.set_yticks([])
    axes.set_xlabel(f"r < {float(r_edges[-1]):g} mm", labelpad=0)
    return shown


def _with_empty(image: Floats, norm: Normalize | None) -> Floats:
    """Returns an image whose empty cells, which have no logarithm, have the lowest color; pixels without a cell stay NaN."""
    if not isinstance(norm, LogNorm) or norm.vmin is None:
        return image
    return np.maximum(image, norm.vmin)

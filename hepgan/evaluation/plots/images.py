"""Mean images, grids of single events, correlation matrices."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.plots import style


def mean_images(
    means: Mapping[str, Floats],
    *,
    names: Sequence[str] = ("x", "y"),
    unit: str = "",
    log: bool = True,
) -> Figure:
    """Draws the mean ``[H, W]`` images of all samples, and generated − reference on a symmetric logarithmic scale."""
    reference, (high, wide) = means[REFERENCE], means[REFERENCE].shape
    stacked = wide > 2 * high
    minus = " − " if stacked else "\n− "
    differences = [
        (f"{style.name(n)}{minus}{REFERENCE}", m - reference)
        for n, m in means.items()
        if n != REFERENCE
    ]
    number = len(means) + len(differences)
    if stacked:
        figure = style.figure(4.6, 1.35 * number)
        panels = np.atleast_1d(figure.subplots(number, 1, sharex=True))
    else:
        figure = style.figure(1.75 * number, 2.6)
        panels = np.atleast_1d(figure.subplots(1, number, sharey=True))
    bars = {"location": "right" if stacked else "bottom"}
    norm = _positive_norm(means) if log else None
    for axes, (name, image) in zip(panels, means.items(), strict=False):
        _image(axes, image, style.name(name), names, norm=norm, cmap="viridis", unit=unit, **bars)
    scale = _signed_norm(differences)
    for axes, (name, image) in zip(panels[len(means) :], differences, strict=True):
        _image(axes, image, name, names, norm=scale, cmap="RdBu_r", unit=unit, **bars)
    return style.styled(figure)


def sample_grid(images: Floats, *, columns: int = 10, log: bool = False) -> Figure:
    """Draws ``images[E, H, W]`` as a grid with a common scale."""
    if images.shape[2] > 2 * images.shape[1]:  # keeps flat layers visible between the gaps
        images = np.repeat(images, 4, axis=1)
    rows = -(-len(images) // columns)
    high, wide = images.shape[1:]
    figure = style.figure(5.0, 5.0 * rows / columns * min(max(high / wide, 0.4), 1.6))
    sheet = np.full((rows * (high + 1) - 1, columns * (wide + 1) - 1), np.nan)
    for i, image in enumerate(images):
        top, left = i // columns * (high + 1), i % columns * (wide + 1)
        sheet[top : top + high, left : left + wide] = image
    axes = figure.subplots()
    highest = max(float(images.max()), 1e-30)
    norm = LogNorm(highest * 1e-5, highest, clip=True) if log else None
    axes.imshow(
        sheet, cmap="viridis" if log else "gray", norm=norm, aspect="auto", interpolation="nearest"
    )
    axes.set_axis_off()
    return style.styled(figure)


def correlations(matrices: Mapping[str, Floats], names: Sequence[str]) -> Figure:
    """Draws the ``[d, d]`` correlation matrices of all samples and their differences from the reference."""
    differences = [
        (f"{style.name(n)} − {REFERENCE}", m - matrices[REFERENCE])
        for n, m in matrices.items()
        if n != REFERENCE
    ]
    several = len(differences) > 1
    rows, columns = (2, len(matrices)) if several else (1, 3)
    figure = style.figure(2.6 * columns + 1.4, 1.3 + 2.6 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    panels = [*((style.name(n), m) for n, m in matrices.items()), *differences]
    if several:  # each difference below its sample
        grid[columns].set_axis_off()
        grid = np.delete(grid, columns)
    for axes, (title, matrix) in zip(grid, panels, strict=True):
        shown = axes.imshow(
            matrix, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest", aspect="auto"
        )
        axes.set_title(title)
    labels = [style.name(name) for name in names]
    grid[0].set_yticks(range(len(names)), labels, parse_math=False)
    grid[0].set_xticks(range(len(names)), labels, parse_math=False)
    style.bar(grid[-1], shown, "", "right")
    style.styled(figure)
    for axes in grid:
        axes.tick_params(labelsize=min(style.SIZE - 1, 170 / len(names)), length=0)
        axes.tick_params(axis="x", rotation=90)
    return figure


def _positive_norm(means: Mapping[str, Floats]) -> LogNorm | None:
    reference = means[REFERENCE]
    highest = float(max(image.max() for image in means.values()))
    positive = reference[reference > 0]
    if highest <= 0 or len(positive) == 0 or positive.min() >= highest:
        return None
    return LogNorm(max(float(positive.min()), highest * 1e-6), highest)


def _signed_norm(differences: Sequence[tuple[str, Floats]]) -> SymLogNorm:
    largest = max((float(np.abs(d).max()) for _, d in differences), default=1.0) or 1.0
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
    colors = colormaps[cmap]
    # empty cells have no logarithm: draw them in the lowest color
    colors = colors.with_extremes(bad=colors(0.0)) if isinstance(norm, LogNorm) else colors
    shown = axes.imshow(image, norm=norm, aspect="auto", interpolation="nearest", cmap=colors)
    axes.set_title(title)
    first = axes.get_subplotspec()
    if location == "bottom" or (first is not None and first.is_last_row()):
        axes.set_xlabel(style.name(names[1]))
    if location == "right" or (first is not None and first.is_first_col()):
        axes.set_ylabel(style.name(names[0]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    bar = style.bar(axes, shown, unit, location)
    if isinstance(norm, SymLogNorm):
        # ticks between the linear and the logarithmic part would overlap
        power = np.floor(np.log10(norm.vmax or 1.0))
        bar.set_ticks([-(10.0**power), 0, 10.0**power])
        bar.minorticks_off()

"""Common style of all figures, and export to SVG and PNG."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from hepgan.data.io.names import printable
from hepgan.evaluation.formatting import relation_of_p_value, rounded
from hepgan.evaluation.metrics.histogram_tests import HistogramTest

INK = "#0a0b0c"
"""Color of text and axes; ``svg`` replaces it by ``currentColor``."""
COLORS = ("#3f90da", "#e76300", "#bd1f01", "#832db6", "#2a9d5c", "#b9ac70")
"""Colors of the generated samples, suitable for color-vision deficiencies (arXiv:2107.02270)."""
GREY = "#8a8f98"
SIZE = 8.0
"""Font size [pt] at the printed size of the figure."""

COLUMN = 3.4
"""Width of a column of a journal [inches]."""

PAGE = 7.0
"""Width of a page of a journal [inches]."""

LONGEST = 60
"""Longest name in a figure; longer names are truncated."""


def name(text: str, *, longest: int = LONGEST) -> str:
    """Returns ``text`` as a label: printable, truncated, and shown in legends even if it starts with ``_``."""
    shown = printable(text, longest=longest)
    return f" {shown}" if shown.startswith("_") else shown


def figure(
    width: float, height: float, *, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """Returns an empty figure of ``width`` × ``height`` inches with an Agg canvas."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


LINE = 0.145
"""Height of a line of text above the panels [inches]."""


def ratio_figure(notes: Sequence[tuple[str, str]]) -> tuple[Figure, Axes, Axes]:
    """Returns a figure of a column with a panel, a lower one for ratios, and lines of ``notes`` (text, color) above them."""
    drawn = figure(COLUMN, 2.75 + LINE * len(notes), layout=None)
    high, left = drawn.get_figheight(), 0.165
    top, bottom = drawn.subplots(
        2, 1, sharex=True,
        gridspec_kw={
            "height_ratios": (2.6, 1), "hspace": 0.07, "left": left, "right": 0.965,
            "bottom": 0.38 / high, "top": 1 - (0.06 + LINE * len(notes)) / high,
        },
    )  # fmt: skip
    for i, (text, color) in enumerate(notes):
        drawn.text(
            left, 1 - (0.04 + LINE * i) / high, text,
            color=color, fontsize=SIZE - 1, va="top", parse_math=False,
        )  # fmt: skip
    return drawn, top, bottom


def chi_square_note(source: str, test: HistogramTest, samples: int) -> str:
    """Returns χ²/ndf with its p-value, after the name of the sample if there are several."""
    which = f"{name(source, longest=20)}: " if samples > 1 else ""
    if not test.ndf:
        return f"{which}too few entries for χ²"
    per_ndf = test.statistic / test.ndf
    return f"{which}χ²/ndf = {test.statistic:.4g}/{test.ndf:.0f} = {per_ndf:.3g}, p {relation_of_p_value(test.p_value)}"


def styled(figure: Figure) -> Figure:
    """Applies the common style to a figure and returns it; labels are literal text, not formulas."""
    for axes in figure.axes:
        axes.tick_params(which="both", colors=INK, labelsize=SIZE - 1, direction="in")
        for spine in axes.spines.values():
            spine.set_color(INK)
            spine.set_linewidth(0.6)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(INK)
            label.set_fontsize(SIZE)
            label.set_parse_math(False)  # a name may hold any number of "$"
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_offset_text().set(color=INK, fontsize=SIZE - 1)
    return figure


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Labels a logarithmic axis: powers of ten, or plain numbers at 1, 2 and 5 if it spans less than a decade, or they are short and it spans fewer than two."""
    if high < 10 * low or (high < 100 * low and low >= 0.01 and high < 10_000):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda x, _: rounded(x)))
    axis.set_minor_formatter(NullFormatter())


def colors(number: int) -> list[str]:
    """Returns a color for each of ``number`` generated samples."""
    return [COLORS[i % len(COLORS)] for i in range(number)]


def legend(axes: Axes, **options: Any) -> None:
    """Adds a legend without a frame if there are labels."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        drawn = axes.legend(
            frameon=False, fontsize=SIZE - 1, labelcolor=INK, handlelength=1.4, **options
        )
        for text in drawn.get_texts():
            text.set_parse_math(False)


def bar(axes: Axes, shown: Any, unit: str, location: str, *, extend: str = "neither") -> Any:
    """Adds a color bar to ``axes``."""
    colorbar = axes.figure.colorbar(
        shown, ax=axes, location=location, fraction=0.07, pad=0.03, aspect=15, extend=extend
    )
    colorbar.ax.tick_params(which="both", colors=INK, labelsize=SIZE - 1)
    if isinstance(shown.norm, LogNorm):
        log_ticks(
            colorbar.ax.xaxis if location == "bottom" else colorbar.ax.yaxis, *shown.get_clim()
        )
    colorbar.outline.set_edgecolor(INK)
    colorbar.set_label(name(unit), color=INK, fontsize=SIZE - 1, parse_math=False)
    return colorbar


def svg(figure: Figure) -> str:
    """Returns the figure as a standalone SVG file."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def inline(svg: str) -> str:
    """Returns an SVG file as an element for a page: without XML header and size, drawn in ``currentColor``."""
    element = svg[svg.index("<svg") :].replace(INK, "currentColor")
    element = re.sub(r' d="([^"]*)"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), element)
    element = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", element, flags=re.DOTALL)
    # ids must be unique on a page with many figures: keep only those that are referenced
    element = re.sub(r' id="[a-zA-Z0-9]+(?:\.axis)?_\d+"', "", element)
    head, rest = element.split(">", 1)
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest


def png(figure: Figure) -> bytes:
    """Returns the figure as PNG on white, for slides."""
    return _file(figure, format="png", dpi=200, facecolor="white")


def pdf(figure: Figure) -> bytes:
    """Returns the figure as PDF with embedded fonts, for papers."""
    return _file(figure, format="pdf", metadata={"CreationDate": None})


def files(figure: Figure) -> dict[str, bytes]:
    """Returns the figure as PNG, PDF and SVG by suffix, all with the layout of the PNG, which takes as long as the drawing."""
    layout, pixels = figure.get_layout_engine(), png(figure)
    figure.set_layout_engine(None)
    try:
        return {"png": pixels, "pdf": pdf(figure), "svg": svg(figure).encode()}
    finally:
        figure.set_layout_engine(layout)


def settings() -> Any:
    """Returns matplotlib's settings in this process, but for its backend."""
    return {key: rcParams[key] for key in rcParams if not key.startswith("backend")}


def draw_files(settings: Any, draw: Callable[[], Figure]) -> dict[str, bytes]:
    """Returns the ``files`` of the figure that ``draw`` returns, drawn with the ``settings`` of another process."""
    with rc_context(settings):
        return files(draw())


def _file(figure: Figure, **options: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, **options)
    return data.getvalue()

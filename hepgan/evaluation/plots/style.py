"""Common style of all figures, and export to SVG and PNG."""

import io
import re
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hepgan.data.io.names import printable

INK = "#0a0b0c"
"""Color of text and axes; ``svg`` replaces it by ``currentColor``."""
COLORS = ("#3f90da", "#e76300", "#bd1f01", "#832db6", "#2a9d5c", "#b9ac70")
"""Colors of the generated samples, suitable for color-vision deficiencies (arXiv:2107.02270)."""
GREY = "#8a8f98"
SIZE = 8.0


LONGEST = 60
"""Longest name in a figure; longer names are truncated."""


def name(text: str) -> str:
    """Returns ``text`` as a label: printable, truncated, and shown in legends even if it starts with ``_``."""
    shown = printable(text, longest=LONGEST)
    return f" {shown}" if shown.startswith("_") else shown


def figure(
    width: float, height: float, *, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """Returns an empty figure of ``width`` × ``height`` inches with an Agg canvas."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


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


def colors(number: int) -> list[str]:
    """Returns a color for each of ``number`` generated samples."""
    return [COLORS[i % len(COLORS)] for i in range(number)]


def legend(axes: Axes) -> None:
    """Adds a legend without a frame if there are labels."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        drawn = axes.legend(frameon=False, fontsize=SIZE - 1, labelcolor=INK)
        for text in drawn.get_texts():
            text.set_parse_math(False)


def bar(axes: Axes, shown: Any, unit: str, location: str) -> Any:
    """Adds a color bar to ``axes``."""
    found = axes.figure.colorbar(
        shown, ax=axes, location=location, fraction=0.06, pad=0.03, aspect=15
    )
    found.ax.tick_params(which="both", colors=INK, labelsize=SIZE - 2)
    found.outline.set_edgecolor(INK)
    found.set_label(name(unit), color=INK, fontsize=SIZE - 1, parse_math=False)
    return found


def svg(figure: Figure) -> str:
    """Returns the figure as inline SVG without XML header and size, drawn in ``currentColor``."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    found = text.getvalue()
    found = found[found.index("<svg") :].replace(INK, "currentColor")
    found = re.sub(r' d="([^"]*)"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), found)
    found = re.sub(r"<metadata>.*?</metadata>", "", found, flags=re.DOTALL)
    # ids must be unique on a page with many figures: keep only those that are referenced
    found = re.sub(r' id="[a-zA-Z0-9]+(?:\.axis)?_\d+"', "", found)
    head, rest = found.split(">", 1)
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest


def png(figure: Figure) -> bytes:
    """Returns the figure as PNG on white."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150, facecolor="white")
    return data.getvalue()

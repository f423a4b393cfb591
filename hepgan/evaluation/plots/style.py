"""What all figures share: size, ink, colors, and how they become SVG or PNG."""

import io
import re
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hepgan.data.io.names import printable

INK = "#0a0b0c"
"""Text and axes; ``svg`` writes it as the page's own color."""
COLORS = ("#3f90da", "#e76300", "#bd1f01", "#832db6", "#2a9d5c", "#b9ac70")
"""Of the generated samples; colors that the color-blind can tell apart (arXiv:2107.02270)."""
GREY = "#8a8f98"
SIZE = 8.0


LONGEST = 60
"""Characters of a name in a figure; longer names are cut."""


def name(text: str) -> str:
    """Returns the name ``text`` as a label: printable, cut to ``LONGEST``, and in the legend even if it starts with ``_``."""
    shown = printable(text, longest=LONGEST)
    return f" {shown}" if shown.startswith("_") else shown


def figure(
    width: float, height: float, *, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """An empty figure of ``width`` × ``height`` inches with a canvas of its own."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def styled(figure: Figure) -> Figure:
    """The same figure with the ink and letters that all figures have; labels are taken literally, not as formulas."""
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
    """A color for each of ``number`` generated samples."""
    return [COLORS[i % len(COLORS)] for i in range(number)]


def legend(axes: Axes) -> None:
    """A legend without a frame, where there is something to tell."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        drawn = axes.legend(frameon=False, fontsize=SIZE - 1, labelcolor=INK)
        for text in drawn.get_texts():
            text.set_parse_math(False)


def bar(axes: Axes, shown: Any, unit: str, location: str) -> Any:
    """A color bar beside or below ``axes``."""
    found = axes.figure.colorbar(
        shown, ax=axes, location=location, fraction=0.06, pad=0.03, aspect=15
    )
    found.ax.tick_params(which="both", colors=INK, labelsize=SIZE - 2)
    found.outline.set_edgecolor(INK)
    found.set_label(name(unit), color=INK, fontsize=SIZE - 1, parse_math=False)
    return found


def svg(figure: Figure) -> str:
    """The figure as SVG text for a page, without XML head and size; its ink is the page's ``currentColor``."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    found = text.getvalue()
    found = found[found.index("<svg") :].replace(INK, "currentColor")
    found = re.sub(r' d="([^"]*)"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), found)
    found = re.sub(r"<metadata>.*?</metadata>", "", found, flags=re.DOTALL)
    # many figures share a page: only what is referred to (glyphs, clips) may keep an id
    found = re.sub(r' id="[a-zA-Z0-9]+(?:\.axis)?_\d+"', "", found)
    head, rest = found.split(">", 1)
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest


def png(figure: Figure) -> bytes:
    """The figure as PNG on white."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150, facecolor="white")
    return data.getvalue()

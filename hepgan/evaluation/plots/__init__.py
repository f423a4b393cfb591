"""Figures of two or more samples. The only package that imports matplotlib and mplhep.

Every function returns a new ``Figure`` at its printed size, a column or a page wide, without pyplot or global state. ``svg``, ``pdf``
and ``png`` convert it to a file, ``files`` to all three at once; ``inline`` makes an SVG an element of a page that uses the page's text
color, for light and dark mode.
"""

from hepgan.evaluation.plots.curves import class_fractions, learning_curve, losses, observable, roc
from hepgan.evaluation.plots.images import correlations, mean_images, sample_grid
from hepgan.evaluation.plots.profiles import profile, response, slices
from hepgan.evaluation.plots.style import draw_files, files, inline, pdf, png, settings, svg

__all__ = [
    "class_fractions",
    "correlations",
    "draw_files",
    "files",
    "inline",
    "learning_curve",
    "losses",
    "mean_images",
    "observable",
    "pdf",
    "png",
    "profile",
    "response",
    "roc",
    "sample_grid",
    "settings",
    "slices",
    "svg",
]

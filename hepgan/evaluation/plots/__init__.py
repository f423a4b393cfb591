"""Figures of two or more samples. The only package that imports matplotlib and mplhep.

Every function returns a new ``Figure`` without pyplot or global state. ``svg`` converts it to text that uses the text color of the
page, for light and dark mode; ``png`` is for slides and papers.
"""

from hepgan.evaluation.plots.curves import class_fractions, losses, observable, response, roc
from hepgan.evaluation.plots.images import correlations, mean_images, sample_grid
from hepgan.evaluation.plots.style import png, svg

__all__ = [
    "class_fractions",
    "correlations",
    "losses",
    "mean_images",
    "observable",
    "png",
    "response",
    "roc",
    "sample_grid",
    "svg",
]

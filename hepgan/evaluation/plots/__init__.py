"""Figures of two or more samples. The only room that imports matplotlib and mplhep; no global state is touched.

Every function returns a ``Figure`` of its own, without pyplot. ``svg`` turns one into text whose ink follows the
page's color, so that one picture serves light and dark pages; ``png`` is for slides and papers.
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

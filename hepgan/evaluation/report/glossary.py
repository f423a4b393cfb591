"""Names, groups and definitions of the metrics in the report."""

from collections.abc import Mapping
from typing import NamedTuple

from hepgan.evaluation.metrics.scores import REGISTERED

CLASSIFIERS = "Classifiers"
DISTANCES = "Distances of all observables"
FIDELITY = "Fidelity and diversity"
DIGITS = "Digits"
OTHERS = "Other scores"
SINGLE = "Single observables"


class Term(NamedTuple):
    """A metric in the report.

    Attributes:
        label: Name.
        group: Heading of its table.
        definition: Definition in one or two sentences.
        factor: Factor that values are multiplied by.
    """

    label: str
    group: str
    definition: str
    factor: float = 1.0


_AUC = (
    "Area under the ROC curve of a classifier trained to separate generated from reference events, on {}. 0.5: it cannot; 1:"
    " it always can. The baseline separates halves of the reference."
)
_ACCURACY = "Fraction of events that the same classifier, on {}, assigns correctly after calibration; 0.5 by chance."

GLOSSARY: Mapping[str, Term] = {
    "auc_high": Term("AUC, observables", CLASSIFIERS, _AUC.format("all observables")),
    "auc_low": Term("AUC, cells", CLASSIFIERS, _AUC.format("all cells")),
    "auc_log": Term("AUC, log cells", CLASSIFIERS, _AUC.format("logarithms of all cells")),
    "accuracy_high": Term("accuracy, observables", CLASSIFIERS, _ACCURACY.format("all observables")),
    "accuracy_low": Term("accuracy, cells", CLASSIFIERS, _ACCURACY.format("all cells")),
    "accuracy_log": Term("accuracy, log cells", CLASSIFIERS, _ACCURACY.format("logarithms of all cells")),
    "fpd": Term(
        "FPD × 10³", DISTANCES,
        "Fréchet physics distance: of Gaussians fitted to the high-level observables, extrapolated to infinitely many events"
        " (arXiv:2211.10295). 0: equal.", 1000,
    ),
    "kpd": Term(
        "KPD × 10³", DISTANCES,
        "Kernel physics distance: unbiased maximum mean discrepancy of the high-level observables with a polynomial kernel of"
        " degree 4 (arXiv:2211.10295). 0: equal, and may be negative.", 1000,
    ),
    "correlation": Term(
        "correlations: rms difference", DISTANCES,
        "Root mean square difference of the correlation coefficients between observables.",
    ),
    "precision": Term(
        "precision", FIDELITY,
        "Fraction of generated events within the fifth-neighbor distance of a reference event; low if events are unrealistic"
        " (arXiv:1904.06991).",
    ),
    "recall": Term(
        "recall", FIDELITY,
        "Fraction of reference events within the fifth-neighbor distance of a generated event; low if kinds of events are"
        " missing (arXiv:1904.06991).",
    ),
    "density": Term(
        "density", FIDELITY,
        "Mean number of reference neighborhoods that contain a generated event, over 5; 1 for equal distributions"
        " (arXiv:2002.09797).",
    ),
    "coverage": Term(
        "coverage", FIDELITY,
        "Fraction of reference events whose neighborhood contains a generated event (arXiv:2002.09797).",
    ),
    "digit_confidence": Term("mean confidence", DIGITS, "Mean confidence of the digit classifier in its class."),
    "digit_balance": Term("class balance", DIGITS, "Half the sum of the absolute differences of the ten class fractions; 0: equal."),
    "digit_frechet": Term("Fréchet distance", DIGITS, "Fréchet distance of the digit classifier's features, extrapolated to infinitely many images."),
    "separation": Term(
        "separation power × 10³", SINGLE,
        "½ Σ (p − q)² / (p + q) over the bins of the normalized histograms, flow bins included. 0: equal, 1000: disjoint.", 1000,
    ),
    "chi_square": Term(
        "χ²/ndf", SINGLE,
        "Two-sample χ² of the shapes of the histograms per degree of freedom, flow bins included; for spectra with the"
        " covariance between bins (arXiv:physics/0605123).",
    ),
    "kolmogorov": Term("Kolmogorov distance", SINGLE, "Largest distance between the cumulative distributions."),
    "wasserstein": Term(
        "W₁/σ", SINGLE,
        "Area between the cumulative distributions (Wasserstein-1 distance) in units of the reference's standard deviation.",
    ),
    "mean_image": Term("largest pull", SINGLE, "Largest difference over cells of the mean √E between the mean images, in units of its error."),
}  # fmt: skip
"""Standard metrics by name, in the order of the report."""

NOTIONS: Mapping[str, str] = {
    "baseline": "The value for reference against reference with the same numbers of events. A perfect generator reaches it.",
    "n_sigma": "Distance from the baseline in units of the combined uncertainty; positive means worse. With many scores, some exceed 2 by chance.",
    "p-value": "Probability of a value at least as large if both samples have the same distribution.",
    "pull": "Difference divided by its statistical error; standard normal if both samples have the same distribution.",
}
"""Other terms of the report."""


def term_of(metric: str) -> Term:
    """Returns the term of a metric; a metric without an entry is listed under its registered label or its name."""
    if metric in GLOSSARY:
        return GLOSSARY[metric]
    registered = REGISTERED.get(metric)
    return Term(registered.label if registered else metric.replace("_", " "), OTHERS, "")

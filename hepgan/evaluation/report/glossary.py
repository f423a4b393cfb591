"""Names, groups and definitions of the metrics in the report."""

from collections.abc import Mapping
from typing import NamedTuple

from hepgan.evaluation.metrics.scores import CLASSIFIER_INPUTS, REGISTERED

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
    "auc_observables": Term("AUC, all observables", CLASSIFIERS, _AUC.format("all observables and conditions")),
    "auc_boosted": Term("AUC, boosted trees", CLASSIFIERS, _AUC.format("all observables and conditions, by gradient-boosted trees")),
    "auc_high": Term("AUC, CaloChallenge's observables", CLASSIFIERS, _AUC.format("the CaloChallenge's high-level features")),
    "auc_low": Term("AUC, cells", CLASSIFIERS, _AUC.format("all cells")),
    "auc_log": Term("AUC, log cells", CLASSIFIERS, _AUC.format("logarithms of all cells")),
    "auc_image": Term("AUC, images", CLASSIFIERS, _AUC.format("images, by a convolutional network")),
    **{
        name.replace("auc", "accuracy"): Term(f"accuracy, {text}", CLASSIFIERS, _ACCURACY.format(text))
        for name, text in CLASSIFIER_INPUTS.items()
    },
    "fpd": Term(
        "FPD × 10³", DISTANCES,
        "Fréchet physics distance: of Gaussians fitted to the high-level observables, extrapolated to infinitely many events"
        " (arXiv:2211.10295). 0: equal.", 1000,
    ),
    "fpd_trimmed": Term(
        "FPD × 10³, trimmed", DISTANCES, "The same without the outermost values of each observable, which dominate a heavy tail.", 1000,
    ),
    "kpd": Term(
        "KPD × 10³", DISTANCES,
        "Kernel physics distance: unbiased maximum mean discrepancy of the high-level observables with a polynomial kernel of"
        " degree 4 (arXiv:2211.10295). 0: equal, and may be negative.", 1000,
    ),
    "sliced_wasserstein": Term(
        "sliced W₁", DISTANCES, "Mean Wasserstein-1 distance of all observables and conditions, standardized, over random directions.",
    ),
    "energy_distance": Term(
        "energy distance × 10³", DISTANCES,
        "2 E|x − y| − E|x − x′| − E|y − y′| of all observables and conditions, standardized. 0: equal.", 1000,
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
    "duplicates": Term("duplicates", FIDELITY, "Fraction of generated events that repeat another one."),
    "copies": Term("copies of training events", FIDELITY, "Generated events that are closer to a training event than reference events are."),
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
    "tails": Term("tails", SINGLE, "Fraction of generated values beyond three standard deviations of both samples together."),
    "mean_image": Term("largest pull", SINGLE, "Largest difference over cells of the mean √E between the mean images, in units of its error."),
}  # fmt: skip
"""Standard metrics by name, in the order of the report."""

NOTIONS: Mapping[str, str] = {
    "baseline": "The value for reference against reference with the same numbers of events. A perfect generator reaches it.",
    "n_sigma": "Gaussian significance of the p-value, or else the distance from the baseline in units of the combined uncertainty; positive"
    " means worse. With many scores, some exceed 2 by chance: red are those that are significant among all that count.",
    "p-value": "Probability of a value at least as large if both samples have the same distribution.",
    "corrected p-value": "Probability that the smallest of all p-values is at least as small, 1 − (1 − p)ⁿ for n independent tests.",
    "pull": "Difference divided by its statistical error; standard normal if both samples have the same distribution.",
}
"""Other terms of the report."""


def term_of(metric: str) -> Term:
    """Returns the term of a metric; a metric without an entry is listed under its registered label or its name."""
    if metric in GLOSSARY:
        return GLOSSARY[metric]
    registered = REGISTERED.get(metric)
    return Term(registered.label if registered else metric.replace("_", " "), OTHERS, "")


def input_of(metric: str) -> str:
    """Returns the input of a classifier, from the label of its AUC."""
    return term_of(metric).label.removeprefix("AUC, ")

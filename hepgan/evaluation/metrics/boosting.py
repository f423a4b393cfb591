"""Boosted decision trees as a classifier two-sample test, cross-validated over all events (scikit-learn, ``hepgan[boosting]``)."""

import numpy as np
import numpy.typing as npt

from hepgan.errors import DataError
from hepgan.evaluation.metrics import classifier
from hepgan.evaluation.metrics.classifier import FOLDS, MIN_EVENTS, Separability
from hepgan.random_streams import child_seed, numpy_generator

ITERATIONS = 200
MAX_TRAINED = 50_000
"""Largest number of events of each sample that a training uses."""


def boosted_separability(
    reference: npt.NDArray[np.float32], generated: npt.NDArray[np.float32], *, seed: int
) -> Separability:
    """Trains boosted trees on four fifths of ``reference[E, F]`` and ``generated[G, F]`` and tests the last fifth, five times.

    The AUC is the mean over the fifths, each of which compares scores of one training only.

    Raises:
        DataError: scikit-learn is not installed, or there are fewer than 200 events in a sample.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ModuleNotFoundError as error:
        raise DataError("needs scikit-learn: pip install 'hepgan[boosting]'") from error
    if min(len(reference), len(generated)) < MIN_EVENTS:
        raise DataError(
            f"a classifier needs {MIN_EVENTS} events in each sample, but there are {len(reference)} and {len(generated)}"
        )
    rng = numpy_generator(seed, "evaluation", "boosted trees")
    parts = [rng.integers(0, FOLDS, len(sample)) for sample in (reference, generated)]
    aucs, variances = [], []
    probabilities = [np.zeros(len(sample)) for sample in (reference, generated)]
    for fold in range(FOLDS):
        train = [rng.permutation(np.flatnonzero(part != fold)) for part in parts]
        size = min(MAX_TRAINED, *map(len, train))
        trees = HistGradientBoostingClassifier(
            learning_rate=0.1, max_iter=ITERATIONS, max_leaf_nodes=15, l2_regularization=1.0,
            early_stopping=True, validation_fraction=0.2, n_iter_no_change=10,
            random_state=child_seed(seed, "evaluation", f"trees {fold}") % 2**32,
        )  # fmt: skip
        trees.fit(
            np.concatenate([reference[train[0][:size]], generated[train[1][:size]]]),
            np.repeat([0, 1], size),
        )
        scores = []
        for sample, part, probability in zip(
            (reference, generated), parts, probabilities, strict=True
        ):
            probability[part == fold] = trees.predict_proba(sample[part == fold])[:, 1]
            scores.append(probability[part == fold])
        auc, auc_error = classifier.area_under_curve(*scores)
        aucs.append(auc)
        variances.append(auc_error**2)
    return Separability(
        auc=float(np.mean(aucs)),
        error=float(np.sqrt(np.mean(variances) / FOLDS)),
        **dict(
            zip(("accuracy", "accuracy_error"), classifier.accuracy(*probabilities), strict=True)
        ),
        curve=classifier.roc_curve(*probabilities),
        null_error=classifier.null_error(len(reference), len(generated)),
        tested=np.arange(len(generated)),
        probabilities=probabilities[1],
        reference_probabilities=probabilities[0],
    )

"""Classifier two-sample test: AUC 0.5 means that the classifier cannot distinguish generated events from the reference.

Events are split into training (three fifths), validation (one fifth, which selects the epoch) and test (one fifth, from which
the results come); further trainings test other fifths. ``challenge`` is the CaloChallenge's network (arXiv:2410.21611): three layers of 2048,
Adam 2e-4, batches of 1000, 50 epochs, stopped after ten epochs without improvement. ``quick`` is a small network that trains in seconds, ``image``
a convolutional one.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor, nn

from hepgan.errors import DataError
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.progress import ProgressCallback, no_progress
from hepgan.random_streams import numpy_generator, torch_generator

MIN_EVENTS = 200
FOLDS = 5
"""Number of parts: one for test, one for validation, the rest for training."""


NO_EVENTS = np.empty(0, dtype=np.int64)
NO_VALUES = np.empty(0)


class Image(NamedTuple):
    """Image among the features: its first column and its shape (rows, columns)."""

    start: int
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]


class Setup(NamedTuple):
    """Network and training; training stops after ``patience`` epochs without improvement."""

    width: int
    depth: int
    rate: float
    batch: int
    epochs: int
    patience: int


SETUPS = {
    "quick": Setup(width=256, depth=2, rate=1e-3, batch=200, epochs=12, patience=12),
    "challenge": Setup(width=2048, depth=3, rate=2e-4, batch=1000, epochs=50, patience=10),
    "image": Setup(width=128, depth=1, rate=1e-3, batch=200, epochs=20, patience=5),
}
Network = Literal["quick", "challenge", "image"]
CHANNELS = (16, 32)
"""Channels of the convolutions of the classifier of images."""


class Separability(NamedTuple):
    """Results of the classifiers of two samples.

    Attributes:
        auc: Area under the ROC curve on test events, mean over trainings.
        error: DeLong's error; no two trainings share test events.
        accuracy: Accuracy on test events after isotonic calibration on validation events.
        accuracy_error: Statistical error of the accuracy.
        curve: ``[2, 101]`` false and true positive rates of the last training.
        null_error: Standard deviation of the AUC for equal distributions: that of the Mann-Whitney statistic of the test events.
        tested: Indices of the generated test events of the last training.
        probabilities: Calibrated probability of each of them of being generated.
        reference_probabilities: The same for the test events of the reference.
    """

    auc: float
    error: float
    accuracy: float
    accuracy_error: float
    curve: Floats
    null_error: float = 0.0
    tested: npt.NDArray[np.int64] = NO_EVENTS
    probabilities: Floats = NO_VALUES
    reference_probabilities: Floats = NO_VALUES

    @property
    def p_value(self) -> float:
        """Probability of an AUC at least as large for equal distributions."""
        return float(scipy.stats.norm.sf((self.auc - 0.5) / self.null_error))


def null_error(negative: int, positive: int) -> float:
    """Returns the standard deviation of the AUC of numbers of events with equal distributions (Mann and Whitney).

    >>> round(null_error(1000, 1000), 4)
    0.0129
    """
    return float(np.sqrt((negative + positive + 1) / (12 * negative * positive)))


def separability(
    reference: npt.NDArray[np.float32],
    generated: npt.NDArray[np.float32],
    *,
    seed: int,
    network: Network = "quick",
    images: Sequence[Image] = (),
    trainings: int = 1,
    device: str = "cpu",
    progress: ProgressCallback = no_progress,
) -> Separability:
    """Trains classifiers of ``reference[E, F]`` against equally many events of ``generated[G, F]``.

    Args:
        reference: Features of the reference.
        generated: Features of the generated sample.
        seed: Seed of splits, initial weights and the order of events.
        network: Network and training.
        images: Images among the features, which the network ``image`` convolves.
        trainings: Number of trainings, at most 5.
        device: Device of the training.
        progress: Progress callback.

    Raises:
        DataError: fewer than 200 events in a sample.
    """
    number = min(len(reference), len(generated))
    if number < MIN_EVENTS:
        raise DataError(
            f"a classifier needs {MIN_EVENTS} events in each sample, but there are only {number}"
        )

    def report(training: int, text: str, fraction: float, remark: str) -> None:
        progress(text, (training + fraction) / trainings, remark)

    results = []
    for i in range(trainings):
        generator = torch_generator(seed, "evaluation", "classifier", i)
        parts = _three_parts(reference, generated, number, seed, i, device)
        setup = SETUPS[network]
        net = (_Convolutional(reference.shape[1], images, setup, generator)
               if images else _network(reference.shape[1], setup, generator))  # fmt: skip
        results.append(_one(net.to(device), parts, setup, generator, functools.partial(report, i)))
    rows = _split(len(reference), len(generated), number, seed, trainings - 1)[2]
    tested = len(rows[0]) * trainings
    return _mean(results)._replace(null_error=null_error(tested, tested), tested=rows[1])


def _mean(results: list[Separability]) -> Separability:
    """Returns the means of several trainings, whose test events are different."""
    number = len(results)
    aucs, errors, accuracies, accuracy_errors = np.array([one[:4] for one in results]).T
    return results[-1]._replace(
        auc=float(aucs.mean()),
        error=float(np.sqrt(np.mean(errors**2) / number)),
        accuracy=float(accuracies.mean()),
        accuracy_error=float(np.sqrt(np.mean(accuracy_errors**2) / number)),
    )


def area_under_curve(negative: Floats, positive: Floats) -> tuple[float, float]:
    """Returns the AUC of scores, P(positive > negative), and its error (DeLong, Biometrics 44 (1988) 837)."""
    # scipy.stats.mannwhitneyu has the same AUC, U/(n m), but not the fraction of the other sample below or above each score, of which
    # the error is made; the AUC is their mean.
    n, m = len(negative), len(positive)
    ranks = scipy.stats.rankdata(np.concatenate([negative, positive]))
    below = (ranks[n:] - scipy.stats.rankdata(positive)) / n
    above = 1 - (ranks[:n] - scipy.stats.rankdata(negative)) / m
    return float(below.mean()), float(np.sqrt(below.var(ddof=1) / m + above.var(ddof=1) / n))


def _three_parts(
    reference: npt.NDArray[np.float32],
    generated: npt.NDArray[np.float32],
    number: int,
    seed: int,
    turn: int,
    device: str,
) -> list[tuple[Tensor, Tensor]]:
    """Returns events and labels for training, validation and test in the ``turn``-th of five rotations."""
    parts = []
    for rows, others in _split(len(reference), len(generated), number, seed, turn):
        x = np.concatenate([reference[rows], generated[others]])
        y = np.concatenate([np.zeros(len(rows)), np.ones(len(others))]).astype(np.float32)
        parts.append((torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)))
    return parts


def _split(
    n_reference: int, n_generated: int, number: int, seed: int, turn: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Returns the indices of the events of both samples for training, validation and test."""
    rng = numpy_generator(seed, "evaluation", "splits of the classifier")
    samples = [
        np.array_split(rng.permutation(n)[:number], FOLDS) for n in (n_reference, n_generated)
    ]
    first, second = (fifths[turn:] + fifths[:turn] for fifths in samples)
    return [
        (np.concatenate(first[part]), np.concatenate(second[part]))
        for part in (slice(2, None), slice(1, 2), slice(0, 1))
    ]


def _one(
    net: nn.Module,
    parts: list[tuple[Tensor, Tensor]],
    setup: Setup,
    generator: torch.Generator,
    progress: ProgressCallback,
) -> Separability:
    """Returns the results of one training."""
    (x, y), validation, test = parts
    optimizer = torch.optim.Adam(net.parameters(), lr=setup.rate, fused=True)
    best, best_epoch, kept = -1.0, 0, _copy(net)
    for epoch in range(setup.epochs):
        for rows in torch.split(_order(len(x), generator, x.device), setup.batch):
            loss = nn.functional.binary_cross_entropy_with_logits(net(x[rows])[:, 0], y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        area = area_under_curve(*_scores(net, *validation))[0]
        if area > best:
            best, best_epoch, kept = area, epoch, _copy(net)
        progress("training", (epoch + 1) / setup.epochs, "")
        if epoch - best_epoch >= setup.patience:
            break
    net.load_state_dict(kept)
    negative, positive = _scores(net, *test)
    probabilities = _calibrated(_scores(net, *validation), (negative, positive))
    return Separability(
        *area_under_curve(negative, positive),
        *accuracy(*probabilities),
        roc_curve(negative, positive),
        probabilities=probabilities[1],
        reference_probabilities=probabilities[0],
    )


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def _order(number: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randperm(number, generator=generator).to(device)


def _network(features: int, setup: Setup, generator: torch.Generator) -> nn.Sequential:
    widths = [features] + [setup.width] * setup.depth
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.LeakyReLU()]
    net = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
    _initialize(net, generator)
    return net


def _initialize(net: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                bound = layer.weight[0].numel() ** -0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)


class _Convolutional(nn.Module):
    """Two convolutions per image, whose means and maxima over the image a dense network classifies together with all other features."""

    def __init__(
        self, features: int, images: Sequence[Image], setup: Setup, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.images = images
        self.stacks = nn.ModuleList(_convolutions() for _ in images)
        pixels = {i for image in images for i in range(image.start, image.start + image.size)}
        self.others = [i for i in range(features) if i not in pixels]
        self.head = _network(len(self.others) + 2 * CHANNELS[-1] * len(images), setup, generator)
        _initialize(self.stacks, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits ``[B, 1]`` of the features ``[B, F]``."""
        parts = [x[:, self.others]]
        for image, stack in zip(self.images, self.stacks, strict=True):
            pixels = x[:, image.start : image.start + image.size]
            maps = stack(pixels.reshape(-1, 1, *image.shape))
            parts += [maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))]
        logits: Tensor = self.head(torch.cat(parts, dim=1))
        return logits


def _convolutions() -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((1, *CHANNELS)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU()]
    return nn.Sequential(*layers)


def _scores(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Floats, Floats]:
    with torch.no_grad():
        logits = (
            torch.cat([net(rows)[:, 0] for rows in torch.split(x, 10_000)]).double().cpu().numpy()
        )
    generated = y.cpu().numpy() > 0.5
    return logits[~generated], logits[generated]


def _calibrated(
    validation: tuple[Floats, Floats], test: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Returns the probabilities of being generated of the test events, by isotonic regression on the validation events."""
    logits = np.concatenate(validation)
    labels = np.repeat([0.0, 1.0], [len(part) for part in validation])
    order = np.argsort(logits)
    probability = scipy.optimize.isotonic_regression(labels[order]).x
    negative, positive = (np.interp(part, logits[order], probability) for part in test)
    return negative, positive


def accuracy(negative: Floats, positive: Floats) -> tuple[float, float]:
    """Returns the accuracy with its error; events with a probability of one half count as half correct."""
    correct = np.concatenate([(1 - np.sign(negative - 0.5)) / 2, (1 + np.sign(positive - 0.5)) / 2])
    return float(correct.mean()), float(correct.std() / np.sqrt(len(correct)))


def roc_curve(negative: Floats, positive: Floats) -> Floats:
    """Returns the ``[2, 101]`` false and true positive rates of scores at their percentiles."""
    cuts = np.quantile(np.concatenate([negative, positive]), np.linspace(1, 0, 101))
    false, true = (np.mean(part[None, :] >= cuts[:, None], axis=1) for part in (negative, positive))
    return np.stack(
        [np.concatenate([[0.0], false[:-1], [1.0]]), np.concatenate([[0.0], true[:-1], [1.0]])]
    )

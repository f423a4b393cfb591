"""Scores of MNIST digits from a small digit classifier: Fréchet distance, confidence, class balance.

Inception, the usual network for such scores, was trained on photographs and does not suit digits. This classifier
is a convolutional network with 0.1 M parameters that ``benchmarks/train_digit_classifier.py`` trains on MNIST's 60,000
training digits; its weights are shipped next to this module.

| property | function |
|---|---|
| quality and class balance | ``digit_scores``: mean confidence, fraction of each class |
| variety | ``fpd.frechet_distance`` of ``digit_scores(...).features`` |
"""

import functools
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn

from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError

FEATURES = 64
"""Width of the penultimate layer, whose outputs are the features of the Fréchet distance."""


def digit_field(schema: Schema) -> str:
    """Returns the name of the field that holds the digits.

    Raises:
        RunError: the schema does not consist of one field of 784 values.
    """
    (name, field), *others = schema.fields.items()
    if others or field.size != 28 * 28:
        raise RunError(
            "[evaluate] digits = true requires events with one field of 28 × 28 pixels, but the schema has "
            + ", ".join(f"{n} {list(f.shape)}" for n, f in schema.fields.items())
        )
    return name


class DigitClassifier(nn.Module):
    """Two convolutions and two dense layers: ``images[E, 1, 28, 28]`` in 0..1 -> ``logits[E, 10]``."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, FEATURES),
            nn.ReLU(),
        )
        self.last = nn.Linear(FEATURES, 10)

    def features(self, images: Tensor) -> Tensor:
        """Returns the ``[E, 64]`` activations of the penultimate layer."""
        activations: Tensor = self.convolutions(images)
        return activations

    def forward(self, images: Tensor) -> Tensor:
        """Returns the ``[E, 10]`` logits."""
        logits: Tensor = self.last(self.features(images))
        return logits


class DigitScores(NamedTuple):
    """Classifier output for a sample of images.

    Attributes:
        confidence: Mean over images of the largest class probability.
        fractions: ``[10]`` fraction of the images in each class.
        features: ``[E, 64]`` activations of the penultimate layer.
        confidences: ``[E]`` the largest class probability of each image.
        classes: ``[E]`` the class of each image.
    """

    confidence: float
    fractions: npt.NDArray[np.float64]
    features: npt.NDArray[np.float64]
    confidences: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]


@functools.cache
def classifier() -> DigitClassifier:
    """Returns the trained classifier that is shipped with the package."""
    weights = (
        resources.files("hepgan.evaluation.metrics").joinpath("digits.safetensors").read_bytes()
    )
    network = DigitClassifier()
    network.load_state_dict(
        {name: value.float() for name, value in safetensors.torch.load(weights).items()}
    )
    return network.eval()


def digit_scores(images: npt.ArrayLike, *, batch_size: int = 1000) -> DigitScores:
    """Returns the classifier's output for ``images[E, 28, 28]`` with pixels in 0..255.

    Raises:
        DataError: the images have another shape, or there are none.
    """
    pixels = np.asarray(images)
    if pixels.ndim != 3 or pixels.shape[1:] != (28, 28) or len(pixels) == 0:
        raise DataError(
            f"digit scores need images of shape (E, 28, 28) with E > 0, but got {pixels.shape}"
        )
    network = classifier()
    features, probabilities = [], []
    with torch.no_grad():
        for start in range(0, len(pixels), batch_size):
            batch = np.asarray(pixels[start : start + batch_size], dtype=np.float32)[:, None] / 255
            hidden = network.features(torch.from_numpy(batch))
            features.append(hidden.double())
            probabilities.append(network.last(hidden).double().softmax(dim=1))
    likeliest = torch.cat(probabilities).max(dim=1)
    classes = likeliest.indices.numpy()
    return DigitScores(
        confidence=float(likeliest.values.mean()),
        fractions=np.bincount(classes, minlength=10) / len(classes),
        features=torch.cat(features).numpy(),
        confidences=likeliest.values.numpy(),
        classes=classes,
    )

"""Digits as a small digit classifier sees them: Fréchet distance, confidence, class balance.

Inception, the usual network for such scores, was trained on photographs and is the wrong judge of digits. The judge here
is a convolutional network of 0.1 M parameters that ``benchmarks/train_digit_classifier.py`` trains on MNIST's 60,000
training digits; its weights are shipped beside this module. One generated sample against one reference:

| question | function |
|---|---|
| are they digits, and all ten? | ``digit_scores``: mean confidence, share of each class |
| are they as varied as the reference? | ``frechet.frechet_distance`` of ``digit_scores(...).features`` |
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
"""Width of the layer before the last, whose outputs are the features of the Fréchet distance."""


def digit_field(schema: Schema) -> str:
    """Returns the name of the field that holds the digits.

    Raises:
        RunError: the schema has other fields than one of 784 values.
    """
    (name, field), *others = schema.fields.items()
    if others or field.size != 28 * 28:
        raise RunError(
            "[evaluate] digits = true is for events of one field of 28 × 28 pixels, but the schema has "
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
        """The ``[E, 64]`` activations before the last layer."""
        found: Tensor = self.convolutions(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """The ``[E, 10]`` logits."""
        logits: Tensor = self.last(self.features(images))
        return logits


class DigitScores(NamedTuple):
    """What the classifier says of a sample of images.

    Attributes:
        confidence: Mean over images of the largest class probability.
        fractions: ``[10]`` share of the images in each class.
        features: ``[E, 64]`` activations before the last layer, for a Fréchet distance.
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
    """The trained classifier that the package ships."""
    weights = (
        resources.files("hepgan.evaluation.metrics").joinpath("digits.safetensors").read_bytes()
    )
    network = DigitClassifier()
    network.load_state_dict(
        {name: value.float() for name, value in safetensors.torch.load(weights).items()}
    )
    return network.eval()


def digit_scores(images: npt.ArrayLike, *, batch_size: int = 1000) -> DigitScores:
    """What the shipped classifier says of ``images[E, 28, 28]``, whose pixels are 0..255.

    Raises:
        DataError: images of another shape, or none.
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

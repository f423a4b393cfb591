"""Trains the digit classifier for scoring generated digits: python benchmarks/train_digit_classifier.py FOLDER.

FOLDER contains MNIST's four files (``train-images-idx3-ubyte.gz`` ...). Saves the weights as float16 to
``hepgan/evaluation/metrics/digits.safetensors`` and prints the accuracy on the 10,000 test digits. Takes about two minutes on a CPU core.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from hepgan.evaluation.metrics import digits

SEED, EPOCHS, BATCH, RATE = 1, 4, 64, 2e-3


def read_idx(path: Path) -> np.ndarray:
    """Returns the array in a gzipped IDX file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def load(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Returns images ``[E, 1, 28, 28]`` in 0..1 and labels ``[E]`` of ``part``, "train" or "t10k"."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return torch.tensor(images[:, None] / np.float32(255)), torch.tensor(labels.astype(np.int64))


def train(images: Tensor, labels: Tensor) -> digits.DigitClassifier:
    """Trains a classifier with Adam, a one-cycle schedule and shifts of up to one pixel."""
    torch.manual_seed(SEED)
    network = digits.DigitClassifier()
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images))[: steps // EPOCHS * BATCH].split(BATCH):
            shift = torch.randint(-1, 2, (2,)).tolist()
            batch = torch.roll(images[rows], shift, dims=(2, 3))
            loss = nn.functional.cross_entropy(network(batch), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def main() -> None:
    """Trains the classifier, saves it as float16, and prints the test accuracy of the saved weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    network = train(*load(folder, "train"))
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    path = Path(digits.__file__).with_name("digits.safetensors")
    path.write_bytes(safetensors.torch.save(weights))
    images, labels = load(folder, "t10k")
    scores = digits.digit_scores(images[:, 0].numpy() * 255)
    accuracy = (scores.classes == labels.numpy()).mean()
    print(f"{path}: {path.stat().st_size} bytes, test accuracy {accuracy:.4f}")
    print(f"mean confidence on the test digits {scores.confidence:.4f}")


if __name__ == "__main__":
    main()

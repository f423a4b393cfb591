"""Fully trained preset ``mnist``: python benchmarks/digits.py FOLDER TRAIN.root TEST.root [--steps N] [--seeds N...].

The two files contain MNIST's 60,000 and 10,000 digits (``hepgan convert mnist train-images… train-labels… TRAIN.root``). The Fréchet
distance compares the digit classifier's features of 10,000 generated digits with the 10,000 test digits, extrapolated to infinitely many
events; its baseline uses 10,000 training digits instead. Writes FOLDER/digits.json and FOLDER/digits.md.
"""

import argparse
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from presets import table, write

import hepgan
from hepgan.evaluation import digit_scores
from hepgan.evaluation.metrics.fpd import extrapolated_frechet, frechet_distance
from hepgan.pipeline import load, train


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("train")
    options.add_argument("test")
    options.add_argument("--steps", type=int, default=12_000)
    options.add_argument("--seeds", type=int, nargs="+", default=[1])
    chosen = options.parse_args()
    rows = [measure(chosen, seed) for seed in chosen.seeds]
    write(chosen.folder / "digits.json", {"rows": rows})
    (chosen.folder / "digits.md").write_text(table(rows))
    print(table(rows))


def measure(chosen: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Trains, unless the run exists in the folder, and returns the scores."""
    run_folder = chosen.folder / f"mnist-full-{seed}"
    changes = {"seed": seed, "train.steps": chosen.steps, "data.files": [chosen.train]}
    fractions = {"data.test": 0.01, "data.validation": 0.09}
    run = load("mnist", {**changes, **fractions})
    if not (run_folder / "gan.json").is_file():
        train(run, run_folder, device="cpu", resume=run_folder.exists())
    gan = hepgan.GAN.load(run_folder)
    test, training = (hepgan.read(path, run.schema) for path in (chosen.test, chosen.train))
    some = np.random.default_rng(seed).choice(len(training), len(test), replace=False)
    images = {
        "test": ak.to_numpy(test["image"]),
        "train": ak.to_numpy(training["image"])[some],
        "generated": ak.to_numpy(gan.sample(label=ak.to_numpy(test["label"]), seed=99)["image"]),
        "even": ak.to_numpy(gan.sample(10_000, seed=98)["image"]),
    }
    scores = {name: digit_scores(part) for name, part in images.items()}
    row: dict[str, Any] = {"preset": "mnist", "seed": seed, "steps": chosen.steps, "n": len(test)}
    for name in ("generated", "train"):
        pair = scores["test"].features, scores[name].features
        estimate = extrapolated_frechet(*pair, seed=1)
        row[f"Fréchet, {name}"], row[f"error, {name}"] = estimate.value, estimate.error
        row[f"Fréchet at this n, {name}"] = frechet_distance(*pair)
    row["confidence"], row["of test digits"] = (
        scores["generated"].confidence,
        scores["test"].confidence,
    )
    class_fractions = scores["even"].fractions
    return row | {"rarest": float(class_fractions.min()), "commonest": float(class_fractions.max())}


if __name__ == "__main__":
    main()

"""Fine-tuning compared with training from scratch: python benchmarks/fine_tuning.py FOLDER angles.root SEED... [--showers 1500].

Trains on a random choice of the showers at 5 degrees and less in the file, without its last fifth, and compares with all other showers
at these angles. Two GANs to start from: the pretrained ``showers-fast``, with its layouts, whose only condition is the energy; and the preset
``showers-angles``, fitted to the showers at more than 5 degrees, whose conditions are all conditions.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
from measuring import about, write

from hepgan import pipeline
from hepgan.data.io import reader, writer
from hepgan.evaluation.report.evaluation import evaluate
from hepgan.random_streams import numpy_generator

METRICS = ("auc_observables", "auc_boosted", "auc_low")
LARGEST = np.radians(5)

CASES: dict[str, dict[str, Any]] = {
    "showers-fast": {},
    "showers-angles": {
        "encoding.steps": [
            {
                "step": "energy_tree",
                "incident": "energy",
                "threshold": 0.001,
                "hidden": 48,
                "steps": 1500,
            }
        ]
    },
}
"""Presets to start from, with changes: smaller networks, because few showers do not need more."""


def split_file(path: str, folder: Path, showers: int, seed: int) -> tuple[Path, Path, ak.Array]:
    """Writes few showers at small angles and all at large ones, and returns the files and the remaining ones at small angles."""
    schema = reader.resolve([path], pipeline.load("showers-angles").schema)
    events = reader.read(path, schema)
    small = ak.to_numpy(events["theta"]) <= LARGEST
    first = np.arange(len(events)) < len(events) * 4 // 5
    choice = numpy_generator(seed, "order").permutation(np.flatnonzero(small & first))
    few, wide = folder / f"few-{seed}.root", folder / "wide.root"
    for target, chosen in ((few, choice[:showers]), (wide, np.flatnonzero(~small & first))):
        writer.write(target, events[np.sort(chosen)], schema, tree="showers", overwrite=True)
    rest = np.concatenate([choice[showers:], np.flatnonzero(small & ~first)])
    return few, wide, events[np.sort(rest)]


def measure(
    preset: str, changes: Mapping[str, Any], folder: Path, test: ak.Array, seed: int
) -> dict[str, Any]:
    """Returns the scores and the time of a training."""
    start = time.process_time()
    run = pipeline.load(preset, {"seed": seed, **changes})
    gan, _ = pipeline.train(run, folder, device="cpu", overwrite=True)
    seconds = time.process_time() - start
    conditions = {name: ak.to_numpy(test[name]) for name in gan.schema.conditions}
    generated = gan.sample(len(test), seed=seed, conditions=conditions)
    result = evaluate(
        test, generated, schema=gan.schema, geometry=run.geometry, metrics=METRICS, seed=seed
    )
    scores = {score.metric: score for score in result.scores}
    row: dict[str, Any] = {"seed": seed, "reference": len(test), "CPU [s]": seconds}
    for metric in METRICS:
        row[metric] = scores[metric].value
        row[f"{metric} error"] = scores[metric].error
    return row


def main() -> None:
    """Runs all trainings and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file")
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--showers", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=0, help="adversarial steps of both presets")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for preset in options.cases:
        rows = []
        for seed in options.seeds:
            few, wide, test = split_file(options.file, options.folder, options.showers, seed)
            changes = {
                **CASES[preset], "threads": 1, "train.steps": options.steps,
                "train.validate_every": options.steps, "data.test": 0.01,
            }  # fmt: skip
            other = preset
            if preset != "showers-fast":
                other = str(options.folder / "wide")
                if not (options.folder / "wide" / "gan.json").exists():
                    run = pipeline.load(preset, changes | {"data.files": [str(wide)], "train.steps": 0})  # fmt: skip
                    pipeline.train(run, other, device="cpu", overwrite=True)
            for name, start_from in (("from scratch", ""), ("fine-tuned", other)):
                changes |= {"data.files": [str(few)], "train.start_from": start_from}
                row = measure(preset, changes, options.folder / f"{preset}-{name}", test, seed)
                rows.append({"training": name, **row})
                print(rows[-1], flush=True)
        tables[preset] = rows + differences(rows)
    facts = about(torch.device("cpu"), showers=options.showers, steps=options.steps)
    write(options.folder, "fine_tuning", facts, tables)


def differences(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the mean difference, fine-tuned minus from scratch, with its standard error over seeds."""
    scratch, tuned = (
        [row for row in rows if row["training"] == name] for name in ("from scratch", "fine-tuned")
    )
    row: dict[str, Any] = {"training": "mean difference", "seed": "", "reference": "", "CPU [s]": 0}
    for name in METRICS:
        change = np.array([b[name] - a[name] for a, b in zip(scratch, tuned, strict=True)])
        row[name] = float(change.mean())
        row[f"{name} error"] = float(change.std(ddof=1) / len(change) ** 0.5) if len(change) > 1 else 0.0  # fmt: skip
    return [row]


if __name__ == "__main__":
    main()

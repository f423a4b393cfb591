"""Speed of the scores and coverage of their uncertainties: python benchmarks/evaluation.py FOLDER [--toys N].

Times the distances of 50,000 events with 362 features and the observables of 100,000 showers. Determines the coverage from the pulls of
every joint score, the separation power and the classifier over toys of known distributions. Writes FOLDER/evaluation.json and
FOLDER/evaluation.md.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hepgan.data.io import reader
from hepgan.evaluation.histograms import to_arrays
from hepgan.evaluation.metrics import classifier, fpd, kpd, per_observable, prdc, statistics
from hepgan.evaluation.metrics.statistics import Counts, Estimate, Floats
from hepgan.evaluation.observables.standard import evaluate_observables, observables_for
from hepgan.pipeline import load

EDGES = np.concatenate([[-np.inf], np.linspace(-2, 2, 21), [np.inf]])
SHIFTS = (0.0, 0.1, 0.4)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--toys", type=int, default=200)
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    results = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "speed": list(speed()),
        "pulls": [pull for shift in SHIFTS for pull in pulls(shift, chosen.toys)],
    }
    (chosen.folder / "evaluation.json").write_text(json.dumps(results, indent=2))
    text = table(results["speed"]) + "\n" + table(results["pulls"])
    (chosen.folder / "evaluation.md").write_text(text)
    print(text)


def speed() -> Iterator[dict[str, Any]]:
    """Returns the CPU and wall seconds of the expensive metrics."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(362, 362)) / 19
    x, y = (rng.normal(size=(50_000, 362)) @ mixing for _ in range(2))
    yield timed("FPD of 50,000 × 362", lambda: fpd.fpd(x, y, seed=1))
    yield timed("KPD of 50,000 × 362", lambda: kpd.kpd(x, y, seed=1))
    preset = load("showers")
    schema = reader.resolve(preset.data.files, preset.schema)
    sample = to_arrays(reader.read(preset.data.files, schema))
    showers = {name: np.concatenate([cells] * 10) for name, cells in sample.items()}
    observables = observables_for(schema, preset.geometry)
    yield timed(
        f"observables of {len(showers['energy']):,} showers",
        lambda: evaluate_observables(showers, observables),
    )


def timed(name: str, task: Callable[[], Any]) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    task()
    return {
        "task": name,
        "CPU s": round(time.process_time() - cpu, 1),
        "wall s": round(time.perf_counter() - wall, 1),
        "peak memory so far [GB]": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2
        ),
    }


def pulls(shift: float, toys: int) -> Iterator[dict[str, Any]]:
    """Returns the standard deviation of each score over toys, and the uncertainties that it reports."""
    every: dict[str, list[Estimate]] = {}
    for seed in range(toys):
        for name, estimate in estimates(*samples(seed, shift), seed).items():
            every.setdefault(name, []).append(estimate)
    for name, toy_estimates in every.items():
        value, error, baseline, baseline_error = np.array(
            [estimate[:4] for estimate in toy_estimates]
        ).T
        yield {
            "score": name,
            "shift": shift,
            "mean": f"{value.mean():.4g}",
            "spread": f"{value.std():.3g}",
            "error": f"{np.sqrt(np.mean(error**2)):.3g}",
            "width of pulls": f"{((value - value.mean()) / error).std():.2f}",
            "baseline": f"{baseline.mean():.4g}",
            "its error": f"{baseline_error.mean():.2g}",
        }


def samples(seed: int, shift: float) -> tuple[Floats, Floats]:
    """Returns two samples of 2,000 events with six correlated features; the second one is scaled and shifted."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(6) + 0.4 * np.tri(6, k=-1)
    x, y = np.tanh(rng.normal(size=(2, 2000, 6)) @ mixing.T)
    return x, y * (1 + shift) + shift * np.eye(6)[0]


def estimates(x: Floats, y: Floats, seed: int) -> dict[str, Estimate]:
    p, q = (np.histogram(sample[:, 0], EDGES)[0].astype(float) for sample in (x, y))
    network = classifier.separability(x.astype(np.float32), y.astype(np.float32), seed=seed)
    return {
        "FPD": fpd.fpd(x, y, seed=seed),
        "KPD": kpd.kpd(x, y, seed=seed),
        **prdc.prdc_scores(x, y, seed=seed),
        "correlations": per_observable.correlation_distance(x, y, seed=seed),
        "separation": statistics.separation(Counts(p, p), Counts(q, q), seed=seed),
        "χ²/ndf": statistics.chi_square(Counts(p, p), Counts(q, q)),
        "Kolmogorov": statistics.kolmogorov(x[:, 0], y[:, 0]),
        "W1": statistics.wasserstein(x[:, 0], y[:, 0], seed=seed),
        "AUC": Estimate(network.auc, network.error, 0.5, 0.0),
        "accuracy": Estimate(network.accuracy, network.accuracy_error, 0.5, 0.0),
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in rows)]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


if __name__ == "__main__":
    main()

"""A table with the recipe of ``hepgan init`` and nothing else: python benchmarks/tables.py EVENTS SEED...

Makes EVENTS events of eight columns (a resonance on a background, a steep spectrum, angles, a count, a flag, a charge, and a missing
energy with a spike at 0), proposes a run file for all but the last fifth, trains, and compares as many generated events with
the last fifth. Prints a table and writes it to --output (tables.json): classifiers, and the number of generated events with an unphysical value.
"""

import argparse
import json
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import awkward as ak
import numpy as np
import uproot

from hepgan.evaluation.report.evaluation import evaluate
from hepgan.pipeline import parse, propose, train

METRICS = ("auc_low", "auc_observables", "auc_boosted", "fpd")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("events", type=int)
    options.add_argument("seeds", type=int, nargs="+")
    options.add_argument("--output", type=Path, default=Path("tables.json"))
    chosen = options.parse_args()
    rows = []
    for seed in chosen.seeds:
        rows.append(measure(chosen.events, seed))
        print(rows[-1], flush=True)
    chosen.output.write_text(json.dumps(rows, indent=1))


def make_table(number: int, *, seed: int) -> dict[str, Any]:
    """Returns ``number`` events of dilepton-like columns, most of which depend on each other."""
    rng = np.random.default_rng(seed)
    signal = rng.random(number) < 0.6
    mass = np.where(signal, 91.19 + 1.25 * rng.standard_t(1, number), 50 + rng.exponential(40, number))  # fmt: skip
    outside = (mass < 50) | (mass > 150)
    mass[outside] = rng.uniform(50, 150, outside.sum())
    pt = 20 * (1 - rng.random(number)) ** (-1 / 3.5)
    eta = rng.normal(0, 1.4, number) / (1 + pt / 200)
    jets = rng.poisson(0.4 + pt / 80)
    missing = np.where(rng.random(number) < 0.3, 0, rng.gamma(2, 8, number) * np.sqrt(1 + jets))
    columns = {
        "mass": mass, "pt": pt, "eta": np.clip(eta, -2.5, 2.5), "phi": rng.uniform(-math.pi, math.pi, number),
        "missing": missing,
    }  # fmt: skip
    return {
        **{name: values.astype("f4") for name, values in columns.items()},
        "jets": jets.astype("i4"),
        "tagged": rng.random(number) < 1 - 0.9 ** (1 + jets),
        "charge": np.where(rng.random(number) < 0.5 + 0.05 * eta, 1, -1).astype("i4"),
    }


def measure(number: int, seed: int) -> dict[str, Any]:
    """Returns the figures of one seed."""
    table = make_table(number, seed=seed)
    known = number - number // 5
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.root"
        with uproot.recreate(path) as file:
            file["events"] = {name: values[:known] for name, values in table.items()}
        run = parse(propose(str(path), seed=seed))
        start = time.perf_counter()
        gan, _ = train(run, Path(folder) / "run", device="cpu")
        seconds = time.perf_counter() - start
    generated = gan.sample(number // 5, seed=seed)
    reference = ak.zip({name: values[known:] for name, values in table.items()})
    scores = evaluate(
        reference, generated, schema=gan.encoding.schema, metrics=METRICS, seed=seed
    ).scores
    return {
        "seed": seed, "n": number // 5, "train_s": seconds, "unphysical": unphysical(generated, table),
        **{score.metric: (score.value, score.error) for score in scores if score.metric in METRICS},
    }  # fmt: skip


def unphysical(generated: ak.Array, table: dict[str, Any]) -> int:
    """Returns the number of events with a value that the table's process cannot give."""
    values = {name: ak.to_numpy(generated[name]).astype(np.float64) for name in table}
    whole = ("jets", "tagged", "charge")
    wrong = np.zeros(len(generated), dtype=bool)
    for low, high, name in ((50, 150, "mass"), (20, math.inf, "pt"), (-2.5, 2.5, "eta"), (-math.pi - 1e-6, math.pi + 1e-6, "phi")):  # fmt: skip
        wrong |= (values[name] < low) | (values[name] > high)
    for name in whole:
        wrong |= values[name] != values[name].round()
    wrong |= (values["missing"] < 0) | (values["jets"] < 0) | (np.abs(values["charge"]) != 1)
    return int(wrong.sum())


if __name__ == "__main__":
    main()

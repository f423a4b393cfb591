"""A table with the recipe of ``hepgan init`` and nothing else: python benchmarks/tables.py EVENTS SEED... [--weights].

Makes EVENTS events of eight columns (a resonance on a background, a steep spectrum, angles, a count, a flag, a charge, and a missing
energy with a spike at 0), proposes a run file for all but the last fifth, trains, and compares as many generated events with
the last fifth. With ``--weights``, all but the last fifth are events of another process, with weights, some of them negative, that make
them follow the first, as in a sample at next-to-leading order; the last fifth is unweighted, and so are the generated events. Prints a table and writes it to --output (tables.json): classifiers, and the number of generated events with an unphysical value.
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
    options.add_argument("--weights", action="store_true")
    options.add_argument("--output", type=Path, default=Path("tables.json"))
    chosen = options.parse_args()
    rows = []
    for seed in chosen.seeds:
        rows.append(measure(chosen.events, seed, weighted=chosen.weights))
        print(rows[-1], flush=True)
    chosen.output.write_text(json.dumps(rows, indent=1))


def make_table(
    number: int, *, seed: int, signal_fraction: float = 0.6, slope: float = 3.5
) -> dict[str, Any]:
    """Returns ``number`` events of dilepton-like columns, most of which depend on each other; ``signal`` is not one of them."""
    rng = np.random.default_rng(seed)
    signal = rng.random(number) < signal_fraction
    mass = np.where(signal, 91.19 + 1.25 * rng.standard_t(1, number), 50 + rng.exponential(40, number))  # fmt: skip
    outside = (mass < 50) | (mass > 150)
    mass[outside] = rng.uniform(50, 150, outside.sum())
    pt = 20 * (1 - rng.random(number)) ** (-1 / slope)
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
        "signal": signal,
    }


def make_weighted_table(number: int, *, seed: int) -> dict[str, Any]:
    """Returns ``number`` events of another process with weights of mean 1 that make them follow that of ``make_table``.

    Less signal and a harder spectrum are corrected by the ratio of the densities; 10 % of the weights are negative, 20 % with a tag.
    """
    table = make_table(number, seed=seed, signal_fraction=0.4, slope=2.5)
    weight = np.where(table["signal"], 0.6 / 0.4, 0.4 / 0.6) * 3.5 / 2.5 * 20 / table["pt"]
    negative = np.where(table["tagged"], 0.2, 0.1)
    drawn = np.random.default_rng([seed, 1]).random(number) < negative
    return table | {"genWeight": weight * np.where(drawn, -1, 1) / (1 - 2 * negative)}


def measure(number: int, seed: int, *, weighted: bool) -> dict[str, Any]:
    """Returns the figures of one seed."""
    known = number - number // 5
    table = make_table(number, seed=seed)
    del table["signal"]
    training = {name: values[:known] for name, values in table.items()}
    if weighted:
        training = make_weighted_table(known, seed=seed)
        del training["signal"]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.root"
        with uproot.recreate(path) as file:
            file["events"] = training
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
        "seed": seed, "n": number // 5, "effective": gan.encoding.effective_events, "train_s": seconds, "unphysical": unphysical(generated, table),
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

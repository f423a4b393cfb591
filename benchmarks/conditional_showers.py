"""Quality, time and memory of a conditional encoding without a network: python benchmarks/conditional_showers.py RUN FILE.root SEED...

Fits the encoding of a run file or preset to all but the last TEST showers of FILE.root (--test, default 2,500), once per seed, and
compares showers that it generates from normal numbers with the last ones, at the same conditions. Prints a table and writes it to
--output (conditional_showers.json). The last column is the root mean square difference of all correlations of an observable with a
condition, beside that of two halves of the reference, scaled to its size.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch

from hepgan.data.encoding.conditions import encode_conditions
from hepgan.data.encoding.encoding import Encoding
from hepgan.data.io import reader
from hepgan.data.loaders.augment import reflect, rotate
from hepgan.evaluation.observables.standard import arrays, evaluate_observables, observables_for
from hepgan.evaluation.report.evaluation import evaluate
from hepgan.pipeline import RunConfig, load

METRICS = ("auc_observables", "auc_boosted", "auc_high", "auc_low", "fpd")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run")
    options.add_argument("file")
    options.add_argument("seeds", type=int, nargs="+")
    options.add_argument("--test", type=int, default=2500)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--output", type=Path, default=Path("conditional_showers.json"))
    chosen = options.parse_args()
    run = load(chosen.run)
    schema = reader.resolve([chosen.file], run.schema, tree=run.data.tree)
    events = reader.read(chosen.file, schema, tree=run.data.tree)
    train, test = events[: -chosen.test], events[-chosen.test :]
    rows = []
    for seed in chosen.seeds:
        rows.append(measure(run, schema, train, test, seed, chosen.threads))
        print(rows[-1], flush=True)
    chosen.output.write_text(json.dumps(rows, indent=1))
    print(table(rows))


def measure(
    run: RunConfig, schema: Any, train: ak.Array, test: ak.Array, seed: int, threads: int
) -> dict[str, Any]:
    """Returns the figures of one seed."""
    torch.set_num_threads(threads)
    scales = run.encoding.conditions
    augmented = reflect(train, run.reflections, scales)
    if run.data.rotate:
        augmented = rotate(augmented, run.data.rotate, run.alpha_axes, scales, seed=seed)
    start = time.perf_counter()
    encoding = Encoding.fit(augmented, schema, run.encoding, seed=seed)
    fit = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    torch.set_num_threads(1)
    conditions = {name: ak.to_numpy(test[name]) for name in schema.conditions}
    c = encode_conditions(conditions, scales).float()
    noise = torch.randn(len(c), encoding.features, generator=torch.Generator().manual_seed(seed))
    generated = encoding.decode(noise, c, given=conditions)
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        with torch.no_grad():
            for part in torch.split(torch.arange(len(c)), 512):
                encoding.decode_tensors(noise[part], c[part])
        rates.append(len(c) / (time.perf_counter() - start))
    torch.set_num_threads(threads)
    evaluation = evaluate(
        test, generated, schema=schema, geometry=run.geometry, metrics=METRICS, seed=seed
    )
    scores = {score.metric: (score.value, score.error) for score in evaluation.scores}
    half = len(test) // 2
    return {
        "seed": seed,
        "n": len(test),
        "fit_s": fit,
        "memory_gb": memory,
        "showers_per_s": max(rates),
        **{name: scores[name] for name in METRICS if name in scores},
        "correlations": difference(run, schema, test, generated),
        "correlations_baseline": difference(run, schema, test[:half], test[half:]) / np.sqrt(2),
    }


def difference(run: RunConfig, schema: Any, one: ak.Array, other: ak.Array) -> float:
    """Returns the root mean square difference of the correlations of observables with conditions."""
    observables = observables_for(schema, run.geometry)
    observables.pop("E_inc", None)
    tables = []
    for events in (one, other):
        values = evaluate_observables(arrays(events, schema.all), observables)
        columns = encode_conditions(
            {name: ak.to_numpy(events[name]) for name in schema.conditions}, run.encoding.conditions
        ).numpy()
        # An observable that an event does not have, such as the center of an empty layer, counts as its mean.
        standard = [(v - np.nanmean(v)) / (np.nanstd(v) + 1e-30) for v in values.values()]
        given = (columns - columns.mean(0)) / columns.std(0)
        tables.append(np.stack([np.nan_to_num(v) @ given / len(given) for v in standard]))
    return float(np.sqrt(np.mean((tables[0] - tables[1]) ** 2)))


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as Markdown."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in rows:
        cells = (
            f"{v[0]:.4f} ± {v[1]:.4f}"
            if isinstance(v, (tuple, list))
            else f"{v:.4g}"
            if isinstance(v, float)
            else f"{v:,}"
            for v in row.values()
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Faults that the verdict names, and its error rate: python benchmarks/verdict.py FOLDER [--config RUN --files FILE] [--splits N --first-split M --events E].

Splits showers into a reference and a perfect sample of up to 5,000 events each (``--events``), then gives the second one a fault: a condition that is permuted,
swapped classes, 1 % more energy in the upper quarter of the incident energies, a dead cell, tails cut at three standard deviations, or
events that are repeated. Prints the verdict of each, and the number of perfect samples that are called distinguishable. Writes
FOLDER/verdict.json and FOLDER/verdict.md.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from measuring import Row, about, write

from hepgan.data.io import reader
from hepgan.data.schema import Schema
from hepgan.evaluation import histograms
from hepgan.evaluation.metrics import compute
from hepgan.evaluation.metrics.conditions import conditions_of
from hepgan.evaluation.metrics.verdict import SampleEvaluation, evaluate_sample
from hepgan.evaluation.observables.base import Observable, evaluate_observables
from hepgan.evaluation.observables.shower_profile import evaluated_observables
from hepgan.evaluation.sample import build_sample
from hepgan.pipeline import load

Columns = Mapping[str, np.ndarray]
EVENTS = 5000
INDEX = "index of the shower"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--files", help="ROOT file with showers; by default those of the preset")
    options.add_argument(
        "--config", default="showers-angles", help="preset or run file with the schema"
    )
    options.add_argument("--splits", type=int, default=20)
    options.add_argument("--first-split", type=int, default=0, help="seed of the first split")
    options.add_argument("--events", type=int, default=EVENTS, help="events of each sample")
    options.add_argument("--faults", action="store_true", help="only the faults")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    run = load(chosen.config)
    files = (chosen.files,) if chosen.files else run.data.files
    schema = reader.resolve(files, run.schema)
    showers = histograms.to_arrays(reader.read(files, schema))
    observables = evaluated_observables(schema, run.geometry)
    tables: dict[str, list[Row]] = {"Faults": [], "Perfect samples": []}
    reference, perfect = split(showers, 0, chosen.events)
    for name, faulty in () if chosen.first_split else faults(perfect, schema, observables):
        started = time.process_time()
        verdict = judge(reference, faulty, schema, observables, seed=1)
        tables["Faults"].append(row(name, verdict, time.process_time() - started))
        print(name, "|", verdict.sentence, flush=True)
    first, known = chosen.first_split, evaluated_once(showers, observables)
    indexed = {**showers, INDEX: np.arange(len(next(iter(showers.values()))))}
    for seed in range(first, first if chosen.faults else first + chosen.splits):
        started = time.process_time()
        verdict = judge(*split(indexed, seed, chosen.events), schema, known, seed=seed)
        tables["Perfect samples"].append(
            row(f"split {seed}", verdict, time.process_time() - started)
        )
        print(seed, verdict.p_value, verdict.sentence, flush=True)
    wrong = sum(bool(each["distinguishable"]) for each in tables["Perfect samples"])
    facts = about(
        torch.device("cpu"), files=", ".join(map(str, files)), events=chosen.events, wrong=wrong
    )
    write(chosen.folder, "verdict", facts, {name: rows for name, rows in tables.items() if rows})


def evaluated_once(
    showers: Columns, observables: Mapping[str, Observable]
) -> dict[str, Observable]:
    """Returns observables that look up the values of the showers by their ``INDEX``: all splits have the same showers."""
    values = evaluate_observables(showers, observables)
    return {
        name: dataclasses.replace(
            observable, function=lambda e, v=values[name]: v[e[INDEX].astype(int)]
        )
        if name in values
        else observable
        for name, observable in observables.items()
    }


def split(showers: Columns, seed: int, events: int) -> tuple[Columns, Columns]:
    """Returns two disjoint random samples of equal size."""
    number = len(next(iter(showers.values())))
    order = np.random.default_rng(seed).permutation(number)
    size = min(events, number // 2)
    first, second = order[:size], order[size : 2 * size]
    return {n: c[first] for n, c in showers.items()}, {n: c[second] for n, c in showers.items()}


def judge(
    reference: Columns,
    generated: Columns,
    schema: Schema,
    observables: Mapping[str, Observable],
    *,
    seed: int,
) -> SampleEvaluation:
    """Returns the verdict in quick mode, without the baselines that do not count for it."""
    filled = histograms.compare(reference, generated, observables)
    first, second = (build_sample(events, observables) for events in (reference, generated))
    context = compute.MetricContext(
        first, second, observables, filled, "generated", seed, quick=True,
        conditions=conditions_of(schema, reference), classifier_checks=False,
    )  # fmt: skip
    return evaluate_sample(compute.compute_metrics(context), "generated")


def row(name: str, verdict: SampleEvaluation, seconds: float) -> Row:
    return {
        "sample": name,
        "distinguishable": verdict.distinguishable,
        "p-value": verdict.p_value,
        "independent tests": round(verdict.effective_tests),
        "CPU s": round(seconds),
        "verdict": verdict.sentence,
    }


def faults(
    perfect: Columns, schema: Schema, observables: Mapping[str, Observable]
) -> Iterator[tuple[str, Columns]]:
    """Yields samples with one fault each, by name."""
    rng = np.random.default_rng(0)
    for name in schema.conditions:
        yield f"{name} permuted", {**perfect, name: rng.permutation(perfect[name])}
        if len(kinds := np.unique(perfect[name])) == 2:
            yield f"classes of {name} swapped", {**perfect, name: kinds.sum() - perfect[name]}
    if schema.incident:
        energy = perfect[schema.incident]
        factor = np.where(energy > np.quantile(energy, 0.75), 1.01, 1.0)
        yield (
            "1 % more energy in the upper quarter",
            {
                n: c * factor.reshape(-1, *[1] * (c.ndim - 1)).astype(c.dtype)
                if n in schema.fields
                else c
                for n, c in perfect.items()
            },
        )
    field = next(iter(schema.fields))
    cells = perfect[field].copy()
    hottest = np.unravel_index(cells.mean(axis=0).argmax(), cells.shape[1:])
    neighbor = (*hottest[:-1], hottest[-1] + 3)
    cells[(slice(None), *neighbor)] = 0
    yield f"cell {list(map(int, neighbor))} of {field} dead", {**perfect, field: cells}
    values = evaluate_observables(perfect, observables)
    inside = np.ones(len(cells), dtype=bool)
    for each in values.values():
        valid = np.isfinite(each)
        far = np.abs(each - each[valid].mean()) > 3 * each[valid].std()
        inside &= ~(far & valid)
    yield "tails cut at 3 standard deviations", {n: c[inside] for n, c in perfect.items()}
    repeated = np.concatenate(
        [np.arange(len(cells)), rng.integers(0, len(cells), len(cells) // 50)]
    )
    yield "2 % of the events repeated", {n: c[repeated] for n, c in perfect.items()}


if __name__ == "__main__":
    main()

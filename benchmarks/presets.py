"""Quality and time of the presets over several seeds: python benchmarks/presets.py FOLDER SEED... [--unseen FILE.root].

Runs ``showers`` and ``mnist`` (or --presets NAME...) once per seed, each into FOLDER/<preset>-<seed>, and writes FOLDER/presets.json and
FOLDER/presets.md. Scores are computed on the test split, which is not used in training. With --unseen, showers are also generated at
the energies in another file of Geant4 showers and compared with it: means, widths of the response in bins of energy, Fréchet
physics distance, and AUCs of the quick classifiers.

Runs that exist in FOLDER are reused, so that runs with other settings can be added with ``hepgan run``. --publish writes the
scores to the file that ``hepgan presets`` reads.
"""

import argparse
import itertools
import json
import os
import platform
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch

import hepgan
from hepgan.evaluation import digit_scores
from hepgan.evaluation.metrics import features, fpd
from hepgan.evaluation.metrics.classifier import separability
from hepgan.evaluation.observables.standard import arrays, evaluate_observables, observables_for
from hepgan.gan.networks import count_parameters
from hepgan.gan.training import history
from hepgan.pipeline import PRESET_SCORES, RunConfig, load, run

SHOWERS = ("auc_low", "auc_high", "fpd")
DIGITS = ("digit_frechet", "digit_confidence", "digit_balance", "auc_high")
BINS = (1, 5, 10, 20, 40, 60, 80, 100)
"""Edges of the bins in the incident energy [GeV]."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("seeds", type=int, nargs="+")
    options.add_argument("--unseen", help="ROOT file of showers that are not in the sample")
    options.add_argument("--presets", nargs="+", default=["showers", "mnist"])
    options.add_argument("--publish", action="store_true")
    chosen = options.parse_args()
    rows = [
        measure(preset, seed, chosen.folder, chosen.unseen)
        for preset in chosen.presets
        for seed in chosen.seeds
    ]
    about = {"cores": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__}
    write(chosen.folder / "presets.json", {"about": about, "rows": rows})
    (chosen.folder / "presets.md").write_text(table(rows))
    if chosen.publish:
        before = json.loads(PRESET_SCORES.read_text()) if PRESET_SCORES.is_file() else {}
        write(PRESET_SCORES, dict(sorted((before | published(rows)).items())))
    print(table(rows))


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def measure(preset: str, seed: int, folder: Path, unseen: str | None) -> dict[str, Any]:
    """Runs a preset, unless the run exists in the folder; returns its time and scores."""
    run_folder = folder / f"{preset}-{seed}"
    if not (run_folder / "report.html").is_file():
        run(
            load(preset, {"seed": seed}),
            run_folder,
            device=torch.device("cpu"),
            resume=run_folder.exists(),
        )
    settings = load(run_folder / "run.toml")
    row: dict[str, Any] = {"preset": preset, "seed": seed}
    rows = history.read(run_folder)
    row["seconds of training"] = rows[-1]["seconds"] if rows else 0.0
    row["steps"], row["batch"] = settings.steps, settings.train.batch_size
    scores = json.loads((run_folder / "scores.json").read_text())
    row["n"] = scores["n_reference"]
    for score in scores["scores"]:
        if score["metric"] in (SHOWERS if settings.geometry else DIGITS):
            row[score["metric"]] = score["value"]
            row[score["metric"] + " baseline"] = score["baseline"]
    gan = hepgan.GAN.load(run_folder)
    row["parameters"] = count_parameters(
        gan.settings, gan.encoding, discriminator_shapes=gan.discriminator_shapes
    )["generator"]
    if not settings.geometry:
        return row | digit_figures(gan)
    return row | (shower_figures(gan, settings, unseen) if unseen else {})


def shower_figures(gan: hepgan.GAN, settings: RunConfig, unseen: str) -> dict[str, float]:
    """Returns the scores of showers generated at the energies in ``unseen``, against Geant4."""
    reference = hepgan.read(unseen, settings.schema)
    energy = ak.to_numpy(reference["energy"])
    generated = gan.sample(energy=energy, seed=99)
    observables = observables_for(settings.schema, settings.geometry)
    cells = [arrays(events, settings.schema.all) for events in (reference, generated)]
    true, values = (evaluate_observables(events, observables) for events in cells)
    high = features.high_level(true, values, observables)
    distance = fpd.fpd(*high, seed=1)
    row = {
        "unseen n": len(energy),
        "E_tot/E": float(values["E_tot_over_E_inc"].mean() / true["E_tot_over_E_inc"].mean()),
        **{
            name: float(values[f"{name}.energy"].mean() / true[f"{name}.energy"].mean())
            for name in settings.schema.fields
        },
        "unseen fpd x1000": 1000 * distance.value,
        "unseen fpd error": 1000 * distance.error,
        "unseen fpd baseline": 1000 * distance.baseline,
    }
    for low, up in itertools.pairwise(BINS):
        selected = (energy >= low) & (energy < up)
        widths = [width(v["E_tot_over_E_inc"][selected]) for v in (true, values)]
        row[f"width {low}-{up} GeV"] = widths[1] / widths[0]
    low_level = features.low_level(*cells, observables, network="quick")
    for name, pair in {
        "cells": low_level,
        "observables": features.standardize(*high),
    }.items():
        auc = separability(*(part.astype("f4") for part in pair), seed=1)
        row[f"unseen auc of {name}"], row[f"unseen auc of {name} error"] = auc.auc, auc.error
    return row


def width(values: Any) -> float:
    """Returns half the distance between the 16 % and 84 % quantiles, which the tails from a few showers do not affect."""
    return float(np.diff(np.quantile(values, [0.16, 0.84]))[0] / 2)


def digit_figures(gan: hepgan.GAN) -> dict[str, float]:
    """Returns the confidence and the fractions of the rarest and most frequent class of 5,000 digits."""
    scores = digit_scores(ak.to_numpy(gan.sample(5000, seed=99)["image"]))
    return {
        "confidence": scores.confidence,
        "rarest": float(scores.fractions.min()),
        "commonest": float(scores.fractions.max()),
    }


def published(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the figures that ``hepgan presets`` prints: sizes, and mean, standard deviation over seeds and baseline of each score."""
    figures = {}
    for preset in dict.fromkeys(row["preset"] for row in rows):
        own_rows = [row for row in rows if row["preset"] == preset]
        scores = {}
        for metric in (*SHOWERS, *DIGITS):
            values = [row[metric] for row in own_rows if metric in row]
            if values:
                baseline = float(np.mean([row[f"{metric} baseline"] for row in own_rows]))
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                scores[metric] = {
                    "mean": float(np.mean(values)),
                    "sd": deviation,
                    "baseline": baseline,
                }
        same = {name: own_rows[0][name] for name in ("parameters", "steps", "batch", "n")}
        figures[preset] = {**same, "seeds": len(own_rows), "scores": scores}
    return figures


def table(rows: list[dict[str, Any]]) -> str:
    """Returns a Markdown table per preset, with means and standard deviations over seeds."""
    text = []
    for preset in dict.fromkeys(row["preset"] for row in rows):
        own_rows = [row for row in rows if row["preset"] == preset]
        names = [name for name in own_rows[0] if name not in ("preset", "seed")]
        text += [
            f"**{preset}**",
            "",
            "| seed | " + " | ".join(names) + " |",
            "|---" * (len(names) + 1) + "|",
        ]
        text += [
            f"| {row['seed']} | " + " | ".join(f"{row[name]:.5g}" for name in names) + " |"
            for row in own_rows
        ]
        values = np.array([[row[name] for name in names] for row in own_rows], dtype=float)
        for label, line in (
            ("mean", values.mean(0)),
            ("sd", values.std(0, ddof=min(1, len(own_rows) - 1))),
        ):
            text.append(f"| {label} | " + " | ".join(f"{value:.5g}" for value in line) + " |")
        text.append("")
    return "\n".join(text)


if __name__ == "__main__":
    main()

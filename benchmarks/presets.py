"""Quality and time of the presets over several seeds: python benchmarks/presets.py FOLDER SEED... [--unseen FILE.root].

Runs ``showers`` and ``mnist`` (or --presets NAME...) once a seed, each into FOLDER/<preset>-<seed>, and writes FOLDER/presets.json and
FOLDER/presets.md. Scores are against the test split, which training never sees. With --unseen, showers are also generated for
the energies in another file of Geant4 showers and compared with that one.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch

import hepgan
from hepgan.evaluate import digit_scores
from hepgan.gan import history
from hepgan.run import Run, load, run

SCORES = {
    "showers": ("auc_low", "auc_high", "fpd"),
    "mnist": ("digit_frechet", "digit_confidence", "auc_high"),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("seeds", type=int, nargs="+")
    options.add_argument("--unseen", help="ROOT file of showers that are not in the sample")
    options.add_argument("--presets", nargs="+", default=list(SCORES))
    chosen = options.parse_args()
    rows = [
        measure(preset, seed, chosen.folder, chosen.unseen if preset == "showers" else None)
        for preset in chosen.presets
        for seed in chosen.seeds
    ]
    about = {"cores": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__}
    (chosen.folder / "presets.json").write_text(
        json.dumps({"about": about, "rows": rows}, indent=2)
    )
    (chosen.folder / "presets.md").write_text(table(rows))
    print(table(rows))


def measure(preset: str, seed: int, folder: Path, unseen: str | None) -> dict[str, Any]:
    """One run, unless the folder has it already: its time and its figures."""
    place = folder / f"{preset}-{seed}"
    settings = load(preset, {"seed": seed})
    if not (place / "report.html").is_file():
        run(settings, place, device=torch.device("cpu"), resume=place.exists())
    trained = history.read(place)[-1]["seconds"]
    row: dict[str, Any] = {"preset": preset, "seed": seed, "seconds of training": trained}
    scores = json.loads((place / "scores.json").read_text())
    row["n"] = scores["n_reference"]
    for score in scores["scores"]:
        if score["metric"] in SCORES[preset]:
            row[score["metric"]] = score["value"]
            row[score["metric"] + " floor"] = score["floor"]
    gan, _ = hepgan.load_gan(place)
    return (
        row | (shower_figures(gan, settings, unseen) if unseen else {}) | digit_figures(gan, preset)
    )


def shower_figures(gan: hepgan.GAN, settings: Run, unseen: str) -> dict[str, float]:
    """Means over showers of the same energies as those in ``unseen``, as ratios to Geant4's."""
    reference = hepgan.read(unseen, settings.schema)
    energy = ak.to_numpy(reference["energy"])
    made = gan.sample({"energy": energy}, seed=99)
    layers = list(settings.schema.fields)
    sums = {
        name: [ak.to_numpy(events[name]).reshape(len(energy), -1).sum(1) for name in layers]
        for name, events in {"Geant4": reference, "made": made}.items()
    }
    shares = {name: sum(parts) / (1000 * energy) for name, parts in sums.items()}
    return {
        "unseen n": len(energy),
        "E_tot/E": float(shares["made"].mean() / shares["Geant4"].mean()),
        "resolution": float(shares["made"].std() / shares["Geant4"].std()),
        **{
            name: float(made_.mean() / true.mean())
            for name, made_, true in zip(layers, sums["made"], sums["Geant4"], strict=True)
        },
        "correlation": float(np.corrcoef(energy, sum(sums["made"]))[0, 1]),
    }


def digit_figures(gan: hepgan.GAN, preset: str) -> dict[str, float]:
    """Confidence and rarest and commonest class of 5,000 digits."""
    if preset != "mnist":
        return {}
    found = digit_scores(ak.to_numpy(gan.sample(n=5000, seed=99)["image"]))
    return {
        "confidence": found.confidence,
        "rarest": float(found.shares.min()),
        "commonest": float(found.shares.max()),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a table a preset, with the mean and the standard deviation over seeds."""
    text = []
    for preset in dict.fromkeys(row["preset"] for row in rows):
        mine = [row for row in rows if row["preset"] == preset]
        names = [name for name in mine[0] if name not in ("preset", "seed")]
        text += [
            f"**{preset}**",
            "",
            "| seed | " + " | ".join(names) + " |",
            "|---" * (len(names) + 1) + "|",
        ]
        text += [
            f"| {row['seed']} | " + " | ".join(f"{row[name]:.5g}" for name in names) + " |"
            for row in mine
        ]
        values = np.array([[row[name] for name in names] for row in mine], dtype=float)
        for label, line in (
            ("mean", values.mean(0)),
            ("sd", values.std(0, ddof=min(1, len(mine) - 1))),
        ):
            text.append(f"| {label} | " + " | ".join(f"{value:.5g}" for value in line) + " |")
        text.append("")
    return "\n".join(text)


if __name__ == "__main__":
    main()

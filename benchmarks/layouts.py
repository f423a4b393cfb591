"""Layouts on digits: python benchmarks/layouts.py FOLDER [NAME...] trains each and writes FOLDER/layouts.md, .json and .png.

Trains convolutions and reshapes in either network, with which MethodGAN failed, and the dense layers of the tutorial, all on the same
digits with the same settings. Scores use the digit classifier's features and digits not used in training.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

from hepgan.evaluation.metrics import digits, fpd
from hepgan.gan.model import GAN
from hepgan.gan.training import history
from hepgan.layout.zoo import published_layouts
from hepgan.pipeline import RunConfig, load, train
from hepgan.pipeline.training import read_events

STEPS = 4000
LAYOUTS = {
    "dense (TMVA's tutorial)": (
        published_layouts()["tmva-tutorial"].layout.replace("RESHAPE|1|1|784", "RESHAPE|1|1|100", 1),
        [100],
    ),
    "convolutions in both": (
        (
            "DENSE|8*14*14|LRELU, RESHAPE|8|14|14, UPSAMPLE|2|2, CONV|16|3|3|1|1|1|1|LRELU, CONV|1|3|3|1|1|1|1|TANH"
            "## CONV|16|4|4|2|2|1|1|LRELU, CONV|32|4|4|2|2|1|1|LRELU, RESHAPE|FLAT, DENSE|64|LRELU, DENSE|1|SIGMOID"
        ),
        [64],
    ),
    "reshape in the middle of both": (
        ("DENSE|196|LRELU, RESHAPE|4|7|7, UPSAMPLE|2|2, CONV|32|3|3|1|1|1|1|LRELU, RESHAPE|FLAT, DENSE|N|TANH"
        "## DENSE|196|LRELU, RESHAPE|4|7|7, CONV|32|3|3|1|1|1|1|LRELU, RESHAPE|FLAT, DENSE|1|SIGMOID"),
        [64],
    ),
    "transposed convolutions": (
        ("DENSE|32*7*7|LRELU, RESHAPE|32|7|7, TCONV|16|4|4|2|2|1|1|LRELU, TCONV|1|4|4|2|2|1|1|TANH"
        "## CONV|16|4|4|2|2|1|1|LRELU, CONV|32|4|4|2|2|1|1|LRELU, RESHAPE|FLAT, DENSE|64|LRELU, DENSE|1|SIGMOID"),
        [64],
    ),
}  # fmt: skip
"""Layout and latent shape by name."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("names", nargs="*", default=list(LAYOUTS), help=", ".join(LAYOUTS))
    options.add_argument("--steps", type=int, default=STEPS)
    chosen = options.parse_args()
    rows, images = [], {}
    for name in chosen.names:
        row, images[name] = measure(name, settings(name, chosen.steps), chosen.folder)
        rows.append(row)
    (chosen.folder / "layouts.json").write_text(json.dumps(rows, indent=2))
    (chosen.folder / "layouts.md").write_text(table(rows))
    draw(images, chosen.folder / "layouts.png")
    print(table(rows))


def settings(name: str, steps: int) -> RunConfig:
    layout, latent = LAYOUTS[name]
    gan = {"layout": layout, "latent": latent, "input": [1, 28, 28]}
    table: dict[str, Any] = {"gan": gan | {"initialization": "HE"}, "train.steps": steps}
    rates = {f"train.{network}.learning_rate": 1e-3 for network in ("generator", "discriminator")}
    return load("mnist", table | rates | {"schema.conditions": {}, "encoding.conditions": {}})


def measure(name: str, run: RunConfig, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Trains, unless the run exists in the folder; returns the scores and 20 images."""
    run_folder = folder / name.split(" (")[0].replace(" ", "-")
    if not (run_folder / "gan.json").is_file():
        train(run, run_folder, device="cpu", resume=run_folder.exists())
    gan = GAN.load(run_folder)
    real = np.asarray(read_events(run)["test"]["image"])
    generated = np.asarray(gan.sample(len(real), seed=5)["image"])
    noise = np.random.default_rng(5).permuted(real.reshape(len(real), -1), axis=1)
    half = len(real) // 2
    scores = {k: digits.digit_scores(v.reshape(-1, 28, 28)) for k, v in {"real": real, "generated": generated, "noise": noise}.items()}  # fmt: skip
    distance = {k: fpd.frechet_distance(scores["real"].features, scores[k].features) for k in ("generated", "noise")}  # fmt: skip
    baseline = fpd.frechet_distance(scores["real"].features[:half], scores["real"].features[half:])
    row = {
        "layout": name, "steps": run.train.steps, "seconds": round(history.read(run_folder)[-1]["seconds"]), "n": len(real),
        "frechet": distance["generated"], "baseline (half of n)": baseline, "shuffled pixels": distance["noise"],
        "confidence": scores["generated"].confidence, "confidence of real digits": scores["real"].confidence,
        "rarest digit": min(scores["generated"].fractions), "commonest digit": max(scores["generated"].fractions),
        "cores": os.cpu_count(), "torch": torch.__version__,
    }  # fmt: skip
    return row, generated[:20]


def table(rows: list[dict[str, Any]]) -> str:
    names = [name for name in rows[0] if name not in ("cores", "torch")]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (f"{v:.3g}" if isinstance(v := row[n], float) else str(v) for n in names)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(images: dict[str, np.ndarray], path: Path) -> None:
    mpl.use("Agg")
    figure, axes = plt.subplots(len(images), 1, figsize=(9, 1.35 * len(images)))
    for axis, (name, examples) in zip(np.atleast_1d(axes), images.items(), strict=True):
        grid = examples.reshape(2, 10, 28, 28).swapaxes(1, 2).reshape(56, 280)
        axis.imshow(grid, cmap="gray", vmin=0, vmax=255)
        axis.set_title(name, fontsize=9, loc="left")
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()

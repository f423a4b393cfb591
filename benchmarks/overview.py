"""Draws the README's figure from two run folders: python benchmarks/overview.py SHOWERS MNIST OUT.png."""

import sys
from pathlib import Path

import awkward as ak
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import hepgan
from hepgan.pipeline import load
from hepgan.pipeline.training import read_events


def main(showers: Path, mnist: Path, out: Path) -> None:
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=[1.35, 1])
    draw_showers(left, showers)
    draw_digits(right, mnist)
    figure.savefig(out, dpi=110)


def draw_showers(figure: Figure, folder: Path) -> None:
    """Draws the mean energy in each cell of held-out and of generated showers."""
    run = load(folder / "run.toml")
    samples = {
        "Geant4": read_events(run)["test"],
        "generated": hepgan.read(str(folder / "generated.root"), run.schema),
    }
    axes = figure.subplots(3, 2, width_ratios=[1, 1])
    for column, (name, events) in enumerate(samples.items()):
        for row, layer in enumerate(run.schema.fields):
            mean = ak.to_numpy(events[layer]).mean(0)
            scale = ak.to_numpy(samples["Geant4"][layer]).mean(0)
            norm = LogNorm(max(scale[scale > 0].min(), 1e-4 * scale.max()), scale.max())
            ax = axes[row, column]
            picture = ax.imshow(
                mean, norm=norm, cmap="viridis", aspect="auto", interpolation="none"
            )
            ax.set(xticks=[], yticks=[], ylabel=layer if column == 0 else "")
            if row == 0:
                ax.set_title(f"{name}, {len(events):,} showers")
            if column == 1:
                figure.colorbar(picture, ax=ax, label="MeV")


def draw_digits(figure: Figure, folder: Path) -> None:
    """Draws the first 120 generated digits."""
    images = hepgan.read(
        str(folder / "generated.root"), load(folder / "run.toml").schema, entry_stop=120
    )
    digits = ak.to_numpy(images["image"]).reshape(10, 12, 28, 28)
    ax = figure.subplots()
    ax.imshow(np.concatenate(np.concatenate(digits, axis=1), axis=1), cmap="gray")
    ax.set(xticks=[], yticks=[], title="generated digits")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

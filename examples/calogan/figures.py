"""The figures of the CaloGAN paper (arXiv:1712.10321): layer energies and fractions, depths, widths, sparsity, mean showers.

    python examples/calogan/figures.py runs/calogan

Reads the output of ``train.py`` in the folder and writes PNGs to its ``figures/``, each with Geant4 and the ratio.
"""

import sys
from pathlib import Path

import awkward as ak
import numpy as np

import hepgan
from hepgan.evaluation import plots
from hepgan.evaluation.histograms import REFERENCE

PER_LAYER = ("energy", "fraction", "E_ratio", "occupancy", "width_x", "width_y")
PER_SHOWER = ("E_tot", "depth", "l_d", "s_d", "sigma_sd")


def main(folder: Path) -> None:
    settings = hepgan.load_run(folder / "run.toml")
    schema = settings.schema
    unseen, generated = (hepgan.read(folder / f"{n}.root", schema) for n in ("unseen", "generated"))
    every = hepgan.observables_for(schema, settings.geometry)
    shown = {n: o for n, o in every.items() if n in PER_SHOWER or n.endswith(PER_LAYER)}

    figures = {
        name: plots.observable(histogram)
        for name, histogram in hepgan.compare(unseen, generated, shown).items()
    }
    for name in schema.fields:
        means = {REFERENCE: mean(unseen[name]), "generated": mean(generated[name])}
        axes = settings.geometry[name].axes
        figures[f"{name}.mean"] = plots.mean_images(means, names=axes, unit="MeV")

    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        (folder / "figures" / f"{name}.png").write_bytes(plots.png(figure))
    print(f"{len(figures)} figures in {folder / 'figures'}")


def mean(cells: ak.Array) -> np.ndarray:
    """Returns the mean shower ``[H, W]`` of the ``cells[E, H, W]`` of a layer."""
    return np.asarray(cells, dtype=float).mean(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Detector simulation of jets: a GAN turns generator-level jets into reconstructed ones, and oversamples them.

The example first writes a NanoAOD-like file with one generated jet per entry; use your own instead, with one matched pair of jets per entry.

    python examples/nano_jets.py runs/jets

Further arguments are the number of events and of the steps of the encoding's fit.
"""

import sys
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from hepgan import pipeline, processors


def toy(path: Path, *, events: int = 40_000, seed: int = 1) -> None:
    """Writes generated jets, and the jets reconstructed from them: response, resolution, b tag, tracks and a mass with a spike at 0."""
    rng = np.random.default_rng(seed)
    pt = 20 + rng.exponential(40, events)
    eta, flavor = rng.normal(0, 1.2, events).clip(-2.5, 2.5), rng.choice([0, 4, 5], events)
    width = np.hypot(0.9 / np.sqrt(pt), 0.05 + 0.02 * np.abs(eta))
    response = 0.95 - 0.03 * (flavor == 5) + width * rng.normal(size=events)
    tracks = rng.poisson(3 + 2 * np.log(pt) + 2 * (flavor == 5))
    mass = np.where(tracks < 5, 0.0, 0.12 * pt * rng.gamma(6, 1 / 6, events))
    with uproot.recreate(path) as file:
        file["Events"] = {
            "GenJet_pt": pt.astype("f4"),
            "GenJet_eta": eta.astype("f4"),
            "GenJet_hadronFlavour": flavor.astype("i4"),
            "Jet_pt": (pt * response.clip(0.1)).astype("f4"),
            "Jet_eta": (eta + rng.normal(0, 0.02, events)).astype("f4"),
            "Jet_mass": mass.astype("f4"),
            "Jet_nConstituents": tracks.astype("i4"),
            "Jet_tagged": rng.random(events) < np.where(flavor == 5, 0.7, 0.05),
        }


def main(folder: Path, events: int = 40_000, steps: int = 2500) -> None:
    """Trains on the file, simulates each of its generated jets ten times, and prints response and resolution of both."""
    folder.mkdir(parents=True, exist_ok=True)
    data, out = folder / "nano.root", folder / "simulated.root"
    if not data.is_file():
        toy(data, events=events)
    run = pipeline.parse(pipeline.propose(str(data)))
    encoding = [
        {**step, "steps": steps} if step["step"] == "autoregressive" else step
        for step in run.encoding.steps
    ]
    run = pipeline.replaced(run, {"encoding.steps": encoding})
    pipeline.run(run, folder / "jets", overwrite=True)
    conditions = {name: name for name in run.schema.conditions}
    with processors.open_runner(
        "iterative",
    ) as runner:
        number = processors.simulate(
            folder / "jets", str(data), out, runner, seed=1, conditions=conditions, copies=10, overwrite=True
        )  # fmt: skip
    print(f"{number:,} simulated jets: {out}")
    for name, path in (("reconstructed", data), ("simulated", out)):
        with uproot.open(path) as file:
            jets = file["Events"].arrays(["Jet_pt", "GenJet_pt"])
        response = ak.to_numpy(jets.Jet_pt / jets.GenJet_pt)
        print(f"{name:>13}: response {response.mean():.4f}, resolution {response.std():.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

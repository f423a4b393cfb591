"""Calorimeter showers, step by step: read, encode, train, generate at given energies, plot the response.

    python examples/02_showers.py runs/my-showers

A second argument such as ``train.steps=50`` changes a setting, as ``--set`` does on the command line.
"""

import sys
from pathlib import Path

import numpy as np

import hepgan
from hepgan.pipeline import resolve_device, train


def main(folder: Path, overrides: dict[str, int]) -> None:
    settings = hepgan.load_run("showers-fast", overrides)
    gan, prepared = train(settings, folder, device=resolve_device("auto"))

    # Showers at the energies of held-out events, as in an analysis.
    unseen = prepared.splits["test"]
    energy = unseen.energy.to_numpy()
    generated = gan.sample(energy=energy, seed=1)
    hepgan.write(folder / "generated.root", generated, gan)

    print("energy [GeV]   Geant4 E_tot/E   generated E_tot/E")
    for low, high in ((1, 10), (10, 30), (30, 100)):
        inside = (energy >= low) & (energy < high)
        responses = [response(events)[inside].mean() for events in (unseen, generated)]
        print(f"{low:5} … {high:3}   {responses[0]:14.4f}   {responses[1]:17.4f}")


def response(events: object) -> np.ndarray:
    """Returns the energy in all cells divided by the incident energy, ``[E]``."""
    layers = [np.asarray(events[f"layer_{i}"]).reshape(len(events), -1) for i in range(3)]
    return sum(layer.sum(1) for layer in layers) / (1000 * np.asarray(events["energy"]))


if __name__ == "__main__":
    changes = (argument.split("=") for argument in sys.argv[2:])
    main(Path(sys.argv[1]), {key: int(value) for key, value in changes})

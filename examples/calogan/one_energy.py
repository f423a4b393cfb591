"""Showers of one energy: each layer of single showers next to Geant4 showers of similar energy, and the response.

    python examples/calogan/one_energy.py runs/calogan 50

Reads the output of ``train.py`` in the folder and writes ``<layer>.50_GeV.png`` there, with Geant4 in the upper half; 100
showers near that energy give its response.
"""

import sys
from pathlib import Path

import numpy as np

import hepgan
from hepgan.evaluation import plots

SHOWN = 10


def main(folder: Path, energy: float) -> None:
    gan = hepgan.GAN.load(folder)
    schema, geometry = gan.schema, gan.geometry
    generated = gan.sample(1000, energy=energy, seed=1)
    unseen = hepgan.read(folder / "unseen.root", schema)
    nearest = unseen[np.argsort(np.abs(unseen.energy - energy))[:100]]

    for name, field in schema.fields.items():
        images = [np.asarray(events[name], dtype=float)[:SHOWN] for events in (nearest, generated)]
        columns = 10 if field.shape[1] < 20 else 2
        figure = plots.sample_grid(np.concatenate(images), columns=columns, log=True)
        (folder / f"{name}.{energy:g}_GeV.png").write_bytes(plots.png(figure))

    response = hepgan.observables_for(schema, geometry)["E_tot_over_E_inc"]
    for source, events in (("Geant4", nearest), ("generated", generated)):
        values = response.function({name: np.asarray(events[name]) for name in schema.all})
        error = values.std() / np.sqrt(len(values))
        print(
            f"{source:9} E_tot / E = {values.mean():.5f} ± {error:.5f}, spread {values.std():.5f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))

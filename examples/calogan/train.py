"""Trains a GAN on CaloGAN's showers and generates as many showers as were held out, at the same energies.

    python examples/calogan/train.py runs/calogan [gamma.root] [train.steps=50]

Without a file it uses the sample included in hepgan. ``figures.py`` and ``one_energy.py`` continue from its output.
"""

import sys
from pathlib import Path

import hepgan
from hepgan.pipeline import resolve_device, train


def main(folder: Path, files: list[str], overrides: dict[str, object]) -> None:
    if files:
        overrides["data.files"] = files
    settings = hepgan.load_run("showers-fast", overrides)
    gan, prepared = train(settings, folder, device=resolve_device("auto"))

    unseen = prepared.splits["test"]
    generated = gan.sample(energy=unseen.energy.to_numpy(), seed=1)
    for name, events in (("unseen", unseen), ("generated", generated)):
        hepgan.write(folder / f"{name}.root", events, gan)
    print(f"{len(generated)} held-out and as many generated showers in {folder}")


if __name__ == "__main__":
    arguments = sys.argv[2:]
    changes = [argument.split("=") for argument in arguments if "=" in argument]
    main(
        Path(sys.argv[1]),
        [argument for argument in arguments if "=" not in argument],
        {key: int(value) for key, value in changes},
    )

"""Quality of showers as a function of training events and steps: python benchmarks/amounts.py FOLDER UNSEEN.root [--events N...] [--steps N...].

Trains the preset ``showers-fast`` on the given numbers of showers of the sample, for the given numbers of steps, and compares generated showers
with those in UNSEEN.root at the same energies. UNSEEN.root contains Geant4 showers that are not in the sample. With 0 steps the model is the
Gaussian copula alone. Runs that exist in FOLDER are reused. Writes FOLDER/amounts.json and FOLDER/amounts.md.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

from presets import shower_figures, table, write

import hepgan
from hepgan.data.io import reader, writer
from hepgan.pipeline import RunConfig, load, train

SEED, WHOLE = 1, 10_000
"""Seed of the trainings; number of showers in the sample."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("unseen")
    options.add_argument("--events", type=int, nargs="*", default=[1000, 2000, 4000, WHOLE])
    options.add_argument("--steps", type=int, nargs="*", default=[0, 1000, 3500])
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    amounts = itertools.product(chosen.events, chosen.steps)
    rows = [measure(chosen.folder, chosen.unseen, n, steps) for n, steps in amounts]
    write(chosen.folder / "amounts.json", {"rows": rows})
    (chosen.folder / "amounts.md").write_text(table(rows))
    print(table(rows))


def measure(folder: Path, unseen: str, events: int, steps: int) -> dict[str, Any]:
    """Returns the scores of one training on ``events`` showers of the sample (seven tenths of which train), or on all."""
    run_folder = folder / f"{events}-{steps}"
    changes: dict[str, Any] = {"seed": SEED, "train.steps": steps}
    if events < WHOLE:
        changes["data.files"] = [str(part_of_sample(folder, events))]
    if not (run_folder / "gan.json").is_file():
        train(load("showers-fast", changes), run_folder, device="cpu", resume=run_folder.exists())
    gan = hepgan.GAN.load(run_folder)
    settings: RunConfig = load(run_folder / "run.toml")
    figures = shower_figures(gan, settings, unseen)
    train_fraction = settings.data.fractions["train"]
    return {
        "preset": "showers-fast",
        "seed": SEED,
        "trained on": int(events * train_fraction),
        "steps": steps,
        **figures,
    }


def part_of_sample(folder: Path, events: int) -> Path:
    """Writes a ROOT file with the first ``events`` showers of the sample."""
    path, settings = folder / f"sample-{events}.root", load("showers-fast")
    if not path.is_file():
        part = reader.read(settings.data.files[0], settings.schema, entry_stop=events)
        writer.write(path, [part], settings.schema, tree="showers")
    return path


if __name__ == "__main__":
    main()

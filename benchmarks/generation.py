"""Generation time compared with Geant4 and published generators: python benchmarks/generation.py FOLDER [--device cuda] [--seconds 10].

Measures milliseconds per shower in batches of 1, 100 and 10,000, decoded to cell energies, for the pretrained GAN and for the networks of
CaloGAN and BoloGAN on the same showers. The latter are untrained, because the time does not depend on the weights. Writes
FOLDER/generation.md and FOLDER/generation.json.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import about, turns, write

import hepgan
from hepgan import pipeline as library
from hepgan.data.encoding import kernels

BATCHES = (1, 100, 10_000)
GEANT4 = 410.0
"""Geant4's CPU time per shower of the sample on one core of this type of machine [ms] (from its data card)."""
PUBLISHED = {
    "BoloGAN": ((106, 1.7, 0.55), (286, 2.3, 0.53)),
    "CaloShower2GAN": ((582, 66, 1.3), (612, 71, 1.7)),
    "CaloShower3GAN": ((480, 56, 1.2), (519, 64, 1.5)),
    "CaloINN (flow)": ((38, 2.8, 2.9), (25, 0.51, 0.19)),
    "CaloDiffusion": ((15_700, 4300, 4500), (5600, 75, 24)),
}
"""Time per shower at these batch sizes on the CaloChallenge's CPU and GPU [ms]; photons, 368 voxels (arXiv:2410.21611)."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--device", default="auto")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--seconds", type=float, default=10)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device = library.resolve_device(chosen.device)
    trained = ("showers", "showers-fast")
    gans = {f"{name} (trained)": hepgan.GAN.load(name, device=device) for name in trained}
    gans |= {f"{name} (untrained)": untrained(name, device) for name in ("calogan", "bologan")}
    rows = [row for name, gan in gans.items() for row in measure(name, gan, chosen.seconds, device)]
    tables = {
        "Showers of CaloGAN's calorimeter, 504 cells": rows,
        "Ways to generate the trained showers-fast, in turns": ways(
            gans["showers-fast (trained)"], chosen.seconds, device
        ),
        "Published": published(),
    }
    write(chosen.folder, "generation", about(device, geant4_ms_a_shower=GEANT4), tables)


def ways(gan: hepgan.GAN, seconds: float, device: torch.device) -> list[dict[str, Any]]:
    """Returns one row per batch size and way: with numba, with torch's operators alone, and by a prepared sampler."""
    rows = []
    for batch in (1, 10_000):
        sampler = gan.sampler(batch, seed=1)
        sample = lambda batch=batch: gan.sample(batch, energy=50.0, seed=1)
        calls = {
            "sample": sample,
            "sample, torch alone": lambda sample=sample: alone(sample),
            "sampler": lambda sampler=sampler: sampler(energy=50.0),
            "sampler, torch alone": lambda sampler=sampler: alone(lambda: sampler(energy=50.0)),
        }
        for name, times in turns(calls, seconds, device).items():
            middle = 1000 * float(torch.tensor(times).median())
            rows.append(
                {
                    "way": name,
                    "batch": batch,
                    "ms a batch": middle,
                    "showers/s": 1000 * batch / middle,
                }
            )
    return rows


def alone(call: Callable[[], object]) -> object:
    with kernels.eager():
        return call()


def measure(name: str, gan: hepgan.GAN, seconds: float, device: torch.device) -> list[dict[str, Any]]:  # fmt: skip
    """Returns one row per batch size."""
    weights = sum(weight.numel() for weight in gan.generator.parameters())
    rows = []
    for batch in BATCHES:
        call = lambda batch=batch: gan.sample(batch, energy=hepgan.Range(1.0, 100.0), seed=1)
        times = 1000 * turns({"": call}, seconds, device)[""]
        middle = float(torch.tensor(times).median())
        rows.append(
            {
                "generator": name,
                "parameters": weights,
                "batch": batch,
                "ms a batch": middle,
                "range": f"{times.min():.3g}–{times.max():.3g}",
                "ms a shower": middle / batch,
                "showers/s": 1000 * batch / middle,
                "Geant4 over this": GEANT4 * batch / middle,
            }
        )
    return rows


def untrained(layout: str, device: torch.device) -> hepgan.GAN:
    """Builds the published networks of that name for the showers of the sample."""
    noise = {"calogan": 1024, "bologan": 50}[layout]
    run = library.load(
        "showers-fast",
        {
            "encoding.steps": [{"step": "scale"}],
            "gan": {"layout": layout, "latent": [noise]},
            "train.steps": 0,
        },
    )
    gan = library.prepare(run, device=device).state.gan
    gan.generator.eval()
    return gan


def published() -> list[dict[str, Any]]:
    """Returns the published measurements, on the machines of their authors."""
    return [
        {"generator": name, "processor": processor}
        | {
            f"ms a shower, batch {batch:,}": value
            for batch, value in zip(BATCHES, values, strict=True)
        }
        for name, both in PUBLISHED.items()
        for processor, values in zip(("CPU", "GPU"), both, strict=True)
    ]


if __name__ == "__main__":
    main()

"""Speed of training: python benchmarks/speed.py FOLDER [--preset NAME...] [--seconds 20].

Compares hepgan's training step with the same networks and loss in a plain PyTorch loop (its own DataLoader, Adam, two backward passes of
the discriminator) and with the step of the full preset, interleaved in one process. Writes FOLDER/speed.md and FOLDER/speed.json;
``generation.py`` measures the speed of generation.
"""

import argparse
import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import about, turns, write
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from hepgan import pipeline as library
from hepgan.gan.model import GAN
from hepgan.gan.training.loop import train_step
from hepgan.gan.training.optim import autocast

SIMPLE = {"train.objective": "non-saturating", "train.r1": 0.0, "train.r2": 0.0}
SIMPLE |= {"gan.discriminator_input": "event"}
CHEAP = {
    "train.penalty": "finite-differences",
    "train.penalty_fraction": 0.25,
    "train.penalty_every": 4,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--preset", nargs="+", default=["showers-fast", "mnist"])
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--device", default="auto")
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device = library.resolve_device(chosen.device)
    rows = [training(preset, device, chosen.seconds) for preset in chosen.preset]
    write(chosen.folder, "speed", about(device), {"Training steps per second": rows})


def training(preset: str, device: torch.device, seconds: float) -> dict[str, Any]:
    """Returns the steps per second of the plain loop, of hepgan, and of the preset with its penalties and observables."""
    other = library.prepare(library.load(preset, SIMPLE), device=device).state
    plain = plain_loop(other.gan, *(t.cpu() for t in other.loader.tensors), other.loader.batch_size)
    with ExitStack() as compilation:
        calls = {
            "plain loop": plain,
            "hepgan": step_of(preset, SIMPLE, device),
            "hepgan, as preset": step_of(preset, {}, device),
            "hepgan, as preset, cheap penalties": step_of(preset, CHEAP, device),
            "hepgan, as preset, cheap penalties, compiled": step_of(
                preset, CHEAP, device, compilation
            ),
            "hepgan, as preset, bfloat16": step_of(preset, {"train.precision": "bfloat16"}, device),
        }
        times = turns(calls, seconds, device, rounds=9)
    ratios = times["plain loop"] / times["hepgan"]
    row: dict[str, Any] = {"preset": preset}
    row |= {name: float(1 / np.median(times[name])) for name in calls}
    row["hepgan over plain loop"] = float(np.median(ratios))
    return row | {"range": f"{ratios.min():.2f}–{ratios.max():.2f}"}


def step_of(
    preset: str, changes: dict[str, Any], device: torch.device, compilation: ExitStack | None = None
) -> Callable[[], object]:
    """Returns a training step of hepgan, compiled until ``compilation`` is closed."""
    ready = library.prepare(library.load(preset, changes), device=device)
    state, discriminator_input = ready.state, ready.discriminator_input
    if compilation is not None:
        compilation.enter_context(discriminator_input.compiled())
    batches = itertools.chain.from_iterable(itertools.repeat(state.loader))

    def step() -> None:
        precision = state.settings.precision
        with autocast(state.gan.generator, precision), autocast(state.gan.discriminator, precision):
            train_step(state, discriminator_input, batches)
        state.step += 1  # some terms of the losses are not due in every step

    return step


def plain_loop(gan: GAN, x: torch.Tensor, c: torch.Tensor, batch_size: int) -> Callable[[], None]:
    """Returns a training step as in a tutorial."""
    device = gan.device
    data = DataLoader(TensorDataset(x, c), batch_size, shuffle=True, drop_last=True)
    batches = itertools.chain.from_iterable(itertools.repeat(data))
    optimizer_g = torch.optim.Adam(gan.generator.parameters(), 2e-4, (0.5, 0.999))
    optimizer_d = torch.optim.Adam(gan.discriminator.parameters(), 2e-4, (0.5, 0.999))

    def step() -> None:
        real, conditions = (t.to(device) for t in next(batches))
        ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)
        optimizer_d.zero_grad()
        loss_real = functional.binary_cross_entropy_with_logits(gan.discriminator(real, conditions).flatten(), ones)  # fmt: skip
        loss_real.backward()
        noise = torch.randn(len(real), *gan.latent, device=device)
        fake = gan.generator(noise, conditions).flatten(1)
        logits = gan.discriminator(fake.detach(), conditions).flatten()
        functional.binary_cross_entropy_with_logits(logits, zeros).backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        logits = gan.discriminator(fake, conditions).flatten()
        functional.binary_cross_entropy_with_logits(logits, ones).backward()
        optimizer_g.step()

    return step


if __name__ == "__main__":
    main()

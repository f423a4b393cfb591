"""Speed of training and generating: python benchmarks/speed.py [--preset NAME...] [--folder RUN_FOLDER] [--seconds 20].

Training: hepgan's step against the same networks and loss in a plain PyTorch loop (its own DataLoader, Adam, two backward
passes of the discriminator), turn about in one process. Generating: events a second of GAN.sample, decoded to energies, at
batch sizes of 1, 100 and 10,000.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import hepgan
from hepgan import run as library
from hepgan.gan.model import GAN
from hepgan.gan.train import train_step

BATCHES = (1, 100, 10_000)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--preset", nargs="+", default=["showers", "mnist"])
    options.add_argument("--folder", help="generate with the GAN of this run folder")
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--device", default="auto")
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device = library.device_of(chosen.device)
    print(
        f"{device}, {os.cpu_count()} cores, {chosen.threads} threads, torch {torch.__version__}\n"
    )
    print("| preset | steps/s, plain loop | steps/s, hepgan | ratio |\n|---|---|---|---|")
    gans = {}
    for preset in chosen.preset:
        gans[preset], rates = training(preset, device, chosen.seconds)
        plain, ours = np.median(rates, axis=0)
        ratios = np.array(rates)[:, 1] / np.array(rates)[:, 0]
        print(f"| {preset} | {plain:.1f} | {ours:.1f} | {np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f}) |")  # fmt: skip
    if chosen.folder:
        gans = {chosen.folder: hepgan.load_gan(chosen.folder, device=device)[0]}
    print("\n| GAN | batch | events/s | ms a batch |\n|---|---|---|---|")
    for (name, gan), batch in itertools.product(gans.items(), BATCHES):
        seconds = generating(gan, batch, chosen.seconds / 4)
        print(f"| {name} | {batch:,} | {batch / seconds:,.0f} | {1000 * seconds:.2f} |")


def training(
    preset: str, device: torch.device, seconds: float
) -> tuple[GAN, list[tuple[float, float]]]:
    """The GAN, and steps a second of (plain loop, hepgan) in several turns."""
    simple = {"train.objective": "non-saturating", "train.r1": 0.0, "train.r2": 0.0}
    simple |= {"gan.discriminator_sees": "event", "train.validate_every": 0}
    prepared = library.prepare(library.load(preset, simple), device=device)
    state, view = prepared.state, prepared.view
    batches = (batch for loader in itertools.repeat(state.loader) for batch in loader)
    ours = lambda: train_step(state, view, batches)
    other = library.prepare(library.load(preset, simple), device=device).state
    plain = plain_loop(other.gan, *(t.cpu() for t in other.loader.tensors), other.loader.batch_size)
    for warm in (ours, plain):
        rate(warm, 1.0, device)
    turns = [tuple(rate(step, seconds / 10, device) for step in (plain, ours)) for _ in range(5)]
    return state.gan, turns


def plain_loop(gan: GAN, x: torch.Tensor, c: torch.Tensor, batch_size: int) -> Callable[[], None]:
    """A step as tutorials write it."""
    device = gan.device
    data = DataLoader(TensorDataset(x, c), batch_size, shuffle=True, drop_last=True)
    batches = itertools.chain.from_iterable(itertools.repeat(data))
    down_g = torch.optim.Adam(gan.generator.parameters(), 2e-4, (0.5, 0.999))
    down_d = torch.optim.Adam(gan.discriminator.parameters(), 2e-4, (0.5, 0.999))

    def step() -> None:
        real, given = (t.to(device) for t in next(batches))
        ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)
        down_d.zero_grad()
        loss_real = functional.binary_cross_entropy_with_logits(gan.discriminator(real, given).flatten(), ones)  # fmt: skip
        loss_real.backward()
        noise = torch.randn(len(real), *gan.latent, device=device)
        fake = gan.generator(noise, given).flatten(1)
        judged = gan.discriminator(fake.detach(), given).flatten()
        functional.binary_cross_entropy_with_logits(judged, zeros).backward()
        down_d.step()
        down_g.zero_grad()
        judged = gan.discriminator(fake, given).flatten()
        functional.binary_cross_entropy_with_logits(judged, ones).backward()
        down_g.step()

    return step


def rate(step: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Steps a second."""
    done, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        step()
        done += 1
        if device.type == "cuda" and done % 100 == 0:
            torch.cuda.synchronize()
    return done / took


def generating(gan: GAN, batch: int, seconds: float) -> float:
    """The shortest time of a call."""
    given = {
        name: np.full(batch, np.mean(scale.range).round())
        for name, scale in gan.encoding.scales.items()
    }
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        gan.sample(given, n=batch, seed=len(times))
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()

"""Conditional, non-Gaussian toy with a known answer: does adversarial training find it?

    python benchmarks/toy.py                 # the relativistic objective, three seeds
    python benchmarks/toy.py --objective mmd

Events of three columns depend on one condition c, uniform from 0 to 1: a has a gamma distribution of shape 1 + 3c, b has two peaks
whose distance and heights depend on c, and d is a curved function of both with noise. The encoding only gives each column normal
scores, so that the network has to learn every dependence: on the condition, and between the columns.

Printed for the encoding alone and after training: the Wasserstein distance W1 of each margin to the exact distribution in units of
its sampling error (the mean W1 of as many exact events), in all and in each quarter of c, and the largest difference of the
correlation coefficients, those with c included.
"""

import argparse
import time

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import wasserstein_distance

from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings
from hepgan.gan.training import loop
from hepgan.gan.training.schedule import Schedule
from hepgan.gan.training.settings import NetworkSettings, TrainSettings

Values = npt.NDArray[np.float64]
COLUMNS = ("a", "b", "d")
SCHEMA = Schema.from_table({"fields": {name: {} for name in COLUMNS}, "conditions": {"c": {}}})
TRAINING, GENERATED, EXACT = 50_000, 10_000, 400_000
CORRELATED = 200_000
"""Number of generated events for correlations, whose sampling error is then 0.002."""

NETWORKS = GANSettings(
    latent=(0,),
    generator="RES[COND, DENSE|64|SILU, DENSE|64|SILU, DENSE|64|SILU, DENSE|N|LINEAR|ZERO]",
    discriminator="COND, DENSE|128|LRELU, DENSE|128|LRELU, DENSE|128|LRELU, DENSE|1|LINEAR",
)


def exact(number: int, seed: int) -> Values:
    """Returns events ``[E, 4]``: the columns, then the condition."""
    rng = np.random.default_rng(seed)
    c, n, m = rng.uniform(size=number), *rng.standard_normal((2, number))
    a = rng.gamma(1 + 3 * c)
    side = np.where(rng.uniform(size=number) < 0.3 + 0.4 * c, 1.0, -1.0)
    b = side * (1 + c) + 0.4 * n
    d = 0.3 * (0.5 + c) * a + 0.5 * b**2 + 0.3 * m
    return np.stack([a, b, d, c], 1)


def train(objective: str, steps: int, seed: int) -> tuple[GAN, GAN, float]:
    """Returns the GAN before and after training, and the seconds that the training took."""
    values = exact(TRAINING, 1000 + seed).astype("f4")
    events = ak.zip(dict(zip((*COLUMNS, "c"), values.T, strict=True)), depth_limit=1)
    settings = EncodingSettings(
        ({"step": "marginals"},), {"c": ConditionScale((0.0, 1.0), "linear")}
    )
    encoding = Encoding.fit(events, SCHEMA, settings, seed=seed)
    x, c = encoding.encode(events, seed=seed)
    networks = NETWORKS
    penalties = {"r1": Schedule(1.0, 0.1), "r2": Schedule(1.0, 0.1)}
    if objective == "mmd":
        networks = GANSettings((0,), generator=NETWORKS.generator)
        penalties = {}
    training = TrainSettings(
        steps=steps, batch_size=500, objective=objective, **penalties,
        generator=NetworkSettings(Schedule(1e-3, 0.0, warmup=50), betas=(0.0, Schedule(0.9, 0.99))),
        discriminator=NetworkSettings(Schedule(2e-3, 0.0), betas=(0.0, Schedule(0.9, 0.99))),
        ema_half_life=Schedule(10.0, 200.0), validate_every=0, log_every=500,
    )  # fmt: skip
    gan = GAN.build(networks, encoding, seed=seed)
    start = time.perf_counter()
    inputs = DiscriminatorInput(encoding, {}, x, c)
    state = loop.initial_state(gan, inputs, x, c, [training], seed=seed)
    before = loop.best_gan(state)
    trained, _ = loop.train(state, inputs)
    return before, trained, time.perf_counter() - start


def distances(values: Values, reference: Values) -> Values:
    """Returns W1 of each column, in all and in each quarter of the condition, ``[5, 3]``."""
    parts = [(values, reference)]
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = [v[(low <= v[:, 3]) & (v[:, 3] < low + 0.25)] for v in (values, reference)]
        parts.append((inside[0], inside[1]))
    return np.array(
        [[wasserstein_distance(one[:, i], two[:, i]) for i in range(3)] for one, two in parts]
    )


def generate(gan: GAN, number: int, seed: int) -> Values:
    """Returns generated events ``[E, 4]`` at uniform conditions."""
    c = np.random.default_rng(2000 + seed).uniform(size=number)
    events = gan.sample(c=c, seed=seed)
    return np.stack([ak.to_numpy(events[name]) for name in (*COLUMNS, "c")], 1).astype("f8")


def main() -> None:
    """Trains for each seed and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objective", default="relativistic")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reference = exact(EXACT, 0)
    samples = [distances(exact(GENERATED, seed), reference) for seed in range(1, 11)]
    error = np.mean(samples, 0)
    print(f"sampling errors of W1 at N = {GENERATED:,}: {np.round(error[0], 4)}")
    correlations = np.corrcoef(reference.T)
    for seed in range(1, arguments.seeds + 1):
        before, trained, seconds = train(arguments.objective, arguments.steps, seed)
        for name, gan in (("encoding alone", before), ("trained", trained)):
            values = generate(gan, CORRELATED, seed)
            ratio = distances(values[:GENERATED], reference) / error
            change = np.abs(np.corrcoef(values.T) - correlations).max()
            margins = ", ".join(f"{x} {r:.2f}" for x, r in zip(COLUMNS, ratio[0], strict=True))
            print(
                f"seed {seed}, {name}: W1 / error {margins}; largest in a quarter of c {ratio[1:].max():.2f};"
                f" correlations {change:.4f}" + (f"; {seconds:.0f} s" if gan is trained else "")
            )  # fmt: skip


if __name__ == "__main__":
    main()

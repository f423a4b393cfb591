"""Training closes on a conditional, non-Gaussian target that the encoding alone misses by a known amount."""

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import scipy.stats
import torch

from hepgan import pipeline
from hepgan.data.io import writer
from hepgan.data.schema import Schema
from hepgan.gan.model import GAN

RUN = """
seed = 1
threads = 1

[data]
files = ["{path}"]
tree = "events"

[schema.fields.v]

[schema.conditions.energy]

[encoding]
steps = [{{ step = "standardize" }}]

[encoding.conditions.energy]
range = [1.0, 10.0]

[gan]
latent = [0]
generator = "RES[COND, DENSE|32|LRELU, DENSE|32|LRELU, DENSE|N|LINEAR|ZERO]"
discriminator = "DENSE|32|LRELU, DENSE|32|LRELU, DENSE|1|LINEAR"

[train]
steps = 0
batch_size = 256
generator = {{ learning_rate = 2e-3 }}
discriminator = {{ learning_rate = 2e-3 }}
r1 = 0.1
r2 = 0.1
ema = 0.99
validate_every = 0
checkpoint_every = 1000
"""

RESPONSE = scipy.stats.gamma(4, scale=0.25)
"""Distribution of v / energy: mean 1, standard deviation 0.5, skewness 1."""

WINDOWS = [(1.0, 2.0), (4.0, 6.0), (9.0, 10.0)]


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closure")
    rng = np.random.default_rng(1)
    energy = rng.uniform(1, 10, 10_000)
    v = energy * RESPONSE.rvs(len(energy), random_state=rng)
    schema = Schema.from_table({"fields": {"v": {}}, "conditions": {"energy": {}}})
    events = ak.zip({"v": v.astype("f4"), "energy": energy.astype("f4")})
    writer.write(folder / "events.root", events, schema, tree="events")
    path = folder / "run.toml"
    path.write_text(RUN.format(path=folder / "events.root"))
    return path


def trained(run_file: Path, steps: int, folder: Path) -> GAN:
    settings = pipeline.load(run_file, {"train.steps": steps})
    gan, _ = pipeline.train(settings, folder, device=torch.device("cpu"))
    return gan


def distances(response: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """Returns W1 between ``response(energies)`` and the true response in each window of the energy."""
    expected = RESPONSE.ppf((np.arange(4000) + 0.5) / 4000)
    energies = [np.linspace(low, high, 4000) for low, high in WINDOWS]
    return [scipy.stats.wasserstein_distance(response(e), expected) for e in energies]


def generated(gan: GAN) -> Callable[[np.ndarray], np.ndarray]:
    return lambda energy: ak.to_numpy(gan.sample(energy=energy, seed=3)["v"]) / energy


def test_encoding_alone_misses_the_target_by_the_expected_distance(
    run_file: Path, tmp_path: Path
) -> None:
    """Without training, v has the mean 5.5 and standard deviation 4 of all events at every energy, clipped at 0."""
    rng = np.random.default_rng(2)
    expected = distances(lambda energy: rng.normal(5.5, 4, len(energy)).clip(0) / energy)
    untrained = distances(generated(trained(run_file, 0, tmp_path / "run")))
    assert untrained == pytest.approx(expected, rel=0.1)
    assert min(untrained) > 0.2


def test_training_reaches_the_target(run_file: Path, tmp_path: Path) -> None:
    response = generated(trained(run_file, 400, tmp_path / "run"))
    low, middle, high = distances(response)
    assert low < 0.3  # 3.0 without training
    assert max(middle, high) < 0.12  # 0.3 and 0.4 without training
    assert scipy.stats.skew(response(np.full(4000, 5.0))) > 0.4  # 0 without training


def test_a_dead_optimizer_does_not_reduce_the_distance(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: None)
    low, middle, high = distances(generated(trained(run_file, 50, tmp_path / "run")))
    assert low > 2
    assert min(middle, high) > 0.2

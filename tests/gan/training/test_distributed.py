"""Several processes train like one process with the whole batch; two gloo processes, as started by ``torchrun``."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY, tiny_events, write_tiny

from hepgan import pipeline as library
from hepgan.data.loaders.in_memory import UnsupervisedLoader
from hepgan.gan.model import GAN
from hepgan.gan.training import history
from hepgan.pipeline.config import as_toml


def torchrun(*arguments: object, processes: int = 2) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, *launcher, "-m", "hepgan", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    write_tiny(folder / "tiny.root", tiny_events(1500, 1))
    path = folder / "tiny.toml"
    path.write_text(TINY.format(path=folder / "tiny.root").replace("threads = 0", "threads = 1"))
    return path


def test_two_processes_train_like_one(run_file: Path, tmp_path: Path) -> None:
    terms = {
        "gradient_penalty": 0.1,
        "feature_matching": 0.5,
        "generator_steps": 2,
        "transport": 0.1,
        "gradient_norm": 0.1,
    }
    terms |= {"penalty": "finite-differences", "penalty_fraction": 0.3, "penalty_every": 2}
    settings = {f"train.{name}": value for name, value in terms.items()}
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = torchrun("train", run_file, "-o", tmp_path / "two", "--device", "cpu", *options)
    two = tmp_path / "two"
    assert (two / "gan.json").is_file(), done.stderr  # gloo may abort in its teardown
    assert done.stdout.count("trained:") == 1
    run = library.load(run_file, settings)
    library.train(run, tmp_path / "one", device="cpu")
    one, other = (load_file(tmp_path / name / "generator.safetensors") for name in ("one", "two"))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-5)
    rows = [history.read(tmp_path / name) for name in ("one", "two")]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for a, b in zip(*rows, strict=True):
        for name in set(a) - {"seconds"}:
            assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-4)


def test_two_processes_train_the_networks_of_an_encoding_like_one(
    run_file: Path, tmp_path: Path
) -> None:
    settings = {
        "encoding.steps": [{"step": "autoregressive", "hidden": 8, "steps": 20}],
        "gan.latent": [0],
        "gan.generator": "DENSE|N|LINEAR",
        "gan.discriminator_input": "observables",
        "train.encoding_learning_rate": 1e-3,
        "train.validate_every": 0,  # the last step is kept
    }
    path = tmp_path / "trained.toml"
    path.write_text(as_toml(library.load(run_file, settings)))
    done = torchrun("train", path, "-o", tmp_path / "two", "--device", "cpu")
    assert (tmp_path / "two" / "gan.json").is_file(), done.stderr
    gan, _ = library.train(library.load(path), tmp_path / "one", device="cpu")
    fitted, _ = library.train(library.load(path, {"train.steps": 0}), tmp_path / "zero", device="cpu")  # fmt: skip
    one, two, zero = (each.encoding.pack()[1] for each in (gan, GAN.load(tmp_path / "two"), fitted))
    changed = [name for name in one if not torch.equal(one[name], zero[name])]
    assert changed
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)


def test_run_and_uneven_batches_raise_in_several_processes(run_file: Path, tmp_path: Path) -> None:
    done = torchrun("run", run_file, "-o", tmp_path / "no", "--device", "cpu")
    assert "several processes can only train" in done.stderr
    odd = ["--set", "train.batch_size=63"]
    done = torchrun("train", run_file, "-o", tmp_path / "no", "--device", "cpu", *odd)
    assert "batches of 63 events cannot be split evenly over 2 processes" in done.stderr
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_batches_of_all_processes_add_up_to_those_of_one(world: int) -> None:
    x = torch.arange(101.0)[:, None]
    whole = [b[0] for b in UnsupervisedLoader(x, batch_size=12, seed=4)]
    parts = [
        [
            b[0]
            for b in UnsupervisedLoader(
                x, batch_size=12 // world, seed=4, rank=rank, world_size=world
            )
        ]
        for rank in range(world)
    ]
    for batch, *local_batches in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(batch, torch.cat(local_batches))


APART = """
import os
import signal
import sys
from pathlib import Path

import torch
from torch import distributed

from hepgan.gan import serialization
from hepgan.gan.training import checkpoint
from hepgan.gan.training import distributed as ranks
from hepgan.gan.training import loop as training
from hepgan.pipeline.training import _resume

sys.path.insert(0, sys.argv[1])
from trainings import NORMED, QUICK, start_training, watch
import dataclasses

out = Path(sys.argv[2])
with ranks.process_group(torch.device("cpu")):
    rank = ranks.rank()
    train_settings = dataclasses.replace(QUICK, steps=40, validate_every=5, patience=2, checkpoint_every=5)
    state, discriminator_input = start_training(NORMED, train_settings)
    # On its own, process 1 would stop early at once.
    scores = iter([9.0, 8.0, 7.0, 7.5, 7.5] if rank == 0 else [1.0, 2.0, 3.0])
    gan, rows = training.train(
        state, discriminator_input, validation=watch(lambda gan: next(scores)), folder=out if rank == 0 else None
    )
    kept = gan.generator.state_dict() | {f"d.{k}": v for k, v in state.gan.discriminator.state_dict().items()}
    mine = (state.step, gan.kept, {name: tensor.tolist() for name, tensor in kept.items()})
    both = [None, None]
    distributed.all_gather_object(both, mine)
    assert both[0] == both[1]
    assert state.step == 20 and state.best_step == 10
    # Process 1 sees no checkpoint, as on a file system that lags behind.
    again, _ = start_training(NORMED, train_settings)
    seen = checkpoint.newest_checkpoint(out if rank == 0 else out / "lagging")
    _resume(again, out, ranks.broadcast(seen, torch.device("cpu")), write=False)
    assert again.step == 20
    # A signal that reaches process 1 alone ends both at the next row.
    lone, discriminator_input = start_training(NORMED, train_settings)
    step = training.train_step

    def signaled(state, *more):
        if rank == 1 and state.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(state, *more)

    training.train_step = signaled
    try:
        training.train(lone, discriminator_input)
    except training.TrainingStopped as stopped:
        assert lone.step == 10 and stopped.code == 143
        print("agreed", flush=True)
"""


def test_processes_with_batch_norm_follow_the_decisions_of_the_first(tmp_path: Path) -> None:
    """Process 0 validates, applies the patience and chooses the checkpoint; running statistics are the same in all processes."""
    (tmp_path / "apart.py").write_text(APART)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *launcher, tmp_path / "apart.py", Path(__file__).parents[2], tmp_path],
        capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.count("agreed") == 2, done.stderr

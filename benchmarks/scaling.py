"""Scaling of training, and fraction of peak performance: python benchmarks/scaling.py FOLDER [--preset showers-fast] [--seconds 8].

Measures steps and events per second against batch size, network width, number of training events and number of processes. Compares
the floating-point operations and bytes of a training step and of generation with those of a large matrix product and a copy in the same run.
Writes FOLDER/scaling.md and FOLDER/scaling.json.
"""

import argparse
import dataclasses
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import about, seconds_a_call, turns, write
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from hepgan import pipeline as library
from hepgan.gan.training import history
from hepgan.gan.training import loop as training
from hepgan.gan.training.state import TrainingState
from hepgan.pipeline.training import Prepared

BATCHES, WIDTHS, EVENTS = (32, 128, 512, 2048), (64, 256, 1024), (1000, 10_000, 100_000)
Call = Callable[[], object]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--preset", default="showers-fast")
    options.add_argument("--device", default="auto")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--seconds", type=float, default=8)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device, preset = library.resolve_device(chosen.device), chosen.preset
    by = lambda what, steps: rates(what, steps, chosen.seconds, device)
    tables = {
        "Batch": by("batch", {n: step(preset, device, {"train.batch_size": n}) for n in BATCHES}),
        "Width": by("width", {n: step(preset, device, widened(preset, n)) for n in WIDTHS}),
        "Training events": by(
            "training events", {n: step(preset, device, {}, events=n) for n in EVENTS}
        ),
        "Processes": processes(preset, chosen.device),
        "A row of the history": [row_cost(preset, device, chosen.seconds)],
        "Fraction of peak performance": limits(preset, device, chosen.seconds),
    }
    write(chosen.folder, "scaling", about(device, preset=preset), tables)


def prepared(preset: str, device: torch.device, changes: dict[str, Any]) -> Prepared:
    return library.prepare(
        library.load(preset, {"train.validate_every": 0} | changes), device=device
    )


def step(
    preset: str, device: torch.device, changes: dict[str, Any], *, events: int = 0
) -> tuple[Call, int]:
    """Returns a training step that reuses the given number of events, and its batch size."""
    ready = prepared(preset, device, changes)
    state, discriminator_input, settings = (
        ready.state,
        ready.discriminator_input,
        ready.state.settings,
    )
    if events:
        x, c = state.loader.tensors
        rows = torch.arange(events, device=device) % len(x)
        loader = type(state.loader)(x[rows], c[rows], batch_size=settings.batch_size, seed=1)
        state = dataclasses.replace(state, loader=loader)
    batches = itertools.chain.from_iterable(itertools.repeat(state.loader))
    return lambda: training.train_step(state, discriminator_input, batches), settings.batch_size


def widened(preset: str, width: int) -> dict[str, str]:
    """Returns the networks of the preset with hidden layers of that width."""
    gan = library.load(preset).gan
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    return {
        f"gan.{k}": re.sub(r"DENSE\|\d\d+\|", f"DENSE|{width}|", v) for k, v in networks.items()
    }


def rates(
    what: str, steps: dict[int, tuple[Call, int]], seconds: float, device: torch.device
) -> list[dict[str, Any]]:
    """Returns one row for each of ``steps``, interleaved."""
    times = turns({str(n): call for n, (call, _) in steps.items()}, seconds, device)
    return [
        {what: n} | rate(float(np.median(times[str(n)])), batch) for n, (_, batch) in steps.items()
    ]


def rate(seconds: float, batch: int) -> dict[str, float]:
    return {"ms per step": 1000 * seconds, "steps/s": 1 / seconds, "events/s": batch / seconds}


def processes(preset: str, device: str) -> list[dict[str, Any]]:
    """Measures the processes of ``torchrun`` on this machine in wall time; they share its cores with other programs."""
    rows = []
    for number, batch in itertools.product((1, 2), (128, 1024)):
        with tempfile.TemporaryDirectory() as folder:
            torchrun(number, preset, Path(folder) / "run", batch, device)
            first, *_, last = history.read(Path(folder) / "run")
        seconds = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
        rows.append({"processes": number, "batch": batch} | rate(seconds, batch))
    return rows


def torchrun(number: int, preset: str, folder: Path, batch: int, device: str) -> None:
    settings = {"train.batch_size": batch, "train.steps": 100, "train.log_every": 20}
    settings |= {"train.validate_every": 0, "threads": 1}
    more = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
    command = ["-m", "hepgan", "train", preset, "-o", str(folder), "--device", device, *more]
    subprocess.run(
        [sys.executable, *launcher, *command], check=False, capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def row_cost(preset: str, device: torch.device, seconds: float) -> dict[str, Any]:
    """Measures the time to write a row relative to the steps between two rows."""
    ready = prepared(preset, device, {})
    state, sums = ready.state, torch.ones(3, device=device)
    batches = itertools.chain.from_iterable(itertools.repeat(state.loader))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def row() -> None:
            history.append(
                folder, training.history_row(state, ready.discriminator_input, sums, None, folder)
            )

        one = lambda: training.train_step(state, ready.discriminator_input, batches)
        times = turns({"row": row, "step": one}, seconds, device)
    row_, step_ = (float(np.median(times[part])) for part in ("row", "step"))
    every = state.settings.log_every
    return {"µs per row": 1e6 * row_, "steps between rows": every, "fraction of the time": row_ / (row_ + every * step_)}  # fmt: skip


class Work(TorchDispatchMode):
    """Counts floating-point operations, and the bytes that all operations read and write without caches.

    PyTorch's ``FlopCounterMode`` does not support second derivatives; this class uses its formulas.
    """

    operations, bytes = 0, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, inputs: Sequence[Any] = (), options: Any = None
    ) -> Any:
        result = function(*inputs, **(options or {}))
        if formula := flop_registry.get(function._overloadpacket):
            self.operations += formula(*inputs, **(options or {}), out_val=result)
        if not function.is_view:
            tensors = [t for t in tree_leaves((inputs, result)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def limits(preset: str, device: torch.device, seconds: float) -> list[dict[str, Any]]:
    """Returns operations and bytes of a training step and of 10,000 generated events, as fractions of the machine's peak."""
    a, b = (torch.randn(2048, 2048, device=device) for _ in range(2))
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    product, copy = lambda: torch.mm(a, b), lambda: target.copy_(source)
    flops = 2 * 2048**3 / seconds_a_call(product, seconds / 4, device)
    width = 2 * 4 * 2**26 / seconds_a_call(copy, seconds / 4, device)
    state = prepared(preset, device, {}).state
    one, _ = step(preset, device, {})
    return [
        fraction_of_peak("training step", one, flops, width, seconds, device),
        fraction_of_peak("10,000 events, networks alone", generating(state, device), flops, width, seconds, device),
        fraction_of_peak("10,000 events, decoded", generating(state, device, decoded=True), flops, width, seconds, device),
    ]  # fmt: skip


def generating(state: TrainingState, device: torch.device, *, decoded: bool = False) -> Call:
    """Generates 10,000 events in one batch."""
    gan = state.gan
    z = torch.randn(10_000, *gan.latent, device=device)
    c = state.loader.tensors[1][torch.arange(len(z), device=device) % len(state.loader.tensors[1])]

    @torch.no_grad()
    def call() -> object:
        x = gan.generate(z, c)
        return gan.encoding.decode_tensors(x, c) if decoded else x

    return call


def fraction_of_peak(
    name: str, call: Call, flops: float, width: float, seconds: float, device: torch.device
) -> dict[str, Any]:
    took = float(np.median(turns({name: call}, seconds, device)[name]))
    with Work() as work:
        call()
    return {
        "what": name,
        "ms": 1000 * took,
        "GFLOP": work.operations / 1e9,
        "GB": work.bytes / 1e9,
        "machine, GFLOP/s": flops / 1e9,
        "machine, GB/s": width / 1e9,
        "fraction of peak operations": work.operations / flops / took,
        "fraction of peak bandwidth": work.bytes / width / took,
    }


if __name__ == "__main__":
    main()

"""Training from a stream: python benchmarks/streaming.py FOLDER [--gb 1] [--preset showers-fast] [--steps 600].

Writes a file of ``--gb`` GB, the showers of the sample repeated without compression, and trains the preset on a small part of it in
memory and on the whole file streamed, each in its own process. The speed is that of the steps after the first, in wall time and in CPU
time of the training thread and of the thread that reads and encodes. Other load on a shared machine affects only the former.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import torch
import uproot
from measuring import about, write

from hepgan import pipeline
from hepgan.data.io import reader
from hepgan.gan.training import loop
from hepgan.random_streams import numpy_generator

SMALL = 20_000
"""Events of the training in memory, whose speed does not depend on their number."""

BLOCK = 10_000
"""Events per cluster."""

CHANGES = {
    "data.encoding_events": SMALL, "data.reflect": [], "train.validate_every": 0,
    "encoding.steps": [
        {"step": "layer_sums", "incident": "energy", "threshold": 0.01},
        {"step": "log", "threshold": 0.01},
        {"step": "standardize"},
    ],
}  # fmt: skip
"""Changes to the preset: a usual encoding instead of a copula, whose Gibbs sweeps take as long as the training."""


def write_repeated(run: pipeline.RunConfig, path: Path, events: int) -> None:
    """Writes the events of the run's files again and again in random order, until there are ``events``, with the same branches."""
    sample = reader.read(list(run.data.files), reader.resolve(list(run.data.files), run.schema))
    rng = numpy_generator(1, "order")
    with uproot.recreate(path, compression=None) as file:
        for start in range(0, events, BLOCK):
            part = sample[rng.integers(len(sample), size=min(BLOCK, events - start))]
            columns = {name: ak.to_numpy(part[name]) for name in part.fields}
            if start == 0:
                file.mktree("showers", {n: (c.dtype, c.shape[1:]) for n, c in columns.items()})
            file["showers"].extend(columns)


def timed(batches: Iterator[tuple[torch.Tensor, ...]], marks: list[tuple[float, ...]]) -> Any:
    """Yields the batches, and notes wall time, CPU time of the process and of this thread before each."""
    for batch in batches:
        marks.append((time.perf_counter(), time.process_time(), time.thread_time()))
        yield batch


def measure(preset: str, path: Path, stream: bool, steps: int) -> dict[str, Any]:
    """Returns speed and memory of one training, in this process."""
    torch.set_num_threads(1)
    run = pipeline.load(
        preset,
        {
            **CHANGES, "data.files": [str(path)], "data.stream": stream,
            "train.steps": steps, "train.log_every": steps,
        },
    )  # fmt: skip
    start = time.perf_counter()
    prepared = pipeline.prepare(run, device=torch.device("cpu"))
    prepared_in = time.perf_counter() - start
    marks: list[tuple[float, ...]] = []
    endless = loop._endless
    loop._endless = lambda loader: timed(endless(loader), marks)
    loop.train(prepared.state, prepared.discriminator_input)
    # From the first batch, when the shuffle buffer has been filled, to the last one.
    wall, process, thread = (
        (b - a) / (len(marks) - 1) / run.train.batch_size * 1e6
        for a, b in zip(marks[0], marks[-1], strict=True)
    )
    return {
        "training": "streamed" if stream else "in memory",
        "file [MB]": path.stat().st_size / 1e6,
        "peak memory [MB]": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "preparation [s]": prepared_in,
        "events/s": 1e6 / wall,
        "training thread [µs/event]": thread,
        "reading thread [µs/event]": process - thread,
    }


def main() -> None:
    """Runs both trainings and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--preset", default="showers-fast")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stream", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.preset, options.measure, options.stream, options.steps)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    run = pipeline.load(options.preset)
    values = sum(field.size for field in run.schema.all.values())
    sizes = {"small": SMALL, "large": max(SMALL, int(options.gb * 1e9 / (4 * values)))}
    for name, events in sizes.items():
        if not (options.folder / f"{name}.root").exists():
            write_repeated(run, options.folder / f"{name}.root", events)
    rows = []
    for name, stream in (("small", False), ("small", True), ("large", True)):
        command = [sys.executable, __file__, str(options.folder), "--preset", options.preset]
        command += ["--steps", str(options.steps), "--measure", options.folder / f"{name}.root"]
        process = subprocess.run(
            [*command, *(["--stream"] if stream else [])],
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append(json.loads(process.stdout.splitlines()[-1]))
    memory, (_, large) = rows[0], rows[1:]
    alone = memory["training thread [µs/event]"]
    training, reading = (large[f"{n} thread [µs/event]"] for n in ("training", "reading"))
    ratios = {
        "wall time": large["events/s"] / memory["events/s"],
        "two free cores": alone / max(training, reading),
        "one core": alone / (training + reading),
    }
    facts = about(torch.device("cpu"), preset=options.preset, steps=options.steps)
    write(options.folder, "streaming", facts, {"trainings": rows, "streamed / in memory": [ratios]})


if __name__ == "__main__":
    main()

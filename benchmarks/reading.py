"""Reading compared with plain uproot, in CPU seconds of one run: python benchmarks/reading.py [FOLDER] [GB].

Writes test files to a temporary folder in FOLDER, which is made if it does not exist (default: that of the system), and removes
them: 20,000 images of 784 float32 as a fixed array, 784 scalar branches, a jagged branch and an RNTuple, and a file of GB
(default 1) of showers for streaming. Needs hepgan alone, half of GB and 0.2 GB of disk space, and 1 GB of memory.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
import uproot

from hepgan.data.io import reader, writer
from hepgan.data.io.chunks import as_events
from hepgan.data.loaders.in_memory import StreamingLoader, UnsupervisedLoader
from hepgan.data.schema import Field, Schema

EVENTS, PIXELS = 20_000, 784
FIXED = Schema({"image": Field((28, 28))})
SCALARS = Schema({"image": Field((28, 28), branches=("pixel{0..783}",))})
JAGGED = Schema({"hits": Field((PIXELS,), fill=0.0)})
SHOWERS = Schema(
    {"layer_0": Field((3, 96)), "layer_1": Field((12, 12)), "layer_2": Field((12, 6))},
    {"energy": Field()},
)


def cpu(call: Callable[[], object], repeat: int = 5) -> float:
    """Returns the minimum CPU time of several calls after a warm-up call [s]."""
    call()
    times = []
    for _ in range(repeat):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def compare(
    name: str, plain: Callable[[], object], hepgan: Callable[[], object], goal: float
) -> None:
    """Prints the ratio of two calls, interleaved because the load of the machine changes."""
    pairs = [(cpu(plain, 3), cpu(hepgan, 3)) for _ in range(2)]
    a, b = (min(column) for column in zip(*pairs, strict=True))
    print(
        f"{name:24} uproot/torch {a:7.3f} s   hepgan {b:7.3f} s   ratio {b / a:.2f} (goal {goal})"
    )


def make(folder: Path) -> None:
    """Writes the small files."""
    rng = np.random.default_rng(1)
    values = rng.random((EVENTS, PIXELS), dtype="f4")
    events = as_events({"image": values.reshape(-1, 28, 28)})
    writer.write(folder / "fixed.root", events, FIXED, tree="t")
    writer.write(folder / "rntuple.root", events, FIXED, tree="t", format="RNTuple")
    writer.write(folder / "scalars.root", events, SCALARS, tree="t")
    counts = rng.integers(600, PIXELS, EVENTS)
    hits = as_events({"hits": values, "n_hits": counts})
    writer.write(folder / "jagged.root", hits, JAGGED, tree="t")


def tensor(array: np.ndarray) -> torch.Tensor:
    """Converts to a tensor, the last step of every comparison."""
    return torch.from_numpy(np.ascontiguousarray(array))


def reading(folder: Path) -> None:
    """Prints the ratios of reading into tensors."""

    def tree(name: str) -> uproot.TTree:
        return uproot.open(folder / f"{name}.root")["t"]

    def fixed(name: str) -> torch.Tensor:
        return tensor(ak.to_numpy(tree(name).arrays(["image"])["image"]))

    def scalars() -> torch.Tensor:
        names = [f"pixel{i}" for i in range(PIXELS)]
        arrays = tree("scalars").arrays(names, library="np")
        return tensor(np.stack([arrays[name] for name in names], axis=1))

    def jagged() -> torch.Tensor:
        lists = tree("jagged").arrays(["hits"])["hits"]
        padded = ak.pad_none(lists, PIXELS, clip=True)
        return tensor(ak.to_numpy(ak.fill_none(padded, 0.0)))

    def hepgan(name: str, schema: Schema) -> torch.Tensor:
        events = reader.read(folder / f"{name}.root", schema)
        return tensor(ak.to_numpy(events[next(iter(schema.fields))]))

    compare("fixed array", lambda: fixed("fixed"), lambda: hepgan("fixed", FIXED), 1.15)
    compare("RNTuple", lambda: fixed("rntuple"), lambda: hepgan("rntuple", FIXED), 1.15)
    compare("jagged, padded", jagged, lambda: hepgan("jagged", JAGGED), 1.15)
    compare("784 scalar branches", scalars, lambda: hepgan("scalars", SCALARS), 1.1)


def batches() -> None:
    """Prints the ratio of batches from memory to indexing with a permutation."""
    x, c = torch.rand(EVENTS, 504), torch.rand(EVENTS, 1)
    loader = UnsupervisedLoader(x, c, batch_size=256, seed=1)

    def plain() -> None:
        order = torch.randperm(EVENTS)
        for i in range(0, EVENTS - 255, 256):
            _ = x[order[i : i + 256]], c[order[i : i + 256]]

    compare("batches from memory", plain, lambda: [None for _ in loader], 1.1)


def encode(events: ak.Array, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the concatenated layers and the energy."""
    x = [torch.from_numpy(ak.to_numpy(events[name])).flatten(1) for name in SHOWERS.fields]
    return torch.cat(x, dim=1), torch.from_numpy(ak.to_numpy(events["energy"]))[:, None]


def streaming(folder: Path, gigabytes: float) -> None:
    """Prints speed and memory of streaming a file, relative to uproot's sequential reading."""
    rng = np.random.default_rng(1)

    def chunks() -> Iterator[ak.Array]:
        for _ in range(max(1, round(gigabytes * 1e9 / 2020 / 14_000))):
            columns = {
                n: rng.random((14_000, *f.shape), dtype="f4") for n, f in SHOWERS.all.items()
            }
            yield as_events({name: np.maximum(values - 0.6, 0) for name, values in columns.items()})

    path = folder / "showers.root"
    writer.write(path, chunks(), SHOWERS, tree="t", compression=uproot.ZSTD(1))
    loader = StreamingLoader(path, SHOWERS, encode, batch_size=256, seed=1)

    def plain() -> None:
        for events in uproot.iterate({path: "t"}, step_size="25 MB", library="ak"):
            encode(events)

    def hepgan() -> int:
        return sum(len(x) for x, _ in loader)

    streamed = hepgan()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"streamed {streamed * 2.02e-6:.1f} GB, at most {peak:.2f} GB resident (goal < 1)")
    pairs = [(both(plain), both(hepgan)) for _ in range(3)]
    for what, turns in zip(
        ("wall", "CPU"), zip(*(zip(*p, strict=True) for p in pairs), strict=True), strict=True
    ):
        a, b = (min(column) for column in zip(*turns, strict=True))
        print(f"  {what:4} uproot {a:6.2f} s   hepgan {b:6.2f} s   speed {a / b:.2f} (goal 0.8)")


def both(call: Callable[[], object]) -> tuple[float, float]:
    """Returns the wall and CPU time of one call [s]."""
    start, spent = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - spent


def main(folder: str = "", gigabytes: str = "1") -> None:
    """Runs all comparisons; streaming first, because the peak memory is that of the process."""
    torch.set_num_threads(1)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder or None) as temporary:
        streaming(Path(temporary), float(gigabytes))
        make(Path(temporary))
        reading(Path(temporary))
    batches()


if __name__ == "__main__":
    main(*sys.argv[1:])

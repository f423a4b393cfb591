"""Loaders on the same ROOT files: python benchmarks/loaders.py [--root PYTHON] [--weaver PYTHON].

Runs each loader in its own process and measures the CPU seconds of imports, of the first batch of 256 (including opening files and
compiling code) and of one more epoch, for 10,000 events as a fixed array of 784 float32, as 784 scalar branches and as 508. The options name
the Python of an environment with ROOT (PyPI: root) or weaver-core; without them these rows are omitted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from hepgan.data.io import writer
from hepgan.data.io.chunks import as_events
from hepgan.data.schema import Field, Schema

EVENTS = 10_000
FILES = {
    "array of 784": (784, Schema({"x": Field((784,))})),
    "784 branches": (784, Schema({"x": Field((784,), branches=("x{0..783}",))})),
    "508 branches": (508, Schema({"x": Field((508,), branches=("x{0..507}",))})),
}

# Code of each process: `first` returns the first batch, `epoch` iterates over one epoch.
HEPGAN = """
import torch, awkward as ak, hepgan
torch.set_num_threads(1)
schema = hepgan.Schema.from_table({"fields": {"x": {"shape": [width], "branches": branches}}})
def loader():
    x = torch.from_numpy(ak.to_numpy(hepgan.read(path, schema)["x"]))
    return hepgan.UnsupervisedLoader(x, batch_size=256, seed=1)
def first(): return next(iter(loader()))[0]
def epoch(): return sum(len(x) for x, _ in loader())
"""

STREAM = """
import torch, awkward as ak, hepgan
from hepgan.data.loaders.in_memory import StreamingLoader
torch.set_num_threads(1)
schema = hepgan.Schema.from_table({"fields": {"x": {"shape": [width], "branches": branches}}})
def encode(events, **_):
    return torch.from_numpy(ak.to_numpy(events["x"])), torch.empty(len(events), 0)
def loader():
    return StreamingLoader(path, schema, encode, batch_size=256, seed=1, buffer=2560)
def first(): return next(iter(loader()))[0]
def epoch(): return sum(len(x) for x, _ in loader())
"""

RDATALOADER = """
import ROOT, torch
sizes = {"max_vec_sizes": {"x": width}} if branches == ["x"] else {}
def loader():
    frame = ROOT.RDataFrame("t", path)
    return ROOT.Experimental.ML.RDataLoader(frame, 256, batches_in_memory=10, **sizes).as_torch()
def tensor(batch): return batch[0] if isinstance(batch, (tuple, list)) else batch
def first(): return tensor(next(iter(loader())))
def epoch(): return sum(len(tensor(batch)) for batch in loader())
"""

RDATAFRAME = """
import ROOT, numpy as np
def arrays():
    found = ROOT.RDataFrame("t", path).AsNumpy()
    if branches == ["x"]: return np.stack([np.asarray(v) for v in found["x"]])
    return np.stack(list(found.values()), 1)
def first(): return arrays()[:256]
def epoch(): return len(arrays())
"""

WEAVER = """
import pathlib, torch, yaml
from weaver.utils.dataset import SimpleIterDataset
torch.set_num_threads(1)
names = ["x"] if branches == ["x"] else [f"x{i}" for i in range(width)]
variables = [[name, None] for name in names]
label = "ak.ones_like(x[:, 0])" if branches == ["x"] else "ak.ones_like(x0)"
config = {"treename": "t", "new_variables": {"one": label},
          "preprocess": {"method": "manual"},
          "inputs": {"x": {"vars": variables, "length": width if branches == ["x"] else None}}, "labels": {"type": "custom", "value": {"label": "one"}}}
where = pathlib.Path(path).with_suffix(".yaml"); where.write_text(yaml.safe_dump(config))
def loader():
    data = SimpleIterDataset({"all": [path]}, str(where), for_training=True, fetch_step=1.0, async_load=False)
    return torch.utils.data.DataLoader(data, batch_size=256, drop_last=True)
def first(): return next(iter(loader()))[0]["x"]
def epoch(): return sum(len(batch[0]["x"]) for batch in loader())
"""

MEASURE = """
import json, time
imported = time.process_time()
batch = first()
cold = time.process_time() - imported
start = time.process_time(); events = epoch(); warm = time.process_time() - start
print("MEASURED", json.dumps([imported, cold, warm, events]))
"""


def measure(python: str, code: str, path: Path, branches: tuple[str, ...], width: int) -> str:
    """Returns one cell of the table: CPU seconds, or the error."""
    head = f"path, branches, width = {str(path)!r}, {list(branches) or ['x']!r}, {width}\n"
    try:
        process = subprocess.run(
            [python, "-c", head + code + MEASURE],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "more than 300 s"
    for line in process.stdout.splitlines():
        if line.startswith("MEASURED"):
            imported, cold, warm, events = json.loads(line.removeprefix("MEASURED"))
            short = "" if events >= EVENTS - 256 else f", only {events} events"
            return f"{imported:.1f} / {cold:.2f} / {warm:.2f}{short}"
    last = [line for line in (process.stderr + process.stdout).splitlines() if line.strip()]
    return f"fails: {last[-1][:90] if last else f'signal {-process.returncode}'}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="the Python of an environment with ROOT and torch")
    parser.add_argument("--weaver", help="the Python of an environment with weaver-core")
    options = parser.parse_args()
    loaders = [
        ("hepgan, in memory", sys.executable, HEPGAN),
        ("hepgan, streamed", sys.executable, STREAM),
    ]
    if options.root:
        loaders.append(("ROOT RDataLoader", options.root, RDATALOADER))
        loaders.append(("ROOT RDataFrame.AsNumpy", options.root, RDATAFRAME))
    if options.weaver:
        loaders.append(("weaver-core", options.weaver, WEAVER))
    print("| CPU s: imports / first batch / one more epoch |", " | ".join(FILES), "|")
    print("|" + "---|" * (len(FILES) + 1))
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for number, (name, (width, schema)) in enumerate(FILES.items()):
            paths[name] = Path(folder) / f"{number}.root"
            values = rng.random((EVENTS, width), dtype="f4")
            writer.write(paths[name], as_events({"x": values}), schema, tree="t")
        for loader, python, code in loaders:
            cells = [
                measure(python, code, paths[name], schema.fields["x"].branches, width)
                for name, (width, schema) in FILES.items()
            ]
            print(f"| {loader} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()

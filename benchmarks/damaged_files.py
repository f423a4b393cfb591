"""Damaged files of every format that is read: python benchmarks/damaged_files.py FOLDER [--files N] [--seed N] [--kinds KIND...].

Flips bits, overwrites bytes and counts, and cuts good files, reads each result, and counts what comes of it. Only ``HepganError`` may be
raised, within 10 s and 2 GB. A file that does anything else is kept in FOLDER. Writes FOLDER/damaged_files.md.
"""

import argparse
import gzip
import json
import random
import resource
import signal
import struct
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import uproot

import hepgan
from hepgan.data.convert import converter
from hepgan.data.convert.calochallenge import read_binning
from hepgan.data.convert.mnist import read_idx
from hepgan.data.io import inspection, reader
from hepgan.data.schema import Schema
from hepgan.errors import HepganError
from hepgan.gan import pretrained

SECONDS, MEMORY = 10, 2**31
"""Of reading one file, at the most."""

COUNTS = (0, 10**9, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
"""Overwrite eight bytes now and then."""

VALUES = (
    None,
    True,
    -1,
    2,
    10**9,
    2**63,
    10**30,
    1e308,
    "",
    "x",
    "\x00",
    [],
    {},
    [10**9] * 4,
    {"a": 1},
)
"""Replace a value of ``gan.json``."""  # fmt: skip

Damage = Callable[[bytes, random.Random], bytes]
Kind = tuple[list[bytes], str, Damage, Callable[[Path], Any]]
"""Good files, the ending of their names, what damages one, and what reads it."""


class TooSlowError(BaseException):
    """Reading takes longer than it may."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--files", type=int, default=1500, help="Of each kind.")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--kinds", nargs="*")
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY, 4 * MEMORY))
    signal.signal(signal.SIGALRM, _too_slow)
    rows = [
        "| kind | files | read | refused | anything else | slowest [s] | memory [MB] |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, kind in kinds(chosen.folder).items():
        if not chosen.kinds or name in chosen.kinds:
            rows.append(tried(name, kind, chosen.folder, chosen.files, chosen.seed))
            print(rows[-1], flush=True)
    (chosen.folder / "damaged_files.md").write_text("\n".join(rows) + "\n")


def tried(name: str, kind: Kind, folder: Path, files: int, seed: int) -> str:
    """Returns a row of the table: ``files`` damaged files of one kind."""
    goods, ending, damage, read = kind
    rng, found, slowest = random.Random(f"{name} {seed}"), Counter[str](), 0.0
    for number in range(files):
        path = folder / f"{name}{ending}"
        path.write_bytes(damage(rng.choice(goods), rng))
        started = time.perf_counter()
        outcome = outcome_of(read, path)
        slowest = max(slowest, time.perf_counter() - started)
        found[outcome] += 1
        if outcome not in ("read", "refused"):
            path.rename(folder / f"{name}-{seed}-{number}{ending}")
            print(f"{name}-{seed}-{number}{ending}: {outcome}", flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    else_ = files - found["read"] - found["refused"]
    return f"| {name} | {files:,} | {found['read']:,} | {found['refused']:,} | {else_} | {slowest:.1f} | {memory:.0f} |"


def outcome_of(read: Callable[[Path], Any], path: Path) -> str:
    """Returns ``read``, ``refused``, or the name of what should not have been raised."""
    signal.alarm(SECONDS)
    try:
        try:
            read(path)
        except HepganError:
            return "refused"
        finally:
            signal.alarm(0)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error}"[:200]
    return "read"


def _too_slow(number: int, frame: Any) -> None:
    raise TooSlowError


def flipped(good: bytes, rng: random.Random) -> bytes:
    """Returns ``good`` cut short, or with some bits and bytes changed, half of the time only near its start, where headers are."""
    if rng.random() < 0.15:
        return good[: rng.randrange(len(good))]
    data = bytearray(good)
    end = len(data) if rng.random() < 0.5 else min(len(data), 3000)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.randrange(end)
        data[at] = data[at] ^ 1 << rng.randrange(8) if rng.random() < 0.7 else rng.choice([0, 127, 128, 255])  # fmt: skip
    if rng.random() < 0.2:
        at = rng.randrange(max(1, end - 8))
        data[at : at + 8] = struct.pack(rng.choice("<>") + "Q", rng.choice(COUNTS))
    return bytes(data)


def other_value(good: bytes, rng: random.Random) -> bytes:
    """Returns JSON with one value replaced or left out; now and then with flipped bits instead."""
    if rng.random() < 0.3:
        return flipped(good, rng)
    table = json.loads(good)
    inner, key = rng.choice(list(_places(table)))
    if rng.random() < 0.1:
        del inner[key]
    else:
        inner[key] = rng.choice(VALUES)
    return json.dumps(table).encode()


def _places(table: Any) -> Any:
    for key in table if isinstance(table, dict) else range(len(table)):
        yield table, key
        if isinstance(table[key], (dict, list)):
            yield from _places(table[key])


def kinds(folder: Path) -> dict[str, Kind]:
    """Name -> good files and what is done with them."""
    good = folder / "good"
    idx = struct.pack(">HBB3I", 0, 8, 3, 20, 8, 8) + bytes(1280)
    hdf5 = [
        _hdf5(good), _hdf5(good, compression="gzip"), _hdf5(good, libver="latest"),
        _hdf5(good, libver="latest", chunks=True, compression="gzip", shuffle=True),
    ]  # fmt: skip
    binning = (
        b'<Bins><Bin pid="22" name="photon"><Layer id="0" r_edges="0,5,10" n_bin_alpha="1"/>'
        b'<Layer id="2" r_edges="0,1,2,4,8" n_bin_alpha="3"/></Bin></Bins>'
    )
    schema = Schema.from_table(
        {"fields": {"a": {}, "v": {"shape": [3]}, "b": {"shape": [2], "fill": 0}}}
    )
    place = pretrained.folders()["mnist"]
    about, weights = (place / "gan.json").read_bytes(), pretrained.weights(place)
    gan = {"gan.json": about, "generator.safetensors": weights}

    def read_root(path: Path) -> None:
        inspection.inspect(path)
        reader.read(path, schema)

    def load(name: str) -> Callable[[Path], Any]:
        def read(path: Path) -> None:
            for other, content in gan.items():
                if other != name:
                    (path.parent / other).write_bytes(content)
            (path.parent / name).write_bytes(path.read_bytes())
            hepgan.load_gan(path.parent)

        return read

    return {
        "ttree": ([_root(good, ntuple=False)], ".root", flipped, read_root),
        "rntuple": ([_root(good, ntuple=True)], ".root", flipped, read_root),
        "par04": ([_par04(good)], ".root", flipped, _converted("par04")),
        "hdf5": (hdf5, ".hdf5", flipped, _converted("calogan")),
        "idx": ([idx, gzip.compress(idx)], ".idx", flipped, read_idx),
        "xml": ([binning], ".xml", flipped, read_binning),
        "json": ([about], ".json", other_value, load("gan.json")),
        "safetensors": ([weights], ".safetensors", flipped, load("generator.safetensors")),
    }


def _converted(kind: str) -> Callable[[Path], Any]:
    return lambda path: sum(map(len, converter(kind)([path]).chunks))


def _root(path: Path, *, ntuple: bool) -> bytes:
    values = {"a": np.arange(40.0), "v": np.ones((40, 3), "f4")}
    lists = ak.Array([[1, 2], [3], [], [4]] * 10)
    with uproot.recreate(path, compression=uproot.ZSTD(3)) as file:
        if ntuple:
            regular = {
                name: ak.from_numpy(array, regulararray=True) for name, array in values.items()
            }
            events = ak.zip({**regular, "b": lists}, depth_limit=1)
            file.mkrntuple("t", events.layout.form).extend(events)
        else:
            file.mktree("t", {"a": "f8", "v": ("f4", (3,)), "b": "var * int64"}).extend({**values, "b": lists})  # fmt: skip
    return path.read_bytes()


def _par04(path: Path) -> bytes:
    cells = {"EnergyCell": [[1.0, 2.0], [], [16.0]], "zCell": [[0, 1], [], [7]], "phiCell": [[0, 49], [], [8]], "rhoCell": [[0, 17], [], [9]]}  # fmt: skip
    types = {name: "var * float64" if name == "EnergyCell" else "var * int64" for name in cells}
    with uproot.recreate(path) as file:
        file.mktree("global", {"EnergyMC": "f8"}).extend({"EnergyMC": np.ones(3)})
        file.mktree("virtualReadout", types).extend({n: ak.Array(v) for n, v in cells.items()})
    return path.read_bytes()


def _hdf5(path: Path, *, libver: str | None = None, **how: Any) -> bytes:
    shapes = {"layer_0": (3, 96), "layer_1": (12, 12), "layer_2": (12, 6), "overflow": (3,), "energy": (1,)}  # fmt: skip
    with h5py.File(path, "w", libver=libver) as file:
        for name, shape in shapes.items():
            file.create_dataset(name, data=np.ones((4, *shape), "f4"), **how)
    return path.read_bytes()


if __name__ == "__main__":
    main()

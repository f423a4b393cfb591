"""Small valid files of every format that hepgan reads, each with the calls that a user makes on it."""

import gzip
import struct
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import h5py
import numpy as np
import torch
import uproot

from hepgan import pipeline as library
from hepgan.data.convert import convert
from hepgan.data.io import inspection, reader
from hepgan.data.schema import Field, Schema
from hepgan.gan import pretrained
from hepgan.gan.model import GAN
from hepgan.gan.training import checkpoint, history

CPU = torch.device("cpu")
SCHEMA = Schema(
    {"layer": Field((3, 4), "MeV"), "hits": Field((4,), fill=0.0), "count": Field()},
    {"energy": Field((), "GeV")},
)
RUN = """
seed = 1
[data]
files = ["{path}"]
[schema.fields.layer]
shape = [3, 4]
[schema.conditions.energy]
[encoding]
steps = [{{ step = "log", threshold = 0.01 }}, {{ step = "copula", condition = "energy", windows = 4 }}]
[encoding.conditions.energy]
range = [1.0, 100.0]
[gan]
latent = [0]
generator = "RES[COND, DENSE|8|LRELU, BNORM|0.9|1e-5, DENSE|N|LINEAR|ZERO]"
discriminator = "DENSE|16|LRELU, DENSE|1|LINEAR"
[train]
steps = 3
batch_size = 32
generator = {{ learning_rate = 1e-4 }}
discriminator = {{ learning_rate = 1e-4 }}
checkpoint_every = 2
"""

HDF5_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"chunks": True, "compression": "gzip"},
    {"libver": "latest"},
    {"libver": "latest", "chunks": True, "compression": "gzip", "shuffle": True},
)


class Case(NamedTuple):
    """A file to damage.

    Attributes:
        kind: Its format.
        file: Its name in the folder of the case.
        read: Reads the folder as a user would.
    """

    kind: str
    file: str
    read: Callable[[Path], object]


def write_cases(folder: Path, kinds: list[str]) -> list[tuple[Case, Path]]:
    """Writes the valid files into subfolders of ``folder`` and returns each case with its subfolder."""
    written = []
    for number, (case, write) in enumerate(_all_cases()):
        if not kinds or case.kind in kinds:
            subfolder = folder / f"case-{number}"
            subfolder.mkdir()
            write(subfolder)
            case.read(subfolder)  # the undamaged file must be readable
            written.append((case, subfolder))
    return written


def _all_cases() -> Iterator[tuple[Case, Callable[[Path], None]]]:
    for format in ("TTree", "RNTuple"):
        kind = format.lower()
        yield Case(kind, "a.root", _read_root), lambda f, form=format: _write_root(f, form)
        yield Case(kind, "a.root", _inspect), lambda f, form=format: _write_root(f, form)
        yield Case(kind, "a.root", _stream), lambda f, form=format: _write_root(f, form)
    for options in HDF5_OPTIONS:
        write = lambda f, options=options: write_calogan(f, **options)
        yield Case("hdf5", "a.hdf5", _converter("calogan", "a.hdf5")), write
    yield Case("hdf5", "a.hdf5", _converter("lemurs", "a.hdf5")), _write_lemurs
    sources = ("a.hdf5", "binning.xml")
    for file in sources:
        kind = file.rpartition(".")[2]
        yield Case(kind, file, _converter("calochallenge", *sources)), _write_calochallenge
    for file in ("images.gz", "images", "labels"):
        names = ("images.gz" if file == "labels" else file, "labels")
        yield Case("idx", file, _converter("mnist", *names)), _write_mnist
    yield Case("par04", "a.root", _converter("par04", "a.root")), _write_par04
    yield Case("safetensors", "generator.safetensors", _sample), _write_gan
    yield Case("json", "gan.json", _sample), _write_gan
    yield Case("safetensors", "generator.safetensors", _load), _write_pretrained
    yield Case("json", "gan.json", _load), _write_pretrained
    yield Case("checkpoint", "checkpoints/step-00000003.safetensors", _Resume()), _write_gan
    yield Case("history", "history.jsonl", lambda f: history.cut(f, 2)), _write_gan
    yield Case("run.toml", "run.toml", lambda f: library.load(f / "run.toml")), _write_gan


def _events(number: int = 200) -> ak.Array:
    rng = np.random.default_rng(number)
    energy = rng.uniform(1, 100, number)
    counts = rng.integers(0, 4, number)
    return ak.zip(
        {
            "layer": (rng.exponential(size=(number, 3, 4)) * energy[:, None, None]).astype("f4"),
            "hits": ak.unflatten(rng.exponential(size=counts.sum()).astype("f4"), counts),
            "count": rng.integers(0, 9, number).astype("i4"),
            "energy": energy.astype("f4"),
        },
        depth_limit=1,
    )


def _write_root(folder: Path, format: str) -> None:
    events = _events()
    with uproot.recreate(folder / "a.root") as file:
        if format == "RNTuple":
            file.mkrntuple("t", events)
            return
        types = {
            "layer": np.dtype(("f4", (3, 4))),
            "hits": "var * float32",
            "count": "i4",
            "energy": "f4",
        }
        tree = file.mktree("t", types)
        for start in (0, 100):
            tree.extend({name: events[name][start : start + 100] for name in types})


def _read_root(folder: Path) -> None:
    reader.read(str(folder / "a.root"), SCHEMA)


def _inspect(folder: Path) -> None:
    for tree in inspection.inspect(str(folder / "a.root")):
        text = inspection.schema_toml(tree)
        tomllib.loads(text)


def _stream(folder: Path) -> None:
    for _ in reader.iterate(str(folder / "a.root"), SCHEMA, step_size=50):
        pass


def _converter(kind: str, *sources: str) -> Callable[[Path], object]:
    return lambda folder: convert(
        kind, [folder / source for source in sources], folder / "converted.root", overwrite=True
    )


def write_calogan(folder: Path, libver: str | None = None, **options: Any) -> None:
    shapes = {"layer_0": (3, 96), "layer_1": (12, 12), "layer_2": (12, 6), "overflow": (3,)}
    rng = np.random.default_rng(1)
    with h5py.File(folder / "a.hdf5", "w", libver=libver) as file:
        for name, shape in (shapes | {"energy": (1,)}).items():
            values = rng.exponential(size=(40, *shape)).astype("f4")
            file.create_dataset(name, data=values, **options)


def _write_lemurs(folder: Path) -> None:
    rng = np.random.default_rng(1)
    with h5py.File(folder / "a.hdf5", "w") as file:
        showers = rng.exponential(size=(40, 9, 16, 5)).astype("f4")
        file.create_dataset("showers", data=showers, compression="gzip")
        for name in ("incident_energy", "incident_theta", "incident_phi"):
            file.create_dataset(name, data=rng.uniform(size=40).astype("f4"), compression="gzip")


def _write_calochallenge(folder: Path) -> None:
    (folder / "binning.xml").write_text(
        '<Bins><Bin pid="22" name="photon"><Layer id="0" r_edges="0,5,10" n_bin_alpha="1" />'
        '<Layer id="1" r_edges="0" n_bin_alpha="1" /><Layer id="2" r_edges="0,1,2,4,8" n_bin_alpha="3"/></Bin></Bins>'
    )
    rng = np.random.default_rng(1)
    with h5py.File(folder / "a.hdf5", "w") as file:
        file["showers"] = rng.exponential(size=(40, 14))
        file["incident_energies"] = rng.uniform(size=(40, 1))


def _write_mnist(folder: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, 8, 8), dtype="uint8")
    head = struct.pack(">HBB3I", 0, 8, 3, 20, 8, 8)
    (folder / "images").write_bytes(head + images.tobytes())
    (folder / "images.gz").write_bytes(gzip.compress(head + images.tobytes()))
    (folder / "labels").write_bytes(struct.pack(">HBBI", 0, 8, 1, 20) + bytes(range(10)) * 2)


def _write_par04(folder: Path) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 6, 30)
    total = int(counts.sum())
    columns = {
        "EnergyCell": rng.exponential(size=total),
        "zCell": rng.integers(0, 45, total),
        "phiCell": rng.integers(0, 50, total),
        "rhoCell": rng.integers(0, 18, total),
    }
    with uproot.recreate(folder / "a.root") as file:
        file.mktree("global", {"EnergyMC": "f8"}).extend({"EnergyMC": rng.uniform(1e3, 1e4, 30)})
        types = {n: "var * float64" if n == "EnergyCell" else "var * int64" for n in columns}
        lists = {name: ak.unflatten(values, counts) for name, values in columns.items()}
        file.mktree("virtualReadout", types).extend(lists)


def _write_gan(folder: Path) -> None:
    source = folder.parent / "trained.root"
    if not source.is_file():
        with uproot.recreate(source) as file:
            events = _events(2000)
            types = {"layer": np.dtype(("f4", (3, 4))), "energy": "f4"}
            file.mktree("t", types).extend({name: ak.to_numpy(events[name]) for name in types})
        (folder.parent / "trained.toml").write_text(RUN.format(path=source))
    library.train(library.load(folder.parent / "trained.toml"), folder, device=CPU)


def _write_pretrained(folder: Path) -> None:
    source = pretrained.folders()["mnist"]
    (folder / "gan.json").write_bytes((source / "gan.json").read_bytes())
    (folder / "generator.safetensors").write_bytes(pretrained.weights(source))


def _load(folder: Path) -> None:
    GAN.load(folder)


def _sample(folder: Path) -> None:
    gan = GAN.load(folder)
    gan.sample(2, energy=50.0, seed=1)


class _Resume:
    """Loads a checkpoint into a training state that is prepared once."""

    def __init__(self) -> None:
        self.state: object = None

    def __call__(self, folder: Path) -> None:
        if self.state is None:
            run = library.load(folder.parent / "trained.toml")
            self.state = library.prepare(run, device=CPU).state
        checkpoint.load_checkpoint(self.state, folder / "checkpoints" / "step-00000003.safetensors")

"""CaloGAN showers (arXiv:1705.02355), from HDF5 files or the ROOT tree ``fancy_tree``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import awkward as ak

from hepgan.data.convert.common import Conversion, check_sources
from hepgan.data.convert.hdf5 import dataset, iterate_rows, open_hdf5
from hepgan.data.io.chunks import as_events
from hepgan.data.io.files import data_errors
from hepgan.data.io.reader import ReadOptions, iterate, num_entries
from hepgan.data.schema import Field, Schema

# The published files store deposits in MeV and the energy of the particle in GeV.
SHAPES = {"layer_0": (3, 96), "layer_1": (12, 12), "layer_2": (12, 6), "overflow": (3,)}
PIXELS = {
    "layer_0": "cell_{0..287}",
    "layer_1": "cell_{288..431}",
    "layer_2": "cell_{432..503}",
    "overflow": "cell_{504..506}",
    "energy": "TotalEnergy",
}


def showers(sources: Sequence[Path]) -> Conversion:
    """Reads showers as three layers, the energy outside the window of each layer [MeV], and the incident energy [GeV].

    Raises:
        DataError: a file is neither CaloGAN's HDF5 nor its ROOT tree, or is damaged.
    """
    check_sources(sources, "CaloGAN's HDF5 or ROOT files")
    schema = Schema(
        {name: Field(shape, "MeV", dtype="float32") for name, shape in SHAPES.items()},
        {"energy": Field(unit="GeV", dtype="float32")},
        incident="energy",
    )
    return Conversion("showers", schema, PIXELS, _chunks(sources))


def _chunks(sources: Sequence[Path]) -> Iterator[ak.Array]:
    for source in sources:
        with data_errors(str(source)), source.open("rb") as file:
            is_root = file.read(4) == b"root"
        yield from _read_root(source) if is_root else _read_hdf5(source)


def _read_hdf5(path: Path) -> Iterator[ak.Array]:
    with open_hdf5(path) as file:
        shapes = {**SHAPES, "energy": (1,)}
        data = {name: dataset(file, name, shape, path) for name, shape in shapes.items()}
        for _, piece in iterate_rows(data, path):
            yield as_events({**piece, "energy": piece["energy"][:, 0]})


def _read_root(path: Path) -> Iterator[ak.Array]:
    schema = Schema(
        {name: Field(shape, "MeV", (PIXELS[name],)) for name, shape in SHAPES.items()},
        {"energy": Field(unit="GeV", branches=(PIXELS["energy"],))},
    )
    if not num_entries(str(path), tree="fancy_tree")[str(path)]:
        return  # a file without events contributes none
    for chunk in iterate(str(path), schema, options=ReadOptions(tree="fancy_tree")):
        yield chunk.events

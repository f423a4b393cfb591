"""CaloChallenge data sets 1–3 (arXiv:2410.21611): HDF5 files and the XML file of their binning."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from xml.parsers import expat

import awkward as ak
import numpy as np

from hepgan.data.convert.common import Conversion, check_sources
from hepgan.data.convert.hdf5 import dataset, iterate_rows, open_hdf5
from hepgan.data.io.chunks import as_events, evenly_spaced
from hepgan.data.io.files import data_errors
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

LARGEST_BINNING = 2**22
"""Maximum size of a binning XML [bytes]; the published ones have 10,000."""

MOST_VOXELS = 2**20
"""Maximum number of voxels of a shower; the largest published ones have 40,500."""


VALUES_PER_PIECE = 12_000_000
"""Voxels of all events that are read together: 100 MB in double precision."""

READOUT_THRESHOLDS = {368: 1.0, 533: 1.0, 6480: 0.5e-3 / 0.033, 40500: 0.5e-3 / 0.033}
"""Threshold [MeV] by number of voxels: data set 1 with photons and pions, 2 and 3 (arXiv:2410.21611)."""


class Layer(NamedTuple):
    """Layer of voxels: its number, number of bins in the angle α, and edges in the radius [mm]."""

    number: int
    angles: int
    edges: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of bins in (α, r)."""
        return self.angles, len(self.edges) - 1

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1]

    @property
    def field(self) -> str:
        """Name of the field."""
        return f"layer_{self.number}"


def readout_threshold(layers: Sequence[Layer]) -> float:
    """Returns the energy below which the challenge's evaluation sets voxels to zero [MeV]; 0 for other binnings."""
    return READOUT_THRESHOLDS.get(sum(layer.size for layer in layers), 0.0)


def read_binning(path: Path) -> dict[str, list[Layer]]:
    """Returns the layers with voxels of each particle, from a binning XML.

    Raises:
        DataError: the file is missing, is not XML, has no layers, or repeats a particle or the number of a layer.
    """
    try:
        particles = [
            (particle.attrib.get("name", ""), [_layer(element.attrib) for element in particle])
            for particle in _parsed(path)
        ]
    except (expat.ExpatError, KeyError, ValueError) as error:
        raise DataError(
            f"'{path}' is not a binning XML ({type(error).__name__}: {error}); each <Layer> needs "
            "id, r_edges and n_bin_alpha"
        ) from error
    if repeated := _duplicates(name for name, _ in particles):
        raise DataError(f"'{path}' describes the particle '{repeated[0]}' twice; remove one")
    for name, layers in particles:
        if repeated := _duplicates(layer.number for layer in layers):
            raise DataError(
                f"'{path}' has two layers of id {repeated[0]} for the particle '{name}'; number them differently"
            )
        if (voxels := sum(layer.size for layer in layers)) > MOST_VOXELS:
            raise DataError(
                f"'{path}' describes {voxels:,} voxels for the particle '{name}', more than {MOST_VOXELS:,}"
            )
    # The XML also lists layers without voxels.
    binning = {name: [layer for layer in layers if layer.size] for name, layers in particles}
    if not any(binning.values()):
        raise DataError(f"'{path}' has no layer with voxels; give the data set's binning XML")
    return binning


def _parsed(path: Path) -> ET.Element:
    """Parses an XML file; rejects a DTD, whose entities could expand to gigabytes or read other files."""
    with data_errors(str(path), library="expat"):
        content = path.read_bytes() if path.stat().st_size <= LARGEST_BINNING else None
    if content is None:
        raise DataError(f"'{path}' has more than {LARGEST_BINNING:,} bytes; give the binning XML")

    def reject(*_: Any) -> NoReturn:
        raise DataError(
            f"'{path}' has a document type definition, which a binning does not need; remove it"
        )

    parser, builder = expat.ParserCreate(), ET.TreeBuilder()
    parser.StartDoctypeDeclHandler = reject
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.Parse(content, True)
    return builder.close()


def _duplicates(names: Iterable[Any]) -> list[Any]:
    return [name for name, number in Counter(names).items() if number > 1]


def _layer(attributes: dict[str, str]) -> Layer:
    edges = tuple(float(edge) for edge in attributes["r_edges"].split(","))
    angles = int(attributes["n_bin_alpha"])
    if angles < 0:
        raise ValueError(f"n_bin_alpha of layer {attributes['id']} is {angles}")
    return Layer(int(attributes["id"]), angles, edges)


def showers(sources: Sequence[Path]) -> Conversion:
    """Reads showers as one field ``layer_<id>[α][r]`` per layer and the incident energy, all in MeV.

    ``sources`` are HDF5 files and one XML file. If it describes several particles, the one with the number of voxels of the showers is
    used.

    Raises:
        DataError: there is not exactly one XML file, a file is damaged, or the voxels do not match the binning.
    """
    check_sources(sources, "the HDF5 files and the binning XML")
    binnings = [source for source in sources if source.suffix.lower() == ".xml"]
    files = [source for source in sources if source not in binnings]
    if len(binnings) != 1 or not files:
        raise DataError(
            f"CaloChallenge showers need HDF5 files and one binning XML, but there are {len(files)} and {len(binnings)}"
        )
    layers = layers_of(files[0], binnings[0])
    first, pixels = 0, {}
    for layer in layers:
        pixels[layer.field] = f"voxel_{{{first}..{first + layer.size - 1}}}"
        first += layer.size
    return Conversion("showers", schema_of(layers), pixels, _chunks(files, layers))


def schema_of(layers: Sequence[Layer]) -> Schema:
    """Returns the schema of showers: one field ``layer_<id>[α][r]`` per layer, and the incident energy."""
    fields = {layer.field: Field(layer.shape, "MeV", dtype="float32") for layer in layers}
    return Schema(fields, {"energy": Field(unit="MeV", dtype="float32")}, incident="energy")


def num_showers(files: Sequence[Path]) -> int:
    """Returns the number of showers in HDF5 files.

    Raises:
        DataError: a file is missing or damaged.
    """
    number = 0
    for path in files:
        with open_hdf5(path) as file:
            number += len(dataset(file, "incident_energies", (1,), path))
    return number


def read_showers(
    files: Sequence[Path],
    layers: Sequence[Layer],
    *,
    threshold: float,
    max_events: int | None = None,
) -> ak.Array:
    """Returns the events of HDF5 files, with voxels below ``threshold`` [MeV] set to zero, in single precision.

    Memory is needed for the returned events, and for a chunk of 100 MB of a file.

    Args:
        files: HDF5 files.
        layers: Layers of voxels.
        threshold: Threshold [MeV].
        max_events: Largest number of events, evenly spaced in the files; by default all.

    Raises:
        DataError: a file is missing or damaged, or its voxels do not match the layers.
    """
    total = num_showers(files)
    if total == 0:
        raise DataError(f"'{files[0]}' has no showers; give a file with some")
    number = total if max_events is None else min(max_events, total)
    shapes = {**{layer.field: layer.shape for layer in layers}, "energy": ()}
    columns = {name: np.empty((number, *shape), np.float32) for name, shape in shapes.items()}
    start = filled = 0
    for chunk in _chunks(files, layers):
        rows = evenly_spaced(range(start, start + len(chunk)), number, total) - start
        for name, column in columns.items():
            column[filled : filled + len(rows)] = ak.to_numpy(chunk[name])[rows]
        start, filled = start + len(chunk), filled + len(rows)
    for layer in layers:
        cells = columns[layer.field]
        cells[cells < threshold] = 0
    return as_events(columns)


def layers_of(path: Path, xml: Path) -> list[Layer]:
    """Returns the layers of the showers in an HDF5 file: of the particle with their number of voxels, if the XML describes several.

    Raises:
        DataError: a file is damaged, or the voxels do not match the binning.
    """
    binning = read_binning(xml)
    with open_hdf5(path) as file, data_errors(str(path), library="h5py"):
        shape: tuple[int, ...] = getattr(file.get("showers"), "shape", ())
    voxels = {name: sum(layer.size for layer in layers) for name, layers in binning.items()}
    for name, layers in binning.items():
        if len(shape) != 2 or shape[1] == voxels[name]:
            return layers  # `dataset` reports a missing or oddly shaped dataset
    known = ", ".join(f"{name} {number}" for name, number in voxels.items())
    raise DataError(
        f"the showers of '{path}' have {shape[1]} voxels, but '{xml}' describes: {known}; give the XML of this data set"
    )


def _chunks(files: Sequence[Path], layers: Sequence[Layer]) -> Iterator[ak.Array]:
    voxels = sum(layer.size for layer in layers)
    for path in files:
        with open_hdf5(path) as file:
            data = {
                "showers": dataset(file, "showers", (voxels,), path),
                "incident_energies": dataset(file, "incident_energies", (1,), path),
            }
            for _, piece in iterate_rows(data, path, rows=max(1, VALUES_PER_PIECE // voxels)):
                columns, first = {}, 0
                for layer in layers:
                    part = piece["showers"][:, first : first + layer.size]
                    columns[layer.field] = part.reshape(-1, *layer.shape).astype(np.float32)
                    first += layer.size
                yield as_events(
                    {**columns, "energy": piece["incident_energies"][:, 0].astype(np.float32)}
                )

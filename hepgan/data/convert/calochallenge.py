"""The CaloChallenge's data sets 1–3 (arXiv:2410.21611): HDF5 files with the XML file of their binning."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import awkward as ak

from hepgan.data.chunks import as_events
from hepgan.data.convert.common import Converted, dataset, need_sources, opened_hdf5, rows_of
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError


class Layer(NamedTuple):
    """One layer of voxels: its number, bins of the angle α and edges of the radius [mm]."""

    number: int
    angles: int
    edges: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Bins in (α, r)."""
        return self.angles, len(self.edges) - 1

    @property
    def size(self) -> int:
        """How many voxels."""
        return self.shape[0] * self.shape[1]


def read_binning(path: Path) -> dict[str, list[Layer]]:
    """Particle -> its layers with voxels, from a binning XML.

    Raises:
        DataError: it is missing, no XML, or has no layers.
    """
    try:
        root = ET.parse(path).getroot()  # noqa: S314  # a file that the user names
        found = {
            particle.attrib.get("name", ""): [
                layer
                for element in particle
                if (layer := _layer(element.attrib)).size
                > 0  # layers without voxels are listed, too
            ]
            for particle in root
        }
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist; check the path") from error
    except (ET.ParseError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"'{path}' is not a binning XML ({type(error).__name__}: {error}); each <Layer> needs "
            "id, r_edges and n_bin_alpha"
        ) from error
    if not any(found.values()):
        raise DataError(f"'{path}' has no layer with voxels; give the data set's binning XML")
    return found


def _layer(attributes: dict[str, str]) -> Layer:
    edges = tuple(float(edge) for edge in attributes["r_edges"].split(","))
    return Layer(int(attributes["id"]), int(attributes["n_bin_alpha"]), edges)


def showers(sources: Sequence[Path]) -> Converted:
    """A field ``layer_<id>[α][r]`` a layer and the incident energy, all in MeV.

    ``sources`` are HDF5 files and one XML file; where it describes several particles, the one with as many
    voxels as the showers have is meant.

    Raises:
        DataError: not one XML file, a damaged file, or voxels that do not fit the binning.
    """
    need_sources(sources, "the HDF5 files and the binning XML")
    binnings = [source for source in sources if source.suffix.lower() == ".xml"]
    files = [source for source in sources if source not in binnings]
    if len(binnings) != 1 or not files:
        raise DataError(
            f"CaloChallenge showers are HDF5 files and one binning XML, but there are {len(files)} and {len(binnings)}"
        )
    layers = _matching(read_binning(binnings[0]), files[0], binnings[0])
    fields = {
        f"layer_{layer.number}": Field(layer.shape, "MeV", dtype="float32") for layer in layers
    }
    schema = Schema(fields, {"energy": Field(unit="MeV", dtype="float32")})
    first, pixels = 0, {}
    for layer in layers:
        pixels[f"layer_{layer.number}"] = f"voxel_{{{first}..{first + layer.size - 1}}}"
        first += layer.size
    return Converted("showers", schema, pixels, _chunks(files, layers))


def _matching(binning: dict[str, list[Layer]], path: Path, xml: Path) -> list[Layer]:
    with opened_hdf5(path) as file:
        shape: tuple[int, ...] = getattr(file.get("showers"), "shape", ())
    voxels = {name: sum(layer.size for layer in layers) for name, layers in binning.items()}
    for name, layers in binning.items():
        if len(shape) != 2 or shape[1] == voxels[name]:
            return layers  # a missing or oddly shaped dataset is reported by who reads it
    known = ", ".join(f"{name} {number}" for name, number in voxels.items())
    raise DataError(
        f"the showers of '{path}' have {shape[1]} voxels, but '{xml}' describes: {known}; give the XML of this data set"
    )


def _chunks(files: Sequence[Path], layers: Sequence[Layer]) -> Iterator[ak.Array]:
    voxels = sum(layer.size for layer in layers)
    for path in files:
        with opened_hdf5(path) as file:
            data = {
                "showers": dataset(file, "showers", (voxels,), path),
                "incident_energies": dataset(file, "incident_energies", (1,), path),
            }
            # The largest showers are 40500 voxels: about 100 MB of float64 a piece.
            for _, piece in rows_of(data, path, rows=max(1, 12_000_000 // voxels)):
                columns, first = {}, 0
                for layer in layers:
                    part = piece["showers"][:, first : first + layer.size]
                    columns[f"layer_{layer.number}"] = part.reshape(-1, *layer.shape)
                    first += layer.size
                yield as_events({**columns, "energy": piece["incident_energies"][:, 0]})

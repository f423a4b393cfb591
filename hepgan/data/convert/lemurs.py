"""LEMURS showers (arXiv:2509.05108): HDF5 files with cells in r, φ and z, and the energy and direction of the particle."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak

from hepgan.data.convert.common import Conversion, check_sources
from hepgan.data.convert.hdf5 import dataset, iterate_rows, open_hdf5
from hepgan.data.io.chunks import as_events
from hepgan.data.io.files import data_errors
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

MOST_CELLS = 2**20
"""Maximum number of cells of a shower; the published ones have 9 × 16 × 45."""

ANGLES = {"theta": "incident_theta", "phi": "incident_phi"}
"""Datasets of the particle's direction [rad], by condition."""


def showers(sources: Sequence[Path]) -> Conversion:
    """Reads a field ``cells[z][φ][r]`` and the energy of the particle, both in MeV, and its direction θ, φ in rad.

    Files that Par04's ``root2h5.py`` writes are the same without the direction; they are read, too.

    Raises:
        DataError: a file is damaged, lacks a dataset, or has other cells than the first one.
    """
    check_sources(sources, "LEMURS' HDF5 files")
    with open_hdf5(sources[0]) as file:
        shape = dataset(file, "showers", (None, None, None), sources[0]).shape[1:]
        with data_errors(str(sources[0]), library="h5py"):
            angles = {name: data for name, data in ANGLES.items() if data in file}
    if not 0 < (cells := math.prod(shape)) <= MOST_CELLS:
        raise DataError(
            f"the showers of '{sources[0]}' have {cells:,} cells, but a shower has 1 to {MOST_CELLS:,}"
        )
    radii, azimuths, layers = shape
    schema = Schema(
        {"cells": Field((layers, azimuths, radii), "MeV", dtype="float32")},
        {
            "energy": Field(unit="MeV", dtype="float32"),
            **{name: Field(unit="rad", dtype="float32") for name in angles},
        },
        incident="energy",
    )
    return Conversion("showers", schema, {}, _chunks(sources, shape, angles))


def _chunks(
    sources: Sequence[Path], shape: tuple[int, ...], angles: dict[str, str]
) -> Iterator[ak.Array]:
    names = {"energy": "incident_energy", **angles}
    for path in sources:
        with open_hdf5(path) as file:
            data: dict[str, Any] = {"cells": dataset(file, "showers", shape, path)}
            data |= {name: dataset(file, source, (), path) for name, source in names.items()}
            rows = max(1, 12_000_000 // math.prod(shape))  # 100 MB of float64
            for _, piece in iterate_rows(data, path, rows=rows):
                yield as_events({**piece, "cells": piece["cells"].transpose(0, 3, 2, 1)})

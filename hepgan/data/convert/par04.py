"""Showers of the Geant4 example Par04: sparse cells in ROOT ntuples to dense arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from hepgan.data.convert.common import Conversion, check_sources
from hepgan.data.io.branches import index_branches, require_branches
from hepgan.data.io.chunks import as_events
from hepgan.data.io.files import Source, data_errors, find_tree, open_file
from hepgan.data.io.validation import check_lists, check_values
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

MESH = (45, 50, 18)  # default cylindrical mesh of the example: z, φ, r
CELLS = ("EnergyCell", "zCell", "phiCell", "rhoCell")
ANGLES = {"theta": "ThetaMC", "phi": "PhiMC"}
"""Branches of the particle's direction [rad], by condition; older versions of the example do not write them."""

STEP_SIZE = 1_000  # entries: 320 MB as float64 with the default mesh


def showers(sources: Sequence[Path], *, mesh: tuple[int, int, int] = MESH) -> Conversion:
    """Reads the virtual readout as a field ``cells[z][φ][r]`` and the particle energy ``EnergyMC``, both in MeV.

    If the first file has the particle's direction, ``ThetaMC`` and ``PhiMC``, it is read as ``theta`` and ``phi``, in rad.

    Args:
        sources: ROOT files.
        mesh: Number of cells in z, φ and r.

    Raises:
        DataError: a tree or branch is missing, a cell is outside the mesh or not finite, or the lists of an event differ in length.
    """
    check_sources(sources, "Par04's ROOT files")
    first = str(sources[0])
    with open_file(first) as file:
        particles = find_tree(file, Source(first, "global"))
        with data_errors(first):
            branches = index_branches(particles)
    angles = {name: branch for name, branch in ANGLES.items() if branch in branches}
    schema = Schema(
        {"cells": Field(mesh, "MeV", dtype="float32")},
        {
            "energy": Field(unit="MeV", dtype="float32"),
            **{name: Field(unit="rad", dtype="float32") for name in angles},
        },
        incident="energy",
    )
    return Conversion("showers", schema, {}, _chunks(sources, mesh, angles))


def _chunks(
    sources: Sequence[Path], mesh: tuple[int, int, int], angles: dict[str, str]
) -> Iterator[ak.Array]:
    names = {"energy": "EnergyMC", **angles}
    for source in map(str, sources):
        with open_file(source) as file:
            particles = find_tree(file, Source(source, "global"))
            readout = find_tree(file, Source(source, "virtualReadout"))
            with data_errors(source):
                require_branches([*names.values()], index_branches(particles), source, "'global'")
                require_branches(CELLS, index_branches(readout), source, "'virtualReadout'")
                events, cells = int(particles.num_entries), int(readout.num_entries)
            if events != cells:
                raise DataError(
                    f"'{source}' has {events} events in 'global' but {cells} in 'virtualReadout'; simulate it again"
                )
            for start in range(0, events, STEP_SIZE):
                span = {"entry_start": start, "entry_stop": min(start + STEP_SIZE, events)}
                with data_errors(source):
                    particle = particles.arrays([*names.values()], library="np", **span)
                    lists = readout.arrays(list(CELLS), library="ak", **span)
                conditions = {name: particle[branch] for name, branch in names.items()}
                yield as_events({"cells": _dense(lists, mesh, source, start), **conditions})


def _dense(
    lists: ak.Array, mesh: tuple[int, int, int], path: str, start: int
) -> np.ndarray[Any, Any]:
    for name in CELLS:
        check_lists(lists[name], name, path)
    counts = ak.to_numpy(ak.num(lists["EnergyCell"], axis=1))
    for name in CELLS[1:]:
        others = ak.to_numpy(ak.num(lists[name], axis=1))
        if (different := np.flatnonzero(others != counts)).size:
            first = int(different[0])
            raise DataError(
                f"branch '{name}' of '{path}' has {others[first]} values in entry {start + first}, but 'EnergyCell' "
                f"{counts[first]}; simulate it again"
            )
    energies = ak.to_numpy(ak.flatten(lists["EnergyCell"]))
    events = np.repeat(np.arange(len(counts)), counts)
    check_values(energies, ["EnergyCell"], start + events, path)
    indices = [ak.to_numpy(ak.flatten(lists[name])) for name in CELLS[1:]]
    for name, index, size in zip(CELLS[1:], indices, mesh, strict=True):
        outside = ~((index >= 0) & (index < size))  # true for NaN
        if outside.any():
            first = int(np.flatnonzero(outside)[0])
            raise DataError(
                f"branch '{name}' of '{path}' is {index[first]} in entry {start + events[first]}, outside the "
                f"mesh of {size} cells; give the mesh of the simulation"
            )
    dense = np.zeros((len(counts), *mesh))
    # Several deposits in one cell add up.
    np.add.at(
        dense,
        (events, *(index.astype(np.int64) for index in indices)),
        energies,
    )
    return dense

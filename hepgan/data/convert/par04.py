"""Showers of Geant4's example Par04: sparse cells of its ROOT ntuples to arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from hepgan.data.convert.common import Conversion, need_sources
from hepgan.data.io.branches import names_in, require_branches
from hepgan.data.io.chunks import as_events
from hepgan.data.io.files import Source, data_errors, find_tree, open_file
from hepgan.data.io.validation import check_lists, check_values
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

MESH = (45, 50, 18)  # the example's own cylindrical mesh: z, φ, r
CELLS = ("EnergyCell", "zCell", "phiCell", "rhoCell")
STEP = 1_000  # events: 320 MB of the example's own mesh as float64


def showers(sources: Sequence[Path], *, mesh: tuple[int, int, int] = MESH) -> Conversion:
    """The virtual read-out as a field ``cells[z][φ][r]`` and the particle's energy ``EnergyMC``, both in MeV.

    Args:
        sources: The ROOT files.
        mesh: Cells in z, φ and r.

    Raises:
        DataError: a tree or branch is missing, a cell is outside the mesh or not finite, or the lists of an event differ in length.
    """
    need_sources(sources, "Par04's ROOT files")
    schema = Schema(
        {"cells": Field(mesh, "MeV", dtype="float32")},
        {"energy": Field(unit="MeV", dtype="float32")},
        incident="energy",
    )
    return Conversion("showers", schema, {}, _chunks(sources, mesh))


def _chunks(sources: Sequence[Path], mesh: tuple[int, int, int]) -> Iterator[ak.Array]:
    for source in map(str, sources):
        with open_file(source) as file:
            particles = find_tree(file, Source(source, "global"))
            readout = find_tree(file, Source(source, "virtualReadout"))
            with data_errors(source):
                require_branches(
                    ["EnergyMC"], dict.fromkeys(names_in(particles)), source, "'global'"
                )
                require_branches(
                    CELLS, dict.fromkeys(names_in(readout)), source, "'virtualReadout'"
                )
                events, cells = int(particles.num_entries), int(readout.num_entries)
            if events != cells:
                raise DataError(
                    f"'{source}' has {events} events in 'global' but {cells} in 'virtualReadout'; simulate it again"
                )
            for start in range(0, events, STEP):
                span = {"entry_start": start, "entry_stop": min(start + STEP, events)}
                with data_errors(source):
                    energy = particles.arrays(["EnergyMC"], library="np", **span)["EnergyMC"]
                    lists = readout.arrays(list(CELLS), library="ak", **span)
                yield as_events({"cells": _dense(lists, mesh, source, start), "energy": energy})


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
    places = [ak.to_numpy(ak.flatten(lists[name])) for name in CELLS[1:]]
    for name, place, size in zip(CELLS[1:], places, mesh, strict=True):
        outside = ~((place >= 0) & (place < size))  # a NaN is outside, too
        if outside.any():
            first = int(np.flatnonzero(outside)[0])
            raise DataError(
                f"branch '{name}' of '{path}' is {place[first]} in entry {start + events[first]}, outside the "
                f"mesh of {size} cells; give the mesh of the simulation"
            )
    dense = np.zeros((len(counts), *mesh))
    # Several deposits in one cell add up.
    np.add.at(
        dense,
        (events, *(place.astype(np.int64) for place in places)),
        energies,
    )
    return dense

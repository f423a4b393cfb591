"""Filesets, runners and processors for the tests of coffea's executors; a module that workers can import."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import awkward as ak
import numpy as np
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner
from tiny import tiny_events

from hepgan import processors
from hepgan.processors import model_cache

CHUNKS = (1_000, 3_333, 100_000)


def fileset(paths: list[Path], tree: str = "Events") -> dict[str, object]:
    return {"photons": {"files": {str(path): tree for path in paths}}}


def runner(chunksize: int = 100_000, executor: object = None, **options: object) -> Runner:
    alone = IterativeExecutor(status=False, retries=0)
    return Runner(
        executor=executor or alone, pre_executor=alone, schema=BaseSchema, chunksize=chunksize, **options
    )  # fmt: skip


def same(one: ak.Array, two: ak.Array) -> None:
    assert one.type == two.type
    a, b = (ak.to_buffers(ak.to_packed(array))[2] for array in (one, two))
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def simulation(folder: Path | processors.EmbeddedModel, **options: object) -> processors.Simulate:
    settings = {
        "energy": "GenPart_energy",
        "output": processors.ReturnFields("showers", "weight"),
        "seed": 5,
    }
    return processors.Simulate(folder, **(settings | options))


def loads(_: ak.Array) -> set[tuple[int, int]]:
    """Returns this process and the number of embedded GANs that it has unpacked."""
    return {(os.getpid(), model_cache._unpacked.cache_info().misses)}


def write_events(path: Path, number: int) -> None:
    """Events with the fields of ``tiny``, and 0 to 3 particles of 1 to 10 GeV each."""
    rng = np.random.default_rng(number)
    counts = rng.integers(0, 4, number)
    energies = ak.unflatten(rng.uniform(1, 10, counts.sum()).astype("f4"), counts)
    events = tiny_events(number, number)
    columns = {name: ak.to_numpy(events[name]) for name in events.fields}
    with uproot.recreate(path) as file:
        types = {name: np.dtype((v.dtype, v.shape[1:])) for name, v in columns.items()}
        file.mktree("Events", {"GenPart_energy": "var * float32", "weight": "f4", **types})
        file["Events"].extend(
            {"GenPart_energy": energies, "weight": np.arange(number, dtype="f4"), **columns}
        )


class Together(ProcessorABC):
    """Several processors in one pass."""

    def __init__(self, several: Mapping[str, ProcessorABC]) -> None:
        self.several = several

    def process(self, events: ak.Array) -> dict[str, object]:
        return {name: one.process(events) for name, one in self.several.items()}

    def postprocess(self, results: dict[str, object]) -> dict[str, object]:
        return {name: one.postprocess(results[name]) for name, one in self.several.items()}


class Dying(ProcessorABC):
    """Ends its worker when it gets a chunk after entry 2,000 and others are done: once, unless the file ``mark`` exists.

    Without ``mark`` it does so every time.
    """

    def __init__(self, inner: ProcessorABC, mark: Path | None) -> None:
        self.inner, self.mark = inner, mark

    def process(self, events: ak.Array) -> object:
        if events.metadata["entrystart"] > 2000 and not (self.mark and self.mark.exists()):
            if self.mark:
                self.mark.touch()
            time.sleep(0.3)
            os._exit(1)
        return self.inner.process(events)

    def postprocess(self, accumulator: object) -> object:
        return self.inner.postprocess(accumulator)

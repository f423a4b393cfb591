"""CPU time of the coffea processors, compared with ``GAN.sample`` and plain uproot, on one thread.

    python benchmarks/processors.py runs/showers                       # the ratios
    python benchmarks/processors.py runs/showers 1000000 2             # particles, workers: time and memory of a full job

Reports medians of interleaved repetitions, which other load on the machine affects little.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import torch
import uproot

import hepgan
from hepgan.evaluation.histograms import axes_for, to_arrays
from hepgan.processors import Collect, FillHistograms, ReturnFields, Simulate, open_runner


def seconds(*jobs: Callable[[], object], repeat: int = 3) -> list[float]:
    """Returns the median CPU time of each call."""
    measured: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeat):
        for times, job in zip(measured, jobs, strict=True):
            start = time.process_time()
            job()
            times.append(time.process_time() - start)
    return [statistics.median(times) for times in measured]


def photons(path: Path, particles: int) -> dict[str, object]:
    """Writes a fileset of one file with four particles of 1 to 100 GeV per event."""
    energy = np.random.default_rng(1).uniform(1, 100, (particles // 4, 4)).astype("f4")
    with uproot.recreate(path) as file:
        file.mktree("Events", {"GenPart_energy": "var * float32"})
        file["Events"].extend({"GenPart_energy": ak.from_regular(ak.from_numpy(energy))})
    return {"photons": {"files": {str(path): "Events"}}}


def ratios(folder: str, scratch: Path, particles: int = 16_384) -> None:
    """Compares Simulate with GAN.sample and Collect with uproot."""
    torch.set_num_threads(1)
    gan = hepgan.GAN.load(folder)
    files = photons(scratch / "photons.root", particles)
    energy = np.random.default_rng(1).uniform(1, 100, particles)
    with open_runner() as job:
        processor = Simulate(
            folder, energy="GenPart_energy", output=ReturnFields("showers"), seed=1
        )
        job(files, processor)
        plain, hepgan_time = seconds(
            lambda: gan.sample(energy=energy, seed=1), lambda: job(files, processor)
        )
        print(
            f"GAN.sample {plain / particles * 1e6:.0f} us, Simulate {hepgan_time / particles * 1e6:.0f} us a shower: {plain / hepgan_time:.2f}"
        )
        schema = gan.encoding.schema
        path = scratch / "showers.root"
        hepgan.write(
            path,
            ak.concatenate([hepgan.read("sample:showers.root", schema)] * 5),
            schema,
            tree="showers",
        )
        names = list(schema.all)

        def reading() -> None:
            with uproot.open(path) as file:
                file["showers"].arrays(names, library="np")

        everything = {"d": {"files": {str(path): "showers"}}}
        plain, read, hepgan_time = seconds(
            reading,
            lambda: hepgan.read(path, schema),
            lambda: job(everything, Collect(schema)),
            repeat=7,
        )
        print(
            f"uproot {plain:.2f} s, hepgan.read {read:.2f} s, Collect {hepgan_time:.2f} s: {hepgan_time / plain:.2f}"
        )


def whole(folder: str, scratch: Path, particles: int, workers: int) -> None:
    """Runs a full job and prints its wall time and the memory of the largest process."""
    schema = hepgan.GAN.load(folder).schema
    observables = hepgan.observables_for(schema)
    reference = to_arrays(hepgan.read("sample:showers.root", schema, entry_stop=2000))
    fills = FillHistograms(observables, axes_for(reference, observables), schema)
    files = photons(scratch / "photons.root", particles)
    start = time.perf_counter()
    with open_runner("futures", workers=workers, step_size=25_000) as job:
        histograms = job(files, Simulate(folder, energy="GenPart_energy", output=fills, seed=1))
    took = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    memory = (used[0].ru_maxrss + workers * used[1].ru_maxrss) / 2**20
    count = histograms["E_tot"].values(flow=True).sum()
    print(
        f"{count:.0f} showers into {len(histograms)} histograms: {took:.0f} s, {cpu:.0f} CPU s, {memory:.1f} GiB at most"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 2:
            whole(sys.argv[1], Path(folder), int(sys.argv[2]), int(sys.argv[3]))
        else:
            ratios(sys.argv[1], Path(folder))

"""Fast simulation in an analysis: from positrons to showers, cluster energies and a histogram of the resolution.

    python examples/coffea_fastsim.py showers positrons.root

``showers`` is the pretrained GAN of the package; your own run folder works as well. Writes ``positrons.root`` (tree ``Events``,
any number of particles per event) if it does not exist.
"""

import sys
from pathlib import Path

import awkward as ak
import hist
import numpy as np
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner

from hepgan.processors import GeneratorWrapper, embed


class Resolution(ProcessorABC):
    """Returns the energy in the cluster divided by the energy of the positron."""

    def __init__(self, gan: str) -> None:
        self.showers = GeneratorWrapper(embed(gan), seed=1)

    def process(self, events: ak.Array) -> hist.Hist:
        energy = events.GenPart_energy  # [GeV]
        showers = self.showers(events, energy=energy)
        cluster = (
            sum(ak.sum(ak.sum(showers[f"layer_{i}"], axis=-1), axis=-1) for i in range(3)) / 1000
        )  # [GeV]
        histogram = hist.Hist.new.Reg(
            50, 0.9, 1.05, name="response", label="E_cluster / E"
        ).Weight()
        return histogram.fill(response=ak.to_numpy(ak.flatten(cluster / energy)))

    def postprocess(self, accumulator: hist.Hist) -> hist.Hist:
        return accumulator


def make_positrons(path: Path, events: int = 1000) -> None:
    """Writes events of 0 to 3 positrons of 1 to 100 GeV."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, events)
    energy = ak.unflatten(rng.uniform(1, 100, counts.sum()).astype("f4"), counts)
    with uproot.recreate(path) as file:
        file.mktree("Events", {"GenPart_energy": "var * float32"})
        file["Events"].extend({"GenPart_energy": energy})


def main(gan: str, path: Path) -> None:
    if not path.exists():
        make_positrons(path)
    runner = Runner(executor=IterativeExecutor(status=False), schema=BaseSchema)
    histogram = runner({"positrons": {"files": {str(path): "Events"}}}, Resolution(gan))
    centers, values = histogram.axes[0].centers, histogram.values()
    mean = np.average(centers, weights=values)
    width = np.sqrt(np.average((centers - mean) ** 2, weights=values))
    print(f"{histogram.sum(flow=True).value:.0f} positrons: response {mean:.4f}, width {width:.4f}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

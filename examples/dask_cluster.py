"""Fast simulation on a Dask cluster: an existing one, or two processes of this machine.

    python examples/dask_cluster.py showers photons.root made.root [tcp://scheduler:8786]

``showers`` is the trained GAN that comes with the package, ``photons.root`` what ``coffea_fastsim.py`` makes. In a shell:
``hepgan simulate showers photons.root -o made.root --seed 1 --energy GenPart_energy --executor dask --workers 2``.

``dask_jobqueue`` makes clusters of HTCondor or Slurm jobs; the GAN travels with the job, so workers need hepgan and the
input files, nothing else. The output is the same, bit for bit, as with any other executor.
"""

import sys

from hepgan.processors import open_runner, simulate


def main(gan: str, photons: str, output: str, scheduler: str | None = None) -> None:
    with open_runner("dask", workers=2, scheduler=scheduler, step_size=500) as job:
        made = simulate(gan, photons, output, job, seed=1, conditions={"energy": "GenPart_energy"})
    print(f"{made} showers")


if __name__ == "__main__":  # Dask's workers import this file
    main(*sys.argv[1:])

"""Fast simulation on a Dask cluster: an existing one, or two processes of this machine.

    python examples/dask_cluster.py runs/showers photons.root showers.root [tcp://scheduler:8786]

``dask_jobqueue`` makes clusters of HTCondor or Slurm jobs; the GAN travels with the job, so workers need hepgan and the
input files, nothing else. The output is the same, bit for bit, as with any other executor.
"""

import sys

from hepgan.processors import running, simulate


def main(folder: str, photons: str, output: str, scheduler: str | None = None) -> None:
    with running("dask", workers=2, scheduler=scheduler, chunksize=500) as job:
        made = simulate(
            folder, photons, output, job, seed=1, conditions={"energy": "GenPart_energy"}
        )
    print(f"{made} showers")


if __name__ == "__main__":  # Dask's workers import this file
    main(*sys.argv[1:])

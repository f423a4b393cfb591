"""Fast simulation on a Dask cluster: an existing one, or two processes on this machine.

    python examples/dask_cluster.py showers positrons.root showers.root [tcp://scheduler:8786]

``showers`` is the pretrained GAN of the package, ``positrons.root`` the file written by ``coffea_fastsim.py``. On the command line:
``hepgan simulate showers positrons.root -o showers.root --seed 1 --energy GenPart_energy --executor dask --workers 2``.

``dask_jobqueue`` creates clusters of HTCondor or Slurm jobs. The GAN is sent with the job, so workers only need hepgan and the
input files. The output is bit for bit the same as with any other executor.
"""

import sys

from hepgan.processors import open_runner, simulate


def main(gan: str, positrons: str, output: str, scheduler: str | None = None) -> None:
    with open_runner("dask", workers=2, scheduler=scheduler, step_size=500) as job:
        number = simulate(
            gan, positrons, output, job, seed=1, conditions={"energy": "GenPart_energy"}
        )
    print(f"{number} showers")


if __name__ == "__main__":  # Dask's workers import this file
    main(*sys.argv[1:])

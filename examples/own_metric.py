"""A metric of your own, in scores, ``scores.json`` and the report.

    python examples/own_metric.py reference.root generated.root

Importing this module registers the metric; in a run file, name it in ``plugins``, on the command line use ``--plugin``.
"""

import sys

import numpy as np

import hepgan
from hepgan import Estimate, Sample
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.random_streams import numpy_generator

RESAMPLINGS = 100


@hepgan.register_metric("median_shift", label="median response: relative shift")
def median_shift(reference: Sample, generated: Sample, *, seed: int) -> Estimate:
    """Returns the relative difference of the median responses; the baseline compares two resampled references."""
    if "E_tot_over_E_inc" not in reference.values:
        raise hepgan.DataError("the events have no response E_tot / E_inc")
    x, y = reference.values["E_tot_over_E_inc"], generated.values["E_tot_over_E_inc"]
    rng = numpy_generator(seed, "evaluation", "median_shift")

    def resampled(values: Floats, size: int) -> Floats:
        return rng.choice(values, size)

    toys = [shift(resampled(x, len(x)), resampled(y, len(y))) for _ in range(RESAMPLINGS)]
    null = [shift(resampled(x, len(x)), resampled(x, len(y))) for _ in range(RESAMPLINGS)]
    return Estimate(shift(x, y), float(np.std(toys)), float(np.mean(null)), float(np.std(null)))


def shift(x: Floats, y: Floats) -> float:
    """Returns the absolute relative difference of two medians."""
    return float(abs(np.nanmedian(y) / np.nanmedian(x) - 1))


def main(reference: str, generated: str) -> None:
    run = hepgan.load_run("showers")
    schema, geometry = run.schema, run.geometry
    evaluation = hepgan.evaluate(
        hepgan.read(reference, schema), hepgan.read(generated, schema),
        schema=schema, geometry=geometry, quick=True,
    )  # fmt: skip
    print(evaluation)


if __name__ == "__main__":
    main(*sys.argv[1:])

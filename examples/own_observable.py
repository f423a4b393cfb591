"""An observable of your own, in histograms, scores, reports and validation.

    python examples/own_observable.py reference.root generated.root

Importing this module registers the observable; in a run file, name it in ``plugins``, on the command line use ``--plugin``.
"""

import sys
from collections.abc import Mapping

from array_api_compat import array_namespace

import hepgan
from hepgan.evaluation.observables.shower_shapes import Array


@hepgan.register_observable("peak", fields=["layer_0"], label="hottest cell of layer 0", unit="MeV")
def peak(events: Mapping[str, Array]) -> Array:
    """Returns the largest energy of a cell, ``[E]``, for numpy arrays and torch tensors."""
    cells = events["layer_0"]
    return array_namespace(cells).max(cells.reshape(cells.shape[0], -1), axis=1)


def main(reference: str, generated: str) -> None:
    run = hepgan.load_run("showers")
    schema, geometry = run.schema, run.geometry
    evaluation = hepgan.evaluate(
        hepgan.read(reference, schema), hepgan.read(generated, schema),
        schema=schema, geometry=geometry, quick=True,
    )  # fmt: skip
    for score in evaluation.scores:
        if score.observable == "peak":
            print(f"{score.metric}: {score.value:.4f} ± {score.error:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])

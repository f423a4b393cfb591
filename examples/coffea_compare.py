"""Comparison of a reference with a GAN, filled chunk by chunk with coffea, with a score for each observable.

    python examples/coffea_compare.py showers sample:showers.root

``showers`` is the pretrained GAN of the package; your own run folder works as well.
"""

import sys

import hepgan
from hepgan.evaluation.histograms import axes_for, to_arrays
from hepgan.evaluation.metrics.statistics import counts_of, separation
from hepgan.processors import Compare, embed, fileset_of, open_runner


def main(gan: str, reference: str) -> None:
    schema = hepgan.GAN.load(gan).schema
    geometry = hepgan.load_run("showers").geometry  # positions of the cells
    observables = hepgan.observables_for(schema, geometry)
    axes = axes_for(to_arrays(hepgan.read(reference, schema, entry_stop=10_000)), observables)

    # Any Runner of coffea works; this one selects the executor by name.
    with open_runner("iterative", step_size=5_000) as run:
        processor = Compare(schema, observables, axes=axes, gan=embed(gan), seed=1)
        histograms = run(fileset_of(reference), processor)

    for name, histogram in histograms.items():
        both = [counts_of(histogram, source) for source in ("reference", "generated")]
        score = separation(*both, seed=1)
        print(
            f"{name:22} separation power {score.value:.4f} ± {score.error:.4f}, baseline {score.baseline:.4f}"
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

"""Reference against a GAN, filled chunk by chunk by coffea, and a score for each observable.

python examples/coffea_compare.py runs/showers reference.root
"""

import sys
from pathlib import Path

import hepgan
from hepgan.data.files import find_tree, opened
from hepgan.data.root import sources
from hepgan.evaluate.compare import axes_for, fields_of
from hepgan.processors import Compare, carry, running


def main(folder: Path, reference: str) -> None:
    schema = hepgan.load_gan(folder)[0].encoding.schema
    geometry = hepgan.load_run(folder / "run.toml").geometry
    observables = hepgan.observables_for(schema, geometry)
    axes = axes_for(fields_of(hepgan.read(reference, schema, stop=10_000)), observables)

    # Any of coffea's Runners does; this one has an executor by its name.
    with running("iterative", chunksize=5_000) as run:
        processor = Compare(schema, observables, axes=axes, gan=carry(folder), seed=1)
        found = run(fileset(reference), processor)

    for name, histogram in found.items():
        p, q = (histogram[source, :].values(flow=True) for source in ("reference", "generated"))
        p, q = p / p.sum(), q / q.sum()
        filled = p + q > 0
        separation = 0.5 * ((p - q)[filled] ** 2 / (p + q)[filled]).sum()
        print(f"{name:22} separation power {separation:.4f}")


def fileset(file: str) -> dict[str, object]:
    """Coffea's words for one file and its only tree."""
    source = sources(file)[0]
    with opened(source.path) as opened_file:
        return {"reference": {"files": {source.path: find_tree(opened_file, source).name}}}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

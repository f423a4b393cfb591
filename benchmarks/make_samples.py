"""Creates hepgan/data/samples/: python benchmarks/make_samples.py IMAGES.gz LABELS.gz SHOWERS.root ANGLES.root [FOLDER].

IMAGES and LABELS are MNIST's IDX files of the training digits, SHOWERS and ANGLES are files with CaloGAN's
three layers, with particles at normal incidence and at other angles; the table is made up by tables.py.
Shower energies are rounded to 12 stored bits of mantissa (a relative error of at most 1.2e-4), so that more showers fit into
the wheel.
"""

import sys
from pathlib import Path

import awkward as ak
import numpy as np
import uproot
from tables import make_table

from hepgan.data.convert.mnist import read_idx
from hepgan.data.io.chunks import as_events
from hepgan.data.io.reader import read
from hepgan.data.io.writer import write
from hepgan.data.schema import Field, Schema

EVENTS = 10_000
ANGLE_EVENTS = 9_600
"""The rest of the 12,000 is kept for tests of trained GANs."""
BITS = 12
ROWS = 20_000
DIGITS = Schema({"image": Field((28, 28), dtype="uint8")}, {"label": Field(dtype="uint8")})
LAYERS = {
    "layer_0": Field((3, 96), unit="MeV"),
    "layer_1": Field((12, 12), unit="MeV"),
    "layer_2": Field((12, 6), unit="MeV"),
}
SHOWERS = Schema(LAYERS, {"energy": Field(unit="GeV")})
ANGLES = Schema(
    LAYERS,
    {
        "energy": Field(unit="GeV"),
        "theta": Field(unit="rad"),
        "phi": Field(unit="rad"),
        "x0": Field(unit="mm"),
        "y0": Field(unit="mm"),
        "pdg": Field(),
    },
)


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Rounds float32 ``values`` to ``bits`` stored bits of mantissa."""
    drop = np.uint32(23 - bits)
    pattern = values.astype(np.float32).view(np.uint32)
    return ((pattern + (np.uint32(1) << (drop - np.uint32(1)))) >> drop << drop).view(np.float32)


def main(
    images: str, labels: str, showers: str, angles: str, folder: str = "hepgan/data/samples"
) -> None:
    """Writes the files and prints their sizes."""
    options = {"overwrite": True, "compression": uproot.LZMA(9)}
    digits = as_events({"image": read_idx(images)[:EVENTS], "label": read_idx(labels)[:EVENTS]})
    write(Path(folder) / "mnist.root", digits, DIGITS, tree="mnist", **options)
    for path, schema, name, stop in (
        (showers, SHOWERS, "showers.root", EVENTS),
        (angles, ANGLES, "angles.root", ANGLE_EVENTS),
    ):
        events = read(path, schema, tree="showers", entry_stop=stop)
        layers = {field: rounded(ak.to_numpy(events[field]), BITS) for field in LAYERS}
        conditions = {field: ak.to_numpy(events[field]) for field in schema.conditions}
        write(
            Path(folder) / name, as_events(layers | conditions), schema, tree="showers", **options
        )
    write_table(Path(folder))
    for name in ("mnist.root", "showers.root", "angles.root", "table.root"):
        print(f"{name}: {(Path(folder) / name).stat().st_size / 1e6:.2f} MB")


def write_table(folder: Path) -> None:
    """Writes the table of the preset ``events``, which is made up."""
    columns = make_table(ROWS, seed=16)
    schema = Schema({name: Field(dtype=values.dtype.name) for name, values in columns.items()})
    write(
        folder / "table.root", as_events(columns), schema, tree="events", overwrite=True, compression=uproot.LZMA(9)
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Exported models compared with GAN.sample, cell by cell: python benchmarks/export.py [SHOWERS [HOST]]."""

import sys
import tempfile
import time
from pathlib import Path

from hepgan import GAN
from hepgan.gan.export.files import export


def main(number: int, host: str) -> None:
    gan = GAN.load("showers-fast", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        written = export(gan, Path(folder, "showers.onnx"), host=host, events=number)
        seconds = time.perf_counter() - start
    print(
        f"{host}: {written.operators} operators, {written.size / 1e6:.1f} MB, {seconds:.0f} s\n{written.accuracy}"
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 10_000,
        sys.argv[2] if len(sys.argv) > 2 else "plain",
    )

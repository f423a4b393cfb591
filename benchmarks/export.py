"""Exported models compared with torch, cell by cell: python benchmarks/export.py [SHOWERS]."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from hepgan import GAN
from hepgan.gan.export import DecodedGenerator, export


def main(number: int) -> None:
    gan = GAN.load("showers", device="cpu")
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(number, *gan.latent, generator=draw)
    energy = 1 + 99 * torch.rand(number, generator=draw)
    with tempfile.TemporaryDirectory() as folder:
        export(gan, Path(folder, "showers.onnx"))
        session = onnxruntime.InferenceSession(Path(folder, "showers.onnx"))
    exported = session.run(None, {"noise": noise.numpy(), "energy": energy.numpy()})
    with torch.no_grad():
        double = DecodedGenerator(gan).eval()(noise, energy)
        c = gan.encoding.encode_conditions({"energy": energy.numpy()})
        single = gan.encoding.decode_tensors(gan.generate(noise, c), c).values()
    report("torch, double precision", exported, double)
    report("torch, single precision (GAN.sample)", exported, single)


def report(name: str, exported: list[np.ndarray], fields: object) -> None:
    one = np.concatenate([field.reshape(len(field), -1) for field in exported], 1)
    two = torch.cat([field.flatten(1) for field in fields], 1).numpy()
    nonzero = (one > 0) & (two > 0)
    difference = np.abs(one - two)[nonzero] / two[nonzero]
    print(
        f"{name}: {nonzero.sum():,} cells nonzero in both, {((one > 0) != (two > 0)).sum()} in only one; relative difference"
        f" {difference.max():.1e} (maximum), {np.quantile(difference, 0.5):.1e} (median), {np.quantile(difference, 0.999):.1e} (99.9 %);"
        f" {(difference <= 1e-5).mean():.2%} within 1e-5"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)

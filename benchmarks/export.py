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
    lit = (one > 0) & (two > 0)
    away = np.abs(one - two)[lit] / two[lit]
    print(
        f"{name}: {lit.sum():,} lit cells, {((one > 0) != (two > 0)).sum()} lit in one alone; away from each other by"
        f" {away.max():.1e} at most, {np.quantile(away, 0.5):.1e} (median), {np.quantile(away, 0.999):.1e} (99.9 %);"
        f" {(away <= 1e-5).mean():.2%} within 1e-5"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)

"""Packs the pretrained GANs of the package: python benchmarks/pack_trained.py NAME=RUN_FOLDER...

Copies the GAN of each run folder to hepgan/gan/pretrained/NAME, with weights rounded to 12 bits of mantissa (2 in 10,000) so that they
compress. The events of the packed GAN therefore differ slightly from those of the run folder.
"""

import json
import lzma
import shutil
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from hepgan.gan.model import GAN
from hepgan.gan.networks import count_parameters
from hepgan.gan.pretrained import FOLDER

BITS = 12


def main() -> None:
    for argument in sys.argv[1:]:
        name, _, folder = argument.partition("=")
        weights = safetensors.torch.load_file(Path(folder) / "generator.safetensors")
        rounded = {k: tensor if exact(k) else shortened(tensor) for k, tensor in weights.items()}
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        packed = lzma.compress(safetensors.torch.save(rounded), preset=9 | lzma.PRESET_EXTREME)
        (FOLDER / name / "generator.safetensors.xz").write_bytes(packed)
        for file in ("gan.json", "run.toml"):
            shutil.copyfile(Path(folder) / file, FOLDER / name / file)
        (FOLDER / name / "scores.json").write_text(
            json.dumps(scores(Path(folder)), indent=1) + "\n"
        )
        print(f"{name}: {len(packed) / 1e6:.2f} MB")


def scores(folder: Path) -> dict[str, Any]:
    """Returns the joint scores, the scores of digits and the sizes of the networks."""
    gan = GAN.load(folder, device="cpu")
    result = json.loads((folder / "scores.json").read_text())
    metrics = ("auc_low", "auc_high", "fpd", "digit_frechet", "digit_confidence", "digit_balance")
    result["scores"] = [score for score in result["scores"] if score["metric"] in metrics]
    return result | {
        "parameters": count_parameters(
            gan.settings, gan.encoding, discriminator_shapes=gan.discriminator_shapes
        )
    }


def exact(key: str) -> bool:
    """Returns whether a tensor keeps all bits: those of ``energy_tree``, where large constants cancel, except for its largest matrices."""
    of_tree = any(part in key for part in (".levels.", ".total.", ".spectrum."))
    return of_tree and not key.endswith("hidden")


def shortened(tensor: torch.Tensor) -> torch.Tensor:
    """Rounds floats to ``BITS`` bits of mantissa."""
    if tensor.dtype != torch.float32:
        return tensor
    dropped = 23 - BITS
    bits = tensor.contiguous().view(torch.int32)
    return ((bits + (1 << (dropped - 1))) & -(1 << dropped)).view(torch.float32)


if __name__ == "__main__":
    main()

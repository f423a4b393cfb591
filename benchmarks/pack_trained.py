"""The generators that come with the package: python benchmarks/pack_trained.py NAME=RUN_FOLDER...

Each run folder's GAN goes to hepgan/gan/trained/NAME, its numbers rounded to 12 bits of mantissa (2 in 10,000) so that they
compress; what the package makes after installing is therefore not bit for bit what the run folder makes.
"""

import lzma
import shutil
import sys
from pathlib import Path

import safetensors.torch
import torch

from hepgan.gan.trained import PLACE

BITS = 12


def main() -> None:
    for argument in sys.argv[1:]:
        name, _, folder = argument.partition("=")
        weights = safetensors.torch.load_file(Path(folder) / "generator.safetensors")
        rounded = {key: shortened(tensor) for key, tensor in weights.items()}
        (PLACE / name).mkdir(parents=True, exist_ok=True)
        packed = lzma.compress(safetensors.torch.save(rounded), preset=9 | lzma.PRESET_EXTREME)
        (PLACE / name / "generator.safetensors.xz").write_bytes(packed)
        for kept in ("gan.json", "run.toml", "scores.json"):
            shutil.copyfile(Path(folder) / kept, PLACE / name / kept)
        print(f"{name}: {len(packed) / 1e6:.2f} MB")


def shortened(tensor: torch.Tensor) -> torch.Tensor:
    """Floats rounded to ``BITS`` bits of mantissa."""
    if tensor.dtype != torch.float32:
        return tensor
    dropped = 23 - BITS
    bits = tensor.contiguous().view(torch.int32)
    return ((bits + (1 << (dropped - 1))) & -(1 << dropped)).view(torch.float32)


if __name__ == "__main__":
    main()

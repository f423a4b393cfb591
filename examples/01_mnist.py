"""Digits, from a ROOT tree of images to a trained GAN, generated images and a report.

    python examples/01_mnist.py runs/mnist

A second argument such as ``train.steps=50`` changes a setting, as ``--set`` does on the command line.
"""

import sys
from pathlib import Path

import hepgan
from hepgan.pipeline import resolve_device, run


def main(folder: Path, overrides: dict[str, int]) -> None:
    settings = hepgan.load_run("mnist", overrides)
    print("generator:    ", settings.gan.layouts[0])
    print("discriminator:", settings.gan.layouts[1])

    evaluation = run(settings, folder, device=resolve_device("auto"))
    print(evaluation.verdict)

    # The trained generator returns awkward events with a field "image"[28, 28], 0 … 255.
    gan = hepgan.GAN.load(folder)
    digits = gan.sample(100, seed=1)
    hepgan.write(folder / "hundred.root", digits, gan)
    print(f"mean pixel {digits.image.to_numpy().mean():.1f}; report: {folder / 'report.html'}")


if __name__ == "__main__":
    changes = (argument.split("=") for argument in sys.argv[2:])
    main(Path(sys.argv[1]), {key: int(value) for key, value in changes})

"""Training with an objective of your own: the cross entropy with one-sided label smoothing (arXiv:1606.03498, section 3.4).

    python examples/own_objective.py runs/smoothed [train.steps=50]

A run file knows hepgan's own objectives only, so that the folder is left with a trained GAN but no ``run.toml``:
``hepgan generate runs/smoothed -n 1000 -o made.root --seed 1 --condition energy=50`` works.
"""

import dataclasses
import sys
from pathlib import Path

from torch import Tensor
from torch.nn.functional import softplus

import hepgan
from hepgan.gan.serialization import save_gan
from hepgan.gan.training.loop import train
from hepgan.gan.training.objectives import OBJECTIVES, Objective
from hepgan.pipeline import device_of, make_validation, prepare

TARGET = 0.9


def discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Of logits ``[B]``: reference events aim at 0.9 instead of 1."""
    return (TARGET * softplus(-real) + (1 - TARGET) * softplus(real) + softplus(fake)).mean()


def generator(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-fake).mean()


def main(folder: Path, overrides: dict[str, int]) -> None:
    OBJECTIVES["smoothed"] = Objective(discriminator, generator)

    settings = hepgan.load_run("showers", overrides)
    phase = dataclasses.replace(settings.train, objective="smoothed")
    settings = dataclasses.replace(settings, train=phase)
    folder.mkdir(parents=True)
    prepared = prepare(settings, device=device_of("auto"))
    watch = make_validation(settings, prepared.splits["validation"], prepared.state.gan.encoding)
    gan, _ = train(prepared.state, prepared.view, watch=watch, folder=folder, on_row=print)
    save_gan(gan, folder, tree=prepared.tree)


if __name__ == "__main__":
    changes = (argument.split("=") for argument in sys.argv[2:])
    main(Path(sys.argv[1]), {key: int(value) for key, value in changes})

"""Training with your own objective: the relativistic one plus the maximum mean discrepancy (MMD, arXiv:1502.02761).

    python examples/own_objective.py runs/mmd [train.steps=50]

A run file beside this module uses it by ``plugins = ["own_objective"]`` and ``[train] objective = "relativistic-mmd"``.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import softplus

import hepgan
from hepgan import Batch
from hepgan.pipeline import train


@hepgan.register_objective("relativistic-mmd")
class RelativisticMMD:
    """Relativistic objective whose generator also minimizes the MMD of events, jointly with their conditions."""

    @staticmethod
    def discriminator(batch: Batch) -> Tensor:
        return softplus(batch.fake - batch.real).mean()

    @staticmethod
    def generator(batch: Batch) -> Tensor:
        events = torch.cat([batch.events, batch.conditions], 1)
        generated = torch.cat([batch.generated, batch.conditions], 1)
        return softplus(batch.real - batch.fake).mean() + mmd(events, generated)


def mmd(x: Tensor, y: Tensor) -> Tensor:
    """Returns the squared MMD of ``x[B, F]`` and ``y[B, F]`` with a Gaussian kernel as wide as a typical distance, sqrt(2 F)."""
    points, n = torch.cat([x, y]), len(x)
    norms = points.square().sum(1)
    kernel = torch.exp((2 * points @ points.T - norms[:, None] - norms) / (4 * points.shape[1]))
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def main(folder: Path, overrides: dict[str, int]) -> None:
    own = {"plugins": ["own_objective"], "train.objective": "relativistic-mmd"}
    print(train(hepgan.load_run("showers-fast", {**overrides, **own}), folder)[0])


if __name__ == "__main__":
    changes = (argument.split("=") for argument in sys.argv[2:])
    main(Path(sys.argv[1]), {key: int(value) for key, value in changes})

"""All that changes while a GAN is trained."""

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hepgan.data.loader import UnsupervisedLoader
from hepgan.gan.model import GAN


@dataclasses.dataclass
class State:
    """All that changes while a GAN is trained, and so all that a checkpoint holds."""

    gan: GAN
    average: nn.Module
    optimizers: dict[str, Optimizer]
    schedules: dict[str, LambdaLR]
    loader: UnsupervisedLoader
    noise: torch.Generator
    step: int = 0
    seconds: float = 0.0
    best_score: float = math.inf
    best_step: int = 0
    best: dict[str, Tensor] = dataclasses.field(default_factory=dict)

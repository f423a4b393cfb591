"""How a GAN is trained: the tables ``[train]``, ``[train.generator]`` and ``[train.discriminator]`` of a run file."""

import dataclasses
import math
from typing import Literal

from hepgan.errors import RunError

Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """How one of the two networks goes down its loss.

    Attributes:
        learning_rate: At the first step.
        optimizer: torch's of that name.
        betas: Adam's.
        momentum: That of ``sgd`` and ``rmsprop``.
        rho: The share of the past in the mean squares of ``rmsprop`` and ``adadelta``.
        epsilon: What is added to the root of the mean squares.
        l1: Weight of the sum of the absolute weights in the loss; biases are left out.
        l2: Weight of the sum of the squared weights.
        clip: The largest norm of the gradient, to which a larger one is scaled down; 0 leaves all as they are.
        dropout: The share of each layer's inputs that training sets to 0, in the order of ``hepgan layout``; 0 for the
            layers behind the last one given. Of two stages it is the second, of two discriminators the first.
    """

    learning_rate: float
    optimizer: Literal["adam", "sgd", "adagrad", "rmsprop", "adadelta"] = "adam"
    betas: tuple[float, float] = (0.0, 0.99)
    momentum: float = 0.0
    rho: float = 0.9
    epsilon: float = 1e-8
    l1: float = 0.0
    l2: float = 0.0
    clip: float = 0.0
    dropout: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise RunError(f"learning_rate = {self.learning_rate} should be positive")
        if not 0 < self.epsilon < math.inf:
            raise RunError(f"epsilon = {self.epsilon} should be positive")
        for name in ("l1", "l2", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RunError(f"{name} = {getattr(self, name)} should be 0 or more")
        shares = {"betas": self.betas, "dropout": self.dropout}
        shares |= {"momentum": (self.momentum,), "rho": (self.rho,)}
        for name, values in shares.items():
            if not all(0 <= value < 1 for value in values):
                text = list(values) if len(values) != 1 else values[0]
                raise RunError(f"{name} = {text} should be 0 or more and less than 1")


_TURNS = ("critic_steps", "generator_steps")
_WEIGHTS = ("r1", "r2", "gradient_penalty", "energy_constraint", "feature_matching")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The table ``[train]`` of a run file, and each of ``[[phases]]``.

    Attributes:
        steps: Turns of the discriminator and the generator; 0 leaves the networks as they begin.
        batch_size: Events a step.
        generator: How the generator is trained.
        discriminator: How the discriminator is trained.
        objective: See ``hepgan.gan.training.objectives``.
        decay: What the learning rates have fallen to at the last step, as a share, along a half cosine.
        r1: Weight of the zero-centred penalty on reference events, halved as in the literature.
        r2: The same on generated events.
        gradient_penalty: Weight of the one-centred penalty between both.
        energy_constraint: Weight in the generator's loss of the mean distance of the energy in all cells to the incident one,
            in the unit of the incident energy (arXiv:1705.02355).
        feature_matching: Weight in the generator's loss of the squared distance between the batch's mean inputs to the
            discriminator's last layer, generated and reference (arXiv:1606.03498).
        critic_steps: Discriminator steps before the generator's.
        generator_steps: Generator steps after those.
        precision: What the networks compute in while they are trained; with ``bfloat16`` their products and convolutions do,
            as torch's autocast has it. Weights, losses, penalties and decoded events are float32 all the same.
        ema: Weight of the past in the moving average of the generator's weights; 0 leaves the average out.
        validate_every: Steps between validations; the end of each phase is validated too. 0 leaves all out, and the last weights are kept.
        patience: Training ends after so many validations in a row without a better score; 0 lets it go on.
        checkpoint_every: Steps between checkpoints; one is written at the end and at an interruption anyway.
        keep: How many checkpoints are kept.
        log_every: Steps between rows of the history; there is one at each validation and checkpoint too.
    """

    steps: int
    batch_size: int
    generator: NetworkSettings
    discriminator: NetworkSettings
    objective: Literal[
        "non-saturating",
        "least-squares",
        "sum-of-squares",
        "hinge",
        "wasserstein",
        "relativistic",
    ] = "relativistic"
    decay: float = 1.0
    r1: float = 0.0
    r2: float = 0.0
    gradient_penalty: float = 0.0
    energy_constraint: float = 0.0
    feature_matching: float = 0.0
    critic_steps: int = 1
    generator_steps: int = 1
    precision: Precision = "float32"
    ema: float = 0.999
    validate_every: int = 500
    patience: int = 0
    checkpoint_every: int = 1000
    keep: int = 2
    log_every: int = 50

    def __post_init__(self) -> None:
        at_least = {
            1: ("batch_size", *_TURNS, "checkpoint_every", "keep", "log_every"),
            0: ("steps", *_WEIGHTS, "validate_every", "patience"),
        }
        for least, names in at_least.items():
            for name in names:
                if not least <= (value := getattr(self, name)) < math.inf:
                    raise RunError(
                        f"[train] {name} = {value} should be {least} or more, and finite"
                    )
        if not 0 <= self.ema < 1:
            raise RunError(f"[train] ema = {self.ema} should be 0 or more and less than 1")
        if not 0 < self.decay <= 1:
            raise RunError(f"[train] decay = {self.decay} should be more than 0 and at most 1")
        if self.patience and not self.validate_every:
            raise RunError("[train] patience counts validations; set validate_every too")

    @property
    def networks(self) -> dict[str, NetworkSettings]:
        """By the networks' names."""
        return {"generator": self.generator, "discriminator": self.discriminator}

"""Training settings: the tables ``[train]``, ``[train.generator]`` and ``[train.discriminator]`` of a run file."""

import dataclasses
import math
from typing import Literal

from hepgan.errors import RunError
from hepgan.gan.training.objectives import objective_named
from hepgan.gan.training.schedule import Number, Schedule, ends, value_at

Precision = Literal["float32", "bfloat16"]
Penalty = Literal["exact", "finite-differences"]


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Settings of the optimization of one network, ``[train.generator]`` or ``[train.discriminator]``.

    Attributes:
        learning_rate: Learning rate. A number is the initial one; it changes as ``final_lr_fraction``, ``lr_schedule`` and
            ``warmup_steps`` of ``[train]`` say.
        optimizer: Name of torch's optimizer.
        betas: Coefficients of the running averages of ``adam`` and ``adamw``; the second one may change with the step.
        weight_decay: Decoupled weight decay of ``adamw`` (arXiv:1711.05101): each step multiplies the weights, biases included, by
            1 − learning rate × weight decay.
        momentum: Momentum of ``sgd`` and ``rmsprop``.
        rho: Decay rate of the mean squares of ``rmsprop`` and ``adadelta``.
        epsilon: Constant added to the root of the mean squares.
        l1: Coefficient of the sum of the absolute weights in the loss; biases are not included.
        l2: Coefficient of the sum of the squared weights in the loss; biases are not included.
        clip: Largest norm of the gradient; larger gradients are scaled down to it. 0 disables clipping.
        dropout: Dropout rates of the layers' inputs, in the order of ``hepgan layout``; layers without a rate have no dropout.
            With two stages they belong to the second, with two discriminators to the first.
    """

    learning_rate: Number
    optimizer: Literal["adam", "adamw", "sgd", "adagrad", "rmsprop", "adadelta"] = "adam"
    betas: tuple[float, Number] = (0.0, 0.99)
    weight_decay: float = 0.0
    momentum: float = 0.0
    rho: float = 0.9
    epsilon: float = 1e-8
    l1: float = 0.0
    l2: float = 0.0
    clip: float = 0.0
    dropout: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        initial, final = ends(self.learning_rate)
        if not (0 < initial < math.inf and 0 <= final < math.inf):
            raise RunError(f"learning_rate = {self.learning_rate} should be positive")
        if not 0 < self.epsilon < math.inf:
            raise RunError(f"epsilon = {self.epsilon} should be positive")
        for name in ("l1", "l2", "clip", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RunError(f"{name} = {getattr(self, name)} should be 0 or more")
        if self.weight_decay and self.optimizer != "adamw":
            raise RunError(
                f"weight_decay belongs to optimizer = 'adamw', not to '{self.optimizer}'; set the optimizer, or use l2"
            )
        fractions = {"betas": (self.betas[0], *ends(self.betas[1])), "dropout": self.dropout}
        fractions |= {"momentum": (self.momentum,), "rho": (self.rho,)}
        for name, values in fractions.items():
            if not all(0 <= value < 1 for value in values):
                text = list(values) if len(values) != 1 else values[0]
                raise RunError(f"{name} = {text} should be 0 or more and less than 1")


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """Augmentation of discriminator inputs, ``[train.augment]``, the same for reference and generated events.

    It applies to discriminators whose input is ``cells``, ``images`` or ``layer energies``; others see the events as they are. Rows are the
    second to last axis of a layer's cells (α, of cells in α and r), columns the last one.

    Attributes:
        reflect: Axes along which events are reflected.
        rotate: Whether events are rotated by whole cells along the rows, a full circle.
        energy_scale: Standard deviation of the logarithm of a factor of all energies of an event.
        probability: Probability of each transformation.
        adaptive: Whether the probability changes with the discriminator's output on training events: it rises while the mean sign of the
            logits is above ``target``, and falls below (arXiv:2006.06676). The logits need a meaning of their own: use
            ``non-saturating``, ``hinge`` or ``logit_centering``.
        target: Target of the mean sign.
        adapt_steps: Steps in which an adaptive probability can change by 1.
        largest: Largest adaptive probability.
    """

    reflect: tuple[Literal["rows", "columns"], ...] = ()
    rotate: bool = False
    energy_scale: float = 0.0
    probability: Number = 0.5
    adaptive: bool = False
    target: float = 0.6
    adapt_steps: int = 5000
    largest: float = 0.8

    def __post_init__(self) -> None:
        if not (self.reflect or self.rotate or self.energy_scale):
            raise RunError(
                "[train.augment] needs a transformation: reflect, rotate or energy_scale"
            )
        if not 0 <= self.energy_scale < math.inf:
            raise RunError(
                f"[train.augment] energy_scale = {self.energy_scale} should be 0 or more"
            )
        fractions = {"probability": ends(self.probability), "largest": (self.largest,)}
        for name, values in fractions.items():
            if not all(0 <= value <= 1 for value in values):
                raise RunError(f"[train.augment] {name} = {values[0]} should be from 0 to 1")
        if not -1 < self.target < 1:
            raise RunError(f"[train.augment] target = {self.target} should be between -1 and 1")
        if self.adapt_steps < 1:
            raise RunError(f"[train.augment] adapt_steps = {self.adapt_steps} should be 1 or more")
        if self.adaptive and isinstance(self.probability, Schedule):
            raise RunError(
                "[train.augment] an adaptive probability is no schedule; give its first value, or remove adaptive"
            )


OF_DISCRIMINATOR = ("r1", "r2", "gradient_penalty", "logit_centering", "feature_matching")
"""Weights of terms that need a discriminator."""

_COUNTS = ("critic_steps", "generator_steps")
_WEIGHTS = (*OF_DISCRIMINATOR, "energy_constraint", "transport", "gradient_norm")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Settings of a training phase: the table ``[train]`` of a run file, and each of ``[[phases]]``.

    A number that may be a schedule changes with the step: ``r1 = { from = 10.0, to = 1.0, schedule = "linear" }``.

    Attributes:
        steps: Number of training steps; 0 leaves the networks untrained.
        batch_size: Events per step.
        generator: Optimization of the generator.
        discriminator: Optimization of the discriminator; left out for an objective without one.
        objective: Name of the objective: ``non-saturating``, ``least-squares``, ``sum-of-squares``, ``hinge``, ``wasserstein``,
            ``relativistic``, ``mmd``, or one that a plugin registers with ``hepgan.register_objective``.
        final_lr_fraction: Final learning rate as a fraction of the initial one, for learning rates that are no schedules.
        lr_schedule: Shape of the decay of these learning rates from the initial to the final one.
        warmup_steps: Steps at the start of the phase in which these learning rates rise linearly from 0.
        r1: Weight of the zero-centered gradient penalty on reference events; the penalty has a factor 1/2, as in the literature.
        r2: Weight of the same penalty on generated events.
        gradient_penalty: Weight of the one-centered gradient penalty on points between both (WGAN-GP).
        penalty: Computation of ``r1`` and ``r2``: ``exact``, by differentiating the discriminator's gradient, or
            ``finite-differences``, from the change of its logits under random displacements of the events: an unbiased estimate up to
            terms of the square of ``penalty_step`` that costs a forward pass (arXiv:2511.22475).
        penalty_step: Standard deviation of these displacements.
        penalty_fraction: Fraction of each batch on which the gradient penalties are computed.
        penalty_every: Steps between gradient penalties, which are multiplied by the same number (lazy regularization,
            arXiv:1912.04958).
        logit_centering: Weight in the discriminator's loss of the mean squared sum of the logits of a reference and a generated event,
            which keeps the logits around 0 (arXiv:2511.22475).
        energy_constraint: Weight in the generator's loss of the mean absolute difference between the energy in all cells and the
            incident energy, in the unit of the latter (arXiv:1705.02355).
        feature_matching: Weight in the generator's loss of the squared distance between generated and reference events in the mean
            input of the discriminator's last layer (arXiv:1606.03498).
        transport: Weight in the generator's loss of the mean squared distance per feature between the generated event, encoded, and its
            noise (arXiv:2511.22475). It needs noise of the event's shape, ``latent = [0]``.
        final_transport_fraction: Final weight ``transport`` as a fraction of the initial one (cosine schedule), if ``transport`` is
            no schedule.
        gradient_norm: Mean length over the batch to which the gradients at the generated events, encoded, are scaled before they reach the
            generator (arXiv:2511.22475), so that the weights of ``transport`` and ``energy_constraint``, which are added after it, mean
            the same at every step; 0 leaves them unscaled.
        augment: Augmentation of discriminator inputs, see ``AugmentSettings``.
        critic_steps: Discriminator updates per step.
        generator_steps: Generator updates per step, after those of the discriminator.
        encoding_learning_rate: Learning rate of AdamW for the networks of the encoding (``energy_tree``, ``autoregressive``), which are then
            trained with the generator, through the decoding. A number changes like the other learning rates; β, ε and ``clip`` are those of
            the generator. 0 leaves the encoding as fitted.
        precision: Precision of the networks during training; with ``bfloat16`` torch's autocast applies to matrix products and
            convolutions. Weights, losses, penalties and decoded events are always float32.
        compile: Whether the decoding and the observables that discriminators see are compiled with ``torch.compile``, which takes
            about half a minute; kept in torch's cache for the next training. Without a compiler, or for steps that cannot be compiled
            (``energy_tree``), a warning is logged and the training continues without it.
        ema: Decay of the exponential moving average of the generator's weights; 0 disables averaging.
        ema_half_life: Half-life of this average in steps, which takes the place of ``ema``; 0 leaves it to ``ema``.
        validate_every: Steps between validations; there is also one at the end of each phase. 0 disables validation, and the last
            weights are kept.
        patience: Number of validations in a row without a better score after which the phase ends; 0 disables early stopping.
        checkpoint_every: Steps between checkpoints; one is also written at the end of each phase and on an interruption.
        keep: Number of checkpoints to keep.
        log_every: Steps between rows of the history; there is also one at each validation and checkpoint.
        start_from: GAN of the same shape to start from: a pretrained one (``showers``), a run folder, its address, or a folder written by
            ``GAN.save``. Networks and correlations start from its own; see the page on fine-tuning.
    """

    steps: int
    batch_size: int
    generator: NetworkSettings
    discriminator: NetworkSettings | None = None
    objective: str = "relativistic"
    final_lr_fraction: float = 1.0
    lr_schedule: Literal["cosine", "linear"] = "cosine"
    warmup_steps: int = 0
    r1: Number = 0.0
    r2: Number = 0.0
    gradient_penalty: Number = 0.0
    penalty: Penalty = "exact"
    penalty_step: float = 0.01
    penalty_fraction: float = 1.0
    penalty_every: int = 1
    logit_centering: Number = 0.0
    energy_constraint: Number = 0.0
    feature_matching: Number = 0.0
    transport: Number = 0.0
    final_transport_fraction: float = 1.0
    gradient_norm: Number = 0.0
    augment: AugmentSettings | None = None
    critic_steps: int = 1
    generator_steps: int = 1
    encoding_learning_rate: Number = 0.0
    precision: Precision = "float32"
    compile: bool = False
    ema: Number = 0.999
    ema_half_life: Number = 0.0
    validate_every: int = 500
    patience: int = 0
    checkpoint_every: int = 1000
    keep: int = 2
    log_every: int = 50
    start_from: str = ""

    def __post_init__(self) -> None:
        at_least = {
            1: ("batch_size", *_COUNTS, "penalty_every", "checkpoint_every", "keep", "log_every"),
            0: ("steps", "warmup_steps", *_WEIGHTS, "ema_half_life", "validate_every", "patience"),
        }
        for least, names in at_least.items():
            for name in names:
                value = getattr(self, name)
                if not all(least <= end < math.inf for end in ends(value)):
                    raise RunError(
                        f"[train] {name} = {value} should be {least} or more, and finite"
                    )
        if not all(0 <= end < 1 for end in ends(self.ema)):
            raise RunError(f"[train] ema = {self.ema} should be 0 or more and less than 1")
        for name in ("final_lr_fraction", "penalty_fraction"):
            if not 0 < (value := getattr(self, name)) <= 1:
                raise RunError(f"[train] {name} = {value} should be more than 0 and at most 1")
        if not 0 <= self.final_transport_fraction <= 1:
            raise RunError(
                f"[train] final_transport_fraction = {self.final_transport_fraction} should be from 0 to 1"
            )
        if isinstance(self.transport, Schedule) and self.final_transport_fraction != 1:
            raise RunError(
                "[train] transport is a schedule with a final weight; remove final_transport_fraction"
            )
        if not 0 < self.penalty_step < math.inf:
            raise RunError(f"[train] penalty_step = {self.penalty_step} should be positive")
        if self.finite_differences and self.precision != "float32":
            raise RunError(
                "[train] penalty = 'finite-differences' needs precision = 'float32': the differences would be smaller than the"
                " rounding errors; use penalty = 'exact'"
            )
        self._check_objective()
        first, last = ends(self.encoding_learning_rate)
        if not 0 <= min(first, last) <= max(first, last) < math.inf or (last and not first):
            raise RunError(
                f"[train] encoding_learning_rate = {self.encoding_learning_rate} should be 0 or more, and finite, and not rise from 0:"
                " use warmup"
            )
        if self.patience and not self.validate_every:
            raise RunError("[train] patience counts validations; set validate_every too")

    def _check_objective(self) -> None:
        """Checks the settings of the discriminator: an adversarial objective needs them, others have no use for them."""
        if self.adversarial and self.discriminator is None:
            raise RunError(
                f"[train] objective = '{self.objective}' trains a discriminator; set [train] discriminator = {{ learning_rate = … }}"
            )
        unused = [name for name in OF_DISCRIMINATOR if max(ends(getattr(self, name)))]
        unused += ["augment"] if self.augment else []
        if unused and not self.adversarial:
            raise RunError(
                f"[train] {unused[0]} needs a discriminator, but objective = '{self.objective}' has none; remove it"
            )

    @property
    def adversarial(self) -> bool:
        """True if the objective trains a discriminator."""
        return objective_named(self.objective).discriminator is not None

    @property
    def finite_differences(self) -> bool:
        """True if gradient penalties are computed from finite differences."""
        weights = *ends(self.r1), *ends(self.r2)
        return self.penalty == "finite-differences" and max(weights) > 0

    @property
    def networks(self) -> dict[str, NetworkSettings]:
        """Settings of the networks by name."""
        networks = {"generator": self.generator}
        if self.encoding:
            networks["encoding"] = self.encoding
        return networks | ({"discriminator": self.discriminator} if self.discriminator else {})

    @property
    def encoding(self) -> NetworkSettings | None:
        """Settings of the encoding's networks; ``None`` if they are not trained."""
        if not max(ends(self.encoding_learning_rate)):
            return None
        return NetworkSettings(
            self.encoding_learning_rate, "adamw",
            betas=self.generator.betas, epsilon=self.generator.epsilon, clip=self.generator.clip,
        )  # fmt: skip

    def learning_rate(self, network: NetworkSettings, step: int) -> float:
        """Returns the learning rate of ``network`` at ``step`` of the phase."""
        if isinstance(network.learning_rate, Schedule):
            return network.learning_rate.at(step, self.steps)
        fraction = Schedule(1.0, self.final_lr_fraction, self.lr_schedule, warmup=self.warmup_steps)
        return network.learning_rate * fraction.at(step, self.steps)

    def transport_weight(self, step: int) -> float:
        """Returns the weight ``transport`` at ``step`` of the phase."""
        if isinstance(self.transport, Schedule):
            return self.transport.at(step, self.steps)
        return self.transport * Schedule(1.0, self.final_transport_fraction).at(step, self.steps)

    def ema_decay(self, step: int) -> float:
        """Returns the decay of the generator's moving average at ``step`` of the phase."""
        half_life = value_at(self.ema_half_life, step, self.steps)
        return 0.5 ** (1 / half_life) if half_life else value_at(self.ema, step, self.steps)

"""``TrainingStrategy``: phases of ``Key=Value`` pairs, converted to ``TrainSettings``.

A key applies to both networks, or with the prefix ``Generator`` or ``Discriminator`` to one. Keys that MethodGAN read but
never used either work here or are rejected.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

from hepgan.errors import RunError, did_you_mean
from hepgan.gan.training.settings import NetworkSettings, TrainSettings
from hepgan.tmva.options import Token

log = logging.getLogger(__name__)

KEYS: Mapping[str, str] = {
    "LearningRate": "learning rate of the optimizer [2e-4]",
    "Optimizer": "ADAM, SGD, ADAGRAD, RMSPROP or ADADELTA [ADAM]",
    "Momentum": "momentum of SGD and RMSPROP; beta1 of ADAM",
    "ADAM_beta1": "[0.9]",
    "ADAM_beta2": "[0.999]",
    "ADAM_eps": "[1e-7]",
    "WeightDecay": "weight of the penalty that Regularization names [0]",
    "Regularization": "NONE, L1 or L2 [NONE]",
    "DropConfig": "0.0+0.5+…: fraction of each layer's inputs that is dropped",
    "Repetitions": "discriminator steps per generator step [1]",
    "BatchSize": "events per step [that of BatchLayout, or 32]",
    "MaxEpochs": "maximum length of the phase; takes no prefix [2000]",
    "TestRepetitions": "epochs between validations [7]",
    "ConvergenceSteps": "epochs without a better validation score after which the phase ends [100]",
    "Multithreading": "False: one CPU thread [True]",
    "DropRepetitions": "not supported: other inputs are dropped at each step",
    "Renormalize": "not supported: TMVA never used it; Regularization=L2 keeps weights small",
}
"""Description of each key."""

SHARED = ("BatchSize", "TestRepetitions", "ConvergenceSteps", "Multithreading")
"""Keys that must agree for both networks, since these are trained side by side."""

OPTIMIZERS: Mapping[str, Literal["adam", "sgd", "adagrad", "rmsprop", "adadelta"]] = {
    "ADAM": "adam", "SGD": "sgd", "ADAGRAD": "adagrad", "RMSPROP": "rmsprop", "ADADELTA": "adadelta",
}  # fmt: skip
ROLES = ("Generator", "Discriminator")
PENALTY = 1.0
"""R1 and R2, for which TMVA has no option: without them GANs of dense layers collapse (arXiv:2501.05441)."""

RHO = {"rmsprop": 0.9, "adadelta": 0.95}

_Phase = dict[tuple[str, str], Token]
"""(role or "", key) -> value."""


def phases(
    strategy: Token, *, events: int, batch: int, objective: Any
) -> tuple[TrainSettings, ...]:
    """Returns the phases of a ``TrainingStrategy``.

    Args:
        strategy: Value of the option.
        events: Number of training events: an epoch is one pass over them, in whole batches.
        batch: Batch size of ``BatchLayout``, 0 without one.
        objective: Objective of the training.

    Raises:
        RunError: a key is unknown (with the nearest name) or not supported, or a value is invalid.
    """
    return tuple(
        _settings(_pairs(phase), events, batch, objective) for phase in strategy.split("|")
    )


def threads(strategy: Token) -> int:
    """Returns 1 if the first phase disables multithreading, otherwise 0, torch's default."""
    value = _shared(_pairs(strategy.split("|")[0]), "Multithreading")
    return 1 if value and not value.boolean("Multithreading") else 0


def _pairs(phase: Token) -> _Phase:
    phase_values: _Phase = {}
    for pair in phase.split(","):
        if not pair.text:
            continue
        name, value = pair.cut("=")
        if value is None or not value.text:
            raise pair.error("a training key needs a value: Key=Value")
        key = _key(name)
        if key in phase_values:
            raise name.error(f"{name.text} is given twice in this phase")
        phase_values[key] = value
    return phase_values


def _key(name: Token) -> tuple[str, str]:
    lower = name.text.lower()
    by_lower = {key.lower(): key for key in KEYS}
    role = next((r for r in ROLES if lower.startswith(r.lower())), "")
    key = by_lower.get(lower.removeprefix(role.lower()))
    if key is None:
        known = [prefix + key for key in KEYS for prefix in ("", *ROLES)]
        hint = did_you_mean(name.text, known) or f"; the keys are {', '.join(KEYS)}"
        raise name.error(f"no training key '{name.text}'{hint}")
    if role and key == "MaxEpochs":
        raise name.error("MaxEpochs takes no prefix: both networks are trained equally long")
    return role, key


def _settings(phase: _Phase, events: int, batch: int, objective: Any) -> TrainSettings:
    size = _integer(_shared(phase, "BatchSize"), "BatchSize", batch or 32)
    if size > events:
        raise RunError(
            f"TrainingStrategy: a batch of {size} is larger than the {events} training events;"
            " choose a smaller BatchSize"
        )
    epoch = events // size
    steps = epoch * _integer(phase.get(("", "MaxEpochs")), "MaxEpochs", 2000)
    every = epoch * _integer(_shared(phase, "TestRepetitions"), "TestRepetitions", 7)
    wait = epoch * _integer(_shared(phase, "ConvergenceSteps"), "ConvergenceSteps", 100)
    _check_unsupported(phase)
    return TrainSettings(
        steps=steps,
        batch_size=size,
        generator=_network(phase, "Generator"),
        discriminator=_network(phase, "Discriminator"),
        objective=objective,
        r1=PENALTY,
        r2=PENALTY,
        critic_steps=_critic_steps(phase),
        validate_every=min(every, steps),
        patience=math.ceil(wait / every),
        checkpoint_every=min(every, steps),
        log_every=epoch,
    )


def _network(phase: _Phase, role: str) -> NetworkSettings:
    def value(key: str) -> Token | None:
        return phase.get((role, key), phase.get(("", key)))

    def number(key: str, default: float) -> float:
        token = value(key)
        return default if token is None else token.number(role + key)

    named = value("Optimizer")
    optimizer = OPTIMIZERS[named.choice("Optimizer", OPTIMIZERS) if named else "ADAM"]
    momentum = _momentum(value("Momentum"), value("ADAM_beta1"), optimizer)
    penalties = _penalties(value("WeightDecay"), value("Regularization"))
    try:
        return NetworkSettings(
            learning_rate=number("LearningRate", 2e-4),
            optimizer=optimizer,
            betas=(number("ADAM_beta1", momentum), number("ADAM_beta2", 0.999)),
            momentum=momentum if optimizer in ("sgd", "rmsprop") else 0.0,
            rho=RHO.get(optimizer, 0.9),
            epsilon=number("ADAM_eps", 1e-7),
            dropout=_rates(value("DropConfig")),
            **penalties,
        )
    except RunError as error:
        raise RunError(f"TrainingStrategy, {role}: {error}") from error


def _momentum(momentum: Token | None, beta: Token | None, optimizer: str) -> float:
    if momentum is None:
        return 0.9 if optimizer == "adam" else 0.0
    number = momentum.number("Momentum")
    if optimizer in ("adagrad", "adadelta") and number:
        raise momentum.error(f"{optimizer.upper()} has no momentum; remove Momentum")
    if optimizer == "adam" and beta is not None and beta.number("ADAM_beta1") != number:
        raise momentum.error("for ADAM, Momentum is beta1, but ADAM_beta1 has another value")
    return number


def _penalties(decay: Token | None, kind: Token | None) -> dict[str, float]:
    weight = decay.number("WeightDecay") if decay else 0.0
    penalty = kind.choice("Regularization", ("NONE", "L1", "L2")) if kind else "NONE"
    if penalty == "NONE":
        if weight:
            log.warning("WeightDecay=%g has no effect without Regularization=L1 or L2", weight)
        return {}
    return {penalty.lower(): weight}


def _rates(config: Token | None) -> tuple[float, ...]:
    rates = [rate.number("a rate of DropConfig") for rate in config.split("+")] if config else []
    while rates and not rates[-1]:
        rates.pop()
    return tuple(rates)


def _critic_steps(phase: _Phase) -> int:
    steps = phase.get(("Generator", "Repetitions"), phase.get(("", "Repetitions")))
    if steps and steps.integer("Repetitions", least=1) != 1:
        raise steps.error(
            "the generator takes one step at a time; DiscriminatorRepetitions sets the discriminator's steps"
        )
    return _integer(phase.get(("Discriminator", "Repetitions")), "Repetitions", 1)


def _shared(phase: _Phase, key: str) -> Token | None:
    """Returns the value of a key for which the networks must agree."""
    by_role = [phase.get((role, key), phase.get(("", key))) for role in ROLES]
    values = [value for value in by_role if value is not None]
    if len({value.text for value in values}) > 1:
        raise values[1].error(
            f"{key} is {values[0].text} for the generator and {values[1].text} for the discriminator, "
            "but they are trained side by side"
        )
    return values[0] if values else None


def _check_unsupported(phase: _Phase) -> None:
    for (_, key), value in phase.items():
        allowed = {"DropRepetitions": ("1",), "Renormalize": ("NONE", "FALSE", "F")}.get(key)
        if allowed and value.text.upper() not in allowed:
            raise value.error(f"{key} is {KEYS[key]}")


def _integer(value: Token | None, what: str, default: int) -> int:
    return default if value is None else value.integer(what, least=1)

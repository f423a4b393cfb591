"""``TrainingStrategy``: phases of ``Key=Value`` pairs to ``TrainSettings``.

A key stands for both networks, or with the prefix ``Generator`` or ``Discriminator`` for one. Where MethodGAN read a key and
never used it, it works here or is refused.
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
    "LearningRate": "of the optimizer [2e-4]",
    "Optimizer": "ADAM, SGD, ADAGRAD, RMSPROP or ADADELTA [ADAM]",
    "Momentum": "of SGD and RMSPROP; with ADAM its beta1",
    "ADAM_beta1": "[0.9]",
    "ADAM_beta2": "[0.999]",
    "ADAM_eps": "[1e-7]",
    "WeightDecay": "weight of the penalty that Regularization names [0]",
    "Regularization": "NONE, L1 or L2 [NONE]",
    "DropConfig": "0.0+0.5+…: the share of each layer's inputs that is dropped",
    "Repetitions": "of the discriminator: its steps before each step of the generator [1]",
    "BatchSize": "events a step [that of BatchLayout, or 32]",
    "MaxEpochs": "the longest that the phase lasts; takes no prefix [2000]",
    "TestRepetitions": "epochs between looks at the validation events [7]",
    "ConvergenceSteps": "epochs without a better validation score that end the phase [100]",
    "Multithreading": "False: one CPU thread [True]",
    "DropRepetitions": "refused: inputs are dropped anew at each step",
    "Renormalize": "refused: no part of TMVA used it; Regularization=L2 keeps weights small",
}
"""What each key does."""

SHARED = ("BatchSize", "TestRepetitions", "ConvergenceSteps", "Multithreading")
"""Keys in which both networks must agree, since they are trained side by side."""

OPTIMIZERS: Mapping[str, Literal["adam", "sgd", "adagrad", "rmsprop", "adadelta"]] = {
    "ADAM": "adam", "SGD": "sgd", "ADAGRAD": "adagrad", "RMSPROP": "rmsprop", "ADADELTA": "adadelta",
}  # fmt: skip
ROLES = ("Generator", "Discriminator")
PENALTY = 1.0
"""R1 and R2, for which TMVA has no word: without them GANs of dense layers collapse (arXiv:2501.05441)."""

RHO = {"rmsprop": 0.9, "adadelta": 0.95}

_Phase = dict[tuple[str, str], Token]
"""(role or "", key) -> value."""


def phases(
    strategy: Token, *, events: int, batch: int, objective: Any
) -> tuple[TrainSettings, ...]:
    """The phases of a ``TrainingStrategy``.

    Args:
        strategy: Its value.
        events: How many events are trained on: an epoch is so many divided by the batch size.
        batch: The batch size of ``BatchLayout``, 0 where it says none.
        objective: What is minimised.

    Raises:
        RunError: an unknown key (with the nearest), a value that does not fit, or a key that is refused.
    """
    found = [_pairs(phase) for phase in strategy.split("|")]
    return tuple(_settings(phase, events, batch, objective) for phase in found)


def threads(strategy: Token) -> int:
    """1 where the first phase is without multithreading, else 0, torch's own choice."""
    value = _shared(_pairs(strategy.split("|")[0]), "Multithreading")
    return 1 if value and not value.boolean("Multithreading") else 0


def _pairs(phase: Token) -> _Phase:
    found: _Phase = {}
    for pair in phase.split(","):
        if not pair.text:
            continue
        name, value = pair.cut("=")
        if value is None or not value.text:
            raise pair.error("a training key needs a value: Key=Value")
        place = _key(name)
        if place in found:
            raise name.error(f"{name.text} is given twice in this phase")
        found[place] = value
    return found


def _key(name: Token) -> tuple[str, str]:
    lower = name.text.lower()
    by_lower = {key.lower(): key for key in KEYS}
    role = next((r for r in ROLES if lower.startswith(r.lower())), "")
    key = by_lower.get(lower.removeprefix(role.lower()))
    if key is None:
        known = [prefix + key for key in KEYS for prefix in ("", *ROLES)]
        hint = did_you_mean(name.text, known) or f"; there are {', '.join(KEYS)}"
        raise name.error(f"no training key '{name.text}'{hint}")
    if role and key == "MaxEpochs":
        raise name.error("MaxEpochs takes no prefix: both networks are trained for as long")
    return role, key


def _settings(phase: _Phase, events: int, batch: int, objective: Any) -> TrainSettings:
    size = _integer(_shared(phase, "BatchSize"), "BatchSize", batch or 32)
    if size > events:
        raise RunError(
            f"TrainingStrategy: batches of {size} cannot be made of the {events} events to train on;"
            " choose a smaller BatchSize"
        )
    epoch = events // size
    steps = epoch * _integer(phase.get(("", "MaxEpochs")), "MaxEpochs", 2000)
    every = epoch * _integer(_shared(phase, "TestRepetitions"), "TestRepetitions", 7)
    wait = epoch * _integer(_shared(phase, "ConvergenceSteps"), "ConvergenceSteps", 100)
    _check_refused(phase)
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
    found = momentum.number("Momentum")
    if optimizer in ("adagrad", "adadelta") and found:
        raise momentum.error(f"{optimizer.upper()} has no momentum; leave Momentum out")
    if optimizer == "adam" and beta is not None and beta.number("ADAM_beta1") != found:
        raise momentum.error("with ADAM, Momentum is its beta1, and ADAM_beta1 says otherwise")
    return found


def _penalties(decay: Token | None, kind: Token | None) -> dict[str, float]:
    weight = decay.number("WeightDecay") if decay else 0.0
    chosen = kind.choice("Regularization", ("NONE", "L1", "L2")) if kind else "NONE"
    if chosen == "NONE":
        if weight:
            log.warning("WeightDecay=%g does nothing without Regularization=L1 or L2", weight)
        return {}
    return {chosen.lower(): weight}


def _rates(config: Token | None) -> tuple[float, ...]:
    rates = [rate.number("a rate of DropConfig") for rate in config.split("+")] if config else []
    while rates and not rates[-1]:
        rates.pop()
    return tuple(rates)


def _critic_steps(phase: _Phase) -> int:
    mine = phase.get(("Generator", "Repetitions"), phase.get(("", "Repetitions")))
    if mine and mine.integer("Repetitions", least=1) != 1:
        raise mine.error(
            "the generator takes one step in turn; DiscriminatorRepetitions gives the discriminator more"
        )
    return _integer(phase.get(("Discriminator", "Repetitions")), "Repetitions", 1)


def _shared(phase: _Phase, key: str) -> Token | None:
    """The value of a key in which the networks must agree."""
    given = [phase.get((role, key), phase.get(("", key))) for role in ROLES]
    found = [value for value in given if value is not None]
    if len({value.text for value in found}) > 1:
        raise found[1].error(
            f"{key} is {found[0].text} for the generator and {found[1].text} for the discriminator, "
            "but they are trained side by side"
        )
    return found[0] if found else None


def _check_refused(phase: _Phase) -> None:
    for (_, key), value in phase.items():
        off = {"DropRepetitions": ("1",), "Renormalize": ("NONE", "FALSE", "F")}.get(key)
        if off and value.text.upper() not in off:
            raise value.error(f"{key} is {KEYS[key]}")


def _integer(value: Token | None, what: str, default: int) -> int:
    return default if value is None else value.integer(what, least=1)

"""Conversion of MethodGAN's option string to a ``RunConfig``."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hepgan.data.encoding.encoding import EncodingSettings
from hepgan.data.io import reader
from hepgan.data.io.reader import ReadOptions
from hepgan.data.schema import Schema
from hepgan.gan.networks import GANSettings
from hepgan.layout.nn.initialization import INITIALIZATIONS
from hepgan.layout.spec.base import LINEAR, Layout
from hepgan.layout.zoo import look_up
from hepgan.pipeline import DataSettings, EvaluateSettings, RunConfig
from hepgan.tmva.options import OPTIONS, UNSUPPORTED, Token, options_of
from hepgan.tmva.sizes import Sizes, batch_of, input_layouts
from hepgan.tmva.strategy import KEYS, phases, threads
from hepgan.tmva.variables import schema_of

OBJECTIVES = {"CROSSENTROPY": "non-saturating", "SUMOFSQUARES": "sum-of-squares"}
DEVICES = {"CPU": "cpu", "STANDARD": "cpu", "GPU": "cuda", "CUDNN": "cuda", "OPENCL": "cuda"}
LEVELS = {
    "Default": logging.INFO, "Debug": logging.DEBUG, "Verbose": logging.INFO, "Info": logging.INFO,
    "Warning": logging.WARNING, "Error": logging.ERROR, "Fatal": logging.CRITICAL,
}  # fmt: skip
POSITIVE = {"SIGMOID", "GAUSS", "RELU", "SOFTPLUS", "SOFTMAX"}
"""Activations without negative values."""

BOUNDED = {"TANH", "FTANH", "SYMMRELU", "SOFTSIGN"}
"""Activations with values from -1 to 1."""

TRANSFORMS = {
    "P": "write D, which scales the principal components to width 1",
    "U": "write G, which maps uniform variables to Gaussian ones",
}
"""Transformations that are not supported, and the replacement."""


class Booking(NamedTuple):
    """A parsed option string.

    Attributes:
        run: The run, as a run file would describe it.
        device: ``cpu``, ``cuda``, or ``auto`` if the string has no Architecture.
        level: VerbosityLevel, for the logger ``hepgan``.
        verbose: Whether to log each entry of the history.
        help: Whether to print the help.
    """

    run: RunConfig
    device: str
    level: int
    verbose: bool
    help: bool


def book(
    options: str,
    files: Sequence[str],
    *,
    tree: str | None = None,
    variables: Sequence[str] = (),
    cut: str | None = None,
    weight: str | None = None,
    test: float = 0.2,
    digits: bool = False,
) -> Booking:
    """Returns the run that MethodGAN's ``options`` describe on ``files``.

    Args:
        options: ``!H:V:Layout=…##…:TrainingStrategy=…``; see ``help_text``.
        files: As in a run file.
        tree: The tree, if a file has several.
        variables: Branches of an event, as in ``AddVariable``; ``x{0..783}`` for many. By default all arrays and numbered
            branches, or the one of InputLayout's size.
        cut: A cut, as in a run file.
        weight: A weight, as in a run file.
        test: Fraction of the events that training never sees.
        digits: Whether the events are MNIST's digits, as in ``[evaluate]`` of a run file.

    Raises:
        RunError: an option or training key is unknown, not supported or invalid; the message shows its position in the string.
        LayoutError: an error in the layout, with its position.
        DataError: a file, tree or branch is missing.
    """
    tokens = options_of(options)
    noise, event = input_layouts(tokens.get("InputLayout"))
    schema = schema_of(files, tree, variables, math.prod(event) if event else 0)
    gan, generator = _gan(tokens, noise, event, schema.features)
    total = _events(files, schema, tree, cut)
    validation = _validation(tokens.get("ValidationSize"), total, 1 - test)
    data = DataSettings(tuple(files), tree, cut, weight, validation=validation, test=test)
    strategy = tokens.get("TrainingStrategy", Token("MaxEpochs=2000", "", 0))
    size = (schema.features,)
    first, *rest = phases(
        strategy,
        events=int(total * data.fractions["train"]),
        batch=batch_of(tokens.get("BatchLayout"), (noise or size, event or size)),
        objective=_objective(tokens),
    )
    run = RunConfig(
        seed=tokens["RandomSeed"].integer("RandomSeed") if "RandomSeed" in tokens else 0,
        data=data,
        schema=schema,
        encoding=EncodingSettings(_steps(tokens.get("VarTransform"), generator)),
        gan=gan,
        train=first,
        phases=tuple(rest),
        evaluate=EvaluateSettings(digits=digits),
        threads=threads(strategy),
        description="a TMVA option string",
    )
    level = LEVELS[_choice(tokens, "VerbosityLevel", "Default", LEVELS)]
    return Booking(run, _device(tokens), level, _is_on(tokens, "V"), _is_on(tokens, "H"))


def asks_for_help(options: str) -> bool:
    """Returns whether the option ``H`` is set, which prints ``help_text``."""
    return _is_on(options_of(options), "H")


def help_text() -> str:
    """Returns the description of every option and training key, which the option ``H`` prints."""
    tables = {"Options": OPTIONS, "Not supported": UNSUPPORTED, "Keys of a training phase": KEYS}
    lines: list[str] = []
    for title, table in tables.items():
        width = max(map(len, table))
        lines += [title, *(f"  {name:{width}}  {about}" for name, about in table.items()), ""]
    return "\n".join(lines).rstrip()


def _gan(
    tokens: Mapping[str, Token], noise: Sizes, event: Sizes, features: int
) -> tuple[GANSettings, Layout]:
    """Returns the networks' settings and the generator's layout."""
    if event and math.prod(event) != features:
        raise tokens["InputLayout"].error(
            f"InputLayout declares {math.prod(event)} variables per event, but there are {features}"
        )
    text = tokens["Layout"].text if "Layout" in tokens else look_up("tmva-default").layout
    start = _choice(tokens, "WeightInitialization", "XAVIER", INITIALIZATIONS)
    settings = GANSettings(noise or (0,), layout=text, input=event, initialization=start)
    return settings, settings.layouts[0]


def _objective(tokens: Mapping[str, Token]) -> str:
    kind = _choice(tokens, "ErrorStrategy", "CROSSENTROPY", (*OBJECTIVES, "MUTUALEXCLUSIVE"))
    if kind not in OBJECTIVES:
        raise tokens["ErrorStrategy"].error(
            "MUTUALEXCLUSIVE needs several classes, but a discriminator has one output; write CROSSENTROPY"
        )
    return OBJECTIVES[kind]


def _choice(tokens: Mapping[str, Token], name: str, default: str, known: Any) -> str:
    return tokens[name].choice(name, list(known)) if name in tokens else default


def _is_on(tokens: Mapping[str, Token], name: str) -> bool:
    return name in tokens and tokens[name].boolean(name)


def _device(tokens: Mapping[str, Token]) -> str:
    return (
        DEVICES[_choice(tokens, "Architecture", "", DEVICES)]
        if "Architecture" in tokens
        else "auto"
    )


def _events(files: Sequence[str], schema: Schema, tree: str | None, cut: str | None) -> int:
    """Returns the number of events that pass the cut."""
    if cut is None:
        return sum(reader.num_entries(list(files), tree=tree).values())
    chunks = reader.iterate(
        list(files), schema, options=ReadOptions(tree=tree, cut=cut, check=False)
    )
    return sum(len(chunk.events) for chunk in chunks)


def _validation(value: Token | None, events: int, fraction: float) -> float:
    """Returns the fraction of all ``events`` used for validation; ``fraction`` is that of training and validation together."""
    if value is None:
        return 0.2 * fraction
    if value.text.endswith("%"):
        part = value._replace(text=value.text[:-1]).number("ValidationSize") / 100
    else:
        part = value.number("ValidationSize")
        if part >= 1:
            part /= fraction * max(events, 1)
    if not 0 < part < 1:
        raise value.error(
            "ValidationSize should be more than 0 and less than the number of training events"
        )
    return part * fraction


def _steps(value: Token | None, generator: Layout) -> tuple[Mapping[str, Any], ...]:
    """Returns the encoding of VarTransform, scaled to the range of the generator's last activation."""
    last = getattr(generator.words[-1], "activation", LINEAR).name
    to = [0.0, 1.0] if last in POSITIVE else [-1.0, 1.0]
    names = value.split(",") if value else []
    kinds = [name.choice("VarTransform", ("None", "N", "G", "D", "P", "U", "I")) for name in names]
    steps: list[dict[str, Any]] = []
    for name, token in zip(kinds, names, strict=True):
        match name:
            case "N":
                steps.append({"step": "scale", "to": to})
            case "G":
                steps.append({"step": "marginals"})
            case "D":
                steps.append({"step": "whiten"})
            case "P" | "U":
                raise token.error(f"VarTransform={name} is not supported:  {TRANSFORMS[name]}")
    if steps and "to" not in steps[-1] and last in BOUNDED | POSITIVE:
        raise names[-1].error(
            f"VarTransform={names[-1].text} produces values outside the range of the generator's last layer, {last}; end it with LINEAR"
        )
    return tuple(steps) or ({"step": "scale", "per_column": False, "to": to},)

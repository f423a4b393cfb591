"""MethodGAN's option string to the ``Run`` that a run file would give."""

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
from hepgan.pipeline import DataSettings, RunConfig
from hepgan.tmva.options import OPTIONS, REFUSED, Token, options_of
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
"""Activations that give no negative numbers."""

BOUNDED = {"TANH", "FTANH", "SYMMRELU", "SOFTSIGN"}
"""Activations that give numbers from -1 to 1."""

TRANSFORMS = {
    "P": "write D, which gives the principal components width 1",
    "U": "write G, which goes on from uniform variables to Gaussian ones",
}
"""Transformations that are refused, and what to write instead."""


class Booking(NamedTuple):
    """What an option string asks for.

    Attributes:
        run: What ``hepgan.pipeline.run`` takes, as a run file would give it.
        device: ``cpu``, ``cuda``, or ``auto`` where the string says nothing.
        level: VerbosityLevel, for the logger ``hepgan``.
        verbose: Whether each entry of the history is told.
        help: Whether the help is asked for.
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
    test: float = 0.2,
) -> Booking:
    """The run that MethodGAN's ``options`` describe on ``files``.

    Args:
        options: ``!H:V:Layout=…##…:TrainingStrategy=…``; see ``help_text``.
        files: As in a run file.
        tree: The tree, where a file has several.
        variables: The branches that an event is made of, as ``AddVariable`` names them, ``x{0..783}`` for many. Without
            any, all arrays and numbered branches, or that of InputLayout's size.
        cut: Cut, as in a run file.
        test: Share of the events that training never sees.

    Raises:
        RunError: an option or training key that is unknown, refused or does not fit, with its place in the string.
        LayoutError: a fault in the layout, with its place.
        DataError: a file, tree or branch is missing.
    """
    given = options_of(options)
    noise, event = input_layouts(given.get("InputLayout"))
    schema = schema_of(files, tree, variables, math.prod(event) if event else 0)
    gan, generator = _gan(given, noise, event, schema.features)
    total = _events(files, schema, tree, cut)
    validation = _validation(given.get("ValidationSize"), total, 1 - test)
    data = DataSettings(tuple(files), tree, cut, validation, test)
    strategy = given.get("TrainingStrategy", Token("MaxEpochs=2000", "", 0))
    size = (schema.features,)
    first, *rest = phases(
        strategy,
        events=int(total * data.fractions["train"]),
        batch=batch_of(given.get("BatchLayout"), (noise or size, event or size)),
        objective=_objective(given),
    )
    run = RunConfig(
        seed=given["RandomSeed"].integer("RandomSeed") if "RandomSeed" in given else 0,
        data=data,
        schema=schema,
        encoding=EncodingSettings(_steps(given.get("VarTransform"), generator)),
        gan=gan,
        train=first,
        phases=tuple(rest),
        threads=threads(strategy),
        description="a TMVA option string",
    )
    level = LEVELS[_choice(given, "VerbosityLevel", "Default", LEVELS)]
    return Booking(run, _device(given), level, _is_on(given, "V"), _is_on(given, "H"))


def help_text() -> str:
    """Every option and training key, and what it does here: what the option ``H`` prints."""
    tables = {"Options": OPTIONS, "Refused": REFUSED, "Keys of a training phase": KEYS}
    lines: list[str] = []
    for title, table in tables.items():
        width = max(map(len, table))
        lines += [title, *(f"  {name:{width}}  {about}" for name, about in table.items()), ""]
    return "\n".join(lines).rstrip()


def _gan(
    given: Mapping[str, Token], noise: Sizes, event: Sizes, features: int
) -> tuple[GANSettings, Layout]:
    """The networks' settings, and the generator's layout."""
    if event and math.prod(event) != features:
        raise given["InputLayout"].error(
            f"InputLayout says {math.prod(event)} variables an event, but there are {features}"
        )
    text = given["Layout"].text if "Layout" in given else look_up("tmva-default").layout
    start = _choice(given, "WeightInitialization", "XAVIER", INITIALIZATIONS)
    settings = GANSettings(noise or (0,), layout=text, input=event, initialization=start)
    return settings, settings.layouts[0]


def _objective(given: Mapping[str, Token]) -> str:
    kind = _choice(given, "ErrorStrategy", "CROSSENTROPY", (*OBJECTIVES, "MUTUALEXCLUSIVE"))
    if kind not in OBJECTIVES:
        raise given["ErrorStrategy"].error(
            "MUTUALEXCLUSIVE is for several classes, but a discriminator knows one number; write CROSSENTROPY"
        )
    return OBJECTIVES[kind]


def _choice(given: Mapping[str, Token], name: str, default: str, known: Any) -> str:
    return given[name].choice(name, list(known)) if name in given else default


def _is_on(given: Mapping[str, Token], name: str) -> bool:
    return name in given and given[name].boolean(name)


def _device(given: Mapping[str, Token]) -> str:
    return (
        DEVICES[_choice(given, "Architecture", "", DEVICES)] if "Architecture" in given else "auto"
    )


def _events(files: Sequence[str], schema: Schema, tree: str | None, cut: str | None) -> int:
    """How many events there are, behind the cut."""
    if cut is None:
        return sum(reader.num_entries(list(files), tree=tree).values())
    chunks = reader.iterate(
        list(files), schema, options=ReadOptions(tree=tree, cut=cut, check=False)
    )
    return sum(len(chunk.events) for chunk in chunks)


def _validation(value: Token | None, events: int, share: float) -> float:
    """The share of all ``events`` that validates, of which ``share`` are for training and validation."""
    if value is None:
        return 0.2 * share
    if value.text.endswith("%"):
        part = value._replace(text=value.text[:-1]).number("ValidationSize") / 100
    else:
        part = value.number("ValidationSize")
        if part >= 1:
            part /= share * max(events, 1)
    if not 0 < part < 1:
        raise value.error("ValidationSize should leave some of the training events, and be some")
    return part * share


def _steps(value: Token | None, generator: Layout) -> tuple[Mapping[str, Any], ...]:
    """The encoding that VarTransform stands for, into what the generator's last activation can give."""
    last = getattr(generator.words[-1], "activation", LINEAR).name
    to = [0.0, 1.0] if last in POSITIVE else [-1.0, 1.0]
    names = value.split(",") if value else []
    chosen = [name.choice("VarTransform", ("None", "N", "G", "D", "P", "U", "I")) for name in names]
    steps: list[dict[str, Any]] = []
    for name, token in zip(chosen, names, strict=True):
        match name:
            case "N":
                steps.append({"step": "scale", "to": to})
            case "G":
                steps.append({"step": "marginals"})
            case "D":
                steps.append({"step": "whiten"})
            case "P" | "U":
                raise token.error(f"VarTransform={name} cannot be had: {TRANSFORMS[name]}")
    if steps and "to" not in steps[-1] and last in BOUNDED | POSITIVE:
        raise names[-1].error(
            f"VarTransform={names[-1].text} gives numbers that the generator's last layer, {last}, cannot; end it with LINEAR"
        )
    return tuple(steps) or ({"step": "scale", "per_column": False, "to": to},)

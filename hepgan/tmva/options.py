"""Option strings: ``!H:V:Layout=…##…:TrainingStrategy=…|…`` to values that know their place in the string."""

import math
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from hepgan.errors import RunError, did_you_mean
from hepgan.layout.spec.diagnostics import error_at

OPTIONS: Mapping[str, str] = {
    "H": "print this help",
    "V": "a line for each entry of the history",
    "VerbosityLevel": "Default, Debug, Verbose, Info, Warning, Error or Fatal",
    "VarTransform": "None (one scale for all variables), N (a scale for each), G (to Gaussians), D (decorrelated), chains such as G,D",
    "InputLayout": "depth|height|width of the noise ## of an event; a 0 stands for the number of variables",
    "BatchLayout": "the batch in front: 1|B|W, B|depth|height*width or B|time|width; checked, B is the batch size where BatchSize is not given",
    "Layout": "generator ## discriminator",
    "ErrorStrategy": "CROSSENTROPY or SUMOFSQUARES",
    "WeightInitialization": "XAVIER, XAVIERUNIFORM, GAUSS, UNIFORM, IDENTITY, ZERO",
    "Architecture": "CPU or STANDARD; GPU, CUDNN or OPENCL: a CUDA device",
    "RandomSeed": "the seed of everything random",
    "ValidationSize": "share (20%, 0.2) or number of the training events that choose the weights that are kept",
    "TrainingStrategy": "phases separated by |, keys by a comma; each goes on from the weights of the last",
}
"""The options that work, and what they do."""

REFUSED: Mapping[str, str] = {
    "CreateMVAPdfs": "a GAN makes events, it gives none a classifier's value that could have a density",
    "IgnoreNegWeightsInTraining": "events carry no weights in this training; leave out those of negative weight by a cut",
}
"""Options of every TMVA method that a GAN has no use for: they may only be switched off."""

_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
BOOLEANS = {"H", "V", *REFUSED}
_TRUE, _FALSE = {"TRUE", "T", "1", "YES", "Y"}, {"FALSE", "F", "0", "NO", "N"}


class Token(NamedTuple):
    """A piece of an option string, which stands in ``whole`` from ``start`` on."""

    text: str
    whole: str
    start: int

    def error(self, message: str) -> RunError:
        """``message`` above the place."""
        end = self.start + max(len(self.text), 1)
        return RunError(str(error_at(message, self.whole, self.start, end)))

    def split(self, separator: str) -> "list[Token]":
        """The pieces between separators, stripped; those inside of ``[ ]`` do not separate."""
        pieces: list[Token] = []
        depth = begin = 0
        for at, character in enumerate(self.text + separator):
            depth += (character == "[") - (character == "]")
            if at == len(self.text) or (depth <= 0 and self.text.startswith(separator, at)):
                pieces.append(self._part(begin, at))
                begin = at + len(separator)
        return pieces

    def cut(self, separator: str) -> "tuple[Token, Token | None]":
        """What stands before the first separator and what behind it; ``None`` without one."""
        at = self.text.find(separator)
        if at < 0:
            return self, None
        return self._part(0, at), self._part(at + len(separator), len(self.text))

    def _part(self, begin: int, end: int) -> "Token":
        part = self.text[begin:end]
        blank = len(part) - len(part.lstrip())
        return Token(part.strip(), self.whole, self.start + begin + blank)

    def number(self, what: str) -> float:
        """The number that it is.

        Raises:
            RunError: it is none.
        """
        if not _DECIMAL.fullmatch(self.text) or not math.isfinite(value := float(self.text)):
            raise self.error(f"{what} should be a number")
        return value

    def integer(self, what: str, *, least: int = 0) -> int:
        """The integer that it is, at least ``least``.

        Raises:
            RunError: it is none.
        """
        plain = self.text.isascii() and self.text.isdecimal() and len(self.text) <= 12
        if not plain or int(self.text) < least:
            raise self.error(f"{what} should be an integer of {least} or more")
        return int(self.text)

    def boolean(self, what: str) -> bool:
        """True or False, T or F.

        Raises:
            RunError: it is neither.
        """
        if (upper := self.text.upper()) not in _TRUE | _FALSE:
            raise self.error(f"{what} should be True or False")
        return upper in _TRUE

    def choice(self, what: str, choices: Collection[str]) -> str:
        """That of ``choices`` that it is, whatever its case.

        Raises:
            RunError: it is none of them.
        """
        by_upper = {choice.upper(): choice for choice in choices}
        if (upper := self.text.upper()) not in by_upper:
            hint = did_you_mean(upper, by_upper) or f"; it may be {', '.join(choices)}"
            raise self.error(f"{what} is not '{self.text}'{hint}")
        return by_upper[upper]


def options_of(text: str) -> dict[str, Token]:
    """The values of an option string by the names of ``OPTIONS``; a boolean's is ``True`` or ``False``.

    >>> {name: value.text for name, value in options_of("!H:v:Layout=TANH|8##LINEAR|1").items()}
    {'H': 'False', 'V': 'True', 'Layout': 'TANH|8##LINEAR|1'}

    Raises:
        RunError: an unknown option (with the nearest), one without a value or given twice, or one that is refused.
    """
    found: dict[str, Token] = {}
    for piece in Token(text, text, 0).split(":"):
        if not piece.text:
            continue
        name, value = _option(piece)
        if name in found:
            raise piece.error(f"{name} is given twice")
        if name in REFUSED and value.boolean(name):
            raise piece.error(f"{name} cannot be had: {REFUSED[name]}")
        found[name] = value
    return found


def _option(piece: Token) -> tuple[str, Token]:
    by_lower = {name.lower(): name for name in (*OPTIONS, *REFUSED)}
    given, value = piece.cut("=")
    bare = given.text.removeprefix("!").strip()
    if (name := by_lower.get(bare.lower())) is None:
        hint = did_you_mean(bare, list(by_lower.values())) or f"; there are {', '.join(OPTIONS)}"
        raise given.error(f"MethodGAN has no option '{bare}'{hint}")
    if name not in BOOLEANS:
        if given.text.startswith("!") or value is None or not value.text:
            raise piece.error(f"{name} needs a value: {name}=…")
        return name, value
    if value is not None:
        return name, value._replace(text=str(value.boolean(name)))
    return name, given._replace(text=str(not given.text.startswith("!")))

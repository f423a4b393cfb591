"""Option strings ``!H:V:Layout=…##…:TrainingStrategy=…|…``, parsed into values that know their position in the string."""

import math
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from hepgan.errors import RunError, did_you_mean, with_caret

OPTIONS: Mapping[str, str] = {
    "H": "print this help and stop",
    "V": "a line for each entry of the history",
    "VerbosityLevel": "Default, Debug, Verbose, Info, Warning, Error or Fatal",
    "VarTransform": "None (one scale for all variables), N (a scale for each), G (to Gaussians), D (decorrelated), chains such as G,D",
    "InputLayout": "depth|height|width of the noise ## of an event; 0 stands for the number of variables",
    "BatchLayout": "with the batch first: 1|B|W, B|depth|height*width or B|time|width; checked; B is the batch size without BatchSize",
    "Layout": "generator ## discriminator",
    "ErrorStrategy": "CROSSENTROPY or SUMOFSQUARES",
    "WeightInitialization": "XAVIER, XAVIERUNIFORM, GAUSS, UNIFORM, IDENTITY, ZERO",
    "Architecture": "CPU or STANDARD; GPU, CUDNN or OPENCL: a CUDA device",
    "RandomSeed": "seed of all random numbers",
    "ValidationSize": "fraction (20%, 0.2) or number of the training events used for validation, which selects the weights that are kept",
    "TrainingStrategy": "phases separated by |, keys by commas; each phase continues from the weights of the last",
}
"""Supported options and their descriptions."""

UNSUPPORTED: Mapping[str, str] = {
    "CreateMVAPdfs": "a GAN generates events; it has no classifier output whose density could be estimated",
    "IgnoreNegWeightsInTraining": "negative weights are used in training; to leave such events out, drop them with a cut",
}
"""Options of every TMVA method that do not apply to a GAN: they may only be switched off."""

_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
BOOLEANS = {"H", "V", *UNSUPPORTED}
_TRUE, _FALSE = {"TRUE", "T", "1", "YES", "Y"}, {"FALSE", "F", "0", "NO", "N"}


class Token(NamedTuple):
    """A substring of the option string ``whole``, starting at ``start``."""

    text: str
    whole: str
    start: int

    def error(self, message: str) -> RunError:
        """Returns an error with ``message`` above the position."""
        end = self.start + max(len(self.text), 1)
        return RunError(with_caret(message, self.whole, self.start, end))

    def split(self, separator: str) -> "list[Token]":
        """Returns the stripped parts between separators; separators inside ``[ ]`` are ignored."""
        parts: list[Token] = []
        depth = begin = 0
        for at, character in enumerate(self.text + separator):
            depth += (character == "[") - (character == "]")
            if at == len(self.text) or (depth <= 0 and self.text.startswith(separator, at)):
                parts.append(self._part(begin, at))
                begin = at + len(separator)
        return parts

    def cut(self, separator: str) -> "tuple[Token, Token | None]":
        """Returns the parts before and after the first separator; ``None`` for the second without a separator."""
        at = self.text.find(separator)
        if at < 0:
            return self, None
        return self._part(0, at), self._part(at + len(separator), len(self.text))

    def _part(self, begin: int, end: int) -> "Token":
        part = self.text[begin:end]
        blank = len(part) - len(part.lstrip())
        return Token(part.strip(), self.whole, self.start + begin + blank)

    def number(self, what: str) -> float:
        """Returns the value as a number.

        Raises:
            RunError: it is not a number.
        """
        if not _DECIMAL.fullmatch(self.text) or not math.isfinite(value := float(self.text)):
            raise self.error(f"{what} should be a number")
        return value

    def integer(self, what: str, *, least: int = 0) -> int:
        """Returns the value as an integer of at least ``least``.

        Raises:
            RunError: it is not.
        """
        plain = self.text.isascii() and self.text.isdecimal() and len(self.text) <= 12
        if not plain or int(self.text) < least:
            raise self.error(f"{what} should be an integer of {least} or more")
        return int(self.text)

    def boolean(self, what: str) -> bool:
        """Returns the value of True, False, T or F.

        Raises:
            RunError: it is none of them.
        """
        if (upper := self.text.upper()) not in _TRUE | _FALSE:
            raise self.error(f"{what} should be True or False")
        return upper in _TRUE

    def choice(self, what: str, choices: Collection[str]) -> str:
        """Returns the one of ``choices`` that matches, ignoring case.

        Raises:
            RunError: none matches.
        """
        by_upper = {choice.upper(): choice for choice in choices}
        if (upper := self.text.upper()) not in by_upper:
            hint = did_you_mean(upper, by_upper) or f"; choose one of {', '.join(choices)}"
            raise self.error(f"{what} is not '{self.text}'{hint}")
        return by_upper[upper]


def options_of(text: str) -> dict[str, Token]:
    """Returns the values of an option string by the names in ``OPTIONS``; booleans are ``True`` or ``False``.

    >>> {name: value.text for name, value in options_of("!H:v:Layout=TANH|8##LINEAR|1").items()}
    {'H': 'False', 'V': 'True', 'Layout': 'TANH|8##LINEAR|1'}

    Raises:
        RunError: an option is unknown (with the nearest name), has no value, is given twice, or is not supported.
    """
    options: dict[str, Token] = {}
    for token in Token(text, text, 0).split(":"):
        if not token.text:
            continue
        name, value = _option(token)
        if name in options:
            raise token.error(f"{name} is given twice")
        if name in UNSUPPORTED and value.boolean(name):
            raise token.error(f"{name} is not supported: {UNSUPPORTED[name]}")
        options[name] = value
    return options


def _option(token: Token) -> tuple[str, Token]:
    by_lower = {name.lower(): name for name in (*OPTIONS, *UNSUPPORTED)}
    key, value = token.cut("=")
    bare = key.text.removeprefix("!").strip()
    if (name := by_lower.get(bare.lower())) is None:
        hint = (
            did_you_mean(bare, list(by_lower.values())) or f"; the options are {', '.join(OPTIONS)}"
        )
        raise key.error(f"MethodGAN has no option '{bare}'{hint}")
    if name not in BOOLEANS:
        if key.text.startswith("!") or value is None or not value.text:
            raise token.error(f"{name} needs a value: {name}=…")
        return name, value
    if value is not None:
        return name, value._replace(text=str(value.boolean(name)))
    return name, key._replace(text=str(not key.text.startswith("!")))

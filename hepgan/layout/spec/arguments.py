"""Parsing of one layer word from its arguments, in TMVA's order and in its looser spellings."""

import dataclasses
import math
import re
from typing import Any, NamedTuple

from hepgan.errors import did_you_mean
from hepgan.layout.spec import formula
from hepgan.layout.spec.base import ACTIVATIONS, Activation, ContainerSpec, LayerSpec
from hepgan.layout.spec.composite import FromSpec
from hepgan.layout.spec.dense_norm import ActSpec, DenseSpec
from hepgan.layout.spec.diagnostics import MisfitError, clipped
from hepgan.layout.spec.physics import CondSpec
from hepgan.layout.spec.registry import LAYERS

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
# No two of its parts can take the same digits, so that the time is linear for any string.
_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


class Argument(NamedTuple):
    """A token and its position in the layout's text."""

    text: str
    start: int
    end: int


class _Sorted(NamedTuple):
    """Arguments of a word, sorted by kind."""

    numbers: list[Argument]
    activation: Argument | None
    slope: Argument | None
    flags: list[Argument]


def word_of(head: Argument, arguments: list[Argument]) -> LayerSpec:
    """Returns the layer word that begins with ``head``.

    Raises:
        MisfitError: the arguments are wrong; its field is the range ``"start-end"`` in the text.
    """
    kind = LAYERS.get(_upper(head.text))
    if kind is None:
        if _upper(head.text) not in ACTIVATIONS and not _is_number(head.text):
            raise _at(f"unknown word '{clipped(head.text)}'{_nearest_head(head.text)}", head)
        kind, arguments = DenseSpec, [head, *arguments]
    if issubclass(kind, ContainerSpec):
        raise _at(f"{kind.word} needs a network in brackets: {kind.word}[…]", head)
    if kind is FromSpec:
        return _from(head, arguments)
    given = _sorted(kind, arguments)
    values, spans, formulas = _numbers(kind, given, head, arguments)
    names = {field.name: field for field in dataclasses.fields(kind)}
    if given.activation is not None:
        values["activation"] = _activation(given)
    elif "activation" in names and names["activation"].default is dataclasses.MISSING:
        raise _at(f"{kind.word} needs an activation{_usage(kind)}", head)
    if given.slope is not None:
        spans.append(("activation", given.slope.start, given.slope.end))
    spans = [("", head.start, (arguments or [head])[-1].end), *spans]
    word = kind(**values, flags=_flags(kind, given.flags), formulas=formulas, spans=tuple(spans))
    _check(word)
    return word


def _check(word: LayerSpec) -> None:
    try:
        word.check(given=[name for name, _, _ in word.spans])
    except MisfitError as fault:
        start, end = word.span(*fault.fields) or (0, 0)
        raise MisfitError(str(fault), f"{start}-{end}") from None


def _from(head: Argument, arguments: list[Argument]) -> LayerSpec:
    if len(arguments) != 1:
        raise _at("FROM takes the name of a branch: FROM|name", head, arguments)
    name = arguments[0]
    spans = (("", head.start, name.end), ("name", name.start, name.end))
    return FromSpec(name.text, spans=spans)


def _sorted(kind: type[LayerSpec], arguments: list[Argument]) -> _Sorted:
    """Returns the arguments sorted by kind. Only DENSE takes a number after a name that is not a slope."""
    given = _Sorted([], None, None, [])
    for argument in arguments:
        name = _upper(argument.text)
        if _is_number(argument.text):
            given = _with_number(kind, given, argument)
        elif name in ACTIVATIONS and "activation" in _fields(kind):
            if given.activation is not None:
                raise _at(f"a second activation '{name}'", argument)
            given = given._replace(activation=argument)
        elif any(name in group for group in kind.known_flags):
            given.flags.append(argument)
        else:
            raise _at(_unknown(kind, argument.text), argument)
    return given


def _with_number(kind: type[LayerSpec], given: _Sorted, argument: Argument) -> _Sorted:
    sloped = given.activation is not None and given.slope is None and not given.flags
    if sloped and given.activation is not None and ACTIVATIONS[_upper(given.activation.text)]:
        integer = _INTEGER.fullmatch(argument.text) or not _DECIMAL.fullmatch(argument.text)
        if not (kind is DenseSpec and integer and not given.numbers):
            return given._replace(slope=argument)
    if kind is not DenseSpec and (given.activation is not None or given.flags):
        raise _at(f"a number after the names{_usage(kind)}", argument)
    given.numbers.append(argument)
    return given


def _numbers(
    kind: type[LayerSpec], given: _Sorted, head: Argument, arguments: list[Argument]
) -> tuple[dict[str, Any], list[tuple[str, int, int]], tuple[tuple[str, str], ...]]:
    numbers = given.numbers
    form = next((form for form in kind.forms if len(form) == len(numbers)), None)
    if form is None:
        count = f"{len(numbers)} numbers are" if len(numbers) != 1 else "1 number is"
        raise _at(f"{kind.word}: {count} given{_usage(kind)}", head, arguments)
    values: dict[str, Any] = {}
    formulas = []
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, argument in zip(form, numbers, strict=True):
        if types[name] is float:
            values[name] = _decimal(argument)
        elif types[name] is bool:
            values[name] = _truth(argument)
        else:
            values[name], text = _size(argument)
            formulas += [(name, text)] if text else []
    spans = [(name, a.start, a.end) for name, a in zip(form, numbers, strict=True)]
    return values, spans, tuple(formulas)


def _size(argument: Argument) -> tuple[int, str]:
    """Returns an integer, or 0 and a formula to evaluate once ``N`` is known."""
    if _INTEGER.fullmatch(argument.text):
        return int(argument.text), ""
    tokens = formula.tokens(argument.text)
    if tokens is None:
        raise _at(f"'{clipped(argument.text)}' should be an integer or a formula of N", argument)
    text = "".join(tokens)
    try:
        value = formula.evaluate(text, 1)
    except MisfitError as fault:
        # A denominator such as N - 1 may be 0 for N = 1 and right for the actual N.
        if "divides" not in str(fault) or "N" not in text:
            raise _at(str(fault), argument) from None
        value = 0
    return (0, text) if "N" in text else (value, "")


def _decimal(argument: Argument) -> float:
    if not _DECIMAL.fullmatch(argument.text) or not math.isfinite(float(argument.text)):
        raise _at(f"'{clipped(argument.text)}' should be a number", argument)
    return float(argument.text)


def _truth(argument: Argument) -> bool:
    if argument.text not in ("0", "1"):
        raise _at(f"'{clipped(argument.text)}' should be 0 or 1", argument)
    return argument.text == "1"


def _activation(given: _Sorted) -> Activation:
    name = _upper(given.activation.text) if given.activation else ""
    return Activation(name, None if given.slope is None else _decimal(given.slope))


def _flags(kind: type[LayerSpec], flags: list[Argument]) -> tuple[str, ...]:
    """Returns the flags in the order of ``known_flags``, so that equal layouts compare equal."""
    chosen: dict[str, int] = {}
    for number, group in enumerate(kind.known_flags):
        for flag in flags:
            if _upper(flag.text) in group:
                if number in chosen.values():
                    several = (
                        f"one of {', '.join(group)} is enough"
                        if len(group) > 1
                        else "once is enough"
                    )
                    raise _at(f"{_upper(flag.text)}: {several}", flag)
                chosen[_upper(flag.text)] = number
    return tuple(chosen)


def _fields(kind: type[LayerSpec]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _is_number(text: str) -> bool:
    return bool(_DECIMAL.fullmatch(text)) or formula.tokens(text) is not None


def _upper(text: str) -> str:
    """Returns ``text`` in upper case; non-ASCII text is unchanged, since some of its letters have ASCII capitals."""
    return text.upper() if text.isascii() else text


def _unknown(kind: type[LayerSpec], text: str) -> str:
    if text[0] in "0123456789.+-(":
        return f"'{clipped(text)}' should be a number"
    flags = [flag for group in kind.known_flags for flag in group]
    activations = list(ACTIVATIONS) if "activation" in _fields(kind) else []
    what = "activation" if activations else "argument"
    near = did_you_mean(_upper(text)[:40], [*activations, *flags])
    return f"unknown {what} '{clipped(text)}'{near or _usage(kind)}"


def _nearest_head(text: str) -> str:
    heads = [*filter(None, LAYERS), *ACTIVATIONS]
    return (
        did_you_mean(_upper(text)[:40], heads)
        or f"; the words are {', '.join(filter(None, LAYERS))}"
    )


def spellings(kind: type[LayerSpec]) -> list[str]:
    """Returns the spellings of a word, without its flags.

    >>> spellings(LAYERS["MAXPOOL"])[0]
    'MAXPOOL|height|width|stride rows|stride cols'
    >>> spellings(LAYERS["ACT"]), spellings(LAYERS["COND"])
    (['ACT|activation'], ['COND', 'COND|width[|activation]'])
    """
    if issubclass(kind, ContainerSpec):
        return [f"{kind.word}[network]"] if kind.word else ["[network; …]"]
    if kind is FromSpec:
        return ["FROM|name"]
    return ["|".join([kind.word, *f]).replace("_", " ") + _tail(kind, f) for f in kind.forms]


def _tail(kind: type[LayerSpec], form: tuple[str, ...]) -> str:
    """Returns the spelling of the activation after the sizes of ``form``."""
    if "activation" not in _fields(kind) or (kind is CondSpec and not form):
        return ""
    return "|activation" if kind is ActSpec else "[|activation]"


def _usage(kind: type[LayerSpec]) -> str:
    return f"; write {' or '.join(spellings(kind))}"


def _at(message: str, first: Argument, others: list[Argument] | None = None) -> MisfitError:
    return MisfitError(message, f"{first.start}-{(others or [first])[-1].end}")

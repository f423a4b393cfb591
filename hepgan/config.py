"""Conversion between frozen dataclasses and TOML tables, in which an unknown key is an error.

Every part of a run file (``hepgan.pipeline.RunConfig``) goes through these two functions, so that every typo in a run file is
reported with its position, and writing a run file back loses nothing.
"""

# Why not a library: msgspec ignores unknown keys of dataclasses, and its errors name neither the value nor the nearest key; cattrs converts
# ("1" to 1, a text to a tuple of its characters) and has no unions of scalars and tuples. With a hook for each kind of type, which keeps
# the errors, cattrs took 173 lines in place of the 131 from `from_table` on.

import dataclasses
import math
import re
import reprlib
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from hepgan.errors import RunError, did_you_mean

T = TypeVar("T")

#: Bounds of nesting and length, far beyond any run file, which keep time and memory for any text small.
DEEPEST, LONGEST = 30, 1_000_000

#: Bound of the dots in a key: tomllib takes cubic time in their number.
_MOST_DOTS = 100

#: TOML's integers have 64 bits.
LARGEST_INTEGER = 2**63 - 1

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100
_REPR.maxlevel = 3


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """Returns the table of a TOML text; ``where`` names its origin in error messages.

    Raises:
        RunError: the text is not TOML, too long or too deeply nested, or has an integer of more than 64 bits.
    """
    if len(text) > LONGEST:
        raise RunError(f"{where} has {len(text):,} characters; at most {LONGEST:,} are allowed")
    if any(piece.count(".") > _MOST_DOTS for piece in re.split(r"[=,{}\[\]\n]", text)):
        raise RunError(f"{where} has values nested more than {DEEPEST} deep")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"{where} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise RunError(f"{where} has values nested more than {DEEPEST} deep") from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise RunError(f"{where} has an integer of more than 64 bits") from error
    check_plain(table, where=where)
    return table


def check_plain(value: Any, *, where: str) -> None:
    """Checks the nesting and the integers of ``value``, which comes from a file or a user.

    Raises:
        RunError: values are nested more than ``DEEPEST`` deep, or an integer has more than 64 bits.
    """
    remaining = [(value, "", 0)]
    while remaining:
        item, path, depth = remaining.pop()
        if depth > DEEPEST:
            raise RunError(
                f"{where} has values nested more than {DEEPEST} deep in {short_repr(path)}"
            )
        if isinstance(item, Mapping):
            remaining += [(inner, path or str(key), depth + 1) for key, inner in item.items()]
        elif isinstance(item, (list, tuple)):
            remaining += [(inner, path, depth + 1) for inner in item]
        elif isinstance(item, int) and not -LARGEST_INTEGER <= item <= LARGEST_INTEGER:
            raise RunError(f"{where} has an integer of more than 64 bits in {short_repr(path)}")


def short_repr(value: Any) -> str:
    """Returns a short representation of ``value`` on one line, for error messages."""
    if isinstance(value, int) and not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
        return "an integer of more than 64 bits"
    return _REPR.repr(value)


@dataclasses.dataclass(frozen=True)
class Within:
    """Limits of a number, as in ``Annotated[int, Within(1, 100)]``; NaN and infinity are always outside.

    Attributes:
        low: The smallest value.
        high: The largest value.
        above: Whether ``low`` itself is excluded.
        below: Whether ``high`` itself is excluded.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        if not -math.inf < value < math.inf:
            return False
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """Returns the limits in words, such as "above 0 and at most 1"."""
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'above' if self.above else 'at least'} {self.low:,g}")
        if self.high < math.inf:
            parts.append(f"{'below' if self.below else 'at most'} {self.high:,g}")
        return " and ".join(parts) or "finite"


def from_table(cls: type[T], table: Mapping[str, Any], *, where: str) -> T:
    """Returns an instance of the dataclass ``cls`` from a TOML table; ``where`` is the table's name, empty for a whole file.

    Supports nested dataclasses, tuples and dictionaries of them, ``Literal`` and optional values.

    Raises:
        RunError: a key is unknown or missing, or a value has the wrong type.
    """
    name_of_table = f"[{where}]" if where else "the run file"
    if not isinstance(table, Mapping):
        raise RunError(f"{name_of_table} should be a table, but is {short_repr(table)}")
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {_key(f.name): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            hint = did_you_mean(str(key), fields) or f"; known keys are {', '.join(fields)}"
            raise RunError(f"unknown key {short_repr(key)} in {name_of_table}{hint}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in table:
            raise RunError(f"{name_of_table} needs the key '{name}'")
    inside = f"{where}." if where else ""
    values = {
        (name := fields[key].name): value_of(hints[name], value, inside + key)
        for key, value in table.items()
    }
    return cls(**values)


def _key(name: str) -> str:
    """Returns the TOML key of a field, whose name ends with an underscore if the key is a keyword of Python."""
    return name.removesuffix("_")


def to_table(record: Any) -> dict[str, Any]:
    """Returns the TOML table of a dataclass: plain dictionaries, lists and scalars, without ``None``."""
    return {
        _key(field.name): _plain(value)
        for field in dataclasses.fields(record)
        if (value := getattr(record, field.name)) is not None
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_table(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def value_of(hint: Any, value: Any, where: str) -> Any:
    """Returns ``value`` from TOML or JSON, converted to the type ``hint``.

    Raises:
        RunError: the value has another type, or is outside the limits of an ``Annotated`` number.
    """
    if isinstance(value, int) and not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
        raise RunError(f"{where} should have at most 64 bits, but is {short_repr(value)}")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        result = value_of(arguments[0], value, where)
        for limits in arguments[1:]:
            if isinstance(limits, Within) and result not in limits:
                raise RunError(f"{where} = {short_repr(value)} should be {limits}")
        return result
    if origin in (typing.Union, types.UnionType):
        return _of_union(arguments, value, where)
    if origin is typing.Literal:
        if not isinstance(value, (str, int, float)) or value not in arguments:
            choices = ", ".join(map(str, arguments))
            raise RunError(f"{where} = {short_repr(value)} is not one of {choices}")
        return value
    if origin is tuple:
        return _of_tuple(arguments, value, where)
    if origin in (dict, Mapping) or hint in (dict, Mapping) or str(origin).endswith("Mapping'>"):
        return _of_mapping(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return from_table(hint, value, where=where)  # type: ignore[arg-type]
    return _scalar(hint, value, where)


def _of_union(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    for hint in hints:
        if hint is type(None):
            if value is None:
                return None
            continue
        if _fits(hint, value):
            return value_of(hint, value, where)
    names = " or ".join(getattr(h, "__name__", str(h)) for h in hints if h is not type(None))
    raise RunError(f"{where} = {short_repr(value)} should be {names}")


def _fits(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _fits(typing.get_args(hint)[0], value)
    if origin is tuple:
        return isinstance(value, (list, tuple))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if dataclasses.is_dataclass(hint) or origin is not None:
        return isinstance(value, Mapping) or origin is typing.Literal
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _of_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise RunError(f"{where} = {short_repr(value)} should be a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(value_of(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(arguments) != len(value):
        raise RunError(f"{where} = {short_repr(value)} should have {len(arguments)} values")
    return tuple(
        value_of(a, v, f"{where}[{i}]")
        for i, (a, v) in enumerate(zip(arguments, value, strict=True))
    )


def _of_mapping(arguments: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise RunError(f"{where} should be a table, but is {short_repr(value)}")
    hint = arguments[1] if arguments else Any
    return {key: value_of(hint, item, f"{where}.{key}") for key, item in value.items()}


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if not _fits(hint, value):
        raise RunError(f"{where} = {short_repr(value)} should be {hint.__name__}")
    if hint is float and value != value:  # noqa: PLR0124
        raise RunError(f"{where} should be a number, but is NaN")
    return float(value) if hint is float else value

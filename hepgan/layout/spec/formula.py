"""Sizes as formulas of ``N``, the number of an event's features, such as ``(N+100)*2``."""

import re

from hepgan.errors import LayoutError

#: Larger sizes are considered typing errors; bounded numbers also keep the evaluation time bounded.
LARGEST = 10**12

_TOKEN = re.compile(r"\s*([0-9]+|[Nn]|[-+*/()])\s*")
_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "(": 0}


def tokens(text: str) -> list[str] | None:
    """Returns the numbers, operators, brackets and ``N`` of a formula; ``None`` if ``text`` contains anything else."""
    result: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        result.append(match[1].upper())
        at = match.end()
    return result or None


def evaluate(formula: str, features: int) -> int:
    """Returns the value of ``formula`` for ``N = features``; divisions round down.

    >>> evaluate("(N+100)*2", 784)
    1768

    Raises:
        LayoutError: the text is not a formula, divides by zero, or exceeds ``LARGEST``.
    """
    values: list[int] = []
    operators: list[str] = []
    operand = True  # whether a number or an opening bracket comes next
    for part in tokens(formula) or ["?"]:
        if operand != (part in "(N" or part.isdigit()):
            raise _not_a_formula(formula)
        if part == "(":
            operators.append(part)
        elif part == ")":
            _reduce(values, operators, 1, formula)
            if not operators:
                raise _not_a_formula(formula)
            operators.pop()
        elif operand:
            values.append(_bounded(features if part == "N" else _integer(part), formula))
            operand = False
        else:
            _reduce(values, operators, _STRENGTH[part], formula)
            operators.append(part)
            operand = True
    if operand:
        raise _not_a_formula(formula)
    _reduce(values, operators, 1, formula)
    if operators:
        raise _not_a_formula(formula)
    return values[0]


def _reduce(values: list[int], operators: list[str], strength: int, formula: str) -> None:
    while operators and _STRENGTH[operators[-1]] >= strength:
        operator, right, left = operators.pop(), values.pop(), values.pop()
        if operator == "/" and right == 0:
            raise LayoutError(f"{formula!r} divides by zero")
        result = {
            "+": lambda a, b: a + b,
            "-": lambda a, b: a - b,
            "*": lambda a, b: a * b,
            "/": lambda a, b: a // b,
        }[operator](left, right)
        values.append(_bounded(result, formula))


def _integer(digits: str) -> int:
    return int(digits) if len(digits.lstrip("0")) <= 13 else LARGEST + 1


def _bounded(value: int, formula: str) -> int:
    if abs(value) > LARGEST:
        raise LayoutError(f"{formula[:40]!r} is larger than any network could be")
    return value


def _not_a_formula(formula: str) -> LayoutError:
    return LayoutError(f"{formula[:40]!r} is not a sum or product of integers and N")

"""Expressions of branches, for selections and weights: ``(energy > 10) & (abs(eta) < 2.5)``."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepgan.errors import DataError

OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
    ast.Invert: operator.invert, ast.USub: operator.neg, ast.UAdd: operator.pos,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": np.abs, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "log10": np.log10, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "arctan2": np.arctan2, "hypot": np.hypot,
    "minimum": np.minimum, "maximum": np.maximum,
    "sum": lambda a: _over_event(ak.sum, a), "min": lambda a: _over_event(ak.min, a),
    "max": lambda a: _over_event(ak.max, a), "any": lambda a: _over_event(ak.any, a),
    "all": lambda a: _over_event(ak.all, a), "len": lambda a: ak.to_numpy(ak.num(a, axis=1)),
}  # fmt: skip


class Selection(NamedTuple):
    """A parsed expression: ``text`` for messages, ``names`` of the branches that it reads."""

    text: str
    what: str
    names: tuple[str, ...]
    body: ast.expr

    @classmethod
    def parse(cls, text: str, what: str) -> "Selection":
        """The expression ``text``; ``what`` it is for (``selection``, ``weight``), for messages.

        Raises:
            DataError: it is no expression of branches, numbers, operators and the functions known.
        """
        try:
            body = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise DataError(f"the {what} '{text}' does not parse: {error.msg}") from error
        names: dict[str, None] = {}
        _collect(body, text, what, names)
        if not names:
            raise DataError(f"the {what} '{text}' names no branch; leave it out")
        return cls(text, what, tuple(names), body)

    def __call__(self, arrays: Mapping[str, Any], path: str) -> np.ndarray[Any, Any]:
        """The value ``[E]`` for each entry of ``arrays``, branch -> ``[E, …]``.

        Raises:
            DataError: the operation is not defined for the branches, or it gives more than one value an entry.
        """
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(ak.to_numpy(_evaluate(self.body, arrays)))
        except (TypeError, ValueError) as error:
            raise DataError(
                f"the {self.what} '{self.text}' does not work on '{path}': {error}"
            ) from error
        entries = len(next(iter(arrays.values())))
        if value.shape != (entries,):
            raise DataError(
                f"the {self.what} '{self.text}' gives {list(value.shape[1:])} values an entry of '{path}'; "
                "reduce them with sum(), min(), max(), any() or all()"
            )
        return np.asarray(value)


def _over_event(reduce: Callable[..., Any], array: Any) -> Any:
    reduced = array
    while reduced.ndim > 1:
        reduced = reduce(reduced, axis=-1)
    return ak.to_numpy(reduced)


def _collect(node: ast.expr, text: str, what: str, names: dict[str, None]) -> None:
    match node:
        case ast.Constant(value=bool() | int() | float()):
            return
        case ast.Name(id=name):
            names[name] = None
        case ast.Attribute():
            names[ast.unparse(node)] = None  # branches such as jet.pt
        case ast.Subscript(value=value, slice=ast.Constant() | ast.UnaryOp()):
            _collect(value, text, what, names)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            for argument in arguments:
                _collect(argument, text, what, names)
        case ast.BinOp(left=left, right=right):
            _collect(left, text, what, names)
            _collect(right, text, what, names)
        case ast.UnaryOp(operand=operand):
            _collect(operand, text, what, names)
        case ast.Compare(left=left, comparators=comparators):
            for part in (left, *comparators):
                _collect(part, text, what, names)
        case ast.BoolOp():
            raise DataError(f"the {what} '{text}' says 'and' or 'or'; write (…) & (…) or (…) | (…)")
        case _:
            raise DataError(
                f"the {what} '{text}' may not say '{ast.unparse(node)}'; it knows branches, numbers, operators "
                f"and {', '.join(FUNCTIONS)}"
            )


def _evaluate(node: ast.expr, arrays: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            found = arrays[ast.unparse(node)]
            return (
                ak.Array(found) if isinstance(found, ak.Array) or found.dtype == object else found
            )
        case ast.Subscript(value=value, slice=index):
            return _evaluate(value, arrays)[:, ast.literal_eval(index)]
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name](*(_evaluate(argument, arrays) for argument in arguments))
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_evaluate(left, arrays), _evaluate(right, arrays))
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_evaluate(operand, arrays))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            parts = [_evaluate(part, arrays) for part in (left, *comparators)]
            value = OPERATORS[type(ops[0])](parts[0], parts[1])
            for other, a, b in zip(ops[1:], parts[1:-1], parts[2:], strict=True):
                value = value & OPERATORS[type(other)](a, b)
            return value
    raise AssertionError(ast.dump(node))

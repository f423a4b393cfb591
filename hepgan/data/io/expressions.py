"""Selections and weights: the values of expressions of branches, one an entry.

Numbers are float64 as in ROOT, whatever the branch's type: nothing wraps around, and what has no value is NaN or infinite. Comparisons,
``%``, ``//``, ``&`` and ``|`` of integers are exact. An entry without a value that the expression names (``hits[2]`` of two hits,
``max(hits)`` of none) is not selected, as in ROOT, and its weight is NaN.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.io import grammar
from hepgan.data.io.grammar import BranchName, Call, Chain, Cut, Item, Node, Number, Sign, error_in
from hepgan.errors import DataError

Array = Any
"""``[E, …]`` of NumPy, lists of varying length of awkward, or a number."""


class Expression(NamedTuple):
    """A parsed expression: ``text`` for messages, ``names`` of the branches that it reads."""

    text: str
    what: str
    names: tuple[str, ...]
    body: Node

    @classmethod
    def parse(cls, text: str, what: str) -> "Expression":
        """The expression ``text``; ``what`` it is for (``selection``, ``weight``), for messages.

        Raises:
            DataError: it is no expression of branches, numbers, operators and the functions known; with the place in the text.
        """
        body, names = grammar.parse(text, what)
        if not names:
            raise DataError(f"the {what} '{text}' names no branch; leave it out")
        return cls(text, what, names, body)

    def __call__(self, arrays: Mapping[str, Any], path: str) -> np.ndarray[Any, Any]:
        """The value ``[E]`` for each entry of ``arrays``, branch -> ``[E, …]``.

        Raises:
            DataError: the operation is not defined for the branches, or it gives more than one value an entry.
        """
        entries = len(next(iter(arrays.values())))
        evaluation = _Evaluation(self, arrays, path, np.zeros(entries, bool))
        with np.errstate(all="ignore"):
            value = evaluation.of(self.body)
        if isinstance(value, ak.Array) or np.shape(value) != (entries,):
            shape = "a list of" if isinstance(value, ak.Array) else f"{list(np.shape(value)[1:])}"
            raise DataError(
                f"the {self.what} '{self.text}' gives {shape} values an entry of '{path}'; "
                "reduce them with sum(), min(), max(), any() or all()"
            )
        if self.what == "cut":
            return np.asarray(value.astype(bool) & ~evaluation.missing)
        return (
            np.where(evaluation.missing, np.nan, value)
            if evaluation.missing.any()
            else np.asarray(value)
        )


class _Evaluation(NamedTuple):
    """The evaluation of one selection on the branches of one file; ``missing`` marks entries without a value that it names."""

    selection: Expression
    arrays: Mapping[str, Any]
    path: str
    missing: np.ndarray[Any, Any]
    root: bool = False

    def of(self, node: Node) -> Array:
        """The value of ``node``."""
        match node:
            case Number(value=value):
                return np.asarray(value)
            case BranchName(name=name):
                found = self.arrays[name]
                jagged = isinstance(found, ak.Array) or found.dtype == object
                return ak.Array(found) if jagged else found
            case Item(value=inner, index=index):
                return self.item(node, self.of(inner), index)
            case Call(function=function, arguments=arguments):
                return self.call(node, function, [self.of(argument) for argument in arguments])
            case Sign(operator=sign, operand=inner):
                return self.applied(node, _SIGNS[sign], self.of(inner))
            case Chain():
                return self.chain(node)
            case Cut(body=body):
                value = self._replace(root=True).of(body)
                return ~(_float(value) < 0.5)  # as TMVA does with a cut's value
        raise TypeError(node)

    def chain(self, node: Chain) -> Array:
        """The operators from the left to the right; of comparisons all have to hold."""
        left = self.of(node.operands[0])
        held: Array | None = None
        for word, operand in zip(node.operators, node.operands[1:], strict=True):
            right = self.of(operand)
            function = (_ROOT_OPERATORS if self.root else _OPERATORS)[word]
            value = self.applied(node, function, *_aligned(left, right))
            if word in _COMPARISONS:
                held = value if held is None else self.applied(node, operator.and_, held, value)
                left = right
            else:
                left = value
        return left if held is None else held

    def call(self, node: Node, name: str, arguments: list[Array]) -> Array:
        """The value of a function."""
        if not self.root and name in _REDUCTIONS:
            if arguments[0].ndim == 0 or (name == "len" and arguments[0].ndim == 1):
                raise self.fault(f"{name}() is for branches of several values an entry", node)
            return self.reduced(node, _REDUCTIONS[name], arguments[0])
        if self.root and name in _ROOT_REDUCTIONS:
            return self.reduced(node, _ROOT_REDUCTIONS[name], arguments[0])
        function = (_ROOT_FUNCTIONS if self.root else _FUNCTIONS)[name]
        if not arguments:
            return function()
        values = [_float(argument) for argument in arguments]
        return self.applied(node, function, *(_aligned(*values) if len(values) == 2 else values))

    def reduced(self, node: Node, function: Callable[[Array], Array], array: Array) -> Array:
        """One value an entry; entries without any value are marked where that gives none."""
        found = self.applied(node, function, array)
        if not isinstance(found, ak.Array):
            return found
        self.missing[:] |= ak.to_numpy(ak.is_none(found))
        return ak.to_numpy(ak.fill_none(found, 0))

    def item(self, node: Node, array: Array, index: int) -> Array:
        """``array[:, index]``; entries that have no such value are marked."""
        if array.ndim < 2:
            raise self.fault("an index, but there is one number an entry", node)
        if isinstance(array, ak.Array):
            counts = ak.to_numpy(ak.num(array, axis=1))
            there = counts > index if index >= 0 else counts >= -index
            self.missing[:] |= ~there
            values = ak.to_numpy(array[there][:, index])
            found = np.zeros((len(there), *values.shape[1:]), values.dtype)
            found[there] = values
            return found
        if not -array.shape[1] <= index < array.shape[1]:
            raise self.fault(f"no value {index}: there are {array.shape[1]} an entry", node)
        return array[:, index]

    def applied(self, node: Node, function: Callable[..., Array], *values: Array) -> Array:
        """``function(*values)``; what NumPy or awkward cannot do is told with its place."""
        try:
            return function(*values)
        except (TypeError, ValueError, IndexError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise self.fault(reason, node) from error

    def fault(self, message: str, node: Node) -> DataError:
        """``message`` with the file and the place in the expression."""
        return error_in(
            f"{message} (in '{self.path}')", self.selection.what, self.selection.text, node
        )


def _aligned(a: Array, b: Array) -> tuple[Array, Array]:
    """Both with as many axes, so that entries stay with entries."""
    if isinstance(a, ak.Array) or isinstance(b, ak.Array) or not (a.ndim and b.ndim):
        return a, b
    axes = max(a.ndim, b.ndim)
    return _with_axes(a, axes), _with_axes(b, axes)


def _with_axes(array: Array, axes: int) -> Array:
    return array.reshape(array.shape + (1,) * (axes - array.ndim))


def _cast(value: Array, kind: type[np.generic]) -> Array:
    if isinstance(value, ak.Array):
        return ak.values_astype(value, kind)
    return np.asarray(value).astype(kind, copy=False)


def _float(value: Array) -> Array:
    return _cast(value, np.float64)


def _kind(value: Array) -> str:
    """NumPy's letter of the type: ``b``, ``i``, ``u`` or ``f``."""
    if not isinstance(value, ak.Array):
        return str(value.dtype.kind)
    kind = value.type
    while hasattr(kind, "content"):
        kind = kind.content
    return str(np.dtype(kind.primitive).kind)


def _of_floats(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda *values: function(*map(_float, values))


def _exact(function: Callable[..., Array]) -> Callable[..., Array]:
    """``function`` of integers as they are, else of float64."""

    def apply(a: Array, b: Array) -> Array:
        whole = _kind(a) in "iub" and _kind(b) in "iub"
        return function(a, b) if whole else function(_float(a), _float(b))

    return apply


def _dividing(function: Callable[..., Array]) -> Callable[..., Array]:
    """``function`` of integers as they are where no divisor is 0, else of float64, where it is NaN or infinite."""

    def apply(a: Array, b: Array) -> Array:
        whole = _kind(a) in "iu" and _kind(b) in "iu"
        divisible = whole and not np.any(ak.flatten(b, axis=None) == 0 if b.ndim else b == 0)
        return function(a, b) if divisible else function(_float(a), _float(b))

    return apply


def _bitwise(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply(a: Array, b: Array) -> Array:
        if "f" in (_kind(a), _kind(b)):
            raise TypeError("& and | are for integers and comparisons, not for decimal numbers")
        return function(a, b)

    return apply


def _truth(value: Array) -> Array:
    return value if _kind(value) == "b" else value != 0


def _inverted(value: Array) -> Array:
    if _kind(value) == "f":
        raise TypeError(
            "~ is for integers and comparisons, not for decimal numbers; write not or !"
        )
    return ~value


_COMPARISONS: Mapping[str, Callable[..., Array]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_OPERATORS: Mapping[str, Callable[..., Array]] = {
    **{word: _exact(function) for word, function in _COMPARISONS.items()},
    "or": lambda a, b: _truth(a) | _truth(b), "and": lambda a, b: _truth(a) & _truth(b),
    "|": _bitwise(operator.or_), "&": _bitwise(operator.and_),
    "+": _of_floats(operator.add), "-": _of_floats(operator.sub), "*": _of_floats(operator.mul),
    "/": _of_floats(np.true_divide), "//": _dividing(np.floor_divide), "%": _dividing(np.mod), "**": _of_floats(np.power),
}  # fmt: skip
_SIGNS: Mapping[str, Callable[..., Array]] = {
    "-": lambda a: -_float(a), "+": _float, "~": _inverted, "not": lambda a: ~_truth(a),
}  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    name: getattr(np, name)
    for name in grammar.FUNCTIONS
    if name not in ("sum", "min", "max", "any", "all", "len")
}


def _over_event(plain: Callable[..., Array], lists: Callable[..., Array]) -> Callable[..., Array]:
    """A reduction of all values of an entry, of arrays and of lists."""

    def reduce(array: Array) -> Array:
        if not isinstance(array, ak.Array):
            return plain(array, axis=tuple(range(1, array.ndim)))
        while array.ndim > 1:
            array = lists(array, axis=-1)
        return array

    return reduce


def _lengths(array: Array) -> Array:
    if isinstance(array, ak.Array):
        return ak.to_numpy(ak.num(array, axis=1))
    return np.full(len(array), array.shape[1] if array.ndim > 1 else 1)


_REDUCTIONS: Mapping[str, Callable[..., Array]] = {
    "sum": _over_event(np.sum, ak.sum), "min": _over_event(np.min, ak.min), "max": _over_event(np.max, ak.max),
    "any": _over_event(np.any, ak.any), "all": _over_event(np.all, ak.all), "len": _lengths,
}  # fmt: skip


# TTreeFormula's own rules, which were compared with ROOT 6.40.


def _root_bits(function: Callable[..., Array]) -> Callable[..., Array]:
    """Of unsigned integers of 64 bits; decimal numbers, which have none, are refused."""

    def bits(value: Array) -> Array:
        if _kind(value) == "f":
            raise TypeError("& and | are for integers and comparisons; write && or ||")
        return _cast(value if _kind(value) == "u" else _cast(value, np.int64), np.uint64)

    return lambda a, b: function(bits(a), bits(b))


def _where(condition: Array, value: Array, other: Array) -> Array:
    lists = any(isinstance(part, ak.Array) for part in (condition, value, other))
    return (ak.where if lists else np.where)(condition, value, other)


def _divided(a: Array, b: Array) -> Array:
    divisor = _float(b)
    return _where(divisor == 0, 0 * divisor, _float(a) / divisor)


def _inside(function: Callable[..., Array], inside: Callable[..., Array]) -> Callable[..., Array]:
    """``function`` where ``inside`` holds, else 0."""
    return lambda x: _where(inside(x), function(x), np.float64(0))


def _truncated(x: Array) -> Array:
    return _where(abs(x) < 2.0**63, np.trunc(x), np.float64(-(2.0**63)))


def _remainder(a: Array, b: Array) -> Array:
    divisor = _truncated(_float(b))
    if np.any(ak.flatten(divisor, axis=None) == 0 if divisor.ndim else divisor == 0):
        raise ValueError("a remainder of a division by 0, which would end ROOT")
    return np.fmod(_truncated(_float(a)), divisor) + 0.0  # integers have no -0


_ROOT_OPERATORS: Mapping[str, Callable[..., Array]] = {
    **_OPERATORS,
    **{word: _of_floats(function) for word, function in _COMPARISONS.items()},
    "|": _root_bits(np.bitwise_or), "&": _root_bits(np.bitwise_and), "/": _divided, "%": _remainder,
}  # fmt: skip
_ROOT_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    **{name: getattr(np, name) for name in ("floor", "ceil", "sin", "cos", "tan", "sinh", "cosh", "tanh", "fmod")},
    **{f"TMath::{n}": getattr(np, n.lower()) for n in ("Abs", "Sqrt", "Exp", "Log", "Log10", "Sin", "Cos", "Tan", "Power")},
    "abs": np.abs, "fabs": np.abs, "pow": np.power, "sq": np.square, "atan": np.arctan, "atan2": np.arctan2,
    "TMath::ATan2": np.arctan2, "TMath::Pi": lambda: np.asarray(np.pi), "int": _truncated,
    "sqrt": lambda x: np.sqrt(abs(x)),
    "exp": lambda x: _where(x < -700, np.float64(0), np.exp(np.minimum(x, 700))),
    "log": _inside(np.log, lambda x: x > 0), "log10": _inside(np.log10, lambda x: x > 0),
    "asin": _inside(np.arcsin, lambda x: ~(abs(x) > 1)), "acos": _inside(np.arccos, lambda x: ~(abs(x) > 1)),
    "sign": lambda x: _where(x < 0, np.float64(-1), np.float64(1)),
    "min": lambda a, b: _where(b < a, b, a), "max": lambda a, b: _where(a < b, b, a),
    "TMath::Min": lambda a, b: _where(a <= b, a, b), "TMath::Max": lambda a, b: _where(a >= b, a, b),
}  # fmt: skip
_ROOT_REDUCTIONS = {"Sum$": _REDUCTIONS["sum"], "Length$": _lengths}

"""Evaluation of cuts and weights: expressions of branches with one value per entry.

Numbers are float64 as in ROOT, independent of the type of a branch: nothing wraps around, and undefined results are NaN or infinite.
Comparisons, ``%``, ``//``, ``&`` and ``|`` of integers are exact. An entry that lacks a value of the expression (``hits[2]`` of two hits,
``max(hits)`` of none) does not pass a cut, as in ROOT, and its weight is NaN.
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
"""NumPy array ``[E, …]``, awkward array of lists, or a number."""


class Expression(NamedTuple):
    """Parsed expression of branches.

    Attributes:
        text: Its text, for error messages.
        what: Its role (``cut``, ``weight``), for error messages.
        names: Names of the branches that it reads.
        body: Its syntax tree.
    """

    text: str
    what: str
    names: tuple[str, ...]
    body: Node

    @classmethod
    def parse(cls, text: str, what: str) -> "Expression":
        """Parses ``text``; ``what`` is its role (``cut``, ``weight``).

        Raises:
            DataError: it is not an expression of branches, numbers, operators and known functions; shows the position.
        """
        body, names = grammar.parse(text, what)
        if not names:
            raise DataError(f"the {what} '{text}' contains no branch; leave it out")
        return cls(text, what, names, body)

    def __call__(self, arrays: Mapping[str, Any], path: str) -> np.ndarray[Any, Any]:
        """Evaluates the expression on ``arrays`` ``[E, …]`` by branch; returns one value per entry ``[E]``.

        Raises:
            DataError: an operation is not defined for the branches, or the result has more than one value per entry.
        """
        entries = len(next(iter(arrays.values())))
        evaluation = _Evaluation(self, arrays, path, np.zeros(entries, bool))
        with np.errstate(all="ignore"):
            value = evaluation.of(self.body)
        if isinstance(value, ak.Array) or np.shape(value) != (entries,):
            shape = "a list of" if isinstance(value, ak.Array) else f"{list(np.shape(value)[1:])}"
            raise DataError(
                f"the {self.what} '{self.text}' gives {shape} values per entry of '{path}'; "
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
    """Evaluation of an expression on the branches of one file; ``missing`` marks entries that lack a value of the expression."""

    expression: Expression
    arrays: Mapping[str, Any]
    path: str
    missing: np.ndarray[Any, Any]
    root: bool = False

    def of(self, node: Node) -> Array:
        """Evaluates ``node``."""
        match node:
            case Number(value=value):
                return np.asarray(value)
            case BranchName(name=name):
                array = self.arrays[name]
                jagged = isinstance(array, ak.Array) or array.dtype == object
                return ak.Array(array) if jagged else array
            case Item(value=inner, index=index):
                return self.item(node, self.of(inner), index)
            case Call(function=function, arguments=arguments):
                return self.call(node, function, [self.of(argument) for argument in arguments])
            case Sign(operator=sign, operand=inner):
                return self.apply(node, _SIGNS[sign], self.of(inner))
            case Chain():
                return self.chain(node)
            case Cut(body=body):
                value = self._replace(root=True).of(body)
                return ~(_float(value) < 0.5)  # as TMVA evaluates a cut
        raise TypeError(node)

    def chain(self, node: Chain) -> Array:
        """Applies the operators from left to right; all comparisons must hold."""
        left = self.of(node.operands[0])
        holds: Array | None = None
        for word, operand in zip(node.operators, node.operands[1:], strict=True):
            right = self.of(operand)
            function = (_ROOT_OPERATORS if self.root else _OPERATORS)[word]
            value = self.apply(node, function, *_aligned(left, right))
            if word in _COMPARISONS:
                holds = value if holds is None else self.apply(node, operator.and_, holds, value)
                left = right
            else:
                left = value
        return left if holds is None else holds

    def call(self, node: Node, name: str, arguments: list[Array]) -> Array:
        """Evaluates the call of a function."""
        if not self.root and name in _REDUCTIONS:
            if arguments[0].ndim == 0 or (name == "len" and arguments[0].ndim == 1):
                raise self.error(f"{name}() needs a branch with several values per entry", node)
            return self.reduce(node, _REDUCTIONS[name], arguments[0])
        if self.root and name in _ROOT_REDUCTIONS:
            return self.reduce(node, _ROOT_REDUCTIONS[name], arguments[0])
        function = (_ROOT_FUNCTIONS if self.root else _FUNCTIONS)[name]
        if not arguments:
            return function()
        values = [_float(argument) for argument in arguments]
        return self.apply(node, function, *(_aligned(*values) if len(values) == 2 else values))

    def reduce(self, node: Node, function: Callable[[Array], Array], array: Array) -> Array:
        """Reduces the values of each entry to one; marks entries for which the result is undefined."""
        result = self.apply(node, function, array)
        if not isinstance(result, ak.Array):
            return result
        self.missing[:] |= ak.to_numpy(ak.is_none(result))
        return ak.to_numpy(ak.fill_none(result, 0))

    def item(self, node: Node, array: Array, index: int) -> Array:
        """Returns ``array[:, index]``; marks entries that have no such value."""
        if array.ndim < 2:
            raise self.error("a scalar cannot be indexed", node)
        if isinstance(array, ak.Array):
            counts = ak.to_numpy(ak.num(array, axis=1))
            exists = counts > index if index >= 0 else counts >= -index
            self.missing[:] |= ~exists
            values = ak.to_numpy(array[exists][:, index])
            result = np.zeros((len(exists), *values.shape[1:]), values.dtype)
            result[exists] = values
            return result
        if not -array.shape[1] <= index < array.shape[1]:
            raise self.error(f"there is no value {index}; each entry has {array.shape[1]}", node)
        return array[:, index]

    def apply(self, node: Node, function: Callable[..., Array], *values: Array) -> Array:
        """Returns ``function(*values)``; errors of NumPy and awkward get the position in the expression."""
        try:
            return function(*values)
        except (TypeError, ValueError, IndexError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise self.error(reason, node) from error

    def error(self, message: str, node: Node) -> DataError:
        """Returns an error with ``message``, the file and the position in the expression."""
        return error_in(
            f"{message} (in '{self.path}')", self.expression.what, self.expression.text, node
        )


def _aligned(a: Array, b: Array) -> tuple[Array, Array]:
    """Broadcasts both to the same number of axes, aligned at the first axis."""
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
    """Returns NumPy's kind of the type: ``b``, ``i``, ``u`` or ``f``."""
    if not isinstance(value, ak.Array):
        return str(value.dtype.kind)
    kind = value.type
    while hasattr(kind, "content"):
        kind = kind.content
    return str(np.dtype(kind.primitive).kind)


def _of_floats(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda *values: function(*map(_float, values))


def _exact(function: Callable[..., Array]) -> Callable[..., Array]:
    """Applies ``function`` to integers unchanged, and to other values as float64."""

    def apply(a: Array, b: Array) -> Array:
        integers = _kind(a) in "iub" and _kind(b) in "iub"
        return function(a, b) if integers else function(_float(a), _float(b))

    return apply


def _dividing(function: Callable[..., Array]) -> Callable[..., Array]:
    """Applies ``function`` to integers unchanged if no divisor is 0, otherwise as float64 with NaN or infinite results."""

    def apply(a: Array, b: Array) -> Array:
        integers = _kind(a) in "iu" and _kind(b) in "iu"
        divisible = integers and not np.any(ak.flatten(b, axis=None) == 0 if b.ndim else b == 0)
        return function(a, b) if divisible else function(_float(a), _float(b))

    return apply


def _bitwise(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply(a: Array, b: Array) -> Array:
        if "f" in (_kind(a), _kind(b)):
            raise TypeError("& and | need integers or comparisons, not floats")
        return function(a, b)

    return apply


def _truth(value: Array) -> Array:
    return value if _kind(value) == "b" else value != 0


def _inverted(value: Array) -> Array:
    if _kind(value) == "f":
        raise TypeError("~ needs integers or comparisons, not floats; write not or !")
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
    """Returns a reduction of all values of an entry, for arrays and lists."""

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


# Rules of TTreeFormula, verified against ROOT 6.40.


def _root_bits(function: Callable[..., Array]) -> Callable[..., Array]:
    """Applies ``function`` to 64-bit unsigned integers; rejects floats."""

    def bits(value: Array) -> Array:
        if _kind(value) == "f":
            raise TypeError("& and | need integers or comparisons; write && or ||")
        return _cast(value if _kind(value) == "u" else _cast(value, np.int64), np.uint64)

    return lambda a, b: function(bits(a), bits(b))


def _where(condition: Array, value: Array, other: Array) -> Array:
    lists = any(isinstance(part, ak.Array) for part in (condition, value, other))
    return (ak.where if lists else np.where)(condition, value, other)


def _divided(a: Array, b: Array) -> Array:
    divisor = _float(b)
    return _where(divisor == 0, 0 * divisor, _float(a) / divisor)


def _inside(function: Callable[..., Array], inside: Callable[..., Array]) -> Callable[..., Array]:
    """Returns ``function`` restricted to the domain ``inside``, and 0 elsewhere."""
    return lambda x: _where(inside(x), function(x), np.float64(0))


def _truncated(x: Array) -> Array:
    return _where(abs(x) < 2.0**63, np.trunc(x), np.float64(-(2.0**63)))


def _remainder(a: Array, b: Array) -> Array:
    divisor = _truncated(_float(b))
    if np.any(ak.flatten(divisor, axis=None) == 0 if divisor.ndim else divisor == 0):
        raise ValueError("remainder of a division by 0, which would crash ROOT")
    return np.fmod(_truncated(_float(a)), divisor) + 0.0  # avoid -0, which integers do not have


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

"""Grammar of cuts and weights: ``(energy > 10) & (abs(eta) < 2.5)``, or in ROOT's spelling ``energy > 10 && abs(eta) < 2.5``.

Operators by increasing precedence: ``||`` or ``or``; ``&&`` or ``and``; ``not``; comparisons; ``|``; ``&``; ``+ -``; ``* / // %``; signs
``- + ! ~``; ``**``; ``[…]`` and calls. Python's and ROOT's spellings may be mixed. An expression to which the two languages
give different meanings is an error with a hint.

``TCut("…")`` contains a ROOT cut, which is evaluated by the rules of TTreeFormula: ``^`` is a power, and a division by zero gives 0.
"""

import dataclasses
import re
from typing import Any, NoReturn

from hepgan.errors import DataError, clipped, did_you_mean, with_caret

#: Maximum nesting depth and number of characters, to bound time and memory for hostile text.
DEEPEST, LONGEST = 50, 20_000

_OR, _AND, _NOT, _COMPARE, _BIT_OR, _BIT_AND, _SUM, _PRODUCT, _SIGN, _POWER = range(1, 11)

_PRECEDENCE = {
    "||": _OR, "or": _OR, "&&": _AND, "and": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), _COMPARE),
    "|": _BIT_OR, "&": _BIT_AND, "+": _SUM, "-": _SUM, **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT), "**": _POWER,
}  # fmt: skip
_PLAIN = {"||": "or", "&&": "and", "!": "not"}
_RISING, _FALLING = {"<", "<="}, {">", ">="}
_SIGNS = ("-", "+", "!", "~")

_UNSUPPORTED = {
    "^": "'^' is a power in ROOT but 'exclusive or' in Python; write ** for a power, or != between two comparisons in parentheses",
    "<<": "shifts are not supported; multiply by 2**n",
    ">>": "shifts are not supported; divide by 2**n",
    "@": "'@' is not supported; write sum(…) of a product",
    "=": "'=' is not a comparison; write ==",
    "?": "'?:' is not supported; write (condition) * a + (1 - condition) * b",
    "in": "'in' is not supported; write (x == 1) | (x == 2)",
    "is": "'is' is not supported; write ==",
    "if": "'if' is not supported; write (condition) * a + (1 - condition) * b",
    "lambda": "'lambda' is not supported",
}
_NOT_IN_ROOT = {"or": "||", "and": "&&", "not": "!", "~": "!(…)", "//": "int(… / …)"}

_TOKEN = re.compile(
    r"""(?P<number>0[xX][0-9a-fA-F]*|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)
    |(?P<name>[^\W\d]\w*(?:(?:\.|::)[^\W\d]\w*)*\$?)
    |(?P<quoted>`[^`]+`)
    |(?P<string>"[^"]*"|'[^']*')
    |(?P<operator>\*\*|//|&&|\|\||==|!=|<=|>=|<<|>>|[-+*/%^&|~!<>()\[\],@=?:])""",
    re.VERBOSE,
)

#: Number of arguments of each function; the last group reduces all values of an entry to one.
FUNCTIONS: dict[str, int] = {
    **dict.fromkeys(("abs", "sqrt", "exp", "log", "log10", "floor", "ceil", "trunc", "isfinite"), 1),
    **dict.fromkeys(("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"), 1),
    **dict.fromkeys(("arctan2", "hypot", "minimum", "maximum", "fmod"), 2),
    **dict.fromkeys(("sum", "min", "max", "any", "all", "len"), 1),
}  # fmt: skip

#: Functions of TTreeFormula, for use inside ``TCut("…")``.
ROOT_FUNCTIONS: dict[str, int] = {
    **dict.fromkeys(("abs", "fabs", "sqrt", "exp", "log", "log10", "floor", "ceil", "int", "sq", "sign"), 1),
    **dict.fromkeys(("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"), 1),
    **dict.fromkeys(("atan2", "pow", "min", "max", "fmod"), 2),
    **dict.fromkeys((f"TMath::{name}" for name in ("Abs", "Sqrt", "Exp", "Log", "Log10", "Sin", "Cos", "Tan")), 1),
    **dict.fromkeys((f"TMath::{name}" for name in ("Power", "Min", "Max", "ATan2")), 2),
    "TMath::Pi": 0, "Sum$": 1, "Length$": 1,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Node:
    """Node of a syntax tree, at ``start`` to ``end`` in the text; ``bracketed`` if it is in parentheses."""

    start: int
    end: int
    bracketed: bool = dataclasses.field(default=False, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Number(Node):
    """Number: an integer below 2^64, a float or a truth value."""

    value: Any


@dataclasses.dataclass(frozen=True)
class BranchName(Node):
    """Name of a branch."""

    name: str


@dataclasses.dataclass(frozen=True)
class Item(Node):
    """One of several values of an entry, by index."""

    value: Node
    index: int


@dataclasses.dataclass(frozen=True)
class Call(Node):
    """Call of a function."""

    function: str
    arguments: tuple[Node, ...]


@dataclasses.dataclass(frozen=True)
class Sign(Node):
    """``-``, ``+``, ``~`` or ``not`` before a value."""

    operator: str
    operand: Node


@dataclasses.dataclass(frozen=True)
class Chain(Node):
    """Operators of equal precedence, evaluated from the left; all comparisons of a chain must hold, as in ``0 < x < 1``."""

    operands: tuple[Node, ...]
    operators: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Cut(Node):
    """ROOT cut, whose body is evaluated by the rules of TTreeFormula."""

    body: Node


@dataclasses.dataclass(frozen=True)
class Token:
    """Token, its kind (a group of the pattern), and its position in the text."""

    text: str
    kind: str
    start: int
    end: int


def parse(text: str, what: str) -> tuple[Node, tuple[str, ...]]:
    """Parses ``text`` into a syntax tree and the names of its branches; ``what`` (``cut``, ``weight``) is for error messages.

    Raises:
        DataError: the text does not parse; shows the position.
    """
    if len(text) > LONGEST:
        raise DataError(
            f"the {what} has {len(text):,} characters, more than the maximum of {LONGEST:,}"
        )
    return _Parser(text, what).parse()


def error_in(message: str, what: str, text: str, node: Node | Token) -> DataError:
    """Returns an error with ``message`` and a caret under ``node`` in ``text``."""
    return DataError(with_caret(f"the {what}: {message}", text, node.start, node.end))


def as_tcut(cut: str) -> str:
    """Returns ``TCut("…")`` around a ROOT cut.

    >>> as_tcut("pt^2 > 5 && !flag")
    'TCut("pt^2 > 5 && !flag")'

    Raises:
        DataError: the cut does not parse; shows the position.
    """
    if '"' in cut:
        at = cut.index('"')
        raise error_in(
            "a cut compares numbers, not strings", "cut", cut, Token('"', "string", at, at + 1)
        )
    _Parser(cut, "cut", root=True).parse()
    return f'TCut("{cut}")'


class _Parser:
    """Recursive-descent parser of ``text`` within ``span``; ``root`` selects the language of TTreeFormula."""

    def __init__(
        self, text: str, what: str, *, root: bool = False, span: tuple[int, int] | None = None
    ) -> None:
        self.text, self.what, self.root = text, what, root
        start, end = span or (0, len(text))
        self.names: dict[str, None] = {}
        self.tokens = self._tokens(start, end)
        self.at = self.depth = 0

    def parse(self) -> tuple[Node, tuple[str, ...]]:
        """Parses all tokens as one expression."""
        node = self.expression(_OR)
        if self.next.kind != "end":
            self.fail(f"'{clipped(self.next.text)}' is unexpected here", self.next)
        return node, tuple(self.names)

    def _tokens(self, start: int, end: int) -> list[Token]:
        tokens: list[Token] = []
        at = start
        while at < end:
            if self.text[at].isspace():
                at += 1
                continue
            match = _TOKEN.match(self.text, at, end)
            if match is None:
                token = Token(self.text[at], "", at, at + 1)
                self.fail(f"'{clipped(token.text)}' is not a valid character here", token)
            tokens.append(Token(match[0], str(match.lastgroup), at, match.end()))
            at = match.end()
        return [*tokens, Token("", "end", end, end + 1)]

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.next
        self.at += 1
        return token

    def fail(self, message: str, node: Node | Token) -> NoReturn:
        raise error_in(message, self.what, self.text, node)

    def expression(self, least: int) -> Node:
        """Parses an expression of operators with a precedence of at least ``least``."""
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"parentheses and signs are nested more than {DEEPEST} deep", self.next)
        node = self.operand(least)
        while (precedence := self.precedence()) >= least:
            node = self.power(node) if precedence == _POWER else self.chain(node, precedence)
        self.depth -= 1
        return node

    def precedence(self) -> int:
        """Returns the precedence of the next operator; 0 if none follows."""
        token = self.next
        if token.kind in ("number", "quoted", "string") or token.text in ("(", "[", "~", "!"):
            self.fail(f"an operator is missing before '{clipped(token.text)}'", token)
        if self.root and token.text == "^":
            return _POWER
        self.check(token)
        if token.kind == "name" and token.text not in _PRECEDENCE:
            self.fail(f"an operator is missing before '{clipped(token.text)}'", token)
        return _PRECEDENCE.get(token.text, 0)

    def check(self, token: Token) -> None:
        """Rejects words and operators of Python or ROOT that the language at hand does not have."""
        if token.kind not in ("operator", "name"):
            return
        if token.text in _UNSUPPORTED:
            self.fail(_UNSUPPORTED[token.text], token)
        if self.root and token.text in _NOT_IN_ROOT:
            self.fail(
                f"ROOT has no '{token.text}'; write {_NOT_IN_ROOT[token.text]} in a ROOT cut", token
            )

    def chain(self, first: Node, precedence: int) -> Node:
        """Parses operators of equal precedence and their operands."""
        operands, operators = [first], []
        signs: list[Token] = []
        while self.precedence() == precedence:
            signs.append(self.take())
            operators.append(_PLAIN.get(signs[-1].text, signs[-1].text))
            operands.append(self.expression(precedence + 1))
        if precedence == _COMPARE:
            self.check_comparison(operands, operators, signs)
        if self.root and precedence == _PRODUCT and "%" in operators and len(operators) > 1:
            self.fail(
                "'%' next to * or / has another precedence in ROOT; add parentheses", signs[1]
            )
        return Chain(first.start, operands[-1].end, tuple(operands), tuple(operators))

    def check_comparison(
        self, operands: list[Node], operators: list[str], signs: list[Token]
    ) -> None:
        """Rejects comparisons to which Python and ROOT give different meanings."""
        for operand in operands:
            if isinstance(operand, Chain) and not operand.bracketed:
                bit = next((o for o in operand.operators if o in ("&", "|")), None)
                if bit:
                    self.fail(
                        f"'{bit}' next to a comparison has another precedence in Python than in ROOT; put parentheses around "
                        f"each comparison, or write {bit}{bit}",
                        operand,
                    )
        if len(operators) > 1:
            if self.root:
                self.fail("ROOT does not chain comparisons; write && between them", signs[1])
            if not (set(operators) <= _RISING or set(operators) <= _FALLING):
                self.fail(
                    "comparisons of different directions cannot be chained; add parentheses, or write && between them",
                    signs[1],
                )

    def power(self, base: Node) -> Node:
        """Parses ``base ** exponent``; the exponent may have a sign."""
        token = self.take()
        exponent = self.expression(_POWER)
        again = isinstance(exponent, Chain) and not exponent.bracketed
        if self.root and again:
            self.fail(
                "ROOT reads a^b^c as (a^b)^c, other languages as a^(b^c); add parentheses", token
            )
        for side in (base, exponent):
            if token.text == "^" and isinstance(side, Chain) and _is_truth(side):
                self.fail("'^' is a power in ROOT; write != for 'exclusive or'", token)
        return Chain(base.start, exponent.end, (base, exponent), ("**",))

    def operand(self, least: int) -> Node:
        """Parses a value with its signs and indices."""
        token = self.take()
        self.check(token)
        if token.text == "not":
            if least > _NOT:
                self.fail("put parentheses around 'not …'", token)
            inner = self.expression(_NOT)
            return Sign(token.start, inner.end, "not", inner)
        if token.text in _SIGNS:
            inner = self.expression(_SIGN)
            power = isinstance(inner, Chain) and not inner.bracketed
            if token.text == "!" and power:
                self.fail("ROOT reads !a^b as (!a)^b; add parentheses", token)
            return Sign(token.start, inner.end, _PLAIN.get(token.text, token.text), inner)
        node = self.value(token)
        while self.next.text == "[":
            node = self.item(node)
        return node

    def value(self, token: Token) -> Node:
        """Parses a number, branch, call or parenthesized expression that begins with ``token``."""
        if token.text == "(":
            inner = self.expression(_OR)
            close = self.closing(token, ")")
            return dataclasses.replace(inner, start=token.start, end=close.end, bracketed=True)
        if token.kind == "number":
            return Number(token.start, token.end, self.number(token))
        if token.kind == "quoted":
            return self.branch(token, token.text[1:-1])
        if token.kind == "name" and token.text not in _PRECEDENCE:
            if self.next.text == "(":
                return self.call(token)
            if not self.root and token.text in ("True", "False", "true", "false"):
                return Number(token.start, token.end, token.text.lower() == "true")
            if token.text.endswith("$") or "::" in token.text:
                self.fail(self.unknown(token.text), token)
            return self.branch(token, token.text)
        what = f"'{clipped(token.text)}'" if token.text else "the end"
        message = f"a branch or number is missing before {what}"
        text = "a cut compares numbers, not strings"
        raise error_in(text if token.kind == "string" else message, self.what, self.text, token)

    def branch(self, token: Token, name: str) -> Node:
        self.names[name] = None
        return BranchName(token.start, token.end, name)

    def closing(self, opening: Token, bracket: str) -> Token:
        """Takes the bracket that closes ``opening``."""
        if self.next.text != bracket:
            if self.next.kind == "end":
                self.fail(f"'{opening.text}' is not closed by '{bracket}'", opening)
            self.fail(f"'{bracket}' is missing before '{clipped(self.next.text)}'", self.next)
        return self.take()

    def number(self, token: Token) -> int | float:
        """Returns the value of a number token."""
        if self.next.kind == "name" and self.next.start == token.end:
            joined = Token("", "", token.start, self.next.end)
            self.fail(
                f"'{clipped(self.text[token.start : self.next.end])}' is neither a number nor a branch",
                joined,
            )
        text = token.text.lower()
        if text.startswith("0x"):
            value: int | float = int(text, 16) if 2 < len(text) <= 18 else -1
        elif text.isdecimal():
            if len(text) > 1 and text.startswith("0"):
                self.fail(
                    "a number must not begin with 0: ROOT and Python read it differently", token
                )
            value = int(text) if len(text) <= 20 else 2**64
        else:
            value = float(text)
        if not 0 <= value < float("inf") or (isinstance(value, int) and value >= 2**64):
            self.fail(f"'{clipped(token.text)}' is not a number below 2^64 or 1.8e308", token)
        return value

    def item(self, node: Node) -> Node:
        """Parses ``node[index]``."""
        opening = self.take()
        minus = self.next.text == "-" and not self.root
        self.at += minus
        token = self.take()
        if not token.text.isdecimal() or len(token.text) > 9:
            self.fail("an index must be an integer, counted from 0", token)
        close = self.closing(opening, "]")
        index = -int(token.text) if minus else int(token.text)
        return Item(node.start, close.end, node, index)

    def call(self, name: Token) -> Node:
        """Parses ``name(arguments)``."""
        opening = self.take()
        if name.text == "TCut" and not self.root:
            return self.cut(name, opening)
        known = ROOT_FUNCTIONS if self.root else FUNCTIONS
        if name.text not in known:
            self.fail(self.unknown(name.text), name)
        arguments: list[Node] = []
        while self.next.text != ")" or arguments:
            arguments.append(self.expression(_OR))
            if self.next.text != ",":
                break
            self.take()
        close = self.closing(opening, ")")
        function = name.text
        if function in ("min", "max") and len(arguments) == 2 and not self.root:
            function += "imum"
        if len(arguments) != known.get(function, FUNCTIONS.get(function)):
            count = known[name.text]
            self.fail(f"{name.text}() takes {count} value{'s' * (count != 1)}", name)
        return Call(name.start, close.end, function, tuple(arguments))

    def cut(self, name: Token, opening: Token) -> Node:
        """Parses ``TCut("…")``."""
        token = self.take()
        if token.kind != "string":
            self.fail('TCut takes a ROOT cut in quotes: TCut("pt > 5 && !flag")', name)
        close = self.closing(opening, ")")
        inside = token.start + 1, token.end - 1
        parser = _Parser(self.text, self.what, root=True, span=inside)
        body, names = parser.parse()
        self.names |= dict.fromkeys(names)
        return Cut(name.start, close.end, body)

    def unknown(self, name: str) -> str:
        """Returns the message for an unknown function, with the nearest known one."""
        known = ROOT_FUNCTIONS if self.root else FUNCTIONS
        words = {"Max$": "max(…)", "Min$": "min(…)", "Sum$": "sum(…)", "Length$": "len(…)"}
        if name in words:
            where = " outside of TCut" if self.root else ""
            return f"{name} is not supported here; write {words[name]}{where}"
        near = did_you_mean(name, known) or f"; there are: {', '.join(known)}"
        return f"no function '{clipped(name)}'{near}"


def _is_truth(node: Chain) -> bool:
    return bool({"and", "or", *_RISING, *_FALLING, "==", "!="} & set(node.operators))

"""The grammar of selections and weights: ``(energy > 10) & (abs(eta) < 2.5)``, or in ROOT's spelling ``energy > 10 && abs(eta) < 2.5``.

From the loosest to the tightest: ``||`` or ``or``; ``&&`` or ``and``; ``not``; comparisons; ``|``; ``&``; ``+ -``; ``* / // %``; the signs
``- + ! ~``; ``**``; ``[…]`` and calls. Python's and ROOT's spellings may be mixed. An expression that the two languages would read
differently is refused with a hint, instead of being given one of the two meanings.

``TCut("…")`` holds a cut of ROOT, which is evaluated by the rules of TTreeFormula: ``^`` is a power, and a division by zero gives 0.
"""

import dataclasses
import re
from typing import Any, NoReturn

from hepgan.errors import DataError, did_you_mean
from hepgan.layout.spec.diagnostics import clipped, error_at

#: Both bounds keep the time and memory for any text small; no cut that somebody wrote comes near.
DEEPEST, LONGEST = 50, 20_000

_OR, _AND, _NOT, _COMPARE, _BIT_OR, _BIT_AND, _SUM, _PRODUCT, _SIGN, _POWER = range(1, 11)

_STRENGTH = {
    "||": _OR, "or": _OR, "&&": _AND, "and": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), _COMPARE),
    "|": _BIT_OR, "&": _BIT_AND, "+": _SUM, "-": _SUM, **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT), "**": _POWER,
}  # fmt: skip
_PLAIN = {"||": "or", "&&": "and", "!": "not"}
_RISING, _FALLING = {"<", "<="}, {">", ">="}
_SIGNS = ("-", "+", "!", "~")

_REFUSED = {
    "^": "'^' is a power in ROOT but 'exclusive or' in Python; write ** for a power, or != between two comparisons in brackets",
    "<<": "there are no shifts; multiply by 2**n",
    ">>": "there are no shifts; divide by 2**n",
    "@": "there is no '@'; write sum(…) of a product",
    "=": "'=' compares nothing; write ==",
    "?": "there is no '?:'; write (condition) * a + (1 - condition) * b",
    "in": "there is no 'in'; write (x == 1) | (x == 2)",
    "is": "there is no 'is'; write ==",
    "if": "there is no 'if'; write (condition) * a + (1 - condition) * b",
    "lambda": "there is no 'lambda'",
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

#: Functions by the number of their arguments; those of an event reduce all of its values to one.
FUNCTIONS: dict[str, int] = {
    **dict.fromkeys(("abs", "sqrt", "exp", "log", "log10", "floor", "ceil", "trunc", "isfinite"), 1),
    **dict.fromkeys(("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"), 1),
    **dict.fromkeys(("arctan2", "hypot", "minimum", "maximum", "fmod"), 2),
    **dict.fromkeys(("sum", "min", "max", "any", "all", "len"), 1),
}  # fmt: skip

#: Those of TTreeFormula, which may be said inside of ``TCut("…")``.
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
    """A piece of an expression, which stands in its text from ``start`` to ``end``; ``bracketed`` where it has brackets around it."""

    start: int
    end: int
    bracketed: bool = dataclasses.field(default=False, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Number(Node):
    """A number: an integer below 2^64, a float or a truth value."""

    value: Any


@dataclasses.dataclass(frozen=True)
class BranchName(Node):
    """A branch by its name."""

    name: str


@dataclasses.dataclass(frozen=True)
class Item(Node):
    """One of the values that an entry has."""

    value: Node
    index: int


@dataclasses.dataclass(frozen=True)
class Call(Node):
    """A function of values."""

    function: str
    arguments: tuple[Node, ...]


@dataclasses.dataclass(frozen=True)
class Sign(Node):
    """``-``, ``+``, ``~`` or ``not`` before a value."""

    operator: str
    operand: Node


@dataclasses.dataclass(frozen=True)
class Chain(Node):
    """Operators of one strength between values, evaluated from the left; comparisons hold together, as in ``0 < x < 1``."""

    operands: tuple[Node, ...]
    operators: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Cut(Node):
    """A cut of ROOT: the node below is evaluated as TTreeFormula does."""

    body: Node


@dataclasses.dataclass(frozen=True)
class Token:
    """A token, the kind that the pattern gives it, and its place."""

    text: str
    kind: str
    start: int
    end: int


def parse(text: str, what: str) -> tuple[Node, tuple[str, ...]]:
    """The tree of ``text`` and the branches in it; ``what`` it is for (``selection``, ``weight``), for messages.

    Raises:
        DataError: with the place in the text.
    """
    if len(text) > LONGEST:
        raise DataError(f"a {what} of {len(text):,} characters; {LONGEST:,} are the most")
    return _Reader(text, what).whole()


def error_in(message: str, what: str, text: str, node: Node | Token) -> DataError:
    """``message`` above the place of ``node`` in ``text``."""
    return DataError(str(error_at(f"the {what}: {message}", text, node.start, node.end)))


def as_tcut(cut: str) -> str:
    """``TCut("…")`` around a cut of ROOT.

    >>> quoted("pt^2 > 5 && !flag")
    'TCut("pt^2 > 5 && !flag")'

    Raises:
        DataError: it is none, with the place in the text.
    """
    if '"' in cut:
        at = cut.index('"')
        raise error_in(
            "a cut compares numbers, not text", "cut", cut, Token('"', "string", at, at + 1)
        )
    _Reader(cut, "cut", root=True).whole()
    return f'TCut("{cut}")'


class _Reader:
    """The tokens of ``text`` between two places, and how far they are read; ``root`` for the language of TTreeFormula."""

    def __init__(
        self, text: str, what: str, *, root: bool = False, span: tuple[int, int] | None = None
    ) -> None:
        self.text, self.what, self.root = text, what, root
        start, end = span or (0, len(text))
        self.names: dict[str, None] = {}
        self.tokens = self._tokens(start, end)
        self.at = self.depth = 0

    def whole(self) -> tuple[Node, tuple[str, ...]]:
        """The one expression that the tokens are."""
        node = self.expression(_OR)
        if self.next.kind != "end":
            self.fail(f"'{clipped(self.next.text)}' is not expected here", self.next)
        return node, tuple(self.names)

    def _tokens(self, start: int, end: int) -> list[Token]:
        found: list[Token] = []
        at = start
        while at < end:
            if self.text[at].isspace():
                at += 1
                continue
            match = _TOKEN.match(self.text, at, end)
            if match is None:
                token = Token(self.text[at], "", at, at + 1)
                self.fail(f"'{clipped(token.text)}' means nothing here", token)
            found.append(Token(match[0], str(match.lastgroup), at, match.end()))
            at = match.end()
        return [*found, Token("", "end", end, end + 1)]

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.next
        self.at += 1
        return token

    def fail(self, message: str, place: Node | Token) -> NoReturn:
        raise error_in(message, self.what, self.text, place)

    def expression(self, least: int) -> Node:
        """An expression of operators of the strength ``least`` or more."""
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"brackets and signs nested more than {DEEPEST} deep", self.next)
        node = self.operand(least)
        while (strength := self.strength()) >= least:
            node = self.power(node) if strength == _POWER else self.chain(node, strength)
        self.depth -= 1
        return node

    def strength(self) -> int:
        """How tightly the next operator binds; 0 where none follows."""
        token = self.next
        if token.kind in ("number", "quoted", "string") or token.text in ("(", "[", "~", "!"):
            self.fail(f"an operator is missing before '{clipped(token.text)}'", token)
        if self.root and token.text == "^":
            return _POWER
        self.check(token)
        if token.kind == "name" and token.text not in _STRENGTH:
            self.fail(f"an operator is missing before '{clipped(token.text)}'", token)
        return _STRENGTH.get(token.text, 0)

    def check(self, token: Token) -> None:
        """Refuses the words and operators that are in one of the languages but not in this one."""
        if token.kind not in ("operator", "name"):
            return
        if token.text in _REFUSED:
            self.fail(_REFUSED[token.text], token)
        if self.root and token.text in _NOT_IN_ROOT:
            self.fail(
                f"ROOT has no '{token.text}'; write {_NOT_IN_ROOT[token.text]} in a cut", token
            )

    def chain(self, first: Node, strength: int) -> Node:
        """Values between operators of one strength."""
        operands, operators = [first], []
        places: list[Token] = []
        while self.strength() == strength:
            places.append(self.take())
            operators.append(_PLAIN.get(places[-1].text, places[-1].text))
            operands.append(self.expression(strength + 1))
        if strength == _COMPARE:
            self.check_comparison(operands, operators, places)
        if self.root and strength == _PRODUCT and "%" in operators and len(operators) > 1:
            self.fail("'%' beside * or / binds in ROOT's own way; put brackets", places[1])
        return Chain(first.start, operands[-1].end, tuple(operands), tuple(operators))

    def check_comparison(
        self, operands: list[Node], operators: list[str], places: list[Token]
    ) -> None:
        """Refuses comparisons that Python and ROOT read differently."""
        for operand in operands:
            if isinstance(operand, Chain) and not operand.bracketed:
                bit = next((o for o in operand.operators if o in ("&", "|")), None)
                if bit:
                    self.fail(
                        f"'{bit}' beside a comparison is read differently by Python and ROOT; put brackets around "
                        f"each comparison, or write {bit}{bit}",
                        operand,
                    )
        if len(operators) > 1:
            if self.root:
                self.fail("ROOT does not chain comparisons; write && between them", places[1])
            if not (set(operators) <= _RISING or set(operators) <= _FALLING):
                self.fail(
                    "only comparisons of one direction are chained; put brackets, or write && between them",
                    places[1],
                )

    def power(self, base: Node) -> Node:
        """``base ** exponent``, whose exponent may have a sign."""
        token = self.take()
        exponent = self.expression(_POWER)
        again = isinstance(exponent, Chain) and not exponent.bracketed
        if self.root and again:
            self.fail("ROOT reads a^b^c as (a^b)^c, others as a^(b^c); put brackets", token)
        for side in (base, exponent):
            if token.text == "^" and isinstance(side, Chain) and _is_truth(side):
                self.fail("'^' is a power in ROOT; write != for 'exclusive or'", token)
        return Chain(base.start, exponent.end, (base, exponent), ("**",))

    def operand(self, least: int) -> Node:
        """A value with its signs, indices and brackets."""
        token = self.take()
        self.check(token)
        if token.text == "not":
            if least > _NOT:
                self.fail("put brackets around 'not …'", token)
            inner = self.expression(_NOT)
            return Sign(token.start, inner.end, "not", inner)
        if token.text in _SIGNS:
            inner = self.expression(_SIGN)
            power = isinstance(inner, Chain) and not inner.bracketed
            if token.text == "!" and power:
                self.fail("ROOT reads !a^b as (!a)^b; put brackets", token)
            return Sign(token.start, inner.end, _PLAIN.get(token.text, token.text), inner)
        node = self.value(token)
        while self.next.text == "[":
            node = self.item(node)
        return node

    def value(self, token: Token) -> Node:
        """A number, branch, call or bracket that begins with ``token``."""
        if token.text == "(":
            inner = self.expression(_OR)
            close = self.closing(token, ")")
            return dataclasses.replace(inner, start=token.start, end=close.end, bracketed=True)
        if token.kind == "number":
            return Number(token.start, token.end, self.number(token))
        if token.kind == "quoted":
            return self.branch(token, token.text[1:-1])
        if token.kind == "name" and token.text not in _STRENGTH:
            if self.next.text == "(":
                return self.call(token)
            if not self.root and token.text in ("True", "False", "true", "false"):
                return Number(token.start, token.end, token.text.lower() == "true")
            if token.text.endswith("$") or "::" in token.text:
                self.fail(self.unknown(token.text), token)
            return self.branch(token, token.text)
        what = f"'{clipped(token.text)}'" if token.text else "the end"
        message = f"a branch or number is expected before {what}"
        text = "numbers are compared here, not text"
        raise error_in(text if token.kind == "string" else message, self.what, self.text, token)

    def branch(self, token: Token, name: str) -> Node:
        self.names[name] = None
        return BranchName(token.start, token.end, name)

    def closing(self, opening: Token, bracket: str) -> Token:
        """The bracket that closes ``opening``."""
        if self.next.text != bracket:
            if self.next.kind == "end":
                self.fail(f"'{opening.text}' is not closed by '{bracket}'", opening)
            self.fail(f"'{bracket}' is expected before '{clipped(self.next.text)}'", self.next)
        return self.take()

    def number(self, token: Token) -> int | float:
        """The value of a number's text."""
        if self.next.kind == "name" and self.next.start == token.end:
            place = Token("", "", token.start, self.next.end)
            self.fail(
                f"'{clipped(self.text[token.start : self.next.end])}' is no number and no branch",
                place,
            )
        text = token.text.lower()
        if text.startswith("0x"):
            value: int | float = int(text, 16) if 2 < len(text) <= 18 else -1
        elif text.isdecimal():
            if len(text) > 1 and text.startswith("0"):
                self.fail("a number does not begin with 0 here: ROOT and Python differ", token)
            value = int(text) if len(text) <= 20 else 2**64
        else:
            value = float(text)
        if not 0 <= value < float("inf") or (isinstance(value, int) and value >= 2**64):
            self.fail(f"'{clipped(token.text)}' is not a number below 2^64 or 1.8e308", token)
        return value

    def item(self, node: Node) -> Node:
        """``node[index]``."""
        opening = self.take()
        minus = self.next.text == "-" and not self.root
        self.at += minus
        token = self.take()
        if not token.text.isdecimal() or len(token.text) > 9:
            self.fail("an index is an integer, counted from 0", token)
        close = self.closing(opening, "]")
        index = -int(token.text) if minus else int(token.text)
        return Item(node.start, close.end, node, index)

    def call(self, name: Token) -> Node:
        """``name(arguments)``."""
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
        """``TCut("…")``."""
        token = self.take()
        if token.kind != "string":
            self.fail('TCut takes a cut of ROOT in quotes: TCut("pt > 5 && !flag")', name)
        close = self.closing(opening, ")")
        inside = token.start + 1, token.end - 1
        reader = _Reader(self.text, self.what, root=True, span=inside)
        body, names = reader.whole()
        self.names |= dict.fromkeys(names)
        return Cut(name.start, close.end, body)

    def unknown(self, name: str) -> str:
        """Which function there is instead of ``name``."""
        known = ROOT_FUNCTIONS if self.root else FUNCTIONS
        words = {"Max$": "max(…)", "Min$": "min(…)", "Sum$": "sum(…)", "Length$": "len(…)"}
        if name in words:
            where = " in [data] cut, outside of TCut" if self.root else ""
            return f"there is no {name} here; write {words[name]}{where}"
        near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
        return f"no function '{clipped(name)}'{near}"


def _is_truth(node: Chain) -> bool:
    return bool({"and", "or", *_RISING, *_FALLING, "==", "!="} & set(node.operators))

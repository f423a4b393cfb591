"""Parser of layout strings; ``str`` is its inverse. Every character is read, or an error points at it.

    net    = item {"," item}
    item   = WORD {"|" argument} ["[" branch {";" branch} "]"]
    branch = [name ":"] net

Words, activations and flags are not case-sensitive; blanks between tokens are ignored. An item that starts with an activation
or a size instead of a word is a DENSE layer, as in TMVA. ``parse_gan`` reads ``net "##" net``.
"""

import dataclasses
import math
import re
from typing import Any, NamedTuple, NoReturn

from hepgan.errors import LayoutError, clipped, did_you_mean, with_caret
from hepgan.layout.spec import formula
from hepgan.layout.spec.base import (
    ACTIVATIONS,
    LAYERS,
    Activation,
    Branch,
    ContainerSpec,
    LayerSpec,
    Layout,
    MisfitError,
)
from hepgan.layout.spec.composite import FromSpec
from hepgan.layout.spec.dense_norm import DenseSpec

#: Bounds of nesting and length, which keep the time for any string short.
DEEPEST, LONGEST = 40, 100_000

_TOKEN = re.compile(r"##|[,|;:\[\]#]|[^,|;:\[\]#]+")
_PUNCTUATION = frozenset(("##", "#", ",", "|", ";", ":", "[", "]"))

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
# No two of its parts can take the same digits, so that the time is linear for any string.
_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


class Token(NamedTuple):
    """A token and its position in the layout's text."""

    text: str
    start: int
    end: int


class _Sorted(NamedTuple):
    """Arguments of a word, sorted by kind."""

    numbers: list[Token]
    activation: Token | None
    slope: Token | None
    flags: list[Token]


@dataclasses.dataclass
class _Reader:
    """Tokens ``(text, start, end)`` and the current position; the last token is ``""``."""

    text: str
    tokens: list[Token]
    at: int = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def accept(self, punctuation: str) -> bool:
        """Reads ``punctuation`` if it comes next; returns whether it did."""
        matches = self.next.text == punctuation
        self.at += matches
        return matches

    def fail(self, message: str, first: Token, last: Token | None = None) -> NoReturn:
        raise LayoutError(with_caret(message, self.text, first.start, (last or first).end))


def parse(text: str) -> Layout:
    """Returns the network that ``text`` describes.

    >>> str(parse("conv|12|2|2|1|1|tanh, reshape|FLAT, TANH|(N+100)*2"))
    'CONV|12|2|2|1|1|TANH, RESHAPE|FLAT, DENSE|(N+100)*2|TANH'

    Raises:
        LayoutError: the text is not a layout; with the position and, for a misspelled word, the nearest one.
    """
    reader = _reader(text)
    layout = _net(reader, 0)
    if reader.next.text == "##":
        reader.fail(
            "'##' separates generator and discriminator, but a single network is expected",
            reader.next,
        )
    _end(reader)
    return layout


def parse_gan(text: str) -> tuple[Layout, Layout]:
    """Returns generator and discriminator of ``text``, which are separated by ``##``.

    Raises:
        LayoutError: as for ``parse``; or the number of networks is not two.
    """
    reader = _reader(text)
    generator = _net(reader, 0)
    if not reader.accept("##"):
        if not reader.next.text:
            reader.fail("'##' and the discriminator's layout are missing", reader.next)
        _end(reader)
    discriminator = _net(reader, 0)
    if reader.next.text == "##":
        reader.fail("a third network, but a GAN has a generator and a discriminator", reader.next)
    _end(reader)
    return generator, discriminator


def _reader(text: str) -> _Reader:
    if len(text) > LONGEST:
        message = f"the layout has {len(text):,} characters, but at most {LONGEST:,} are allowed"
        raise LayoutError(message)
    tokens = []
    for match in _TOKEN.finditer(text):
        bare = match[0].strip()
        if bare:
            start = match.start() + match[0].index(bare)
            tokens.append(Token(bare, start, start + len(bare)))
    end = len(text.rstrip())
    return _Reader(text, [*tokens, Token("", end, end + 1)])


def _end(reader: _Reader) -> None:
    token = reader.next
    if token.text:
        reader.fail(f"'{clipped(token.text)}' is not expected here", token)


def _net(reader: _Reader, depth: int) -> Layout:
    words = [_item(reader, depth)]
    while reader.accept(","):
        words.append(_item(reader, depth))
    return Layout(tuple(words), reader.text)


def _item(reader: _Reader, depth: int) -> LayerSpec:
    head = reader.next
    if head.text == "[":
        return _branching(reader, head, "", depth)
    if head.text in _PUNCTUATION or not head.text:
        what = f"'{head.text}'" if head.text else "the end"
        reader.fail(f"a layer is expected before {what}", head)
    reader.at += 1
    arguments = _arguments(reader)
    if reader.next.text == "[":
        name = _upper(head.text)
        if arguments:
            reader.fail(f"{clipped(name)} takes no arguments before '['", arguments[0])
        return _branching(reader, head, name, depth)
    return _word(reader, head, arguments)


def _arguments(reader: _Reader) -> list[Token]:
    arguments = []
    while reader.accept("|"):
        token = reader.next
        if token.text in _PUNCTUATION or not token.text:
            what = f"'{token.text}'" if token.text else "the end"
            reader.fail(f"an argument is missing between '|' and {what}", token)
        reader.at += 1
        arguments.append(token)
    return arguments


def _branching(reader: _Reader, head: Token, name: str, depth: int) -> LayerSpec:
    kind = LAYERS.get(name)
    if kind is None or not issubclass(kind, ContainerSpec):
        containers = [w for w, k in LAYERS.items() if w and issubclass(k, ContainerSpec)]
        near = did_you_mean(clipped(name), containers) if kind is None else ""
        reader.fail(f"'{clipped(name)}' cannot contain networks in '[…]'{near}", head)
    if depth >= DEEPEST:
        reader.fail(f"networks are nested more than {DEEPEST} deep", reader.next)
    opening = reader.next
    reader.at += 1
    branches: list[Branch] = []
    names: set[str] = set()
    spans = [("", head.start, opening.end)]
    while not branches or reader.accept(";"):
        start = reader.next.start
        branches.append(_branch(reader, names, depth + 1, named=not name))
        spans.append((f"[{len(branches) - 1}]", start, reader.tokens[reader.at - 1].end))
    if not reader.accept("]"):
        what = f"'{clipped(reader.next.text)}'" if reader.next.text else "the end"
        line = f"'[' is not closed by ']' before {what}"
        reader.fail(line, reader.next if reader.next.text else opening)
    return kind(branches=tuple(branches), spans=tuple(spans))


def _branch(reader: _Reader, others: set[str], depth: int, *, named: bool) -> Branch:
    name = ""
    if reader.tokens[min(reader.at + 1, len(reader.tokens) - 1)].text == ":":
        token = reader.next
        if token.text in _PUNCTUATION:
            reader.fail(f"a branch's name is expected before ':', not '{token.text}'", token)
        if not named:
            reader.fail("only the branches of a plain '[…]' have names", token)
        if token.text in others:
            reader.fail(f"a second branch '{clipped(token.text)}'", token)
        name = token.text
        others.add(name)
        reader.at += 2
    return Branch(_net(reader, depth), name)


def _word(reader: _Reader, head: Token, arguments: list[Token]) -> LayerSpec:
    """Returns the layer word that begins with ``head``, from its arguments in TMVA's order or in its looser spellings."""
    kind = LAYERS.get(_upper(head.text))
    if kind is None:
        if _upper(head.text) not in ACTIVATIONS and not _is_number(head.text):
            reader.fail(f"unknown word '{clipped(head.text)}'{_nearest_head(head.text)}", head)
        kind, arguments = DenseSpec, [head, *arguments]
    if issubclass(kind, ContainerSpec):
        reader.fail(f"{kind.word} needs a network in brackets: {kind.word}[…]", head)
    if kind is FromSpec:
        return _from(reader, head, arguments)
    given = _sorted(reader, kind, arguments)
    values, spans, formulas = _numbers(reader, kind, given, head, arguments)
    names = {field.name: field for field in dataclasses.fields(kind)}
    if given.activation is not None:
        values["activation"] = _activation(reader, given)
    elif "activation" in names and names["activation"].default is dataclasses.MISSING:
        reader.fail(f"{kind.word} needs an activation{_usage(kind)}", head)
    if given.slope is not None:
        spans.append(("activation", given.slope.start, given.slope.end))
    spans = [("", head.start, (arguments or [head])[-1].end), *spans]
    word = kind(
        **values, flags=_flags(reader, kind, given.flags), formulas=formulas, spans=tuple(spans)
    )
    _check(reader, word)
    return word


def _check(reader: _Reader, word: LayerSpec) -> None:
    try:
        word.check(given=[name for name, _, _ in word.spans])
    except MisfitError as fault:
        start, end = word.span(*fault.fields) or (0, 0)
        raise LayoutError(with_caret(str(fault), reader.text, start, end)) from None


def _from(reader: _Reader, head: Token, arguments: list[Token]) -> LayerSpec:
    if len(arguments) != 1:
        reader.fail("FROM takes the name of a branch: FROM|name", head, (arguments or [head])[-1])
    name = arguments[0]
    spans = (("", head.start, name.end), ("name", name.start, name.end))
    return FromSpec(name.text, spans=spans)


def _sorted(reader: _Reader, kind: type[LayerSpec], arguments: list[Token]) -> _Sorted:
    """Returns the arguments sorted by kind. Only DENSE takes a number after a name that is not a slope."""
    given = _Sorted([], None, None, [])
    for argument in arguments:
        name = _upper(argument.text)
        if _is_number(argument.text):
            given = _with_number(reader, kind, given, argument)
        elif name in ACTIVATIONS and "activation" in _fields(kind):
            if given.activation is not None:
                reader.fail(f"a second activation '{name}'", argument)
            given = given._replace(activation=argument)
        elif any(name in group for group in kind.known_flags):
            given.flags.append(argument)
        else:
            reader.fail(_unknown(kind, argument.text), argument)
    return given


def _with_number(
    reader: _Reader, kind: type[LayerSpec], given: _Sorted, argument: Token
) -> _Sorted:
    sloped = given.activation is not None and given.slope is None and not given.flags
    if sloped and given.activation is not None and ACTIVATIONS[_upper(given.activation.text)]:
        integer = _INTEGER.fullmatch(argument.text) or not _DECIMAL.fullmatch(argument.text)
        if not (kind is DenseSpec and integer and not given.numbers):
            return given._replace(slope=argument)
    if kind is not DenseSpec and (given.activation is not None or given.flags):
        reader.fail(f"a number after the names{_usage(kind)}", argument)
    given.numbers.append(argument)
    return given


def _numbers(
    reader: _Reader, kind: type[LayerSpec], given: _Sorted, head: Token, arguments: list[Token]
) -> tuple[dict[str, Any], list[tuple[str, int, int]], tuple[tuple[str, str], ...]]:
    numbers = given.numbers
    form = next((form for form in kind.forms if len(form) == len(numbers)), None)
    if form is None:
        count = f"{len(numbers)} numbers are" if len(numbers) != 1 else "1 number is"
        reader.fail(f"{kind.word}: {count} given{_usage(kind)}", head, (arguments or [head])[-1])
    values: dict[str, Any] = {}
    formulas = []
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, argument in zip(form, numbers, strict=True):
        if types[name] is float:
            values[name] = _decimal(reader, argument)
        elif types[name] is bool:
            values[name] = _truth(reader, argument)
        else:
            values[name], text = _size(reader, argument)
            formulas += [(name, text)] if text else []
    spans = [(name, a.start, a.end) for name, a in zip(form, numbers, strict=True)]
    return values, spans, tuple(formulas)


def _size(reader: _Reader, argument: Token) -> tuple[int, str]:
    """Returns an integer, or 0 and a formula to evaluate once ``N`` is known."""
    if _INTEGER.fullmatch(argument.text):
        return int(argument.text), ""
    tokens = formula.tokens(argument.text)
    if tokens is None:
        reader.fail(f"'{clipped(argument.text)}' should be an integer or a formula of N", argument)
    text = "".join(tokens)
    try:
        value = formula.evaluate(text, 1)
    except LayoutError as fault:
        # A denominator such as N - 1 may be 0 for N = 1 and right for the actual N.
        if "divides" not in str(fault) or "N" not in text:
            raise LayoutError(
                with_caret(str(fault), reader.text, argument.start, argument.end)
            ) from None
        value = 0
    return (0, text) if "N" in text else (value, "")


def _decimal(reader: _Reader, argument: Token) -> float:
    if not _DECIMAL.fullmatch(argument.text) or not math.isfinite(float(argument.text)):
        reader.fail(f"'{clipped(argument.text)}' should be a number", argument)
    return float(argument.text)


def _truth(reader: _Reader, argument: Token) -> bool:
    if argument.text not in ("0", "1"):
        reader.fail(f"'{clipped(argument.text)}' should be 0 or 1", argument)
    return argument.text == "1"


def _activation(reader: _Reader, given: _Sorted) -> Activation:
    name = _upper(given.activation.text) if given.activation else ""
    return Activation(name, None if given.slope is None else _decimal(reader, given.slope))


def _flags(reader: _Reader, kind: type[LayerSpec], flags: list[Token]) -> tuple[str, ...]:
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
                    reader.fail(f"{_upper(flag.text)}: {several}", flag)
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


def _usage(kind: type[LayerSpec]) -> str:
    return f"; write {' or '.join(kind.spellings())}"

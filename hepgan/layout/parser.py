"""Parser of layout strings; ``str`` is its inverse. Every character is read, or an error points at it.

    net    = item {"," item}
    item   = WORD {"|" argument} ["[" branch {";" branch} "]"]
    branch = [name ":"] net

Words, activations and flags are not case-sensitive; blanks between tokens are ignored. An item that starts with an activation
or a size instead of a word is a DENSE layer, as in TMVA. ``parse_gan`` reads ``net "##" net``.
"""

import dataclasses
import re
from typing import NoReturn

from hepgan.errors import LayoutError, did_you_mean
from hepgan.layout.spec.arguments import Argument, word_of
from hepgan.layout.spec.base import Branch, ContainerSpec, LayerSpec, Layout
from hepgan.layout.spec.diagnostics import MisfitError, clipped, error_at
from hepgan.layout.spec.registry import LAYERS

#: Bounds of nesting and length, which keep the time for any string short.
DEEPEST, LONGEST = 40, 100_000

_TOKEN = re.compile(r"##|[,|;:\[\]#]|[^,|;:\[\]#]+")
_PUNCTUATION = frozenset(("##", "#", ",", "|", ";", ":", "[", "]"))


@dataclasses.dataclass
class _Reader:
    """Tokens ``(text, start, end)`` and the current position; the last token is ``""``."""

    text: str
    tokens: list[Argument]
    at: int = 0

    @property
    def next(self) -> Argument:
        return self.tokens[self.at]

    def accept(self, punctuation: str) -> bool:
        """Reads ``punctuation`` if it comes next; returns whether it did."""
        matches = self.next.text == punctuation
        self.at += matches
        return matches

    def fail(self, message: str, first: Argument, last: Argument | None = None) -> NoReturn:
        raise error_at(message, self.text, first.start, (last or first).end)


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
            tokens.append(Argument(bare, start, start + len(bare)))
    end = len(text.rstrip())
    return _Reader(text, [*tokens, Argument("", end, end + 1)])


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
        name = head.text.upper() if head.text.isascii() else head.text
        if arguments:
            reader.fail(f"{clipped(name)} takes no arguments before '['", arguments[0])
        return _branching(reader, head, name, depth)
    try:
        return word_of(head, arguments)
    except MisfitError as fault:
        span = fault.fields[0].split("-")
        raise error_at(str(fault), reader.text, int(span[0]), int(span[1])) from None


def _arguments(reader: _Reader) -> list[Argument]:
    arguments = []
    while reader.accept("|"):
        token = reader.next
        if token.text in _PUNCTUATION or not token.text:
            what = f"'{token.text}'" if token.text else "the end"
            reader.fail(f"an argument is missing between '|' and {what}", token)
        reader.at += 1
        arguments.append(token)
    return arguments


def _branching(reader: _Reader, head: Argument, name: str, depth: int) -> LayerSpec:
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

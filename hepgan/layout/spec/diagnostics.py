"""Error messages with a caret under the faulty part of a layout string."""

import unicodedata

from hepgan.errors import LayoutError

#: Number of characters of a line that an error shows.
_WINDOW = 100


class MisfitError(LayoutError):
    """A word that does not fit its input, before its position in the text is known.

    Attributes:
        fields: The faulty fields of the word, ``""`` for the whole word.
    """

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields or ("",)


def error_at(message: str, text: str, start: int, end: int) -> LayoutError:
    r"""Returns the error ``message``, followed by the line of ``text`` that contains ``[start, end)`` with carets under it.

    >>> print(error_at("unknown activation 'RELUU'; did you mean RELU?", "DENSE|64|RELUU", 9, 14))
    unknown activation 'RELUU'; did you mean RELU?
      DENSE|64|RELUU
               ^^^^^
    """
    first = max(text.rfind("\n", 0, start) + 1, start - _WINDOW // 2)
    newline = text.find("\n", start)
    last = min(len(text) if newline < 0 else newline, first + _WINDOW)
    before, marked, after = text[first:start], text[start : min(end, last)], text[end:last]
    head = "…" if first > 0 and text[first - 1] != "\n" else ""
    tail = "…" if last < len(text) and text[last] != "\n" else ""
    line = head + _shown(before) + _shown(marked) + _shown(after) + tail
    caret = " " * _columns(head + _shown(before)) + "^" * max(1, _columns(_shown(marked)))
    return LayoutError(f"{message}\n  {line}\n  {caret}")


def clipped(token: str, limit: int = 40) -> str:
    """Returns ``token`` for quoting in a message: shortened, and without control characters."""
    return _shown(token if len(token) <= limit else token[:limit] + "…")


def _shown(text: str) -> str:
    """Replaces control, format and surrogate characters, which would move the caret or break the terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if c.isspace() else "?" if unicodedata.category(c)[0] in "CM" else c for c in text
    )


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

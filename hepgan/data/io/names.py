"""Names from files, made fit for a terminal, a page, a file system and a ROOT key. Any character may stand in them."""

from collections.abc import Iterable

RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(10))}
"""Names that Windows keeps for devices."""


def printable(text: str, *, longest: int | None = None, keep: str = "") -> str:
    r"""Returns ``text`` with characters that cannot be shown as escape sequences of TOML, cut to ``longest`` characters.

    >>> printable("E\x1b[31m")
    'E\\u001b[31m'
    """
    shown = "".join(c if c.isprintable() or c in keep else _escape(ord(c)) for c in text)
    return shown if longest is None or len(shown) <= longest else shown[: longest - 1] + "…"


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def is_text(name: str) -> bool:
    """Whether ``name`` was valid UTF-8 in its file: uproot passes other bytes on as lone surrogates, which no file can hold."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def file_names(names: Iterable[str], *, longest: int = 100) -> dict[str, str]:
    """Returns a file name, without its ending, for each of ``names``: safe everywhere, distinct without regard to case.

    >>> file_names(["pt", "PT", "hits/x[0]"])
    {'pt': 'pt', 'PT': 'PT-2', 'hits/x[0]': 'hits_x_0_'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        stem = _safe(name)[:longest]
        unique, number = stem, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        found[name] = unique
    return found


def _safe(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-+=,") else "_" for c in name)
    stem = kept.strip(".") or "_"
    return f"_{stem}" if stem.partition(".")[0].casefold() in RESERVED else stem

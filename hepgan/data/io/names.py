"""Conversion of names from files, which may contain any character, for terminals, pages, file systems and ROOT keys."""

from collections.abc import Iterable

RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(10))}
"""Names that Windows reserves for devices."""


def printable(text: str, *, longest: int | None = None, keep: str = "") -> str:
    r"""Returns ``text`` with unprintable characters as TOML escape sequences, truncated to ``longest`` characters.

    >>> printable("E\x1b[31m")
    'E\\u001b[31m'
    """
    shown = "".join(c if c.isprintable() or c in keep else _escape(ord(c)) for c in text)
    return shown if longest is None or len(shown) <= longest else shown[: longest - 1] + "…"


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def is_text(name: str) -> bool:
    """Returns whether ``name`` was valid UTF-8 in its file; uproot decodes other bytes to lone surrogates, which cannot be written."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def file_names(names: Iterable[str], *, longest: int = 100) -> dict[str, str]:
    """Returns a file name without extension for each of ``names``: valid on every system, and distinct ignoring case.

    >>> file_names(["pt", "PT", "hits/x[0]"])
    {'pt': 'pt', 'PT': 'PT-2', 'hits/x[0]': 'hits_x_0_'}
    """
    result: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        stem = _safe(name)[:longest]
        unique, number = stem, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        result[name] = unique
    return result


def _safe(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-+=,") else "_" for c in name)
    stem = kept.strip(".") or "_"
    return f"_{stem}" if stem.partition(".")[0].casefold() in RESERVED else stem

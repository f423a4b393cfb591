"""Which ROOT files and trees are meant, and opening them with errors that say what is wrong.

A file is named by a path, ``path.root:tree``, ``sample:showers.root`` (shipped with the package), a glob, any URL that uproot
opens, a list of these, ``{path: tree}`` or a coffea fileset.
"""

import contextlib
import glob
import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cramjam
import uproot
import uproot.behaviors.RNTuple

from hepgan.data.io.envelopes import check_envelopes
from hepgan.errors import BadFileError, DataError, did_you_mean

Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any]
"""What names files: see the head of this module."""

TREES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")
SAMPLES = Path(__file__).parent.parent / "samples"

# What uproot and the decompressors let through when bytes are wrong, found by flipping bits and cutting files.
BROKEN = (
    OSError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    TypeError,
    UnboundLocalError,
    ValueError,
    struct.error,
    zlib.error,
    cramjam.DecompressionError,
    uproot.DeserializationError,
)


class Source(NamedTuple):
    """One tree in one file; ``tree`` is ``None`` for the only one there."""

    path: str
    tree: str | None


def sources(files: Files, *, tree: str | None = None) -> list[Source]:
    """The files that ``files`` names, in order, globs sorted by name.

    Args:
        files: See the head of this module.
        tree: The tree in the files that do not name one themselves.

    Raises:
        DataError: no file is named, or a glob matches none.
    """
    found = [
        Source(path, own or tree)
        for spec, given in _specs(files)
        for path, own in _expanded(spec, given)
    ]
    if not found:
        raise DataError("no input file is named; give at least one ROOT file")
    return found


def _specs(files: Files) -> Iterator[tuple[str, str | None]]:
    if isinstance(files, (str, os.PathLike)):
        yield os.fspath(files), None
    elif isinstance(files, Mapping):
        for key, value in files.items():
            if isinstance(value, Mapping) and "files" in value:
                yield from _specs(value["files"])
            elif isinstance(value, Mapping):
                yield key, value.get("object_path")
            elif isinstance(value, (list, tuple)):
                yield from _specs(value)
            else:
                yield key, value
    else:
        for spec in files:
            yield os.fspath(spec), None


def _expanded(spec: str, given: str | None) -> Iterator[tuple[str, str | None]]:
    path, tree = split_tree(spec)
    tree = given or tree
    if path.startswith("sample:"):
        yield str(sample_path(path.removeprefix("sample:"))), tree
    elif is_url(path) or not glob.has_magic(path) or Path(path).exists():
        yield path if is_url(path) else str(Path(path).expanduser()), tree
    else:
        matches = sorted(glob.glob(str(Path(path).expanduser()), recursive=True))  # noqa: PTH207
        if not matches:
            raise DataError(f"no file matches '{path}'; check the pattern and the folder")
        yield from ((match, tree) for match in matches)


def split_tree(spec: str) -> tuple[str, str | None]:
    """The path and the tree of ``path.root:tree``.

    >>> split_tree("http://localhost:8000/a.root:folder/showers;1")
    ('http://localhost:8000/a.root', 'folder/showers;1')
    >>> split_tree("a.root")
    ('a.root', None)
    """
    if match := re.fullmatch(r"(.+\.root(?:\?[^:]*)?):([^:]+)", spec, flags=re.IGNORECASE):
        return match[1], match[2]
    path, colon, tree = spec.rpartition(":")
    if colon and not is_url(spec) and not Path(spec).exists() and Path(path).is_file():
        return path, tree
    return spec, None


def is_url(path: str) -> bool:
    """Whether ``path`` is remote: ``https://…``, ``root://…``."""
    return "://" in path


def sample_path(name: str) -> Path:
    """The path of a file that the package ships.

    Raises:
        DataError: there is no such sample; names those there.
    """
    known = sorted(p.name for p in SAMPLES.glob("*.root"))
    if name not in known:
        there = ", ".join(known) or "none"
        raise DataError(f"no sample '{name}'; there are: {there}{did_you_mean(name, known)}")
    return SAMPLES / name


def base_name(path: str) -> str:
    """The file's name without its folder, host or query.

    >>> base_name("https://host/a/b.root?download=1")
    'b.root'
    """
    return (
        path.partition("?")[0].rstrip("/").rpartition("/")[2] if is_url(path) else Path(path).name
    )


@contextlib.contextmanager
def data_errors(path: str, *, library: str = "uproot") -> Iterator[None]:
    """Context manager around every call of ``library`` that turns what it raises for wrong bytes into a ``DataError`` about ``path``."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist; check the path") from error
    except PermissionError as error:
        raise DataError(f"'{path}' may not be read; check its permissions") from error
    except ConnectionError as error:
        raise DataError(f"'{path}' cannot be reached ({_first_line(error)})") from error
    except BROKEN as error:
        raise DataError(
            f"'{path}' cannot be read, it is damaged or of a kind that {library} does not know "
            f"({type(error).__name__}: {_first_line(error)}); copy or write it again"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else "no message"


@contextlib.contextmanager
def open_file(path: str) -> Iterator[Any]:
    """The open ROOT file at ``path``.

    Local files are read through file handles: a memory map would count as resident memory, and would end the process
    with a bus error when the file is cut while it is read.

    Raises:
        DataError: it is missing, not a ROOT file, truncated or damaged.
    """
    options: dict[str, Any] = {"object_cache": None, "array_cache": None}
    if not is_url(path):
        _check_header(path)
        options |= {"handler": uproot.MultithreadedFileSource, "num_workers": 1}
    elif path.startswith(("http://", "https://")):
        options |= {"handler": uproot.HTTPSource}
    with data_errors(path):
        file = uproot.open({path: None}, **options)
    with file:
        yield file


def _check_header(path: str) -> None:
    if Path(path).is_dir():
        raise DataError(f"'{path}' is a folder; name the ROOT files in it, e.g. '{path}/*.root'")
    with data_errors(path), Path(path).open("rb") as file:
        head = file.read(20)
        size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise DataError(f"'{path}' is empty (0 bytes); write or copy it again")
    if head[:4] != b"root":
        raise DataError(f"'{path}' is not a ROOT file: it starts with {head[:4]!r}")
    # Large files (version 1000000 and above) keep their end in 8 bytes.
    wide = len(head) >= 8 and struct.unpack(">i", head[4:8])[0] >= 1_000_000
    if len(head) < 20:
        raise DataError(f"'{path}' is truncated: {size} bytes are less than a ROOT file's header")
    end: int = struct.unpack(">q" if wide else ">i", head[12 : 20 if wide else 16])[0]
    if size < end:
        raise DataError(f"'{path}' is truncated: it has {size} of {end} bytes; copy it again")


def tree_classes(file: Any, path: str) -> dict[str, str]:
    """Name -> class of the trees in an open file, without cycles, in the file's order."""
    with data_errors(path):
        classes: dict[str, str] = file.classnames(recursive=True, cycle=False)
    return {name: kind for name, kind in classes.items() if kind in TREES}


def find_tree(file: Any, source: Source) -> Any:
    """The tree that ``source`` means.

    Raises:
        DataError: it is not there, or none is named and the file has not just one. Names those there.
    """
    path, name = source
    known = tree_classes(file, path)
    if not known:
        raise DataError(f"'{path}' holds no tree; name a file with a TTree or an RNTuple")
    there = ", ".join(known)
    if name is None:
        if len(known) > 1:
            raise DataError(f"'{path}' holds several trees, say which: {there}")
        name = next(iter(known))
    elif name.partition(";")[0].strip("/") not in known:
        raise DataError(
            f"no tree '{name}' in '{path}'; there are: {there}{did_you_mean(name, known)}"
        )
    try:
        with data_errors(path):
            folder, _, last = name.rpartition("/")
            # With a colon behind a folder, uproot would look for a branch of a tree.
            found = file[folder][last] if folder and ":" in last else file[name]
            if isinstance(found, uproot.behaviors.RNTuple.HasFields):
                check_envelopes(found)
            return found
    except DataError as error:
        if isinstance(error.__cause__, uproot.KeyInFileError):
            raise DataError(
                f"no cycle '{name}' in '{path}'; leave ';…' away for the newest"
            ) from error
        raise


class OpenSource(NamedTuple):
    """A tree of an open file, its name with folders, and its number of entries."""

    tree: Any
    name: str
    entries: int


@contextlib.contextmanager
def open_source(source: Source) -> Iterator[OpenSource]:
    """Context manager that opens the tree of ``source``.

    This decides which files are bad, for every way of reading: what raises here may be left out on request. Damage that is
    found later, in the events, is always an error, since nobody would see which events are missing.

    Raises:
        BadFileError: the file is missing, truncated, damaged or no ROOT file, or the tree is not there.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(source.path))
            tree, name = (
                find_tree(file, source),
                source.tree or next(iter(tree_classes(file, source.path))),
            )
            with data_errors(source.path):
                entries = int(tree.num_entries)
                tree.keys(recursive=False)  # an RNTuple reads its header only now
        except DataError as error:
            raise BadFileError(str(error)) from error
        if entries < 0:
            raise BadFileError(f"'{source.path}' is damaged: its tree has {entries} entries")
        yield OpenSource(tree, name, entries)

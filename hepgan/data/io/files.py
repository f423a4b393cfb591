"""Specification and opening of ROOT files and trees, with errors that locate the fault.

A file is specified by a path, ``path.root:tree``, ``sample:showers.root`` (shipped with the package), a glob, any URL that uproot
opens, or a list of these, ``{path: tree}`` or a coffea fileset.
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
"""Specification of files; see the top of this module."""

TREES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")
SAMPLES = Path(__file__).parent.parent / "samples"

# Exceptions of uproot and the decompressors for damaged bytes, collected by flipping bits and truncating files.
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
    """Tree in a file; ``tree`` is ``None`` for the only tree of the file."""

    path: str
    tree: str | None


def sources(files: Files, *, tree: str | None = None) -> list[Source]:
    """Returns the files and trees that ``files`` specifies, in order, with the matches of a glob sorted by name.

    Args:
        files: See the top of this module.
        tree: Tree in the files that do not name one.

    Raises:
        DataError: no file is given, or a glob matches none.
    """
    result = [
        Source(path, own or tree)
        for spec, declared in _specs(files)
        for path, own in _expanded(spec, declared)
    ]
    if not result:
        raise DataError("no input file is given; give at least one ROOT file")
    return result


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


def _expanded(spec: str, declared: str | None) -> Iterator[tuple[str, str | None]]:
    path, tree = split_tree(spec)
    tree = declared or tree
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
    """Splits ``path.root:tree`` into path and tree.

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
    """Returns whether ``path`` is remote: ``https://…``, ``root://…``."""
    return "://" in path


def sample_path(name: str) -> Path:
    """Returns the path of a sample file shipped with the package.

    Raises:
        DataError: there is no such sample.
    """
    known = sorted(p.name for p in SAMPLES.glob("*.root"))
    if name not in known:
        names = ", ".join(known) or "none"
        raise DataError(f"no sample '{name}'; there are: {names}{did_you_mean(name, known)}")
    return SAMPLES / name


def base_name(path: str) -> str:
    """Returns the name of a file without its folder, host or query.

    >>> base_name("https://host/a/b.root?download=1")
    'b.root'
    """
    return (
        path.partition("?")[0].rstrip("/").rpartition("/")[2] if is_url(path) else Path(path).name
    )


@contextlib.contextmanager
def data_errors(path: str, *, library: str = "uproot") -> Iterator[None]:
    """Context manager that converts exceptions of ``library`` for missing or damaged files into a ``DataError`` about ``path``."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist; check the path") from error
    except PermissionError as error:
        raise DataError(f"'{path}' is not readable; check its permissions") from error
    except ConnectionError as error:
        raise DataError(f"'{path}' cannot be reached ({_first_line(error)})") from error
    except BROKEN as error:
        raise DataError(
            f"'{path}' cannot be read: it is damaged, or {library} does not support it "
            f"({type(error).__name__}: {_first_line(error)}); copy or write it again"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else "no message"


@contextlib.contextmanager
def open_file(path: str) -> Iterator[Any]:
    """Context manager that opens the ROOT file at ``path``.

    Local files are read through file handles: a memory map would count as resident memory, and would kill the process with a bus error
    if the file were truncated while it is read.

    Raises:
        DataError: the file is missing, not a ROOT file, truncated or damaged.
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
        raise DataError(f"'{path}' is a folder; give the ROOT files in it, e.g. '{path}/*.root'")
    with data_errors(path), Path(path).open("rb") as file:
        head = file.read(20)
        size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise DataError(f"'{path}' is empty (0 bytes); write or copy it again")
    if head[:4] != b"root":
        raise DataError(f"'{path}' is not a ROOT file: it starts with {head[:4]!r}")
    # Large files (version 1000000 and above) store fEND in 8 bytes.
    wide = len(head) >= 8 and struct.unpack(">i", head[4:8])[0] >= 1_000_000
    if len(head) < 20:
        raise DataError(
            f"'{path}' is truncated: {size} bytes are less than the header of a ROOT file"
        )
    end: int = struct.unpack(">q" if wide else ">i", head[12 : 20 if wide else 16])[0]
    if size < end:
        raise DataError(f"'{path}' is truncated: it has {size} of {end} bytes; copy it again")


def tree_classes(file: Any, path: str) -> dict[str, str]:
    """Returns the class of each tree in an open file by name, without cycles, in the order of the file."""
    with data_errors(path):
        classes: dict[str, str] = file.classnames(recursive=True, cycle=False)
    return {name: kind for name, kind in classes.items() if kind in TREES}


def find_tree(file: Any, source: Source) -> Any:
    """Returns the tree of ``source`` from an open file.

    Raises:
        DataError: there is no such tree, or no tree is named and the file does not have exactly one.
    """
    path, name = source
    known = tree_classes(file, path)
    if not known:
        raise DataError(f"'{path}' holds no tree; give a file with a TTree or an RNTuple")
    names = ", ".join(known)
    if name is None:
        if len(known) > 1:
            raise DataError(f"'{path}' holds several trees; name one of them: {names}")
        name = next(iter(known))
    elif name.partition(";")[0].strip("/") not in known:
        raise DataError(
            f"no tree '{name}' in '{path}'; there are: {names}{did_you_mean(name, known)}"
        )
    try:
        with data_errors(path):
            folder, _, last = name.rpartition("/")
            # With a colon after a folder, uproot would look up a branch of a tree.
            tree = file[folder][last] if folder and ":" in last else file[name]
            if isinstance(tree, uproot.behaviors.RNTuple.HasFields):
                check_envelopes(tree)
            return tree
    except DataError as error:
        if isinstance(error.__cause__, uproot.KeyInFileError):
            raise DataError(
                f"no cycle '{name}' in '{path}'; omit ';…' for the newest cycle"
            ) from error
        raise


class OpenSource(NamedTuple):
    """Tree of an open file, its name with folders, and its number of entries."""

    tree: Any
    name: str
    entries: int


@contextlib.contextmanager
def open_source(source: Source) -> Iterator[OpenSource]:
    """Context manager that opens the tree of ``source``.

    Every function that reads files uses it, so that the same files count as bad: those for which it raises may be left out on request.
    Damage that is found only when events are read is always an error, since nobody would know which events are missing.

    Raises:
        BadFileError: the file is missing, truncated, damaged or not a ROOT file, or has no such tree.
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
                tree.keys(recursive=False)  # uproot reads the header of an RNTuple only now
        except DataError as error:
            raise BadFileError(str(error)) from error
        if entries < 0:
            raise BadFileError(f"'{source.path}' is damaged: its tree has {entries} entries")
        yield OpenSource(tree, name, entries)

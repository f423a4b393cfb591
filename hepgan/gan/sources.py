"""Sources of GANs: a folder, or an address whose files are downloaded once into the user's cache.

| source | content |
|---|---|
| ``runs/showers`` | a folder on this machine |
| ``https://HOST/PATH.zip`` (``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.bz2``, ``.tar.xz``) | an archive of a GAN's folder |
| ``https://HOST/PATH`` | address of a GAN's folder |
| ``zenodo:RECORD``, ``zenodo:RECORD/FILE.zip`` | a record with the files of a folder, or with an archive |
| ``hf:ORG/NAME``, ``hf:ORG/NAME@REVISION`` | a repository of the Hugging Face Hub |

``#sha256=…`` at the end of an address pins its content: the SHA-256 of an archive, or that of the output of ``sha256sum`` for those of
``FILES`` that are there. Only ``FILES`` are kept, under their own names, and nothing in them is executed.

Environment variables: ``HEPGAN_CACHE``, folder of the downloads; ``HEPGAN_ZENODO`` and ``HF_ENDPOINT``, other servers than
``https://zenodo.org`` and ``https://huggingface.co``.
"""

import gzip
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import quote, urlsplit

from hepgan.atomic import hidden_folder, os_errors_as_run_error, write_text
from hepgan.config import short_repr
from hepgan.data.io.names import printable
from hepgan.errors import CheckpointError, RunError

log = logging.getLogger(__name__)

FILES = ("gan.json", "generator.safetensors", "run.toml", "scores.json")
"""Files that are downloaded; only the first two are necessary."""

MAX_BYTES = 2**32
"""Largest size of a download, and of the content of an archive."""

MAX_LISTING_BYTES = 2**24
"""Largest answer of a server that lists files."""

MAX_MEMBERS = 10_000
"""Largest number of files in an archive."""

TIMEOUT = (10.0, 60.0)
"""Longest time to connect, and between two parts of an answer [s]."""

_HEADERS = {"Accept-Encoding": "identity"}  # the bytes of the file, whose SHA-256 is known
_NECESSARY = FILES[:2]
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_STAMP = "source.json"
_SHA256 = re.compile(r"sha256=([0-9a-fA-F]{64})")


class _Content(NamedTuple):
    """Files of a source.

    Attributes:
        urls: Addresses by name: an archive, or files of a folder.
        archive: Whether it is an archive.
        listed: Whether all files exist; otherwise those that are not necessary may be missing.
    """

    urls: Mapping[str, str]
    archive: bool
    listed: bool = True


def is_remote(source: str | os.PathLike[str]) -> bool:
    """Returns whether ``source`` is an address.

    >>> is_remote("hf:hepgan/showers"), is_remote("runs/showers")
    (True, False)
    """
    return os.fspath(source).partition(":")[0] in _SCHEMES and ":" in os.fspath(source)


def local_folder(source: str | os.PathLike[str]) -> Path:
    """Returns the folder of ``source``; an address is downloaded into the cache unless it is there.

    Raises:
        RunError: the address is invalid, the server cannot be reached or has no such file, or the extra ``remote`` is not installed.
        CheckpointError: the content has another SHA-256 than the address says, is too large, or is not a GAN.
    """
    if not is_remote(source):
        return Path(source)
    name, mark, fragment = os.fspath(source).partition("#")
    pin = _SHA256.fullmatch(fragment)
    if mark and not pin:
        raise RunError(
            f"{short_repr(source)}: after # there should be sha256= and 64 hexadecimal digits"
        )
    expected = pin[1].lower() if pin else None
    if name.startswith("http:") and not expected:
        raise RunError(
            f"{short_repr(name)} is not encrypted; use https, or pin the content with #sha256=…"
        )
    folder = _cached_folder(name)
    cached = _cached_digest(folder)
    if cached and expected in (None, cached):
        log.info("%s is in the cache, %s; remove this folder to download it again", name, folder)
        return folder
    digest = _download(name, folder, expected)
    if expected is None:
        log.warning("%s has been downloaded; pin it with %s#sha256=%s", name, name, digest)
    return folder


def cache_folder() -> Path:
    """Returns the folder of the downloads: ``HEPGAN_CACHE``, or ``hepgan`` in the user's cache folder.

    Raises:
        RunError: the extra ``remote`` is not installed.
    """
    if folder := os.environ.get("HEPGAN_CACHE"):
        return Path(folder)
    try:
        import platformdirs
    except ImportError as error:
        raise _missing_extra() from error
    return Path(platformdirs.user_cache_dir("hepgan", appauthor=False))


def _cached_folder(name: str) -> Path:
    server = _servers().get(name.partition(":")[0], "")
    digest = hashlib.sha256(f"{server} {name}".encode()).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", name)[:80]
    return cache_folder() / "gans" / f"{readable}-{digest[:12]}"


def _cached_digest(folder: Path) -> str | None:
    """Returns the SHA-256 of a download; ``None`` if there is none, or a file is missing."""
    if not all((folder / name).is_file() for name in _NECESSARY):
        return None
    try:
        return str(json.loads((folder / _STAMP).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _download(name: str, folder: Path, expected: str | None) -> str:
    """Downloads the source ``name`` into ``folder``, completely or not at all, and returns its SHA-256."""
    content = _SCHEMES[name.partition(":")[0]](name)
    with os_errors_as_run_error(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with hidden_folder(folder) as part, os_errors_as_run_error(folder):
        gan, downloads = part / "gan", part / "downloads"
        gan.mkdir()
        downloads.mkdir()
        paths = {}
        for number, (file, url) in enumerate(content.urls.items()):
            path = downloads / str(number)  # names from a server are not used as paths
            if _download_file(url, path, name):
                paths[file] = path
            elif content.listed or file in _NECESSARY:
                raise RunError(f"{name} has no file {printable(file)}; check the address")
        digest = _digest(paths, archive=content.archive)
        if expected and digest != expected:
            raise CheckpointError(
                f"{name} has the SHA-256 {digest}, not {expected}; it has been changed, ask its authors before you use it"
            )
        if content.archive:
            (path,) = paths.values()
            with _archive_errors(name):
                _extract(path, gan, name)
        else:
            for file, path in paths.items():
                path.rename(gan / file)
        write_text(gan / _STAMP, json.dumps({"source": name, "sha256": digest}) + "\n")
        if _cached_digest(folder) != digest:  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            gan.rename(folder)
    return digest


def _digest(paths: Mapping[str, Path], *, archive: bool) -> str:
    sums = {}
    for name, path in sorted(paths.items()):
        with path.open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    if archive:
        return next(iter(sums.values()))
    lines = (f"{digest}  {name}\n" for name, digest in sums.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# Schemes


def _web(name: str) -> _Content:
    try:
        parts = urlsplit(name)
    except ValueError as error:
        raise RunError(f"{short_repr(name)} is not an address: {error}") from error
    path = parts.path.rstrip("/")
    if not parts.netloc or parts.username:
        raise RunError(f"{short_repr(name)} should be https://HOST/PATH, without user and password")
    if path.lower().endswith(_ARCHIVES):
        return _Content({path.rpartition("/")[2]: name}, archive=True)
    urls = {file: parts._replace(path=f"{path}/{file}").geturl() for file in FILES}
    return _Content(urls, archive=False, listed=False)


def _zenodo(name: str) -> _Content:
    record, _, wanted = name.removeprefix("zenodo:").partition("/")
    if not re.fullmatch(r"[0-9]{1,20}", record):
        raise RunError(f"{short_repr(name)}: write zenodo:RECORD with the number of a record")
    base = f"{_servers()['zenodo']}/api/records/{record}"
    listing = _json(base, name)
    files = _names(listing.get("files"), "key")
    urls = {file: f"{base}/files/{quote(file, safe='')}/content" for file in files}
    if not wanted and set(_NECESSARY) <= urls.keys():
        return _Content({file: urls[file] for file in FILES if file in urls}, archive=False)
    archives = [file for file in urls if file.lower().endswith(_ARCHIVES)]
    if not wanted and len(archives) == 1:
        return _Content({archives[0]: urls[archives[0]]}, archive=True)
    if wanted in archives:
        return _Content({wanted: urls[wanted]}, archive=True)
    known = ", ".join(map(printable, archives)) or "no archive"
    raise RunError(
        f"{name.removesuffix(f'/{wanted}')} holds {known}"
        + (f", but not {printable(wanted)}" if wanted else "; write zenodo:RECORD/FILE")
    )


def _hugging_face(name: str) -> _Content:
    repository, _, revision = name.removeprefix("hf:").partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository):
        raise RunError(f"{short_repr(name)}: write hf:ORG/NAME or hf:ORG/NAME@REVISION")
    server = _servers()["hf"]
    path = f"api/models/{repository}/revision/{quote(revision or 'main', safe='')}"
    listing = _json(f"{server}/{path}", name)
    files = _names(listing.get("siblings"), "rfilename")
    if missing := set(_NECESSARY) - set(files):
        raise RunError(f"{name} has no file {min(missing)}; it is not the folder of a GAN")
    commit = quote(str(listing.get("sha")), safe="")
    base = f"{server}/{repository}/resolve/{commit}"
    return _Content({file: f"{base}/{file}" for file in FILES if file in files}, archive=False)


_SCHEMES: Mapping[str, Callable[[str], _Content]] = {
    "https": _web,
    "http": _web,
    "zenodo": _zenodo,
    "hf": _hugging_face,
}


def _servers() -> dict[str, str]:
    return {
        "zenodo": os.environ.get("HEPGAN_ZENODO", "https://zenodo.org").rstrip("/"),
        "hf": os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"),
    }


def _names(rows: Any, key: str) -> list[str]:
    """Returns the file names in the listing of a server."""
    rows = rows if isinstance(rows, list) else []
    return [row[key] for row in rows if isinstance(row, dict) and isinstance(row.get(key), str)]


# HTTP


def _json(url: str, name: str) -> dict[str, Any]:
    content = bytearray()
    with _answer(url, name) as parts:
        if parts is None:
            raise RunError(f"there is no {name} on {urlsplit(url).netloc}; check its name")
        for part in parts:
            content += part
            if len(content) > MAX_LISTING_BYTES:
                raise RunError(f"{name}: {urlsplit(url).netloc} lists too many files")
    try:
        listing = json.loads(content)
    except (ValueError, RecursionError):
        listing = None
    if not isinstance(listing, dict):
        raise RunError(f"{name}: the answer of {urlsplit(url).netloc} is not a list of files")
    return listing


def _download_file(url: str, path: Path, name: str) -> bool:
    """Downloads a file to ``path``; returns whether there is such a file."""
    size = 0
    with _answer(url, name) as parts:
        if parts is None:
            return False
        with path.open("wb") as file:
            for part in parts:
                size += file.write(part)
                if size > MAX_BYTES:
                    raise _too_large(name)
    return True


@contextmanager
def _answer(url: str, name: str) -> Iterator[Iterator[bytes] | None]:
    """Context manager that yields the parts of a server's answer; ``None`` if there is no such file."""
    try:
        import requests
    except ImportError as error:
        raise _missing_extra() from error
    server = urlsplit(url).netloc
    elsewhere = "download the folder elsewhere and pass its path"
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=_HEADERS) as answer:
            if url.startswith("https:") and not answer.url.startswith("https:"):
                raise RunError(f"{name}: {server} leads to an address that is not encrypted")
            if answer.status_code in (403, 404, 410):
                yield None
                return
            if answer.status_code != 200:
                raise RunError(
                    f"{name} cannot be downloaded: {server} answers {answer.status_code}; try again later, or {elsewhere}"
                )
            yield answer.iter_content(2**20)
    except requests.RequestException as error:
        raise RunError(
            f"{name} cannot be downloaded: {server} cannot be reached ({type(error).__name__}); check the network, or {elsewhere}"
        ) from error


def _missing_extra() -> RunError:
    return RunError("downloading needs the extra remote: pip install 'hepgan[remote]'")


# Archives


class _Member(NamedTuple):
    """File in an archive."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes] | None]


def _extract(archive: Path, folder: Path, name: str) -> None:
    """Extracts those of ``FILES`` that lie beside the only ``gan.json`` of an archive.

    Raises:
        CheckpointError: a member is a link or leads outside, the content is too large, or there is not one GAN.
    """
    with _open(archive) as found:
        members, size = {}, 0
        for member in found:
            if member.path.is_absolute() or ".." in member.path.parts:
                raise CheckpointError(f"{name}: {printable(str(member.path))} leads outside")
            members[member.path] = member
            size += member.size
            if size > MAX_BYTES or len(members) > MAX_MEMBERS:
                raise _too_large(name)
        folders = [path.parent for path in members if path.name == _NECESSARY[0]]
        if len(folders) != 1:
            number = "several GANs" if folders else "no gan.json"
            raise CheckpointError(f"{name} holds {number}; pack the folder of one GAN")
        for file in FILES:
            if (chosen := members.get(folders[0] / file)) is None:
                if file in _NECESSARY:
                    raise CheckpointError(f"{name} has no {file} beside its gan.json")
                continue
            content = chosen.open()
            if content is None:
                raise CheckpointError(f"{name}: {file} is not a file")
            with content, (folder / file).open("wb") as target:
                shutil.copyfileobj(content, target)


@contextmanager
def _open(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _zip_members(zipped)
    else:
        with tarfile.open(archive) as tarred:
            yield _tar_members(tarred)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _link(info.filename)
        if not info.is_dir():
            # Windows separators are a way outside, too.
            path = PurePosixPath(info.filename.replace("\\", "/"))
            yield _Member(path, info.file_size, partial(archive.open, info))


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        if info.isdir():
            continue
        if not info.isreg():
            raise _link(info.name)
        yield _Member(PurePosixPath(info.name), info.size, partial(archive.extractfile, info))


@contextmanager
def _archive_errors(name: str) -> Iterator[None]:
    """Context manager that turns the errors of damaged, encrypted and unsupported archives into one sentence."""
    try:
        yield
    except (
        zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, LZMAError, EOFError, NotImplementedError, RuntimeError,
        ValueError,
    ) as error:  # fmt: skip
        raise CheckpointError(f"{name} is not an archive that can be read: {error}") from error


def _link(path: str) -> CheckpointError:
    return CheckpointError(
        f"{printable(path)} in the archive is a link or a device; pack files only"
    )


def _too_large(name: str) -> CheckpointError:
    return CheckpointError(f"{name} is larger than {MAX_BYTES / 2**30:g} GiB, the most allowed")

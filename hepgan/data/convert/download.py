"""Download, verification and conversion of published data sets."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hepgan.data.convert import mnist
from hepgan.data.io.writer import write
from hepgan.errors import DataError, did_you_mean

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
}
# Source files and their MD5 by output file.
FILES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "mnist": {
        "mnist_train.root": {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        },
        "mnist_test.root": {
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    }
}


def fetch(
    name: str,
    folder: str | os.PathLike[str] = ".",
    *,
    mirrors: Sequence[str] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Downloads a data set, verifies its hashes and converts it to ROOT files in ``folder``.

    Downloads are kept in the user's cache.

    Args:
        name: ``mnist``.
        folder: Folder for the ROOT files.
        mirrors: URLs of folders, tried in order; ``MIRRORS`` if ``None``.
        overwrite: Replace existing files.

    Returns:
        The ROOT files: training digits, test digits.

    Raises:
        DataError: the name is unknown, no mirror can be reached, a hash is wrong, or a file exists.
    """
    if name not in FILES:
        raise DataError(
            f"cannot fetch '{name}'; the known data sets are: {', '.join(FILES)}{did_you_mean(name, FILES)}"
        )
    targets = [Path(folder) / target for target in FILES[name]]
    for target in targets:
        if target.exists() and not overwrite:
            raise DataError(
                f"'{target}' exists; choose another folder with -o, or replace it with --overwrite"
            )
    for target in targets:
        sources = [
            _download(file, md5, mirrors or MIRRORS[name])
            for file, md5 in FILES[name][target.name].items()
        ]
        digits = mnist.digits(sources)
        write(target, digits.chunks, digits.schema, tree=digits.tree, overwrite=overwrite)
    return targets


def _download(file: str, md5: str, mirrors: Sequence[str]) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise DataError("fetching needs pooch: pip install pooch") from error
    failures = []
    for mirror in mirrors:
        try:
            path = pooch.retrieve(
                mirror + file, f"md5:{md5}", fname=file, path=pooch.os_cache("hepgan")
            )
        except OSError as error:
            failures.append(f"{mirror}: {type(error).__name__}")
        except ValueError as error:  # pooch raises it for a wrong hash
            failures.append(f"{mirror}: {error}")
        else:
            return Path(path)
    raise DataError(
        f"'{file}' cannot be downloaded ({'; '.join(failures)}); download the files elsewhere and convert them: "
        "hepgan convert mnist IMAGES.gz LABELS.gz OUT.root"
    )

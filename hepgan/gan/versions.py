"""Versions of the folder of a GAN, ``gan.json`` and ``generator.safetensors``.

The current version and the one before are read; ``hepgan upgrade`` rewrites older ones. A change of the format increases ``VERSION`` and
registers one function, which turns the files of the version before into those of the next.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hepgan.errors import CheckpointError

VERSION = 4
"""Version that is written."""

Metadata = dict[str, Any]
Tensors = dict[str, Tensor]
Migration = Callable[[Metadata, Tensors], tuple[Metadata, Tensors]]
"""Function of ``gan.json`` and the tensors of ``generator.safetensors``; the new metadata do not depend on the tensors."""

MIGRATIONS: dict[int, Migration] = {}
"""By the version that they start from."""


def register_migration(version: int) -> Callable[[Migration], Migration]:
    """Registers the function from ``version`` to the next."""

    def register(function: Migration) -> Migration:
        MIGRATIONS[version] = function
        return function

    return register


@register_migration(3)
def _defaults(metadata: Metadata, tensors: Tensors) -> tuple[Metadata, Tensors]:
    """Adds the geometry and the shapes of the discriminators' inputs, which files of version 3 may lack."""
    shapes = [[metadata["discriminator_features"]]]
    return {"geometry": {}, "discriminator_shapes": shapes, **metadata}, tensors


def check_version(metadata: Mapping[str, Any], path: Path) -> None:
    """Checks that files of the version of ``metadata`` are read: the current one and the one before.

    Raises:
        CheckpointError: they are of another version.
    """
    version = version_of(metadata, path)
    if version < VERSION - 1:
        raise CheckpointError(
            f"{path} is of version {version}, but this hepgan reads versions {VERSION - 1} and {VERSION}; run hepgan upgrade {path.parent}"
        )


def version_of(metadata: Mapping[str, Any], path: Path) -> int:
    """Returns the version of ``metadata``.

    Raises:
        CheckpointError: it is that of a later hepgan, one that cannot be upgraded, or not a version.
    """
    version = metadata.get("version")
    if type(version) is not int:
        raise CheckpointError(f"{path} is damaged: its version is {version!r:.80}")
    if version > VERSION:
        raise CheckpointError(
            f"{path} is of version {version}, but this hepgan reads versions up to {VERSION}; update hepgan: pip install -U hepgan"
        )
    if not set(range(version, VERSION)) <= MIGRATIONS.keys():
        raise CheckpointError(
            f"{path} is of version {version}, from before the first release, which cannot be upgraded; train again, or use the hepgan"
            " that wrote it"
        )
    return version


def migrate(
    metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> tuple[Metadata, Tensors]:
    """Returns the files of a GAN in the current version.

    Raises:
        CheckpointError: the version is unknown, or ``gan.json`` is damaged.
    """
    new, values = dict(metadata), dict(tensors)
    for version in range(version_of(metadata, path), VERSION):
        try:
            new, values = MIGRATIONS[version](new, values)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {error!r}") from error
        new["version"] = version + 1
    return new, values


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Returns the content of ``gan.json``."""
    return json.dumps(metadata, indent=2) + "\n"

"""Trained GANs on disk: ``gan.json`` and ``generator.safetensors`` (never pickle)."""

import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hepgan.atomic import hidden_folder, write_bytes, write_text
from hepgan.config import from_table, to_table
from hepgan.data.encoding.base import NAMES, NETWORKS
from hepgan.data.encoding.encoding import Encoding
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, DataError, LayoutError, RunError
from hepgan.evaluation.metrics.scores import Scores
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan import pretrained, sources
from hepgan.gan.devices import is_out_of_memory, out_of_memory_as_run_error, resolve_device
from hepgan.gan.members import count_members, gan_folder, member_name
from hepgan.gan.model import GAN, KeptStep
from hepgan.gan.networks import GANSettings, count_parameters
from hepgan.gan.versions import VERSION, check_version, metadata_text, migrate, version_of
from hepgan.layout.memory import available
from hepgan.layout.spec.base import Shape
from hepgan.plugins import import_plugins, plugins_of, require_plugins

log = logging.getLogger(__name__)

_MAX_JSON_BYTES = 2**24
"""Largest ``gan.json`` that is read; enough for a hundred thousand branches."""

_MAX_HEADER_BYTES = 2**22
"""Largest header of a safetensors file that is read; enough for 40,000 tensors, but not for a million empty ones."""


def save(gan: GAN, folder: str | os.PathLike[str]) -> None:
    """Writes ``generator.safetensors`` (with the encoding's constants) and ``gan.json``; see ``GAN.save``."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be created: {error.strerror}") from error
    table, constants = gan.encoding.pack()
    weights = with_prefix("generator", gan.generator.state_dict()) | constants
    metadata = {
        "version": VERSION,
        "tree": gan.tree,
        "schema": to_table(gan.schema),
        "geometry": {name: to_table(layer) for name, layer in gan.geometry.items()},
        "encoding": table,
        "gan": to_table(gan.settings),
        "discriminator_features": gan.discriminator_features,
        "discriminator_shapes": list(map(list, gan.discriminator_shapes)),
        "plugins": list(plugins_of(gan.encoding.steps, gan.settings.all_layouts)),
    }
    if gan.started_from:
        metadata["started_from"] = gan.started_from
    if gan.kept:
        metadata |= {"kept_step": gan.kept.step, "steps": gan.kept.steps}
        metadata |= {} if gan.kept.score is None else {"validation_score": gan.kept.score}
    write_tensors(folder / "generator.safetensors", weights)
    write_text(folder / "gan.json", metadata_text(metadata))


def load(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "auto",
    plugins: Sequence[str] = (),
    member: int | None = None,
) -> GAN:
    """Reads a GAN; see ``GAN.load``."""
    device = resolve_device(device)
    import_plugins(plugins)
    path = sources.local_folder(path)
    shipped = pretrained.find(path)
    folder = shipped or gan_folder(path, member)
    json_path, weights_path = folder / "gan.json", folder / "generator.safetensors"
    metadata = _read_json(json_path)
    check_version(metadata, json_path)
    _check_plugins(metadata, json_path)
    weights = (
        safetensors.torch.load(pretrained.weights(shipped))
        if shipped
        else read_tensors(weights_path)
    )
    metadata, weights = migrate(metadata, weights, json_path)
    check_finite(weights, weights_path, hint="train again")
    generator = without_prefix("generator", weights)
    try:
        schema = Schema.from_table(metadata["schema"])
        encoding = _unpack_encoding(schema, metadata["encoding"], weights, json_path)
        settings = from_table(GANSettings, metadata["gan"], where="gan")
        shapes, tree = _discriminator_shapes(metadata), str(metadata["tree"])
        geometry = {
            str(name): from_table(LayerGeometry, table, where=f"geometry.{name}")
            for name, table in dict(metadata["geometry"]).items()
        }
        _check_size(settings, encoding, shapes, generator, weights_path)
        gan = GAN.build(
            settings, encoding,
            seed=0, discriminator_shapes=shapes, geometry=geometry, tree=tree,
        )  # fmt: skip
        # Constants of inconsistent shapes fail when events are decoded; a single event could hide them by broadcasting.
        for events in (1, 3 if encoding.features == 2 else 2):
            encoding.decode(
                torch.zeros(events, encoding.features), torch.zeros(events, encoding.conditions)
            )
        gan = dataclasses.replace(
            gan,
            kept=_kept_step(metadata),
            started_from=str(metadata.get("started_from", "")),
            scores=_read_scores(Path(path), member or 0)
            if count_members(path)
            else _read_scores(folder),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RunError, LayoutError) as error:
        raise CheckpointError(f"{json_path} is damaged: {error}") from error
    except (RuntimeError, IndexError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"the GAN of {folder} does not fit into memory") from error
        raise CheckpointError(
            f"{json_path} is damaged: its encoding does not decode its events ({error})"
        ) from error
    load_weights(gan.generator, generator, weights_path)
    gan.generator.eval()
    with out_of_memory_as_run_error(f"the GAN of {folder}", device, hint="choose another device"):
        return gan.to(device)


def read_kept_step(folder: Path) -> KeptStep | None:
    """Returns the training step whose generator ``folder`` holds, if its ``gan.json`` names one; of an ensemble, that of the first member.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = gan_folder(folder) / "gan.json"
    metadata = _read_json(path)
    check_version(metadata, path)
    try:
        return _kept_step(migrate(metadata, {}, path)[0])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def upgrade(
    folder: str | os.PathLike[str], *, overwrite: bool = False, plugins: Sequence[str] = ()
) -> int:
    """Rewrites the GAN in ``folder`` in the current version of the format, after having loaded it.

    The files of the old version are kept as ``gan.json.v3`` and, if it changes, ``generator.safetensors.v3``. ``gan.json`` is replaced
    last; until then, the folder is of the old version.

    Args:
        folder: Folder of a GAN.
        overwrite: Whether to replace files that an earlier upgrade has kept.
        plugins: Modules to import first.

    Returns:
        The version before.

    Raises:
        CheckpointError: there is no GAN, it is damaged, or its version cannot be upgraded.
        RunError: a plugin is not imported, a file exists, or the folder cannot be written.
    """
    folder = Path(folder)
    json_path, weights_path = folder / "gan.json", folder / "generator.safetensors"
    before, tensors = _read_json(json_path), read_tensors(weights_path)
    version = version_of(before, json_path)
    if version == VERSION:
        return version
    metadata, weights = migrate(before, tensors, json_path)
    changed = [weights_path] if _differ(tensors, weights) else []
    copies = {path: path.with_name(f"{path.name}.v{version}") for path in (*changed, json_path)}
    if existing := [copy for copy in copies.values() if copy.exists() and not overwrite]:
        raise RunError(f"{existing[0]} exists; remove it, or replace it with --overwrite")
    with hidden_folder(folder / "upgrade") as part:
        write_tensors(part / weights_path.name, weights)
        write_text(part / json_path.name, metadata_text(metadata))
        load(part, device="cpu", plugins=plugins)
    for path, copy in copies.items():
        write_bytes(copy, path.read_bytes())
    if changed:
        write_tensors(weights_path, weights)
    write_text(json_path, metadata_text(metadata))
    return version


def _differ(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() != other.keys() or any(
        one[name].dtype != other[name].dtype or not torch.equal(one[name], other[name])
        for name in one
    )


def _read_scores(folder: Path, member: int | None = None) -> Scores:
    """Returns the scores of a run folder, of one ``member`` of an ensemble; none, with a warning, if its ``scores.json`` is damaged: generating does not need them."""
    path = folder / "scores.json"
    if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
        return Scores()
    try:
        scores = Scores.read(path)
        return Scores(s for s in scores if member is None or s.source == member_name(member))
    except DataError as error:
        log.warning("%s", error)
        return Scores()


def _kept_step(metadata: Mapping[str, Any]) -> KeptStep | None:
    if "kept_step" not in metadata:
        return None
    score = metadata.get("validation_score")
    number = None if score is None else float(score)
    steps = non_negative_int(metadata["steps"])
    fit = "" if steps else _about_fit(metadata.get("encoding"))
    return KeptStep(non_negative_int(metadata["kept_step"]), steps, number, fit)


def _about_fit(encoding: Any) -> str:
    """Returns the numbers of networks and of training events of a packed encoding, such as "28 networks fitted to 2,039 events"."""
    names = {NAMES[kind] for kind in NETWORKS}
    networks, parts = 0, [encoding]
    while parts:
        part = parts.pop()
        if isinstance(part, Mapping):
            networks += part.get("step") in names
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    events = encoding.get("fitted_events") if isinstance(encoding, Mapping) else None
    if not isinstance(events, int) or not events:
        return ""
    count = {0: "", 1: "1 network "}.get(networks, f"{networks} networks ")
    return f"{count}fitted to {events:,} events"


def _discriminator_shapes(metadata: Mapping[str, Any]) -> tuple[Shape, ...]:
    """Returns the shapes of the discriminators' inputs.

    Raises:
        ValueError: they do not hold the number of values that the file names.
    """
    features = int(metadata["discriminator_features"])
    shapes = metadata["discriminator_shapes"]
    result = tuple(tuple(map(int, shape)) for shape in shapes)
    if sum(map(math.prod, result)) != features:
        raise ValueError(f"discriminator_shapes = {shapes} do not hold {features} values")
    return result


def _check_plugins(metadata: Mapping[str, Any], path: Path) -> None:
    """Checks that the user has imported the plugins of a saved GAN: opening a file never runs code.

    Raises:
        RunError: a plugin has not been imported.
    """
    names = metadata.get("plugins", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path} is damaged: plugins = {names!r} is not a list of modules")
    require_plugins(names, source=path)


def _unpack_encoding(
    schema: Schema, table: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> Encoding:
    try:
        return Encoding.unpack(schema, table, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_size(
    settings: GANSettings,
    encoding: Encoding,
    discriminator_shapes: tuple[Shape, ...],
    weights: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Rejects a layout with more parameters than the file has, before memory is allocated for them."""
    counts = count_parameters(settings, encoding, discriminator_shapes=discriminator_shapes)
    stored = sum(tensor.numel() for tensor in weights.values())
    if stored < (expected := counts["generator"]):
        raise CheckpointError(
            f"{path} belongs to other networks: it holds {stored:,} numbers, but the generator has {expected:,} parameters"
        )


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes ``tensors`` to the safetensors file ``path`` atomically.

    Raises:
        RunError: the system cannot write the file; an existing file is left unchanged.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # save_file would create a file that only its owner can read.
    write_bytes(path, safetensors.torch.save(plain, metadata))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file.

    Raises:
        CheckpointError: the file is missing, damaged or larger than the free memory.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the folder of a finished run")
    if (size := path.stat().st_size) > (free := available()):
        raise CheckpointError(f"{path} has {size:,} bytes, but {free:,} bytes of memory are free")
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > _MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{path} is damaged: its header has {header:,} bytes, more than the largest that is allowed"
            )
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def read_metadata(path: Path, version: int) -> dict[str, Any]:
    """Reads the JSON object that hepgan keeps in the header of a safetensors file of ``version``.

    Raises:
        CheckpointError: the file is damaged, not written by hepgan, or of another version.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("state", "")
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of hepgan") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path} is not a checkpoint of hepgan")
    if (found := metadata.get("version")) != version:
        raise CheckpointError(
            f"{path} is of version {found}, but this hepgan reads version {version}; continue with the hepgan that wrote it, or train"
            " again"
        )
    return metadata


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist; give the folder of a finished run, or of a stopped one (a killed one continues with --resume)"
        )
    if (size := path.stat().st_size) > _MAX_JSON_BYTES:
        raise CheckpointError(f"{path} has {size:,} bytes, more than the largest that is allowed")
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"), parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path} does not describe a GAN")
    return metadata


def _reject_constant(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")


def check_finite(tensors: Mapping[str, Tensor], path: Path, *, hint: str) -> None:
    """Rejects tensors that hepgan never writes and that would corrupt every generated event.

    Raises:
        CheckpointError: a tensor is of an 8-bit floating-point type, or not finite; names it.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.itemsize < 2:
            raise CheckpointError(f"{path} is damaged: its tensor '{name}' is of {tensor.dtype}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path} is damaged: its tensor '{name}' is not finite; {hint}")


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Loads ``weights`` of the file ``path`` into ``network``.

    Raises:
        CheckpointError: they do not fit the network.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path} belongs to other networks: {first}") from error


def non_negative_int(value: Any) -> int:
    """Returns ``value`` if it is an integer from 0 to 2^63 − 1.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is not a number of steps")
    return value


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns ``tensors`` under ``prefix.name``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns those of ``tensors`` that ``with_prefix`` named, under their own names."""
    start = prefix + "."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

"""Training checkpoints, from which a training resumes bit for bit, and the encoding beside them (safetensors, never pickle)."""

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepgan.atomic import os_errors_as_run_error, subfolder
from hepgan.data.encoding.encoding import Encoding
from hepgan.data.io.files import base_name
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, RunError
from hepgan.gan.devices import is_out_of_memory
from hepgan.gan.serialization import (
    check_finite,
    load_weights,
    non_negative_int,
    read_metadata,
    read_tensors,
    with_prefix,
    without_prefix,
    write_tensors,
)
from hepgan.gan.training.state import TrainingState, start_phase

ENCODING = "encoding.safetensors"
"""Name of the file beside the checkpoints that holds the encoding."""

VERSION = 3
"""Version of the checkpoints; those of other versions are rejected."""

_REMOVE_ENCODING = "remove it to fit the encoding again"
_REMOVE = "remove it to resume from the previous checkpoint, or to start again if there is none"


def save_checkpoint(state: TrainingState, folder: Path, *, keep: int) -> Path:
    """Writes ``state`` to ``checkpoints/step-….safetensors`` and removes all but the last ``keep`` checkpoints."""
    tensors = with_prefix("generator", state.gan.generator.state_dict())
    tensors |= with_prefix("discriminator", state.gan.discriminator.state_dict())
    tensors |= with_prefix("ema", state.ema.state_dict())
    tensors |= with_prefix("best", state.best)
    for name, network in _of_encoding(state).items():
        tensors |= with_prefix(name, network.state_dict())
    tensors |= with_prefix("best_encoding", state.best_encoding)
    tensors |= with_prefix("augmentation", {"probability": state.augmentation})
    for name, optimizer in state.optimizers.items():
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= with_prefix(f"optimizer.{name}.{number}", values)
    metadata = {
        "version": VERSION,
        "phase": state.phase,
        "phase_start": state.phase_start,
        "validations_without_improvement": state.validations_without_improvement,
        "step": state.step,
        "seconds": state.seconds,
        "best_score": state.best_score,
        "best_step": state.best_step,
        "loader": state.loader.state_dict(),
        "files": _fingerprints_by_name(state.origin.files),
        "encoding": state.origin.encoding,
        "started_from": state.gan.started_from,
    }
    path = folder / "checkpoints" / f"step-{state.step:08d}.safetensors"
    subfolder(path.parent)
    write_tensors(path, tensors, {"state": json.dumps(metadata)})
    with os_errors_as_run_error(path):
        for old in sorted(path.parent.glob("step-*.safetensors"))[:-keep]:
            old.unlink()
    return path


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the last checkpoint of a run folder, ``None`` if there is none."""
    checkpoints = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    return checkpoints[-1] if checkpoints else None


def load_checkpoint(state: TrainingState, path: Path) -> None:
    """Restores ``state`` from the checkpoint ``path``.

    On the same type of device the training continues bit for bit; a checkpoint can be resumed on any other.

    Raises:
        CheckpointError: the file is damaged, or belongs to other networks or other data.
        RunError: the device's memory is too small.
    """
    check_files(state.origin.files, path)
    try:
        tensors, metadata = read_tensors(path), read_metadata(path, VERSION)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_REMOVE}") from error
    if metadata.get("encoding") != state.origin.encoding:
        raise CheckpointError(
            f"{path} belongs to another encoding than {path.parent / ENCODING}, or than the one fitted on this machine if"
            " that file is missing; restore the file, or train again in another folder with -o"
        )
    try:
        _restore_phase(state, metadata, path)
        _restore_networks(state, tensors, path)
        started_from = str(metadata.get("started_from", ""))
        state.gan = dataclasses.replace(state.gan, started_from=started_from)
        state.augmentation = tensors["augmentation.probability"].to(state.gan.device)
        state.step = non_negative_int(metadata["step"])
        state.seconds = float(metadata["seconds"])
        state.best_score = float(metadata["best_score"])
        state.best_step = non_negative_int(metadata["best_step"])
        state.loader.load_state_dict(
            {key: non_negative_int(value) for key, value in metadata["loader"].items()}
        )
        for name, optimizer in state.optimizers.items():
            _restore_optimizer(optimizer, without_prefix(f"optimizer.{name}", tensors))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:  # fmt: skip
        if is_out_of_memory(error):
            raise RunError(
                f"{path} does not fit into the memory of '{state.gan.device}'"
            ) from error
        raise CheckpointError(f"{path} is damaged: {error!r}; {_REMOVE}") from error


def _restore_phase(state: TrainingState, metadata: Mapping[str, Any], path: Path) -> None:
    keys = "phase", "phase_start", "validations_without_improvement"
    phase, phase_start, validations = (non_negative_int(metadata[key]) for key in keys)
    if phase >= len(state.phases):
        raise CheckpointError(
            f"{path} was written in phase {phase + 1}, but the run has {len(state.phases)}"
        )
    start_phase(state, phase, phase_start=phase_start)
    state.validations_without_improvement = validations


def _restore_networks(state: TrainingState, tensors: Mapping[str, Tensor], path: Path) -> None:
    weights = {n: t for n, t in tensors.items() if not n.startswith("optimizer.")}
    check_finite(weights, path, hint=_REMOVE)
    networks = {
        "generator": state.gan.generator,
        "discriminator": state.gan.discriminator,
        "ema": state.ema,
        **_of_encoding(state),
    }
    for name, network in networks.items():
        load_weights(network, without_prefix(name, tensors), path)
    state.best = _best(state.ema, without_prefix("best", tensors), path)
    if state.ema_encoding:
        best = without_prefix("best_encoding", tensors)
        state.best_encoding = _best(state.ema_encoding, best, path)


def _of_encoding(state: TrainingState) -> dict[str, nn.Module]:
    """Returns the networks of an encoding in training and their moving average, by their names in a checkpoint."""
    if not (state.encoding and state.ema_encoding):
        return {}
    return {"encoding": state.encoding, "ema_encoding": state.ema_encoding}


def _best(network: nn.Module, weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Returns the best weights on the device of ``network``, if they fit it; there are none before the first validation."""
    if not weights:
        return {}
    fitting = copy.deepcopy(network)
    load_weights(fitting, weights, path)
    return fitting.state_dict()


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        if tensor.dim() and tensor.shape != weights[int(number)].shape:
            raise ValueError(f"the optimizer's {name} has shape {tuple(tensor.shape)}")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def check_files(files: Mapping[str, str], path: Path) -> None:
    """Checks that the input files are those that the checkpoint ``path`` was trained with.

    Args:
        files: Fingerprints by path, as in ``Origin``.
        path: Checkpoint.

    Raises:
        CheckpointError: a file has changed, is new or is missing; names it.
    """
    try:
        before = [(str(name), str(mark)) for name, mark in read_metadata(path, VERSION)["files"]]
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_REMOVE}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; {_REMOVE}") from error
    now = _fingerprints_by_name(files)
    if before == now:
        return
    names, names_before = [name for name, _ in now], [name for name, _ in before]
    if added := [file for file in files if base_name(file) not in names_before]:
        problem = f"the input file {added[0]} is not among those that {path} was trained with"
    elif missing := [name for name in names_before if name not in names]:
        problem = (
            f"{path} was trained with the input file {missing[0]}, which is no longer among them"
        )
    elif names != names_before:
        problem = f"the input files are in another order than when {path} was written"
    else:
        file = next(p for p, old, new in zip(files, before, now, strict=True) if old != new)
        problem = f"the input file {file} has changed since {path} was written"
    raise CheckpointError(f"{problem}; restore the files, or train again in another folder with -o")


def is_streamed(path: Path) -> bool:
    """Returns whether the training of the checkpoint ``path`` reads its events from a stream.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        return "events" in read_metadata(path, VERSION)["loader"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; {_REMOVE}") from error


def _fingerprints_by_name(files: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns names without folders, so that data may be moved, with fingerprints."""
    return [(base_name(path), mark) for path, mark in files.items()]


def save_encoding(encoding: Encoding, folder: Path) -> None:
    """Writes the encoding of a training beside its checkpoints.

    A fit on another processor or with another library would differ by rounding, and principal axes even by their sign.
    """
    table, constants = encoding.pack()
    path = subfolder(folder / "checkpoints") / ENCODING
    write_tensors(path, constants, {"state": json.dumps({"version": VERSION, "encoding": table})})


def load_encoding(folder: Path, schema: Schema) -> Encoding | None:
    """Returns the encoding that ``save_encoding`` wrote; ``None`` if there is no such file.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / "checkpoints" / ENCODING
    if not path.exists():
        return None
    tensors = read_tensors(path)
    check_finite(tensors, path, hint=_REMOVE_ENCODING)
    try:
        return Encoding.unpack(schema, read_metadata(path, VERSION)["encoding"], tensors)
    except (KeyError, TypeError, ValueError, RunError, CheckpointError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; {_REMOVE_ENCODING}") from error

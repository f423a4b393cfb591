"""What is kept on disk: the trained GAN, and checkpoints of its training. safetensors and JSON, never pickle."""

import copy
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hepgan.atomic import os_errors_as_run_error, subfolder, write_bytes, write_text
from hepgan.config import from_table, to_table
from hepgan.data.encoding.encoding import Encoding
from hepgan.data.io.files import base_name
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, LayoutError, RunError
from hepgan.gan import pretrained
from hepgan.gan.devices import device_of, is_out_of_memory, out_of_memory_as_run_error
from hepgan.gan.model import GAN, KeptStep
from hepgan.gan.networks import GANSettings, count_parameters
from hepgan.gan.training.state import TrainingState, start_phase
from hepgan.layout.memory import available

VERSION = 2
"""Of the files' form; another one is refused."""

_LONGEST = 2**24
"""Bytes of ``gan.json`` at the most: a hundred thousand branches fit."""

_LONGEST_HEADER = 2**22
"""Bytes of a safetensors file's header at the most: 40,000 tensors fit, and a million empty ones do not."""

ENCODING = "encoding.safetensors"
"""The file beside the checkpoints that holds the encoding."""

_REMOVE_ENCODING = "remove it to fit the encoding again"
_REMOVE = "remove it to go on from the one before, or without one from the start"


def save_gan(gan: GAN, folder: Path, *, tree: str) -> None:
    """Writes ``generator.safetensors`` (with the encoding's constants) and ``gan.json`` into ``folder``.

    The discriminator is only kept in checkpoints. ``tree`` is the name that generated trees get.
    """
    table, constants = gan.encoding.pack()
    weights = _prefixed("generator", gan.generator.state_dict()) | constants
    about = {
        "version": VERSION,
        "tree": tree,
        "schema": to_table(gan.encoding.schema),
        "encoding": table,
        "gan": to_table(gan.settings),
        "seen": gan.seen,
    }
    if gan.kept:
        about |= {"kept_step": gan.kept.step, "steps": gan.kept.steps}
        about |= {} if gan.kept.score is None else {"validation_score": gan.kept.score}
    write_tensors(folder / "generator.safetensors", weights)
    write_text(folder / "gan.json", json.dumps(about, indent=2) + "\n")


def load_gan(
    folder: str | os.PathLike[str], *, device: torch.device | str = "cpu"
) -> tuple[GAN, str]:
    """The GAN of ``folder`` (its discriminator untrained) and its tree's name.

    Where there is no such folder, ``showers`` and ``mnist`` are the trained GANs that come with the package.

    Raises:
        CheckpointError: a file is missing, damaged or of a later version.
        RunError: the device is not there, or its memory is too small.
    """
    device = device_of(device)
    ours = pretrained.find(folder)
    folder = ours or Path(folder)
    about = _read_json(folder / "gan.json")
    weights = (
        safetensors.torch.load(pretrained.weights(ours))
        if ours
        else read_tensors(folder / "generator.safetensors")
    )
    _check_finite(weights, folder / "generator.safetensors")
    try:
        schema = Schema.from_table(about["schema"])
        encoding = _unpacked(schema, about["encoding"], weights, folder / "gan.json")
        settings = from_table(GANSettings, about["gan"], where="gan")
        seen, tree = int(about["seen"]), str(about["tree"])
        generator = _of("generator", weights)
        _check_size(settings, encoding, seen, generator, folder / "generator.safetensors")
        gan = GAN.build(settings, encoding, seed=0, seen=seen)
        # Constants that do not belong together show when events are decoded; one event alone hides it where shapes broadcast.
        for events in (1, 3 if encoding.features == 2 else 2):
            encoding.decode(
                torch.zeros(events, encoding.features), torch.zeros(events, encoding.conditions)
            )
        gan = dataclasses.replace(gan, kept=_kept(about))
    except (KeyError, TypeError, ValueError, OverflowError, RunError, LayoutError) as error:
        raise CheckpointError(f"{folder / 'gan.json'} is damaged: {error}") from error
    except (RuntimeError, IndexError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunError(f"the GAN of {folder} does not fit into memory") from error
        raise CheckpointError(
            f"{folder / 'gan.json'} is damaged: its encoding does not decode its events ({error})"
        ) from error
    _load(gan.generator, generator, folder / "generator.safetensors")
    gan.generator.eval()
    with out_of_memory_as_run_error(f"the GAN of {folder}", device, hint="choose another device"):
        return gan.to(device), tree


def _unpacked(
    schema: Schema, table: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> Encoding:
    """Returns the saved encoding; its errors name the file ``path``."""
    try:
        return Encoding.unpack(schema, table, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_kept_step(folder: Path) -> KeptStep | None:
    """Returns which step of the training the GAN of ``folder`` comes from, where its ``gan.json`` says so.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = folder / "gan.json"
    try:
        return _kept(_read_json(path))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _kept(about: Mapping[str, Any]) -> KeptStep | None:
    if "kept_step" not in about:
        return None
    score = about.get("validation_score")
    number = None if score is None else float(score)
    return KeptStep(_count(about["kept_step"]), _count(about["steps"]), number)


def save_checkpoint(state: TrainingState, folder: Path, *, keep: int) -> Path:
    """Writes ``checkpoints/step-….safetensors``, all of ``state`` in one file, and removes all but the last ``keep``."""
    tensors = _prefixed("generator", state.gan.generator.state_dict())
    tensors |= _prefixed("discriminator", state.gan.discriminator.state_dict())
    tensors |= _prefixed("average", state.average.state_dict())
    tensors |= _prefixed("best", state.best)
    for name, optimizer in state.optimizers.items():
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= _prefixed(f"optimizer.{name}.{number}", values)
    about = {
        "version": VERSION,
        "phase": state.phase,
        "began": state.began,
        "waited": state.waited,
        "step": state.step,
        "seconds": state.seconds,
        "best_score": state.best_score,
        "best_step": state.best_step,
        "loader": state.loader.state_dict(),
        "files": _named(state.origin.files),
        "encoding": state.origin.encoding,
    }
    path = folder / "checkpoints" / f"step-{state.step:08d}.safetensors"
    subfolder(path.parent)
    write_tensors(path, tensors, {"state": json.dumps(about)})
    with os_errors_as_run_error(path):
        for old in sorted(path.parent.glob("step-*.safetensors"))[:-keep]:
            old.unlink()
    return path


def load_checkpoint(state: TrainingState, path: Path) -> None:
    """Puts the checkpoint ``path`` into ``state``, which goes on from there: bit for bit on the same device, and on any other.

    Raises:
        CheckpointError: the file is damaged, or it belongs to other networks or other data.
    """
    check_files(state.origin.files, path)
    try:
        tensors, about = read_tensors(path), _metadata(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_REMOVE}") from error
    if about.get("encoding") != state.origin.encoding:
        raise CheckpointError(
            f"{path} belongs to another encoding than that of {path.parent / ENCODING}, or than this machine fits where that"
            " file is missing; put the file back, or train anew in another folder with -o"
        )
    try:
        _enter(state, about, path)
        _load_networks(state, tensors, path)
        state.step, state.seconds = _count(about["step"]), float(about["seconds"])
        state.best_score, state.best_step = float(about["best_score"]), _count(about["best_step"])
        state.loader.load_state_dict({k: _count(v) for k, v in about["loader"].items()})
        for name, optimizer in state.optimizers.items():
            _load_optimizer(optimizer, _of(f"optimizer.{name}", tensors))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:  # fmt: skip
        if is_out_of_memory(error):
            raise RunError(
                f"{path} does not fit into the memory of '{state.gan.device}'"
            ) from error
        raise CheckpointError(f"{path} is damaged: {error!r}; {_REMOVE}") from error
    for name, schedule in state.schedules.items():
        schedule.last_epoch = state.step - state.began
        groups = state.optimizers[name].param_groups
        for group, rate in zip(groups, schedule.base_lrs, strict=True):
            group["lr"] = rate * schedule.lr_lambdas[0](schedule.last_epoch)


def check_files(files: Mapping[str, str], path: Path) -> None:
    """Checks that the input files are those that the checkpoint ``path`` was trained with.

    Args:
        files: Fingerprints by path, as in ``Origin``.
        path: The checkpoint.

    Raises:
        CheckpointError: a file has changed, is new or is missing; names it.
    """
    try:
        before = [(str(name), str(mark)) for name, mark in _metadata(path)["files"]]
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_REMOVE}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; {_REMOVE}") from error
    now = _named(files)
    if before == now:
        return
    names, known = [name for name, _ in now], [name for name, _ in before]
    if added := [place for place in files if base_name(place) not in known]:
        wrong = f"the input file {added[0]} is not among those that {path} was trained with"
    elif gone := [name for name in known if name not in names]:
        wrong = f"{path} was trained with the input file {gone[0]}, which is no longer among them"
    elif names != known:
        wrong = f"the input files come in another order than when {path} was written"
    else:
        place = next(p for p, old, new in zip(files, before, now, strict=True) if old != new)
        wrong = f"the input file {place} has changed since {path} was written"
    raise CheckpointError(
        f"{wrong}; give the files as they were, or train anew in another folder with -o"
    )


def _named(files: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names without folders, so that data may be moved, and fingerprints."""
    return [(base_name(path), mark) for path, mark in files.items()]


def save_encoding(encoding: Encoding, folder: Path) -> None:
    """Writes the encoding of a training beside its checkpoints.

    Another processor or library would fit it anew with other rounding, and principal axes even with another sign.
    """
    table, constants = encoding.pack()
    path = subfolder(folder / "checkpoints") / ENCODING
    write_tensors(path, constants, {"state": json.dumps({"version": VERSION, "encoding": table})})


def load_encoding(folder: Path, schema: Schema) -> Encoding | None:
    """Returns the encoding that ``save_encoding`` wrote; ``None`` where there is no such file.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / "checkpoints" / ENCODING
    if not path.exists():
        return None
    tensors = read_tensors(path)
    _check_finite(tensors, path, _REMOVE_ENCODING)
    try:
        return Encoding.unpack(schema, _metadata(path)["encoding"], tensors)
    except (KeyError, TypeError, ValueError, RunError, CheckpointError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; {_REMOVE_ENCODING}") from error


def _enter(state: TrainingState, about: Mapping[str, Any], path: Path) -> None:
    """Puts ``state`` into the phase that the checkpoint was taken in."""
    phase, began, waited = (_count(about[name]) for name in ("phase", "began", "waited"))
    if phase >= len(state.phases):
        raise CheckpointError(
            f"{path} was taken in phase {phase + 1}, but the run has {len(state.phases)}"
        )
    start_phase(state, phase, began=began)
    state.waited = waited


def _load_networks(state: TrainingState, tensors: Mapping[str, Tensor], path: Path) -> None:
    _check_finite(
        {n: t for n, t in tensors.items() if not n.startswith("optimizer.")}, path, _REMOVE
    )
    networks = {"generator": state.gan.generator, "discriminator": state.gan.discriminator}
    for name, network in (networks | {"average": state.average}).items():
        _load(network, _of(name, tensors), path)
    best = _of("best", tensors)
    if best:
        _load(copy.deepcopy(state.average), best, path)
    state.best = {name: tensor.to(state.gan.device) for name, tensor in best.items()}


def _count(value: Any) -> int:
    """A whole number that is not negative."""
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no number of steps")
    return value


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes ``tensors`` to the safetensors file ``path``, whole or not at all.

    Raises:
        RunError: the system cannot write the file; what was there before is left as it was.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not save_file, whose files only their owner may read.
    write_bytes(path, safetensors.torch.save(plain, metadata))


def newest_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint of a run folder."""
    found = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    return found[-1] if found else None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the folder of a finished run")
    if (size := path.stat().st_size) > (free := available()):
        raise CheckpointError(f"{path} has {size:,} bytes, but {free:,} bytes of memory are free")
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > _LONGEST_HEADER:
            raise CheckpointError(
                f"{path} is damaged: its header has {header:,} bytes, more than any GAN's"
            )
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _metadata(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("state", "")
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no checkpoint of hepgan") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is no checkpoint of hepgan")
    _check_version(found, path)
    return found


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the folder of a finished run")
    if (size := path.stat().st_size) > _LONGEST:
        raise CheckpointError(f"{path} has {size:,} bytes, more than any GAN's")
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} does not describe a GAN")
    _check_version(found, path)
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of a GAN")


def _check_finite(tensors: Mapping[str, Tensor], path: Path, hint: str = "train again") -> None:
    """Refuses numbers that no training of hepgan writes and that would reach every generated event."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.itemsize < 2:
            raise CheckpointError(f"{path} is damaged: its tensor '{name}' is of {tensor.dtype}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path} is damaged: its tensor '{name}' is not finite; {hint}")


def _check_version(about: Mapping[str, Any], path: Path) -> None:
    version = about.get("version")
    if version != VERSION:
        raise CheckpointError(
            f"{path} is of version {version}, but this hepgan reads version {VERSION};"
            " train again, or use the hepgan that wrote it"
        )


def _check_size(
    settings: GANSettings, encoding: Encoding, seen: int, weights: Mapping[str, Tensor], path: Path
) -> None:
    """Refuses a layout of more weights than the file holds, before any memory is taken for them."""
    wanted = count_parameters(settings, encoding, seen=seen)["generator"]
    held = sum(tensor.numel() for tensor in weights.values())
    if held < wanted:
        raise CheckpointError(
            f"{path} belongs to other networks: it holds {held:,} numbers, but the generator has {wanted:,} parameters"
        )


def _load(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path} belongs to other networks: {first}") from error


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        if tensor.dim() and tensor.shape != weights[int(number)].shape:
            raise ValueError(f"the optimizer's {name} has shape {tuple(tensor.shape)}")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

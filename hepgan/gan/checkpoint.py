"""What is kept on disk: the trained GAN, and checkpoints of its training. safetensors and JSON, never pickle.

A file is written under a temporary name and renamed, so that a name always stands for a whole file.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hepgan.data.encoding import Encoding
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, LayoutError, RunError
from hepgan.gan import trained
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings
from hepgan.gan.state import State, enter
from hepgan.tables import from_table, to_table

VERSION = 2
"""Of the files' form; a GAN of a later version is refused."""


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
    write_tensors(folder / "generator.safetensors", weights)
    write_text(folder / "gan.json", json.dumps(about, indent=2) + "\n")


def load_gan(
    folder: str | os.PathLike[str], *, device: torch.device | str = "cpu"
) -> tuple[GAN, str]:
    """The GAN of ``folder`` (its discriminator untrained) and its tree's name.

    Where there is no such folder, ``showers`` and ``mnist`` are the trained GANs that come with the package.

    Raises:
        CheckpointError: a file is missing, damaged or of a later version.
    """
    ours = trained.shipped(folder)
    folder = ours or Path(folder)
    about = _read_json(folder / "gan.json")
    weights = (
        safetensors.torch.load(trained.weights(ours))
        if ours
        else read_tensors(folder / "generator.safetensors")
    )
    try:
        schema = Schema.from_table(about["schema"])
        encoding = Encoding.unpack(schema, about["encoding"], weights)
        settings = from_table(GANSettings, about["gan"], where="gan")
        gan = GAN.build(settings, encoding, seed=0, device=device, seen=int(about["seen"]))
        tree = str(about["tree"])
    except (KeyError, TypeError, ValueError, RunError, LayoutError) as error:
        raise CheckpointError(f"{folder / 'gan.json'} is damaged: {error}") from error
    _load(gan.generator, _of("generator", weights), folder / "generator.safetensors")
    gan.generator.eval()
    return gan, tree


def save(state: State, folder: Path, *, keep: int) -> Path:
    """Writes ``checkpoints/step-….safetensors``, all of ``state`` in one file, and removes all but the last ``keep``."""
    tensors = _prefixed("generator", state.gan.generator.state_dict())
    tensors |= _prefixed("discriminator", state.gan.discriminator.state_dict())
    tensors |= _prefixed("average", state.average.state_dict())
    tensors |= _prefixed("best", state.best)
    tensors["noise"] = state.noise.get_state()
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
    }
    (folder / "checkpoints").mkdir(exist_ok=True)
    path = folder / "checkpoints" / f"step-{state.step:08d}.safetensors"
    write_tensors(path, tensors, {"state": json.dumps(about)})
    for old in sorted(path.parent.glob("step-*.safetensors"))[:-keep]:
        old.unlink()
    return path


def load(state: State, path: Path) -> None:
    """Puts the checkpoint ``path`` into ``state``, which goes on from there bit for bit on the same device.

    Raises:
        CheckpointError: the file is damaged, or it belongs to other networks or other data.
    """
    tensors = read_tensors(path)
    about = _metadata(path)
    _enter(state, about, path)
    _load(state.gan.generator, _of("generator", tensors), path)
    _load(state.gan.discriminator, _of("discriminator", tensors), path)
    _load(state.average, _of("average", tensors), path)
    state.best = {name: t.to(state.gan.device) for name, t in _of("best", tensors).items()}
    try:
        state.noise.set_state(tensors["noise"])
        state.step, state.seconds = int(about["step"]), float(about["seconds"])
        state.best_score, state.best_step = float(about["best_score"]), int(about["best_step"])
        state.loader.load_state_dict(about["loader"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    for name, optimizer in state.optimizers.items():
        _load_optimizer(optimizer, _of(f"optimizer.{name}", tensors))
        schedule = state.schedules[name]
        schedule.last_epoch = state.step - state.began
        for group, rate in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
            group["lr"] = rate * schedule.lr_lambdas[0](schedule.last_epoch)


def _enter(state: State, about: Mapping[str, Any], path: Path) -> None:
    """Puts ``state`` into the phase that the checkpoint was taken in."""
    try:
        phase, began, waited = int(about["phase"]), int(about["began"]), int(about["waited"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not 0 <= phase < len(state.phases):
        raise CheckpointError(
            f"{path} was taken in phase {phase + 1}, but the run has {len(state.phases)}"
        )
    enter(state, phase, began=began)
    state.waited = waited


def newest(folder: Path) -> Path | None:
    """The last checkpoint of a run folder."""
    found = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    return found[-1] if found else None


def write_text(path: Path, text: str) -> None:
    """``text`` into ``path``, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """``tensors`` into the safetensors file ``path``, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        # Not save_file, whose files only their owner may read.
        temporary.write_bytes(safetensors.torch.save(plain, metadata))
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the folder of a finished run")
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _metadata(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("state", "")
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is no checkpoint of hepgan") from error
    _check_version(found, path)
    return found


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the folder of a finished run")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} does not describe a GAN")
    _check_version(found, path)
    return found


def _check_version(about: Mapping[str, Any], path: Path) -> None:
    version = about.get("version")
    if version != VERSION:
        raise CheckpointError(
            f"{path} is of version {version}, but this hepgan reads version {VERSION}"
        )


def _load(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path} belongs to other networks: {first}") from error


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

"""Files of exported GANs: ONNX models for hosts, and exported programs of torch.

| host | inputs and outputs |
|---|---|
| ``plain`` | noise and each condition, each field; any number of events |
| ``par04``, ``ddml``, ``fastcalosim``, ``sofie`` | as in the module of that name; one event |

The metadata of a file contain hepgan's version, the host, inputs and outputs as JSON under the key ``hepgan``.
"""

import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.atomic import os_errors_as_run_error, replace_on_success
from hepgan.errors import RunError
from hepgan.gan.export import ddml, fastcalosim, par04, plain, sofie  # noqa: F401  registered hosts
from hepgan.gan.export.accuracy import Accuracy, measure
from hepgan.gan.export.hosts import HostModel, host_of
from hepgan.gan.export.onnx_model import (
    Run,
    exporter_errors,
    onnx_model,
    onnx_runner,
    operators,
    quiet,
    require_onnx,
)
from hepgan.gan.members import member_folder
from hepgan.gan.model import GAN
from hepgan.random_streams import numpy_generator

SIZES = 1, 2, 7
"""Batch sizes in which an exported model is compared with torch."""

EVENTS = 200
"""Number of events in which an exported model is compared with ``GAN.sample``."""

_TOLERANCE = 1e-2
"""Largest difference, as a fraction of the sum of all values."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        paths: The file, and the text that configures the host, if there is one.
        about: Metadata of the file.
        accuracy: Difference to ``GAN.sample``.
        operators: Number of operators; 0 for an exported program.
        size: Size of the file in bytes.
    """

    paths: tuple[Path, ...]
    about: Mapping[str, Any]
    accuracy: Accuracy
    operators: int
    size: int


def export(
    gan: GAN,
    path: str | os.PathLike[str],
    *,
    host: str = "plain",
    fixed: Mapping[str, float] | None = None,
    events: int = EVENTS,
    overwrite: bool = False,
) -> Exported:
    """Exports ``gan`` to an ``.onnx`` file, or a ``.pt2`` file for the host ``plain``.

    The model is compared with torch, and with ``GAN.sample`` as the host would run it, before it is written.

    Args:
        gan: GAN on the CPU.
        path: The file.
        host: Program that runs the model: ``plain``, ``par04``, ``ddml``, ``fastcalosim`` or ``sofie``.
        fixed: Conditions that become constants of the model, in the schema's units.
        events: Number of events of the comparison with ``GAN.sample``.
        overwrite: Whether to replace existing files.

    Raises:
        RunError: the suffix is another one, the GAN does not fit the host, a file exists or cannot be written, the extra ``onnx``
            is not installed, the exporter fails, or the exported model gives other events.
        DataError: a fixed value is outside the trained range.
    """
    prepared = _prepared(gan, Path(path), host, fixed or {}, events, overwrite=overwrite)
    _write([prepared])
    return prepared.exported


def export_members(
    gans: Sequence[GAN],
    path: str | os.PathLike[str],
    *,
    host: str = "plain",
    fixed: Mapping[str, float] | None = None,
    events: int = EVENTS,
    overwrite: bool = False,
) -> list[Exported]:
    """Exports each member of an ensemble as ``export`` does, to ``members/0``, ``members/1``, … in the folder of ``path``.

    The files have the name of ``path``, which some hosts prescribe. All are written, or none of them.

    Args:
        gans: Members, on the CPU.
        path: The file, without its folder of a member.
        host: As for ``export``.
        fixed: As for ``export``.
        events: As for ``export``.
        overwrite: Whether to replace existing files.

    Raises:
        RunError: as for ``export``.
        DataError: a fixed value is outside the trained range.
    """
    target = Path(path)
    targets = [member_folder(target.parent, k) / target.name for k in range(len(gans))]
    for each in targets:
        _check_new(each, overwrite=overwrite)
    prepared = [
        _prepared(gan, each, host, fixed or {}, events, overwrite=overwrite)
        for gan, each in zip(gans, targets, strict=True)
    ]
    _write(prepared)
    return [each.exported for each in prepared]


class _Prepared(NamedTuple):
    """Files that are checked, but not written yet."""

    exported: Exported
    contents: tuple[bytes, ...]


def _prepared(
    gan: GAN, target: Path, host: str, fixed: Mapping[str, float], events: int, *, overwrite: bool
) -> _Prepared:
    contract = host_of(host)
    suffixes = (".onnx", ".pt2") if host == "plain" else (".onnx",)
    if target.suffix not in suffixes:
        raise RunError(f"'{target}' should end with {' or '.join(suffixes)}")
    _check_new(target, overwrite=overwrite)
    model = contract(gan, fixed=fixed, path=target).eval()
    suffix, text = model.text()
    if text:
        _check_new(target.with_suffix(suffix), overwrite=overwrite)
    about = {"version": version("hepgan"), "host": host, **model.about()}
    if model.fixed:
        about["fixed"] = dict(model.fixed)
    exporter = _onnx if target.suffix == ".onnx" else _pt2
    content, operators, run = exporter(model, about)
    _check(model, run)
    accuracy = measure(gan, model, run, events=events)
    accuracy.check()
    paths = (target, target.with_suffix(suffix)) if text else (target,)
    contents = (content, text.encode()) if text else (content,)
    return _Prepared(Exported(paths, about, accuracy, operators, len(content)), contents)


def _write(prepared: Sequence[_Prepared]) -> None:
    """Writes all files, with folders of members, or none of them."""
    with ExitStack() as stack:
        for each in prepared:
            for path, content in zip(each.exported.paths, each.contents, strict=True):
                with os_errors_as_run_error(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(replace_on_success(path)).write_bytes(content)


def _check_new(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise RunError(
            f"'{path}' exists; choose another file with -o, or replace it with --overwrite"
        )


def _onnx(model: HostModel, about: Mapping[str, Any]) -> tuple[bytes, int, Run]:
    """Returns the content of an ONNX file, its number of operators, and a function that runs it."""
    require_onnx()
    import onnx

    example, batch = _example(model)
    exported = onnx_model(
        model, example, inputs=model.inputs, outputs=model.outputs, dynamic_shapes=batch
    )
    _check_operators(model, exported)
    onnx.helper.set_model_props(exported, {"hepgan": json.dumps(about)})
    onnx.checker.check_model(exported)
    content: bytes = exported.SerializeToString()
    return content, operators(exported).total(), onnx_runner(content)


def _check_operators(model: HostModel, exported: Any) -> None:
    """Checks that the host has all operators of a model, and reads its numbers.

    Raises:
        RunError: it does not; names all that are missing.
    """
    if model.operators is None:
        return
    import onnx

    double, graph = onnx.TensorProto.DOUBLE, exported.graph
    missing = set(operators(exported)) - model.operators
    if exported.functions:
        missing.add("functions")
    types = {value.type.tensor_type.elem_type for value in graph.value_info}
    if double in types | {tensor.data_type for tensor in graph.initializer}:
        missing.add("numbers in double precision")
    if missing:
        raise RunError(
            f"{model.title} cannot read this GAN's decoding: it lacks {', '.join(sorted(missing))}; use ONNX Runtime (--for plain), or an"
            " encoding without this step"
        )


def _pt2(model: HostModel, about: Mapping[str, Any]) -> tuple[bytes, int, Run]:
    """Returns the content of an exported program, 0, and a function that runs it."""
    example, batch = _example(model)
    with quiet(), exporter_errors("an exported program"):
        program = torch.export.export(model, example, dynamic_shapes=batch)
    module = program.module()

    @torch.no_grad()
    def run(inputs: Any) -> list[npt.NDArray[Any]]:
        return [output.numpy() for output in module(*map(torch.from_numpy, inputs))]

    # torch cannot save empty tensors that own memory, as those from numpy do.
    empty = {
        name: value
        for name, value in program.constants.items()
        if isinstance(value, Tensor) and not value.numel()
    }
    program.constants.update({name: torch.empty_like(value) for name, value in empty.items()})
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content, extra_files={"hepgan.json": json.dumps(about)})
    return content.getvalue(), 0, run


def _example(model: HostModel) -> tuple[tuple[Tensor, ...], Any]:
    """Returns inputs for tracing, and their dynamic axes; ``None`` for a single event."""
    inputs = tuple(map(torch.from_numpy, _inputs(model, 3 if model.any_batch else 1)))
    if not model.any_batch:
        return inputs, None
    axes = {0: torch.export.Dim("batch", min=1)}
    # All conditions are one argument, *conditions, which is missing without conditions.
    return inputs, (axes, tuple(axes for _ in inputs[1:])) if inputs[1:] else (axes,)


def _inputs(model: HostModel, size: int) -> list[npt.NDArray[Any]]:
    """Returns the inputs of ``size`` events, with conditions spread over their values."""
    noise = model.draw(numpy_generator(size, "export"), size)
    return model.feed(noise, {name: model.examples(name, size) for name in model.conditions})


@torch.no_grad()
def _check(model: HostModel, run: Run) -> None:
    """Compares an exported model with torch in batches of several sizes.

    Raises:
        RunError: the results differ.
    """
    for size in SIZES if model.any_batch else (1,):
        inputs = _inputs(model, size)
        outputs, expected = run(inputs), model(*map(torch.from_numpy, inputs))
        expected = (expected,) if isinstance(expected, Tensor) else expected
        for name, one, tensor in zip(model.outputs, outputs, expected, strict=True):
            other = tensor.numpy()
            # Single cells at a threshold may end up on either side of it.
            close = one.shape == other.shape and np.abs(one - other).sum() <= (
                _TOLERANCE * np.abs(other).sum() + 1e-6
            )
            if not close:
                raise RunError(
                    f"the exported model and torch disagree on '{name}' in a batch of {size}; no file was written, please report"
                    " this"
                )

"""Export of trained GANs for programs without Python: ONNX, or an exported program of torch. The decoding is included.

| input | |
|---|---|
| ``noise`` | ``float32[batch, *latent]``, standard normal numbers |
| each condition, by its name | ``float32[batch]``, in the schema's unit; inside the trained range |

The outputs are the event's fields by name, ``float32[batch, *shape]``, in the schema's units. The metadata of the file contain units,
shapes, ranges and hepgan's version as JSON under the key ``hepgan``.
"""

import copy
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special
import torch
from torch import Tensor, nn

from hepgan.atomic import write_bytes
from hepgan.data.encoding.encoding import EncodingModule
from hepgan.errors import RunError
from hepgan.gan.model import GAN

SIZES = 1, 2, 7
"""Batch sizes in which an exported model is compared with torch."""

_TOLERANCE = 1e-2
"""Largest difference, as a fraction of the sum of all values."""

OPSET = 18
"""Operator set of ONNX, supported by ONNX Runtime 1.14 and later."""


class DecodedGenerator(nn.Module):
    """Generator and decoding in one module, ``noise, condition, … -> field, …``, in double precision.

    Libraries differ in the order of their sums, 1e-7 in single precision. The decoding amplifies this: the tables of rarely hit
    cells are steep, so that a relative change in a normal score is a hundred times larger in the energy of the cell.

    Args:
        gan: GAN, which is copied.
        single: Whether the generator stays in single precision; the decoding is always in double precision.
    """

    def __init__(self, gan: GAN, *, single: bool = False) -> None:
        super().__init__()
        self.decoding = EncodingModule(gan.encoding).double()
        self.precision = torch.float32 if single else torch.float64
        self.generator = copy.deepcopy(gan.generator).to(self.precision)

    def forward(self, noise: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Returns each field as ``float32[B, *shape]``."""
        encoding = self.decoding.encoding
        columns = [
            scale.encode(values.double())
            for values, scale in zip(conditions, encoding.scales.values(), strict=True)
        ]
        c = torch.cat(columns, 1) if columns else noise.new_empty(noise.shape[0], 0).double()
        x = self.generator(noise.to(self.precision), c.to(self.precision)).flatten(1).double()
        fields = encoding.decode_tensors(x, c)
        return tuple(fields[name].float() for name in encoding.schema.fields)


def export(gan: GAN, path: str | os.PathLike[str]) -> None:
    """Exports ``gan`` to an ``.onnx`` or ``.pt2`` file.

    The model takes batches of any size; it is compared with torch in batches of several sizes before it is written.

    Raises:
        RunError: the suffix is another one, a field is called ``noise``, the file exists or cannot be written, the extra ``onnx`` is
            not installed, or the exporter fails.
    """
    target = Path(path)
    if target.suffix not in (".onnx", ".pt2"):
        raise RunError(f"'{target}' should end with .onnx or .pt2")
    if target.exists():
        raise RunError(f"'{target}' exists; choose another file or remove it")
    if "noise" in gan.encoding.schema.all:
        raise RunError(
            "the GAN has a field 'noise', but this is the name of the exported model's first input; rename the field in the schema"
            " and train again"
        )
    exporter = _onnx if target.suffix == ".onnx" else _pt2
    with _quiet():
        content = exporter(gan)
    write_bytes(target, content)


def metadata(gan: GAN) -> dict[str, Any]:
    """Returns the metadata of an exported file: hepgan's version, and inputs and outputs with shapes, units and ranges."""
    encoding = gan.encoding
    conditions = encoding.schema.conditions
    return {
        "version": version("hepgan"),
        "inputs": {
            "noise": {"shape": list(gan.latent), "distribution": "standard normal"},
            **{
                name: {
                    "shape": [],
                    "unit": conditions[name].unit,
                    "range": list(scale.range),
                    **({"classes": list(scale.classes)} if scale.classes else {}),
                }
                for name, scale in encoding.scales.items()
            },
        },
        "outputs": {
            name: {"shape": list(field.shape), "unit": field.unit}
            for name, field in encoding.schema.fields.items()
        },
    }


def _onnx(gan: GAN) -> bytes:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  used by torch's exporter
    except ImportError as error:
        raise RunError(
            "the export to ONNX needs additional packages: pip install 'hepgan[onnx]'"
        ) from error
    failures = onnxruntime.capi.onnxruntime_pybind11_state
    decoded = DecodedGenerator(gan).cpu().eval()
    model = _onnx_model(gan, decoded)
    try:
        onnxruntime.InferenceSession(model.SerializeToString())
    except failures.NotImplemented:
        # ONNX Runtime does not implement convolutions in double precision.
        decoded = DecodedGenerator(gan, single=True).cpu().eval()
        model = _onnx_model(gan, decoded)
    onnx.helper.set_model_props(model, {"hepgan": json.dumps(metadata(gan))})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(content)
    except (failures.Fail, failures.NotImplemented, failures.InvalidGraph) as error:
        raise RunError(
            f"ONNX Runtime cannot load the exported model: {str(error).splitlines()[0]}"
        ) from error
    names = ["noise", *gan.encoding.scales]

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        try:
            return [torch.from_numpy(output) for output in session.run(None, feed)]
        except (failures.Fail, failures.RuntimeException, failures.InvalidArgument) as error:
            raise RunError(
                f"ONNX Runtime cannot run the exported model in a batch of {len(inputs[0])}: {str(error).splitlines()[0]}"
            ) from error

    _check(gan, decoded, run)
    return content


def _onnx_model(gan: GAN, decoded: DecodedGenerator) -> Any:
    example, batch = _example(gan)
    with _exporter_errors_as_run_error("ONNX"):
        program = torch.onnx.export(
            decoded, example, dynamo=True, dynamic_shapes=batch, opset_version=OPSET,
            input_names=["noise", *gan.encoding.scales], output_names=list(gan.encoding.schema.fields), verbose=False,
            custom_translation_table={
                torch.ops.aten.searchsorted.Tensor: _searchsorted,
                torch.ops.aten.bucketize.Tensor: _bucketize,
                torch.ops.aten.copysign.Tensor: _copysign,
                torch.ops.aten.special_ndtr.default: _ndtr,
                torch.ops.aten.scalar_tensor.default: _scalar_tensor,
                torch.ops.aten.leaky_relu.default: _leaky_relu,
            },
        )  # fmt: skip
    if program is None:
        raise RunError("torch did not return an ONNX program; please report this")
    return program.model_proto


def _bucketize(self: Any, boundaries: Any, **options: Any) -> Any:
    """Translates ``torch.bucketize``, which is ``torch.searchsorted`` with its arguments exchanged."""
    return _searchsorted(boundaries, self, **options)


def _copysign(self: Any, other: Any) -> Any:
    """Translates ``torch.copysign``, except for negative zeros."""
    from onnxscript import opset18

    op: Any = opset18
    size = op.Abs(self)
    return op.Where(op.Less(other, op.CastLike(0.0, other)), op.Neg(size), size)


def _ndtr(self: Any) -> Any:
    """Translates ``torch.special.ndtr`` with an error of 1e-15; ONNX Runtime has no error function in double precision.

    It is the Taylor series around the nearest of 1,025 points between −8 and 8.
    """
    import onnx
    from onnxscript import opset18

    op: Any = opset18
    points = np.arange(-512, 513) / 64

    def table(values: npt.NDArray[np.float64]) -> Any:
        return op.CastLike(op.Constant(value=onnx.numpy_helper.from_array(values)), self)

    def number(value: float) -> Any:
        return op.CastLike(value, self)

    z = op.Clip(self, number(-8.0), number(8.0))
    nearest = op.Round(op.Mul(z, number(64.0)))
    at = op.Cast(op.Add(nearest, number(512.0)), to=7)
    at = op.Clip(at, op.Constant(value_int=0), op.Constant(value_int=1024))  # for NaN
    x = op.Div(nearest, number(64.0))
    d, xx = op.Sub(z, x), op.Mul(x, x)
    # Hermite polynomials of x, divided by factorials, from the highest power of d to the lowest.
    series = op.Div(op.Add(op.Mul(xx, op.Sub(xx, number(6.0))), number(3.0)), number(120.0))
    cubic = op.Div(op.Mul(x, op.Sub(xx, number(3.0))), number(24.0))
    series = op.Sub(op.Mul(d, series), cubic)
    series = op.Add(op.Mul(d, series), op.Div(op.Sub(xx, number(1.0)), number(6.0)))
    series = op.Sub(op.Mul(d, series), op.Div(x, number(2.0)))
    series = op.Add(op.Mul(d, series), number(1.0))
    density = op.Gather(table(np.exp(-(points**2) / 2) / np.sqrt(2 * np.pi)), at)
    return op.Add(
        op.Gather(table(scipy.special.ndtr(points)), at), op.Mul(op.Mul(d, series), density)
    )


def _searchsorted(sorted_sequence: Any, self: Any, *, right: bool = False, **options: Any) -> Any:
    """Translates ``torch.searchsorted``, which torch's exporter does not support: the number of smaller (or equal) values.

    Values in one sequence are found by bisection, in a sequence of their own each by comparison with all its values.
    """
    import onnx
    from onnxscript import opset18

    op: Any = opset18

    below = op.LessOrEqual if right else op.Less
    if len(sorted_sequence.shape) > 1:
        smaller = below(sorted_sequence, op.Unsqueeze(self, op.Constant(value_ints=[-1])))
        return op.ReduceSum(op.Cast(smaller, to=7), op.Constant(value_ints=[-1]), keepdims=0)
    length = int(sorted_sequence.shape[0])
    bits = length.bit_length()
    # 2^bits values, counted from 1: none is smaller than −∞, in front, and those behind are infinite.
    ends = np.full(1, -np.inf), np.full(2**bits - 1 - length, np.inf)
    front, behind = (
        op.CastLike(op.Constant(value=onnx.numpy_helper.from_array(end)), sorted_sequence)
        for end in ends
    )
    values = op.Concat(front, sorted_sequence, behind, axis=0)
    found = op.Expand(op.Constant(value_int=0), op.Shape(self))
    for bit in reversed(range(bits)):
        next_one = op.Add(found, op.Constant(value_int=2**bit))
        found = op.Where(below(op.Gather(values, next_one), self), next_one, found)
    return found


def _scalar_tensor(s: Any, dtype: int = 1, **options: Any) -> Any:
    """Translates a number in its torch type (single if it has none, −1); torch's exporter rounds all numbers to single."""
    import onnx
    from onnxscript import opset18

    op: Any = opset18
    if isinstance(s, float):
        s = op.Constant(value=onnx.helper.make_tensor("", onnx.TensorProto.DOUBLE, [], [s]))
    return op.Cast(s, to=max(dtype, 1))


def _leaky_relu(self: Any, negative_slope: float = 0.01) -> Any:
    """Translates ``torch.leaky_relu`` with a slope in the type of its input; ONNX's own LeakyRelu has a single-precision slope."""
    from onnxscript import opset18

    op: Any = opset18
    slope = _scalar_tensor(float(negative_slope), dtype=self.dtype)
    return op.Where(op.Less(self, op.CastLike(0.0, self)), op.Mul(self, slope), self)


def _pt2(gan: GAN) -> bytes:
    example, batch = _example(gan)
    decoded = DecodedGenerator(gan).cpu().eval()
    with _exporter_errors_as_run_error("an exported program"):
        program = torch.export.export(decoded, example, dynamic_shapes=batch)
    run = program.module()
    _check(gan, decoded, lambda inputs: run(*inputs))
    # torch cannot save empty tensors that own memory, as those from numpy do.
    empty = {
        name: value
        for name, value in program.constants.items()
        if isinstance(value, Tensor) and not value.numel()
    }
    program.constants.update({name: torch.empty_like(value) for name, value in empty.items()})
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"hepgan.json": json.dumps(metadata(gan))})
    return content.getvalue()


def _example(gan: GAN) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """Returns inputs for tracing, and their dynamic axes."""
    noise, *conditions = _inputs(gan, 3)
    axes = {0: torch.export.Dim("batch", min=1)}
    # All conditions are one argument, *conditions, which is missing without conditions.
    batch = (axes, tuple(axes for _ in conditions)) if conditions else (axes,)
    return (noise, *conditions), batch


def _inputs(gan: GAN, size: int) -> tuple[Tensor, ...]:
    """Returns noise ``[size, *latent]`` and each condition ``[size]``, spread over its values."""
    noise = torch.randn(size, *gan.latent, generator=torch.Generator().manual_seed(size))
    return (noise, *(scale.examples(size) for scale in gan.encoding.scales.values()))


@torch.no_grad()
def _check(
    gan: GAN, decoded: DecodedGenerator, run: Callable[[tuple[Tensor, ...]], Sequence[Tensor]]
) -> None:
    """Compares an exported model with torch in batches of several sizes.

    Raises:
        RunError: the results differ.
    """
    for size in SIZES:
        inputs = _inputs(gan, size)
        outputs, expected = run(inputs), decoded(*inputs)
        for name, one, other in zip(gan.encoding.schema.fields, outputs, expected, strict=True):
            # Single cells at a threshold may end up on either side of it.
            close = one.shape == other.shape and (one - other).abs().sum() <= (
                _TOLERANCE * other.abs().sum() + 1e-6
            )
            if not close:
                raise RunError(
                    f"the exported model and torch disagree on '{name}' in a batch of {size}; no file was written, please report"
                    " this"
                )


@contextmanager
def _exporter_errors_as_run_error(target: str) -> Iterator[None]:
    """Context manager that shortens the errors of torch's exporter to one line.

    Raises:
        RunError: the exporter fails.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise RunError(f"torch cannot export this GAN to {target}: {lines[0]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager that silences the warnings and logs of torch's exporters."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        logger = logging.getLogger("torch.onnx")
        before = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)

"""A trained GAN for programs without Python: ONNX, or torch's exported program. Energies come out decoded, in the schema's units.

| input | |
|---|---|
| ``noise`` | ``float32[batch, *latent]``, standard normal numbers |
| each condition, by its name | ``float32[batch]``, in the schema's unit; inside the trained range |

The outputs are the event's fields by name, ``float32[batch, *shape]``, in the schema's units. The file's metadata hold units, shapes and
ranges as JSON under the key ``hepgan``.
"""

import copy
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepgan.atomic import write_bytes
from hepgan.data.encoding.encoding import EncodingModule
from hepgan.errors import RunError
from hepgan.gan.model import GAN

SIZES = 1, 2, 7
"""Events in the batches that an exported model is compared with torch in."""

_NEAR = 1e-2
"""How far they may be apart, as a fraction of the sum of all values."""

OPSET = 18
"""Of ONNX; what ONNX Runtime 1.14 and later read."""


class DecodedGenerator(nn.Module):
    """``noise, condition, …`` -> the event's fields, in order: generator and decoding in one, in double precision.

    What libraries differ in is the order of their sums, 1e-7 in single precision. Decoding makes it grow: the tables of rarely lit
    cells are steep, a score's last digit is a hundred times as much of such a cell's energy.

    Args:
        gan: The GAN, which stays as it is.
        single: Whether the generator stays in single precision; decoding does not.
    """

    def __init__(self, gan: GAN, *, single: bool = False) -> None:
        super().__init__()
        self.decoding = EncodingModule(gan.encoding)
        self.precision = torch.float32 if single else torch.float64
        self.generator = copy.deepcopy(gan.generator).to(self.precision)

    def forward(self, noise: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Each field ``[B, *shape]``, float32."""
        encoding = self.decoding.encoding
        columns = [
            scale.encode(values.double())
            for values, scale in zip(conditions, encoding.scales.values(), strict=True)
        ]
        c = torch.cat(columns, 1) if columns else noise.new_empty(noise.shape[0], 0).double()
        x = self.generator(noise.to(self.precision), c.to(self.precision)).flatten(1).double()
        found = encoding.decode_tensors(x, c)
        return tuple(found[name].float() for name in encoding.schema.fields)


def export(gan: GAN, path: str | os.PathLike[str]) -> None:
    """Writes ``gan`` to ``path``, whose ending says how: ``.onnx`` or ``.pt2``.

    The model takes batches of any size: it is compared with torch in batches of several sizes before it is written.

    Raises:
        RunError: another ending, a field that is called ``noise``, the file exists or cannot be written, the extra ``onnx`` is not installed,
            or the exporter fails.
    """
    target = Path(path)
    if target.suffix not in (".onnx", ".pt2"):
        raise RunError(f"'{target}' should end with .onnx or .pt2")
    if target.exists():
        raise RunError(f"'{target}' exists; name another file or remove it")
    if "noise" in gan.encoding.schema.all:
        raise RunError(
            "the GAN has a field 'noise', which is the name of the exported model's first input; train it on a schema "
            "with another name for this field"
        )
    packed = _onnx if target.suffix == ".onnx" else _pt2
    with _quiet():
        content = packed(gan)
    write_bytes(target, content)


def metadata(gan: GAN) -> dict[str, Any]:
    """What the metadata of an exported file say: inputs and outputs with shapes, units and ranges."""
    encoding = gan.encoding
    given = encoding.schema.conditions
    return {
        "inputs": {
            "noise": {"shape": list(gan.latent), "distribution": "standard normal"},
            **{
                name: {"shape": [], "unit": given[name].unit, "range": list(scale.range)}
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
        import onnxscript  # noqa: F401  torch's exporter wants it
    except ImportError as error:
        raise RunError("ONNX needs its packages: pip install 'hepgan[onnx]'") from error
    failures = onnxruntime.capi.onnxruntime_pybind11_state
    decoded = DecodedGenerator(gan).cpu().eval()
    model = _onnx_model(gan, decoded)
    try:
        onnxruntime.InferenceSession(model.SerializeToString())
    except failures.NotImplemented:
        # ONNX Runtime has no convolutions in double precision.
        decoded = DecodedGenerator(gan, single=True).cpu().eval()
        model = _onnx_model(gan, decoded)
    onnx.helper.set_model_props(model, {"hepgan": json.dumps(metadata(gan))})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content)
    names = ["noise", *gan.encoding.scales]

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        try:
            return [torch.from_numpy(found) for found in session.run(None, given)]
        except (failures.Fail, failures.RuntimeException, failures.InvalidArgument) as error:
            raise RunError(
                f"ONNX Runtime cannot run the exported model in a batch of {len(inputs[0])}: {str(error).splitlines()[0]}"
            ) from error

    _check(gan, decoded, run)
    return content


def _onnx_model(gan: GAN, decoded: DecodedGenerator) -> Any:
    example, batch = _example(gan)
    with _telling("ONNX"):
        program = torch.onnx.export(
            decoded, example, dynamo=True, dynamic_shapes=batch, opset_version=OPSET,
            input_names=["noise", *gan.encoding.scales], output_names=list(gan.encoding.schema.fields), verbose=False,
            custom_translation_table={
                torch.ops.aten.searchsorted.Tensor: _searchsorted,
                torch.ops.aten.scalar_tensor.default: _scalar_tensor,
                torch.ops.aten.leaky_relu.default: _leaky_relu,
            },
        )  # fmt: skip
    if program is None:
        raise RunError("torch made no ONNX program")
    return program.model_proto


def _searchsorted(sorted_sequence: Any, self: Any, **options: Any) -> Any:
    """``torch.searchsorted``, which torch's exporter does not know: how many values are smaller."""
    from onnxscript import opset18

    op: Any = opset18

    smaller = op.Less(sorted_sequence, op.Unsqueeze(self, op.Constant(value_ints=[-1])))
    return op.ReduceSum(op.Cast(smaller, to=7), op.Constant(value_ints=[-1]), keepdims=0)


def _scalar_tensor(s: Any, dtype: int = 1, **options: Any) -> Any:
    """A number in the type that it has in torch, single where it has none (−1); torch's exporter rounds all of them to single."""
    import onnx
    from onnxscript import opset18

    op: Any = opset18
    if isinstance(s, float):
        s = op.Constant(value=onnx.helper.make_tensor("", onnx.TensorProto.DOUBLE, [], [s]))
    return op.Cast(s, to=max(dtype, 1))


def _leaky_relu(self: Any, negative_slope: float = 0.01) -> Any:
    """``torch.leaky_relu`` with a slope in the type of its input; ONNX's own LeakyRelu has it in single precision."""
    from onnxscript import opset18

    op: Any = opset18
    slope = _scalar_tensor(float(negative_slope), dtype=self.dtype)
    return op.Where(op.Less(self, op.CastLike(0.0, self)), op.Mul(self, slope), self)


def _pt2(gan: GAN) -> bytes:
    example, batch = _example(gan)
    decoded = DecodedGenerator(gan).cpu().eval()
    with _telling("an exported program"):
        program = torch.export.export(decoded, example, dynamic_shapes=batch)
    run = program.module()
    _check(gan, decoded, lambda inputs: run(*inputs))
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"hepgan.json": json.dumps(metadata(gan))})
    return content.getvalue()


def _example(gan: GAN) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """Inputs for tracing, and which of their axes vary."""
    noise, *conditions = _inputs(gan, 3)
    axes = {0: torch.export.Dim("batch", min=1)}
    # The conditions are one argument, *conditions; without any it is not there.
    batch = (axes, tuple(axes for _ in conditions)) if conditions else (axes,)
    return (noise, *conditions), batch


def _inputs(gan: GAN, size: int) -> tuple[Tensor, ...]:
    """Returns noise ``[size, *latent]`` and each condition ``[size]``, spread over its range."""
    noise = torch.randn(size, *gan.latent, generator=torch.Generator().manual_seed(size))
    values = (torch.linspace(*scale.range, size) for scale in gan.encoding.scales.values())
    whole = (scale.scale == "onehot" for scale in gan.encoding.scales.values())
    return (noise, *(v.round() if w else v for v, w in zip(values, whole, strict=True)))


@torch.no_grad()
def _check(
    gan: GAN, decoded: DecodedGenerator, run: Callable[[tuple[Tensor, ...]], Sequence[Tensor]]
) -> None:
    """Compares an exported model with torch in batches of several sizes.

    Raises:
        RunError: they differ.
    """
    for size in SIZES:
        inputs = _inputs(gan, size)
        found, expected = run(inputs), decoded(*inputs)
        for name, one, other in zip(gan.encoding.schema.fields, found, expected, strict=True):
            # A cell at a threshold may fall to either side of it.
            near = one.shape == other.shape and (one - other).abs().sum() <= (
                _NEAR * other.abs().sum() + 1e-6
            )
            if not near:
                raise RunError(
                    f"the exported model makes another '{name}' than torch in a batch of {size}; no file was written, please report this"
                )


@contextmanager
def _telling(form: str) -> Iterator[None]:
    """Context manager that tells in a sentence why torch's exporter fails.

    Raises:
        RunError: it does.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise RunError(f"torch cannot export this GAN to {form}: {lines[0]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters say about themselves."""
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

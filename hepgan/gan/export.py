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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepgan.atomic import write_bytes
from hepgan.data.encoding import EncodingModule
from hepgan.errors import RunError
from hepgan.gan.model import GAN

OPSET = 18
"""Of ONNX; what ONNX Runtime 1.14 and later read."""


class Decoded(nn.Module):
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

    Raises:
        RunError: another ending, a field that is called ``noise``, the file exists or cannot be written, or the extra ``onnx`` is not installed.
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


def about(gan: GAN) -> dict[str, Any]:
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
    model = _onnx_model(gan, single=False)
    try:
        onnxruntime.InferenceSession(model.SerializeToString())
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        # ONNX Runtime has no convolutions in double precision.
        model = _onnx_model(gan, single=True)
    onnx.helper.set_model_props(model, {"hepgan": json.dumps(about(gan))})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _onnx_model(gan: GAN, *, single: bool) -> Any:
    example, batch = _example(gan)
    program = torch.onnx.export(
        Decoded(gan, single=single).eval(), example, dynamo=True, dynamic_shapes=batch, opset_version=OPSET,
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
    program = torch.export.export(Decoded(gan).eval(), example, dynamic_shapes=batch)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"hepgan.json": json.dumps(about(gan))})
    return content.getvalue()


def _example(gan: GAN) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """Inputs for tracing, and which of their axes vary."""
    size = 3
    middle = [sum(scale.range) / 2 for scale in gan.encoding.scales.values()]
    conditions = tuple(torch.full((size,), float(value)) for value in middle)
    axes = {0: torch.export.Dim("batch", min=1)}
    return (torch.zeros(size, *gan.latent), *conditions), (axes, tuple(axes for _ in conditions))


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

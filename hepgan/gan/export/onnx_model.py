"""ONNX models of torch modules, with translations of operators that torch's exporter lacks or rounds."""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special
import torch
from torch import Tensor, nn

from hepgan.errors import RunError
from hepgan.gan.export.level_functions import DOMAIN, LevelFunctions

OPSET = 18
"""Operator set of ONNX, supported by ONNX Runtime 1.14 and later."""

Run = Callable[[Sequence[npt.NDArray[Any]]], list[npt.NDArray[Any]]]
"""Function of the inputs of a model that returns its outputs."""


def require_onnx() -> None:
    """Checks that the packages of the extra ``onnx`` are installed.

    Raises:
        RunError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  used by torch's exporter
    except ImportError as error:
        raise RunError(
            "the export to ONNX needs additional packages: pip install 'hepgan[onnx]'"
        ) from error


def onnx_model(
    module: nn.Module,
    example: tuple[Tensor, ...],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: Any = None,
) -> Any:
    """Returns the ONNX model (``ModelProto``) of a module, for inputs with the shapes of ``example``.

    Raises:
        RunError: torch cannot export the module.
    """
    functions = LevelFunctions()
    with quiet(), exporter_errors("ONNX"):
        with functions.traced():
            model = _exported(module, example, inputs, outputs, dynamic_shapes)
        for name, level, tables, axes in functions.examples():
            names = [f"input_{i}" for i in range(len(tables))]
            body = _exported(level, tables, names, ["after"], axes)
            model.functions.append(_function(name, body))
    return model


def _exported(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: Any,
) -> Any:
    program = torch.onnx.export(
        module, example, dynamo=True, dynamic_shapes=dynamic_shapes, opset_version=OPSET,
        input_names=list(inputs), output_names=list(outputs), verbose=False,
        custom_translation_table={
            torch.ops.aten.searchsorted.Tensor: _searchsorted,
            torch.ops.aten.bucketize.Tensor: _bucketize,
            torch.ops.aten.copysign.Tensor: _copysign,
            torch.ops.aten.special_ndtr.default: _ndtr,
            torch.ops.aten.erfc.default: _erfc,
            torch.ops.aten.sigmoid.default: _sigmoid,
            torch.ops.aten.lerp.Tensor: _lerp,
            torch.ops.aten.nan_to_num.default: _nan_to_num,
            torch.ops.aten.argmin.default: _argmin,
        },
    )  # fmt: skip
    if program is None:
        raise RunError("torch did not return an ONNX program; please report this")
    return program.model_proto


def _function(name: str, model: Any) -> Any:
    """Returns the graph of a model as a function; its initializers become constants."""
    import onnx

    graph = model.graph
    constants = [
        onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in graph.initializer
    ]
    return onnx.helper.make_function(
        DOMAIN, name, [value.name for value in graph.input], [value.name for value in graph.output],
        [*constants, *graph.node], model.opset_import,
    )  # fmt: skip


def operators(model: Any) -> Counter[str]:
    """Returns how often a model runs each operator, those of its functions included."""
    bodies = {function.name: function.node for function in model.functions}
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        body = bodies.get(node.op_type, ()) if node.domain == DOMAIN else (node,)
        counts.update(part.op_type for part in body)
    return counts


def onnx_runner(content: bytes, *, threads: int | None = None) -> Run:
    """Returns a function that runs an ONNX model in ONNX Runtime, by default on as many threads as torch.

    Raises:
        RunError: ONNX Runtime cannot load the model; the function raises it if it cannot run the model.
    """
    import onnxruntime

    failures = onnxruntime.capi.onnxruntime_pybind11_state
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(content, options)
    except (failures.Fail, failures.NotImplemented, failures.InvalidGraph) as error:
        raise RunError(
            f"ONNX Runtime cannot load the exported model: {str(error).splitlines()[0]}"
        ) from error
    names = [entry.name for entry in session.get_inputs()]

    def run(inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        try:
            outputs: list[npt.NDArray[Any]] = session.run(
                None, dict(zip(names, inputs, strict=True))
            )
        except (failures.Fail, failures.RuntimeException, failures.InvalidArgument) as error:
            raise RunError(
                f"ONNX Runtime cannot run the exported model in a batch of {len(inputs[0])}: {str(error).splitlines()[0]}"
            ) from error
        return outputs

    return run


@contextmanager
def exporter_errors(target: str) -> Iterator[None]:
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
def quiet() -> Iterator[None]:
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


def _bucketize(self: Any, boundaries: Any, **options: Any) -> Any:
    """Translates ``torch.bucketize``, which is ``torch.searchsorted`` with its arguments exchanged."""
    return _searchsorted(boundaries, self, **options)


def _copysign(self: Any, other: Any) -> Any:
    """Translates ``torch.copysign``, except for negative zeros."""
    from onnxscript import opset18

    op: Any = opset18
    size = op.Abs(self)
    return op.Where(op.Less(other, op.CastLike(0.0, other)), op.Neg(size), size)


def _lerp(self: Any, end: Any, weight: Any) -> Any:
    """Translates ``torch.lerp``; torch's exporter computes two formulas and chooses between them, which takes three times as long."""
    from onnxscript import opset18

    op: Any = opset18
    return op.Add(self, op.Mul(weight, op.Sub(end, self)))


def _nan_to_num(
    self: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """Translates ``torch.nan_to_num`` of numbers in single precision with one selection instead of three."""
    from onnxscript import opset18

    op: Any = opset18
    largest = float(np.finfo(np.float32).max)
    limits = (-largest if neginf is None else neginf, largest if posinf is None else posinf)
    low, high = (op.CastLike(limit, self) for limit in limits)
    return op.Clip(op.Where(op.IsNaN(self), op.CastLike(nan or 0.0, self), self), low, high)


def _sigmoid(self: Any) -> Any:
    """Translates ``torch.sigmoid`` with a small relative error, also near 0, where ``Sigmoid`` of ONNX Runtime has an absolute one."""
    from onnxscript import opset18

    op: Any = opset18
    return op.Reciprocal(op.Add(op.Exp(op.Neg(self)), op.CastLike(1.0, self)))


def _ndtr(self: Any) -> Any:
    """Translates ``torch.special.ndtr`` with a small relative error, also in the lower tail."""
    from onnxscript import opset18

    op: Any = opset18
    lower = _lower_tail(self)
    return op.Where(
        op.Greater(self, op.CastLike(0.0, self)), op.Sub(op.CastLike(1.0, self), lower), lower
    )


def _erfc(self: Any) -> Any:
    """Translates ``torch.erfc`` with a small relative error, also for large numbers; 1 minus ``Erf`` would lose it."""
    import onnx
    from onnxscript import opset18

    op: Any = opset18
    root = op.CastLike(op.Constant(value=onnx.numpy_helper.from_array(np.array(2.0**0.5))), self)
    upper = op.Mul(_lower_tail(op.Mul(self, root)), op.CastLike(2.0, self))
    return op.Where(
        op.Less(self, op.CastLike(0.0, self)), op.Sub(op.CastLike(2.0, self), upper), upper
    )


def _lower_tail(self: Any) -> Any:
    """Returns the operators of the normal probability below minus the size of a number.

    It is the Taylor series around the nearest of 513 points between −8 and 0.
    """
    import onnx
    from onnxscript import opset18

    op: Any = opset18
    points = np.arange(-512, 1) / 64

    def table(values: npt.NDArray[np.float64]) -> Any:
        return op.CastLike(op.Constant(value=onnx.numpy_helper.from_array(values)), self)

    def number(value: float) -> Any:
        return op.CastLike(value, self)

    z = op.Clip(op.Neg(op.Abs(self)), number(-8.0), number(0.0))
    nearest = op.Floor(op.Add(op.Mul(z, number(64.0)), number(0.5)))  # SOFIE has no Round
    at = op.Cast(op.Add(nearest, number(512.0)), to=7)
    at = op.Clip(at, op.Constant(value_int=0), op.Constant(value_int=512))  # for NaN
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


def _argmin(self: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """Translates ``torch.argmin`` along an axis; SOFIE has no ArgMin."""
    from onnxscript import opset18

    op: Any = opset18
    _, at = op.TopK(self, op.Constant(value_ints=[1]), axis=dim, largest=0)
    return at if keepdim else op.Squeeze(at, op.Constant(value_ints=[dim]))

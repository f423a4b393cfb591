"""Levels of ``energy_tree`` as calls of ONNX functions: the graph of a level is traced once, not for each of dozens of levels.

All levels of a tree do the same with other tables, so that a function has the tables as inputs, with axes of any length.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hepgan.data.encoding.density.network import RowNetwork
from hepgan.data.encoding.density.tree import TreeLevel, levels_traced, split_blocks

DOMAIN = "hepgan"
"""Domain of the functions in an ONNX model."""

_TABLES = {
    "parent": "N", "children": "N2", "kept": "2K", "layer": "N", "axis": "N", "neighbors": "N.", "overlaps": "N..", "weights": "N..",
    "positions": ".N", "members": ".M", "moments": ".M.", "ranges": "2N",
}  # fmt: skip
_NETWORK = {
    "features": "..", "context": "..", "context_bias": ".", "context_hidden": "..", "nodes": "N.", "hidden": "..", "hidden_bias": ".",
    "output": "..", "output_bias": "N.",
}  # fmt: skip
_EVENTS = {"blocks": "EA", "layers": "E.", "expected": "E..", "context": "E.", "scores": "EN"}
"""Axes of the inputs of a function: those named by a letter have any length."""

_SIZES = {"E": 3, "A": 11, "N": 5, "K": 6, "M": 4}
"""Lengths in the example for tracing, other than 0 and 1, which exporters take for constants."""


class _Signature(NamedTuple):
    """Lengths and types of the axes and inputs that are constants of a function, and the threshold."""

    inputs: tuple[tuple[torch.dtype, tuple[int, ...]], ...]
    threshold: float


@dataclasses.dataclass(frozen=True)
class LevelFunctions:
    """Functions of the levels of a model, by their signatures."""

    names: dict[_Signature, str] = dataclasses.field(default_factory=dict)

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Context manager in which the levels of trees become calls of functions, if torch can do so (2.8 or later)."""
        if not hasattr(torch.onnx, "ops"):
            yield
            return
        with levels_traced(self._call):
            yield

    def _call(self, level: TreeLevel, inputs: tuple[Tensor, ...], threshold: float) -> Tensor:
        tables = [getattr(level, name) for name in _TABLES]
        tables += [getattr(level.network, name) for name in _NETWORK]
        signature = _Signature(
            tuple(
                (tensor.dtype, tuple(_SIZES.get(axis) or int(size) for axis, size in axes))
                for tensor, axes in (
                    (tensor, zip(axes, tensor.shape, strict=True))
                    for tensor, axes in zip((*inputs, *tables), _axes(), strict=True)
                )
            ),
            threshold,
        )
        name = self.names.setdefault(signature, f"split_blocks_{len(self.names)}")
        result: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{name}", [*inputs, *tables],
            dtype=inputs[0].dtype, shape=(inputs[0].shape[0], level.blocks), version=1,
        )  # fmt: skip
        return result

    def examples(self) -> Iterator[tuple[str, nn.Module, tuple[Tensor, ...], Any]]:
        """Yields the name of each function, its module, inputs for tracing, and their dynamic axes."""
        dims = {axis: torch.export.Dim(axis.lower(), min=2) for axis in _SIZES}
        dynamic = tuple({i: dims[a] for i, a in enumerate(axes) if a in dims} for axes in _axes())
        for signature, name in self.names.items():
            example = tuple(torch.zeros(shape, dtype=dtype) for dtype, shape in signature.inputs)
            yield name, _Level(signature.threshold), example, (dynamic,)


def _axes() -> Iterator[str]:
    return itertools.chain(_EVENTS.values(), _TABLES.values(), _NETWORK.values())


class _Level(nn.Module):
    """Splits of a level whose tables are inputs."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, *inputs: Tensor) -> Tensor:
        events, tables = inputs[: len(_EVENTS)], inputs[len(_EVENTS) :]
        constants = dict(zip(_TABLES, tables, strict=False))
        network = RowNetwork(*tables[len(_TABLES) :])
        nodes, kept = constants["parent"].shape[0], constants["kept"].shape[1]
        level = TreeLevel(**constants, blocks=2 * nodes + kept, network=network)
        blocks, layers, expected, context, scores = events
        return split_blocks(level, blocks, layers, expected, context, scores, self.threshold)

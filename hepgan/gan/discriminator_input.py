"""Input of the discriminators: encoded events, decoded cells, layer energies, observables, or a combination."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from hepgan.data.encoding.conditional_regression import log_width
from hepgan.data.encoding.encoding import Encoding, EncodingModule
from hepgan.data.encoding.weighted import least_squares
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.evaluation.observables.base import SharedEvents
from hepgan.evaluation.observables.geometry import Layer, LayerGeometry
from hepgan.evaluation.observables.standard import Observable, layers_for, observables_for
from hepgan.gan.networks import GANSettings

log = logging.getLogger(__name__)

_LIMIT = 6.0
"""Limit to which standardized observables are clipped, in widths; larger values would not help to recognize an outlier."""


_SMALLEST_WIDTH = 0.2
"""Smallest width by which the logarithm of a cell is divided, relative to a typical one: few events have energy in some cells."""

_CHUNK = 4096
"""Events that are decoded at once."""


_OF_ENERGIES = ("cells", "images", "layer energies")


class CellIndices(nn.Module):
    """Positions in a flat list of cells, layer by layer, of the cells of mirror images and of rotated events.

    Args:
        shapes: Rows and columns of each layer.
        angles: Number of rotations, which divides the rows of each layer with several.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], angles: int) -> None:
        super().__init__()
        sizes = [rows * columns for rows, columns in shapes]
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        layers = [
            first + np.arange(rows * columns).reshape(rows, columns)
            for first, (rows, columns) in zip(starts, shapes, strict=True)
        ]
        turned = [_joined([_turned(layer, n, angles) for layer in layers]) for n in range(angles)]
        self.rows: Tensor
        self.columns: Tensor
        self.rotations: Tensor
        self.register_buffer("rows", _joined([layer[::-1] for layer in layers]), persistent=False)
        self.register_buffer(
            "columns", _joined([layer[:, ::-1] for layer in layers]), persistent=False
        )
        self.register_buffer("rotations", torch.stack(turned), persistent=False)

    def reflection(self, axis: Literal["rows", "columns"]) -> Tensor:
        """Returns the positions ``[n]`` of the cells of the mirror image."""
        return self.rows if axis == "rows" else self.columns


def _turned(layer: npt.NDArray[np.int64], turn: int, angles: int) -> npt.NDArray[np.int64]:
    return np.roll(layer, turn * (len(layer) // angles), 0)


def _joined(layers: Sequence[npt.NDArray[np.int64]]) -> Tensor:
    return torch.from_numpy(np.concatenate([layer.ravel() for layer in layers]))


class DiscriminatorInput(nn.Module):
    """Input of the discriminators, ``x[B, F], c[B, C] -> [B, S]``: that of each, one after the other.

    The input of a discriminator is one or several parts: ``event``, which is x, ``cells``, ``images``, ``layer energies`` and
    ``observables``. All but the first are computed from the decoded events, each part once; gradients flow through the decoding. Cells are
    log(1 + energy / threshold), standardized; in images by the mean and width of the layer. Layer energies, log(1 + energy / threshold)
    too, and observables are standardized conditionally: the mean and the log width of each are cubic polynomials in ``c``.

    Args:
        encoding: Encoding that decodes x.
        observables: Observables by name.
        x: Encoded reference events ``[E, F]`` from which means and widths are fitted.
        c: Their conditions ``[E, C]``.
        event: Whether the input of a single discriminator contains x; it does if there is nothing else.
        cells: Layers, of which a single discriminator sees the cells.
        inputs: Parts of the input of each of several discriminators, such as ``cells and observables``.
        train_encoding: Whether generated events are decoded with networks that are trained too, see ``trained``.

    Attributes:
        trained: Encoding that decodes generated events, with networks in training; ``None`` if it is that of the reference events.

    Raises:
        RunError: the encoding is to be trained, but it has no networks, or a discriminator sees encoded events, which it could not
            compare: those of the reference are encoded before the training.
    """

    def __init__(
        self,
        encoding: Encoding,
        observables: Mapping[str, Observable],
        x: Tensor,
        c: Tensor,
        *,
        event: bool = True,
        cells: Sequence[Layer] = (),
        inputs: Sequence[str] = (),
        train_encoding: bool = False,
    ) -> None:
        super().__init__()
        self._function = self._of_generated
        self.decoding = EncodingModule(encoding)
        self.trained = EncodingModule(encoding, trained=True) if train_encoding else None
        present = {"event": event, "cells": bool(cells), "observables": bool(observables)}
        single = [name for name, wanted in present.items() if wanted] or ["event"]
        self.inputs = [text.split(" and ") for text in inputs] or [single]
        self.parts = {part for parts in self.inputs for part in parts}
        if train_encoding and "event" in self.parts:
            raise RunError(
                "[train] encoding_learning_rate needs discriminators that see decoded events only; set [gan] discriminator_input ="
                " 'cells and observables', or another one without 'event'"
            )
        self.layers = tuple(cells)
        self.functions = {name: observable.function for name, observable in observables.items()}
        slices = [slice(start, start + _CHUNK) for start in range(0, len(x), _CHUNK)]
        with torch.no_grad():
            decoded = [self._decoded(x[part], c[part], self.decoding) for part in slices]
        logs, values = (torch.cat(part) for part in zip(*decoded, strict=True))
        buffers = dict(zip(("mean", "log_width"), _polynomials(values, c), strict=True))
        buffers |= dict(zip(("cell_mean", "cell_width"), _mean_and_width(logs), strict=True))
        of_layers = [(part.mean(), part.std(correction=0)) for _, part in self._layers(logs)]
        moments = torch.tensor(of_layers).reshape(-1, 2).to(logs)
        buffers["layer_mean"] = moments[:, 0]
        buffers["layer_width"] = torch.where(moments[:, 1] > 0, moments[:, 1], 1.0)
        self.mean: Tensor
        self.log_width: Tensor
        self.cell_mean: Tensor
        self.cell_width: Tensor
        self.layer_mean: Tensor
        self.layer_width: Tensor
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)
        shapes = {
            "cells": [_rows_and_columns(layer) for layer in self.layers],
            "images": [self._image[1:]] * len(self.layers),
        }
        angles = math.gcd(*(rows for rows, _ in shapes["cells"] if rows > 1)) or 1
        self.indices = {
            name: CellIndices(shapes[name], angles).to(x.device)
            for name in sorted(shapes.keys() & self.parts)
        }
        for name, indices in self.indices.items():
            self.add_module(f"{name}_indices", indices)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of the input of each discriminator: flat, or layers × rows × columns for images alone."""
        sizes = {
            "event": self.decoding.encoding.features,
            "cells": len(self.cell_mean),
            "images": math.prod(self._image),
            "layer energies": len(self.layers),
            "observables": len(self.functions),
        }
        return tuple(
            self._image if parts == ["images"] else (sum(sizes[part] for part in parts),)
            for parts in self.inputs
        )

    @property
    def size(self) -> int:
        """Number S of values per event."""
        return sum(map(math.prod, self.shapes))

    @property
    def _image(self) -> tuple[int, int, int]:
        rows, columns = (
            max((_rows_and_columns(la)[i] for la in self.layers), default=0) for i in (0, 1)
        )
        return len(self.layers), rows, columns

    def _layers(self, logs: Tensor) -> Iterator[tuple[Layer, Tensor]]:
        """Yields the layers of images, each with its columns among those of all cells."""
        first = 0
        for layer in self.layers if "images" in self.parts else ():
            last = first + math.prod(layer.shape)
            yield layer, logs[:, first:last]
            first = last

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the discriminators' inputs ``[B, S]`` for generated events."""
        return self._function(x, c)

    def _of_generated(self, x: Tensor, c: Tensor) -> Tensor:
        return self._inputs(x, c, self.trained or self.decoding)

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Context manager in which ``forward`` is compiled for each size of the batch, or stays as it is if ``torch.compile`` fails."""
        function = torch.compile(self._of_generated, dynamic=False, fullgraph=True)

        def compiled(x: Tensor, c: Tensor) -> Tensor:
            try:
                with warnings.catch_warnings():
                    # Cached constants of observables: the compiler looks behind their cache.
                    warnings.filterwarnings("ignore", "Dynamo detected a call to", UserWarning)
                    return function(x, c)
            except (RuntimeError, OSError) as error:
                self._function = self._of_generated
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                log.warning("torch.compile failed, the training continues without it: %s", reason)
                return self._of_generated(x, c)

        self._function = compiled
        try:
            yield
        finally:
            self._function = self._of_generated

    def _inputs(self, x: Tensor, c: Tensor, decoding: EncodingModule) -> Tensor:
        parts = {"event": x}
        if self.parts != {"event"}:
            logs, values = self._decoded(x, c, decoding)
            parts["cells"] = (logs - self.cell_mean) / self.cell_width
            powers = _powers(c)
            residual = values - powers @ self.mean
            standardized = residual * torch.exp(-(powers @ self.log_width))
            clipped = standardized.clamp(-_LIMIT, _LIMIT)
            parts["observables"] = clipped[:, : len(self.functions)]
            parts["layer energies"] = clipped[:, len(self.functions) :]
            if "images" in self.parts:
                parts["images"] = self._images(logs)
        inputs = [parts[part] for names in self.inputs for part in names]
        return torch.cat(inputs, 1) if len(inputs) > 1 else inputs[0]

    def map_logs(
        self, features: Tensor, c: Tensor, function: Callable[[str, Tensor], Tensor]
    ) -> Tensor:
        """Returns inputs ``[B, S]`` whose energies have been transformed; discriminators that see anything else keep theirs.

        Args:
            features: Discriminators' inputs.
            c: Conditions ``[B, C]``.
            function: Transformation of ``log(1 + energy / threshold)``, given the part (``cells``, ``images`` or ``layer energies``) and
                its values ``[B, n]``.
        """
        results = []
        sizes = [math.prod(shape) for shape in self.shapes]
        for parts, values in zip(self.inputs, torch.split(features, sizes, 1), strict=True):
            if parts[0] in _OF_ENERGIES and len(parts) == 1:
                mean, width = self._scale(parts[0], c)
                logs = (values * width + mean).clamp_min(0)
                values = (function(parts[0], logs) - mean) / width
                if parts[0] == "layer energies":
                    values = values.clamp(-_LIMIT, _LIMIT)
            results.append(values)
        return torch.cat(results, 1)

    def _scale(self, part: str, c: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the means and widths by which a part is standardized."""
        if part == "cells":
            return self.cell_mean, self.cell_width
        if part == "images":
            size = math.prod(self._image[1:])
            return self.layer_mean.repeat_interleave(size), self.layer_width.repeat_interleave(size)
        powers, columns = _powers(c), slice(len(self.functions), None)
        return powers @ self.mean[:, columns], torch.exp(powers @ self.log_width[:, columns])

    def cell_indices(self, part: str) -> "CellIndices":
        """Returns the positions of reflected and rotated cells in ``cells`` or ``images``."""
        return self.indices[part]

    def _images(self, logs: Tensor) -> Tensor:
        """Returns the standardized layers, repeated to the size of the largest one, ``[B, L · H · W]``."""
        _, rows, columns = self._image
        images = []
        for number, (layer, part) in enumerate(self._layers(logs)):
            image = (part - self.layer_mean[number]) / self.layer_width[number]
            image = image.reshape(-1, 1, *_rows_and_columns(layer))
            images.append(F.interpolate(image, (rows, columns)))
        return torch.cat(images, 1).flatten(1)

    @torch.no_grad()
    def of_events(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the discriminator's input ``[E, S]`` for any number of encoded reference events, without gradients."""
        if not len(x):
            return x.new_empty(0, self.size)
        parts = zip(torch.split(x, _CHUNK), torch.split(c, _CHUNK), strict=True)
        return torch.cat([self._inputs(*part, self.decoding) for part in parts])

    def _decoded(self, x: Tensor, c: Tensor, decoding: EncodingModule) -> tuple[Tensor, Tensor]:
        """Returns the logarithms of the cells, and observables and layer energies, before they are standardized."""
        none = x.new_empty(len(x), 0)
        if self.parts == {"event"}:
            return none, none
        encoding = decoding.encoding
        decoded = encoding.decode_tensors(x, c) | encoding.decode_conditions(c)
        events = SharedEvents(decoded)
        values = {name: function(events) for name, function in self.functions.items()}
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.shape != (len(x),):
                raise RunError(
                    f"the observable '{name}' returned {type(value).__name__} of shape {np.shape(value)} for tensors of {len(x)}"
                    " events; a discriminator needs a tensor with one value per event, so write the function for torch as well,"
                    " as array_api_compat does"
                )
        columns, cells = list(values.values()), [layer.cells(events) for layer in self.layers]
        if "layer energies" in self.parts:
            columns += [
                _log(part.sum(1), la.threshold) for part, la in zip(cells, self.layers, strict=True)
            ]
        logs = []
        if self.parts & {"cells", "images"}:
            logs = [_log(part, la.threshold) for part, la in zip(cells, self.layers, strict=True)]
        return (
            torch.cat(logs, 1) if logs else none,
            torch.stack(columns, 1) if columns else none,
        )


def _log(energies: Tensor, threshold: float) -> Tensor:
    return torch.log1p(energies.clamp_min(0) / threshold)


def _rows_and_columns(layer: Layer) -> tuple[int, int]:
    """Returns the shape of a layer as an image; one of a single axis is a row."""
    *rows, columns = layer.shape or (1,)
    return math.prod(rows), columns


def discriminator_parts(
    settings: GANSettings, schema: Schema, geometry: Mapping[str, LayerGeometry]
) -> dict[str, Any]:
    """Returns the arguments ``observables``, ``cells`` and ``inputs`` of ``DiscriminatorInput`` for these settings.

    Raises:
        RunError: see ``discriminator_cells``.
    """
    inputs = [one.input for one in settings.discriminators] or [settings.discriminator_input]
    parts = {part for text in inputs for part in text.split(" and ")}
    layers = parts & {"cells", "images", "layer energies"}
    return {
        "observables": discriminator_observables(schema, geometry)
        if "observables" in parts
        else {},
        "cells": discriminator_cells(schema, geometry) if layers else [],
        "inputs": inputs,
    }


def discriminator_cells(schema: Schema, geometry: Mapping[str, LayerGeometry]) -> list[Layer]:
    """Returns the layers whose cells can be part of the discriminator's input: all fields.

    Raises:
        RunError: a field is no layer of cells, or a layer has no threshold.
    """
    layers = layers_for(schema, geometry)
    of_layers = {layer.field for layer in layers}
    for name in schema.fields:
        if name not in of_layers:
            raise RunError(
                f"[gan] discriminator_input contains the cells of showers, but the field '{name}' is no layer of cells; use 'event', or"
                f" add [geometry.{name}]"
            )
    for layer in layers:
        if layer.threshold <= 0:
            raise RunError(
                "[gan] discriminator_input contains the logarithms of cells over their threshold; set threshold in"
                f" [geometry.{layer.field}]"
            )
    return layers


def discriminator_observables(
    schema: Schema, geometry: Mapping[str, LayerGeometry]
) -> dict[str, Observable]:
    """Returns the observables that can be part of the discriminator's input: one value per event, and not a condition."""
    observables = observables_for(schema, geometry, missing=0.0)
    conditions = {"E_inc", *schema.conditions, *(f"{name} (field)" for name in schema.conditions)}
    return {name: o for name, o in observables.items() if not o.spectrum and name not in conditions}


def _mean_and_width(values: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the means ``[K]`` of ``values[E, K]`` and the widths ``[K]`` by which they are divided."""
    mean = values.double().mean(0)
    width = (values - mean).square().mean(0).sqrt()
    typical = width.square().mean().sqrt()
    smallest = torch.where(typical > 0, _SMALLEST_WIDTH * typical, 1.0)
    return mean.float(), width.maximum(smallest).float()


def _powers(c: Tensor) -> Tensor:
    """Returns 1, c, c², c³ as ``[B, 1 + 3C]``."""
    return torch.cat([c.new_ones(len(c), 1), c, c**2, c**3], 1)


def _polynomials(values: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the coefficients ``[1 + 3C, K]`` of the mean and of the log width of ``values[E, K]``."""
    if not values.shape[1]:
        empty = values.new_empty(1 + 3 * c.shape[1], 0)
        return empty, empty
    powers, values = _powers(c).double(), values.double()
    mean = least_squares(powers, values)
    return mean.float(), log_width(values - powers @ mean, powers).float()

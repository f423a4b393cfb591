"""Input of the discriminator: encoded events, decoded cells, observables, or a combination."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepgan.data.encoding.conditional_regression import log_width
from hepgan.data.encoding.encoding import Encoding, EncodingModule
from hepgan.data.encoding.weighted import least_squares
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.evaluation.observables.base import SharedEvents
from hepgan.evaluation.observables.geometry import Layer, LayerGeometry
from hepgan.evaluation.observables.standard import Observable, layers_for, observables_for

_LIMIT = 6.0
"""Limit to which standardized observables are clipped, in widths; larger values would not help to recognize an outlier."""


_SMALLEST_WIDTH = 0.2
"""Smallest width by which the logarithm of a cell is divided, relative to a typical one: few events have energy in some cells."""

_CHUNK = 4096
"""Events that are decoded at once."""


class DiscriminatorInput(nn.Module):
    """Input of the discriminator, ``x[B, F], c[B, C] -> [B, S]``: x, cells and K observables, those that are asked for.

    Cells and observables are computed from the decoded events; gradients flow through the decoding. Cells are log(1 + energy /
    threshold), standardized. Each observable is standardized conditionally: its mean and its log width are cubic polynomials in ``c``.

    Args:
        encoding: Encoding that decodes x.
        observables: Observables by name.
        x: Encoded reference events ``[E, F]`` from which means and widths are fitted.
        c: Their conditions ``[E, C]``.
        event: Whether the input contains x; it does if there is nothing else.
        cells: Layers whose cells are part of the input.
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
    ) -> None:
        super().__init__()
        self.decoding = EncodingModule(encoding)
        self.event = event or not (observables or cells)
        self.layers = tuple(cells)
        self.functions = {name: observable.function for name, observable in observables.items()}
        parts = [slice(start, start + _CHUNK) for start in range(0, len(x), _CHUNK)]
        with torch.no_grad():
            decoded = [self._decoded(x[part], c[part]) for part in parts]
        logs, values = (torch.cat(part) for part in zip(*decoded, strict=True))
        buffers = dict(zip(("mean", "log_width"), _polynomials(values, c), strict=True))
        buffers |= dict(zip(("cell_mean", "cell_width"), _mean_and_width(logs), strict=True))
        self.mean: Tensor
        self.log_width: Tensor
        self.cell_mean: Tensor
        self.cell_width: Tensor
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    @property
    def size(self) -> int:
        """Number S of values per event."""
        features = self.decoding.encoding.features if self.event else 0
        return features + len(self.cell_mean) + len(self.functions)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the discriminator's input ``[B, S]``."""
        if not self.functions and not self.layers:
            return x
        logs, values = self._decoded(x, c)
        inputs = [x] if self.event else []
        if self.layers:
            inputs.append((logs - self.cell_mean) / self.cell_width)
        if self.functions:
            powers = _powers(c)
            residual = values - powers @ self.mean
            standardized = residual * torch.exp(-(powers @ self.log_width))
            inputs.append(standardized.clamp(-_LIMIT, _LIMIT))
        return torch.cat(inputs, 1)

    @torch.no_grad()
    def of_events(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the discriminator's input ``[E, S]`` for any number of encoded events, without gradients."""
        if not len(x):
            return x.new_empty(0, self.size)
        parts = zip(torch.split(x, _CHUNK), torch.split(c, _CHUNK), strict=True)
        return torch.cat([self(*part) for part in parts])

    def _decoded(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logarithms of the cells and the observables, before they are standardized."""
        none = x.new_empty(len(x), 0)
        if not self.functions and not self.layers:
            return none, none
        encoding = self.decoding.encoding
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
        logs = [
            torch.log1p(layer.cells(events).clamp_min(0) / layer.threshold) for layer in self.layers
        ]
        columns = torch.stack(list(values.values()), 1) if values else none
        return torch.cat(logs, 1) if logs else none, columns


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

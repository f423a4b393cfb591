"""Input of the discriminator: encoded events, observables, or both."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from hepgan.data.encoding.conditional_regression import least_squares, log_width
from hepgan.data.encoding.encoding import Encoding, EncodingModule
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.observables.standard import Observable, observables_for

_LIMIT = 6.0
"""Limit to which standardized observables are clipped, in widths; larger values would not help to recognize an outlier."""


class DiscriminatorInput(nn.Module):
    """Input of the discriminator, ``x[B, F], c[B, C] -> [B, S]``: x, K standardized observables, or x followed by them.

    Observables are computed from the decoded events; gradients flow through the decoding. Each is standardized conditionally: its
    mean and its log width are cubic polynomials in ``c``.

    Args:
        encoding: Encoding that decodes x.
        observables: Observables by name; if there are none, the input is x alone.
        x: Encoded reference events ``[E, F]`` from which the polynomials are fitted.
        c: Their conditions ``[E, C]``.
        event: Whether the input contains x besides the observables.
    """

    def __init__(
        self,
        encoding: Encoding,
        observables: Mapping[str, Observable],
        x: Tensor,
        c: Tensor,
        *,
        event: bool = True,
    ) -> None:
        super().__init__()
        self.decoding = EncodingModule(encoding)
        self.event = event or not observables
        self.functions = {name: observable.function for name, observable in observables.items()}
        self.mean: Tensor
        self.log_width: Tensor
        mean, log_width = _polynomials(self._observed(x, c), c)
        self.register_buffer("mean", mean)
        self.register_buffer("log_width", log_width)

    @property
    def size(self) -> int:
        """Number S of values per event."""
        return len(self.functions) + (self.decoding.encoding.features if self.event else 0)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the discriminator's input ``[B, S]``."""
        if not self.functions:
            return x
        powers = _powers(c)
        residual = self._observed(x, c) - powers @ self.mean
        standardized = residual * torch.exp(-(powers @ self.log_width))
        standardized = standardized.clamp(-_LIMIT, _LIMIT)
        return torch.cat([x, standardized], 1) if self.event else standardized

    def _observed(self, x: Tensor, c: Tensor) -> Tensor:
        if not self.functions:
            return x.new_empty(len(x), 0)
        encoding = self.decoding.encoding
        events = encoding.decode_tensors(x, c) | encoding.decode_conditions(c)
        values = {name: function(events) for name, function in self.functions.items()}
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.shape != (len(x),):
                raise RunError(
                    f"the observable '{name}' returned {type(value).__name__} of shape {np.shape(value)} for tensors of {len(x)}"
                    " events; a discriminator needs a tensor with one value per event, so write the function for torch as well,"
                    " as array_api_compat does"
                )
        return torch.stack(list(values.values()), 1)


def discriminator_observables(
    schema: Schema, geometry: Mapping[str, LayerGeometry]
) -> dict[str, Observable]:
    """Returns the observables that can be part of the discriminator's input: one value per event, and not a condition."""
    observables = observables_for(schema, geometry, missing=0.0)
    conditions = {"E_inc", *schema.conditions, *(f"{name} (field)" for name in schema.conditions)}
    return {name: o for name, o in observables.items() if not o.spectrum and name not in conditions}


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

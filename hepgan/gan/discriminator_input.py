"""What the discriminator looks at: encoded events, and beside them the observables that physicists look at."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hepgan.data.encoding.conditional_regression import least_squares, log_width
from hepgan.data.encoding.encoding import Encoding, EncodingModule
from hepgan.data.schema import Schema
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.observables.standard import Observable, observables_for

_LIMIT = 6.0
"""Where standardised observables are cut off, in widths: a discriminator needs no larger number to see an outlier."""


class DiscriminatorInput(nn.Module):
    """``x[B, F], c[B, C]`` -> what the discriminator takes, ``[B, S]``: x, K standardised observables, or x and them behind it.

    The observables are those of the decoded events, so gradients flow through the decoding. Each is standardised given the conditions: mean and log width are cubic polynomials in ``c``.

    Args:
        encoding: Decodes x.
        observables: By name; an empty mapping shows x alone.
        x: Encoded reference events ``[E, F]`` to standardise with.
        c: Their conditions ``[E, C]``.
        event: Whether x is shown beside the observables.
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
        self.functions = [observable.function for observable in observables.values()]
        self.mean: Tensor
        self.log_width: Tensor
        mean, log_width = _polynomials(self._observed(x, c), c)
        self.register_buffer("mean", mean)
        self.register_buffer("log_width", log_width)

    @property
    def size(self) -> int:
        """S, how many numbers of an event the discriminator is shown."""
        return len(self.functions) + (self.decoding.encoding.features if self.event else 0)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """``[B, S]``."""
        if not self.functions:
            return x
        powers = _powers(c)
        distance = self._observed(x, c) - powers @ self.mean
        standardised = distance * torch.exp(-(powers @ self.log_width))
        standardised = standardised.clamp(-_LIMIT, _LIMIT)
        return torch.cat([x, standardised], 1) if self.event else standardised

    def _observed(self, x: Tensor, c: Tensor) -> Tensor:
        if not self.functions:
            return x.new_empty(len(x), 0)
        encoding = self.decoding.encoding
        events = encoding.decode_tensors(x, c) | encoding.decode_conditions(c)
        return torch.stack([function(events) for function in self.functions], 1)


def discriminator_observables(
    schema: Schema, geometry: Mapping[str, LayerGeometry]
) -> dict[str, Observable]:
    """The observables of ``schema`` that a discriminator can be shown: one value an event, and not a condition itself."""
    found = observables_for(schema, geometry, missing=0.0)
    given = {"E_inc", *schema.conditions, *(f"{name} (field)" for name in schema.conditions)}
    return {name: o for name, o in found.items() if not o.spectrum and name not in given}


def _powers(c: Tensor) -> Tensor:
    """``[B, 1 + 3C]``: 1, c, c², c³."""
    return torch.cat([c.new_ones(len(c), 1), c, c**2, c**3], 1)


def _polynomials(values: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients ``[1 + 3C, K]`` of each value's mean and log width."""
    if not values.shape[1]:
        empty = values.new_empty(1 + 3 * c.shape[1], 0)
        return empty, empty
    powers, values = _powers(c).double(), values.double()
    mean = least_squares(powers, values)
    return mean.float(), log_width(values - powers @ mean, powers).float()

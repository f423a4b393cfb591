"""Generator and decoding of a GAN in one module, which is what exporters trace."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hepgan.data.encoding.conditions import check_condition
from hepgan.data.encoding.encoding import EncodingModule
from hepgan.errors import RunError
from hepgan.gan.model import GAN


class DecodedGenerator(nn.Module):
    """Generator and decoding in one module, ``noise, condition, … -> field, …``, in single precision as in ``GAN.sample``.

    Args:
        gan: GAN, which is copied.
        fixed: Values of conditions that are constants of the module instead of inputs, in the schema's units.

    Raises:
        RunError: ``fixed`` names a condition that the GAN does not have.
        DataError: a fixed value is outside the trained range.
    """

    def __init__(self, gan: GAN, *, fixed: Mapping[str, float] | None = None) -> None:
        super().__init__()
        scales = gan.encoding.scales
        self.decoding = EncodingModule(gan.encoding)
        self.generator = copy.deepcopy(gan.generator)
        self.fixed: dict[str, str] = {}
        for number, (name, value) in enumerate((fixed or {}).items()):
            if name not in scales:
                known = ", ".join(scales) or "none"
                raise RunError(f"the GAN has no condition '{name}' to fix (it has: {known})")
            check_condition(
                name, values := torch.tensor([value], dtype=torch.float64), scales[name]
            )
            self.fixed[name] = f"fixed_{number}"
            self.register_buffer(self.fixed[name], scales[name].encode(values).float())

    def forward(self, noise: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Returns each field as ``float32[B, *shape]``, for the values ``[B]`` of the conditions that are not fixed."""
        encoding, values = self.decoding.encoding, iter(conditions)
        columns = [
            self.get_buffer(self.fixed[name]).expand(noise.shape[0], -1)
            if name in self.fixed
            else scale.encode(next(values))
            for name, scale in encoding.scales.items()
        ]
        c = torch.cat(columns, 1) if columns else noise.new_empty(noise.shape[0], 0)
        return self.fields(noise, c)

    def fields(self, noise: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """Returns each field for the encoded conditions ``c[B, C]``."""
        encoding = self.decoding.encoding
        fields = encoding.decode_tensors(self.generator(noise, c).flatten(1), c)
        return tuple(fields[name] for name in encoding.schema.fields)


class EncodedConditions(DecodedGenerator):
    """Generator and decoding with encoded conditions ``c[B, C]`` as the only other input, or none if the GAN has no conditions."""

    def forward(self, noise: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Returns each field as ``float32[B, *shape]``."""
        return self.fields(noise, *(conditions or (noise.new_empty(noise.shape[0], 0),)))

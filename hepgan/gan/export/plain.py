"""The contract without a host: noise and each condition in, each field out, for any number of events."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hepgan.errors import RunError
from hepgan.gan.export.hosts import Array, HostModel, register_host
from hepgan.gan.model import GAN


@register_host("plain")
class Plain(HostModel):
    """Inputs ``noise[B, *latent]``, standard normal, and each condition ``[B]``; outputs each field ``[B, *shape]``; the schema's units."""

    title = "a program of your own"
    any_batch = True

    def __init__(self, gan: GAN, *, fixed: Mapping[str, float], path: Path) -> None:
        super().__init__(gan, fixed=fixed, path=path)
        if "noise" in gan.schema.all:
            raise RunError(
                "the GAN has a field 'noise', but this is the name of the exported model's first input; rename the field in the schema"
                " and train again"
            )
        self.inputs, self.outputs = ("noise", *self.conditions), tuple(gan.schema.fields)

    def forward(self, noise: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Returns each field."""
        fields: tuple[Tensor, ...] = self.decoded(noise, *conditions)
        return fields

    def feed(self, noise: Array, conditions: Mapping[str, Array]) -> list[Array]:
        """Returns the noise and the conditions."""
        return [self.normal(noise), *(conditions[name] for name in self.conditions)]

    def read(self, outputs: Sequence[Array], conditions: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs."""
        return dict(zip(self.outputs, outputs, strict=True))

    def about(self) -> dict[str, Any]:
        """Returns shapes, units, ranges and classes."""
        conditions, scales = self.schema.conditions, self.scales
        return {
            "inputs": {
                "noise": {"shape": list(self.latent), "distribution": "standard normal"},
                **{
                    name: {
                        "shape": [],
                        "unit": conditions[name].unit,
                        "range": list(scales[name].range),
                        **({"classes": list(c)} if (c := scales[name].classes) else {}),
                    }
                    for name in self.conditions
                },
            },
            "outputs": {
                name: {"shape": list(field.shape), "unit": field.unit}
                for name, field in self.schema.fields.items()
            },
        }

"""Engines: programs that run the networks and the decoding of a GAN, by name.

| engine | |
|---|---|
| ``torch`` | on the CPU or a GPU |
| ``onnx`` | ONNX Runtime on the CPU: less time for few events per call; the GAN is exported once, in seconds |
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn

from hepgan.data.encoding.encoding import Encoding
from hepgan.errors import RunError, did_you_mean

if TYPE_CHECKING:
    from hepgan.gan.model import GAN

EngineName = Literal["torch", "onnx"]


class Engine(Protocol):
    """Generator and decoding of a GAN, for ``noise[B, *latent]`` and encoded conditions ``c[B, C]``."""

    @property
    def one_thread(self) -> bool:
        """True if batches are faster on a thread each than one after the other on all threads."""

    def fields(self, noise: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Returns the values ``[B, *shape]`` of each field, see ``Encoding.decode_tensors``."""

    def parts(self, noise: Tensor, c: Tensor) -> Iterable[dict[str, Tensor]]:
        """Returns the fields of the events, a part of the batch after the other, for ``Encoding.events``."""


ENGINES: dict[str, Callable[["GAN"], Engine]] = {}
"""Functions that return the engine of a GAN, by name."""


def register_engine(
    name: str,
) -> Callable[[Callable[["GAN"], Engine]], Callable[["GAN"], Engine]]:
    """Returns a decorator that adds an engine."""

    def register(function: Callable[["GAN"], Engine]) -> Callable[["GAN"], Engine]:
        ENGINES[name] = function
        return function

    return register


def engine_of(gan: "GAN", name: str) -> Engine:
    """Returns the engine of that name for a GAN, whose networks must be in evaluation mode.

    Raises:
        RunError: there is no such engine, or it cannot run the GAN.
    """
    from hepgan.gan.export import onnx_engine  # noqa: F401  registered here: it imports the module of GAN

    if name not in ENGINES:
        near = did_you_mean(name, ENGINES) or f"; there are: {', '.join(ENGINES)}"
        raise RunError(f"unknown engine '{name}'{near}")
    return ENGINES[name](gan)


def device_for(engine: str, device: str) -> str:
    """Returns the name of the device for an engine: ``auto`` is the CPU for ONNX Runtime."""
    return "cpu" if (engine, device) == ("onnx", "auto") else device


@dataclasses.dataclass(frozen=True)
class TorchEngine:
    """The modules themselves."""

    generator: nn.Module
    encoding: Encoding

    @property
    def one_thread(self) -> bool:
        """True on a CPU, where most of the work is small operators and kernels."""
        return self.encoding.device.type == "cpu"

    def fields(self, noise: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Returns the values of each field."""
        return self.encoding.decode_tensors(self._encoded(noise, c), c)

    def parts(self, noise: Tensor, c: Tensor) -> Iterable[dict[str, Tensor]]:
        """Returns the fields of the events, decoded in parts that fit into the cache."""
        return list(self.encoding.decode_parts(self._encoded(noise, c), c))

    @torch.no_grad()
    def _encoded(self, noise: Tensor, c: Tensor) -> Tensor:
        x: Tensor = self.generator(noise.to(c.device), c)
        return x.flatten(1)


@register_engine("torch")
def torch_engine(gan: "GAN") -> TorchEngine:
    """Returns the engine of torch."""
    return TorchEngine(gan.generator, gan.encoding)

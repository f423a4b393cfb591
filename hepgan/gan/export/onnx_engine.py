"""ONNX Runtime as the engine of a GAN in Python."""

import dataclasses
import logging
import os
import weakref
from typing import ClassVar

import torch
from torch import Tensor

from hepgan.data.encoding.encoding import Encoding
from hepgan.errors import RunError
from hepgan.gan.engines import register_engine, torch_engine
from hepgan.gan.export.accuracy import compare, thresholds
from hepgan.gan.export.decoded import EncodedConditions
from hepgan.gan.export.onnx_model import Run, onnx_model, onnx_runner, require_onnx
from hepgan.gan.model import GAN
from hepgan.random_streams import torch_generator

log = logging.getLogger(__name__)

EVENTS = 200
"""Number of events in which the engine is compared with torch."""


@dataclasses.dataclass(frozen=True)
class OnnxEngine:
    """A session of ONNX Runtime.

    Attributes:
        run: Function of the noise and, if there are any, the encoded conditions.
        encoding: Encoding of the events.
    """

    one_thread: ClassVar[bool] = False  # a session has threads of its own
    run: Run
    encoding: Encoding

    def fields(self, noise: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Returns the values of each field."""
        inputs = [noise.numpy(), c.numpy()] if c.shape[1] else [noise.numpy()]
        return dict(zip(self.encoding.schema.fields, map(torch.from_numpy, self.run(inputs)), strict=True))  # fmt: skip

    def parts(self, noise: Tensor, c: Tensor) -> list[dict[str, Tensor]]:
        """Returns the fields of the events, in one part."""
        return [self.fields(noise, c)]


_ONNX: weakref.WeakKeyDictionary[GAN, tuple[tuple[tuple[int, int], ...], OnnxEngine]] = (
    weakref.WeakKeyDictionary()
)
"""Engine of each GAN, with the versions of its weights."""


@register_engine("onnx")
def onnx_engine(gan: GAN) -> OnnxEngine:
    """Returns the engine of ONNX Runtime, which is made once for the weights of a GAN, and compared with torch.

    It uses one thread, or as many as torch if ``OMP_NUM_THREADS`` is set.

    Raises:
        RunError: the extra ``onnx`` is missing, the GAN is not on the CPU or cannot be exported, or the results are not accurate enough.
    """
    if gan.device.type != "cpu":
        raise RunError(
            f"the engine onnx runs on the CPU, but the GAN is on '{gan.device}'; use the device cpu"
        )
    weights = [*gan.generator.parameters(), *gan.generator.buffers()]
    stamp = tuple((weight.data_ptr(), weight._version) for weight in weights)
    known = _ONNX.get(gan)
    if known is None or known[0] != stamp:
        known = _ONNX[gan] = stamp, _exported(gan)
    return known[1]


def _exported(gan: GAN) -> OnnxEngine:
    require_onnx()
    log.info("exporting the GAN to ONNX Runtime")
    rng = torch_generator(0, "export", "engine")
    noise = torch.randn(EVENTS, *gan.latent, generator=rng)
    scales = gan.encoding.scales
    examples = {name: scale.examples(EVENTS).numpy() for name, scale in scales.items()}
    c = gan.encoding.encode_conditions(examples) if scales else torch.empty(EVENTS, 0)
    batch = {0: torch.export.Dim("batch", min=1)}
    content = onnx_model(
        EncodedConditions(gan).eval(), (noise[:3], c[:3]) if scales else (noise[:3],),
        inputs=("noise", "c") if scales else ("noise",), outputs=tuple(gan.schema.fields),
        dynamic_shapes=(batch, (batch,)) if scales else (batch,),
    ).SerializeToString()  # fmt: skip
    threads = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else 1
    engine = OnnxEngine(onnx_runner(content, threads=threads), gan.encoding)
    one, other = (
        {name: field.numpy() for name, field in each.fields(noise, c).items()}
        for each in (engine, torch_engine(gan))
    )
    accuracy = compare(one, other, thresholds(gan))
    log.info("accuracy of ONNX Runtime: %s", accuracy)
    accuracy.check()
    return engine

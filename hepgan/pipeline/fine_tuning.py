"""Fine-tuning: a training that starts from the weights and the encoding of another GAN of the same shape."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from hepgan.config import short_repr, to_table
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.schema import Field, Schema
from hepgan.errors import RunError
from hepgan.gan import pretrained, sources
from hepgan.gan.members import gan_folder
from hepgan.gan.model import GAN
from hepgan.gan.serialization import load_weights, read_tensors, without_prefix
from hepgan.gan.training.checkpoint import newest_checkpoint
from hepgan.pipeline.config import RunConfig
from hepgan.pipeline.provenance import with_sha256

log = logging.getLogger(__name__)


class Start(NamedTuple):
    """GAN that a training starts from.

    Attributes:
        gan: Its encoding and its generator.
        discriminator: Weights of its discriminator; none without a checkpoint.
        origin: Its name and the SHA-256 of its weights.
    """

    gan: GAN
    discriminator: Mapping[str, Tensor]
    origin: str


def load_start(run: RunConfig, schema: Schema) -> Start:
    """Returns the GAN ``[train] start_from`` of a run.

    Raises:
        CheckpointError: there is no such GAN, or it is damaged.
        RunError: its fields, conditions, cells, encoding or networks differ from those of the run; names the first difference.
    """
    source = run.train.start_from
    folder = sources.local_folder(source)
    gan = GAN.load(folder, device="cpu")
    if difference := _difference(run, schema, gan):
        raise RunError(
            f"[train] start_from = {short_repr(source)} is a GAN of another shape: {difference}; change the run file, or train from"
            " the start"
        )
    _log_ranges(run, gan, source)
    shipped = pretrained.find(folder)
    own = gan_folder(folder)
    weights = pretrained.files(shipped)[1] if shipped else own / "generator.safetensors"
    last = None if shipped else newest_checkpoint(own)
    discriminator = without_prefix("discriminator", read_tensors(last)) if last else {}
    origin = f"{source}: {with_sha256(str(weights))}"
    discriminates = "and its discriminator" if discriminator else "with a new discriminator"
    log.info("starting from %s, %s", origin, discriminates)
    return Start(gan, discriminator, origin)


def start_gan(gan: GAN, start: Start) -> GAN:
    """Returns ``gan`` with the weights of ``start``, and where they come from."""
    source = Path(start.origin)
    load_weights(gan.generator, start.gan.generator.state_dict(), source)
    if start.discriminator:
        load_weights(gan.discriminator, start.discriminator, source)
    return dataclasses.replace(gan, started_from=start.origin)


def _difference(run: RunConfig, schema: Schema, gan: GAN) -> str:
    """Returns the first difference between the shapes of a run and a GAN; empty if there is none."""
    kinds = {
        "field": (_fields(schema.fields), _fields(gan.schema.fields)),
        "condition": (_fields(schema.conditions), _fields(gan.schema.conditions)),
        "scale of the condition": (_scales(run.encoding.conditions), _scales(gan.encoding.scales)),
        "cells of the field": (_cells(run), _cells(gan)),
        "setting of [gan]": (_networks(run.gan), _networks(gan.settings)),
    }
    for kind, (here, there) in kinds.items():
        for name in [*here, *(name for name in there if name not in here)]:
            if name not in there or name not in here:
                known, unknown = ("here", "there") if name in here else ("there", "here")
                if kind != "cells of the field":  # without a geometry, nothing is known
                    return f"the {kind} '{name}' exists only {known}, not {unknown}"
            elif here[name] != there[name]:
                return f"the {kind} '{name}' is {there[name]} there and {here[name]} here"
    return ""


def _fields(fields: Mapping[str, Field]) -> dict[str, str]:
    return {
        name: f"{list(field.shape) or 'a number'} in {field.unit or 'no unit'}"
        for name, field in fields.items()
    }


def _scales(scales: Mapping[str, ConditionScale]) -> dict[str, str]:
    """Returns scales without their ranges, which may differ."""
    return {
        name: f"{scale.scale} {list(scale.values)}" if scale.classes else scale.scale
        for name, scale in scales.items()
    }


def _cells(one: RunConfig | GAN) -> dict[str, str]:
    keys = ("cell", "r_edges", "positions")
    tables = {name: to_table(layer) for name, layer in one.geometry.items()}
    return {
        name: short_repr({key: table[key] for key in keys if table.get(key)})
        for name, table in tables.items()
    }


def _networks(settings: Any) -> dict[str, str]:
    """Returns layouts and sizes; the initialization does not matter."""
    table = to_table(settings)
    for key in ("layout", "initialization"):
        table.pop(key, None)
    generator, discriminator = settings.layouts
    table |= {"generator": str(generator), "discriminator": str(discriminator)}
    return {key: short_repr(value) for key, value in table.items()}


def _log_ranges(run: RunConfig, gan: GAN, source: str) -> None:
    for name, scale in run.encoding.conditions.items():
        there = gan.encoding.scales[name]
        if not scale.classes and scale.range != there.range:
            log.warning(
                "the condition '%s' has the range %s here and %s in %s; networks start better with the same range",
                name, scale, there, source,
            )  # fmt: skip

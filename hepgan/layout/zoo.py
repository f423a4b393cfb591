"""Published networks as layouts, by name; ``zoo.toml`` contains them with their inputs and sources."""

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from hepgan.config import from_table
from hepgan.errors import RunError, did_you_mean
from hepgan.layout.summary import summarize


@dataclasses.dataclass(frozen=True)
class PublishedLayout:
    """A published network, or pair of networks.

    Attributes:
        description: One line for the list.
        source: Publication.
        layout: One network, or generator ``##`` discriminator.
        input: Shape of one event.
        noise: Shape of the generator's input; empty for that of the event.
        conditions: Number of conditions of an event.
        fields: Shapes of the event's fields.
        published: Published parameter count of each network, if any.
    """

    description: str
    source: str
    layout: str
    input: tuple[int, ...]
    noise: tuple[int, ...] = ()
    conditions: int = 0
    fields: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    published: tuple[int, ...] = ()

    @property
    def generator_input(self) -> tuple[int, ...]:
        """Shape of the generator's input."""
        return self.noise or self.input

    def summary(self) -> dict[str, Any]:
        """Returns the layer table, as ``summary.summarize`` does."""
        return summarize(
            self.layout,
            input=self.input,
            generator_input=self.generator_input,
            conditions=self.conditions,
            fields=self.fields,
        )


@functools.cache
def published_layouts() -> Mapping[str, PublishedLayout]:
    """Returns all published layouts by name.

    >>> published_layouts()["calogan"].summary()["generator"]["parameters"]
    29726376
    """
    text = resources.files("hepgan.layout").joinpath("zoo.toml").read_text(encoding="utf-8")
    return {
        name: from_table(PublishedLayout, table, where=name)
        for name, table in tomllib.loads(text).items()
    }


def look_up(name: str) -> PublishedLayout:
    """Returns the published layout ``name``.

    Raises:
        RunError: the name is unknown; with the nearest known one.
    """
    if name not in published_layouts():
        known = f"; known names are {', '.join(published_layouts())}"
        raise RunError(
            f"unknown layout name '{name}'{did_you_mean(name, published_layouts()) or known}"
        )
    return published_layouts()[name]

"""Published networks as layouts, by name. They stand in ``zoo.toml``, with their inputs and sources."""

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from hepgan.config import from_table
from hepgan.errors import RunError, did_you_mean
from hepgan.layout.spec.base import Shape
from hepgan.layout.summary import summarize


@dataclasses.dataclass(frozen=True)
class PublishedLayout:
    """A layout that is published.

    Attributes:
        about: One line for the list.
        source: Where it was published.
        layout: One network, or generator ``##`` discriminator.
        input: The shape of one event.
        noise: The shape of the generator's input; that of the event where it is empty.
        conditions: How many conditions an event has.
        fields: The shape of each of the event's fields.
        published: The numbers of parameters that the source gives for each network, where it gives them.
    """

    about: str
    source: str
    layout: str
    input: tuple[int, ...]
    noise: tuple[int, ...] = ()
    conditions: int = 0
    fields: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    published: tuple[int, ...] = ()

    @property
    def generator_input(self) -> Shape:
        """The shape that the generator starts from."""
        return self.noise or self.input

    def summary(self) -> dict[str, Any]:
        """Its layers and sizes, as ``table.summary`` gives them."""
        return summarize(
            self.layout,
            input=self.input,
            generator_input=self.generator_input,
            conditions=self.conditions,
            fields=self.fields,
        )


@functools.cache
def published_layouts() -> Mapping[str, PublishedLayout]:
    """All of them by name.

    >>> named()["calogan"].summary()["generator"]["parameters"]
    29726376
    """
    text = resources.files("hepgan.layout").joinpath("zoo.toml").read_text(encoding="utf-8")
    return {
        name: from_table(PublishedLayout, table, where=name)
        for name, table in tomllib.loads(text).items()
    }


def look_up(name: str) -> PublishedLayout:
    """The one of that name.

    Raises:
        RunError: there is none; with the nearest name.
    """
    if name not in published_layouts():
        known = f"; there are {', '.join(published_layouts())}"
        raise RunError(
            f"no layout is named '{name}'{did_you_mean(name, published_layouts()) or known}"
        )
    return published_layouts()[name]

"""Settings of the table ``[gan]``, and the networks built from them."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

from torch import nn

from hepgan.data.encoding.encoding import Encoding
from hepgan.errors import LayoutError, RunError
from hepgan.gan.two_stage import Discriminators, TwoStages
from hepgan.layout import Layout, parse, parse_gan
from hepgan.layout.nn.network import INIT, Network, build
from hepgan.layout.shapes import LayerInfo, trace
from hepgan.layout.spec.base import LINEAR, Activation, LayerSpec, Shape
from hepgan.layout.zoo import published_layouts
from hepgan.random_streams import child_seed


@dataclasses.dataclass(frozen=True)
class EnergySettings:
    """Settings of a first stage that generates the layer energies appended by the encoding, ``[gan.energies]``.

    The generator of ``[gan]`` then generates the cells only, conditioned on the conditions followed by these energies (``COND``
    inserts both); its ``N`` and its ``latent`` count the cells. The encoding enforces its sum rules on any output. An encoding that
    whitens (``whiten``, ``copula``) needs ``condition_on_first = ["appended"]``: otherwise it mixes the energies with the cells.

    Attributes:
        generator: Layout of the first stage. If empty, the noise itself is the encoded energies, which suits an encoding that
            whitens.
        discriminator: Layout of an additional discriminator of the energies alone; none if empty.
        latent: Shape of the first stage's noise; ``0`` stands for the number of energies.
    """

    generator: str = ""
    discriminator: str = ""
    latent: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for text in filter(None, (self.generator, self.discriminator)):
            parse(text)  # a typo is an error before data are read
        if not self.latent or min(self.latent) < 0:
            raise RunError(
                f"[gan.energies] latent = {list(self.latent)} should be a shape, such as [16]"
            )
        if not self.generator and (self.discriminator or self.latent != (0,)):
            raise RunError(
                "[gan.energies] without a generator takes no discriminator and no latent"
            )


Contents = Literal[
    "event",
    "observables",
    "event and observables",
    "cells",
    "cells and observables",
    "layer energies",
    "images",
]


@dataclasses.dataclass(frozen=True)
class DiscriminatorSettings:
    """Settings of one of several discriminators, ``[[gan.discriminator]]``; their losses are added.

    Attributes:
        layout: Layout.
        input: Content of its input, see ``discriminator_input`` of ``[gan]``.
        shape: Shape of its input; by default flat, and layers × rows × columns for ``images``.
        weight: Factor of its losses and penalties.
    """

    layout: str
    input: Contents = "event"
    shape: tuple[int, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        parse(self.layout)  # a typo is an error before data are read
        if not 0 < self.weight < math.inf:
            raise RunError(f"[[gan.discriminator]] weight = {self.weight} should be positive")


@dataclasses.dataclass(frozen=True)
class GANSettings:
    """Settings of the networks: the table ``[gan]`` of a run file.

    Attributes:
        layout: ``generator ## discriminator``, or the name of a published pair (``hepgan layout --list``). Alternatively set
            ``generator`` and ``discriminator``.
        generator: Layout of the generator.
        discriminator: Layout of the discriminator, or the tables ``[[gan.discriminator]]`` of several ones; left out for an objective
            without one, such as ``mmd``, which compares events as ``discriminator_input`` says.
        latent: Shape of the generator's noise; ``0`` stands for N, the number of the event's features.
        input: Shape of the discriminator's input; by default flat, and layers × rows × columns for ``images``.
        discriminator_input: Content of the discriminator's input: the encoded event, its observables, both, the cells of its showers,
            cells and observables, layer energies, or ``images``, the cells of each layer, repeated to the size of the largest one, for
            convolutions. Cells and layer energies are decoded, log(1 + energy / threshold) with the thresholds of ``[geometry]``; they
            suit encodings whose features are no cells, such as ``energy_tree``.
        initialization: Weight initialization by TMVA's or torch's name.
        energies: First stage of a generator in two stages, see ``EnergySettings``.
    """

    latent: tuple[int, ...]
    layout: str = ""
    generator: str = ""
    discriminator: str | tuple[DiscriminatorSettings, ...] = ""
    input: tuple[int, ...] = ()
    discriminator_input: Contents = "event"
    initialization: str = "XAVIERUNIFORM"
    energies: EnergySettings | None = None

    def __post_init__(self) -> None:
        separate = bool(self.generator), bool(self.discriminator)
        if any(separate) == bool(self.layout) or separate == (False, True):
            raise RunError(
                "[gan] takes either 'layout' or 'generator' and 'discriminator' (or 'generator' alone, for an objective without a"
                " discriminator)"
            )
        if not self.latent or min(self.latent) < 0:
            raise RunError(f"[gan] latent = {list(self.latent)} should be a shape, such as [64]")
        own = self.input or self.discriminator_input != "event"
        if own and not isinstance(self.discriminator, str):
            raise RunError(
                "[gan] discriminator_input and input belong to a single discriminator; write input and shape into each"
                " [[gan.discriminator]]"
            )

    @property
    def discriminators(self) -> tuple[DiscriminatorSettings, ...]:
        """Settings of all discriminators except that of ``energies``; empty for a generator alone."""
        if not isinstance(self.discriminator, str):
            return self.discriminator
        if not self.discriminator and not self.layout:
            return ()
        layout = str(self.layouts[1])
        return (DiscriminatorSettings(layout, self.discriminator_input, self.input),)

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of all discriminators, that of ``energies`` included."""
        if isinstance(self.discriminator, str):
            weights: tuple[float, ...] = (1.0,) if self.layout or self.discriminator else ()
        else:
            weights = tuple(one.weight for one in self.discriminator)
        return (*weights, 1.0) if self.energies and self.energies.discriminator else weights

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """Parsed layouts of the generator and of the discriminators.

        Raises:
            LayoutError: a layout cannot be parsed; points to the position in its text.
        """
        if self.layout:
            return parse_gan(
                published_layouts()[self.layout].layout
                if self.layout in published_layouts()
                else self.layout
            )
        if isinstance(self.discriminator, str):
            return tuple(map(parse, filter(None, (self.generator, self.discriminator))))
        return parse(self.generator), *(parse(one.layout) for one in self.discriminator)

    @property
    def all_layouts(self) -> tuple[Layout, ...]:
        """Parsed layouts of all networks, those of the first stage included."""
        stage = self.energies
        texts = (stage.generator, stage.discriminator) if stage else ()
        return *self.layouts, *map(parse, filter(None, texts))


class StageShapes(NamedTuple):
    """Shapes of the generator's stages.

    Attributes:
        cells: Shape of the noise of the last (or only) stage.
        energies: Shape of the noise of the first of two stages; ``None`` if there is only one.
        n_energies: Number of energies that the first stage generates.
    """

    cells: tuple[int, ...]
    energies: tuple[int, ...] | None = None
    n_energies: int = 0

    @property
    def latent(self) -> tuple[int, ...]:
        """Shape of the noise of one event; the noise of the first stage comes first."""
        if self.energies is None:
            return self.cells
        return (math.prod(self.energies) + math.prod(self.cells),)


def stage_shapes(settings: GANSettings, encoding: Encoding) -> StageShapes:
    """Returns the shapes of the generator's stages for encoded events.

    Raises:
        RunError: there are two stages, but the encoding appends no energies.
    """
    if settings.energies is None:
        return StageShapes(_filled(settings.latent, encoding.features))
    n_energies = encoding.features - encoding.schema.features
    if n_energies < 1:
        raise RunError(
            "[gan.energies] generates the energies that an encoding appends to the cells, but this encoding appends none; add the"
            " step layer_sums or layer_fractions"
        )
    cells = _filled(settings.latent, encoding.schema.features)
    return StageShapes(cells, _filled(settings.energies.latent, n_energies), n_energies)


def _filled(latent: tuple[int, ...], features: int) -> tuple[int, ...]:
    return tuple(size or features for size in latent)


class _NetworkKwargs(TypedDict):
    """Arguments that ``trace`` and ``build`` share: input, output and context of a network."""

    input: tuple[int, ...]
    features: int
    conditions: int
    fields: dict[str, tuple[int, ...]]
    outputs: int
    role: Literal["generator", "discriminator"]


_Networks = dict[str, tuple[Layout, _NetworkKwargs]]
ENERGIES = "energies'"
"""Prefix of the first stage's networks in error messages, followed by their role."""


def build_networks(
    settings: GANSettings, encoding: Encoding, discriminator_shapes: Sequence[Shape], *, seed: int
) -> dict[str, nn.Module]:
    """Returns untrained networks ``generator`` and ``discriminator`` on the CPU.

    Args:
        settings: Layouts.
        encoding: Encoding of the events.
        discriminator_shapes: Shape of the input of each discriminator, see ``DiscriminatorInput.shapes``.
        seed: Seed of the weights.

    Raises:
        LayoutError: a layout cannot be parsed, or its shapes do not fit the events.
        RunError: the size of ``settings.input`` is not that of the discriminator's input.
    """
    built: dict[str, nn.Module] = {}
    for name, (layout, kwargs) in _networks(settings, encoding, discriminator_shapes).items():
        _check_output(layout, kwargs, name)
        network_seed = child_seed(seed, INIT[kwargs["role"]], name)
        built[name] = build(
            layout, **kwargs, seed=network_seed, initialization=settings.initialization
        )
    generator = built["generator"]
    shapes = stage_shapes(settings, encoding)
    if shapes.energies is not None:
        first = built.get(f"{ENERGIES} generator")
        generator = TwoStages(first, generator, energy_noise=math.prod(shapes.energies))
    ends = [0, *itertools.accumulate(map(math.prod, discriminator_shapes))]
    columns = [slice(first, last) for first, last in itertools.pairwise(ends)]
    discriminators = [built[name] for name in built if name.startswith("discriminator")]
    if of_energies := built.get(f"{ENERGIES} discriminator"):
        columns.append(slice(encoding.features - shapes.n_energies, encoding.features))
        discriminators.append(of_energies)
    one = len(discriminators) == 1
    discriminator = discriminators[0] if one else Discriminators(discriminators, columns)
    return {"generator": generator, "discriminator": discriminator}


def count_parameters(
    settings: GANSettings, encoding: Encoding, *, discriminator_shapes: Sequence[Shape] = ()
) -> dict[str, int]:
    """Returns the number of parameters of generator and discriminator, all stages included, without building them.

    ``discriminator_shapes`` as in ``GAN.build``.
    """
    counts = {"generator": 0, "discriminator": 0}
    shapes = discriminator_shapes or event_shapes(settings, encoding)
    for name, layers in layer_tables(settings, encoding, shapes).items():
        role = "generator" if name.endswith("generator") else "discriminator"
        counts[role] += sum(layer.parameters for layer in layers)
    return counts


def layer_tables(
    settings: GANSettings, encoding: Encoding, discriminator_shapes: Sequence[Shape]
) -> dict[str, list[LayerInfo]]:
    """Returns the layers of each network by its name, such as ``discriminator 2`` for one of several."""
    networks = _networks(settings, encoding, discriminator_shapes)
    return {name: trace(layout, **kwargs) for name, (layout, kwargs) in networks.items()}


def event_shapes(settings: GANSettings, encoding: Encoding) -> tuple[Shape, ...]:
    """Returns the shapes of the discriminators' inputs if each is the encoded event."""
    return ((encoding.features,),) * len(settings.discriminators)


def network_layers(network: nn.Module) -> list[list[nn.Module]]:
    """Returns the layers of each layout in ``network``, starting with that of ``[gan]``."""
    layouts = [part for part in network.modules() if isinstance(part, Network)]
    layouts.sort(key=lambda part: part is getattr(network, "energies", None))
    return [list(layout.layers.layers) for layout in layouts]


def _networks(
    settings: GANSettings, encoding: Encoding, discriminator_shapes: Sequence[Shape]
) -> _Networks:
    """Returns all layouts with their context, by name.

    Raises:
        RunError: the size of ``settings.input`` is not that of the discriminator's input.
    """
    shapes = stage_shapes(settings, encoding)
    generator, *layouts = settings.layouts
    cells, conditions = encoding.features - shapes.n_energies, encoding.conditions
    networks: _Networks = {
        "generator": (
            generator,
            _network_kwargs(
                encoding, shapes.cells, cells, cells, conditions + shapes.n_energies, "generator"
            ),
        )
    }
    discriminators = zip(settings.discriminators, layouts, discriminator_shapes, strict=True)
    for number, (one, layout, given) in enumerate(discriminators, start=1):
        name = "discriminator" if len(layouts) == 1 else f"discriminator {number}"
        shape = one.shape or given
        if math.prod(shape) != math.prod(given):
            key = (
                "[gan] input"
                if name == "discriminator"
                else f"[[gan.discriminator]] {number} shape"
            )
            raise RunError(
                f"{key} = {list(shape)} should hold the {math.prod(given)} values of the discriminator's input"
            )
        in_fields = one.input.startswith(("event", "cells"))
        kwargs = _network_kwargs(
            encoding, shape, encoding.features, 1, conditions, "discriminator", cells=in_fields
        )
        networks[name] = _to_logits(layout), kwargs
    stage, n_energies = settings.energies, shapes.n_energies
    if stage and shapes.energies and stage.generator:
        kwargs = _network_kwargs(
            encoding, shapes.energies, n_energies, n_energies, conditions, "generator", cells=False
        )
        networks[f"{ENERGIES} generator"] = parse(stage.generator), kwargs
    if stage and stage.discriminator:
        if not settings.discriminators or "event" not in settings.discriminators[0].input:
            raise RunError(
                "[gan.energies] has a discriminator, but the input of the first discriminator does not contain the event; set [gan]"
                " discriminator_input = 'event and observables'"
            )
        kwargs = _network_kwargs(
            encoding, (n_energies,), n_energies, 1, conditions, "discriminator", cells=False
        )
        networks[f"{ENERGIES} discriminator"] = _to_logits(parse(stage.discriminator)), kwargs
    return networks


def _network_kwargs(
    encoding: Encoding,
    input: tuple[int, ...],
    features: int,
    outputs: int,
    conditions: int,
    role: Literal["generator", "discriminator"],
    *,
    cells: bool = True,
) -> _NetworkKwargs:
    schema = encoding.schema
    has_fields = cells and features == schema.features
    return _NetworkKwargs(
        input=input,
        features=features,
        conditions=conditions,
        fields={name: field.shape for name, field in schema.fields.items()} if has_fields else {},
        outputs=outputs,
        role=role,
    )


def _to_logits(layout: Layout) -> Layout:
    """Returns ``layout`` without a final SIGMOID: the objectives work on logits."""
    last = layout.words[-1]
    if getattr(last, "activation", None) != Activation("SIGMOID"):
        return layout
    linear: LayerSpec = dataclasses.replace(last, activation=LINEAR)  # type: ignore[call-arg]
    return Layout((*layout.words[:-1], linear), layout.text)


def _check_output(layout: Layout, kwargs: _NetworkKwargs, name: str) -> None:
    shape = trace(layout, **kwargs)[-1].output
    size, expected = math.prod(shape), kwargs["outputs"]
    if size != expected:
        text = "×".join(map(str, shape)) + (f" = {size}" if len(shape) > 1 else "")
        reason = ", the number of values of an event" if name == "generator" else ""
        raise LayoutError(
            f"the {name} has {text} outputs, but it should have {expected}{reason}; change its last layer\n  {layout}"
        )

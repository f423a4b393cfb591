"""From the table ``[gan]`` to built networks: layouts, and what they find around them."""

import dataclasses
import math
from typing import Literal, NamedTuple, TypedDict

from torch import nn

from hepgan.data.encoding.encoding import Encoding
from hepgan.errors import LayoutError, RunError
from hepgan.gan.two_stage import TwoDiscriminators, TwoStages
from hepgan.layout import Layout, parse, parse_gan
from hepgan.layout.nn.network import INIT, Network, build
from hepgan.layout.shapes import trace
from hepgan.layout.spec.base import LINEAR, Activation, Word
from hepgan.layout.zoo import networks
from hepgan.random_streams import child_seed


@dataclasses.dataclass(frozen=True)
class EnergySettings:
    """The table ``[gan.energies]``: a first stage, which makes the energies of layers that the encoding appends.

    The generator of ``[gan]`` then makes the cells alone, given the conditions and, behind them, these energies (``COND`` gives
    both); its ``N`` and its ``latent`` are those of the cells. The encoding's sum rules hold whatever it makes. Where the
    encoding whitens (``whiten``, ``copula``), give it ``first = ["appended"]``: otherwise it mixes the energies with the cells.

    Attributes:
        generator: The first stage's layout, given the conditions; where it is empty the noise is the encoded energies,
            as a whitening encoding wants them.
        discriminator: The layout of one that sees the energies alone, beside the other, which sees all; none where empty.
        latent: Shape of the first stage's noise; ``0`` stands for the number of energies.
    """

    generator: str = ""
    discriminator: str = ""
    latent: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for text in filter(None, (self.generator, self.discriminator)):
            parse(text)  # a typing error is told before data are read
        if not self.latent or min(self.latent) < 0:
            raise RunError(
                f"[gan.energies] latent = {list(self.latent)} should be a shape, such as [16]"
            )
        if not self.generator and (self.discriminator or self.latent != (0,)):
            raise RunError(
                "[gan.energies] without a generator takes no discriminator and no latent"
            )


@dataclasses.dataclass(frozen=True)
class GANSettings:
    """The table ``[gan]`` of a run file.

    Attributes:
        layout: ``generator ## discriminator``, or the name of a published pair (``hepgan layout --list``); or give the two
            apart.
        generator: The generator's layout.
        discriminator: The discriminator's layout.
        latent: Shape of the generator's noise; ``0`` stands for N, the number of the event's features.
        input: Shape that the discriminator's input is given; flat where empty.
        discriminator_sees: The encoded event, its observables, or the one and behind it the others.
        initialization: TMVA's or torch's name of how weights start.
        energies: Makes the generator one of two stages; see there.
    """

    latent: tuple[int, ...]
    layout: str = ""
    generator: str = ""
    discriminator: str = ""
    input: tuple[int, ...] = ()
    discriminator_sees: Literal["event", "observables", "event and observables"] = "event"
    initialization: str = "XAVIERUNIFORM"
    energies: EnergySettings | None = None

    def __post_init__(self) -> None:
        apart = bool(self.generator), bool(self.discriminator)
        if any(apart) == bool(self.layout) or any(apart) != all(apart):
            raise RunError("[gan] takes either 'layout' or both 'generator' and 'discriminator'")
        if not self.latent or min(self.latent) < 0:
            raise RunError(f"[gan] latent = {list(self.latent)} should be a shape, such as [64]")

    @property
    def layouts(self) -> tuple[Layout, Layout]:
        """Generator and discriminator, parsed.

        Raises:
            LayoutError: with the place in the string.
        """
        if self.layout:
            return parse_gan(
                networks()[self.layout].layout if self.layout in networks() else self.layout
            )
        return parse(self.generator), parse(self.discriminator)


class StageShapes(NamedTuple):
    """Of the generator's stages.

    Attributes:
        cells: Shape of the noise of the last stage.
        energies: The same of the first stage; ``None`` where there is but one.
        made: How many energies the first stage makes.
    """

    cells: tuple[int, ...]
    energies: tuple[int, ...] | None = None
    made: int = 0

    @property
    def latent(self) -> tuple[int, ...]:
        """The shape of one event's noise, the first stage's first."""
        if self.energies is None:
            return self.cells
        return (math.prod(self.energies) + math.prod(self.cells),)


def stage_shapes(settings: GANSettings, encoding: Encoding) -> StageShapes:
    """The sizes that ``settings`` come to for encoded events.

    Raises:
        RunError: two stages, but an encoding that appends no energies.
    """
    if settings.energies is None:
        return StageShapes(_filled(settings.latent, encoding.features))
    made = encoding.features - encoding.schema.features
    if made < 1:
        raise RunError(
            "[gan.energies] makes the energies that an encoding appends to the cells, but this one appends none; add the step"
            " layer_sums, or layer_fractions"
        )
    cells = _filled(settings.latent, encoding.schema.features)
    return StageShapes(cells, _filled(settings.energies.latent, made), made)


def _filled(latent: tuple[int, ...], features: int) -> tuple[int, ...]:
    return tuple(size or features for size in latent)


class _NetworkKwargs(TypedDict):
    """The arguments that ``trace`` and ``build`` share: what a network finds around it."""

    input: tuple[int, ...]
    features: int
    conditions: int
    fields: dict[str, tuple[int, ...]]
    outputs: int
    role: Literal["generator", "discriminator"]


_Plan = dict[str, tuple[Layout, _NetworkKwargs]]
ENERGIES = "energies'"
"""What the first stage's networks are called in errors, before their role."""


def build_networks(
    settings: GANSettings, encoding: Encoding, seen: int, *, seed: int
) -> dict[str, nn.Module]:
    """Untrained ``generator`` and ``discriminator``, on the CPU.

    Raises:
        LayoutError: a layout that does not parse, or whose shapes do not fit the events.
        RunError: an input shape of another size than the event.
    """
    found: dict[str, nn.Module] = {}
    for name, (layout, where) in _plan(settings, encoding, seen).items():
        _check_output(layout, where, name)
        own = child_seed(seed, INIT[where["role"]], name)
        found[name] = build(layout, **where, seed=own, initialization=settings.initialization)
    generator, discriminator = found["generator"], found["discriminator"]
    sizes = stage_shapes(settings, encoding)
    if sizes.energies is not None:
        first = found.get(f"{ENERGIES} generator")
        generator = TwoStages(first, generator, first=math.prod(sizes.energies))
    if judge := found.get(f"{ENERGIES} discriminator"):
        place = slice(encoding.features - sizes.made, encoding.features)
        discriminator = TwoDiscriminators(discriminator, judge, place=place)
    return {"generator": generator, "discriminator": discriminator}


def count_parameters(settings: GANSettings, encoding: Encoding, *, seen: int = 0) -> dict[str, int]:
    """How many parameters generator and discriminator have, all stages together; ``seen`` as in ``GAN.build``."""
    counts = {"generator": 0, "discriminator": 0}
    for layout, where in _plan(settings, encoding, seen or encoding.features).values():
        counts[where["role"]] += sum(layer.parameters for layer in trace(layout, **where))
    return counts


def network_layers(network: nn.Module) -> list[list[nn.Module]]:
    """The layers of each layout in ``network``, that of ``[gan]`` first."""
    layouts = [part for part in network.modules() if isinstance(part, Network)]
    layouts.sort(key=lambda part: part is getattr(network, "energies", None))
    return [list(layout.layers.layers) for layout in layouts]


def _plan(settings: GANSettings, encoding: Encoding, seen: int) -> _Plan:
    """All layouts with their surroundings, by name.

    Raises:
        RunError: the discriminator's input has another size than what it sees.
    """
    sizes = stage_shapes(settings, encoding)
    shape = settings.input or (seen,)
    if math.prod(shape) != seen:
        raise RunError(
            f"[gan] input = {list(shape)} should hold the {seen} numbers that the discriminator sees"
        )
    generator, discriminator = settings.layouts
    cells, given = encoding.features - sizes.made, encoding.conditions
    plan = {
        "generator": (
            generator,
            _network_kwargs(encoding, sizes.cells, cells, cells, given + sizes.made, "generator"),
        ),
        "discriminator": (
            _to_logits(discriminator),
            _network_kwargs(encoding, shape, encoding.features, 1, given, "discriminator"),
        ),
    }
    return plan | _plan_energies(settings, encoding, sizes)


def _plan_energies(settings: GANSettings, encoding: Encoding, sizes: StageShapes) -> _Plan:
    """The first stage's layouts, those that there are."""
    stage, given, made = settings.energies, encoding.conditions, sizes.made
    plan: _Plan = {}
    if stage and sizes.energies and stage.generator:
        where = _network_kwargs(
            encoding, sizes.energies, made, made, given, "generator", cells=False
        )
        plan[f"{ENERGIES} generator"] = parse(stage.generator), where
    if stage and stage.discriminator:
        if settings.discriminator_sees == "observables":
            raise RunError(
                "[gan.energies] has a discriminator, but [gan] discriminator_sees leaves the event out"
            )
        where = _network_kwargs(encoding, (made,), made, 1, given, "discriminator", cells=False)
        plan[f"{ENERGIES} discriminator"] = _to_logits(parse(stage.discriminator)), where
    return plan


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
    whole = cells and features == schema.features
    return _NetworkKwargs(
        input=input,
        features=features,
        conditions=conditions,
        fields={name: field.shape for name, field in schema.fields.items()} if whole else {},
        outputs=outputs,
        role=role,
    )


def _to_logits(layout: Layout) -> Layout:
    """``layout`` without a last SIGMOID, which the objectives apply themselves: they work on logits."""
    last = layout.words[-1]
    if getattr(last, "activation", None) != Activation("SIGMOID"):
        return layout
    linear: Word = dataclasses.replace(last, activation=LINEAR)  # type: ignore[call-arg]
    return Layout((*layout.words[:-1], linear), layout.text)


def _check_output(layout: Layout, where: _NetworkKwargs, name: str) -> None:
    shape = trace(layout, **where)[-1].output
    found, wanted = math.prod(shape), where["outputs"]
    if found != wanted:
        made = "×".join(map(str, shape)) + (f" = {found}" if len(shape) > 1 else "")
        whole = ", as many as the event has" if name == "generator" else ""
        raise LayoutError(
            f"the {name} ends with {made} values, but it should give {wanted}{whole}; mend its last layer\n  {layout}"
        )

"""Custom layer words, and the display of layouts."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hepgan.errors import LayoutError
from hepgan.gan.networks import GANSettings
from hepgan.layout import LayerSpec, build, parse, register_layer, trace
from hepgan.layout.spec.base import BUILDERS, LAYERS
from hepgan.plugins import import_plugins

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def clean_registry() -> Iterator[None]:
    """Forgets the words that a test registers."""
    layers, builders, path = dict(LAYERS), dict(BUILDERS), list(sys.path)
    yield
    sys.modules.pop("own_layer", None)
    sys.path[:] = path
    LAYERS.clear()
    LAYERS.update(layers)
    BUILDERS.clear()
    BUILDERS.update(builders)


def test_a_plugin_word_is_parsed_traced_and_built() -> None:
    with pytest.raises(LayoutError, match="unknown word 'CENTER'"):
        parse("CENTER|0.5")
    import_plugins(["own_layer"], folder=EXAMPLES)
    layout = parse("center | 0.5, CENTER, [a: CENTER; b: DENSE|2]")
    assert str(layout) == "CENTER|0.5, CENTER, [a: CENTER; b: DENSE|2|TANH]"
    assert parse(str(layout)) == layout
    assert trace(layout, input=(3, 4))[-1].output == (14,)
    x = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(1))
    y = build(parse("CENTER"), input=(3, 4), seed=1)(x)
    torch.testing.assert_close(y, x - x.mean((1, 2), keepdim=True))
    settings = GANSettings(
        latent=(4,), generator="CENTER, DENSE|N|LINEAR", discriminator="CENTER, DENSE|1"
    )
    assert [str(layout.words[0]) for layout in settings.layouts] == ["CENTER", "CENTER"]


def test_errors_in_a_plugin_word_point_at_it() -> None:
    import_plugins(["own_layer"], folder=EXAMPLES)
    with pytest.raises(LayoutError, match="2 numbers are given; write CENTER or CENTER|strength"):
        parse("CENTER|1|2")
    with pytest.raises(LayoutError, match="did you mean 'CENTER'"):
        parse("CENTRE")


@pytest.mark.parametrize("name", ["DENSE", "RELU", "N", "two words", "lower", "9A", "A|B"])
def test_registering_a_word_that_exists_or_cannot_be_parsed_raises(name: str) -> None:
    with pytest.raises(ValueError, match="the word"):

        @register_layer
        @dataclasses.dataclass(frozen=True)
        class Spec(LayerSpec):
            word = name


def test_a_word_without_a_builder_raises_with_its_name() -> None:
    @register_layer
    @dataclasses.dataclass(frozen=True)
    class BareSpec(LayerSpec):
        word = "BARE"

    with pytest.raises(LayoutError, match=r"BARE has no module: .*@register_builder\(BareSpec\)"):
        build(parse("BARE"), input=(3,), seed=1)


def test_every_word_has_a_builder() -> None:
    assert set(LAYERS.values()) == set(BUILDERS)


def test_layout_is_displayed_as_its_string_and_as_a_table() -> None:
    layout = parse("RES[dense|3|relu; PASS], DENSE|1")
    assert repr(layout) == "Layout('RES[DENSE|3|RELU; PASS], DENSE|1|TANH')"
    assert len(repr(parse(", ".join(["DENSE|3"] * 500)))) < 250
    assert layout._repr_html_().count("<tr>") == 3
    assert "Fully connected layer" in layout._repr_html_()

"""Registry of layer words: the dataclass of each word and the builder of its module.

A word of your own takes two decorators, in a module that a run file names in ``plugins`` (``examples/own_layer.py``)::

    @register_layer
    @dataclasses.dataclass(frozen=True)
    class CenterSpec(LayerSpec):
        word = "CENTER"

    @register_builder(CenterSpec)
    def build_center(spec, step, init):
        return Center()
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from hepgan.layout.spec.base import ACTIVATIONS, LayerSpec

if TYPE_CHECKING:
    from torch import nn

#: Builds the module of a layer from its dataclass, its ``shapes.Step`` and the ``nn.base.WeightInit``.
Builder = Callable[[Any, Any, Any], "nn.Module"]

LAYERS: dict[str, type[LayerSpec]] = {}
"""The dataclass of each word; that of a stream is ``""``."""

BUILDERS: dict[type[LayerSpec], Builder] = {}
"""The builder of each dataclass's module, filled by the modules of ``hepgan.layout.nn``."""

S = TypeVar("S", bound=LayerSpec)
B = TypeVar("B", bound=Builder)


def register_layer(spec: type[S]) -> type[S]:
    """Class decorator that adds a layer word to the language.

    Raises:
        ValueError: another class has registered the word, or it cannot be read back from a layout.
    """
    word = spec.word
    if word and (
        not word.isascii() or not word.isalnum() or not word[0].isalpha() or word != word.upper()
    ):
        raise ValueError(f"the word {word!r} should be letters A to Z and digits, a letter first")
    if word in ACTIVATIONS or word == "N":
        raise ValueError(f"the word {word!r} is already an activation or the number of features")
    known = LAYERS.get(word)
    if known is not None and (known.__module__, known.__qualname__) != (
        spec.__module__,
        spec.__qualname__,
    ):
        raise ValueError(
            f"the word {word!r} is already registered by {known.__module__}.{known.__qualname__}"
        )
    LAYERS[word] = spec
    return spec


def register_builder(*specs: type[LayerSpec]) -> Callable[[B], B]:
    """Decorator of the function ``(spec, step, init) -> nn.Module`` that builds the module of the words ``specs``."""

    def register(builder: B) -> B:
        BUILDERS.update(dict.fromkeys(specs, builder))
        return builder

    return register

"""``InputLayout`` and ``BatchLayout``: the shapes of what networks take."""

import math

from hepgan.tmva.options import Token

Sizes = tuple[int, ...]


def input_layouts(value: Token | None) -> tuple[Sizes, Sizes]:
    """The shape of the noise and of the event; ``()`` where it is left to the number of variables."""
    if value is None:
        return (), ()
    parts = value.split("##")
    if len(parts) > 2:
        raise parts[2].error(
            "InputLayout has a part for the generator and one for the discriminator"
        )
    shapes = [_sizes(part, "InputLayout") for part in parts]
    found = [shape if all(shape) else () for shape in shapes]
    return found[0], found[-1]


def _sizes(part: Token, what: str) -> Sizes:
    sizes = tuple(size.integer(f"a size of {what}") for size in part.split("|"))
    if len(sizes) > 3:
        raise part.error(f"{what} has at most depth|height|width")
    return sizes


def batch_of(value: Token | None, shapes: tuple[Sizes, Sizes]) -> int:
    """The batch size that BatchLayout gives, 0 where it gives none.

    Raises:
        RunError: it fits no batch of ``shapes``, the generator's and the discriminator's input.
    """
    if value is None:
        return 0
    sizes = []
    parts = value.split("##")
    if len(parts) > 2:
        raise parts[2].error(
            "BatchLayout has a part for the generator and one for the discriminator"
        )
    for part, shape in zip(parts, (shapes if len(parts) == 2 else shapes[1:]), strict=True):
        found = _sizes(part, "BatchLayout")
        if not any(found):
            continue
        events = found[0] if math.prod(found[1:]) == math.prod(shape) else found[1 % len(found)]
        if not events or math.prod(found) != events * math.prod(shape):
            shown = "|".join(map(str, shape))
            raise part.error(f"BatchLayout {part.text} holds no batch of inputs {shown}")
        sizes.append((events, part))
    if len({size for size, _ in sizes}) > 1:
        raise sizes[1][1].error(
            "BatchLayout has different batch sizes for generator and discriminator"
        )
    return sizes[0][0] if sizes else 0

"""``InputLayout`` and ``BatchLayout``: input shapes of the networks, and the batch size."""

import math

from hepgan.tmva.options import Token

Sizes = tuple[int, ...]


def input_layouts(value: Token | None) -> tuple[Sizes, Sizes]:
    """Returns the shapes of the noise and of an event; ``()`` if the number of variables determines it."""
    if value is None:
        return (), ()
    parts = value.split("##")
    if len(parts) > 2:
        raise parts[2].error(
            "InputLayout has a part for the generator and one for the discriminator"
        )
    shapes = [_sizes(part, "InputLayout") for part in parts]
    complete = [shape if all(shape) else () for shape in shapes]
    return complete[0], complete[-1]


def _sizes(part: Token, what: str) -> Sizes:
    sizes = tuple(size.integer(f"a size of {what}") for size in part.split("|"))
    if len(sizes) > 3:
        raise part.error(f"{what} has at most depth|height|width")
    return sizes


def batch_of(value: Token | None, shapes: tuple[Sizes, Sizes]) -> int:
    """Returns the batch size of BatchLayout, 0 if there is none.

    Raises:
        RunError: it does not match batches of ``shapes``, the inputs of generator and discriminator.
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
        batch = _sizes(part, "BatchLayout")
        if not any(batch):
            continue
        events = batch[0] if math.prod(batch[1:]) == math.prod(shape) else batch[1 % len(batch)]
        if not events or math.prod(batch) != events * math.prod(shape):
            expected = "|".join(map(str, shape))
            raise part.error(f"BatchLayout {part.text} is not a batch of inputs {expected}")
        sizes.append((events, part))
    if len({size for size, _ in sizes}) > 1:
        raise sizes[1][1].error(
            "BatchLayout has different batch sizes for generator and discriminator"
        )
    return sizes[0][0] if sizes else 0

"""Weight initialization from an explicit ``torch.Generator``; PyTorch's global random state is not used.

Not ``torch.nn.init``: it derives the fans from the weight's shape, which is wrong for locally connected layers (whose leading
axis is the position) and for layers with several gates, and ``orthogonal_`` would flatten these into one matrix.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hepgan.errors import RunError, did_you_mean

_Draw = Callable[[Tensor, int, int, torch.Generator], Tensor]


def _normal(variance: Callable[[int, int], float]) -> _Draw:
    return lambda w, i, o, g: w.normal_(0.0, math.sqrt(variance(i, o)), generator=g)


def _uniform(variance: Callable[[int, int], float]) -> _Draw:
    """Returns the draw from a uniform distribution on ± sqrt(3 variance)."""

    def draw(weights: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
        limit = math.sqrt(3 * variance(fan_in, fan_out))
        return weights.uniform_(-limit, limit, generator=generator)

    return draw


def _identity(weights: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    del fan_in, fan_out, generator
    return weights.copy_(torch.eye(*weights.shape[-2:]).expand_as(weights))


def _zero(weights: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    del fan_in, fan_out, generator
    return weights.zero_()


def _orthogonal(weights: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    """Draws orthonormal rows (columns if there are fewer), uniform over rotations (arXiv:1312.6120)."""
    del fan_in, fan_out
    rows, columns = weights.shape[-2:]
    tall = weights.normal_(generator=generator)
    q, r = torch.linalg.qr(tall if rows >= columns else tall.mT)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return weights.copy_(q if rows >= columns else q.mT)


#: TMVA's WeightInitialization (its GAUSS and UNIFORM depend on the fan-in alone), and the usual schemes in torch.
INITIALIZATIONS: dict[str, _Draw] = {
    "XAVIER": _normal(lambda i, o: 2 / (i + o)),
    "XAVIERUNIFORM": _uniform(lambda i, o: 2 / (i + o)),
    "GAUSS": _normal(lambda i, _: 2 / i),
    "UNIFORM": _uniform(lambda i, _: 2 / (3 * i)),
    "IDENTITY": _identity,
    "ZERO": _zero,
    "HE": _normal(lambda i, _: 2 / i),
    "HEUNIFORM": _uniform(lambda i, _: 2 / i),
    "LECUN": _normal(lambda i, _: 1 / i),
    "ORTHOGONAL": _orthogonal,
    "TORCH": _uniform(lambda i, _: 1 / (3 * i)),
}


def initial_weights(
    name: str, shape: tuple[int, ...], *, fan_in: int, fan_out: int, generator: torch.Generator
) -> Tensor:
    """Returns weights ``[..., outputs, inputs]`` drawn by the scheme ``name``.

    Raises:
        RunError: the scheme is unknown.
    """
    draw = INITIALIZATIONS.get(name.upper())
    if draw is None:
        known = ", ".join(INITIALIZATIONS)
        near = did_you_mean(name.upper(), INITIALIZATIONS)
        raise RunError(f"unknown initialization '{name}'{near or f'; it may be {known}'}")
    return draw(torch.empty(shape), fan_in, fan_out, generator)

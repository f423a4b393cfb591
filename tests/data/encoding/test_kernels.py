"""Kernels of decoding give the results of the torch operators that they replace, for every batch."""

import pytest
import torch
from sample_encodings import COPULA, ENERGY, LOG, SHOWERS, SUMS, fit, showers
from torch import Tensor

from hepgan.data.encoding import kernels
from hepgan.data.encoding.copula import Copula
from hepgan.data.encoding.encoding import Encoding

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def encoding() -> Encoding:
    return fit(showers(), SHOWERS, SUMS, LOG, COPULA, **ENERGY)


@pytest.fixture(scope="module")
def encoded(encoding: Encoding) -> tuple[Tensor, Tensor]:
    """Coordinates far beyond the tables included, and one event that is not finite."""
    rng = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(500, encoding.features, generator=rng)
    x[7, 3] = torch.nan
    return x, torch.rand(500, 1, generator=rng) * 2 - 1


@torch.no_grad()
def test_events_are_those_of_torch_within_rounding(
    encoding: Encoding, encoded: tuple[Tensor, Tensor]
) -> None:
    found = encoding.decode_tensors(*encoded)
    with kernels.eager():
        expected = encoding.decode_tensors(*encoded)
    finite = torch.arange(500) != 7
    for name, values in expected.items():
        assert found[name].shape == values.shape
        one, other = found[name][finite], values[finite]
        assert torch.equal(one == 0, other == 0)
        torch.testing.assert_close(one, other, rtol=3e-5, atol=1e-6)
        assert not found[name][7].isfinite().all() or values[7].isfinite().all()


@torch.no_grad()
def test_an_event_does_not_depend_on_its_batch(
    encoding: Encoding, encoded: tuple[Tensor, Tensor]
) -> None:
    step = next(step for step in encoding.steps if isinstance(step, Copula))
    x, c = encoded[0][10:], encoded[1][10:]
    together = step.marginals.decode(x, c)
    for size in (1, 3, 64):
        assert torch.equal(step.marginals.decode(x[:size], c[:size]), together[:size])


def test_gradients_come_from_torch(encoding: Encoding, encoded: tuple[Tensor, Tensor]) -> None:
    x = encoded[0][10:20].clone().requires_grad_()
    decoded = encoding.decode_tensors(x, encoded[1][10:20])
    sum(values.sum() for values in decoded.values()).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0

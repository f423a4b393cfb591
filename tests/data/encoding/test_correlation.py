"""The step ``correlation``: real correlations only, positive definite, exact inverse, the same in any batch."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from hepgan.data.encoding.base import ColumnLayout, Noise
from hepgan.data.encoding.correlation import Correlation
from hepgan.data.encoding.steps import pack_step, unpack_step
from hepgan.errors import RunError

NOISE = Noise(1, ("fit",), np.arange(1))


def columns(features: int) -> ColumnLayout:
    """Returns one field with ``features`` columns and another with 2."""
    fields = {"scores": slice(0, features), "other": slice(features, features + 2)}
    return ColumnLayout(fields, dict.fromkeys(fields, ""), {}, {})


def chain(events: int, features: int, seed: int) -> Tensor:
    """Returns normal scores ``[E, F + 2]``, of which columns 3 and 7 correlate by 0.5, and 7 and 9 by −0.3."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, features + 2))
    x[:, 7] = 0.5 * x[:, 3] + np.sqrt(1 - 0.25) * x[:, 7]
    x[:, 9] = -0.3 * x[:, 7] + np.sqrt(1 - 0.09) * x[:, 9]
    return torch.from_numpy(x)


@pytest.fixture(scope="module")
def step() -> Correlation:
    """Returns the correlations of 4,000 events with 60 scores."""
    x = chain(4000, 60, seed=1)
    return Correlation.fit(x, x[:, :0], columns(60), NOISE)


def test_only_correlations_beyond_statistical_fluctuations_are_kept(step: Correlation) -> None:
    kept = set(step.columns.tolist())
    assert {3, 7, 9} <= kept
    assert step.pairs <= 12  # of 1,891
    assert str(step.pairs) in step.summary()


def test_generated_scores_have_the_correlations_of_the_events(step: Correlation) -> None:
    normal = torch.randn(40_000, 62, generator=torch.Generator().manual_seed(2))
    generated = step.decode(normal, normal[:, :0])
    sample = torch.corrcoef(generated.T)
    assert sample[3, 7] == pytest.approx(0.5, abs=0.03)
    assert sample[7, 9] == pytest.approx(-0.3, abs=0.03)
    assert sample[3, 9] == pytest.approx(-0.15, abs=0.04)
    torch.testing.assert_close(generated.std(0), torch.ones(62), rtol=0.03, atol=0)


def test_encoded_events_are_independent_and_decode_inverts_encode(step: Correlation) -> None:
    x = chain(40_000, 60, seed=3).float()
    independent = step.encode(x, x[:, :0], NOISE)
    sample = torch.corrcoef(independent.T) - torch.eye(62)
    assert sample.abs().max() < 0.04
    back = step.decode(independent, x[:, :0])
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-5)


def test_an_event_does_not_depend_on_the_others_of_its_batch(step: Correlation) -> None:
    x = torch.randn(100, 62, generator=torch.Generator().manual_seed(4))
    together = step.decode(x, x[:, :0])
    for number in (0, 31, 99):
        alone = step.decode(x[number : number + 1], x[:1, :0])
        assert torch.equal(alone[0], together[number])


def test_independent_scores_stay_unchanged() -> None:
    x = torch.randn(2000, 62, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    fitted = Correlation.fit(x, x[:, :0], columns(60), NOISE)
    assert fitted.pairs <= 12  # of 1,891
    off_diagonal = fitted.factor - torch.diag(fitted.factor.diagonal())
    assert off_diagonal.abs().max() < 0.06
    alone = dataclasses.replace(fitted, columns=fitted.columns[:0], factor=torch.zeros(0, 0))
    assert torch.equal(alone.decode(x.float(), x[:, :0]), x.float())


def test_strong_correlations_of_many_columns_are_positive_definite() -> None:
    rng = np.random.default_rng(6)
    shared = rng.normal(size=(500, 1))
    x = torch.from_numpy(np.sqrt(0.99) * shared + 0.1 * rng.normal(size=(500, 62)))
    x[:, 5] = 1.0  # a constant column
    fitted = Correlation.fit(x, x[:, :0], columns(60), NOISE)
    assert torch.isfinite(fitted.factor).all()
    assert (fitted.factor.diagonal() > 0).all()
    assert 5 not in fitted.columns


def test_more_columns_than_events_keep_few_correlations() -> None:
    x = torch.randn(150, 1502, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    fitted = Correlation.fit(x, x[:, :0], columns(1500), NOISE)
    assert fitted.pairs < 1502  # of 1,127,251


def test_other_fields_are_left_out_and_unknown_ones_raise() -> None:
    x = chain(2000, 8, seed=8)  # columns 8 and 9 are the other field
    fitted = Correlation.fit(x, x[:, :0], columns(8), NOISE, fields=("scores",))
    assert {3, 7} <= set(fitted.columns.tolist()) <= set(range(8))
    with pytest.raises(RunError, match="'nothing'"):
        Correlation.fit(x, x[:, :0], columns(8), NOISE, fields=("nothing",))


def test_gradients_pass_through_decoding(step: Correlation) -> None:
    x = torch.randn(5, 62, dtype=torch.float64, requires_grad=True)
    double = dataclasses.replace(step, factor=step.factor.double())
    assert torch.autograd.gradcheck(lambda v: double.decode(v, v[:, :0]), x)


def test_a_saved_step_is_the_same(step: Correlation) -> None:
    tensors: dict[str, Tensor] = {}
    table = pack_step(step, "step", tensors)
    assert unpack_step(table, tensors) == step


def test_weights_count_like_repeated_events_and_cancel() -> None:
    x = chain(3000, 20, seed=9)
    twice = torch.cat([x, x[:1000]])
    repeated = Correlation.fit(twice, twice[:, :0], columns(20), NOISE)
    weights = torch.ones(3000)
    weights[:1000] = 2
    weighted = Correlation.fit(x, x[:, :0], columns(20), NOISE, weights * 3000 / weights.sum())
    number = [fitted.columns.tolist().index(7) for fitted in (repeated, weighted)]
    rows = [
        fitted.factor[at].square().sum()
        for fitted, at in zip((repeated, weighted), number, strict=True)
    ]
    torch.testing.assert_close(rows[0], rows[1])
    # Events with negative weights cancel those that made columns 0 and 1 equal.
    more = torch.cat([x, chain(1000, 20, seed=10), chain(1000, 20, seed=10)])
    more[3000:, 1] = more[3000:, 0]
    signs = torch.ones(5000)
    signs[4000:] = -1
    cancelled = Correlation.fit(more, more[:, :0], columns(20), NOISE, signs * 5000 / signs.sum())
    normal = torch.randn(40_000, 22, generator=torch.Generator().manual_seed(2))
    generated = torch.corrcoef(cancelled.decode(normal, normal[:, :0]).T)
    assert abs(generated[0, 1]) < 0.05
    assert generated[3, 7] == pytest.approx(0.5, abs=0.06)

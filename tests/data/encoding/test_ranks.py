"""Ranks of a column: integers, tails beyond the training data, and abrupt ends."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hepgan.data.encoding.density.ranks import Ranks


def values_of(name: str, events: int, seed: int = 3) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    columns = {
        "exponential": lambda: rng.exponential(20, events),
        "normal": lambda: rng.normal(size=events),
        "power law": lambda: (1 - rng.random(events)) ** (-1 / 5),
        "uniform": lambda: rng.uniform(-2.5, 2.5, events),
        "cut": lambda: np.abs(rng.normal(size=4 * events)).clip(0, 5)[:events] + 1,
    }
    return columns[name]()


def decoded(ranks: Ranks, events: int = 200_000) -> npt.NDArray[np.float64]:
    scores = torch.randn(events, generator=torch.Generator().manual_seed(1))
    return ranks.decode(scores).double().numpy()


@pytest.mark.parametrize("name", ["exponential", "normal", "power law"])
def test_tails_continue_beyond_the_training_data_without_a_repeated_value(name: str) -> None:
    x = values_of(name, 5000)
    values = decoded(Ranks.fit(torch.from_numpy(x), tails=True))
    assert values.max() > x.max()
    assert (values == values.max()).sum() <= 2
    largest = np.quantile(values, 0.9999)
    expected = [np.quantile(values_of(name, 200_000, seed), 0.9999) for seed in range(4, 8)]
    # 5,000 values know their quantile of 0.9999, of which they have half an event, to about a third.
    assert largest == pytest.approx(np.mean(expected), rel=0.35)


@pytest.mark.parametrize(("name", "low", "high"), [("uniform", -2.5, 2.5), ("cut", 1.0, math.inf)])
def test_values_never_pass_an_abrupt_end_and_do_not_pile_up_there(
    name: str, low: float, high: float
) -> None:
    x = values_of(name, 5000)
    values = decoded(Ranks.fit(torch.from_numpy(x), tails=True))
    assert low <= values.min()
    assert values.max() <= high
    for end in (values.min(), values.max()):
        assert (values == end).sum() < 10  # 20 are expected beyond the largest of 5,000 values


def test_without_tails_the_largest_value_stands_for_all_scores_beyond_its_own() -> None:
    x = values_of("exponential", 5000)
    values = decoded(Ranks.fit(torch.from_numpy(x)))
    assert values.max() == pytest.approx(x.max(), rel=1e-6)
    assert (values == values.max()).sum() > 10


def test_values_in_a_tail_have_their_own_scores() -> None:
    ranks = Ranks.fit(torch.from_numpy(values_of("exponential", 5000)), tails=True)
    scores = torch.linspace(-4.2, 4.2, 1001)
    values = ranks.decode(scores)
    assert (values.diff() > 0).all()
    again = ranks.encode(values, torch.full_like(values, 0.5))
    torch.testing.assert_close(again, scores, atol=2e-3, rtol=0)


@pytest.mark.parametrize("sign", [-1, 1])
def test_each_of_a_few_integers_is_as_frequent_as_in_the_training_data(sign: int) -> None:
    x = sign * np.random.default_rng(2).poisson(1.5, 2000)
    values = decoded(Ranks.fit(torch.from_numpy(x).double(), tails=True))
    assert (values == values.round()).all()
    for number, count in zip(*np.unique(x, return_counts=True), strict=True):
        expected = count / 2000 * 200_000
        assert abs((values == number).sum() - expected) < 5 * math.sqrt(expected)

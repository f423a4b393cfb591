"""Work on several threads: order, settings that the threads share with the caller, and errors."""

import threading
from collections.abc import Iterator

import awkward as ak
import numpy as np
import pytest
import torch
from torch import Tensor

from hepgan import GAN, Range
from hepgan.data.encoding import kernels
from hepgan.data.encoding.kernels import use_kernels
from hepgan.threads import by_chunks, on_threads


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_are_in_order_and_two_items_are_computed_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def waits_for_the_other(item: int) -> int:
        both.wait(timeout=60)
        assert torch.get_num_threads() == 1
        return item * item

    assert list(on_threads(waits_for_the_other, range(6))) == [0, 1, 4, 9, 16, 25]
    assert torch.get_num_threads() == 2


def test_items_are_taken_only_when_they_are_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = on_threads(lambda item: item, items())
    assert (next(results), len(taken)) == (0, 2)
    assert (next(results), next(results), len(taken)) == (1, 2, 4)


def test_an_error_of_an_item_is_raised_and_torch_keeps_its_threads() -> None:
    def fails(item: int) -> int:
        if item == 3:
            raise ValueError("item 3")
        return item

    results = on_threads(fails, range(10))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 3"):
        next(results)
    assert torch.get_num_threads() == 2


def test_threads_know_whether_kernels_and_gradients_are_wanted() -> None:
    def wanted(part: slice) -> Tensor:
        return torch.tensor([[float(use_kernels(torch.ones(1))), float(torch.is_grad_enabled())]])

    with kernels.eager(), torch.no_grad():
        assert (by_chunks(wanted, 5000) == 0).all()
    assert (by_chunks(wanted, 5000)[:, 1] == 1).all()


@pytest.mark.parametrize("name", ["showers", "showers-fast", "mnist"])
def test_events_do_not_depend_on_the_number_of_threads(name: str) -> None:
    gan, samples = GAN.load(name, device="cpu"), []
    conditions = {"energy": Range(1.0, 100.0)} if "energy" in gan.schema.conditions else {}
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        samples.append(gan.sample(2100, seed=1, conditions=conditions))
    for field in samples[0].fields:
        first, *others = (ak.to_numpy(sample[field]) for sample in samples)
        assert all(np.array_equal(first, other) for other in others)

"""Shuffled batches without labels, for any PyTorch code.

``UnsupervisedLoader`` holds all events in memory, ``StreamingLoader`` reads them from files; both are iterables of
``(x[B, F], c[B, C])`` with a new order in every epoch, and resume exactly from a saved state.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hepgan.data.io.splits import event_bits, read_splits, split, split_chunks, splitmix64
from hepgan.data.loaders.dataset import Batch, EpochDataset
from hepgan.data.loaders.streaming import StreamingLoader
from hepgan.errors import CheckpointError, DataError
from hepgan.random_streams import check_seed, torch_generator

__all__ = [
    "StreamingLoader",
    "UnsupervisedLoader",
    "event_bits",
    "read_splits",
    "split",
    "split_chunks",
    "splitmix64",
]


class UnsupervisedLoader(EpochDataset):
    """Shuffled batches of events in memory, on any device.

    Each iteration is an epoch, and the order depends on (seed, epoch) alone. See ``EpochDataset`` for resumption and PyTorch's
    ``DataLoader``.

    Args:
        x: Features ``[E, F]``.
        c: Conditions ``[E, C]``; ``None`` for ``C = 0``.
        batch_size: ``B``.
        seed: Seed of the order.
        weights: ``[E]``; batches are then ``(x, c, w[B])``.
        rank: Rank of this process; in each epoch the ranks see disjoint, equally large sets of events.
        world_size: Number of processes.
        drop_last: Drop the last batch of an epoch if it is smaller.

    Raises:
        DataError: lengths differ, or there is less than one batch for each process.
    """

    def __init__(
        self,
        x: Tensor,
        c: Tensor | None = None,
        *,
        batch_size: int,
        seed: int,
        weights: Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
    ) -> None:
        self.tensors: tuple[Tensor, ...] = (x, x.new_empty(len(x), 0) if c is None else c)
        self.tensors += () if weights is None else (weights,)
        lengths = [len(tensor) for tensor in self.tensors]
        if len(set(lengths)) > 1:
            raise DataError(f"x, c and weights have different numbers of events: {lengths}")
        if not 0 <= rank < world_size:
            raise DataError(f"rank {rank} is not one of 0 … {world_size - 1}")
        self.batch_size, self.seed = batch_size, check_seed(seed)
        self.rank, self.world_size = rank, world_size
        self.drop_last = drop_last
        self._check_batches()

    def _check_batches(self) -> None:
        if self.batch_size < 1 or len(self) == 0:
            raise DataError(
                f"batches of {self.batch_size} cannot be made of {len(self.tensors[0])} events in {self.world_size} process(es); "
                "choose a batch size between 1 and the number of events"
            )

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        events = len(self.tensors[0]) // self.world_size
        return events // self.batch_size if self.drop_last else -(-events // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches of an epoch."""
        self._start_epoch()
        order = self._order()
        while self.batch < len(self):
            rows = order[self.batch * self.batch_size : (self.batch + 1) * self.batch_size]
            # Before yielding: a state that is saved while the batch is used resumes after it.
            self.batch += 1
            # Twice as fast as tensor[rows] on a CPU.
            yield tuple(tensor.index_select(0, rows) for tensor in self.tensors)
        self._end_epoch()

    def _order(self) -> Tensor:
        # Drawn on the CPU, so that every device sees the same order.
        events, width = len(self.tensors[0]), self.batch_size
        order = torch.randperm(events, generator=torch_generator(self.seed, "order", self.epoch))
        # Each rank takes its part of every global batch, so that together they see the batches of a single process.
        local = events // self.world_size
        full = local // width * width
        batches = order[: full * self.world_size].reshape(-1, self.world_size, width)
        remainder = order[full * self.world_size :][self.rank * (local - full) :][: local - full]
        rows = torch.cat([batches[:, self.rank].flatten(), remainder])
        return _to_device(rows, self.tensors[0].device)

    def state_dict(self) -> dict[str, int]:
        """Returns the position in the epoch, for ``load_state_dict``."""
        return {"seed": self.seed, "epoch": self.epoch, "batch": self.batch, "batches": len(self)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resumes at a position from ``state_dict``.

        Raises:
            CheckpointError: the state belongs to other data, another batch size or another number of processes.
        """
        if state["batches"] != len(self):
            raise CheckpointError(
                f"the loader was saved with {state['batches']} batches per epoch and now has {len(self)}; "
                "use the same events, batch size and number of processes"
            )
        self._resume(state)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a CPU tensor to ``device`` without waiting for the device."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)

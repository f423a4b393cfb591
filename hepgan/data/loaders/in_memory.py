"""Shuffled batches without labels, for any torch code.

``UnsupervisedLoader`` for what fits in memory, ``StreamingLoader`` for what does not; both are iterables of
``(x[B, F], c[B, C])`` with a new order every epoch, and continue exactly from a saved state.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hepgan.data.io.splits import event_bits, read_splits, split, split_chunks, splitmix64
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


class UnsupervisedLoader:
    """Batches of events that are held in memory, on whatever device they are.

    Iterating gives the rest of the current epoch: a loop that is left goes on there the next time, and
    ``itertools.chain.from_iterable(itertools.repeat(loader))`` never ends. The order is a function of (seed, epoch) alone.

    Args:
        x: Features ``[E, F]``.
        c: Conditions ``[E, C]``; ``None`` for ``C = 0``.
        batch_size: ``B``.
        seed: Seed of the order.
        weights: ``[E]``; where given, batches are ``(x, c, w[B])``.
        rank: Which of ``world`` processes this is: they see disjoint events, equally many, each epoch.
        world: How many processes there are.
        drop_last: Leave out the last batch of an epoch where it is smaller.

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
        world: int = 1,
        drop_last: bool = True,
    ) -> None:
        self.tensors: tuple[Tensor, ...] = (x, x.new_empty(len(x), 0) if c is None else c)
        self.tensors += () if weights is None else (weights,)
        lengths = [len(tensor) for tensor in self.tensors]
        if len(set(lengths)) > 1:
            raise DataError(f"x, c and weights have different numbers of events: {lengths}")
        if not 0 <= rank < world:
            raise DataError(f"rank {rank} is not one of 0 … {world - 1}")
        self.batch_size, self.seed = batch_size, check_seed(seed)
        self.rank, self.world = rank, world
        self.drop_last = drop_last
        self.epoch, self.batch = 0, 0
        if batch_size < 1 or len(self) == 0:
            raise DataError(
                f"batches of {batch_size} cannot be made of {len(x)} events in {world} process(es); "
                "choose a batch size between 1 and the number of events"
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        share = len(self.tensors[0]) // self.world
        return share // self.batch_size if self.drop_last else -(-share // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """The batches that are left of this epoch."""
        order = self._order()
        while self.batch < len(self):
            rows = order[self.batch * self.batch_size : (self.batch + 1) * self.batch_size]
            self.batch += (
                1  # before the batch is given: a state saved while it is used continues after it
            )
            # Twice as fast as tensor[rows] on a CPU.
            yield tuple(tensor.index_select(0, rows) for tensor in self.tensors)
        self.epoch, self.batch = self.epoch + 1, 0

    def _order(self) -> Tensor:
        # Drawn on the CPU, so that every device sees the same order.
        events, width = len(self.tensors[0]), self.batch_size
        order = torch.randperm(events, generator=torch_generator(self.seed, "order", self.epoch))
        # Each process takes its part of every batch of all, so that together they see what one process would.
        share = events // self.world
        whole = share // width * width
        parts = order[: whole * self.world].reshape(-1, self.world, width)[:, self.rank].flatten()
        rest = order[whole * self.world :][self.rank * (share - whole) :][: share - whole]
        return _sent(torch.cat([parts, rest]), self.tensors[0].device)

    def state_dict(self) -> dict[str, int]:
        """Where the loader is; it continues there after ``load_state_dict``."""
        return {"seed": self.seed, "epoch": self.epoch, "batch": self.batch, "batches": len(self)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            CheckpointError: it comes from other data, another batch size or number of processes.
        """
        if state["batches"] != len(self):
            raise CheckpointError(
                f"the loader was saved with {state['batches']} batches an epoch and now has {len(self)}; "
                "give it the same events, batch size and number of processes"
            )
        self.seed, self.epoch, self.batch = state["seed"], state["epoch"], state["batch"]


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns ``tensor``, which is on the CPU, on ``device``, without waiting for what the device has still to do."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)

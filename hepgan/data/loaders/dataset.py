"""Base class of the loaders: epochs and exact resumption behind PyTorch's ``IterableDataset``."""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Self

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hepgan.errors import DataError
from hepgan.random_streams import check_seed

Batch = tuple[Tensor, ...]
"""``x[B, F]``, ``c[B, C]`` and, for weighted events, ``w[B]``."""


class EpochDataset(IterableDataset[Batch]):
    """Iterable of whole batches in which each iteration is one epoch.

    Iterating again starts a new epoch, even after a loop that ended early. Only after ``load_state_dict`` does the next
    iteration resume within an epoch. ``torch.utils.data.DataLoader`` accepts it with ``batch_size=None`` and no workers.

    Attributes:
        seed: Seed of the order.
        epoch: Number of the current epoch.
        batch: Number of its batches that have been yielded.
        batch_size: Number of events per batch.
    """

    batch_size: int
    seed: int
    epoch: int = 0
    batch: int = 0
    _resumed: bool = False

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches of an epoch."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches in an epoch."""

    @abstractmethod
    def state_dict(self) -> dict[str, int]:
        """Returns the position in the epoch, for ``load_state_dict``."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resumes at a position from ``state_dict``.

        Raises:
            CheckpointError: the state belongs to other data.
        """

    @abstractmethod
    def _check_batches(self) -> None:
        """Checks that an epoch has a batch.

        Raises:
            DataError: it has none.
        """

    def restarted(self, *, batch_size: int, seed: int) -> Self:
        """Returns a loader of the same events from the start, with another batch size and order.

        Raises:
            DataError: there is less than one batch for each process.
        """
        loader = copy.copy(self)
        loader.batch_size, loader.seed = batch_size, check_seed(seed)
        loader.epoch, loader.batch, loader._resumed = 0, 0, False
        loader._check_batches()
        return loader

    def _start_epoch(self) -> None:
        """Moves to the next epoch unless no event of the current one has been read, or it was just resumed.

        Raises:
            DataError: this is a worker process of a ``DataLoader``.
        """
        if get_worker_info() is not None:
            raise DataError(
                f"{type(self).__name__} batches, shuffles and prefetches itself; use it without a DataLoader, or with"
                " DataLoader(loader, batch_size=None, num_workers=0)"
            )
        if self.batch and not self._resumed:
            self._end_epoch()
        self._resumed = False

    def _end_epoch(self) -> None:
        self.epoch, self.batch = self.epoch + 1, 0

    def _resume(self, state: Mapping[str, int]) -> None:
        self.seed, self.epoch, self.batch = state["seed"], state["epoch"], state["batch"]
        self._resumed = True

"""Training in several processes, as ``torchrun`` starts them: each sees its part of every batch, gradients are averaged.

All else (weights, noise of the whole batch) is computed alike in each process, so that training gives what one process with
the whole batch gives, to rounding. Process 0 validates, finds the checkpoint to resume from and tells the others. torch's ``DistributedDataParallel`` is not used: gradient penalties call a
network several times before one backward pass, which it does not allow; one ``all_reduce`` a step does what it does.

Batch normalisation is by each process's own part of the batch; its running statistics are averaged before they are used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from hepgan.errors import RunError

T = TypeVar("T")


def launched_processes() -> int:
    """How many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """While it lasts, the processes that ``torchrun`` started know each other; nothing for a lone process."""
    if launched_processes() < 2 or distributed.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        # gloo sometimes aborts where one process leaves while another still talks.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process where ``device`` is any GPU and ``torchrun`` started several processes."""
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def rank() -> int:
    """The number of this process, 0 for the first or a lone one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def local_batch_size(batch_size: int) -> int:
    """This process's part of a batch.

    Raises:
        RunError: a batch cannot be shared evenly.
    """
    if batch_size % world_size():
        raise RunError(
            f"batches of {batch_size} cannot be shared evenly by {world_size()} processes"
        )
    return batch_size // world_size()


def local_shard(whole: Tensor) -> Tensor:
    """This process's part of what was drawn for the whole batch."""
    part = len(whole) // world_size()
    return whole[rank() * part : (rank() + 1) * part]


@torch.no_grad()
def average_gradients(network: nn.Module) -> None:
    """The mean of each gradient over all processes."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    parts = torch.split(flat / world_size(), [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])


@torch.no_grad()
def average_buffers(*networks: nn.Module) -> None:
    """Replaces each buffer (running means and variances) by its mean over all processes."""
    buffers = [b for network in networks for b in network.buffers() if b.is_floating_point()]
    if world_size() == 1 or not buffers:
        return
    flat = all_reduce_sum(torch.cat([buffer.flatten() for buffer in buffers])) / world_size()
    parts = torch.split(flat, [buffer.numel() for buffer in buffers])
    for buffer, part in zip(buffers, parts, strict=True):
        buffer.copy_(part.view_as(buffer))


def broadcast(value: T, device: torch.device) -> T:
    """Returns the ``value`` of process 0 in every process."""
    found = [value]
    if world_size() > 1:
        distributed.broadcast_object_list(found, 0, device=device)
    return found[0]


def batch_mean(values: Tensor) -> Tensor:
    """The mean of ``values[B, …]`` over the whole batch; averaged over processes, its gradient is that of one process with all."""
    mean = values.mean(0)
    if world_size() == 1:
        return mean
    return all_reduce_sum(mean.detach()) / world_size() + (mean - mean.detach())


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if world_size() > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values


def all_reduce_max(number: int, device: torch.device) -> int:
    """Returns the largest ``number`` of all processes."""
    if world_size() == 1:
        return number
    found = torch.tensor(number, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found.item())


def barrier() -> None:
    """Until every process is here."""
    if world_size() > 1:
        distributed.barrier()

"""Data-parallel training in the processes that ``torchrun`` launches: each gets its shard of every batch, gradients are averaged.

Everything else (weights, noise of the whole batch) is computed identically in each process, so that the result is that of one
process with the whole batch, up to rounding. Rank 0 validates, chooses the checkpoint to resume from, and broadcasts the results.
torch's ``DistributedDataParallel`` is not used: gradient penalties call a network several times before one backward pass, which it
does not support; one ``all_reduce`` per step replaces it.

Batch normalization uses the local shard of the batch; its running statistics are averaged before they are used.
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
    """Returns the number of processes that ``torchrun`` launched; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Context manager that initializes the process group when launched by ``torchrun``; a no-op otherwise."""
    if launched_processes() < 2 or distributed.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        # gloo sometimes aborts if one process leaves while another still communicates.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """Returns this process's GPU if ``device`` is ``cuda`` and ``torchrun`` launched the process; ``device`` otherwise."""
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def rank() -> int:
    """Returns the rank of this process; 0 without a process group."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Returns the number of processes; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def local_batch_size(batch_size: int) -> int:
    """Returns the batch size of each process.

    Raises:
        RunError: the batch size is not a multiple of the number of processes.
    """
    if batch_size % world_size():
        raise RunError(
            f"batches of {batch_size} events cannot be split evenly over {world_size()} processes; change [train] batch_size"
        )
    return batch_size // world_size()


def local_shard(whole: Tensor) -> Tensor:
    """Returns this process's shard of a tensor that was drawn for the whole batch."""
    size = len(whole) // world_size()
    return whole[rank() * size : (rank() + 1) * size]


@torch.no_grad()
def average_gradients(network: nn.Module) -> None:
    """Replaces each gradient by its mean over all processes."""
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
    """Returns the ``value`` of rank 0 in every process."""
    values = [value]
    if world_size() > 1:
        distributed.broadcast_object_list(values, 0, device=device)
    return values[0]


def batch_mean(values: Tensor) -> Tensor:
    """Returns the mean of ``values[B, …]`` over the whole batch.

    Its gradients, averaged over the processes, are those of one process with the whole batch.
    """
    mean = values.mean(0)
    if world_size() == 1:
        return mean
    return all_reduce_sum(mean.detach()) / world_size() + (mean - mean.detach())


def all_reduce_sum(values: Tensor) -> Tensor:
    """Returns the sum of ``values`` over all processes."""
    if world_size() > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values


def all_reduce_max(number: int, device: torch.device) -> int:
    """Returns the largest ``number`` of all processes."""
    if world_size() == 1:
        return number
    maximum = torch.tensor(number, device=device)
    distributed.all_reduce(maximum, distributed.ReduceOp.MAX)
    return int(maximum.item())


def barrier() -> None:
    """Waits for all processes."""
    if world_size() > 1:
        distributed.barrier()

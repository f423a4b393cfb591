"""Choice of devices by name, and errors when the memory of a device is full."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hepgan.errors import RunError


def resolve_device(name: torch.device | str) -> torch.device:
    """Returns the device called ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` is a GPU if there is one.

    Raises:
        RunError: the device does not exist or is not supported.
    """
    if str(name) == "auto":
        return torch.device("cuda" if gpus() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RunError(f"'{name}' is not a device; choose auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise RunError(f"the device '{name}' is not supported; choose auto, cpu or cuda")
    if (device.index or 0) >= (gpus() if device.type == "cuda" else 1):
        raise RunError(f"the device '{name}' does not exist; choose cpu or auto")
    return device


def gpus() -> int:
    """Returns the number of GPUs.

    Unlike ``torch.cuda.is_available``, this does not initialize CUDA, which a process must not do before it forks workers.
    """
    return torch.cuda.device_count()


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether ``error`` means that the memory of a GPU or of the computer is full."""
    # On the CPU, torch raises a plain RuntimeError.
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError))
        or "can't allocate memory" in str(error)
        or "not enough memory" in str(error)
    )


@contextmanager
def out_of_memory_as_run_error(what: str, device: torch.device, *, hint: str) -> Iterator[None]:
    """Context manager that turns out-of-memory errors into an error that names ``what`` does not fit.

    Raises:
        RunError: the memory of ``device`` is full.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(f"{what} does not fit into the memory of '{device}'; {hint}") from error

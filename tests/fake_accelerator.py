"""A fake device that needs no accelerator: tensors on it keep their numbers on the CPU, and every operation is checked.

Inside ``Accelerator``, tensors move to ``DEVICE`` and back as they do with a GPU: an operation on tensors of both devices fails, and so
does conversion to NumPy. ``waits`` lists the operations that would make the host wait for a GPU.
"""

import functools
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

backend_registration._setup_privateuseone_for_python_backend("pretend")
DEVICE = torch.device("pretend", 0)

COPIES = {"_to_copy", "copy_"}
READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "item"}


class Placed(Tensor):
    """A tensor on ``DEVICE`` whose numbers are in ``held``, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Self:
        placed: Self = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=held.requires_grad,
        )
        return placed

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Placed({self.held!r})"

    def tolist(self) -> Any:
        """Returns the values, as for a tensor on a GPU; torch does not support this for subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {}, [])


class Accelerator(TorchDispatchMode):
    """Context manager in which ``DEVICE`` exists.

    Attributes:
        waits: Operations so far that made the host wait for the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {}, self.waits)


def _run(function: Any, args: Any, kwargs: dict[str, Any], waits: list[str]) -> Any:
    name = function._schema.name.partition("::")[2]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    placed = [tensor for tensor in tensors if isinstance(tensor, Placed)]
    plain_tensors = [tensor for tensor in tensors if not isinstance(tensor, Placed)]
    # As with CUDA, a scalar may be on the CPU.
    if placed and name not in COPIES and any(tensor.ndim for tensor in plain_tensors):
        shapes = [(str(tensor.device), tuple(tensor.shape)) for tensor in tensors]
        raise RuntimeError(f"{name} of tensors on different devices: {shapes}")
    device = kwargs.get("device")
    on_device = device == DEVICE if device is not None else bool(placed)
    if name == "copy_":
        on_device = isinstance(args[0], Placed)
    _watch(name, args, kwargs, placed, plain_tensors, on_device, waits)
    if placed and name.startswith("linalg_lstsq"):
        raise RuntimeError("CUDA solves least squares of full rank only")
    plain = dict(kwargs)
    if device is not None:
        plain["device"] = torch.device("cpu")
    inner = _unwrapped((args, plain))
    result = function(*inner[0], **inner[1])
    if not on_device:
        return args[0] if name == "copy_" else result
    result = tree_map_only(Tensor, Placed, result)
    if placed and _shares(function):
        return return_and_correct_aliasing(function, args, kwargs, result)
    return result


@functools.cache
def _shares(function: Any) -> bool:
    """Returns whether the operation changes one of its inputs or returns a view of one."""
    return any(argument.alias_info is not None for argument in function._schema.arguments)


def _watch(
    name: str,
    args: Any,
    kwargs: dict[str, Any],
    placed: list[Placed],
    plain_tensors: list[Tensor],
    on_device: bool,
    waits: list[str],
) -> None:
    if name in COPIES:
        # pageable memory is copied while the host waits, both ways; pinned memory is not
        crosses = bool(placed and not on_device) or bool(plain_tensors and on_device)
        free = kwargs.get("non_blocking", False) or (name == "copy_" and args[2:3] == (True,))
        pinned = on_device and all(getattr(tensor, "pinned", False) for tensor in plain_tensors)
        if crosses and not (free and pinned):
            waits.append(f"{name} {tuple(args[-1 if name == 'copy_' else 0].shape)}")
    elif placed and name in READS:
        waits.append(name)
    elif placed and name in {"index", "index_put_", "index_put"}:
        indices = [index for index in args[1] if index is not None]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            waits.append(f"{name} by a mask")


def pinned(tensor: Tensor) -> Tensor:
    """Returns a copy that counts as pinned memory (real pinned memory needs a GPU)."""
    copy = tensor.clone()
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


def _unwrapped(tree: Any) -> Any:
    return tree_map_only(Placed, lambda tensor: tensor.held, tree)

"""A device that needs no accelerator: tensors that say they are on it, hold their numbers on the CPU, and watch each operation.

Within ``Accelerator`` tensors reach the device ``DEVICE`` and leave it as they do a GPU: an operation on tensors of both fails, and so
does NumPy's look at one. ``waits`` are the operations that would make the host wait for a GPU.
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
    """A tensor on ``DEVICE``, whose numbers are those of ``held``, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Self:
        made: Self = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=held.requires_grad,
        )
        return made

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Placed({self.held!r})"

    def tolist(self) -> Any:
        """As of a tensor on a GPU, which torch does not do for subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {}, [])


class Accelerator(TorchDispatchMode):
    """Context manager within which ``DEVICE`` is there.

    Attributes:
        waits: The operations so far that make the host wait for the device.
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
    there = [tensor for tensor in tensors if isinstance(tensor, Placed)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Placed)]
    # As with CUDA, a number may come from the CPU.
    if there and name not in COPIES and any(tensor.ndim for tensor in here):
        shapes = [(str(tensor.device), tuple(tensor.shape)) for tensor in tensors]
        raise RuntimeError(f"{name} of tensors on different devices: {shapes}")
    device = kwargs.get("device")
    on_device = device == DEVICE if device is not None else bool(there)
    if name == "copy_":
        on_device = isinstance(args[0], Placed)
    _watch(name, args, kwargs, there, here, on_device, waits)
    if there and name.startswith("linalg_lstsq"):
        raise RuntimeError("CUDA solves least squares of full rank only")
    plain = dict(kwargs)
    if device is not None:
        plain["device"] = torch.device("cpu")
    held = _unwrapped((args, plain))
    found = function(*held[0], **held[1])
    if not on_device:
        return args[0] if name == "copy_" else found
    found = tree_map_only(Tensor, Placed, found)
    if there and _shares(function):
        return return_and_correct_aliasing(function, args, kwargs, found)
    return found


@functools.cache
def _shares(function: Any) -> bool:
    """Returns whether the operation changes one of its inputs or gives a view of it."""
    return any(argument.alias_info is not None for argument in function._schema.arguments)


def _watch(
    name: str,
    args: Any,
    kwargs: dict[str, Any],
    there: list[Placed],
    here: list[Tensor],
    on_device: bool,
    waits: list[str],
) -> None:
    if name in COPIES:
        # pageable memory is copied while the host waits, both ways; pinned memory is not
        crosses = bool(there and not on_device) or bool(here and on_device)
        free = kwargs.get("non_blocking", False) or (name == "copy_" and args[2:3] == (True,))
        pinned = on_device and all(getattr(tensor, "pinned", False) for tensor in here)
        if crosses and not (free and pinned):
            waits.append(f"{name} {tuple(args[-1 if name == 'copy_' else 0].shape)}")
    elif there and name in READS:
        waits.append(name)
    elif there and name in {"index", "index_put_", "index_put"}:
        indices = [index for index in args[1] if index is not None]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            waits.append(f"{name} by a mask")


def pinned(tensor: Tensor) -> Tensor:
    """Returns a copy that counts as one in pinned memory, which needs a GPU."""
    copy = tensor.clone()
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


def _unwrapped(tree: Any) -> Any:
    return tree_map_only(Placed, lambda tensor: tensor.held, tree)

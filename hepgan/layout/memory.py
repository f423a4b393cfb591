"""Check that a network fits into memory, before anything is allocated."""

from pathlib import Path
from typing import NamedTuple

import psutil

from hepgan.errors import LayoutError, with_caret
from hepgan.layout.shapes import Step
from hepgan.layout.spec.base import LayerSpec, Layout, size

#: Training holds each weight, its gradient and Adam's two moments, in float32.
_BYTES_A_PARAMETER, _BYTES_A_VALUE = 16, 4


class _Need(NamedTuple):
    word: LayerSpec
    bytes: int


def check_memory(layout: Layout, steps: tuple[Step, ...], *, limit: int | None = None) -> None:
    """Raises an error if training with a batch size of 1 would take more than ``limit`` bytes.

    Args:
        layout: The layout, for the position in error messages.
        steps: The traced layers of the layout.
        limit: Available memory [bytes]; by default that of the machine.

    Raises:
        LayoutError: the network is too large; the error points at the largest layer.
    """
    needs = _needs(steps)
    total = sum(need.bytes for need in needs)
    limit = available() if limit is None else limit
    if total <= limit:
        return
    largest = max(needs, key=lambda need: need.bytes)
    text = layout.text or str(layout)
    start, end = largest.word.span("width", "depth") or (0, len(text))
    message = (
        f"training this network takes {readable(total)} of memory, but {readable(limit)} are free"
    )
    raise LayoutError(
        with_caret(f"{message}; the largest layer is {largest.word}", text, start, end)
    )


def available() -> int:
    """Returns the free memory of the machine, or of the container if that is less [bytes]."""
    free = [int(psutil.virtual_memory().available)]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free.append(int(most) - int(used.read_text()))
    return max(0, min(free))


def _needs(steps: tuple[Step, ...]) -> list[_Need]:
    needs = []
    for step in steps:
        parameters = step.word.parameters(step.input, step.context)
        values = _BYTES_A_PARAMETER * parameters + _BYTES_A_VALUE * size(step.output)
        needs.append(_Need(step.word, values))
        needs += [need for branch in step.branches for need in _needs(branch)]
    return needs


def readable(number: float) -> str:
    """Returns a number of bytes with its unit."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, max(0, len(str(int(number))) - 1) // 3)
    return f"{number / 1000**power:.3g} {units[power]}"

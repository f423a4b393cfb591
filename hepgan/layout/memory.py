"""Whether a network fits the memory at hand, asked before anything is allocated."""

from pathlib import Path
from typing import NamedTuple

import psutil

from hepgan.layout.shapes import Step
from hepgan.layout.spec.arguments import spans
from hepgan.layout.spec.base import LayerSpec, Layout, size
from hepgan.layout.spec.diagnostics import error_at

#: Training holds each weight, its gradient and Adam's two moments, in float32.
_BYTES_A_PARAMETER, _BYTES_A_VALUE = 16, 4


class _Need(NamedTuple):
    word: LayerSpec
    bytes: int


def check_memory(layout: Layout, steps: tuple[Step, ...], *, limit: int | None = None) -> None:
    """Refuses a network whose training, with one event at a time, would take more than ``limit`` bytes.

    Args:
        layout: For the place in the text.
        steps: The layout's words in their places.
        limit: By default the memory that is free now.

    Raises:
        LayoutError: with the largest layer's place.
    """
    needs = _needs(steps)
    total = sum(need.bytes for need in needs)
    limit = available() if limit is None else limit
    if total <= limit:
        return
    largest = max(needs, key=lambda need: need.bytes)
    text = layout.text or str(layout)
    start, end = spans(largest.word, "width", "depth") or (0, len(text))
    message = f"a network that takes {_readable(total)} of memory to train, but {_readable(limit)} are free"
    raise error_at(f"{message}; most of it goes to {largest.word}", text, start, end)


def available() -> int:
    """Free memory of the machine, or of the container where that is less [bytes]."""
    free = [int(psutil.virtual_memory().available)]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free.append(int(most) - int(used.read_text()))
    return max(0, min(free))


def _needs(steps: tuple[Step, ...]) -> list[_Need]:
    needs = []
    for step in steps:
        parameters = step.word.parameters(step.input, step.setting)
        values = _BYTES_A_PARAMETER * parameters + _BYTES_A_VALUE * size(step.output)
        needs.append(_Need(step.word, values))
        needs += [need for branch in step.branches for need in _needs(branch)]
    return needs


def _readable(number: float) -> str:
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, max(0, len(str(int(number))) - 1) // 3)
    return f"{number / 1000**power:.3g} {units[power]}"

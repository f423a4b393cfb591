"""Shared tools of the benchmarks: timing on a shared machine, description of the machine, tables as JSON and Markdown."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

Row = Mapping[str, Any]


def clock(device: torch.device) -> float:
    """Returns the time [s]: CPU time of this process, which other load does not affect, or wall time on a GPU, once it is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def turns(
    calls: Mapping[str, Callable[[], object]], seconds: float, device: torch.device, rounds: int = 5
) -> dict[str, np.ndarray]:
    """Returns the seconds per call ``[rounds]`` of each of ``calls``, interleaved and after a warm-up call."""
    measured: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            measured[name].append(seconds_a_call(call, seconds / rounds / len(calls), device))
    return {name: np.array(times) for name, times in measured.items()}


def seconds_a_call(call: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Returns the mean time over calls that take at least ``seconds`` in total."""
    count, start, end = 0, clock(device), time.perf_counter() + seconds
    while not count or time.perf_counter() < end:
        call()
        count += 1
    return (clock(device) - start) / count


def about(device: torch.device, **more: Any) -> dict[str, Any]:
    """Returns the machine, the versions and other facts to report with the figures."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    facts = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "times": "by the clock" if gpu else "CPU time of one process, median of turns",
    }
    return {name: value for name, value in facts.items() if value is not None} | more


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def markdown(rows: Sequence[Row]) -> str:
    """Returns a Markdown table; numbers have three digits, and thousands separators."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_text(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write(folder: Path, name: str, facts: Row, tables: Mapping[str, Sequence[Row]]) -> None:
    """Writes ``name.json`` and ``name.md`` in ``folder``, and prints the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = ", ".join(f"{key}: {value}" for key, value in facts.items())
    text = "\n\n".join([summary, *(f"**{t}**\n\n{markdown(rows)}" for t, rows in tables.items())])
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    data = {"about": dict(facts), "tables": tables}
    (folder / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    print(text)

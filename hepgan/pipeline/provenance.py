"""Origin of a report: command, run file, weights, training, hardware and versions."""

import datetime as dt
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from hepgan.data.io import fingerprint
from hepgan.errors import CheckpointError
from hepgan.gan.serialization import read_kept_step
from hepgan.gan.training import history
from hepgan.gan.training.history import Row

PACKAGES = (
    "hepgan", "torch", "numpy", "scipy", "awkward", "uproot", "hist", "boost-histogram", "matplotlib", "mplhep", "scikit-learn", "h5py",
)  # fmt: skip
"""Packages whose versions are part of a report, if they are installed."""


class Training(NamedTuple):
    """Training in a run folder.

    Attributes:
        history: Rows of the training history.
        kept: Training step whose weights were kept, or ``None`` if it is unknown.
        facts: Kept step, steps and time, by name.
        origin: Run file and weights, by name.
    """

    history: Sequence[Row]
    kept: int | None
    facts: Mapping[str, str]
    origin: Mapping[str, str]


def read_training(folder: Path) -> Training:
    """Returns the training that a run folder documents; nothing for other folders, and a remark on damaged files."""
    weights, run_file = folder / "generator.safetensors", folder / "run.toml"
    try:
        rows = history.read(folder)
        kept = read_kept_step(folder) if (folder / "gan.json").is_file() else None
    except CheckpointError as error:  # the events can be evaluated without
        return Training((), None, {"training": f"unknown: {error}"}, {})
    facts = {"kept step" if kept.adversarial else "training": str(kept)} if kept else {}
    if rows and rows[-1]["step"]:
        facts["steps"] = f"{rows[-1]['step']:,.0f}"
        if seconds := rows[-1].get("seconds"):
            facts["training time"] = str(dt.timedelta(seconds=round(seconds)))
    origin = {}
    if weights.is_file():
        origin["weights"] = with_sha256(str(weights))
    if run_file.is_file():
        origin["run file"] = run_file.read_text(encoding="utf-8", errors="replace")
    return Training(rows, kept.step if kept else None, facts, origin)


def provenance(seed: int, device: torch.device) -> dict[str, Any]:
    """Returns date, command, seed, hardware and versions."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "seed": str(seed),
        "hardware": _hardware(device),
        "versions": {"python": platform.python_version()}
        | {package: version for package in PACKAGES if (version := _version(package))},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def with_sha256(files: str) -> str:
    """Returns the paths that ``files`` names, with the SHA-256 of local files."""
    digests = fingerprint.sha256(files)
    return ", ".join(
        f"{path} (SHA-256 {digest})" if digest else path for path, digest in digests.items()
    )


def command_line() -> str:
    """Returns the command line of this process."""
    program, *arguments = sys.argv or [""]
    own = Path(program).stem in {"hepgan", "__main__"}
    return shlex.join(["hepgan" if own else program, *arguments])


def _hardware(device: torch.device) -> str:
    """Returns the device of the networks, the processor, its cores and the memory."""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory"
    processor = f"{_processor()} with {os.cpu_count()} cores"
    system = f"{platform.system()} {platform.machine()}"
    parts = [f"{device}", processor, memory, system]
    if device.type == "cuda":
        parts.insert(1, torch.cuda.get_device_name(device))
    return ", ".join(parts)


def _processor() -> str:
    """Returns the model of the processor; Python knows it on Windows and macOS only."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""``history.jsonl``: how a training went, a line now and then."""

import json
from pathlib import Path

from hepgan.gan.checkpoint import write_text

Row = dict[str, float]
"""A line of the history: step, seconds, losses, and the validation score where there is one."""


def append(folder: Path | None, row: Row) -> None:
    """Adds a line; nothing without a folder."""
    if folder:
        with (folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read(folder: Path) -> list[Row]:
    """The rows of ``history.jsonl``; none where there is no such file."""
    path = folder / "history.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def cut(folder: Path, step: int) -> None:
    """Leaves out what ``history.jsonl`` says of steps after ``step``, which are about to be done again."""
    kept = [row for row in read(folder) if row["step"] <= step]
    write_text(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

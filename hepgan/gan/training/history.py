"""Training history: losses and validation scores in ``history.jsonl``, one JSON object per line."""

import json
from pathlib import Path
from typing import Any, cast

from hepgan.atomic import append_line, write_text
from hepgan.errors import CheckpointError

Row = dict[str, float]
"""Row of the history: step, seconds, losses, and the validation score if there is one."""


def append(folder: Path | None, row: Row) -> None:
    """Appends a row to ``history.jsonl``; does nothing without a folder."""
    if folder:
        append_line(folder / "history.jsonl", json.dumps(row))


def read(folder: Path) -> list[Row]:
    """Reads the rows of ``history.jsonl``; returns none if there is no such file.

    An incomplete last line, left by a crash, is ignored.

    Raises:
        CheckpointError: any other line is damaged.
    """
    path = folder / "history.jsonl"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_parse_row(line))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise CheckpointError(f"{path} is damaged in line {number}: {error}") from error
    return rows


def _parse_row(line: bytes) -> Row:
    row: Any = json.loads(line)
    numbers = isinstance(row, dict) and all(type(value) in (int, float) for value in row.values())
    if not numbers or "step" not in row:
        raise ValueError("it is not an object of numbers with a step")
    return cast("Row", row)


def cut(folder: Path, step: int) -> None:
    """Removes the rows after ``step``, which will be trained again, from ``history.jsonl``."""
    kept = [row for row in read(folder) if row["step"] <= step] if step else []
    write_text(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

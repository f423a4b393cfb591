"""``history.jsonl``: how a training went, a line now and then."""

import json
from pathlib import Path
from typing import Any, cast

from hepgan.atomic import append_line, write_text
from hepgan.errors import CheckpointError

Row = dict[str, float]
"""A line of the history: step, seconds, losses, and the validation score where there is one."""


def append(folder: Path | None, row: Row) -> None:
    """Adds a line; nothing without a folder."""
    if folder:
        append_line(folder / "history.jsonl", json.dumps(row))


def read(folder: Path) -> list[Row]:
    """Returns the rows of ``history.jsonl``; none if there is no such file.

    A last line that a crash cut short is left out.

    Raises:
        CheckpointError: another line cannot be read.
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
    """Leaves out what ``history.jsonl`` says of steps after ``step``, which are about to be done again."""
    kept = [row for row in read(folder) if row["step"] <= step] if step else []
    write_text(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

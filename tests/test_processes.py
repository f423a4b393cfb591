"""Work on several processes: order, failures of helpers, and errors. Functions are Python's own, since helpers cannot import tests."""

import functools
import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hepgan.processes import on_processes


def ignore(fraction: float) -> None:
    """Ignores the progress."""


@pytest.fixture
def passed(tmp_path: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """An item for this process that ends once a helper has computed the other item."""
    path = tmp_path / "passed"

    def wait() -> None:
        started = time.monotonic()
        while not path.exists():
            assert time.monotonic() < started + 60
            time.sleep(0.01)

    return wait, functools.partial(path.write_text, "passed")


def test_results_are_in_order_and_a_helper_computes_the_last_items(passed: Any) -> None:
    wait, write = passed
    first, _, last = on_processes(
        operator.call, [lambda: [wait(), os.getpid()], write, os.getpid], helpers=1, progress=ignore
    )
    assert first[1] == os.getpid() != last


def test_an_item_that_cannot_be_sent_is_computed_here(passed: Any) -> None:
    wait, write = passed
    *_, local, sent = on_processes(
        operator.call, [wait, lambda: os.getpid(), write], helpers=1, progress=ignore
    )
    assert local == os.getpid()
    assert sent == len("passed")


def test_what_a_dying_helper_leaves_is_computed_here() -> None:
    here, slow = "__import__('os').getpid()", "__import__('time').sleep(0.5)"
    items = [
        f"[{slow}, {here}]",
        *[f"[None, {here} if {here} == {os.getpid()} else __import__('os')._exit(1)]"] * 9,
    ]
    assert on_processes(eval, items, helpers=2, progress=ignore) == [[None, os.getpid()]] * 10


@pytest.mark.parametrize("helpers", [0, 1])
def test_an_error_is_raised_here(helpers: int) -> None:
    with pytest.raises(TypeError, match="bad operand type"):
        on_processes(operator.neg, [1, 2, "3"], helpers=helpers, progress=ignore)


def test_without_a_python_to_start_all_is_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    done: list[float] = []
    assert on_processes(operator.neg, [1, 2], helpers=2, progress=done.append) == [-1, -2]
    assert done == [0.0, 0.5]


def test_a_script_without_main_guard_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from hepgan.processes import on_processes\n"
        "items = ['__import__(\"time\").sleep(0.5)', *['1 + 1'] * 9]\n"
        "print('ran', on_processes(eval, items, helpers=1, progress=print)[1:])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"ran {[2] * 9}"
    assert done.stdout.count("ran") == 1

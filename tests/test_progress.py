"""Display of the progress on a terminal, in notebooks and in logs."""

import sys
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import hepgan
from hepgan import progress


class FakeDisplay:
    """IPython's ``display`` of one output, which its handle replaces."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> "FakeDisplay":
        assert raw
        assert display_id
        assert not self.texts
        self.update(data, raw=raw)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        self.texts.append(data["text/plain"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> list[str]:
    fake = FakeDisplay()
    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=fake)
    monkeypatch.setitem(sys.modules, "IPython", ipython)  # type: ignore[arg-type]
    return fake.texts


def test_a_notebook_shows_one_line_with_the_time_left(shown: list[str], clock: list[float]) -> None:
    with hepgan.progress_bar() as report:
        report("training", 0.5, "")  # a resumed training
        clock[0] = 60.0
        report("training", 0.75, "step 750 of 1,000")
        clock[0] = 3723.0
    assert shown == [
        "starting",
        "training ██████████░░░░░░░░░░  50% 0:00",
        "training ███████████████░░░░░  75% 1:00, 1:00 left  step 750 of 1,000",
        "done in 1:02:03",
    ]


def test_a_notebook_gets_few_messages_but_every_step(shown: list[str], clock: list[float]) -> None:
    with hepgan.progress_bar() as report:
        for i in range(1000):
            clock[0] = i / 1000
            report("training", i / 1000, "")
        report("drawing", 0.0, "")
    assert len(shown) <= 3 + 1.0 / progress.NOTEBOOK_INTERVAL + 1
    assert shown[-2].startswith("drawing")


def test_a_notebook_names_the_step_that_failed(shown: list[str], clock: list[float]) -> None:
    def train() -> None:
        with hepgan.progress_bar() as report:
            report("training", 0.0, "")
            clock[0] = 0.1
            report("training", 0.1, "step 100 of 1,000")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert shown[-1].startswith("stopped after 0:00: training")
    assert shown[-1].endswith("step 100 of 1,000")


def test_a_log_gets_a_line_every_ten_seconds_and_the_end_of_each_step(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with hepgan.progress_bar() as report:
        for i in range(101):
            clock[0] = i / 4
            report("training", i / 100, f"step {i}")
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "training   0% step 0",
        "training  40% step 40",
        "training  80% step 80",
        "training 100% step 100",
    ]
    assert not captured.out


def test_ipython_on_a_terminal_is_no_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ipython: Any = SimpleNamespace(get_ipython=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with hepgan.progress_bar() as report:
        report("training", 1.0, "")
    assert capsys.readouterr().err == "training 100%\n"


def test_an_executed_notebook_stores_one_line() -> None:
    code = (
        "import hepgan\n"
        "with hepgan.progress_bar() as progress:\n"
        "    for i in range(500):\n"
        "        progress(f'step {i // 50}', i / 500, '')"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(book, timeout=60, kernel_name="python3").execute()
    (output,) = book.cells[0].outputs
    assert output.data == {"text/plain": "done in 0:00"}

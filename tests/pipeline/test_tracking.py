"""Trackers get the settings, every row of the history and the final scores; their libraries are imported on use only."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import TINY, tiny_events, write_tiny

from hepgan import pipeline as library
from hepgan.errors import RunError
from hepgan.gan.training import history

CPU = torch.device("cpu")
CHANGES = {"threads": 1, "train.steps": 10, "evaluate.metrics": ["correlation"]}


class Calls(list[tuple[str, tuple[Any, ...], dict[str, Any]]]):
    """Calls of a fake library: name, arguments, keywords."""

    def record(self, name: str) -> Callable[..., None]:
        return lambda *args, **keywords: self.append((name, args, keywords))

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, keywords) for other, args, keywords in self if other == name]


@contextmanager
def _ending(calls: Calls, value: Any) -> Any:
    yield value
    calls.append(("finish", (), {}))


def fake_mlflow(calls: Calls) -> Any:
    def start_run(**keywords: Any) -> Any:
        calls.append(("start_run", (), keywords))
        return _ending(calls, None)

    names = ("log_params", "log_text", "log_metrics")
    return SimpleNamespace(start_run=start_run, **{name: calls.record(name) for name in names})


def fake_wandb(calls: Calls) -> Any:
    tracked = SimpleNamespace(
        define_metric=calls.record("define_metric"), log=calls.record("log"),
        summary=SimpleNamespace(update=calls.record("summary")),
    )  # fmt: skip

    def init(**keywords: Any) -> Any:
        calls.append(("init", (), keywords))
        return _ending(calls, tracked)

    return SimpleNamespace(init=init)


def fake_tensorboard(calls: Calls) -> Any:
    def writer(**keywords: Any) -> Any:
        calls.append(("open", (), keywords))
        Path(keywords["log_dir"]).mkdir()
        names = ("add_text", "add_scalar", "close")
        return SimpleNamespace(**{name: calls.record(name) for name in names})

    return SimpleNamespace(SummaryWriter=writer)


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tiny(folder / "tiny.root", tiny_events(1500, 1))
    path = folder / "tiny.toml"
    path.write_text(TINY.format(path=folder / "tiny.root"))
    return path


def test_each_tracker_gets_settings_rows_and_scores(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, flow, biases = Calls(), Calls(), Calls()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake_tensorboard(board))
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(flow))
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(biases))
    run, folder = library.load(run_file, CHANGES), tmp_path / "out"
    evaluation = library.run(run, folder, device=CPU, track=["tensorboard", "mlflow", "wandb"])
    rows = history.read(folder)
    scores = {f"{s.source}/{s.metric}": s.value for s in evaluation.scores.overall}
    assert scores

    parameters = {
        name: value for (given,), _ in flow.named("log_params") for name, value in given.items()
    }
    assert parameters["train.steps"] == "10"
    assert parameters["schema.fields.a.unit"] == "GeV"
    assert all(len(given) <= 100 for (given,), _ in flow.named("log_params"))
    assert flow.named("start_run") == [((), {"run_name": "out"})]
    assert flow.named("log_text") == [((library.as_toml(run), "run.toml"), {})]
    *logged, last = flow.named("log_metrics")
    assert [{"step": options["step"], **values} for (values,), options in logged] == rows
    assert last == ((scores,), {"step": 10})
    assert flow[-1][0] == "finish"

    ((_, start),) = biases.named("init")
    assert start["config"]["train"]["steps"] == 10
    assert [values for (values,), _ in biases.named("log")] == rows
    assert biases.named("summary") == [((scores,), {})]

    ((_, opened),) = board.named("open")
    assert opened == {"log_dir": str(folder / "tensorboard")}
    scalars = [(name, value, o["global_step"]) for (name, value), o in board.named("add_scalar")]
    expected = [(k, v, row["step"]) for row in rows for k, v in row.items() if k != "step"]
    assert scalars == expected + [(name, value, 10) for name, value in scores.items()]
    assert board[-1][0] == "close"


def test_numbers_of_members_have_their_names(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(calls))
    run = library.load(run_file, CHANGES | {"ensemble.members": 3, "train.steps": 2})
    library.train(run, tmp_path / "out", device=CPU, track=["mlflow"])
    names = {
        name.partition("/")[0] for (values,), _ in calls.named("log_metrics") for name in values
    }
    assert names == {"member 0", "member 1", "member 2"}


def test_a_missing_library_raises_before_the_training_with_its_package(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RunError, match="--track wandb needs the package wandb: pip install wandb"):
        library.train(
            library.load(run_file, CHANGES), tmp_path / "out", device=CPU, track=["wandb"]
        )
    assert not (tmp_path / "out").exists()


def test_an_unknown_tracker_raises_with_the_known_ones(run_file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match="track = 'neptune' is not one of tensorboard, mlflow, wandb"
    ):
        library.train(library.load(run_file), tmp_path / "out", device=CPU, track=["neptune"])


def test_no_tracker_is_imported_by_default() -> None:
    code = (
        "import sys, hepgan.pipeline; "
        "assert not {'mlflow', 'wandb', 'torch.utils.tensorboard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

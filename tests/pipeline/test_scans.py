"""Scans: values are chosen, trainings are compared, pruned and resumed, and failures do not end them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hepgan import pipeline
from hepgan.errors import LayoutError, RunError
from hepgan.gan.training import history
from hepgan.gan.training.signals import TrainingStopped
from hepgan.pipeline import RunConfig, load, scan, scans, train
from hepgan.pipeline.scans import Dimension, dimensions

optuna = pytest.importorskip("optuna")

OVER = ["train.generator.learning_rate=1e-5:1e-2:log", "train.batch_size=32:64"]


@pytest.fixture
def run(tiny_run: Path) -> RunConfig:
    changes = {"train.steps": 6, "train.validate_every": 3, "train.log_every": 3}
    return load(tiny_run, changes)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "scan.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_values_are_ranges_of_floats_and_integers_or_choices() -> None:
    layouts = ["DENSE|8|LRELU, DENSE|N|LINEAR", "DENSE|N|LINEAR"]
    texts = [*OVER, *(f"gan.generator={layout}" for layout in layouts)]
    assert dimensions(texts) == [
        Dimension("train.generator.learning_rate", 1e-5, 1e-2, log=True),
        Dimension("train.batch_size", 32, 64),
        Dimension("gan.generator", choices=tuple(layouts)),
    ]
    assert all(isinstance(end, int) for end in (dimensions(OVER)[1].low, dimensions(OVER)[1].high))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ([], "at least one --over"),
        (["train.r1"], "write KEY=LOW:HIGH"),
        (["train.r1=1:0.1"], "1:0.1 is not a range"),
        (["train.r1=0:1:log"], "not a range of positive numbers"),
        (["train.r1=0.1"], "is one value; repeat"),
        (["train.r1=0.1", "train.r1=0.1"], "is one value; repeat"),
        (["train.r1=0.1:1", "train.r1=2"], "is given twice"),
        (["train.r1=1e:2"], "train.r1=1e:2"),
        (["train.nothing=0.1:1"], "nothing"),
        (["seed.x=1:2"], "'seed' is a value, not a table"),
        (["encoding.steps[7].threshold=0.1:1"], r"'steps' has no entry \[7\]"),
    ],
)
def test_invalid_values_raise_and_write_nothing(
    run: RunConfig, tmp_path: Path, over: list[str], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        scan(run, tmp_path / "scan", over, trials=1, device="cpu")
    assert not (tmp_path / "scan").exists()


def test_the_best_run_file_gives_the_best_score_again(run: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    found = scan(run, folder, OVER, trials=4, device="cpu")
    scores = [trial.score for trial in found if trial.score is not None]
    assert len(found) == 4
    assert scores == sorted(scores)
    best = load(folder / "best.toml")
    assert best.train.batch_size == found[0].values["train.batch_size"]
    train(best, tmp_path / "again", device="cpu")
    rows = history.read(tmp_path / "again")
    scores_again = [row["validation"] for row in rows if "validation" in row and row["step"]]
    assert min(scores_again) == pytest.approx(found[0].score)
    assert len(set(scores)) == len(scores)  # not that of the untrained generator
    rows = table(folder)
    assert [row["trial"] for row in rows] == [str(trial.number) for trial in found]
    assert float(rows[0]["score"]) == found[0].score


def test_the_encoding_is_fitted_once_if_no_value_changes_it(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[object] = []
    fit = pipeline.training.fit_encoding
    monkeypatch.setattr(
        pipeline.training, "fit_encoding", lambda *a, **k: (fits.append(1), fit(*a, **k))[1]
    )
    scan(run, tmp_path / "networks", OVER, trials=2, device="cpu")
    assert len(fits) == 1
    fits.clear()
    scan(run, tmp_path / "data", ["data.validation=0.1:0.2"], trials=2, device="cpu")
    assert len(fits) == 2


def test_the_start_of_the_training_changes_the_encoding() -> None:
    assert scans.encoding_is_shared(dimensions(OVER))
    starts = ["train.start_from=runs/a", "train.start_from=runs/b"]
    assert not scans.encoding_is_shared(dimensions([*OVER, *starts]))


def test_a_stopped_scan_goes_on_and_repeats_the_stopped_training(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trained, count = tmp_path / "scan", scans.train_locked, 0

    def stopped(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise TrainingStopped("stopped", 15)
        return trained(*arguments, **options)

    monkeypatch.setattr(scans, "train_locked", stopped)
    with pytest.raises(TrainingStopped):
        scan(run, folder, OVER, trials=3, device="cpu")
    found = scan(run, folder, OVER, trials=3, device="cpu")
    assert [trial.state for trial in found].count("complete") + [
        trial.state for trial in found
    ].count("pruned") == 3
    values = json.loads((folder / "scan.json").read_text())
    assert [d["key"] for d in values] == ["train.generator.learning_rate", "train.batch_size"]
    assert len(scan(run, folder, OVER, trials=3, device="cpu")) == 3
    assert count == 4


def test_another_scan_in_the_same_folder_raises_with_the_difference(
    run: RunConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "scan"
    scan(run, folder, OVER, trials=1, device="cpu")
    with pytest.raises(
        RunError, match=r"--over train\.batch_size is .*64.* there and .*128.* here"
    ):
        scan(run, folder, [OVER[0], "train.batch_size=32:128"], trials=1, device="cpu")
    other = pipeline.replaced(run, {"train.steps": 7})
    with pytest.raises(RunError, match=r"train\.steps is 6 there and 7 here"):
        scan(other, folder, OVER, trials=1, device="cpu")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(RunError, match="holds something other than a scan"):
        scan(run, tmp_path / "full", OVER, trials=1, device="cpu")


def test_a_failing_training_is_recorded_and_does_not_end_the_scan(
    run: RunConfig, tmp_path: Path
) -> None:
    def over(*sizes: int) -> list[str]:
        return [f"train.batch_size={size}" for size in sizes]

    with pytest.raises(
        RunError, match="no training of the scan was completed: batches of [56]000 cannot"
    ):
        scan(run, tmp_path / "none", over(5000, 6000), trials=1, device="cpu")
    found = scan(run, tmp_path / "scan", over(64, 5000), trials=6, device="cpu")
    states = {trial.values["train.batch_size"]: trial.state for trial in found}
    assert states == {"64": "complete", "5000": "failed"}
    rows = table(tmp_path / "scan")
    assert "5000" in next(row["remark"] for row in rows if row["state"] == "failed")


def test_a_wrong_layout_raises_before_the_first_training(run: RunConfig, tmp_path: Path) -> None:
    over = ["gan.generator=DENSE|N|LINEAR", "gan.generator=DENSE|8|LRLU, DENSE|N|LINEAR"]
    with pytest.raises(LayoutError, match="LRLU"):
        scan(run, tmp_path / "scan", over, trials=1, device="cpu")
    assert not (tmp_path / "scan").exists()


def test_trainings_without_prospects_are_ended(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Prune(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            return bool(trial.number == 1)

    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: Prune())
    found = scan(run, tmp_path / "scan", OVER, trials=2, device="cpu")
    assert {trial.number: trial.state for trial in found} == {0: "complete", 1: "pruned"}
    history = (tmp_path / "scan" / "trials" / "0001" / "history.jsonl").read_text().splitlines()
    assert json.loads(history[-1])["step"] == 3


def test_a_run_without_validation_raises(run: RunConfig, tmp_path: Path) -> None:
    unvalidated = pipeline.replaced(run, {"train.validate_every": 0})
    with pytest.raises(RunError, match="a scan compares validation scores; set"):
        scan(unvalidated, tmp_path / "scan", OVER, trials=1, device="cpu")


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("train.validate_every=0:3", "a scan compares validation scores; set"),
        ("data.validation=0.0:0.2", r"\[data\] validation = 0.0 .* should be positive"),
    ],
)
def test_values_without_validation_raise_before_the_first_training(
    run: RunConfig, tmp_path: Path, over: str, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        scan(run, tmp_path / "scan", [over], trials=1, device="cpu")
    assert not (tmp_path / "scan").exists()

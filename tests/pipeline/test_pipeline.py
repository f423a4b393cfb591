"""The full pipeline, on events with a known distribution."""

import dataclasses
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import scipy.stats
import torch
import uproot
from click.testing import CliRunner
from tiny import tiny_events, write_tiny

from hepgan import pipeline as library
from hepgan.cli import main
from hepgan.config import from_table
from hepgan.errors import DataError, HepganError, RunError
from hepgan.gan import serialization
from hepgan.gan.conditions import Range
from hepgan.pipeline import training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_file: Path) -> Path:
    from tiny import TINY

    parent = tmp_path_factory.mktemp("run")
    run_file = parent / "tiny.toml"
    run_file.write_text(TINY.format(path=tiny_file))
    library.run(library.load(run_file), parent / "out", device=CPU)
    return parent / "out"


def test_run_folder_is_complete(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "run.toml", "history.jsonl", "checkpoints", "generator.safetensors", "gan.json",
        "generated.root", "scores.json", "plots", "report.html",
    }  # fmt: skip
    assert list((folder / "plots").iterdir())
    assert not list(folder.rglob("*.part"))


def test_scores_have_value_error_baseline_and_numbers(folder: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["n_reference"] == scores["n_generated"] > 500
    by_metric = {score["metric"]: score for score in scores["scores"]}
    assert {"wasserstein", "separation", "chi_square"} <= set(by_metric)
    aucs = [score for name, score in by_metric.items() if "auc" in name]
    assert aucs
    assert all(0.3 < s["value"] < 1 and s["baseline"] is not None for s in aucs)


def test_generated_file_has_the_branches_and_types_of_the_reference(
    folder: Path, tiny_file: Path
) -> None:
    with uproot.open(folder / "generated.root") as generated, uproot.open(tiny_file) as reference:
        assert set(generated["events"].keys()) == set(reference["events"].keys())
        for name, branch in reference["events"].items():
            assert generated["events"][name].interpretation == branch.interpretation


def test_generated_events_follow_the_distributions_that_the_encoding_describes(
    folder: Path, tmp_path: Path
) -> None:
    """At any energy, a/energy is normal with mean 1 and width 0.1; b has a correlation of 0.8."""
    path = tmp_path / "made.root"
    generated = library.generate(
        folder, path, n=20_000, seed=3, conditions={"energy": Range(1.0, 10.0)}, device=CPU
    )
    assert generated == 20_000
    with uproot.open(path) as file:
        events = file["events"].arrays(library="np")
    response = events["a"] / events["energy"]
    assert response.mean() == pytest.approx(1.0, abs=0.005)
    assert response.std() == pytest.approx(0.1, rel=0.08)
    assert events["b"].mean(0) == pytest.approx([0, 0], abs=0.06)
    assert np.cov(events["b"].T) == pytest.approx(np.array([[1, 0.8], [0.8, 1]]), abs=0.1)
    assert abs(scipy.stats.spearmanr(response, events["energy"]).statistic) < 0.05


def test_scores_detect_a_wrong_sample(folder: Path, tiny_file: Path, tmp_path: Path) -> None:
    """Shifted events score far from the baseline, and events of the same distribution close to it."""
    good, bad = tiny_events(3000, 7), tiny_events(3000, 8)
    bad["a"] = bad["a"] * 1.1
    for name, events in {"good": good, "bad": bad}.items():
        write_tiny(tmp_path / f"{name}.root", events)
    verdict = library.evaluate(
        str(tiny_file),
        {name: str(tmp_path / f"{name}.root") for name in ("good", "bad")},
        tmp_path / "judged",
        seed=1, quick=True, config=str(folder / "run.toml"), device=CPU,
    )  # fmt: skip
    assert verdict.samples["bad"].distinguishable
    assert "a" in verdict.samples["bad"].shown_by
    assert not verdict.samples["good"].distinguishable


def test_generated_energies_are_the_requested_ones(folder: Path, tmp_path: Path) -> None:
    library.generate(
        folder, tmp_path / "x.root", n=50, seed=1, conditions={"energy": 7.5}, device=CPU
    )
    with uproot.open(tmp_path / "x.root") as file:
        assert (file["events"]["energy"].array(library="np") == np.float32(7.5)).all()


def test_conditions_from_a_file_are_taken_in_order(
    folder: Path, tiny_file: Path, tmp_path: Path
) -> None:
    library.generate(
        folder, tmp_path / "x.root", n=100, seed=1, conditions_from=str(tiny_file), device=CPU
    )
    with uproot.open(tmp_path / "x.root") as generated, uproot.open(tiny_file) as reference:
        expected = reference["events"]["energy"].array(entry_stop=100, library="np")
        np.testing.assert_array_equal(generated["events"]["energy"].array(library="np"), expected)


def test_same_seed_gives_the_same_run(folder: Path, tmp_path: Path) -> None:
    again = library.load(folder / "run.toml")
    library.run(again, tmp_path / "again", device=CPU)
    with (
        uproot.open(folder / "generated.root") as one,
        uproot.open(tmp_path / "again" / "generated.root") as two,
    ):
        for name, values in one["events"].arrays(library="np").items():
            np.testing.assert_array_equal(values, two["events"][name].array(library="np"))


def test_run_toml_reproduces_the_run(folder: Path) -> None:
    text = (folder / "run.toml").read_text()
    run = from_table(library.RunConfig, tomllib.loads(text), where="run file")
    assert library.as_toml(run) == text
    assert library.load(folder / "run.toml", {"seed": 9}) == dataclasses.replace(run, seed=9)


def test_resumed_run_equals_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    run = library.load(folder / "run.toml")
    stop = tmp_path / "stopped"
    stages = []

    class StopError(Exception): ...

    def interrupt(text: str, fraction: float, remark: str) -> None:
        stages.append(fraction)
        if text == "training" and fraction > 0.7:
            raise StopError

    with pytest.raises(StopError):
        library.train(run, stop, device=CPU, progress=interrupt)
    library.train(run, stop, device=CPU, resume=True)
    whole, resumed = (
        serialization.read_tensors(f / "generator.safetensors") for f in (folder, stop)
    )
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    steps = [json.loads(line)["step"] for line in (stop / "history.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_test_events_are_never_trained_on(tiny_run: Path) -> None:
    prepared = library.prepare(library.load(tiny_run), device=CPU)
    parts = [set(ak.to_numpy(events["a"]).tolist()) for events in prepared.splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) > 3900
    assert len(prepared.splits["test"]) == pytest.approx(800, abs=100)


@pytest.mark.parametrize("name", list(library.presets()))
def test_preset_is_a_valid_run_with_a_description(name: str) -> None:
    run = library.load(name)
    assert run.description
    assert run.gan.layouts


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.stepz": 5}, r"unknown key 'stepz' in \[train\]; did you mean 'steps'\?"),
        ({"train.steps": "many"}, r"train.steps = 'many' should be int"),
        ({"train.objective": "wassrstein"}, "did you mean 'wasserstein'"),
        ({"nonsense": 1}, r"unknown key 'nonsense'"),
        ({"seed.x": 1}, "'seed' is a value, not a table"),
        ({"data.test": 0.95}, "leave some events for training"),
        ({"data.test": float("nan")}, "data.test should be a number, but is NaN"),
        ({"data.reflect": ["x", "z"]}, "reflect = 'z' is not an axis of the field 'layer_0'"),
        ({"data.reflect": ["x", "x"]}, "names an axis twice"),
        ({"train.r1": float("inf")}, r"\[train\] r1 = inf should be 0 or more, and finite"),
        ({"seed": -1}, r"seed = -1 should be an integer from 0 to 2\^64"),
        ({"seed": 2**64}, r"an integer of more than 64 bits in 'seed'"),
        ({"train.r1": -5.0}, r"\[train\] r1 = -5.0 should be 0 or more"),
        ({"train.generator.betas": [2.0, 3.0]}, "betas"),
        ({"gan.latent": []}, r"\[gan\] latent"),
        ({"geometry.layer_9.cell": [1.0, 1.0]}, r"\[geometry.layer_9\] is not a field .* 'layer_"),
        ({"encoding.conditions.energy.range": [1.0, float("inf")]}, "range"),
    ],
)
def test_invalid_settings_raise(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        library.load("showers", overrides)


def test_only_training_events_are_reflected() -> None:
    runs = [library.load("bologan", {"data.reflect": mirror}) for mirror in ([], ["y", "x"])]
    plain, mirrored = (library.prepare(run, device=CPU) for run in runs)
    sizes = [len(p.state.loader.tensors[0]) for p in (plain, mirrored)]
    assert sizes[1] == 4 * sizes[0]
    for name in ("validation", "test"):
        assert ak.all(plain.splits[name]["layer_1"] == mirrored.splits[name]["layer_1"])


def test_unknown_preset_raises_with_the_nearest_name() -> None:
    with pytest.raises(RunError, match="no preset or run file 'shower'; did you mean 'showers'"):
        library.load("shower")


def test_folder_of_another_run_is_not_overwritten(
    folder: Path, tiny_run: Path, tmp_path: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(RunError, match=r"is not empty; choose another folder with -o"):
        library.run(library.load(tiny_run), folder, device=CPU)
    other = library.load(folder / "run.toml", {"seed": 77})
    with pytest.raises(RunError, match="holds a different run"):
        library.train(other, folder, device=CPU, resume=True)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "nonsense", "mps", "meta", "cpu:3"])
def test_missing_device_raises_and_writes_nothing(name: str) -> None:
    with pytest.raises(RunError, match=name):
        library.resolve_device(name)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "the condition 'energy' is missing; it may be 1 to 10 GeV"),
        ({"energy": 11.0}, "energy = 11 is outside the trained range of 1 to 10"),
        ({"energi": 5.0}, "has no condition 'energi'"),
        ({"energy": Range(5.0, 2.0)}, "should be in increasing order"),
        ({"energy": Range(0.0, 20.0)}, "the range energy = 0:20 is not inside the range"),
        (
            {"energy": Range(-math.inf, math.inf)},
            "is not inside the range that this GAN was trained on, 1 to 10",
        ),
    ],
)
def test_wrong_conditions_write_nothing(
    folder: Path, tmp_path: Path, conditions: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        library.generate(
            folder, tmp_path / "x.root", n=5, seed=1, conditions=conditions, device=CPU
        )
    assert not list(tmp_path.iterdir())


def test_existing_output_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.root").write_text("mine")
    with pytest.raises(HepganError, match=r"x.root' exists"):
        library.generate(
            folder, tmp_path / "x.root", n=5, seed=1, conditions={"energy": 5.0}, device=CPU
        )
    assert (tmp_path / "x.root").read_text() == "mine"


def test_killed_before_the_first_checkpoint_resumes_from_the_start(
    folder: Path, tmp_path: Path
) -> None:
    run = library.load(folder / "run.toml")
    library.train(run, tmp_path / "out", device=CPU)
    for path in (tmp_path / "out" / "checkpoints").iterdir():
        path.unlink()
    with (tmp_path / "out" / "history.jsonl").open("a") as file:
        file.write('{"step": 2')
    library.train(run, tmp_path / "out", device=CPU, resume=True)
    lines = (tmp_path / "out" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 5, 10, 15, 20]


def test_wrong_geometry_raises_before_anything_is_written(tiny_run: Path, tmp_path: Path) -> None:
    tiny_run.write_text(tiny_run.read_text() + "\n[geometry.b]\nr_edges = [0.0, 1.0]\n")
    with pytest.raises(RunError):
        library.train(library.load(tiny_run), tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_created_raises(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="cannot be created"):
        library.train(library.load(tiny_run), tmp_path / "file" / "out", device=CPU)


def test_condition_passed_twice_raises(folder: Path, tiny_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'energy' is given twice"):
        library.generate(
            folder, tmp_path / "x.root", seed=1, conditions={"energy": 5.0},
            conditions_from=str(tiny_file), device=CPU,
        )  # fmt: skip


def test_entries_with_conditions_are_used_equally_often_if_more_events_are_requested(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few, path = tmp_path / "few.root", tmp_path / "x.root"
    write_tiny(few, tiny_events(100, 5))
    library.generate(folder, path, n=250, seed=1, conditions_from=str(few), device=CPU)
    with uproot.open(path) as generated, uproot.open(few) as reference:
        events = generated["events"].arrays(["energy", "a"], library="np")
        given = reference["events"]["energy"].array(library="np")
    np.testing.assert_array_equal(events["energy"][:200], np.tile(given, 2))
    at = [list(given).index(energy) for energy in events["energy"][200:]]
    assert sorted(set(at)) == at  # none twice
    assert at != list(range(50))
    assert len(set(events["a"])) > 245  # other noise
    assert (
        "few.root has 100 entries, fewer than the 250 events requested: each is used 2 or 3 times"
        in caplog.text
    )


def test_files_are_compared_without_a_run_file(tmp_path: Path) -> None:
    """Fields are proposed from the reference's branches; two files of the same distribution are indistinguishable."""
    for name, seed in (("one", 11), ("two", 12)):
        write_tiny(tmp_path / f"{name}.root", tiny_events(1500, seed))
    verdict = library.evaluate(
        str(tmp_path / "one.root"), {"two": str(tmp_path / "two.root")}, tmp_path / "judged",
        seed=1, quick=True, device=CPU,
    )  # fmt: skip
    assert not verdict.distinguishable
    assert {"a", "b_0", "b_1", "energy"} <= {score.observable for score in verdict.scores}


def test_an_untrained_generator_is_reported_first_in_report_and_terminal(
    tiny_run: Path, tmp_path: Path
) -> None:
    """A learning rate of 1 makes every trained generator worse than the encoding alone."""
    settings = ["train.steps=3", "train.generator.learning_rate=1.0", "threads=1"]
    options = [part for text in settings for part in ("--set", text)]
    out = tmp_path / "out"
    result = CliRunner().invoke(
        main, ["run", str(tiny_run), "-o", str(out), "--device", "cpu", *options]
    )
    assert result.exit_code == 0, result.output
    sentence = "no step of the training beat the untrained generator"
    assert f"warning: {sentence}" in result.stdout
    page = (out / "report.html").read_text()
    assert page.index(sentence) < page.index("generated is ")
    assert "so step 0 of 3 was kept" in page


def test_a_validation_split_of_one_event_raises_before_training(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = training.read_events

    def short(run: library.RunConfig) -> dict[str, ak.Array]:
        splits = read(run)
        return splits | {"validation": splits["validation"][:1]}

    monkeypatch.setattr(training, "read_events", short)
    message = r"the validation split has 1 event, .*increase \[data\] validation = 0.1"
    with pytest.raises(DataError, match=message):
        library.train(library.load(tiny_run), tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()
    off = library.load(tiny_run, {"train.validate_every": 0, "train.steps": 2})
    library.train(off, tmp_path / "out", device=CPU)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_batch_norm_of_one_event_raises_before_training(
    tiny_run: Path, tmp_path: Path, network: str
) -> None:
    last = {"generator": "N|LINEAR", "discriminator": "1|LINEAR"}[network]
    layout = f"DENSE|8|LINEAR, BNORM|0.9|1e-5, DENSE|{last}"
    settings = {"train.batch_size": 1, f"gan.{network}": layout, "gan.latent": [3]}
    settings |= {"gan.generator": "DENSE|N|LINEAR"} if network == "discriminator" else {}
    with pytest.raises(RunError, match=r"\(BNORM\) needs 2 events in the batch .* there is 1"):
        library.train(library.load(tiny_run, settings), tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()
    two = library.load(tiny_run, settings | {"train.batch_size": 2, "train.steps": 2})
    library.train(two, tmp_path / "out", device=CPU)

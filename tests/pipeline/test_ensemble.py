"""Ensembles: members of other seeds and bootstrap samples in one run folder, which is a GAN folder itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from click.testing import CliRunner
from tiny import TINY, tiny_events, write_tiny

from hepgan import pipeline as library
from hepgan.cli import main
from hepgan.data.io.reader import ReadOptions
from hepgan.data.io.splits import Bootstrap, read_splits
from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError
from hepgan.gan.conditions import Range
from hepgan.gan.members import drawn_evenly, gan_folder, sample_members, with_member
from hepgan.gan.model import GAN
from hepgan.gan.serialization import read_tensors
from hepgan.gan.training.signals import TrainingStopped
from hepgan.pipeline import events as training_events
from hepgan.pipeline import training
from hepgan.pipeline.config import RunConfig

CPU = torch.device("cpu")
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
CHANGES = {"threads": 1, "ensemble.members": 3, "evaluate.metrics": ["wasserstein"]}


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tiny(folder / "tiny.root", tiny_events(2000, 1))
    path = folder / "tiny.toml"
    path.write_text(TINY.format(path=folder / "tiny.root"))
    return path


def run_of(run_file: Path, **changes: Any) -> RunConfig:
    return library.load(run_file, CHANGES | changes)


@pytest.fixture(scope="module")
def folder(run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ensemble"
    library.run(run_of(run_file), folder, device=CPU)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "generator.safetensors")


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return all(torch.equal(one[name], other[name]) for name in one)


def command(*words: Any) -> str:
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.output


def test_members_are_gan_folders_of_other_seeds_and_encodings(folder: Path) -> None:
    members = [GAN.load(folder, member=k, device=CPU) for k in range(3)]
    assert [path.name for path in sorted((folder / "members").iterdir())] == ["0", "1", "2"]
    runs = [library.load(folder / "members" / str(k)) for k in range(3)]
    assert len({run.seed for run in runs}) == 3
    assert all(run.data.bootstrap and run.ensemble is None for run in runs)
    assert len({gan.encoding.fingerprint() for gan in members}) == 3
    assert not same(folder / "members/0", folder / "members/1")
    for k, gan in enumerate(members):
        own = GAN.load(folder / "members" / str(k), device=CPU)
        assert ak.array_equal(
            own.sample(10, energy=5.0, seed=1), gan.sample(10, energy=5.0, seed=1)
        )


def test_the_folder_is_the_gan_of_its_first_member(folder: Path) -> None:
    first, default = (GAN.load(folder, member=k, device=CPU) for k in (0, None))
    assert ak.array_equal(
        default.sample(10, energy=5.0, seed=1), first.sample(10, energy=5.0, seed=1)
    )
    assert default.scores
    assert {score.source for score in default.scores} == {"member 0"}


def test_a_missing_member_raises_with_the_members_that_exist(folder: Path) -> None:
    with pytest.raises(RunError, match="has no member 3; its 3 members are numbered from 0 to 2"):
        GAN.load(folder, member=3)
    with pytest.raises(RunError, match="holds one GAN; choose no member"):
        GAN.load(folder / "members/0", member=1)


def test_the_report_has_the_band_and_a_sample_of_each_member(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "3 members, which differ by seeds and bootstrap samples" in page
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert {score["source"] for score in scores} == {"member 0", "member 1", "member 2"}
    plots = (folder / "plots").glob("*.svg")
    assert any("68 % band" in path.read_text() or "of the bins" in page for path in plots)


def test_generated_events_of_a_run_are_drawn_evenly_from_the_members(folder: Path) -> None:
    with uproot.open(f"{folder}/generated.root:events") as tree:
        members, a = tree["member"].array(library="np"), tree["a"].array(library="np")
    assert (members == np.arange(len(members)) % 3).all()
    for k in range(3):
        with uproot.open(f"{folder}/members/{k}/generated.root:events") as tree:
            assert (tree["a"].array(library="np")[k::3] == a[k::3]).all()


def test_splits_are_the_same_for_all_members_and_only_training_events_have_weights(
    run_file: Path,
) -> None:
    run = run_of(run_file)
    plain = training_events.read_events(run)
    first, second = (training_events.read_events(run.member(k)) for k in (0, 1))
    for name in ("validation", "test"):
        assert ak.array_equal(first[name], plain[name])
    assert ak.array_equal(ak.without_field(first["train"], "weight"), plain["train"])
    one, other = (ak.to_numpy(events["train"]["weight"]) for events in (first, second))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(one))


def test_bootstrap_weights_have_mean_and_variance_one_and_the_spread_of_the_sampling_error() -> (
    None
):
    """The mean of x over bootstrap samples varies by its standard error."""
    entries, x = np.arange(5000), np.random.default_rng(1).normal(size=5000)
    means = []
    for seed in range(300):
        drawn = Bootstrap("all", {"all": 1.0}, seed)("events.root", entries)
        assert drawn.mean() == pytest.approx(1, abs=5 / np.sqrt(5000))
        assert drawn.var() == pytest.approx(1, abs=0.3)
        means.append(np.average(x, weights=drawn))
    assert np.std(means) == pytest.approx(x.std() / np.sqrt(5000), rel=0.2)


def test_bootstrap_multiplies_the_weights_of_the_training_events(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "e.root") as file:
        file["events"] = {"a": np.arange(500.0, dtype="f4"), "w": np.full(500, -2.0, "f4")}
    schema, bootstrap = Schema.from_table({"fields": {"a": {}}}), Bootstrap("train", FRACTIONS, 3)
    splits = read_splits(
        str(tmp_path / "e.root"),
        schema,
        FRACTIONS,
        options=ReadOptions(weight="w", reweight=bootstrap),
    )
    assert (ak.to_numpy(splits["test"]["weight"]) == -2).all()
    entries = ak.to_numpy(splits["train"]["a"]).astype(int)
    expected = -2 * bootstrap("e.root", entries)
    assert np.allclose(splits["train"]["weight"], expected)
    assert (expected < 0).all()


def test_bootstrap_of_a_schema_with_a_field_weight_raises() -> None:
    options = ReadOptions(reweight=Bootstrap("train", FRACTIONS, 1))
    with pytest.raises(DataError, match="the schema has a field 'weight'"):
        options.request(Schema.from_table({"fields": {"weight": {}}}))


def test_streamed_members_have_the_weights_of_those_in_memory(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_events, "CHUNK", 100 * 24 / 1e6)
    streamed, in_memory = (
        library.prepare(run_of(run_file, **{"data.stream": stream}).member(1), device=CPU)
        for stream in (True, False)
    )
    assert ak.array_equal(streamed.splits["train"], in_memory.splits["train"])
    drawn = torch.cat([w for _, _, w in streamed.state.loader])
    expected = ak.to_numpy(in_memory.splits["train"]["weight"])
    expected = (expected / expected.mean()).astype("f4")
    assert np.isin(drawn.numpy().round(4), expected.round(4)).mean() > 0.99


def test_seeds_alone_train_without_weights(run_file: Path, tmp_path: Path) -> None:
    run = run_of(run_file, **{"ensemble.bootstrap": False, "train.steps": 2})
    library.train(run, tmp_path / "out", device=CPU)
    gans = [GAN.load(tmp_path / "out", member=k, device=CPU) for k in (0, 1)]
    assert all(gan.encoding.effective_events == 0 for gan in gans)
    assert not same(tmp_path / "out/members/0", tmp_path / "out/members/1")


def test_a_killed_ensemble_resumes_to_the_same_weights(
    run_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second member, after its first checkpoint."""
    whole, out, train = folder, tmp_path / "out", training.training.train
    calls = []

    def killed(state: Any, discriminator_input: Any, *, on_row: Any, **options: Any) -> Any:
        calls.append(state)

        def row(values: dict[str, float]) -> None:
            if len(calls) == 2 and values["step"] == 15:
                raise KeyboardInterrupt
            on_row(values)

        return train(state, discriminator_input, on_row=row, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training.training, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            library.train(run_of(run_file), out, device=CPU)
    assert len(list((out / "members").iterdir())) == 2
    with pytest.raises(RunError, match="not empty.*--resume"):
        library.train(run_of(run_file), out, device=CPU)
    with pytest.raises(RunError, match="ensemble.members is 3 there and 4 here"):
        library.train(run_of(run_file, **{"ensemble.members": 4}), out, device=CPU, resume=True)
    library.train(library.load(out), out, device=CPU, resume=True)
    assert all(same(whole / f"members/{k}", out / f"members/{k}") for k in range(3))


def test_a_signal_stops_the_ensemble_and_the_member_so_far_can_be_used(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> Any:
        raise TrainingStopped("stopped at step 5", 15)

    monkeypatch.setattr(training.training, "train", stopped)
    with pytest.raises(TrainingStopped):
        library.run(run_of(run_file), tmp_path / "out", device=CPU)
    assert GAN.load(tmp_path / "out", device=CPU).kept
    assert not (tmp_path / "out/members/1").exists()


def test_overwrite_replaces_an_ensemble_by_one_gan(
    run_file: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(folder, out)
    one = library.load(run_file, {"threads": 1, "train.steps": 2})
    library.train(one, out, device=CPU, overwrite=True)
    assert not (out / "members").exists()
    assert (out / "gan.json").is_file()
    library.train(run_of(run_file, **{"train.steps": 2}), out, device=CPU, overwrite=True)
    assert gan_folder(out) == out / "members/0"
    assert not (out / "gan.json").exists()


def test_two_members_are_too_few(run_file: Path) -> None:
    with pytest.raises(RunError, match="ensemble.members = 2 should be at least 3"):
        run_of(run_file, **{"ensemble.members": 2})


def test_generated_events_of_all_members_keep_the_order_of_the_conditions(folder: Path) -> None:
    gans = [GAN.load(folder, member=k, device=CPU) for k in range(3)]
    energies = np.linspace(1, 10, 10_000)
    events = ak.concatenate(
        list(sample_members(gans, 10_000, seed=1, conditions={"energy": energies}))
    )
    assert np.allclose(events["energy"], energies)
    assert (ak.to_numpy(events["member"]) == np.arange(10_000) % 3).all()
    # a = energy (1 + 0.1 u)
    assert np.std(ak.to_numpy(events["a"]) / energies) < 0.2


def test_fewer_events_than_members_are_those_of_the_first(folder: Path) -> None:
    gans = [GAN.load(folder, member=k, device=CPU) for k in range(3)]
    (events,) = sample_members(gans, 2, seed=1, conditions={"energy": 5.0})
    assert events["member"].to_list() == [0, 1]


def test_events_drawn_evenly_keep_their_position() -> None:
    samples = [ak.zip({"a": np.arange(7) + 10 * k}, depth_limit=1) for k in range(3)]
    assert drawn_evenly(samples)["a"].to_list() == [0, 11, 22, 3, 14, 25, 6]


def test_a_field_member_raises() -> None:
    with pytest.raises(DataError, match="the GAN has a field 'member'"):
        with_member(Schema.from_table({"fields": {"member": {}}}))


def test_commands_choose_members(run_file: Path, folder: Path, tmp_path: Path) -> None:
    one, every = tmp_path / "one.root", tmp_path / "all.root"
    options = ["-n", 600, "--seed", 1, "--condition", "energy=2:9", "--device", "cpu"]
    command("generate", folder, "-o", one, "--member", 2, *options)
    own = GAN.load(folder, member=2, device=CPU).sample(600, seed=1, energy=Range(2, 9))
    with uproot.open(f"{one}:events") as tree:
        assert "member" not in tree
        assert np.array_equal(tree["a"].array(library="np"), ak.to_numpy(own["a"]))
    command("generate", folder, "-o", every, "--member", "all", *options)
    with uproot.open(f"{every}:events") as tree:
        assert np.bincount(tree["member"].array(library="np")).tolist() == [200, 200, 200]
    reference = run_file.parent / "tiny.root"
    shared = ["--config", run_file, "--metric", "wasserstein", "--device", "cpu"]
    command("evaluate", reference, every, "-o", tmp_path / "band", "--ensemble", *shared)
    scores = json.loads((tmp_path / "band/scores.json").read_text())["scores"]
    assert {score["source"] for score in scores} == {"member 0", "member 1", "member 2"}
    command("evaluate", reference, every, "-o", tmp_path / "single", "--member", 1, *shared)
    scores = json.loads((tmp_path / "single/scores.json").read_text())["scores"]
    assert {score["n_generated"] for score in scores} == {200}


def test_a_single_file_without_members_is_no_ensemble(
    run_file: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        DataError, match="or one with a branch 'member' of as many members, but there are 1"
    ):
        library.evaluate(
            str(run_file.parent / "tiny.root"), {"a": str(folder / "members/0/generated.root")},
            tmp_path / "out", ensemble=True, device=CPU,
        )  # fmt: skip


def test_run_with_members_prints_the_kept_step_of_each(run_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = command(
        "train", run_file, "-o", out, "--members", 3, "--device", "cpu", "--set", "train.steps=2"
    )
    for k in range(3):
        assert f"member {k}: kept the generator of step" in text
    assert "members = 3" in (out / "run.toml").read_text()


def test_the_card_and_the_export_are_those_of_a_member(folder: Path, tmp_path: Path) -> None:
    text = library.card(folder, tmp_path / "card.md").read_text()
    assert 'GAN.load("ensemble")' in text
    assert "- seed: 1\n" in text
    command("export", folder, "-o", tmp_path / "one.pt2", "--member", 1)
    assert (tmp_path / "one.pt2").is_file()


def test_simulated_particles_are_drawn_evenly_and_do_not_depend_on_the_chunks(
    run_file: Path, folder: Path, tmp_path: Path
) -> None:
    source = run_file.parent / "tiny.root"
    options = ["--seed", 1, "--energy", "energy", "--device", "cpu", "--member"]
    for name, chunk in {"a": 2000, "b": 300}.items():
        target = tmp_path / f"{name}.root"
        command("simulate", folder, source, "-o", target, "--step-size", chunk, *options, "all")
    command("simulate", folder, source, "-o", tmp_path / "two.root", *options, 2)
    columns = {}
    for name in ("a", "b", "two"):
        with uproot.open(f"{tmp_path}/{name}.root:events") as tree:
            columns[name] = tree.arrays(library="np")
    assert "member" not in columns["two"]
    assert (columns["a"]["member"] == columns["a"]["entry"] % 3).all()
    assert np.array_equal(columns["a"]["a"], columns["b"]["a"])
    of_two = columns["a"]["member"] == 2
    assert np.array_equal(columns["a"]["a"][of_two], columns["two"]["a"][of_two])

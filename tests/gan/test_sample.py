"""Arguments of ``GAN.sample``: conditions, numbers of events, and generators without weights."""

import dataclasses
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from scipy import stats

from hepgan import read, write
from hepgan.cli import main
from hepgan.errors import DataError, RunError
from hepgan.gan.conditions import Range
from hepgan.gan.engines import TorchEngine
from hepgan.gan.model import GAN
from hepgan.pipeline import generate, load, prepare, train


@pytest.fixture(scope="module")
def gan(gan_folder: Path) -> GAN:
    return GAN.load(gan_folder)


@pytest.mark.parametrize(
    ("conditions", "n", "message"),
    [
        ({"energy": 5.0}, 2.5, r"n = 2.5 should be an integer"),
        ({"energy": 5.0}, True, r"n = True should be an integer"),
        ({"energy": 5.0}, 0, r"n = 0 should be 1 or more"),
        ({"energy": 5.0}, None, r"number of events is not defined: pass n"),
        ({"energy": np.full((3, 2), 5.0)}, None, r"'energy' has shape \[3, 2\]; give a number"),
        ({"energy": [2.0, 3.0]}, 5, r"have lengths energy 2, but n = 5"),
        ({"energy": "five"}, 5, r"energy = 'five' is not a number"),
        ({"energy": (2.0, 9.0)}, 5, r"is ambiguous; write hepgan.Range\(2, 9\) for a range"),
        ({"energy": (2.0, 9.0)}, 2, r"is ambiguous; write hepgan.Range\(2, 9\) for a range"),
        ({"energy": Range("a", 2.0)}, 5, r"is not a range of numbers"),
        (
            {"energy": Range(2.0, 20.0)},
            5,
            r"2:20 is not inside the range that this GAN was trained on, 1 to 10",
        ),
        ({"energy": Range(3.0, 2.0)}, 5, r"energy = 3:2 should be in increasing order"),
        ({"energy": np.nan}, 5, r"energy = nan in event 0 is not finite; it may be 1 to 10"),
        ({}, 5, r"'energy' is missing; it may be 1 to 10 GeV"),
        ({"energy": 5.0, "theta": 1.0}, 5, r"no condition 'theta' \(it has: energy\)"),
    ],
)
def test_ambiguous_requests_raise(gan: GAN, conditions, n, message: str) -> None:
    with pytest.raises(DataError, match=message):
        gan.sample(n, conditions=conditions, seed=1)


def test_ranges_are_drawn_uniformly_or_uniformly_in_the_logarithm(gan: GAN) -> None:
    for scale, inverse in (
        ("linear", lambda e: (e - 2) / 6),
        ("log", lambda e: np.log(e / 2) / np.log(4)),
    ):
        energy = ak.to_numpy(gan.sample(3000, energy=Range(2.0, 8.0, scale), seed=1)["energy"])
        assert stats.kstest(inverse(energy.astype(float)), "uniform").pvalue > 1e-3


def test_numpy_integers_count_events(gan: GAN) -> None:
    assert len(gan.sample(np.int32(3), energy=5.0, seed=1)) == 3


def test_the_first_of_a_trillion_events_arrive_immediately_and_equal_those_of_a_thousand(
    gan: GAN,
) -> None:
    first = next(gan.sample_blocks(10**12, energy=Range(2.0, 9.0), seed=1))
    few = gan.sample(1000, energy=Range(2.0, 9.0), seed=1)
    for name in few.fields:
        np.testing.assert_allclose(
            ak.to_numpy(first[name])[:1000], ak.to_numpy(few[name]), rtol=1e-5
        )


def test_more_events_than_fit_on_the_disk_raise(gan_folder: Path, tmp_path: Path) -> None:
    arguments = ["generate", str(gan_folder), "-n", str(10**15), "--condition", "energy=2:9"]
    done = CliRunner().invoke(main, [*arguments, "--seed", "1", "-o", str(tmp_path / "a.root")])
    assert done.exit_code == 2
    assert "TB before compression" in done.output
    assert not list(tmp_path.iterdir())


def test_a_generator_without_parameters_samples_but_cannot_be_trained(
    tiny_run: Path, tmp_path: Path
) -> None:
    settings = {"gan.generator": "PASS", "train.steps": 0, "encoding.steps": []}
    settings |= {"schema.conditions": {}, "encoding.conditions": {}}
    gan, _ = train(load(tiny_run, settings), tmp_path / "out", device="cpu")
    assert len(gan.sample(7, seed=1)) == 7
    assert len(GAN.load(tmp_path / "out").sample(7, seed=1)) == 7
    with pytest.raises(RunError, match=r"no weights to train; .* train.steps = 0"):
        prepare(load(tiny_run, settings | {"train.steps": 5}), device="cpu")


def test_saved_gans_keep_schema_geometry_and_tree_and_give_the_same_events(tmp_path: Path) -> None:
    gan = GAN.load("showers-fast", device="cpu")
    gan.save(tmp_path / "new" / "folder")
    again = GAN.load(tmp_path / "new" / "folder", device="cpu")
    assert (again.schema, again.geometry, again.tree) == (gan.schema, gan.geometry, "showers")
    assert again.geometry["layer_1"].cell == (40.0, 40.0)
    assert ak.array_equal(*(one.sample(5, energy=50.0, seed=1) for one in (gan, again)))
    write(tmp_path / "five.root", gan.sample(5, energy=50.0, seed=1), again)
    assert len(read(f"{tmp_path / 'five.root'}:showers", gan.schema)) == 5


@pytest.mark.parametrize("batch", [1, 3, 1500])
def test_a_sampler_continues_the_events_of_sample(gan: GAN, batch: int) -> None:
    calls = [gan.sampler(batch, seed=4)] * 3
    found = [call(energy=5.0) for call in calls]
    expected = gan.sample(3 * batch, energy=5.0, seed=4)
    for name, field in gan.schema.fields.items():
        values = np.concatenate([part[name].numpy() for part in found])
        assert values.shape == (3 * batch, *field.shape)
        np.testing.assert_allclose(
            values, ak.to_numpy(expected[name]).astype("f4"), rtol=1e-3, atol=1e-4
        )


def test_samplers_check_their_arguments(gan: GAN) -> None:
    with pytest.raises(RunError, match="batch of a sampler is 0"):
        gan.sampler(0, seed=1)
    sampler = gan.sampler(seed=1)
    with pytest.raises(DataError, match=r"no condition 'theta' \(it has: energy\)"):
        sampler(energy=5.0, theta=1.0)
    with pytest.raises(DataError, match="'energy' is missing"):
        sampler()
    with pytest.raises(DataError, match="energy"):
        sampler(energy=1e9)


def test_conditions_are_keywords_or_a_mapping_but_not_both(gan: GAN) -> None:
    by_name = gan.sample(4, energy=Range(2.0, 9.0), seed=1)
    assert ak.array_equal(
        gan.sample(4, conditions={"energy": Range(2.0, 9.0)}, seed=1)["energy"], by_name["energy"]
    )
    with pytest.raises(DataError, match="'energy' is given twice"):
        gan.sample(4, energy=5.0, conditions={"energy": 5.0}, seed=1)


def test_plugins_of_a_saved_gan_must_be_imported_first(gan: GAN, tmp_path: Path) -> None:
    gan.save(tmp_path)
    path = tmp_path / "gan.json"
    path.write_text(path.read_text().replace('"plugins": []', '"plugins": ["no_such_plugin"]'))
    with pytest.raises(RunError, match=r"gan.json needs the plugin 'no_such_plugin'"):
        GAN.load(tmp_path)


def test_representations_are_short_and_escaped(gan: GAN) -> None:
    assert len(repr(gan)) < 1000
    assert "energy 1 to 10 GeV" in repr(gan)
    hostile = dataclasses.replace(gan, tree="<script>")
    assert "&lt;script&gt;" in hostile._repr_html_()
    assert "<script>" not in hostile._repr_html_()


def test_generated_events_are_written_in_baskets_that_are_not_small(
    gan_folder: Path, tmp_path: Path
) -> None:
    conditions = {"energy": Range(2.0, 3.0)}
    generate(gan_folder, tmp_path / "a.root", n=5000, seed=1, conditions=conditions, device="cpu")
    with uproot.open(tmp_path / "a.root") as file:
        assert {branch.num_baskets for branch in file["events"].branches} == {1}
        values = file["events"]["a"].array(library="np")
    expected = GAN.load(gan_folder, device="cpu").sample(5000, seed=1, **conditions)
    assert np.array_equal(values, ak.to_numpy(expected.a))


def test_errors_while_generating_are_raised_and_leave_no_file(
    gan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RunError("out of memory")

    monkeypatch.setattr(TorchEngine, "parts", broken)
    with pytest.raises(RunError, match="out of memory"):
        generate(gan_folder, tmp_path / "a.root", n=5, seed=1, conditions={"energy": 2.0})
    assert not list(tmp_path.iterdir())

"""coffea processors give the same results, bit for bit, however they are run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from coffea.processor import ProcessorABC
from filesets import CHUNKS, fileset, runner, same, simulation
from tiny import tiny_events, write_tiny

import hepgan
from hepgan import processors
from hepgan.data.io.chunks import as_events
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, HepganError, RunError
from hepgan.evaluation.histograms import axes_for, compare, to_arrays
from hepgan.gan.noise import BLOCK, keyed_normals
from hepgan.pipeline import load
from hepgan.processors import model_cache


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of the same name, with 5,000 and 2,500 events of 0 to 3 particles of 1 to 10 GeV."""
    paths = []
    for name, events in (("a", 5000), ("b", 2500)):
        path = tmp_path_factory.mktemp(name) / "photons.root"
        rng = np.random.default_rng(events)
        counts = rng.integers(0, 4, events)
        energies = rng.uniform(1, 10, counts.sum()).astype("f4")
        with uproot.recreate(path) as file:
            file.mktree("Events", {"GenPart_energy": "var * float32", "weight": "f4"})
            file["Events"].extend(
                {
                    "GenPart_energy": ak.unflatten(energies, counts),
                    "weight": np.arange(events, dtype="f4"),
                }
            )
        paths.append(path)
    return paths


def test_noise_depends_only_on_the_key() -> None:
    entries, numbers = np.repeat(np.arange(50), 3), np.tile(np.arange(3), 50)
    whole = keyed_normals(entries, numbers, (7, 5), seed=3, file="ab", tree="c")
    order = np.random.default_rng(1).permutation(150)[:40]
    assert (
        keyed_normals(entries[order], numbers[order], (7, 5), seed=3, file="ab", tree="c")
        == whole[order]
    ).all()
    rows = {row.numpy().tobytes() for row in whole}
    for seed, file, tree in ((4, "ab", "c"), (3, "a", "bc")):
        rows |= {
            row.numpy().tobytes()
            for row in keyed_normals(entries, numbers, (7, 5), seed=seed, file=file, tree=tree)
        }
    assert len(rows) == 450


def test_noise_is_normal() -> None:
    from scipy import stats

    noise = keyed_normals(
        np.arange(4000), np.zeros(4000, int), (8,), seed=1, file="a", tree="t"
    ).numpy()
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(8)).max() < 0.07
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.07


@pytest.mark.parametrize("preset", ["showers-fast", "mnist"])
def test_a_row_does_not_depend_on_the_others_of_a_full_batch(preset: str) -> None:
    """Reproducibility relies on this when particles of different chunks share a batch."""
    settings = load(preset)
    events = hepgan.read(list(settings.data.files), settings.schema, entry_stop=1500)
    steps = hepgan.EncodingSettings(
        ({"step": "layer_sums", "incident": "energy", "threshold": 0.01}, {"step": "log", "threshold": 0.01},
         {"step": "marginals", "condition": "energy", "censored_zeros": True}, {"step": "whiten"})
        if preset == "showers-fast" else settings.encoding.steps,
        settings.encoding.conditions,
    )  # fmt: skip
    encoding = hepgan.Encoding.fit(events, settings.schema, steps, seed=1)
    gan = hepgan.GAN.build(
        settings.gan, encoding, seed=1, discriminator_shapes=() if preset == "mnist" else [(550,)]
    )
    gan.generator.eval()
    for parameter in gan.generator.parameters():  # a residual generator starts with zeros
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(1))
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(BLOCK, *gan.latent, generator=draw)
    c = torch.rand(BLOCK, encoding.conditions, generator=draw) * 2 - 1

    def rows(noise: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            decoded = encoding.decode_tensors(gan.generate(noise, c), c)
        return torch.cat([values.flatten(1) for values in decoded.values()], 1)

    expected = rows(noise, c)
    order = torch.randperm(BLOCK, generator=draw)
    assert torch.equal(rows(noise[order], c[order]), expected[order])
    keep = torch.rand(BLOCK, generator=draw) < 0.3
    other = rows(
        torch.where(keep.reshape(-1, *[1] * len(gan.latent)), noise, 0),
        torch.where(keep[:, None], c, -1.0),
    )
    assert torch.equal(other[keep], expected[keep])


def test_simulate_does_not_depend_on_chunk_size_or_order(
    gan_folder: Path, particles: list[Path]
) -> None:
    results = [runner(size)(fileset(particles), simulation(gan_folder)) for size in CHUNKS]
    results.append(runner(700)(fileset(particles[::-1]), simulation(processors.embed(gan_folder))))
    for other in results[1:]:
        same(results[0], other)
    assert len(results[0]) == 7500
    energies = ak.concatenate(
        [uproot.open(path)["Events/GenPart_energy"].array() for path in sorted(particles)]
    )
    assert ak.all(results[0].showers.energy == energies)
    assert results[0].showers.b.type.content.content.size == 2
    # Two files of the same name get different noise, and so do different seeds.
    cells = ak.to_numpy(ak.flatten(results[0].showers.a))
    assert len(np.unique(cells)) > 0.999 * len(cells)
    assert not ak.any(
        runner()(fileset(particles), simulation(gan_folder, seed=6)).showers.a
        == results[0].showers.a
    )


def test_copies_have_noise_of_their_own_in_chunks_of_any_size(
    gan_folder: Path, particles: list[Path]
) -> None:
    once = runner()(fileset(particles), simulation(gan_folder)).showers
    copied = simulation(gan_folder, copies=3)
    three, small = (runner(size)(fileset(particles), copied).showers for size in (100_000, 700))
    same(three, small)
    assert ak.all(ak.num(three) == 3 * ak.num(once))
    copy = ak.to_numpy(ak.flatten(three.copy))
    np.testing.assert_array_equal(copy, np.arange(len(copy)) % 3)
    for name in once.fields:
        assert ak.all(three[name][three.copy == 0] == once[name])
    assert ak.all(three.energy[three.copy == 2] == once.energy)
    cells = ak.to_numpy(ak.flatten(three.a))
    assert len(np.unique(cells)) > 0.999 * len(cells)
    with pytest.raises(RunError, match="copies = 0 should be at least 1"):
        simulation(gan_folder, copies=0)


def test_wrapper_gives_the_showers_of_simulate(gan_folder: Path, particles: list[Path]) -> None:
    expected = runner()(fileset(particles), simulation(gan_folder, out_of_range="flag"))

    class Mine(ProcessorABC):
        def __init__(self) -> None:
            self.generator = processors.GeneratorWrapper(gan_folder, seed=5, out_of_range="flag")

        def process(self, events: ak.Array) -> processors.ChunkResults:
            events["showers"] = self.generator(events, energy=events.GenPart_energy)
            return processors.ReturnFields("showers", "weight")(events)

        def postprocess(self, results: processors.ChunkResults) -> ak.Array:
            return results.concatenate()

    same(expected, runner(1_000)(fileset(particles), Mine()))


def test_wrapper_raises_for_selected_events(gan_folder: Path, particles: list[Path]) -> None:
    wrapper = processors.GeneratorWrapper(gan_folder, seed=5)

    def process(events: ak.Array) -> int:
        selected = events[events.weight > 10]
        return len(wrapper(selected, energy=selected.GenPart_energy))

    with pytest.raises(Exception, match="simulate before you select"):
        runner()(fileset(particles), process)


def test_a_model_is_loaded_once_per_process_and_again_when_it_changes(
    gan_folder: Path, particles: list[Path]
) -> None:
    model_cache._loaded.cache_clear()
    runner(500)(fileset(particles), simulation(gan_folder))
    assert model_cache._loaded.cache_info().misses == 1
    os.utime(gan_folder / "gan.json")
    runner(5000)(fileset(particles), simulation(gan_folder))
    assert model_cache._loaded.cache_info().misses == 2


def tiny_fileset(gan_folder: Path) -> dict[str, object]:
    return {"reference": {"files": {str(gan_folder.parent / "tiny.root"): "events"}}}


def test_collect_equals_read(gan_folder: Path) -> None:
    schema = hepgan.GAN.load(gan_folder).schema
    options = {"weight": "1 / energy"}
    expected = hepgan.read(gan_folder.parent / "tiny.root", schema, cut="a > 3", **options)
    for size in (400, 100_000):
        collected = processors.collect(
            tiny_fileset(gan_folder), runner(size), schema, cut="a > 3", **options
        )
        same(expected, collected)


@pytest.mark.parametrize("format", ["root", "parquet"])
def test_collect_writes_parts(gan_folder: Path, tmp_path: Path, format: str) -> None:
    schema = hepgan.GAN.load(gan_folder).schema
    parts = processors.WriteFiles(str(tmp_path / "out"), schema, "events", format=format)  # type: ignore[arg-type]
    counts = runner(700)(tiny_fileset(gan_folder), processors.Collect(schema, to=parts))
    assert sum(counts.values()) == 3000
    expected = hepgan.read(gan_folder.parent / "tiny.root", schema)
    if format == "root":
        same(expected, hepgan.read(str(tmp_path / "out" / "*.root"), schema))
    else:
        again = ak.concatenate([ak.from_parquet(path) for path in sorted(counts)])
        assert ak.all(again.a == expected.a)
        assert ak.all(again.b == expected.b)


def test_compare_equals_hepgan_compare(gan_folder: Path) -> None:
    schema = hepgan.GAN.load(gan_folder).schema
    observables = hepgan.observables_for(schema)
    reference = hepgan.read(gan_folder.parent / "tiny.root", schema)
    axes = axes_for(to_arrays(reference[:1000]), observables)
    processor = processors.Compare(schema, observables, axes=axes, gan=gan_folder, seed=3)
    results = [runner(size)(tiny_fileset(gan_folder), processor) for size in (400, 3000)]
    assert results[0] == results[1]
    simulate = processors.Simulate(
        gan_folder, energy="energy", output=processors.ReturnFields("showers"), seed=3
    )
    generated = runner()(tiny_fileset(gan_folder), simulate).showers
    expected = compare(reference, generated, observables, axes=axes)
    assert results[0] == expected
    fills = processors.FillHistograms(observables, axes, schema)
    filled = runner(300)(
        tiny_fileset(gan_folder),
        processors.Simulate(gan_folder, energy="energy", output=fills, seed=3),
    )
    for name, histogram in filled.items():
        assert (
            histogram["generated", ...].values(flow=True)
            == expected[name]["generated", ...].values(flow=True)
        ).all()
    two = {
        "reference": tiny_fileset(gan_folder)["reference"],
        "generated": tiny_fileset(gan_folder)["reference"],
    }
    itself = runner(900)(two, processors.Compare(schema, observables, axes=axes))
    assert itself == compare(reference, reference, observables, axes=axes)


def refused(text: str, files: dict[str, object], processor: ProcessorABC) -> None:
    with processors.open_runner() as job, pytest.raises(HepganError, match=text):
        job(files, processor)


def test_particles_outside_the_range_raise_or_are_flagged(gan_folder: Path, tmp_path: Path) -> None:
    energies = ak.Array([[2.0, 11.0], [], [float("nan")], [5.0]])
    with uproot.recreate(tmp_path / "wide.root") as file:
        file.mktree("Events", {"GenPart_energy": "var * float64", "weight": "f4"})
        file["Events"].extend({"GenPart_energy": energies, "weight": np.ones(4, "f4")})
    files = fileset([tmp_path / "wide.root"])
    refused("energy = 11 of particle 1 in entry 0", files, simulation(gan_folder))
    flagged = runner()(files, simulation(gan_folder, out_of_range="flag")).showers
    assert flagged.inside.tolist() == [[True, False], [], [False], [True]]
    assert ak.flatten(flagged.a)[1] == 0
    assert ak.flatten(flagged.b)[2].tolist() == [0, 0]
    # Flagged particles do not change the others.
    inside = runner()(
        files,
        simulation(gan_folder, energy=lambda events: ak.where(events.GenPart_energy > 10, 10, ak.nan_to_num(events.GenPart_energy, nan=1.0))),
    ).showers  # fmt: skip
    assert ak.all(inside.b[flagged.inside] == flagged.b[flagged.inside])


def test_the_out_of_range_flag_is_written_as_a_branch(gan_folder: Path, tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "wide.root") as file:
        file.mktree("Events", {"E": "var * float64"})
        file["Events"].extend({"E": ak.Array([[2.0, 11.0], [], [5.0]])})
    for name in ("flagged.root", "parts"):
        with processors.open_runner() as job:
            processors.simulate(
                gan_folder, str(tmp_path / "wide.root"), tmp_path / name, job,
                seed=1, conditions={"energy": "E"}, out_of_range="flag",
            )  # fmt: skip
    (part,) = (tmp_path / "parts").iterdir()
    for path in (tmp_path / "flagged.root", part):
        arrays = uproot.open(path)["Events"].arrays()
        assert arrays["inside"].tolist() == [True, False, True]
        assert arrays["a"][1] == 0


def test_a_field_called_showers_is_not_overwritten(gan_folder: Path, tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "own.root") as file:
        file.mktree("Events", {"GenPart_energy": "var * float32", "weight": "f4", "showers": "f4"})
        energies = ak.values_astype(ak.Array([[2.0]]), "float32")
        ones = np.ones(1, "f4")
        file["Events"].extend({"GenPart_energy": energies, "weight": ones, "showers": ones})
    refused(
        "already have a field 'showers'", fileset([tmp_path / "own.root"]), simulation(gan_folder)
    )


def test_no_events_and_no_particles_give_empty_results_of_the_right_types(
    gan_folder: Path, particles: list[Path], tmp_path: Path
) -> None:
    for name, events in (("none", 0), ("bare", 3)):
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            file.mktree("Events", {"GenPart_energy": "var * float32", "weight": "f4"})
            if events:
                file["Events"].extend(
                    {
                        "GenPart_energy": ak.values_astype(ak.Array([[]] * 3), "float32"),
                        "weight": np.ones(3, "f4"),
                    }
                )
        result = runner()(fileset([tmp_path / f"{name}.root"]), simulation(gan_folder))
        expected = runner()(fileset(particles), simulation(gan_folder))
        assert result.type.content == expected.type.content
        assert len(result) == events


def test_no_events_are_collected_and_compared_with_the_right_types(
    gan_folder: Path, tmp_path: Path
) -> None:
    schema = hepgan.GAN.load(gan_folder).schema
    with uproot.recreate(tmp_path / "none.root") as file:
        file.mktree("events", {"a": "f4", "b": np.dtype(("f8", 2)), "energy": "f4"})
    empty = {"reference": {"files": {str(tmp_path / "none.root"): "events"}}}
    collected = runner()(tiny_fileset(gan_folder), processors.Collect(schema))
    for files, options in ((empty, {}), (tiny_fileset(gan_folder), {"cut": "a > 1e9"})):
        none = runner(700)(files, processors.Collect(schema, **options))
        assert len(none) == 0
        assert none.type.content == collected.type.content
        parts = processors.WriteFiles(str(tmp_path / "parts"), schema, "events")
        assert runner(700)(files, processors.Collect(schema, to=parts, **options)) == {}
        observables = hepgan.observables_for(schema)
        axes = axes_for(to_arrays(collected), observables)
        compare = processors.Compare(
            schema, observables, axes=axes, gan=gan_folder, seed=1, **options
        )
        histograms = runner(700)(files, compare)
        assert set(histograms) == set(observables)
        assert all(one.sum(flow=True).value == 0 for one in histograms.values())


def test_conditions_outside_the_range_of_the_gan_are_not_compared(
    gan_folder: Path, tmp_path: Path
) -> None:
    schema = hepgan.GAN.load(gan_folder).schema
    write_tiny(tmp_path / "wide.root", ak.with_field(tiny_events(5, 1), np.full(5, 11.0), "energy"))
    compare = processors.Compare(schema, {}, axes={}, gan=gan_folder, seed=1)
    files = {"reference": {"files": {str(tmp_path / "wide.root"): "events"}}}
    refused("energy = 11 of particle 0 in entry 0 of .*wide.root", files, compare)


def test_savemetrics_reports_reading_without_changing_results(
    gan_folder: Path, particles: list[Path]
) -> None:
    """Coffea's metrics: bytes, columns, entries, chunks and time; the results of ``output`` are summed as usual."""
    counted = simulation(
        gan_folder,
        output=lambda part: {
            "showers": int(ak.sum(ak.num(part.showers))),
            "loaded": {(os.getpid(), model_cache._loaded.cache_info().misses)},
        },
    )
    model_cache._loaded.cache_clear()
    result, metrics = runner(1000, savemetrics=True)(fileset(particles), counted)
    plain = runner(1000)(fileset(particles), simulation(gan_folder))
    assert result["showers"] == len(ak.flatten(plain.showers))
    assert result["loaded"] == {(os.getpid(), 1)}
    assert metrics["entries"] == 7500
    assert metrics["chunks"] == 5 + 2  # of about 1,000
    assert {name.partition("-")[0] for name in metrics["columns"]} == {"GenPart_energy"}
    assert metrics["bytesread"] > 0
    assert metrics["processtime"] > 0
    schema = hepgan.GAN.load(gan_folder).schema
    events, metrics = runner(400, savemetrics=True)(tiny_fileset(gan_folder), processors.Collect(Schema({"a": schema.fields["a"]})))  # fmt: skip
    assert metrics["entries"] == len(events) == 3000
    assert {name.partition("-")[0] for name in metrics["columns"]} == {"a"}


def test_bad_input_raises_with_its_name(
    gan_folder: Path, particles: list[Path], tmp_path: Path
) -> None:
    files = fileset(particles)
    refused(
        "no field 'GenPart_enrgy'.*did you mean 'GenPart_energy'",
        files,
        simulation(gan_folder, energy="GenPart_enrgy"),
    )
    refused("does not exist on .*embed", files, simulation(tmp_path / "nowhere"))
    refused(
        "has the conditions energy, but was called with none",
        files,
        simulation(gan_folder, energy=None),
    )
    columns = processors.ReturnFields("showers", "weigth")
    refused("no branch 'weigth' for ReturnFields.*did you mean 'weight'", files, simulation(gan_folder, output=columns))  # fmt: skip
    schema = hepgan.GAN.load(gan_folder).schema
    refused("no branch 'a'", files, processors.Collect(schema))
    longer = Schema({"b": Field((3,))})
    refused("b.*3", tiny_fileset(gan_folder), processors.Collect(longer))
    refused(
        "no branch 'c' for a cut or weight",
        tiny_fileset(gan_folder),
        processors.Collect(schema, cut="c > 1"),
    )
    axes = dict.fromkeys(hepgan.observables_for(schema))
    comparison = processors.Compare(schema, {}, axes=axes)
    other = {"geant4": tiny_fileset(gan_folder)["reference"]}
    refused("the dataset 'geant4' is not one of reference, generated", other, comparison)
    with pytest.raises(DataError, match="need a seed"):
        processors.Compare(schema, {}, axes={}, gan=gan_folder)
    with pytest.raises(HepganError, match="does not exist"):
        processors.embed(tmp_path)


def test_bad_files_raise_or_are_skipped_and_listed(
    gan_folder: Path, particles: list[Path], tmp_path: Path
) -> None:
    from hepgan.processors.executors import fileset_of

    bad = tmp_path / "bad.root"
    bad.write_bytes(particles[0].read_bytes()[:3000])
    everything = [str(bad), *map(str, particles)]
    with pytest.raises(DataError, match=r"bad\.root' is truncated"):
        fileset_of(everything)
    with pytest.warns(UserWarning, match=r"file left out: .*bad\.root"):
        assert list(fileset_of(everything, on_bad_file="skip")["events"]["files"]) == everything[1:]
    expected = runner()(fileset(particles), simulation(gan_folder))
    for path, message in ((bad, "truncated"), (tmp_path / "none.root", "does not exist")):
        files = fileset([path, *particles])
        refused(
            rf"{path.name}' {'is ' if path == bad else ''}{message}", files, simulation(gan_folder)
        )
        with processors.open_runner(on_bad_file="skip") as job:
            with pytest.warns(UserWarning, match=rf"file left out: .*{path.name}"):
                same(expected, job(files, simulation(gan_folder)))
            with (
                pytest.warns(UserWarning, match="file left out"),
                pytest.raises(DataError, match="none of the files can be read"),
            ):
                job(fileset([path]), simulation(gan_folder))


@pytest.mark.parametrize("on_bad_file", ["raise", "skip"])
def test_damage_within_a_file_raises_with_its_name(
    gan_folder: Path, particles: list[Path], tmp_path: Path, on_bad_file: Any
) -> None:
    with uproot.open(particles[0]) as file:
        offsets = [file["Events"][name].member("fBasketSeek")[0] for name in ("GenPart_energy", "weight")]  # fmt: skip
    for offset in offsets:
        raw = bytearray(particles[0].read_bytes())
        raw[offset + 120 : offset + 160] = b"\xff" * 40
        (tmp_path / "damaged.root").write_bytes(raw)
        files = fileset([tmp_path / "damaged.root", particles[1]])
        with (
            processors.open_runner(on_bad_file=on_bad_file) as job,
            pytest.raises(DataError, match=r"damaged\.root' cannot be read: it is damaged"),
        ):
            job(files, simulation(gan_folder))


def test_types_must_agree_between_files() -> None:
    from hepgan.processors.chunk_results import ChunkId, ChunkResults

    places = [ChunkId("d", name, "t", name, 0) for name in "ab"]
    events = [as_events({"a": np.zeros(2, kind)}) for kind in ("f4", "f8")]
    with pytest.raises(DataError, match="of one type"):
        ChunkResults(list(zip(places, events, strict=True))).concatenate()


def test_importing_the_processors_is_light() -> None:
    import subprocess
    import sys

    code = (
        "import time; t = time.process_time()\n"
        "from hepgan.processors import Collect, Compare, Simulate, ReturnFields, embed, collect\n"
        "took = time.process_time() - t; import sys; assert 'torch' not in sys.modules; assert took < 2, took"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_coffea_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['coffea'] = None; import hepgan.processors as p\n"
        "from hepgan.errors import RunError\n"
        "try: p.Simulate\n"
        "except RunError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "processors need coffea: pip install 'hepgan[coffea]'"


def test_an_empty_tree_among_full_ones_contributes_nothing(
    gan_folder: Path, particles: list[Path], tmp_path: Path
) -> None:
    empty = tmp_path / "none.root"
    with uproot.recreate(empty) as file:
        file.mktree("Events", {"other": "f4"})  # as some skims leave it: without the branches
    expected = runner()(fileset(particles), simulation(gan_folder))
    with processors.open_runner() as job:
        same(expected, job(fileset([empty, *particles]), simulation(gan_folder)))
        with pytest.raises(DataError, match=r"none\.root' has no entries; give files with entries"):
            job(fileset([empty]), simulation(gan_folder))
    schema = Schema({"weight": Field()})
    collected = processors.collect(fileset([empty, *particles]), runner(), schema)
    same(collected, processors.collect(fileset(particles), runner(), schema))
    observables = hepgan.observables_for(schema)
    axes = axes_for(to_arrays(collected), observables)
    compared = processors.Compare(schema, observables, axes=axes, sources=["photons"])
    histograms = runner()(fileset([empty, *particles]), compared)
    assert histograms["weight"].sum(flow=True).value == 7500


def test_simulate_processes_every_tree_of_a_file_and_rejects_duplicates(
    gan_folder: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "two.root", tmp_path / "out.root"
    with uproot.recreate(path) as file:
        for name, energy in (("first", 2.0), ("second", 3.0)):
            file.mktree(name, {"energy": "f4"}).extend({"energy": np.full(5, energy, "f4")})
    trees = [f"{path}:first", f"{path}:second"]
    with processors.open_runner() as job:
        conditions = {"energy": "energy"}
        number = processors.simulate(gan_folder, trees, out, job, seed=1, conditions=conditions)
        with uproot.open(out) as file:
            arrays = file["first"].arrays(["energy", "file"], library="np")
        with pytest.raises(DataError, match=r"tree 'first' of '.*two\.root' is named twice"):
            processors.simulate(
                gan_folder, [*trees, trees[0]], tmp_path / "b.root", job,
                seed=1, conditions=conditions,
            )  # fmt: skip
    assert number == 10
    assert arrays["energy"].tolist() == [2] * 5 + [3] * 5
    assert arrays["file"].tolist() == [0] * 5 + [1] * 5

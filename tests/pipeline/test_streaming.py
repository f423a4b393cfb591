"""Training on a stream of events, on a small file in several chunks."""

import os
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from tiny import TINY, tiny_events, write_tiny

from hepgan import pipeline as library
from hepgan.data.io.splits import read_splits, sample_splits
from hepgan.data.loaders.streaming import StreamingLoader
from hepgan.errors import CheckpointError, DataError
from hepgan.gan import serialization
from hepgan.gan.training import loop
from hepgan.pipeline import events as training_events

CPU = torch.device("cpu")
STREAM = {"data.stream": True, "train.steps": 60, "train.validate_every": 30}


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files of 1,000 events, in chunks of 100 events."""
    for number in (1, 2):
        write_tiny(tmp_path / f"{number}.root", tiny_events(1000, number))
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.format(path=tmp_path / "*.root"))
    monkeypatch.setattr(training_events, "CHUNK", 100 * 24 / 1e6)
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return serialization.read_tensors(folder / "generator.safetensors")


def replace(path: Path) -> None:
    path.unlink()
    write_tiny(path, tiny_events(1000, 3))


def test_splits_of_a_stream_are_those_in_memory(run_file: Path) -> None:
    streamed, in_memory = (
        library.prepare(library.load(run_file, {"data.stream": stream}), device=CPU)
        for stream in (True, False)
    )
    for name, events in in_memory.splits.items():
        assert ak.array_equal(streamed.splits[name], events)
    loader = streamed.state.loader
    assert isinstance(loader, StreamingLoader)
    assert len(loader.spans) > 15
    assert loader.rows == len(in_memory.splits["train"])
    seen = torch.cat([c[:, 0] for _, c in loader])
    expected = streamed.state.gan.encoding.encode_conditions(
        {"energy": ak.to_numpy(in_memory.splits["train"]["energy"])}
    )[:, 0]
    assert np.isin(seen.numpy(), expected.numpy()).all()
    assert len(seen.unique()) > len(expected) - 64


def test_a_streamed_run_is_complete_and_says_so(run_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    library.run(library.load(run_file, STREAM), folder, device=CPU)
    assert "streamed from the files, as [data] stream says" in (folder / "report.html").read_text()
    assert (folder / "generated.root").is_file()


def test_a_resumed_streamed_training_equals_an_uninterrupted_one(
    run_file: Path, tmp_path: Path
) -> None:
    run = library.load(run_file, STREAM)
    library.train(run, tmp_path / "whole", device=CPU)

    class StopError(Exception): ...

    def interrupt(text: str, fraction: float, remark: str) -> None:
        if text == "training" and fraction > 0.7:
            raise StopError

    with pytest.raises(StopError):
        library.train(run, tmp_path / "stopped", device=CPU, progress=interrupt)
    library.train(run, tmp_path / "stopped", device=CPU, resume=True)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_events_that_do_not_fit_into_memory_are_streamed(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = library.load(run_file, {"train.steps": 10, "train.validate_every": 0})
    assert not training_events.read_mode(run, run.schema).stream
    monkeypatch.setattr(training_events, "available", lambda: 1000)
    mode = training_events.read_mode(run, run.schema)
    assert mode.stream
    assert mode.reason.startswith("streamed from the files, because 2,000 entries of 4 values need")
    assert mode.reason.endswith("of memory, and 1 kB are free")
    library.train(run, tmp_path / "run", device=CPU)
    monkeypatch.undo()  # a stream is resumed as a stream
    longer = library.load(run_file, {"train.steps": 12, "train.validate_every": 0})
    _, prepared = library.train(longer, tmp_path / "run", device=CPU, resume=True)
    assert prepared.mode.stream
    assert isinstance(prepared.state.loader, StreamingLoader)


def test_a_file_that_changes_between_epochs_raises_with_its_name(
    run_file: Path, tmp_path: Path
) -> None:
    prepared = library.prepare(library.load(run_file, STREAM), device=CPU)
    replace(tmp_path / "2.root")
    with pytest.raises(DataError, match=r"2.root' has changed since it was first read"):
        loop.train(prepared.state, prepared.discriminator_input)


def test_a_file_that_is_truncated_during_the_training_raises_with_its_name(
    run_file: Path, tmp_path: Path
) -> None:
    prepared = library.prepare(library.load(run_file, STREAM), device=CPU)
    os.truncate(tmp_path / "1.root", 5000)
    with pytest.raises(DataError, match=r"1.root' is truncated"):
        loop.train(prepared.state, prepared.discriminator_input)


def test_a_file_that_changes_before_a_stream_is_resumed_raises_with_its_name(
    run_file: Path, tmp_path: Path
) -> None:
    run = library.load(run_file, STREAM | {"train.steps": 10})
    library.train(run, tmp_path / "run", device=CPU)
    replace(tmp_path / "2.root")
    with pytest.raises(CheckpointError, match=r"the input file .*2.root has changed since"):
        library.train(run, tmp_path / "run", device=CPU, resume=True)


def test_a_file_that_changes_while_the_encoding_is_fitted_raises_with_its_name(
    run_file: Path, tmp_path: Path
) -> None:
    def change(text: str, fraction: float, remark: str) -> None:
        if text == "fitting the encoding" and fraction == 1:
            replace(tmp_path / "2.root")

    with pytest.raises(DataError, match=r"2.root' changed while it was read"):
        library.prepare(library.load(run_file, STREAM), device=CPU, progress=change)


def test_the_encoding_of_a_stream_is_fitted_to_the_number_of_events_in_the_run_file(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    draw = training_events.Encoding.fit_stream

    def fit_stream(*arguments: Any, sample: int, **options: Any) -> Any:
        sizes.append(sample)
        return draw(*arguments, sample=sample, **options)

    monkeypatch.setattr(training_events.Encoding, "fit_stream", fit_stream)
    library.prepare(library.load(run_file, STREAM | {"data.encoding_events": 500}), device=CPU)
    assert sizes == [500]


def test_mirror_images_are_streamed_with_their_events(tmp_path: Path) -> None:
    options = {"data.stream": True, "data.cut": "energy > 95", "train.batch_size": 16}
    runs = [library.load("bologan", options | {"data.reflect": axes}) for axes in ([], ["y", "x"])]
    plain, mirrored = (library.prepare(run, device=CPU).state.loader for run in runs)
    assert isinstance(plain, StreamingLoader)
    assert isinstance(mirrored, StreamingLoader)
    assert mirrored.rows == 4 * plain.rows
    assert mirrored.files == plain.files
    conditions = [torch.cat([c for _, c in loader])[:, 0] for loader in (plain, mirrored)]
    counts = conditions[1].unique(return_counts=True)[1]
    assert (counts >= 4).float().mean() > 0.9


@pytest.mark.parametrize("size", [50, 10_000])
def test_a_sample_of_a_split_does_not_depend_on_the_chunks(run_file: Path, size: int) -> None:
    run = library.load(run_file)
    fractions = run.data.fractions
    samples = [
        sample_splits(
            run.data.files, run.schema, fractions, {"train": size, "test": size}, step_size=step
        )
        for step in (30, 500)
    ]
    whole = read_splits(run.data.files, run.schema, fractions)
    for name in ("train", "test"):
        first, second = (ak.to_numpy(sample[name].events["a"]) for sample in samples)
        assert (first == second).all()
        assert samples[0][name].available == len(whole[name])
        everything = ak.to_numpy(whole[name]["a"])
        assert (first == everything[np.isin(everything, first)]).all()  # in the order of the files
        assert len(first) == min(size, len(everything))


def test_a_sample_of_a_split_is_uniform(run_file: Path) -> None:
    run = library.load(run_file)
    whole = ak.to_numpy(read_splits(run.data.files, run.schema, {"all": 1.0})["all"]["a"])
    chosen = np.zeros(len(whole))
    for seed in range(20):
        sample = sample_splits(
            run.data.files, run.schema, {"all": 1.0}, {"all": 500}, seed=seed, step_size=100
        )
        chosen += np.isin(whole, ak.to_numpy(sample["all"].events["a"]))
    halves = chosen[:1000].sum(), chosen[1000:].sum()
    assert halves[0] == pytest.approx(5000, abs=250)
    # Binomial with p = 1/4 in 20 samples.
    assert chosen.var() == pytest.approx(20 / 4 * 3 / 4, rel=0.15)


def test_an_empty_split_of_a_stream_raises_with_its_name(run_file: Path) -> None:
    run = library.load(run_file, {"data.cut": "energy < 0", "data.stream": True})
    with pytest.raises(DataError, match="the split 'train' has no event"):
        library.prepare(run, device=CPU)

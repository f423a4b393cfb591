"""Splits and shuffled batches: no event is lost or repeated, orders are reproducible and sufficiently random."""

import itertools
import os
import threading
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hepgan.data.io import reader, writer
from hepgan.data.io.chunks import as_events
from hepgan.data.io.reader import ReadOptions
from hepgan.data.loaders.in_memory import (
    StreamingLoader,
    UnsupervisedLoader,
    event_bits,
    read_splits,
    split,
    split_chunks,
    splitmix64,
)
from hepgan.data.schema import Field, Schema
from hepgan.errors import CheckpointError, DataError

SKIP = ReadOptions(on_bad_file="skip")
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
NUMBERED = Schema({"x": Field((2,))}, {"c": Field()})


def numbers(events):
    """``x[:, 0]`` is the number of the event."""
    x = torch.arange(events, dtype=torch.float32)
    return torch.stack([x, -x], dim=1), x[:, None] + 0.5


def encode(events, **_):
    return (
        torch.from_numpy(ak.to_numpy(events["x"])),
        torch.from_numpy(ak.to_numpy(events["c"]))[:, None],
    )


def event_numbers(batches):
    return [int(n) for x, *_ in batches for n in x[:, 0]]


@pytest.fixture
def files(tmp_path):
    """Two files with events 0 … 999 and 1000 … 2499, in clusters of 100."""
    x, c = (t.numpy() for t in numbers(2500))
    events = as_events({"x": x, "c": c[:, 0]})
    for name, start, stop in (("a", 0, 1000), ("b", 1000, 2500)):
        chunks = (events[i : i + 100] for i in range(start, stop, 100))
        writer.write(tmp_path / f"{name}.root", chunks, NUMBERED, tree="t")
    return [str(tmp_path / "a.root"), str(tmp_path / "b.root")]


# Splits


def test_splitmix64_gives_the_published_sequence():
    # First outputs of the reference generator (java.util.SplittableRandom, seed 1234567).
    golden = np.uint64(0x9E3779B97F4A7C15)
    counters = np.uint64(1234567) + golden * np.arange(3, dtype=np.uint64)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(counters).tolist() == expected


@given(st.integers(0, 2**40), st.integers(1, 50), st.integers(0, 5))
def test_split_depends_only_on_file_name_and_entry(start, events, seed):
    entries = np.arange(start, start + events)
    whole = split("/some/folder/a.root", entries, FRACTIONS, seed=seed)
    single = [
        split("https://host/a.root", entries[i : i + 1], FRACTIONS, seed=seed)[0]
        for i in range(events)
    ]
    assert whole.tolist() == single


def test_split_fractions_hold_within_binomial_errors():
    for file, seed in itertools.product(("a.root", "b.root"), (0, 1)):
        names = split(file, np.arange(100_000), FRACTIONS, seed=seed)
        for name, fraction in FRACTIONS.items():
            assert stats.binomtest(int((names == name).sum()), 100_000, fraction).pvalue > 1e-4


def test_splits_of_files_seeds_and_adjacent_entries_are_independent():
    a = event_bits("a.root", np.arange(50_000)) >> np.uint64(63)
    b = event_bits("b.root", np.arange(50_000)) >> np.uint64(63)
    c = event_bits("a.root", np.arange(50_000), seed=1) >> np.uint64(63)
    for other in (b, c, np.roll(a, 1)):
        assert stats.binomtest(int((a == other).sum()), 50_000, 0.5).pvalue > 1e-4


@pytest.mark.parametrize("fractions", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}])
def test_fractions_that_do_not_add_up_to_1_raise(fractions):
    with pytest.raises(DataError, match="add up to 1, but are"):
        split("a.root", np.arange(3), fractions)


def test_read_splits_gives_every_event_once(files):
    parts = read_splits(files, NUMBERED, FRACTIONS, seed=3)
    assert list(parts) == list(FRACTIONS)
    values = np.concatenate([ak.to_numpy(part["x"])[:, 0] for part in parts.values()])
    assert sorted(values.tolist()) == list(range(2500))
    entries = np.arange(1000)[split(files[0], np.arange(1000), FRACTIONS, seed=3) == "test"]
    in_test = ak.to_numpy(parts["test"]["x"])[:, 0]
    assert in_test[in_test < 1000].tolist() == entries.tolist()
    with pytest.raises(DataError, match="the split 'b' has no event"):
        read_splits(files, NUMBERED, {"a": 0.999999, "b": 0.000001})


# In memory


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.booleans())
@settings(deadline=None)
def test_an_epoch_gives_every_event_once_over_all_ranks(events, size, world, drop):
    x, c = numbers(events)
    if (events // world // size if drop else events // world) == 0:
        with pytest.raises(DataError, match="cannot be made of"):
            UnsupervisedLoader(x, c, batch_size=size, seed=1, world_size=world, drop_last=drop)
        return
    loaders = [
        UnsupervisedLoader(
            x, c, batch_size=size, seed=1, rank=rank, world_size=world, drop_last=drop
        )
        for rank in range(world)
    ]
    batches = [list(loader) for loader in loaders]
    assert {len(b) for b in batches} == {len(loaders[0])}
    all_numbers = [n for b in batches for n in event_numbers(b)]
    assert len(set(all_numbers)) == len(all_numbers)
    if not drop:
        assert len(all_numbers) == events // world * world
    for x, c in itertools.chain.from_iterable(batches):
        assert torch.equal(x[:, :1] + 0.5, c)


def test_epochs_differ_and_equal_seeds_give_equal_orders():
    first, again, other = (
        UnsupervisedLoader(*numbers(500), batch_size=50, seed=s) for s in (1, 1, 2)
    )
    one, two = event_numbers(first), event_numbers(first)
    assert sorted(one) == sorted(two) == list(range(500))
    assert one != two
    assert [one, two] == [event_numbers(again), event_numbers(again)]
    assert event_numbers(other) != one
    # Ranks of adjacent events are uncorrelated: Spearman against the position.
    assert stats.spearmanr(one, two).pvalue > 1e-3
    assert stats.spearmanr(one[1:], one[:-1]).pvalue > 1e-3


@pytest.mark.parametrize("stop", [1, 7, 10, 13, 25])
def test_resumed_loader_equals_uninterrupted(stop):
    whole = UnsupervisedLoader(*numbers(103), batch_size=10, seed=4)
    endless = itertools.chain.from_iterable(itertools.repeat(whole))
    list(itertools.islice(endless, stop))
    state = whole.state_dict()
    expected = event_numbers(itertools.islice(endless, 30))
    resumed = UnsupervisedLoader(*numbers(103), batch_size=10, seed=99)
    resumed.load_state_dict(state)
    endless = itertools.chain.from_iterable(itertools.repeat(resumed))
    assert event_numbers(itertools.islice(endless, 30)) == expected
    with pytest.raises(CheckpointError, match="saved with 10 batches per epoch and now has 20"):
        UnsupervisedLoader(*numbers(103), batch_size=5, seed=4).load_state_dict(state)


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_iterating_again_after_a_break_starts_a_new_epoch(files, kind):
    def loader():
        if kind == "memory":
            return UnsupervisedLoader(*numbers(2500), batch_size=50, seed=4)
        return StreamingLoader(files, NUMBERED, encode, batch_size=50, seed=4, step_size=100)

    interrupted, whole = loader(), loader()
    next(iter(interrupted))
    event_numbers(whole)
    assert event_numbers(interrupted) == event_numbers(whole)
    next(iter(interrupted))
    interrupted.load_state_dict(interrupted.state_dict())
    remaining = event_numbers(interrupted)
    assert len(remaining) == 2450
    assert remaining == event_numbers(whole)[50:]


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_torchs_dataloader_passes_batches_through(files, kind, monkeypatch):
    def loader():
        if kind == "memory":
            return UnsupervisedLoader(*numbers(2500), batch_size=50, seed=4)
        return StreamingLoader(files, NUMBERED, encode, batch_size=50, seed=4, step_size=100)

    passed = torch.utils.data.DataLoader(loader(), batch_size=None)
    assert len(passed) == 50
    for epoch in zip((passed, passed), (plain := loader(), plain), strict=True):
        assert event_numbers(epoch[0]) == event_numbers(epoch[1])
    monkeypatch.setattr("hepgan.data.loaders.dataset.get_worker_info", lambda: object())
    with pytest.raises(DataError, match=r"num_workers=0"):
        next(iter(loader()))


def test_weights_stay_with_their_events():
    x, c = numbers(20)
    loader = UnsupervisedLoader(x, c, batch_size=4, seed=1, weights=-x[:, 0])
    for x, _, w in loader:
        assert torch.equal(w, -x[:, 0])
    assert next(iter(UnsupervisedLoader(x, batch_size=2, seed=1)))[1].shape == (2, 0)
    with pytest.raises(DataError, match=r"different numbers of events: \[4, 20\]"):
        UnsupervisedLoader(x, c, batch_size=4, seed=1)


# Streamed


@pytest.mark.parametrize("buffer", [1, 60, 700, 10_000])
@pytest.mark.parametrize("step", [100, 350, 10_000])
def test_a_stream_gives_every_event_once(files, buffer, step):
    loader = StreamingLoader(
        files, NUMBERED, encode, batch_size=50, seed=1, step_size=step, buffer=buffer
    )
    assert len(loader) == 50
    batches = list(loader)
    assert sorted(event_numbers(batches)) == list(range(2500))
    assert all(torch.equal(x[:, :1] + 0.5, c) for x, c in batches)
    assert event_numbers(loader) != event_numbers(batches)


def test_a_stream_is_uncorrelated_with_the_order_of_the_file(files):
    loader = StreamingLoader(
        files, NUMBERED, encode, batch_size=50, seed=1, step_size=100, buffer=1000
    )
    order = np.array([event_numbers(loader) for _ in range(4)])
    for one in order:
        # Adjacent entries of the file are adjacent no more often than in a permutation (Poisson with mean 2).
        assert (np.abs(np.diff(one)) == 1).sum() < 12
        # Events of one chunk are spread over about the buffer.
        places = np.argsort(one)
        assert np.mean([np.ptp(places[i : i + 100]) for i in range(0, 2500, 100)]) > 500
    assert abs(stats.spearmanr(order[0], order[1]).statistic) < 0.1


def test_ranks_of_a_stream_are_disjoint_and_of_equal_length(files):
    loaders = [
        StreamingLoader(
            files,
            NUMBERED,
            encode,
            batch_size=50,
            seed=1,
            step_size=100,
            buffer=300,
            rank=rank,
            world_size=3,
        )
        for rank in range(3)
    ]
    by_rank = [event_numbers(loader) for loader in loaders]
    assert len({len(f) for f in by_rank}) == 1
    everything = [n for f in by_rank for n in f]
    assert len(set(everything)) == len(everything) >= 2250


def test_a_stream_of_one_split_gives_only_that_split(files):
    loader = StreamingLoader(
        files,
        NUMBERED,
        encode,
        batch_size=1,
        seed=1,
        step_size=100,
        part=("test", FRACTIONS),
        split_seed=3,
    )
    expected = ak.to_numpy(read_splits(files, NUMBERED, FRACTIONS, seed=3)["test"]["x"])[:, 0]
    assert sorted(event_numbers(loader)) == sorted(expected.tolist())


def test_a_resumed_stream_equals_an_uninterrupted_one(files):
    options = {"batch_size": 40, "step_size": 100, "buffer": 300}
    whole = StreamingLoader(files, NUMBERED, encode, seed=5, **options)
    endless = itertools.chain.from_iterable(itertools.repeat(whole))
    list(itertools.islice(endless, 80))
    state = whole.state_dict()
    expected = event_numbers(itertools.islice(endless, 60))
    resumed = StreamingLoader(files, NUMBERED, encode, seed=0, **options)
    resumed.load_state_dict(state)
    assert (
        event_numbers(
            itertools.islice(itertools.chain.from_iterable(itertools.repeat(resumed)), 60)
        )
        == expected
    )
    with pytest.raises(CheckpointError, match="saved with 2500 events and its files now have 1000"):
        StreamingLoader(files[:1], NUMBERED, encode, seed=0, **options).load_state_dict(state)


@pytest.mark.parametrize("buffer", [1, 30, 300, 3000])
@pytest.mark.parametrize("taken", [0, 3, 20, 44, 61])
def test_a_stream_resumes_at_any_batch_with_any_buffer(files, buffer, taken):
    options = {
        "batch_size": 40,
        "step_size": 100,
        "buffer": buffer,
        "options": ReadOptions(cut="c > 3.5"),
    }
    whole = StreamingLoader(files, NUMBERED, encode, seed=5, **options)
    batches = list(whole)
    resumed = StreamingLoader(files, NUMBERED, encode, seed=0, **options)
    resumed.load_state_dict({"seed": 5, "epoch": 0, "batch": taken, "events": 2496})
    assert event_numbers(resumed) == event_numbers(batches[taken:])


def test_resuming_reads_only_the_chunks_in_the_buffer(files):
    read = []

    def counted(events, **_):
        read.append(len(events))
        return encode(events)

    loader = StreamingLoader(
        files, NUMBERED, counted, batch_size=50, seed=1, step_size=100, buffer=100
    )
    loader.load_state_dict({"seed": 1, "epoch": 0, "batch": 40, "events": 2500})
    assert len(list(loader)) == 10
    # 500 events remain, a hundred of them in the buffer, most of them from the last few chunks.
    assert sum(read) < 1500


def test_adjacent_entries_are_separated_by_the_buffer_size_on_average(tmp_path):
    """Each event stays for an exponentially distributed time, so distances follow a Laplace distribution of the width of the buffer."""
    events, buffer = 40_000, 2000
    values = as_events({"x": np.arange(events, dtype="f4"), "c": np.zeros(events, "f4")})
    schema = Schema({"x": Field()}, {"c": Field()})
    chunks = (values[i : i + 500] for i in range(0, events, 500))
    writer.write(tmp_path / "a.root", chunks, schema, tree="t")

    def flat(events, **_):
        return torch.from_numpy(ak.to_numpy(events["x"]))[:, None], torch.zeros(len(events), 0)

    loader = StreamingLoader(
        tmp_path / "a.root", schema, flat, batch_size=100, seed=1, step_size=500, buffer=buffer
    )
    order = np.array(event_numbers(loader))
    positions = np.argsort(order)
    early = positions[: events // 500 * 500].reshape(-1, 500)  # one row a chunk
    early = early[early.max(axis=1) < events - 2 * buffer]
    distances = np.abs(early[:, 100] - early[:, 400]) / buffer
    assert stats.kstest(distances, "expon").pvalue > 1e-3
    assert 0.7 < np.abs(np.diff(early, axis=1)).mean() / buffer < 1.3


@pytest.mark.parametrize("stop", [250, 1000, 1730])
def test_entry_stop_of_a_stream_counts_entries_of_all_files_before_the_cut(files, stop):
    options = ReadOptions(entry_stop=stop, cut="c >= 100")
    loader = StreamingLoader(
        files, NUMBERED, encode, batch_size=1, seed=1, step_size=100, options=options
    )
    assert sorted(event_numbers(loader)) == list(range(100, stop))
    parts = read_splits(files, NUMBERED, FRACTIONS, options=options)
    assert sum(map(len, parts.values())) == stop - 100


def test_a_stream_applies_cut_and_weight_with_a_mean_of_1(files):
    loader = StreamingLoader(
        files,
        NUMBERED,
        encode,
        batch_size=10,
        seed=1,
        step_size=100,
        options=ReadOptions(cut="c > 2000", weight="c - 2100"),
    )
    mean = np.mean(np.arange(2000, 2500) + 0.5 - 2100)
    assert len(loader) == 50
    batches = list(loader)
    assert sorted(event_numbers(batches)) == list(range(2000, 2500))
    for x, c, w in batches:
        assert w.dtype == torch.float32
        assert torch.allclose(w, ((c[:, 0] - 2100) / mean).float())
        assert torch.equal(x[:, :1] + 0.5, c)
    assert loader.files == {files[0]: 0, files[1]: 500}


def test_a_stream_with_a_negative_net_weight_raises(files):
    options = {"batch_size": 10, "seed": 1, "step_size": 100}
    with pytest.raises(DataError, match="500 of them negative, sum to .* must be positive"):
        StreamingLoader(
            files, NUMBERED, encode, options=ReadOptions(cut="c > 2000", weight="-c"), **options
        )


def test_a_stream_with_equal_weights_is_unweighted(files):
    loader = StreamingLoader(
        files, NUMBERED, encode,
        batch_size=10, seed=1, step_size=100, options=ReadOptions(weight="0 * c + 0.3"),
    )  # fmt: skip
    assert {len(batch) for batch in loader} == {2}


def test_a_stream_skips_bad_files_on_request(files, tmp_path):
    bad = tmp_path / "bad.root"
    bad.write_bytes(b"no ROOT file")
    options = {"batch_size": 50, "seed": 1, "step_size": 100, "options": SKIP}
    with pytest.warns(UserWarning, match="file left out: .*bad.root' is not a ROOT file"):
        loader = StreamingLoader([*files, bad], NUMBERED, encode, **options)
    assert "is not a ROOT file" in loader.skipped[str(bad)]
    assert loader.files == {files[0]: 1000, files[1]: 1500}
    os.truncate(files[1], 1000)
    with pytest.raises(DataError, match="b.root' is truncated"):
        event_numbers(loader)
    assert list(loader.skipped) == [str(bad)]
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(DataError, match="of 0 events in 0 chunks for 1 process.*, files skipped: 1"),
    ):
        StreamingLoader([bad], NUMBERED, encode, **options)


def test_splits_list_the_skipped_files(files, tmp_path):
    bad = tmp_path / "bad.root"
    bad.write_bytes(b"no ROOT file")
    with pytest.warns(UserWarning, match="left out"):
        parts = read_splits([bad, *files], NUMBERED, FRACTIONS, options=SKIP)
    for part in parts.values():
        assert part.attrs["files"] == {files[0]: 1000, files[1]: 1500}
        assert list(part.attrs["skipped"]) == [str(bad)]


def every_reader(files, on_bad_file="raise"):
    """Returns every reader as a function that returns the numbers of its events."""
    fractions, options = {"all": 1.0}, {"options": ReadOptions(on_bad_file=on_bad_file)}

    def streamed():
        loader = StreamingLoader(
            files, NUMBERED, encode, batch_size=1, seed=1, step_size=100, **options
        )
        return event_numbers(loader)

    def first_values(parts):
        return [int(n) for part in parts for n in part["x"][:, 0]]

    return {
        "read": lambda: first_values([reader.read(files, NUMBERED, on_bad_file=on_bad_file)]),
        "iterate": lambda: first_values(
            c.events for c in reader.iterate(files, NUMBERED, step_size=100, **options)
        ),
        "read_splits": lambda: first_values(
            read_splits(files, NUMBERED, fractions, **options).values()
        ),
        "split_chunks": lambda: first_values(
            split_chunks(files, NUMBERED, fractions, "all", **options)
        ),
        "StreamingLoader": streamed,
    }


@pytest.mark.parametrize("reader_name", every_reader([]))
@pytest.mark.parametrize("on_bad_file", ["raise", "skip"])
def test_a_file_damaged_in_the_middle_raises_in_every_reader(files, reader_name, on_bad_file):
    with uproot.open(files[1]) as file:
        offset = int(file["t/x"].member("fBasketSeek")[9])
    with Path(files[1]).open("r+b") as file:
        file.seek(offset + 100)
        file.write(b"\xff" * 60)
    with pytest.raises(DataError, match="b.root' cannot be read: it is damaged"):
        every_reader(files, on_bad_file)[reader_name]()


@pytest.mark.parametrize("reader_name", every_reader([]))
def test_an_empty_file_contributes_no_events_in_every_reader(files, tmp_path, reader_name):
    empty = [str(tmp_path / "none.root"), str(tmp_path / "no_ntuple.root")]
    with uproot.recreate(empty[0]) as file:
        file.mktree("t", {"other": "f4"})  # nor does it have the branches
    with uproot.recreate(empty[1]) as file:
        file.mkrntuple("t", {"other": "f4"})
    values = every_reader([empty[0], *files, empty[1]])[reader_name]()
    assert sorted(values) == list(range(2500))
    assert reader.resolve([*empty, *files], NUMBERED) == reader.resolve(files, NUMBERED)
    assert reader.num_entries([*empty, *files])[empty[0]] == 0
    with pytest.raises(DataError, match="none.root' has no entries, nor|of 0 events in 0 chunks"):
        every_reader(empty)[reader_name]()


def test_chunks_of_a_split_concatenate_to_the_split(files):
    parts = read_splits(files, NUMBERED, FRACTIONS, seed=3)
    for name, expected in parts.items():
        chunks = list(split_chunks(files, NUMBERED, FRACTIONS, name, seed=3, step_size=100))
        assert len(chunks) == 25
        assert ak.all(ak.concatenate(chunks)["x"] == expected["x"])
    with pytest.raises(DataError, match="no split 'tset'; there are: train, validation, test"):
        next(split_chunks(files, NUMBERED, FRACTIONS, "tset"))


def test_errors_in_the_reader_thread_reach_the_caller(files):
    loader = StreamingLoader(files, NUMBERED, encode, batch_size=50, seed=1, step_size=100)
    os.truncate(files[1], 1000)
    with pytest.raises(DataError, match=r"b.root' is truncated"):
        list(loader)


def test_leaving_a_stream_ends_its_thread(files):
    loader = StreamingLoader(
        files, NUMBERED, encode, batch_size=50, seed=1, step_size=100, buffer=100
    )
    before = threading.active_count()
    for _ in range(3):
        iterator = iter(loader)
        next(iterator)
        iterator.close()
    assert threading.active_count() == before

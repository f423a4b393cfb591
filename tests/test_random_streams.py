"""Random numbers: independent named streams of one seed, and events that depend only on (seed, event)."""

import dataclasses
import functools
import itertools
import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner
from scipy import stats

from hepgan.cli import main
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.io import writer
from hepgan.data.io.chunks import as_events
from hepgan.data.loaders.in_memory import StreamingLoader, UnsupervisedLoader
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, HepganError
from hepgan.evaluation.metrics.statistics import wasserstein
from hepgan.gan.conditions import Range
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.settings import NetworkSettings, TrainSettings
from hepgan.gan.training.state import TrainingState, reseed_step
from hepgan.layout import parse
from hepgan.layout.nn.modules import Recurrent
from hepgan.layout.nn.network import build
from hepgan.random_streams import (
    STREAMS,
    check_seed,
    child_seed,
    keyed_uniforms,
    numpy_generator,
    reseed,
    stream_key,
    torch_generator,
)

COUNTS = Schema({"n": Field((5,), dtype="int32")}, {})
RATE = NetworkSettings(learning_rate=1e-3)
QUICK = TrainSettings(
    steps=8, batch_size=32, generator=RATE, discriminator=RATE, r1=0.1, r2=0.1,
    validate_every=0, checkpoint_every=4, log_every=4,
)  # fmt: skip
WIDE = GANSettings(
    latent=(64,),
    generator="DENSE|32|LRELU, DENSE|N|LINEAR",
    discriminator="DENSE|16|LRELU, DENSE|1|LINEAR",
    initialization="HE",
)
REMEMBERING = GANSettings(
    latent=(4, 3),
    generator="LSTM|6|3|4|1, DENSE|N|LINEAR",
    discriminator="RESHAPE|5|1, GRU|6|1|5|1, DENSE|1|LINEAR",
)


def counts(number: int, seed: int = 1) -> ak.Array:
    rng = np.random.default_rng(seed)
    return as_events({"n": rng.poisson(3, (number, 5)).astype("i4")})


def encoding(*steps: dict[str, Any]) -> Encoding:
    settings = EncodingSettings(steps or ({"step": "dequantize"}, {"step": "standardize"}))
    return Encoding.fit(counts(2000), COUNTS, settings, seed=1)


def start_training(
    settings: GANSettings, train_settings: TrainSettings = QUICK, *, seed: int = 1
) -> tuple[TrainingState, DiscriminatorInput]:
    fitted = encoding()
    x, c = fitted.encode(counts(500), seed=seed)
    discriminator_input = DiscriminatorInput(fitted, {}, x, c)
    gan = GAN.build(settings, fitted, seed=seed)
    return training.initial_state(
        gan, discriminator_input, x, c, [train_settings], seed=seed
    ), discriminator_input


def first_dense(network: torch.nn.Module) -> torch.Tensor:
    return next(network.parameters()).detach()


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    size = min(a.numel(), b.numel())
    pair = torch.stack([a.flatten()[:size], b.flatten()[:size]])
    return float(torch.corrcoef(pair)[0, 1])


# Streams


def test_streams_of_all_names_and_of_neighboring_seeds_differ() -> None:
    children: list[tuple[int | str, ...]] = [(), (0,), (1,), ("0",), (0, 1), (1, 0), (2**40,)]
    keys = list(itertools.product(range(20), STREAMS, children))
    assert len({stream_key(seed, name, *parts) for seed, name, parts in keys}) == len(keys)
    assert len({child_seed(seed, name, *parts) for seed, name, parts in keys}) == len(keys)


def test_first_numbers_of_all_streams_differ() -> None:
    draws = [
        torch.rand(8, generator=torch_generator(seed, name)).numpy().tobytes()
        for seed in (1, 2, 2**64 - 1)
        for name in STREAMS
    ]
    draws += [
        numpy_generator(seed, name).random(8, dtype="f4").tobytes()
        for seed in (1, 2)
        for name in STREAMS
    ]
    assert len(set(draws)) == len(draws)


def test_a_stream_does_not_depend_on_where_or_when_it_is_drawn() -> None:
    assert stream_key(1, "latent", np.int64(5)) == 106407030314393593023025899775538534473


def test_cpu_generator_is_a_mersenne_twister_seeded_with_the_whole_key() -> None:
    """torch itself would use only 32 bits of a seed."""
    key = stream_key(3, "order", 7)
    oracle = np.random.MT19937()
    words = np.random.Philox(key=key).random_raw(312).view(np.uint32)
    oracle.state = oracle.state | {"state": {"key": words, "pos": 624}}
    generator = torch.Generator()
    torch.randn(3, generator=generator)  # leaves half a pair of normal numbers behind
    reseed(generator, 3, "order", 7)
    draws = torch.randint(0, 2**16, (1000,), generator=generator)
    assert draws.tolist() == (oracle.random_raw(1000) % 2**16).tolist()
    reseed(generator, 3, "order", 7)
    assert torch.equal(torch.randint(0, 2**16, (1000,), generator=generator), draws)


@pytest.mark.parametrize(
    "seed", [-1, 2**64, 1.0, 2.5, True, "1", None, np.float64(3), float("nan")]
)
def test_an_invalid_seed_raises_a_short_error(seed: Any) -> None:
    gan = GAN.build(WIDE, encoding(), seed=2**64 - 1)
    x = torch.zeros(10, 2)
    for call in (
        lambda: check_seed(seed),
        lambda: gan.sample(2, seed=seed),
        lambda: GAN.build(WIDE, gan.encoding, seed=seed),
        lambda: gan.encoding.encode(counts(3), seed=seed),
        lambda: UnsupervisedLoader(x, batch_size=2, seed=seed),
        lambda: build(parse("DENSE|2|TANH"), input=(2,), seed=seed),
        lambda: wasserstein(np.zeros(9), np.ones(9), seed=seed),
    ):
        with pytest.raises(HepganError, match=r"seed = .* should be an integer from 0 to 2\^64"):
            call()


def test_the_largest_seed_and_numpy_integers_are_valid_seeds() -> None:
    gan = GAN.build(WIDE, encoding(), seed=np.int64(1))
    assert len(gan.sample(2, seed=2**64 - 1)) == 2
    assert ak.array_equal(gan.sample(2, seed=np.uint8(7)), gan.sample(2, seed=7))


def test_the_command_line_states_the_valid_seeds() -> None:
    result = CliRunner().invoke(
        main, ["generate", "showers", "-n", "1", "-o", "x.root", "--seed", str(2**64)]
    )
    assert result.exit_code == 2
    assert "should be an integer from 0 to 2^64 − 1" in result.output


# Uniform numbers keyed by entry


@pytest.mark.parametrize("width", [1, 3, 8, 37])
def test_keyed_uniforms_are_a_function_of_the_entry(width: int) -> None:
    rng = np.random.default_rng(2)
    entries = np.sort(rng.choice(5000, 400, replace=False))
    whole = keyed_uniforms(np.arange(5000), width, key=5)
    np.testing.assert_array_equal(keyed_uniforms(entries, width, key=5), whole[entries])
    mixed = rng.permutation(entries)
    np.testing.assert_array_equal(keyed_uniforms(mixed, width, key=5), whole[mixed])
    far = np.array([2**40, 0, 0, 2**40 + 1])
    uniforms = keyed_uniforms(far, width, key=5)
    np.testing.assert_array_equal(uniforms[1], uniforms[2])
    np.testing.assert_array_equal(uniforms[1], whole[0])
    assert len(np.unique(whole)) > 0.99 * whole.size
    assert not (keyed_uniforms(entries, width, key=6) == whole[entries]).all(1).any()
    assert keyed_uniforms(entries[:0], width, key=5).shape == (0, width)


def test_keyed_uniforms_are_uniform_and_independent() -> None:
    uniforms = keyed_uniforms(np.arange(4000), 11, key=1)
    assert stats.kstest(uniforms.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(uniforms.T) - np.eye(11)).max() < 0.07
    assert abs(np.corrcoef(uniforms[:-1, 0], uniforms[1:, 0])[0, 1]) < 0.07


# Numbers drawn for one GAN from one seed


def test_first_latent_batch_is_uncorrelated_with_the_initial_weights() -> None:
    """With HE it used to equal those weights, with correlation 1."""
    state, _ = start_training(WIDE)
    noise = torch.randn(32, 64, generator=state.noise_generator)
    assert abs(correlation(noise, first_dense(state.gan.generator))) < 0.07
    reseed_step(state)
    assert torch.equal(torch.randn(32, 64, generator=state.noise_generator), noise)


def test_noise_of_encoding_and_validation_is_uncorrelated_with_the_latent() -> None:
    state, _ = start_training(WIDE)
    x = encoding({"step": "dequantize"}).encode(counts(500), seed=1)[0]
    noise = torch.rand(500, 5, generator=state.noise_generator)
    assert abs(correlation(x - x.floor(), noise)) < 0.07


def test_no_two_networks_of_adjacent_seeds_start_with_equal_weights() -> None:
    """The discriminator of seed s used to equal the generator of seed s + 1."""
    same = dataclasses.replace(
        WIDE, latent=(5,), generator="DENSE|5|LINEAR", discriminator="DENSE|5|LRELU, DENSE|1|LINEAR"
    )
    initial = []
    for seed in range(3):
        gan = GAN.build(same, encoding(), seed=seed)
        initial += [first_dense(gan.generator), first_dense(gan.discriminator)]
    assert len({weights.numpy().tobytes() for weights in initial}) == 6


def test_drawn_conditions_do_not_depend_on_the_number_of_events() -> None:
    schema = Schema({"a": Field()}, {"e": Field(), "k": Field(dtype="int32")})
    rng = np.random.default_rng(1)
    events = as_events(
        {"a": rng.random(100), "e": rng.random(100), "k": rng.integers(0, 3, 100).astype("i4")}
    )
    scales = {"e": ConditionScale((0.0, 1.0)), "k": ConditionScale((0.0, 2.0), "onehot")}
    settings = EncodingSettings(({"step": "standardize"},), scales)
    gan = GAN.build(
        dataclasses.replace(WIDE, generator="COND, DENSE|N|LINEAR"),
        Encoding.fit(events, schema, settings, seed=1),
        seed=1,
    )
    few, many = (gan.sample(n, e=Range(0.0, 1.0), seed=4) for n in (3, 1500))
    assert few["e"].tolist() == many["e"][:3].tolist()
    assert few["k"].tolist() == many["k"][:3].tolist()
    assert abs(np.corrcoef(many["e"][:-1024], many["e"][1024:])[0, 1]) < 0.2


# Streams of events


def noise_of(loader: StreamingLoader) -> npt.NDArray[np.float32]:
    """Returns the sorted rows of the dequantization noise of an epoch."""
    x = torch.cat([x for x, _ in loader])
    noise = (x - x.floor()).numpy()
    return np.asarray(noise[np.lexsort(noise.T)])


@pytest.fixture
def equal_files(tmp_path: Path) -> list[str]:
    """Two files of the same name with the same 600 events, in clusters of 100."""
    paths = [tmp_path / "one" / "n.root", tmp_path / "other" / "n.root"]
    paths[0].parent.mkdir()
    events = counts(600)
    parts = [events[start : start + 100] for start in range(0, 600, 100)]
    writer.write(paths[0], parts, COUNTS, tree="t")
    shutil.copytree(paths[0].parent, paths[1].parent)
    return [str(path) for path in paths]


def stream(files: list[str], **options: Any) -> StreamingLoader:
    encode = functools.partial(encoding({"step": "dequantize"}).encode, seed=3)
    return StreamingLoader(files, COUNTS, encode, batch_size=10, seed=1, **options)


def test_equal_events_in_different_chunks_files_and_trees_get_different_noise(
    equal_files: list[str],
) -> None:
    for files in (equal_files, [equal_files[0]] * 2):
        noise = noise_of(stream(files, step_size=100))
        assert len(np.unique(noise, axis=0)) == 1200


def test_noise_does_not_depend_on_chunks_or_on_the_location_of_files(
    equal_files: list[str], tmp_path: Path
) -> None:
    whole = noise_of(stream(equal_files, step_size=100))
    np.testing.assert_array_equal(noise_of(stream(equal_files, step_size=600)), whole)
    moved = tmp_path / "moved"
    for name in ("one", "other"):
        shutil.copytree(tmp_path / name, moved / name)
    noise = noise_of(
        stream([str(moved / name / "n.root") for name in ("one", "other")], step_size=200)
    )
    np.testing.assert_array_equal(noise, whole)


def test_noise_of_a_split_depends_on_its_entries(equal_files: list[str]) -> None:
    fractions = {"train": 0.5, "test": 0.5}
    parts = [
        stream(equal_files, step_size=100, part=(name, fractions), buffer=50) for name in fractions
    ]
    noise = np.concatenate([noise_of(part) for part in parts])
    whole = {row.tobytes() for row in noise_of(stream(equal_files, step_size=300))}
    assert len(noise) > 1150
    assert all(row.tobytes() in whole for row in noise)


@pytest.mark.parametrize(
    "steps",
    [
        [{"step": "dequantize"}],
        [{"step": "log", "threshold": 0.5}],
        [{"step": "log", "threshold": 0.5}, {"step": "copula", "censored_zeros": True}],
    ],
    ids=lambda steps: steps[-1]["step"],
)
def test_encoded_events_do_not_depend_on_chunks(steps: list[dict[str, Any]]) -> None:
    fitted, events = encoding(*steps), counts(300, seed=5)
    entries = np.arange(40, 340)
    whole, _ = fitted.encode(events, seed=2, file="a", entries=entries)
    parts = [slice(0, 7), slice(7, 200), slice(200, 300)]
    encoded = [fitted.encode(events[p], seed=2, file="a", entries=entries[p])[0] for p in parts]
    torch.testing.assert_close(torch.cat(encoded), whole, rtol=1e-4, atol=1e-4)
    other, _ = fitted.encode(events, seed=2, file="b", entries=entries)
    assert not torch.equal(other, whole)


def test_entries_that_do_not_match_the_events_raise() -> None:
    with pytest.raises(DataError, match="there are 2 entries for 3 events"):
        encoding().encode(counts(3), seed=1, file="a", entries=np.arange(2))


def test_a_fitted_encoding_does_not_depend_on_chunks() -> None:
    steps = EncodingSettings(({"step": "dequantize"}, {"step": "standardize"}))
    events = counts(500)
    fitted = [
        Encoding.fit_stream(
            lambda size=size: (events[i : i + size] for i in range(0, 500, size)),
            COUNTS, steps, seed=1, sample=100,
        )
        for size in (50, 500)
    ]  # fmt: skip
    x, y = (one.encode(events, seed=1)[0] for one in fitted)
    torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


# Training


def trained(settings: GANSettings, train_settings: TrainSettings = QUICK) -> TrainingState:
    state, discriminator_input = start_training(settings, train_settings)
    training.train(state, discriminator_input)
    return state


def weights(state: TrainingState) -> dict[str, torch.Tensor]:
    parts = {"g": state.gan.generator, "d": state.gan.discriminator, "a": state.ema}
    return {f"{k}.{n}": t.clone() for k, m in parts.items() for n, t in m.state_dict().items()}


DROPPED = dataclasses.replace(
    QUICK, generator=dataclasses.replace(RATE, dropout=(0.0, 0.3)),
    discriminator=dataclasses.replace(RATE, dropout=(0.2,)), objective="wasserstein",
    gradient_penalty=1.0, r1=0.0, r2=0.0, critic_steps=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "train_settings"),
    [(WIDE, DROPPED), (REMEMBERING, QUICK)],
    ids=["dropout", "remember"],
)
def test_training_stopped_at_any_step_resumes_as_if_uninterrupted(
    tmp_path: Path, settings: GANSettings, train_settings: TrainSettings
) -> None:
    whole = trained(settings, train_settings)
    half, discriminator_input = start_training(
        settings, dataclasses.replace(train_settings, steps=3)
    )
    training.train(half, discriminator_input, folder=tmp_path)
    last = checkpoint.newest_checkpoint(tmp_path)
    assert last is not None
    again, discriminator_input = start_training(settings, train_settings)
    checkpoint.load_checkpoint(again, last)
    training.train(again, discriminator_input)
    expected, resumed = weights(whole), weights(again)
    assert expected.keys() == resumed.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name


def test_a_training_step_seeds_no_other_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.manual_seed would also seed the generators of all GPUs."""
    state, discriminator_input = start_training(WIDE, DROPPED)

    def refuse(seed: int) -> None:
        raise AssertionError

    monkeypatch.setattr(torch, "manual_seed", refuse)
    training.train(state, discriminator_input)


# Remembered states


@pytest.mark.parametrize("word", ["RNN", "LSTM", "GRU"])
def test_events_of_a_generator_with_remembered_state_do_not_depend_on_earlier_ones(
    word: str,
) -> None:
    settings = dataclasses.replace(REMEMBERING, generator=f"{word}|6|3|4|1, DENSE|N|LINEAR")
    gan = trained(settings).gan
    first = gan.sample(50, seed=3)
    gan.sample(50, seed=4)
    assert ak.array_equal(gan.sample(50, seed=3), first)
    many = gan.sample(1100, seed=3)
    np.testing.assert_allclose(
        gan.encoding.encode(many[:50], seed=1)[0], gan.encoding.encode(first, seed=1)[0], atol=1e-5
    )


def test_sampling_does_not_change_the_remembered_states_of_training() -> None:
    state = trained(REMEMBERING)
    layers = [part for part in state.gan.generator.modules() if isinstance(part, Recurrent)]
    before = [layer.last for layer in layers]
    assert before[0]
    assert before[0][0].abs().sum() > 0
    state.gan.sample(32, seed=1)
    assert all(layer.last is last for layer, last in zip(layers, before, strict=True))


def test_a_generator_without_remembered_states_still_loads() -> None:
    """Such GANs were saved before states were stored."""
    trained_, fresh = trained(REMEMBERING).gan, GAN.build(REMEMBERING, encoding(), seed=5)
    plain = {k: v for k, v in trained_.generator.state_dict().items() if not k.endswith(".last")}
    assert len(plain) < len(trained_.generator.state_dict())
    fresh.generator.load_state_dict(plain)
    assert ak.array_equal(fresh.sample(9, seed=1), trained_.sample(9, seed=1))


@pytest.mark.parametrize(
    "last",
    [
        torch.zeros(2, 3, 5),
        torch.zeros(1, 3, 6),
        torch.zeros(2, 3, 6, 1),
        torch.zeros(0),
        torch.tensor(1.0),
        torch.ones(2, 3, 6).bool(),
    ],
)
def test_remembered_states_of_another_layer_raise(last: torch.Tensor) -> None:
    generator = trained(REMEMBERING).gan.generator
    state = generator.state_dict()
    (name,) = (name for name in state if name.endswith(".last"))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        generator.load_state_dict(state | {name: last})

"""Trainings that start from another GAN."""

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, tiny_events, write_tiny

from hepgan import GAN
from hepgan import pipeline as library
from hepgan.data.encoding.copula import Copula
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.errors import CheckpointError, RunError
from hepgan.gan.serialization import read_tensors, without_prefix
from hepgan.pipeline.candidates import settings_like
from hepgan.pipeline.fine_tuning import load_start

CPU = torch.device("cpu")


@pytest.fixture
def few(tmp_path: Path, gan_folder: Path) -> dict[str, Any]:
    """Overrides of a run on 300 other events that starts from ``gan_folder``."""
    write_tiny(tmp_path / "few.root", tiny_events(300, 5))
    (tmp_path / "tiny.toml").write_text(TINY.format(path=tmp_path / "few.root"))
    return {"train.start_from": str(gan_folder), "train.steps": 4, "train.validate_every": 0}


def test_networks_start_from_those_of_a_run_folder(
    few: dict[str, Any], tmp_path: Path, gan_folder: Path
) -> None:
    run = library.load(tmp_path / "tiny.toml", few)
    state = library.prepare(run, device=CPU).state
    before = read_tensors(gan_folder / "generator.safetensors")
    last = read_tensors(next((gan_folder / "checkpoints").glob("step-*")))
    for network, expected in (
        (state.gan.generator, without_prefix("generator", before)),
        (state.ema, without_prefix("generator", before)),
        (state.gan.discriminator, without_prefix("discriminator", last)),
    ):
        weights = network.state_dict()
        assert weights
        assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())


def test_without_checkpoints_the_discriminator_starts_anew(
    few: dict[str, Any], tmp_path: Path, gan_folder: Path
) -> None:
    GAN.load(gan_folder, device="cpu").save(tmp_path / "other")
    overrides = few | {"train.start_from": str(tmp_path / "other")}
    state = library.prepare(library.load(tmp_path / "tiny.toml", overrides), device=CPU).state
    fresh = library.prepare(
        library.load(tmp_path / "tiny.toml", overrides | {"train.start_from": ""}), device=CPU
    ).state
    one, other = (s.gan.discriminator.state_dict() for s in (state, fresh))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_gan_names_what_it_started_from_also_after_a_resumed_training(
    few: dict[str, Any], tmp_path: Path, gan_folder: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(gan_folder, start)
    run = few | {"train.start_from": str(start)}
    library.train(library.load(tmp_path / "tiny.toml", run), tmp_path / "run", device=CPU)
    digest = hashlib.sha256((start / "generator.safetensors").read_bytes()).hexdigest()
    assert digest in GAN.load(tmp_path / "run").started_from
    assert "started from: " in repr(GAN.load(tmp_path / "run"))
    shutil.rmtree(start)
    longer = library.load(tmp_path / "tiny.toml", run | {"train.steps": 6})
    library.train(longer, tmp_path / "run", device=CPU, resume=True)
    assert digest in GAN.load(tmp_path / "run").started_from


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"schema.fields.b.shape": [3]}, r"field 'b' is \[2\] in no unit there and \[3\] in no"),
        ({"schema.fields.a.unit": "MeV"}, "field 'a' is a number in GeV there and a number in MeV"),
        ({"schema.fields.d.shape": [2]}, "the field 'd' exists only here, not there"),
        (
            {"encoding.conditions.energy.scale": "log"},
            "scale of the condition 'energy' is linear there and log here",
        ),
        ({"gan.latent": [4]}, r"setting of \[gan\] 'latent' is \[0\] there and \[4\] here"),
        (
            {"gan.discriminator": "DENSE|9|LRELU, DENSE|1|LINEAR"},
            r"\[gan\] 'discriminator' is '?DENSE\|16\|.* there and '?DENSE\|9\|",
        ),
    ],
)
def test_a_gan_of_another_shape_raises_with_the_difference(
    few: dict[str, Any], tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    run = library.load(tmp_path / "tiny.toml", few | overrides)
    with pytest.raises(RunError, match=message):
        load_start(run, run.schema)


def test_an_encoding_of_other_steps_raises_with_both(few: dict[str, Any], tmp_path: Path) -> None:
    steps = {"encoding.steps": [{"step": "standardize"}]}
    with pytest.raises(RunError, match="has the steps copula, but here they are standardize"):
        library.prepare(library.load(tmp_path / "tiny.toml", few | steps), device=CPU)


def test_a_missing_gan_raises_with_its_name(few: dict[str, Any], tmp_path: Path) -> None:
    run = library.load(tmp_path / "tiny.toml", few | {"train.start_from": "nowhere"})
    with pytest.raises(CheckpointError, match="nowhere"):
        library.prepare(run, device=CPU)


def test_phases_cannot_start_from_a_gan(few: dict[str, Any], tmp_path: Path) -> None:
    run = library.load(tmp_path / "tiny.toml", few)
    with pytest.raises(RunError, match=r"write start_from in \[train\]"):
        library.replaced(run, {"phases": [{"steps": 1, "batch_size": 8, "start_from": "showers", "generator": {"learning_rate": 1e-3}, "discriminator": {"learning_rate": 1e-3}}]})  # fmt: skip


def test_candidates_continue_with_the_encoding_of_the_gan_to_start_from(
    few: dict[str, Any], tmp_path: Path
) -> None:
    run = library.load(tmp_path / "tiny.toml", few)
    candidates = {"scaled": [{"step": "standardize"}], "correlated": list(run.encoding.steps)}
    changed = {"encoding.steps": [], "encoding.candidates": candidates}
    prepared, plain = (
        library.prepare(library.load(tmp_path / "tiny.toml", few | keys), device=CPU)
        for keys in (changed, {})
    )
    encoding = prepared.state.gan.encoding
    assert encoding.fingerprint() == plain.state.gan.encoding.fingerprint()
    candidates.pop("correlated")
    with pytest.raises(RunError, match="no candidate .* whose steps are copula; write its 'steps'"):
        library.prepare(library.load(tmp_path / "tiny.toml", few | changed), device=CPU)


def test_the_chosen_one_of_several_candidates_with_the_same_steps_is_continued(
    few: dict[str, Any], tmp_path: Path
) -> None:
    run = library.load(tmp_path / "tiny.toml", few)
    start = GAN.load(few["train.start_from"], device="cpu").encoding
    copula = dict(run.encoding.steps[0])
    coarse = (copula | {"windows": 4},)
    settings = EncodingSettings((), run.encoding.conditions, {"fine": (copula,), "coarse": coarse})
    chosen = dataclasses.replace(start, choice="coarse (AUC 0.51), not fine (AUC 0.55)")
    assert settings_like(settings, chosen).steps == coarse
    with pytest.raises(RunError, match="several candidates"):
        settings_like(settings, start)


def test_a_streamed_training_starts_from_a_gan(few: dict[str, Any], tmp_path: Path) -> None:
    run = library.load(tmp_path / "tiny.toml", few | {"data.stream": True})
    _, prepared = library.train(run, tmp_path / "run", device=CPU)
    assert prepared.state.step == 4


def test_correlations_of_few_events_profit_from_those_of_another_gan(
    few: dict[str, Any], tmp_path: Path, gan_folder: Path
) -> None:
    run = library.load(tmp_path / "tiny.toml", few)
    start = GAN.load(gan_folder, device="cpu").encoding
    truth = torch.eye(3, dtype=torch.float64)
    truth[1, 2] = truth[2, 1] = 0.8
    errors = []
    for seed in range(8):
        events = tiny_events(60, 100 + seed)
        for other in (None, start):
            encoding = Encoding.fit(events, start.schema, run.encoding, seed=1, start=other)
            copula = encoding.steps[1]
            assert isinstance(copula, Copula)
            covariance = copula.whiten.covariance
            errors.append(float((covariance - truth).square().mean().sqrt()))
    alone, tuned = sum(errors[::2]), sum(errors[1::2])
    assert tuned < 0.7 * alone


def test_coordinates_stay_those_of_the_other_gan_if_the_events_are_the_same(
    few: dict[str, Any], tmp_path: Path
) -> None:
    run = library.load(tmp_path / "tiny.toml", few)
    events = tiny_events(3000, 1)
    schema = GAN.load(few["train.start_from"], device="cpu").schema
    first = Encoding.fit(events, schema, run.encoding, seed=1)
    second = Encoding.fit(events, schema, run.encoding, seed=1, start=first)
    (x, _), (y, _) = (encoding.encode(events, seed=1) for encoding in (first, second))
    assert torch.allclose(x, y, atol=1e-3)
    assert torch.allclose(torch.cov(y.T), torch.eye(3), atol=0.02)


@pytest.mark.parametrize("step", ["autoregressive"])
def test_networks_of_an_encoding_start_from_fitted_ones(
    few: dict[str, Any], tmp_path: Path, step: str
) -> None:
    run = library.load(tmp_path / "tiny.toml", few)
    schema = GAN.load(few["train.start_from"], device="cpu").schema
    settings = EncodingSettings(({"step": step, "hidden": 16, "steps": 200},), run.encoding.conditions)  # fmt: skip
    start = Encoding.fit(tiny_events(3000, 1), schema, settings, seed=1)
    events = tiny_events(200, 5)
    alone = Encoding.fit(events, schema, settings, seed=1)
    tuned = Encoding.fit(events, schema, settings, seed=1, start=start)
    likelihoods: list[Any] = [encoding.steps[1] for encoding in (alone, tuned)]
    assert likelihoods[1].log_likelihood > likelihoods[0].log_likelihood + 0.05
    wider = EncodingSettings(({"step": step, "hidden": 24, "steps": 2},), run.encoding.conditions)
    with pytest.raises(RunError, match="the network to start from has 'features' of shape"):
        Encoding.fit(events, schema, wider, seed=1, start=start)

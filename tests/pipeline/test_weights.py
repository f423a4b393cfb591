"""Trainings on weighted events: bad weights write nothing, equal weights change nothing, and generated events have weight 1."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from hepgan import pipeline as library
from hepgan.data.schema import Schema
from hepgan.data.weights import with_weights_of
from hepgan.errors import DataError, HepganError
from hepgan.evaluation.metrics import compute
from hepgan.gan import serialization
from hepgan.pipeline import card, parse, propose, replaced, train
from hepgan.pipeline.config import RunConfig

CPU = torch.device("cpu")
RUN = """
seed = 1
threads = 1

[data]
files = ["{path}"]

[schema.fields.v]
shape = [2]

[encoding]
steps = [{{ step = "copula" }}]

[gan]
latent = [0]
generator = "RES[DENSE|8|LRELU, DENSE|N|LINEAR|ZERO]"
discriminator = "DENSE|16|LRELU, DENSE|1|LINEAR"

[train]
steps = 10
batch_size = 64
generator = {{ learning_rate = 1e-3 }}
discriminator = {{ learning_rate = 1e-3 }}
r1 = 1.0
r2 = 1.0
log_every = 5
validate_every = 5
checkpoint_every = 5

[evaluate]
metrics = ["wasserstein"]
"""


def tilted(number: int = 4000, seed: int = 1) -> dict[str, np.ndarray]:
    """Normal columns of correlation 0.6; a tenth of the weights, which move the first to a mean of 0.5, are negative."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(number, 2)) @ np.array([[1, 0.6], [0, 0.8]])
    signs = np.where(rng.random(number) < 0.1, -1, 1) / 0.8
    return {
        "v": v.astype("f4"),
        "w": (np.exp(0.5 * v[:, 0] - 0.125) * signs).astype("f4"),
        "half": np.full(number, 0.5, "f4"),
        "nan": np.where(np.arange(number) == 7, np.nan, 1).astype("f4"),
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weighted") / "events.root"
    with uproot.recreate(path) as root:
        root["events"] = tilted()
    return str(path)


def run_of(file: str, **changes: Any) -> RunConfig:
    return replaced(parse(RUN.format(path=file)), changes)


@pytest.fixture(scope="module")
def folder(file: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "out"
    library.run(run_of(file, **{"data.weight": "w"}), folder, device=CPU)
    return folder


def test_generated_events_follow_the_weighted_distribution(folder: Path) -> None:
    events = ak.to_numpy(serialization.load(folder).sample(4000, seed=2)["v"])
    assert events[:, 0].mean() == pytest.approx(0.5, abs=0.08)
    assert events[:, 1].mean() == pytest.approx(0.3, abs=0.08)
    assert np.corrcoef(events.T)[0, 1] == pytest.approx(0.6, abs=0.06)


def test_generated_files_have_no_weights(folder: Path) -> None:
    with uproot.open(folder / "generated.root") as generated:
        assert set(generated["events"].keys()) == {"v"}


def test_log_card_and_run_file_have_the_weight_and_the_effective_number_of_events(
    folder: Path, tmp_path: Path
) -> None:
    encoding = serialization.load(folder).encoding
    effective = f"effective number {encoding.effective_events:,.0f}"
    assert 1000 < encoding.effective_events < 0.7 * encoding.fitted_events
    assert effective in (folder / "hepgan.log").read_text()
    text = card(folder, tmp_path / "card.md").read_text()
    assert effective in text
    assert "- weight: w\n" in text
    assert 'weight = "w"' in (folder / "run.toml").read_text()


def test_hepgan_evaluate_warns_that_the_reference_is_compared_without_weights(
    file: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generated = {"generated": str(folder / "generated.root")}
    library.evaluate(file, generated, tmp_path / "plain", device=CPU)
    assert "weights the events with 'w', but the reference is compared without" in caplog.text
    caplog.clear()
    library.evaluate(file, generated, tmp_path / "weighted", weights=("w", None), device=CPU)
    assert "without weights" not in caplog.text


def test_equal_weights_give_the_gan_of_unweighted_events(file: str, tmp_path: Path) -> None:
    one, other = (
        train(run_of(file, **changes), tmp_path / name, device=CPU)[0].sample(50, seed=1)
        for name, changes in {"plain": {}, "half": {"data.weight": "half"}}.items()
    )
    assert ak.array_equal(one, other)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("nan * w", r"weight 'nan \* w' of .* is nan in entry 7"),
        ("w - 2", "the split 'train' cannot be used: the weights of .* sum to -.*must be positive"),
        ("missing", "no branch 'missing' for a cut or weight"),
        ("exp(5 * w)", "worth .* unweighted ones"),
        ("w +", "w \\+"),
    ],
)
def test_weights_that_cannot_work_raise_and_nothing_is_written(
    file: str, tmp_path: Path, weight: str, message: str
) -> None:
    with pytest.raises(HepganError, match=message):
        train(run_of(file, **{"data.weight": weight}), tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()


def test_a_classifier_as_validation_with_negative_weights_raises(file: str, tmp_path: Path) -> None:
    changes = {"data.weight": "w", "evaluate.validation": "auc_boosted"}
    with pytest.raises(DataError, match="cannot use the negative weights of .* omit it"):
        train(run_of(file, **changes), tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()


def test_a_stream_is_trained_with_weights(file: str, tmp_path: Path) -> None:
    changes = {"data.weight": "w", "data.stream": True, "train.steps": 5}
    gan, _ = train(run_of(file, **changes), tmp_path / "out", device=CPU)
    assert gan.encoding.effective_events > 1000
    values = ak.to_numpy(gan.sample(4000, seed=2)["v"])
    assert values[:, 0].mean() == pytest.approx(0.5, abs=0.08)


def test_resume_of_a_weighted_training_equals_the_uninterrupted_one(
    file: str, tmp_path: Path
) -> None:
    run = run_of(file, **{"data.weight": "w"})
    train(replaced(run, {"train.steps": 5}), tmp_path / "two", device=CPU)
    again = train(run, tmp_path / "two", device=CPU, resume=True)[0]
    whole = train(run, tmp_path / "one", device=CPU)[0]
    assert ak.array_equal(again.sample(50, seed=1), whole.sample(50, seed=1))


def test_candidates_are_compared_with_negative_weights(file: str, tmp_path: Path) -> None:
    changes = {
        "data.weight": "w",
        "train.steps": 0,
        "encoding.steps": (),
        "encoding.candidates": {
            "bad": [{"step": "scale", "range": [-30.0, 30.0]}], "good": [{"step": "copula"}],
        },
    }  # fmt: skip
    gan, _ = train(run_of(file, **changes), tmp_path / "out", device=CPU)
    assert gan.encoding.choice.startswith("good (Fréchet distance ")


def test_the_weighted_validation_distance_prefers_the_weighted_distribution() -> None:
    events, others = tilted(20_000), tilted(20_000, seed=2)
    columns = {name: events["v"][:, i].astype(float) for i, name in enumerate("ab")}
    shifted = {"a": others["v"][:, 0] + 0.5, "b": others["v"][:, 1] + 0.3}
    plain = {"a": others["v"][:, 0] + 0.0, "b": others["v"][:, 1] + 0.0}
    weights = events["w"].astype(float), None
    near, far = (compute.validation_distance(columns, each, weights) for each in (shifted, plain))
    assert near < 0.02
    assert far > 0.2


def test_events_generated_for_the_conditions_of_weighted_events_have_their_weights() -> None:
    reference = ak.Array({"x": [1.0, 2.0], "k": [0.0, 1.0], "weight": [3.0, -1.0]})
    generated = ak.Array({"x": [1.0, 2.0, 3.0, 4.0], "k": [0.0, 1.0, 0.0, 1.0]})
    with_condition = Schema.from_table({"fields": {"x": {}}, "conditions": {"k": {}}})
    without = Schema.from_table({"fields": {"x": {}, "k": {}}})
    found = with_weights_of(reference, generated, with_condition)
    assert found["weight"].tolist() == [3, -1, 3, -1]
    assert with_weights_of(reference, generated, without) is generated


@pytest.mark.parametrize(
    ("weights", "chosen", "remark"),
    [
        ({"genWeight": 1.0}, None, "# genWeight: left out: an event weight, 1 in all entries"),
        ({"genWeight": "w"}, "`genWeight`", ""),
        ({"genWeight": "w", "puWeight": "w"}, "`genWeight`", "weight = '`genWeight` * `puWeight`'"),
        ({"genWeight": "-w", "puWeight": "w"}, "`puWeight`", "# genWeight: left out: an event weight that cannot be used: the weights"),
    ],
)  # fmt: skip
def test_init_proposes_a_weight_by_its_name_and_values(
    tmp_path: Path, weights: dict[str, Any], chosen: str | None, remark: str
) -> None:
    events = tilted(500)
    values: dict[Any, Callable[[], np.ndarray]] = {
        "w": lambda: events["w"], "-w": lambda: -events["w"], 1.0: lambda: np.ones(500, "f4"),
    }  # fmt: skip
    with uproot.recreate(tmp_path / "t.root") as root:
        root["events"] = {"a": events["v"][:, 0], "b": events["v"][:, 1]} | {
            name: values[kind]() for name, kind in weights.items()
        }
    text = propose(str(tmp_path / "t.root"))
    run = parse(text)
    assert run.data.weight == chosen
    assert set(run.schema.fields) == {"a", "b"}
    assert remark in text


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (lambda w: -w, "447 of them negative, sum to -"),
        (lambda w: np.where(np.arange(500) == 3, np.nan, w), "1 values are NaN or infinite"),
    ],
)
def test_init_refuses_a_weight_that_is_nan_or_negative_in_sum_and_writes_nothing(
    tmp_path: Path, weight: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    events = tilted(500)
    file = str(tmp_path / "t.root")
    with uproot.recreate(file) as root:
        root["events"] = {"a": events["v"][:, 0], "genWeight": weight(events["w"])}
    with pytest.raises(DataError, match=f"event weight 'genWeight' of .*{reason}") as error:
        library.init(file, tmp_path / "t.toml")
    assert "--without 'genWeight'" in str(error.value)
    assert not (tmp_path / "t.toml").exists()
    assert parse(propose(file, without=["genWeight"])).data.weight is None

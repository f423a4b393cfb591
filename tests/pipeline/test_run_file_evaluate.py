"""The table ``[evaluate]``: metrics and observables by name, and a custom metric in validation."""

import json
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import pytest
from click.testing import CliRunner
from tiny import tiny_events, write_tiny

import hepgan
from hepgan.cli import main
from hepgan.errors import HepganError
from hepgan.evaluation.metrics import scores
from hepgan.evaluation.metrics.statistics import Estimate
from hepgan.evaluation.sample import Sample
from hepgan.gan.training import history
from hepgan.pipeline import load, train
from hepgan.pipeline.validation import classifier_distance


@pytest.fixture
def mean_of_a() -> Iterator[None]:
    """Registers the metric ``mean_of_a``, of which higher values are better."""

    @hepgan.register_metric("mean_of_a", higher_is_better=True)
    def mean_of_a(reference: Sample, generated: Sample, *, seed: int) -> Estimate:
        return Estimate(float(generated.values["a"].mean()), 0.1, 5.5, 0.1)

    yield
    del scores.REGISTERED["mean_of_a"]
    scores.HIGHER_IS_BETTER.discard("mean_of_a")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("metrics", ["separatoin"], "unknown metric 'separatoin'; did you mean 'separation'"),
        ("observables", ["A"], "no observable 'A'; did you mean|no observable 'A'; choose"),
        (
            "validation",
            "mean_of_b",
            "'mean_of_b' is not a registered metric or a classifier; did you mean",
        ),
    ],
)
def test_unknown_names_are_errors_when_the_run_file_is_read(
    tiny_run: Path, key: str, value: object, message: str, mean_of_a: None
) -> None:
    with pytest.raises(HepganError, match=message):
        load(tiny_run, {f"evaluate.{key}": value})


def test_a_registered_metric_validates(tiny_run: Path, tmp_path: Path, mean_of_a: None) -> None:
    run = load(tiny_run, {"evaluate.validation": "mean_of_a", "train.steps": 10})
    gan, _ = train(run, tmp_path / "out", device="cpu")
    values = [row["validation"] for row in history.read(tmp_path / "out") if "validation" in row]
    assert values == pytest.approx([-5.5] * len(values), rel=0.2)  # negated: the lowest is kept
    assert gan.kept is not None
    assert gan.kept.score == min(values)


def test_a_classifier_validates_and_sees_the_conditions(tiny_run: Path) -> None:
    """Events with the conditions of others have the right observables and the right conditions."""
    run = load(tiny_run, {"evaluate.validation": "auc_observables"})
    reference, generated = tiny_events(600, 3), tiny_events(600, 4)
    distance = classifier_distance(reference, run, seed=1)
    shuffled = ak.with_field(generated, generated["energy"][::-1], "energy")
    assert distance(generated) == pytest.approx(0.5, abs=0.1)
    assert distance(shuffled) > 0.8


def test_a_classifier_of_cells_that_do_not_exist_raises(tiny_run: Path) -> None:
    run = load(tiny_run, {"evaluate.validation": "auc_low"})
    distance = classifier_distance(tiny_events(500, 3), run, seed=1)
    with pytest.raises(HepganError, match="validation = 'auc_low' cannot be computed for these"):
        distance(tiny_events(500, 4))


def test_hepgan_evaluate_uses_the_run_files_names_and_options_override_them(
    tiny_run: Path, tmp_path: Path
) -> None:
    text = '\n[evaluate]\nmetrics = ["kolmogorov"]\nobservables = ["a", "b_0"]\n'
    tiny_run.write_text(tiny_run.read_text() + text)
    files = [tmp_path / "one.root", tmp_path / "other.root"]
    for seed, path in enumerate(files, start=1):
        write_tiny(path, tiny_events(300, seed))

    def computed(name: str, *options: str) -> set[tuple[str, str]]:
        command = [
            "evaluate",
            *map(str, files),
            "--config",
            str(tiny_run),
            "-o",
            str(tmp_path / name),
        ]
        done = CliRunner().invoke(main, [*command, *options])
        assert done.exit_code == 0, done.output
        written = json.loads((tmp_path / name / "scores.json").read_text())["scores"]
        return {(score["metric"], score["observable"]) for score in written}

    assert computed("first") == {("kolmogorov", "a"), ("kolmogorov", "b_0")}
    options = ["--metric", "separation", "--observable", "b_1"]
    assert computed("second", *options) == {("separation", "b_1")}

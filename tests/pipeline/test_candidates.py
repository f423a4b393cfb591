"""``[encoding.candidates]``: the best of several encodings is used, and the run says why."""

from pathlib import Path

import pytest
from tiny import TINY, tiny_events, write_tiny

from hepgan.data.encoding.encoding import EncodingSettings
from hepgan.errors import DataError, RunError
from hepgan.gan.model import GAN
from hepgan.pipeline import load, train
from hepgan.pipeline.config import as_toml

CANDIDATES = """
[encoding.candidates]
independent = [{ step = "standardize" }]
copula = [{ step = "copula", condition = "energy", windows = 8, per_window = 400 }]
"""


def run_file(folder: Path, candidates: str, events: int = 6000) -> Path:
    """Writes the events and a run file with these candidates; returns its path."""
    data = folder / "events.root"
    write_tiny(data, tiny_events(events, seed=1))
    lines = TINY.format(path=data).splitlines()
    text = "\n".join(line for line in lines if not line.startswith(("steps = [{", "[encoding]")))
    path = folder / "run.toml"
    path.write_text(text.replace("steps = 20", "steps = 0") + "\n" + candidates)
    return path


def test_the_encoding_that_a_classifier_cannot_tell_from_the_events_is_chosen(
    tmp_path: Path,
) -> None:
    run = load(run_file(tmp_path, CANDIDATES))
    gan, _ = train(run, tmp_path / "run", device="cpu")
    assert gan.encoding.choice.startswith("copula (AUC 0.")
    assert "not independent (AUC 0." in gan.encoding.choice
    loaded = GAN.load(tmp_path / "run", device="cpu").encoding
    assert loaded.choice == gan.encoding.choice
    assert "chosen: copula" in repr(loaded)


def test_a_candidate_that_does_not_suit_the_events_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unsuited = (
        '[encoding.candidates]\nlogit = [{ step = "logit" }]\nscaled = [{ step = "standardize" }]\n'
    )
    gan, _ = train(load(run_file(tmp_path, unsuited)), tmp_path / "run", device="cpu")
    assert gan.encoding.choice.startswith("scaled (AUC")
    assert "logit cannot be used" in caplog.text


def test_a_run_without_a_suitable_candidate_raises_and_writes_nothing(tmp_path: Path) -> None:
    run = load(run_file(tmp_path, '[encoding.candidates]\nlogit = [{ step = "logit" }]\n'))
    with pytest.raises(
        RunError, match=r"no candidate of \[encoding.candidates\] can be used: logit"
    ):
        train(run, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_too_few_validation_events_raise(tmp_path: Path) -> None:
    run = load(run_file(tmp_path, CANDIDATES, events=40))
    with pytest.raises(DataError, match="too few to compare encodings"):
        train(run, tmp_path / "run", device="cpu")


def test_a_run_with_candidates_is_written_and_read_again(tmp_path: Path) -> None:
    run = load(run_file(tmp_path, CANDIDATES))
    path = tmp_path / "again.toml"
    path.write_text(as_toml(run))
    assert load(path) == run


def test_steps_and_candidates_exclude_each_other_and_one_is_needed() -> None:
    steps = ({"step": "standardize"},)
    with pytest.raises(RunError, match="both 'steps' and 'candidates'"):
        EncodingSettings(steps, candidates={"one": steps})
    with pytest.raises(RunError, match="has no 'steps'"):
        EncodingSettings()

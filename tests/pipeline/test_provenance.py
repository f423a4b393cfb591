"""The report names its command, run file, weights, training, hardware and versions."""

import hashlib
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from hepgan import pipeline as library
from hepgan.pipeline.provenance import provenance, read_training


def test_provenance_names_command_hardware_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hepgan", "evaluate", "my file.root", "b.root"])
    found = provenance(7, torch.device("cpu"))
    assert found["command"] == "hepgan evaluate 'my file.root' b.root"
    assert found["seed"] == "7"
    assert "cores" in found["hardware"]
    assert "GiB of memory" in found["hardware"]
    assert found["versions"]["torch"] == metadata.version("torch")
    monkeypatch.setattr(sys, "argv", ["study.py", "--fast"])
    assert provenance(7, torch.device("cpu"))["command"] == "study.py --fast"


def test_a_run_folder_gives_kept_step_time_weights_and_run_file(gan_folder: Path) -> None:
    found = read_training(gan_folder)
    digest = hashlib.sha256((gan_folder / "generator.safetensors").read_bytes()).hexdigest()
    assert found.kept == 3
    assert "step, 3" in found.facts["kept step"]
    assert found.facts["training time"].startswith("0:00:")
    assert digest in found.origin["weights"]
    assert found.origin["run file"] == (gan_folder / "run.toml").read_text()


def test_a_folder_without_a_run_or_with_a_damaged_one_does_not_stop_an_evaluation(
    tmp_path: Path, gan_folder: Path
) -> None:
    assert read_training(tmp_path).facts == {}
    shutil.copy(gan_folder / "run.toml", tmp_path)
    (tmp_path / "gan.json").write_text("{")
    assert "is damaged" in read_training(tmp_path).facts["training"]


def test_the_report_of_a_generated_file_shows_the_training_next_to_it(
    tmp_path: Path, gan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepgan.evaluation.report.figures.draw", lambda *_args, **_options: [])
    generated = gan_folder.parent / "tiny.root"
    copied = tmp_path / "run"
    shutil.copytree(gan_folder, copied)
    shutil.copy(generated, copied / "generated.root")
    library.evaluate(
        str(generated), {"gan": str(copied / "generated.root")}, tmp_path / "out",
        metrics=["chi_square"], device="cpu",
    )  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    assert ">Training</h2>" in page
    assert "kept the generator of the last step, 3" in page
    assert page.count("SHA-256") == 3  # two files and the weights
    assert "[schema.fields" in page

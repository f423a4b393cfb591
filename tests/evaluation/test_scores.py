"""Scores as a table, and in files."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import pytest

import hepgan
from hepgan import Score, Scores
from hepgan.evaluation.metrics.scores import MAX_ROWS
from hepgan.evaluation.report.page import as_json

FPD = Score("fpd", "all", 0.012, 0.001, 0.002, 100, 100, 0.001)
SEPARATIONS = [Score("separation", f"x_{i}", 0.1 * i, 0.1, 0.1, 100, 100) for i in range(3)]


def test_the_table_has_overall_scores_first_and_then_the_most_significant() -> None:
    head, *rows = repr(Scores([*SEPARATIONS, FPD])).splitlines()
    assert head.split() == ["metric", "observable", "value", "baseline", "n_sigma"]
    assert [row.split()[1] for row in rows] == ["all", "x_2", "x_1", "x_0"]
    assert rows[0].split() == [
        "fpd",
        "all",
        "0.0120",
        "±",
        "0.0010",
        "0.0020",
        "±",
        "0.0010",
        "7.1",
    ]
    assert Scores([*SEPARATIONS, FPD]).overall == (FPD,)


def test_a_table_of_many_scores_says_how_many_it_omits() -> None:
    scores = Scores(MAX_ROWS * [FPD] + SEPARATIONS)
    assert repr(scores).splitlines()[-1] == "… and 3 more"
    assert scores._repr_html_().endswith("<p>… and 3 more</p>")
    assert scores._repr_html_().count("<tr>") == MAX_ROWS + 1


def test_samples_are_named_if_there_are_several_and_names_are_escaped() -> None:
    scores = Scores([FPD, dataclasses.replace(FPD, source="<b>\x1b[31m")])
    assert "<b>\\u001b[31m" in repr(scores)
    assert "&lt;b&gt;\\u001b[31m" in scores._repr_html_()


def test_scores_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    scores = Scores([dataclasses.replace(FPD, p_value=0.5, measured_baseline=0.1), *SEPARATIONS])
    path.write_text(json.dumps(as_json(scores)))
    assert Scores.read(path) == scores
    path.write_text('{"scores": [{}]}')
    with pytest.raises(hepgan.DataError, match=r"scores.json does not hold scores: 'metric'"):
        Scores.read(path)


def test_a_gan_shows_the_scores_of_its_run_folder_and_loads_without_them(
    gan_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(gan_folder, folder)
    assert hepgan.GAN.load(folder).scores == ()
    (folder / "scores.json").write_text(json.dumps(as_json([*SEPARATIONS, FPD])))
    gan = hepgan.GAN.load(folder)
    assert gan.scores[-1] == FPD
    assert "scores: fpd 0.0120 ± 0.0010 (baseline 0.0020 ± 0.0010)" in repr(gan)
    assert "fpd 0.0120" in gan._repr_html_()
    (folder / "scores.json").write_text("[]")
    with caplog.at_level(logging.WARNING, logger="hepgan"):
        assert hepgan.GAN.load(folder).scores == ()
    assert "does not hold scores" in caplog.text

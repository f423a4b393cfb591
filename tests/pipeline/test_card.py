"""Model cards: complete, safe to publish, and never overwritten unasked."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from hepgan.cli import main
from hepgan.errors import RunError
from hepgan.pipeline import card


def test_card_of_a_run_has_data_conditions_networks_and_a_license_to_fill_in(
    gan_folder: Path, tmp_path: Path
) -> None:
    text = card(gan_folder, tmp_path / "card.md").read_text(encoding="utf-8")
    assert "| energy | 1 to 10 | GeV |" in text
    assert "| b | 2 |  | float64 |" in text
    assert "files: tiny.root" in text
    assert str(gan_folder.parent) not in text  # paths of this machine
    assert "`RES[COND, DENSE|8|LRELU, DENSE|N|LINEAR|ZERO]`" in text
    assert "copula" in text
    assert "License: **TO BE FILLED IN**" in text
    assert "Not evaluated yet" in text


def test_python_on_a_card_runs(tmp_path: Path) -> None:
    text = card("showers", tmp_path / "card.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(code.replace("1000", "10"), names)
    assert len(names["events"]) == 10  # type: ignore[arg-type]
    assert re.search(
        r"\| auc_low \| 0\.\d+ ± 0\.\d+ \| 0\.\d+ ± 0\.\d+ \| 3,166 and 3,166 \|", text
    )
    (command,) = re.findall(r"```sh\nhepgan (.*?)\n```", text)
    arguments = command.replace("'", "").replace("events.root", str(tmp_path / "x.root")).split()
    result = CliRunner().invoke(main, [*arguments, "-n", "5"], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_existing_readme_is_kept_without_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("mine")
    with pytest.raises(RunError, match="exists; choose another file with -o"):
        card("showers", path)
    assert path.read_text() == "mine"
    result = CliRunner().invoke(main, ["card", "showers", "-o", str(path), "--overwrite"])
    assert result.exit_code == 0, result.output
    assert path.read_text().startswith("---\nlicense: other")
    with pytest.raises(RunError, match="pass -o"):
        card("showers")

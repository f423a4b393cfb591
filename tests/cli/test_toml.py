"""Run files and options with arbitrary text: values that are nested too deeply, too long or too large raise one-line errors."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from hepgan import pipeline as library
from hepgan.cli import main
from hepgan.config import LONGEST, parse_toml
from hepgan.data.schema import Field, expand_ranges
from hepgan.errors import RunError

BASE = """seed = {seed}
data.files = ["sample:showers.root"]
encoding.steps = [{{step = "scale"{step}}}]
gan = {{latent = [8], layout = "TANH|4, DENSE|0 ## TANH|4, LINEAR|1"}}
train = {{steps = 10, batch_size = 4, generator = {{learning_rate = 1e-4}}, discriminator = {{learning_rate = 1e-4}}, objective = "non-saturating"{train}}}
[schema.fields.x]
{field}
"""


def text(seed: str = "1", step: str = "", train: str = "", field: str = "shape = [3]") -> str:
    return BASE.format(seed=seed, step=step, train=train, field=field)


DIGITS = "9" * 5000
DEEP = "[" * 5000 + "]" * 5000
HOSTILE = {
    text(seed=DIGITS): "has an integer of more than 64 bits",
    text(seed="9223372036854775808"): "has an integer of more than 64 bits in 'seed'",
    text(seed="0x" + "f" * 5000): "has an integer of more than 64 bits",
    text(seed=DEEP): "has values nested more than 30 deep",
    text(seed="[" * 40 + "]" * 40): "has values nested more than 30 deep in 'seed'",
    text(seed="[" * 20 + "]" * 20): r"seed = \[\[\[\[\.\.\.\]\]\]\] should be int",
    text(seed="nan"): "should be int",
    text(step=f", to = {DEEP}"): "has values nested more than 30 deep",
    text(step=", to = [0, 18446744073709551616]"): "has an integer of more than 64 bits in 'encoding'",
    text(train=", r1 = nan"): "should be a number, but is NaN",
    text() + "\n" + ".".join(["a"] * 3000) + " = 1": "nested more than 30 deep",
    text() + "[" + ".".join(["a"] * 3000) + "]": "nested more than 30 deep",
    text() + "[" + "n" * 100_000 + "]": "unknown key 'nnnn.*n' in the run file",
    text(field='branches = ["x{0..9999999999}"]'): r"\['x{0\.\.9999999999}'\] expands to more than 100,000",
    text(field='branches = ["x{0..999}{0..999}{0..999}"]'): "expands to more than 100,000 branches",
    text(field=f'branches = ["x{{0..{DIGITS}}}"]'): "expands to more than 100,000 branches",
    text(field='branches = ["x{5..2}"]'): r"counts down; write {2\.\.5}",
    text(field="shape = [1000000, 1000000]"): "maximum of 100,000,000 values per event",
    text(field=f'dtype = "{"f4," * 1000}"'): "unknown dtype|not numeric",
    "x = " + "1" * LONGEST: "characters; at most 1,000,000 are allowed",
    "\x00": "is not valid TOML",
}  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_run_file_raises_a_short_error(number: int, tmp_path: Path) -> None:
    written, message = list(HOSTILE.items())[number]
    path = tmp_path / "run.toml"
    path.write_text(written)
    with pytest.raises(
        RunError, match=message if len(written) < LONGEST else "not a run file"
    ) as caught:
        library.load(path)
    assert len(str(caught.value)) < 600


def test_the_length_of_a_toml_text_is_limited() -> None:
    with pytest.raises(RunError, match="at most 1,000,000 are allowed"):
        parse_toml(" " * (LONGEST + 1), where="it")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (f"seed={DIGITS}", "too many digits or is nested too deeply"),
        (f"seed={DEEP}", "too many digits or is nested too deeply"),
        ("seed=" + "[" * 100 + "]" * 100, "nested more than 30 deep in 'seed'"),
        ("seed=99999999999999999999", "more than 64 bits in 'seed'"),
        (".".join(["train"] * 5000) + "=1", "nested more than 30 deep in 'train'"),
        ("train.learn=nan", "unknown key 'learn' in"),
        ("n" * 100_000 + "=1", "unknown key 'nnn"),
        ("data.files.a=1", "'files' is a value, not a table"),
        ('schema.fields.image.branches=["x{0..9999999999}"]', "expands to more than 100,000"),
    ],
)
def test_a_hostile_setting_raises_a_short_error(setting: str, message: str, tmp_path: Path) -> None:
    arguments = ["train", "mnist", "--set", setting, "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert len(result.output) < 600
    assert not (tmp_path / "run").exists()


def test_a_run_file_with_an_overlong_name_does_not_exist() -> None:
    with pytest.raises(RunError, match="there is no preset or run file 'aaa"):
        library.load("a" * 5000)


def test_branch_ranges_expand_up_to_the_limit() -> None:
    assert len(expand_ranges(["x{0..99}{0..999}"])) == 10**5
    assert Field((2, 3), branches=("x{1..2}_{0..2}",)).size == 6

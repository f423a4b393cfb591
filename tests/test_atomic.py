"""Files are complete or absent after kills, with a full disk, and with planted names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hepgan import atomic
from hepgan.errors import RunError

WRITES_FOREVER = """
import sys, time
from pathlib import Path
from hepgan import atomic
with atomic.{kind}(Path(sys.argv[1])) as part:
    print(part, flush=True)
    time.sleep(60)
"""


def writer(target: Path, kind: str = "whole") -> tuple[subprocess.Popen[str], Path]:
    """Yields a process that is writing ``target``, and its temporary file."""
    code = WRITES_FOREVER.format(kind=kind)
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("kind", ["whole", "hidden_folder"])
def test_temporary_file_of_a_killed_process_is_removed_and_that_of_a_running_one_is_not(
    tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "a[1].txt"
    process, part = writer(target, kind)
    try:
        assert part.exists()
        atomic.write_text(target, "first")
        assert part.exists()
    finally:
        process.kill()
        process.communicate()
    atomic.write_text(target, "second")
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_text() == "second"


@pytest.mark.parametrize("planted", ["link", "pipe", "file", "folder"])
def test_planted_temporary_link_is_neither_followed_nor_an_obstacle(
    tmp_path: Path, planted: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    part = tmp_path / f".a.{os.getpid()}.part"
    if planted == "link":
        part.symlink_to(elsewhere)
    elif planted == "pipe":
        os.mkfifo(part)
    elif planted == "folder":
        part.mkdir()
    else:
        part.touch()
    atomic.write_text(tmp_path / "a", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "elsewhere"}
    assert elsewhere.read_text() == "mine"


def test_link_at_the_target_is_replaced_not_followed(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").write_text("mine")
    (link := tmp_path / "link").symlink_to(elsewhere)
    with pytest.raises(RunError, match="link cannot be written: it is a symbolic link"):
        atomic.append_line(link, "row")
    atomic.write_text(link, "ours")
    assert not link.is_symlink()
    assert elsewhere.read_text() == "mine"


def test_folder_that_is_a_link_raises(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "plots").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="plots cannot be written: it is a symbolic link"):
        atomic.subfolder(tmp_path / "plots")


def test_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    atomic.write_text(target, "before")

    def interrupted() -> None:
        with atomic.replace_on_success(target) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_text() == "before"


def test_temporary_name_of_a_long_name_fits_the_limit(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 127)
    atomic.write_text(target, "whole")
    assert list(tmp_path.iterdir()) == [target]

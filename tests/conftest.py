"""Fixtures: the small sample of ``tiny`` as a file and as a run file."""

from pathlib import Path

import pytest
from tiny import TINY, tiny_events, write_tiny


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.root"
    write_tiny(path, tiny_events(4000, 1))
    return path


@pytest.fixture
def tiny_run(tmp_path: Path, tiny_file: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.format(path=tiny_file))
    return path

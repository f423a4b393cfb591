"""Fixtures: the small sample of ``tiny`` as a file, as a run file and as a run folder with its GAN."""

import signal
from pathlib import Path

import pytest
from tiny import TINY, tiny_events, write_tiny


def pytest_configure() -> None:
    """Restores the default action of SIGHUP, which nohup and some CI systems ignore; commands inherit it."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


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


@pytest.fixture(scope="session")
def gan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN of three steps, beside the 3,000 events that it has seen."""
    from hepgan.pipeline import load, train

    folder = tmp_path_factory.mktemp("gan")
    write_tiny(folder / "tiny.root", tiny_events(3000, 1))
    (folder / "tiny.toml").write_text(TINY.format(path=folder / "tiny.root"))
    settings = load(folder / "tiny.toml", {"train.validate_every": 0, "train.steps": 3})
    train(settings, folder / "run", device="cpu")
    return folder / "run"

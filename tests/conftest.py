"""Fixtures: the small sample of ``tiny`` as a file, as a run file and as a run folder with its GAN."""

import os
import signal
from pathlib import Path

# Before torch is imported, here and in the commands that tests start: the networks are tiny, and with more than one thread
# per process parallel tests take many times longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import filelock
import pytest
from tiny import TINY, tiny_events, write_tiny

collect_ignore = ["fake_accelerator.py"]
"""Registers a device with torch, once; the search for doctests would import it a second time."""


def pytest_configure() -> None:
    """Restores the default actions of signals that nohup and background shells ignore; commands inherit them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves out helper modules, which ``--doctest-modules`` would import a second time under another name."""
    helper = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if helper else None


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
    """A GAN trained for three steps, next to its 3,000 training events; the workers of pytest-xdist share it."""
    from hepgan.pipeline import load, train

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "gan"
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            write_tiny(folder / "tiny.root", tiny_events(3000, 1))
            (folder / "tiny.toml").write_text(TINY.format(path=folder / "tiny.root"))
            settings = load(folder / "tiny.toml", {"train.validate_every": 0, "train.steps": 3})
            train(settings, folder / "run", device="cpu")
            (folder / "done").touch()
    return folder / "run"

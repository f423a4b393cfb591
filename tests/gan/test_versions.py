"""Versions of the folder of a GAN: the one before is read, older ones are upgraded, later ones are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sample_encodings import ENERGY, SHOWERS, showers

from hepgan import GAN, Encoding, EncodingSettings, GANSettings
from hepgan.cli import main
from hepgan.errors import CheckpointError, RunError
from hepgan.gan import versions
from hepgan.gan.serialization import read_kept_step, read_tensors, upgrade, write_tensors
from hepgan.gan.versions import MIGRATIONS, VERSION, Metadata, Tensors, migrate


def copy_of(gan: Path, folder: Path, **changes: Any) -> Path:
    """Writes a GAN with other values in ``gan.json``; ``None`` removes a key."""
    folder.mkdir()
    about = json.loads((gan / "gan.json").read_text()) | changes
    about = {name: value for name, value in about.items() if value is not None}
    (folder / "gan.json").write_text(json.dumps(about))
    (folder / "generator.safetensors").write_bytes((gan / "generator.safetensors").read_bytes())
    return folder


def events(folder: Path) -> Any:
    return GAN.load(folder, device="cpu").sample(4, energy=5.0, seed=1)


@pytest.fixture
def older(gan_folder: Path, tmp_path: Path) -> Path:
    """A folder of the version before, without what its migration adds."""
    about = json.loads((gan_folder / "gan.json").read_text())
    (flat,) = about["discriminator_shapes"]
    assert flat == [about["discriminator_features"]]
    return copy_of(
        gan_folder,
        tmp_path / "older",
        version=VERSION - 1,
        geometry=None,
        discriminator_shapes=None,
    )


@pytest.fixture
def oldest(gan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the version before that, in which tree and tensors had other names."""

    def rename(metadata: Metadata, tensors: Tensors) -> tuple[Metadata, Tensors]:
        tree = metadata.pop("name")
        return metadata | {"tree": tree}, {k.removeprefix("old."): v for k, v in tensors.items()}

    monkeypatch.setitem(MIGRATIONS, VERSION - 2, rename)
    folder = copy_of(gan_folder, tmp_path / "oldest", version=VERSION - 2, tree=None, name="events")
    path = folder / "generator.safetensors"
    write_tensors(path, {f"old.{name}": value for name, value in read_tensors(path).items()})
    return folder


def test_every_version_from_the_first_that_is_known_has_a_migration() -> None:
    assert sorted(MIGRATIONS) == list(range(min(MIGRATIONS), VERSION))
    assert VERSION - 1 in MIGRATIONS


def test_the_version_before_is_read_and_gives_the_same_events(
    gan_folder: Path, older: Path
) -> None:
    assert np.array_equal(events(older)["b"], events(gan_folder)["b"])
    assert read_kept_step(older) == read_kept_step(gan_folder)


def test_older_version_is_refused_until_it_is_upgraded(gan_folder: Path, oldest: Path) -> None:
    with pytest.raises(
        CheckpointError, match=f"reads versions 3 and 4; run hepgan upgrade {oldest}"
    ):
        GAN.load(oldest)
    assert upgrade(oldest) == VERSION - 2
    assert np.array_equal(events(oldest)["b"], events(gan_folder)["b"])
    assert {path.name for path in oldest.iterdir()} == {
        "gan.json", "gan.json.v2", "generator.safetensors", "generator.safetensors.v2",
    }  # fmt: skip


def test_upgrade_keeps_the_old_files_and_does_nothing_to_current_ones(
    gan_folder: Path, older: Path
) -> None:
    before = (older / "gan.json").read_bytes()
    weights = (older / "generator.safetensors").stat().st_mtime_ns
    result = CliRunner().invoke(main, ["upgrade", str(older), str(gan_folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{older}: upgraded from version 3 to 4",
        f"{gan_folder}: already of version 4",
    ]
    assert (older / "gan.json.v3").read_bytes() == before
    assert json.loads((older / "gan.json").read_text())["version"] == VERSION
    assert (older / "generator.safetensors").stat().st_mtime_ns == weights
    (older / "gan.json").write_bytes(before)
    with pytest.raises(
        RunError, match=r"gan\.json\.v3 exists; remove it, or replace it with --over"
    ):
        upgrade(older)
    assert upgrade(older, overwrite=True) == VERSION - 1


def test_a_gan_that_does_not_load_is_not_upgraded(gan_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(gan_folder, tmp_path / "bad", version=VERSION - 1, schema={})
    before = (folder / "gan.json").read_bytes()
    with pytest.raises(CheckpointError):
        upgrade(folder)
    assert (folder / "gan.json").read_bytes() == before
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (VERSION + 1, "reads versions up to 4; update hepgan: pip install -U hepgan"),
        (1, "from before the first release, which cannot be upgraded"),
        ("4", "damaged: its version is '4'"),
        (True, "damaged: its version is True"),
        (None, "damaged: its version is None"),
    ],
)
def test_unreadable_version_raises_in_one_sentence(
    gan_folder: Path, tmp_path: Path, version: object, message: str
) -> None:
    folder = copy_of(gan_folder, tmp_path / "other", version=version)
    for read in (GAN.load, upgrade):
        with pytest.raises(CheckpointError, match=message):
            read(folder)  # type: ignore[operator]


def test_missing_key_of_an_older_version_raises_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x/gan\.json is damaged"):
        migrate({"version": 3}, {}, Path("x/gan.json"))
    assert versions.version_of({"version": VERSION}, tmp_path) == VERSION


def test_energy_tree_of_an_unreleased_version_raises_in_one_sentence(tmp_path: Path) -> None:
    tree = {"step": "energy_tree", "incident": "energy", "threshold": 0.01, "steps": 2, "hidden": 4}
    encoding = Encoding.fit(showers(300), SHOWERS, EncodingSettings((tree,), ENERGY), seed=1)
    GAN.build(GANSettings(latent=(2,), generator="DENSE|N|LINEAR", discriminator="DENSE|1|LINEAR"), encoding, seed=1).save(tmp_path)  # fmt: skip
    GAN.load(tmp_path)
    text = (tmp_path / "gan.json").read_text()
    assert '"knots"' in text  # a field of its spectrum
    (tmp_path / "gan.json").write_text(text.replace('"knots"', '"old"'))
    with pytest.raises(
        CheckpointError, match="of an unreleased version of hepgan: it has no 'knots'"
    ):
        GAN.load(tmp_path)

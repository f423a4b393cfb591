"""GANs from addresses: downloaded once, checked, never executed, and extracted safely. A local server stands for all others."""

import functools
import hashlib
import http.server
import io
import json
import re
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hepgan import GAN, processors
from hepgan.cli import main
from hepgan.errors import CheckpointError, HepganError, RunError
from hepgan.gan import sources
from hepgan.pipeline import card, evaluate

NAMES = ("gan.json", "generator.safetensors")


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder quietly and lists the requests."""

    requests: list[str] = []  # noqa: RUF012  one server per module

    def do_GET(self) -> None:
        self.requests.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which a server publishes it."""
    folder = tmp_path_factory.mktemp("site")
    handler = functools.partial(Server, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def servers(site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEPGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEPGAN_ZENODO", f"{site[1]}/zenodo")
    monkeypatch.setenv("HF_ENDPOINT", f"{site[1]}/hf")
    Server.requests.clear()


def publish(path: Path, content: bytes) -> str:
    """Writes a file of the site and returns its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def publish_folder(folder: Path, gan: Path) -> str:
    """Publishes the files of a GAN and returns their SHA-256, as ``sha256sum … | sha256sum`` prints it."""
    lines = [
        f"{publish(folder / name, (gan / name).read_bytes())}  {name}\n"
        for name in sources.FILES
        if (gan / name).exists()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def packed(gan: Path, kind: str, inside: str = "runs/tiny") -> bytes:
    """Returns an archive of the folder of a GAN."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in NAMES:
                archive.write(gan / name, f"{inside}/{name}")
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            archive.add(gan, inside, filter=lambda info: info if "root" not in info.name else None)
    return buffer.getvalue()


def same_events(source: object, gan: Path) -> bool:
    events = [GAN.load(s, device="cpu").sample(5, energy=5.0, seed=1) for s in (source, gan)]  # type: ignore[arg-type]
    return all(np.array_equal(events[0][name], events[1][name]) for name in events[0].fields)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archive_is_loaded_with_its_sha256_and_downloaded_once(
    site: tuple[Path, str], gan_folder: Path, kind: str
) -> None:
    digest = publish(site[0] / f"tiny.{kind}", packed(gan_folder, kind))
    source = f"{site[1]}/tiny.{kind}#sha256={digest}"
    assert same_events(source, gan_folder)
    GAN.load(source, device="cpu")
    assert Server.requests == [f"/tiny.{kind}"]


def test_folder_at_an_address_is_loaded_with_its_sha256(
    site: tuple[Path, str], gan_folder: Path
) -> None:
    digest = publish_folder(site[0] / "plain", gan_folder)
    assert same_events(f"{site[1]}/plain/#sha256={digest}", gan_folder)


def test_other_content_than_pinned_is_refused_and_not_kept(
    site: tuple[Path, str], gan_folder: Path, tmp_path: Path
) -> None:
    digest = publish(site[0] / "changed.zip", packed(gan_folder, "zip"))
    wrong = f"{site[1]}/changed.zip#sha256={'0' * 64}"
    with pytest.raises(CheckpointError, match=f"has the SHA-256 {digest}, not 0000"):
        GAN.load(wrong)
    assert list((tmp_path / "cache" / "gans").iterdir()) == []


def test_hugging_face_repository_is_loaded_by_revision_and_shows_its_sha256(
    site: tuple[Path, str], gan_folder: Path, tmp_path: Path
) -> None:
    api = site[0] / "hf/api/models/org/tiny/revision"
    names = [{"rfilename": name} for name in (*NAMES, "README.md", "../../evil.py")]
    publish(api / "v1", json.dumps({"sha": "abc", "siblings": names}).encode())
    publish_folder(site[0] / "hf/org/tiny/resolve/abc", gan_folder)
    arguments = ["generate", "hf:org/tiny@v1", "-n", "5", "--seed", "1", "--condition", "energy=5"]
    result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "a.root")])
    assert result.exit_code == 0, result.output
    (digest,) = re.findall(r"pin it with hf:org/tiny@v1#sha256=(\w{64})\n", result.stderr)
    Server.requests.clear()
    assert same_events(f"hf:org/tiny@v1#sha256={digest}", gan_folder)
    assert Server.requests == []  # from the cache, without the network
    with pytest.raises(RunError, match=r"there is no hf:org/other on 127\.0\.0\.1"):
        GAN.load("hf:org/other")
    with pytest.raises(RunError, match="write hf:ORG/NAME"):
        GAN.load("hf:tiny")


def test_zenodo_record_is_loaded_from_its_files_or_the_archive_that_is_named(
    site: tuple[Path, str], gan_folder: Path
) -> None:
    records = site[0] / "zenodo/api/records"

    def record(number: int, names: list[str]) -> None:
        files = [{"key": name} for name in names]
        publish(records / str(number) / "index.html", json.dumps({"files": files}).encode())

    record(1, [*NAMES, "notes.txt"])
    for name in NAMES:
        publish(records / f"1/files/{name}/content", (gan_folder / name).read_bytes())
    assert same_events("zenodo:1", gan_folder)
    record(2, ["a.zip", "b.zip"])
    publish(records / "2/files/b.zip/content", packed(gan_folder, "zip"))
    assert same_events("zenodo:2/b.zip", gan_folder)
    with pytest.raises(RunError, match=r"zenodo:2 holds a\.zip, b\.zip; write zenodo:RECORD/FILE"):
        GAN.load("zenodo:2")
    with pytest.raises(RunError, match=r"holds a\.zip, b\.zip, but not c\.zip"):
        GAN.load("zenodo:2/c.zip")


def test_every_command_takes_an_address(
    site: tuple[Path, str], gan_folder: Path, tiny_file: Path, tmp_path: Path
) -> None:
    digest = publish(site[0] / "all.tgz", packed(gan_folder, "tar.gz"))
    source = f"{site[1]}/all.tgz#sha256={digest}"
    with pytest.raises(RunError, match="is an address; pass -o"):
        card(source)
    text = card(source, tmp_path / "card.md").read_text()
    assert f'GAN.load("{source}")' in text
    assert "files: tiny.root" in text  # from its run.toml
    embedded = processors.embed(source)
    assert embedded.digest == processors.embed(gan_folder).digest
    with pytest.raises(HepganError, match="nothing"):  # after its run.toml has been read
        evaluate(
            str(tiny_file),
            {"a": str(tiny_file)},
            tmp_path / "judged",
            config=source,
            observables=["nothing"],
        )


@pytest.mark.parametrize(
    ("name", "link"),
    [("../gan.json", False), ("/etc/gan.json", False), ("a/other", True)],
    ids=["outside", "absolute", "link"],
)
def test_archive_with_links_or_paths_outside_is_refused(
    site: tuple[Path, str], gan_folder: Path, tmp_path: Path, name: str, link: bool
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in NAMES:
            archive.add(gan_folder / file, f"a/{file}")
        info = tarfile.TarInfo(name)
        if link:
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    digest = publish(site[0] / "evil.tar", buffer.getvalue())
    with pytest.raises(CheckpointError, match="leads outside|is a link"):
        GAN.load(f"{site[1]}/evil.tar#sha256={digest}")
    assert list((tmp_path / "cache" / "gans").iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_BYTES", 1000), ("MAX_MEMBERS", 1)], ids=["bytes", "files"]
)
def test_too_large_download_is_refused(
    site: tuple[Path, str],
    gan_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
) -> None:
    digest = publish(site[0] / "large.zip", packed(gan_folder, "zip"))
    monkeypatch.setattr(sources, limit, value)
    with pytest.raises(CheckpointError, match="is larger than"):
        GAN.load(f"{site[1]}/large.zip#sha256={digest}")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut", b"\x1f\x8b\x08 cut", b"not an archive"]
)
def test_damaged_archive_raises_in_one_sentence(site: tuple[Path, str], content: bytes) -> None:
    digest = publish(site[0] / "damaged.tar", content)
    with pytest.raises(CheckpointError, match="is not an archive that can be read|no gan.json"):
        GAN.load(f"{site[1]}/damaged.tar#sha256={digest}")


def test_plugin_that_a_downloaded_gan_names_is_not_imported(
    site: tuple[Path, str], gan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_plugin.py").write_text("raise SystemExit")
    about = json.loads((gan_folder / "gan.json").read_text()) | {"plugins": ["evil_plugin"]}
    gan = tmp_path / "gan"
    publish(gan / "gan.json", json.dumps(about).encode())
    publish(gan / NAMES[1], (gan_folder / NAMES[1]).read_bytes())
    digest = publish_folder(site[0] / "evil", gan)
    with pytest.raises(RunError, match="needs the plugin 'evil_plugin', which is not imported"):
        GAN.load(f"{site[1]}/evil#sha256={digest}")
    assert "evil_plugin" not in sys.modules


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://127.0.0.1:1/tiny.zip", "cannot be reached.*check the network, or download"),
        ("http://127.0.0.1:1/tiny.zip", "not encrypted; use https, or pin"),
        ("hf:org/tiny#sha256=12", "after # there should be sha256="),
        ("https:///tiny.zip", "should be https://HOST/PATH"),
        ("https://me:secret@host/tiny.zip", "without user and password"),
        ("zenodo:abc", "write zenodo:RECORD"),
    ],
)
def test_wrong_or_unreachable_address_raises_in_one_sentence(
    tmp_path: Path, source: str, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        GAN.load(source)
    arguments = ["generate", source, "-n", "1", "--seed", "1", "-o", str(tmp_path / "a.root")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_missing_file_at_an_address_is_named(site: tuple[Path, str]) -> None:
    with pytest.raises(RunError, match=r"has no file gan\.json"):
        GAN.load(f"{site[1]}/nothing#sha256={'0' * 64}")


def test_missing_extra_raises_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(HepganError, match=r"pip install 'hepgan\[remote\]'"):
        GAN.load("hf:org/tiny")

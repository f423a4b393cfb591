"""``hepgan run`` and ``hepgan train``."""

import logging
import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import click

from hepgan.cli.options import TRAINING
from hepgan.cli.progress import progress_bar
from hepgan.data.io.names import printable
from hepgan.errors import RunError


class Chosen(NamedTuple):
    """What the options of ``run`` and ``train`` come to."""

    run: Any
    folder: Path
    device: Any
    verbose: bool


@click.command()
@TRAINING
def run(resume: bool, **options: Any) -> None:
    """Train, generate, compare with unseen events, report.

    RUN is a preset (see `hepgan presets`) or a run file.
    """
    from hepgan import pipeline as library

    chosen = _chosen(**options)
    with progress_bar(verbose=chosen.verbose) as progress:
        verdict = library.run(
            chosen.run, chosen.folder, device=chosen.device, resume=resume, progress=progress
        )
    _tell_kept(chosen.folder)
    click.echo(printable(verdict.sentence))
    click.echo(f"report: {chosen.folder / 'report.html'}")


@click.command()
@TRAINING
def train(resume: bool, **options: Any) -> None:
    """Train only: leaves the generator in the run folder."""
    from hepgan import pipeline as library

    chosen = _chosen(**options)
    with progress_bar(verbose=chosen.verbose) as progress:
        library.train(
            chosen.run, chosen.folder, device=chosen.device, resume=resume, progress=progress
        )
    if os.environ.get("RANK", "0") == "0":  # several processes, one line
        _tell_kept(chosen.folder)
        click.echo(f"trained: {chosen.folder}")


def _tell_kept(folder: Path) -> None:
    """Prints which step of the training the generator comes from."""
    from hepgan.gan.serialization import read_kept_step

    if found := read_kept_step(folder):
        warning = "warning: " if found.untrained else ""
        click.echo(f"{warning}{found}")


def _chosen(
    *,
    source: str | None,
    output: Path | None,
    seed: int | None,
    device: str,
    settings: tuple[str, ...],
    tmva: str | None,
    files: tuple[str, ...],
    tree: str | None,
    variables: tuple[str, ...],
) -> Chosen:
    """The run that is meant, its folder and device."""
    from hepgan import pipeline as library

    overrides = dict(_setting(text) for text in settings)
    if seed is not None:
        overrides["seed"] = seed
    if tmva is not None:
        return _booked(tmva, source, output, device, overrides, files, tree, variables)
    if source is None:
        raise RunError("name a preset (see hepgan presets), a run file, or give --tmva OPTIONS")
    if files or tree or variables:
        raise RunError("--files, --tree and --variables go with --tmva; write --set data.files=…")
    folder = output or Path("runs") / Path(source).stem
    return Chosen(library.load(source, overrides), folder, library.device_of(device), verbose=False)


def _booked(
    options: str,
    source: str | None,
    output: Path | None,
    device: str,
    overrides: dict[str, Any],
    files: tuple[str, ...],
    tree: str | None,
    variables: tuple[str, ...],
) -> Chosen:
    from hepgan import pipeline as library
    from hepgan.tmva import book, help_text

    if source is not None:
        raise RunError(f"'{source}' and --tmva are both given; give one of them")
    if not files:
        raise RunError("--tmva needs --files FILE.root")
    booking = book(options, files, tree=tree, variables=variables)
    logging.getLogger("hepgan").setLevel(booking.level)
    if booking.help:
        click.echo(help_text())
    chosen = library.replaced(booking.run, overrides)
    where = library.device_of(booking.device if device == "auto" else device)
    return Chosen(chosen, output or Path("runs") / "tmva", where, booking.verbose)


def _setting(text: str) -> tuple[str, Any]:
    """``train.steps=2000`` as a key and a TOML value; what is no TOML is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RunError(f"--set {text}: write KEY=VALUE, such as train.steps=2000")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"--set {key.strip()}: the value has too many digits or is nested too deep"
        ) from error

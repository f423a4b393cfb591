"""``hepgan run`` and ``hepgan train``."""

import tomllib
from pathlib import Path
from typing import Any

import click

from hepgan.cli.options import TRAINING
from hepgan.cli.progress import progress
from hepgan.errors import RunError


@click.command()
@TRAINING
def run(source: str, output: Path | None, resume: bool, **options: Any) -> None:
    """Train, generate, compare with unseen events, report.

    RUN is a preset (see `hepgan presets`) or a run file.
    """
    from hepgan import run as library

    chosen, folder, device = _chosen(source, output, **options)
    with progress() as tick:
        verdict = library.run(chosen, folder, device=device, resume=resume, tick=tick)
    click.echo(verdict.sentence)
    click.echo(f"report: {folder / 'report.html'}")


@click.command()
@TRAINING
def train(source: str, output: Path | None, resume: bool, **options: Any) -> None:
    """Train only: leaves the generator in the run folder."""
    from hepgan import run as library

    chosen, folder, device = _chosen(source, output, **options)
    with progress() as tick:
        library.train(chosen, folder, device=device, resume=resume, tick=tick)
    click.echo(f"trained: {folder}")


def _chosen(
    source: str, output: Path | None, *, seed: int | None, device: str, settings: tuple[str, ...]
) -> tuple[Any, Path, Any]:
    from hepgan import run as library

    overrides = dict(_setting(text) for text in settings)
    if seed is not None:
        overrides["seed"] = seed
    chosen = library.load(source, overrides)
    return chosen, output or Path("runs") / Path(source).stem, library.device_of(device)


def _setting(text: str) -> tuple[str, Any]:
    """``train.steps=2000`` as a key and a TOML value; what is no TOML is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RunError(f"--set {text}: write KEY=VALUE, such as train.steps=2000")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value

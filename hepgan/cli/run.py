"""``hepgan run``."""

from typing import Any

import click

from hepgan.cli.progress import progress_bar
from hepgan.cli.run_options import RUN_OPTIONS, echo_kept_step, resolve
from hepgan.data.io.names import printable


@click.command()
@RUN_OPTIONS
def run(resume: bool, **options: Any) -> None:
    """Train, generate, compare with unseen events, and write a report.

    RUN is a preset (see `hepgan presets`), a run file, or ROOT files, for which `hepgan init` proposes a run file.
    """
    from hepgan import pipeline as library

    resolved = resolve(**options)
    with progress_bar(verbose=resolved.verbose) as progress:
        evaluation = library.run(
            resolved.run, resolved.folder, device=resolved.device, resume=resume, progress=progress
        )
    echo_kept_step(resolved.folder)
    click.echo(printable(evaluation.verdict))
    click.echo(f"report: {resolved.folder / 'report.html'}")

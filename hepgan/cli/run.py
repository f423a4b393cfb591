"""``hepgan run``."""

from typing import Any

import click

from hepgan.cli.options import examples
from hepgan.cli.progress import progress_bar
from hepgan.cli.run_options import RUN_OPTIONS, echo_kept_step, resolve
from hepgan.data.io.names import printable


@click.command(
    epilog=examples(
        "hepgan run showers",
        "hepgan run mine*.root",
        "hepgan run mine.toml -o runs/first --seed 2 --set train.steps=2000",
        "hepgan run mine.toml -o runs/five --members 5",
        "hepgan run runs/first --resume",
        "hepgan run runs/first --resume --set train.steps=4000",
    )
)
@RUN_OPTIONS
def run(resume: bool, overwrite: bool, track: tuple[str, ...], **options: Any) -> None:
    """Train, generate, compare with unseen events, and write a report.

    RUN is a preset (see `hepgan presets`), a run file, a run folder, or ROOT files, for which `hepgan init` proposes a run file.
    """
    from hepgan import pipeline as library

    resolved = resolve(**options)
    with progress_bar(verbose=resolved.verbose) as progress:
        evaluation = library.run(
            resolved.run, resolved.folder,
            device=resolved.device, resume=resume, overwrite=overwrite, track=track, progress=progress,
        )  # fmt: skip
    echo_kept_step(resolved.folder)
    click.echo(printable(evaluation.verdict))
    click.echo(f"report: {resolved.folder / 'report.html'}")
    click.echo(f"generate: {library.generate_command(resolved.run, resolved.folder)}")

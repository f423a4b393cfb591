"""``hepgan scan``."""

from pathlib import Path
from typing import Any

import click

from hepgan.cli.options import DEVICE, OVERWRITE, PLUGIN, examples, executor_options, open_mapper
from hepgan.cli.progress import progress_bar
from hepgan.cli.run_options import complete_run, overrides_of

SHOWN = 10
"""Number of trials that are printed."""


@click.command(
    epilog=examples(
        "hepgan scan mine.toml --over train.r1=0.1:10:log --over train.batch_size=64:512",
        "hepgan scan mine.toml --over gan.generator='DENSE|64|LRELU, DENSE|N|LINEAR' --over gan.generator='DENSE|N|LINEAR'",
        "hepgan scan mine.toml --over 'encoding.steps[0].hidden=16:128:log' --executor futures --workers 4",
    )
)
@click.argument("source", metavar="RUN", shell_complete=complete_run)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder. [default: scans/RUN]"
)
@click.option(
    "--over", multiple=True, required=True, metavar="KEY=LOW:HIGH[:log]",
    help="Range of a value; or KEY=VALUE, repeated for each value to choose from.",
)  # fmt: skip
@click.option(
    "--trials", type=click.IntRange(1), default=30, show_default=True,
    help="Number of trainings, those of an earlier call included.",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of all trainings."
)
@OVERWRITE
@DEVICE
@PLUGIN
@executor_options("Each worker trains, and must see the folder.")
def scan(
    source: str,
    output: Path | None,
    over: tuple[str, ...],
    trials: int,
    settings: tuple[str, ...],
    overwrite: bool,
    device: str,
    executor: str | None,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Train with many settings, and write the table and the best run file.

    RUN is a preset or run file. Optuna chooses values, compares trainings by the validation score that selects their best step, and ends
    unpromising trainings early. Repeat the command to continue a scan that was stopped.
    """
    from hepgan import pipeline as library

    run = library.load(source, overrides_of(settings), import_plugins=True)
    folder = output or Path("scans") / library.stem(source)
    with open_mapper(executor, workers, scheduler) as mapper, progress_bar() as progress:
        found = library.scan(
            run, folder, over,
            trials=trials, device=device, mapper=mapper, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    for trial in found[:SHOWN]:
        values = ", ".join(f"{key} = {_shown(value)}" for key, value in trial.values.items())
        score = "" if trial.score is None else f" {trial.score:.4g}"
        click.echo(f"{trial.number:4d} {trial.state}{score}: {values} {trial.remark}".rstrip())
    click.echo(f"all {len(found)} trainings: {folder / 'scan.csv'}")
    click.echo(f"best run file: {folder / 'best.toml'}")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

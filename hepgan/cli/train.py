"""``hepgan train``."""

import os
from typing import Any

import click

from hepgan.cli.options import examples
from hepgan.cli.progress import progress_bar
from hepgan.cli.run_options import RUN_OPTIONS, echo_kept_step, resolve


@click.command(
    epilog=examples(
        "hepgan train showers -o runs/showers",
        "hepgan train runs/showers --resume",
        "torchrun --nproc-per-node 4 -m hepgan train showers-fast -o runs/fast",
    )
)
@RUN_OPTIONS
def train(resume: bool, overwrite: bool, track: tuple[str, ...], **options: Any) -> None:
    """Train only, and leave the generator in the run folder."""
    from hepgan import pipeline as library

    resolved = resolve(**options)
    with progress_bar(verbose=resolved.verbose) as progress:
        library.train(
            resolved.run, resolved.folder,
            device=resolved.device, resume=resume, overwrite=overwrite, track=track, progress=progress,
        )  # fmt: skip
    if os.environ.get("RANK", "0") == "0":  # one line, not one per process
        echo_kept_step(resolved.folder)
        click.echo(f"trained: {resolved.folder}")

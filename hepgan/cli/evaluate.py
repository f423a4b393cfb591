"""``hepgan evaluate``."""

import re
from pathlib import Path

import click

from hepgan.cli.options import (
    DEVICE,
    OVERWRITE,
    PLUGIN,
    SEED,
    examples,
    executor_options,
    open_runner,
)
from hepgan.cli.progress import progress_bar
from hepgan.data.io.names import printable


@click.command(
    epilog=examples(
        "hepgan evaluate geant4.root runs/showers/generated.root -o comparison",
        "hepgan evaluate geant4.root one.root two.root -o comparison --by energy=1,10,100 --full",
    )
)
@click.argument("reference", metavar="REFERENCE")
@click.argument("generated", metavar="GENERATED...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option(
    "--config",
    metavar="RUN",
    help="Preset, run file, run folder or its address: schema and geometry.",
)
@click.option(
    "--quick/--full",
    default=None,
    help="A small classifier, or the CaloChallenge's. [default: that of the run file, or quick]",
)
@click.option(
    "--metric", "metrics", multiple=True, help="Compute only this metric; may be repeated."
)
@click.option(
    "--observable",
    "observables",
    multiple=True,
    help="Compare only this observable; may be repeated.",
)
@click.option(
    "--by",
    multiple=True,
    metavar="CONDITION[=EDGES]",
    help="Compare slices of this condition, such as energy=1,10,50 or pdg; may be repeated.",
)
@click.option("--training", metavar="FILE", help="Training events: search for copies of them.")
@click.option(
    "--reference-weight",
    metavar="EXPR",
    help="Weights of the reference: an expression of branches.",
)
@click.option("--generated-weight", metavar="EXPR", help="Weights of the generated files.")
@click.option("--binning", metavar="FILE.xml", help="HDF5 of the CaloChallenge: its binning.")
@click.option(
    "--threshold",
    type=click.FloatRange(0),
    metavar="MEV",
    help="HDF5: set voxels below it to zero. [default: that of the challenge]",
)
@click.option(
    "--ensemble",
    is_flag=True,
    help="The generated files, or the members in one, are trainings of one GAN: draw their band.",
)
@click.option(
    "--member", type=click.IntRange(0), help="Compare only the generated events of this member."
)
@click.option(
    "--max-events",
    type=click.IntRange(1),
    metavar="N",
    help="Compare at most N events of each file, evenly spaced. [default: those that fit into 4 GB]",
)
@click.option(
    "--seed", type=SEED, default=1, show_default=True,
    help="Seed of resampling, splits and classifiers.",
)  # fmt: skip
@executor_options("Workers read the files; scores and classifiers are computed here.")
@OVERWRITE
@PLUGIN
@DEVICE
def evaluate(
    reference: str,
    generated: tuple[str, ...],
    output: Path,
    config: str | None,
    quick: bool | None,
    metrics: tuple[str, ...],
    observables: tuple[str, ...],
    by: tuple[str, ...],
    training: str | None,
    reference_weight: str | None,
    generated_weight: str | None,
    binning: str | None,
    threshold: float | None,
    ensemble: bool,
    member: int | None,
    max_events: int | None,
    seed: int,
    executor: str | None,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    device: str,
) -> None:
    """Compare generated events, from hepgan or any other generator, with a reference.

    REFERENCE and GENERATED are ROOT files, or HDF5 files of the CaloChallenge with their --binning.
    """
    from hepgan import pipeline as library

    names = _names(generated)
    with progress_bar() as progress, open_runner(executor, workers, scheduler) as runner:
        evaluation = library.evaluate(
            reference, names, output,
            seed=seed, config=config, quick=quick, metrics=metrics, observables=observables, by=by, training=training,
            weights=(reference_weight, generated_weight), binning=binning, threshold=threshold, ensemble=ensemble, member=member,
            max_events=max_events, overwrite=overwrite, device=library.resolve_device(device), runner=runner, progress=progress,
        )  # fmt: skip
    click.echo(printable(evaluation.verdict))
    click.echo(f"report: {output / 'report.html'}")


def _names(files: tuple[str, ...]) -> dict[str, str]:
    """Returns a name for each file, or tree of a file: the shortest end of its path that is unique and not "reference"."""
    stems = (re.sub(r"\.(root|hdf5|h5|hdf)$", "", file.replace(".root:", "/")) for file in files)
    paths = [Path(stem).parts for stem in stems]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names) and "reference" not in names:
            return dict(zip(names, files, strict=True))
    if len(set(files)) < len(files):
        raise click.UsageError("a generated file is given twice")
    return {f"generated {name}": file for name, file in zip(names, files, strict=True)}

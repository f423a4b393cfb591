"""From a trained GAN, or from any ROOT files, to generated events, scores and a report."""

import datetime as dt
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch

from hepgan.data.io import inspection, reader, writer
from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan import serialization
from hepgan.gan.conditions import Condition
from hepgan.gan.devices import device_of
from hepgan.gan.model import GAN
from hepgan.gan.networks import count_parameters
from hepgan.gan.training import distributed, history
from hepgan.pipeline.config import EvaluateSettings, RunConfig, load, presets
from hepgan.pipeline.training import (
    check_folder,
    cpu_threads,
    make_folder,
    train_locked,
)
from hepgan.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from hepgan.evaluation.metrics.scores import SkippedMetric
    from hepgan.evaluation.report.evaluation import Evaluation
    from hepgan.processors.executors import RunProcessor


COMPRESSION = 50
"""Files of showers, most of whose cells are zero, are smaller than their events by less than this factor."""


def generate(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    n: int | None = None,
    seed: int,
    conditions: Mapping[str, Condition] | None = None,
    conditions_from: str | None = None,
    device: torch.device | str = "auto",
    progress: ProgressCallback = no_progress,
) -> int:
    """Events of the GAN in ``folder`` as a ROOT file with the tree, branches and types that it was trained on.

    Args:
        folder: Of a run that has been trained.
        output: A new ROOT file.
        n: How many events; not needed with ``conditions_from``.
        seed: The same seed gives the same events on the same device.
        conditions: As in ``GAN.sample``.
        conditions_from: A ROOT file with the conditions' branches; an event is made for each of its first ``n`` entries.
        device: Where.
        progress: Progress callback.

    Returns:
        How many events were written.

    Raises:
        HepganError: no GAN there, the file exists, or the conditions do not fit.
    """
    gan, tree = serialization.load_gan(folder, device=device_of(str(device)))
    given: dict[str, Condition] = dict(conditions or {})
    if conditions_from:
        found = _read_conditions(conditions_from, gan.encoding.schema, n)
        if twice := set(given) & set(found):
            raise DataError(
                f"the condition '{min(twice)}' is given twice: by a value and by {conditions_from}"
            )
        given, n = given | found, None
    total = n or max((len(v) for v in given.values() if isinstance(v, np.ndarray)), default=0)
    _check_space(Path(output), total, gan.encoding.schema)
    writer.write(
        output,
        _counted(gan.sample_blocks(given, n=n, seed=seed), total, progress),
        gan.encoding.schema,
        tree=tree,
    )
    return total


def _check_space(output: Path, events: int, schema: Schema) -> None:
    """Refuses a file that cannot fit on the disk however well it compresses.

    Raises:
        RunError: there is too little space.
    """
    event = sum(f.size * np.dtype(f.dtype or "float32").itemsize for f in schema.all.values())
    folder = output.absolute().parent
    if not folder.is_dir():
        return  # the writer says so
    free = shutil.disk_usage(folder).free
    if events * event > COMPRESSION * free:
        raise RunError(
            f"{events:,} events are {events * event / 1e12:,.3g} TB before compression, but {folder} has"
            f" {free / 1e12:,.3g} TB free; generate fewer, or into several files"
        )


def _read_conditions(
    file: str, schema: Schema, n: int | None
) -> dict[str, npt.NDArray[np.float64]]:
    if not schema.conditions:
        raise DataError("the GAN takes no conditions; leave out --conditions-from")
    events = reader.read(file, Schema(schema.conditions), entry_stop=n)
    if n and len(events) < n:
        raise DataError(
            f"{file} has {len(events):,} entries, fewer than the {n:,} events asked for"
        )
    return {
        name: np.asarray(ak.to_numpy(events[name]), dtype=np.float64) for name in schema.conditions
    }


def _counted(
    parts: Iterator[ak.Array], total: int, progress: ProgressCallback
) -> Iterator[ak.Array]:
    done = 0
    for part in parts:
        yield part
        done += len(part)
        progress("generating", done / max(total, 1), f"{done:,} events")


def evaluate(
    reference: str,
    generated: Mapping[str, str],
    folder: str | os.PathLike[str],
    *,
    seed: int,
    config: str | None = None,
    quick: bool = False,
    weights: tuple[str | None, str | None] = (None, None),
    device: torch.device | str = "auto",
    job: "RunProcessor | None" = None,
    progress: ProgressCallback = no_progress,
) -> "Evaluation":
    """Compares ROOT files with a reference file and leaves ``report.html``, ``scores.json``, histograms and ``plots/`` in ``folder``.

    Schema and geometry come from the run file ``config``; without one from ``run.toml`` beside the first generated file, from
    the first preset that fits the reference, or else from the reference's own branches. The report says which. Fields that a
    file lacks are left out of the comparison, and the report says so too.

    Args:
        reference: A ROOT file of events that training never saw.
        generated: ROOT files by name of sample.
        folder: A new folder, or an empty one.
        seed: Of resampling, splits and classifiers.
        config: A preset or a run file.
        quick: A small classifier, trained once, instead of the CaloChallenge's, trained three times.
        weights: Expressions of branches that weight the reference's and the generated events.
        device: Where classifiers are trained.
        job: What ``processors.open_runner`` gives: workers read the files, chunk by chunk. The result is the same.
        progress: Progress callback.

    Raises:
        HepganError: a file cannot be read, the files have no field in common, or the folder is not empty.
    """
    from hepgan.evaluation import cleaning  # here, so that training alone need not load it

    folder, device = Path(folder), device_of(str(device))
    check_folder(folder, None)
    chosen = _choose_schema(reference, generated, config)
    schema = chosen.schema
    files = {"reference": reference, **generated}
    samples: dict[str, ak.Array] = {}
    skipped: list[SkippedMetric] = cleaning.unreadable(chosen.unreadable)
    if any(weights):
        schema = cleaning.without_weight(schema, skipped)
    progress("reading", 0.0, "")
    for name, path in files.items():
        there, lacking = cleaning.available_schema(path, schema, source=name)
        samples[name] = _read(path, there, weights[name != "reference"], job)
        skipped += lacking
    settings, events = EvaluateSettings(quick, chosen.digits), samples.pop("reference")
    about: dict[str, Any] = {
        "files": {n: cleaning.file_fingerprints(path) for n, path in files.items()}
    }
    about["schema and geometry"] = chosen.source
    about |= provenance(seed, device)
    make_folder(folder)
    return _judged(
        events,
        samples,
        schema,
        chosen.geometry,
        folder,
        settings,
        seed,
        about,
        device,
        progress,
        skipped,
    )


def _read(path: str, schema: Schema, weight: str | None, job: "RunProcessor | None") -> ak.Array:
    """Events with values that may be NaN, for ``evaluate.common.clean`` to name and leave out."""
    if job is None:
        return reader.read(path, schema, weight=weight, check=False)
    from hepgan.processors import collect, fileset_of  # here: not everybody has coffea

    return collect(fileset_of(path), job, schema, weight=weight, check=False)


class _Chosen(NamedTuple):
    """Schema and geometry of the files to compare, whether they hold MNIST's digits, which run file says so, and the branches that cannot be read."""

    schema: Schema
    geometry: Mapping[str, LayerGeometry]
    digits: bool
    source: str
    unreadable: Mapping[str, str] = MappingProxyType({})


def _choose_schema(reference: str, generated: Mapping[str, str], config: str | None) -> _Chosen:
    beside = Path(next(iter(generated.values()))).parent / "run.toml"
    if config or beside.is_file():
        run = load(config or beside)
        return _Chosen(run.schema, run.geometry, run.evaluate.digits, str(config or beside))
    with reader.first_tree(reference) as first:
        for name in presets():
            preset = load(name)
            try:
                schema = first.resolve(preset.schema)
            except DataError:
                continue
            source = f"the preset {name}, whose branches the reference has (--config names another)"
            return _Chosen(schema, preset.geometry, preset.evaluate.digits, source)
        path, tree = first.source
    (summary,) = inspection.inspect(path, tree=tree)
    found = inspection.propose_fields(summary)
    others = {**found.conditions, **found.weights}
    fields = {name: field for name, field in found.readable.items() if name not in others}
    if not found.readable:
        unreadable = f", and {len(found.unreadable)} cannot be read" if found.unreadable else ""
        raise DataError(
            f"no branch of tree '{tree}' of '{path}' holds numbers that could be compared{unreadable}; "
            f"hepgan inspect '{path}' lists them"
        )
    schema = Schema(fields or others, others if fields else {})
    source = "the reference's branches, without a geometry (--config names a run file with one)"
    return _Chosen(schema, {}, digits=False, source=source, unreadable=found.unreadable)


def run(
    run: RunConfig,
    folder: str | os.PathLike[str],
    *,
    device: torch.device | str = "auto",
    resume: bool = False,
    progress: ProgressCallback = no_progress,
) -> "Evaluation":
    """The whole way: ``train``, then an event generated for each test event, and the two compared.

    Beside what ``train`` leaves, ``folder`` gets ``generated.root``, ``scores.json``, ``plots/`` and ``report.html``.

    Raises:
        HepganError: as ``train``.
    """
    if distributed.launched_processes() > 1:
        raise RunError(
            "several processes only train: torchrun … -m hepgan train, then hepgan run --resume with the same folder"
        )
    folder, device = Path(folder), device_of(str(device))
    with ExitStack() as held, cpu_threads(run.threads):
        gan, prepared = train_locked(
            run, folder, held, device=device, resume=resume, progress=progress
        )
        reference, schema = prepared.splits["test"], gan.encoding.schema
        given = {name: ak.to_numpy(reference[name]) for name in schema.conditions}
        parts = gan.sample_blocks(given, n=len(reference), seed=run.seed)
        blocks = list(_counted(parts, len(reference), progress))
        writer.write(
            folder / "generated.root", blocks, schema, tree=prepared.tree, overwrite=resume
        )
        return _judged(
            reference, {"generated": ak.concatenate(blocks)}, schema, run.geometry, folder,
            run.evaluate, run.seed, provenance(run.seed, device) | about_gan(run, gan), device, progress,
            warnings=[str(gan.kept)] if gan.kept and gan.kept.untrained else [],
        )  # fmt: skip


def _judged(
    reference: ak.Array,
    samples: Mapping[str, ak.Array],
    schema: Schema,
    geometry: Mapping[str, LayerGeometry],
    folder: Path,
    settings: EvaluateSettings,
    seed: int,
    about: Mapping[str, Any],
    device: torch.device,
    progress: ProgressCallback,
    skipped: Sequence["SkippedMetric"] = (),
    *,
    warnings: Sequence[str] = (),
) -> "Evaluation":
    from hepgan.evaluation import evaluate  # here: it pulls in matplotlib

    verdict: Evaluation = evaluate(
        reference, samples, schema, geometry, folder,
        seed=seed, quick=settings.quick, provenance=about, history=history.read(folder),
        device=str(device), digits=settings.digits, skipped=skipped, warnings=warnings,
        progress=progress,
    )  # fmt: skip
    return verdict


def provenance(seed: int, device: torch.device) -> dict[str, str]:
    """What a report says of how it came about."""
    packages = ("hepgan", "torch", "numpy", "awkward", "uproot", "hist")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "seed": str(seed),
        "device": f"{device} {name}".strip(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def about_gan(run: RunConfig, gan: GAN) -> dict[str, str]:
    """What a report says of the GAN and its training."""
    counts = count_parameters(run.gan, gan.encoding, seen=gan.seen)
    generator, discriminator = run.gan.layouts
    return {
        "data": ", ".join(run.data.files),
        "generator": f"{generator} ({counts['generator']:,} parameters)",
        "discriminator": f"{discriminator} ({counts['discriminator']:,} parameters)",
        **_about_energies(run),
        "objective": run.train.objective,
        "steps": f"{run.train.steps:,} of {run.train.batch_size} events",
        **({"validation": str(gan.kept)} if gan.kept else {}),
    }


def _about_energies(run: RunConfig) -> dict[str, str]:
    """The first stage's networks, where there is one; their parameters are counted with the others."""
    stage = run.gan.energies
    if stage is None:
        return {}
    kept = "the noise, as the encoding has it"
    networks = {"generator": stage.generator or kept, "discriminator": stage.discriminator}
    return {f"{name} of energies": layout for name, layout in networks.items() if layout}

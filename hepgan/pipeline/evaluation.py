"""Evaluation of ROOT files against a reference: scores, plots and a report."""

import dataclasses
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import awkward as ak
import numpy as np
import torch

from hepgan.data.convert import calochallenge
from hepgan.data.io import inspection, reader
from hepgan.data.io.chunks import evenly_spaced
from hepgan.data.io.files import sources
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.evaluation.metrics.ensembles import MIN_SAMPLES
from hepgan.evaluation.metrics.scores import OVERALL, SkippedMetric
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.observables.shower_profile import evaluated_observables
from hepgan.evaluation.observables.standard import select_observables
from hepgan.gan import sources as gan_sources
from hepgan.gan.devices import resolve_device
from hepgan.gan.members import MEMBER, member_name
from hepgan.pipeline.config import EvaluateSettings, load
from hepgan.pipeline.provenance import provenance, read_training, with_sha256
from hepgan.pipeline.run_folder import REPORT, check_report_folder, clear_folder, make_folder
from hepgan.presets import presets
from hepgan.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from hepgan.evaluation.report.evaluation import Evaluation
    from hepgan.processors.executors import RunProcessor

log = logging.getLogger(__name__)

MAX_VALUES = 10**9
"""Largest number of values of a sample that are read by default: 4 GB in single precision, 24,000 of the largest published showers."""


def evaluate(
    reference: str,
    generated: Mapping[str, str],
    folder: str | os.PathLike[str],
    *,
    seed: int = 1,
    config: str | None = None,
    quick: bool | None = None,
    metrics: Sequence[str] = (),
    observables: Sequence[str] = (),
    by: Sequence[str] = (),
    training: str | None = None,
    weights: tuple[str | None, str | None] = (None, None),
    binning: str | None = None,
    threshold: float | None = None,
    ensemble: bool = False,
    member: int | None = None,
    max_events: int | None = None,
    overwrite: bool = False,
    device: torch.device | str = "auto",
    runner: "RunProcessor | None" = None,
    progress: ProgressCallback = no_progress,
) -> "Evaluation":
    """Evaluates ROOT files, or HDF5 files of the CaloChallenge, against a reference file and writes ``report.html``, ``scores.json``, histograms and ``plots/`` to ``folder``.

    Schema, geometry and the table ``[evaluate]`` come from the run file ``config``, or else from ``run.toml`` next to the first generated file, from
    the first preset that fits the reference, or from the reference's own branches. The report names the source, and the fields
    that a file lacks, which are not compared. HDF5 files need the challenge's ``binning``, which is then the source of both.

    Args:
        reference: A ROOT file of events that training never saw, or an HDF5 file or glob.
        generated: The same by name of the sample.
        folder: A new folder, or an empty one.
        seed: Seed of resampling, splits and classifiers.
        config: A preset, a run file, a run folder or its address.
        quick: Whether to use a small classifier, trained once, instead of the CaloChallenge's, trained three times; overrides
            the run file.
        metrics: Names of the metrics to compute; overrides the run file.
        observables: Names of the observables to compare; overrides the run file.
        by: Conditions whose slices are compared, ``pdg`` or ``energy=1,10,50``; overrides the run file.
        training: A ROOT file of the events that the generator was trained on, in which copies are searched.
        weights: Expressions of branches that weight the reference's and the generated events.
        binning: The CaloChallenge's binning XML.
        threshold: Energy below which voxels of HDF5 files are set to zero [MeV]; by default that of the challenge's data set.
        ensemble: Whether the generated files are those of several trainings of one GAN, whose band is drawn; a single file is divided
            by its branch ``member``.
        member: Compare only the generated events of this ``member``.
        max_events: Largest number of events of each sample, evenly spaced over its entries; by default as many as hold 10⁹ values,
            4 GB in single precision.
        overwrite: Whether to replace an evaluation in ``folder``.
        device: Device on which classifiers are trained.
        runner: The runner that ``processors.open_runner`` yields: workers read the files chunk by chunk. The result is the same.
        progress: Progress callback.

    Raises:
        HepganError: a file cannot be read, the files have no field in common, or the folder is not empty.
    """
    from hepgan.evaluation import cleaning  # imported here: training does not need it

    folder, device = Path(folder), resolve_device(str(device))
    check_report_folder(folder, overwrite=overwrite)
    parts = {name: (path, member) for name, path in generated.items()}
    if ensemble and len(parts) == 1 and member is None:
        ((name, path),) = generated.items()
        parts = _members(name, path)
    if ensemble and len(parts) < MIN_SAMPLES:
        raise DataError(
            f"an ensemble needs {MIN_SAMPLES} generated files, or one with a branch '{MEMBER}' of as many members, but there are {len(parts)};"
            " omit --ensemble"
        )
    voxels = _voxels([reference, *generated.values()], binning, threshold)
    compared = voxels.compared(config) if voxels else _choose_schema(reference, generated, config)
    settings = dataclasses.replace(
        compared.settings,
        quick=compared.settings.quick if quick is None else quick,
        metrics=tuple(metrics) or compared.settings.metrics,
        observables=tuple(observables) or compared.settings.observables,
        by=tuple(by) or compared.settings.by,
    )
    select_observables(
        evaluated_observables(compared.schema, compared.geometry), settings.observables
    )
    if compared.weight and not weights[0]:
        log.warning(
            "%s weights the events with '%s', but the reference is compared without weights; pass --reference-weight unless it is"
            " unweighted",
            compared.source,
            compared.weight,
        )
    skipped = cleaning.skipped_fields(compared.unreadable, source="reference")
    schema = compared.schema
    if any(weights):
        schema = cleaning.without_weight(schema, skipped)
    progress("reading", 0.0, "")
    inputs = _SampleReader(schema, voxels, runner, max_events, skipped)
    events = inputs.read("reference", reference, weights[0])
    samples = {
        name: inputs.read(name, path, weights[1], number) for name, (path, number) in parts.items()
    }
    known = None if training is None else inputs.read("training", training, None)
    files = {"reference": reference, **generated}
    origin: dict[str, Any] = {"files": {name: with_sha256(path) for name, path in files.items()}}
    origin["schema and geometry"] = compared.source
    origin |= provenance(seed, device)
    make_folder(folder)
    clear_folder(folder, REPORT)
    return evaluate_samples(
        events,
        samples,
        schema,
        compared.geometry,
        folder,
        settings,
        seed,
        origin,
        device,
        progress,
        skipped,
        training=known,
        title=f"{', '.join(generated)} compared with {Path(reference).name}",
        trained=Path(next(iter(generated.values()))).parent,
        ensemble=ensemble,
    )


class _SampleReader(NamedTuple):
    """Reader of the samples to compare, in bounded memory.

    Attributes:
        schema: Fields and conditions to read.
        voxels: Binning of HDF5 files.
        runner: Runner whose workers read ROOT files.
        max_events: Largest number of events of a sample; by default as many as hold ``MAX_VALUES`` values.
        skipped: Receives the fields that a sample lacks, and the number of events that are left out.
    """

    schema: Schema
    voxels: "_Voxels | None"
    runner: "RunProcessor | None"
    max_events: int | None
    skipped: "list[SkippedMetric]"

    def read(self, name: str, path: str, weight: str | None, member: int | None = None) -> ak.Array:
        """Returns the events of one sample, or of one ``member`` of it; values may be NaN, which the evaluation names and drops."""
        from hepgan.evaluation import cleaning

        if self.voxels and _is_hdf5(path):
            _no_weight(path, weight)
            if member is not None:
                raise DataError(f"'{path}' has no branch '{MEMBER}'; give a ROOT file")
            files = _paths(path)
            number = self._number(name, calochallenge.num_showers(files), self.schema)
            return calochallenge.read_showers(
                files, self.voxels.layers, threshold=self.voxels.threshold, max_events=number
            )
        reasons = cleaning.skipped_fields(reader.missing_fields(path, self.schema), source=name)
        self.skipped.extend(reasons)
        lost = {skip.observable for skip in reasons}
        schema = cleaning.drop_fields(self.schema, lost, reasons)
        if member is not None:
            return self._of_member(name, path, schema, weight, member)
        total = sum(reader.num_entries(path).values())
        number = self._number(name, total, schema)
        if self.runner is not None:
            from hepgan.processors import collect, fileset_of  # coffea is optional

            events = collect(fileset_of(path), self.runner, schema, weight=weight, check=False)
            return events if number >= total else events[evenly_spaced(range(total), number, total)]
        if number >= total:
            return reader.read(path, schema, weight=weight, check=False)
        return _read_evenly(path, schema, weight, number, total)

    def _of_member(
        self, name: str, path: str, schema: Schema, weight: str | None, member: int
    ) -> ak.Array:
        cut = f"{MEMBER} == {member}"
        if self.runner is not None:
            from hepgan.processors import collect, fileset_of  # coffea is optional

            events = collect(
                fileset_of(path), self.runner, schema, cut=cut, weight=weight, check=False
            )
        else:
            events = reader.read(path, schema, cut=cut, weight=weight, check=False)
        total = len(events)
        return events[evenly_spaced(range(total), self._number(name, total, schema), total)]

    def _number(self, name: str, total: int, schema: Schema) -> int:
        """Returns the number of events to read; those left out are appended to ``skipped``."""
        values = sum(math.prod(field.shape) for field in schema.all.values())
        number = self.max_events or max(1, MAX_VALUES // values)
        if number < total:
            reason = f"{number:,} of {total:,} are compared, evenly spaced over the file; --max-events changes their number"
            self.skipped.append(SkippedMetric("events", OVERALL, reason, name))
        return number


def _members(name: str, path: str) -> dict[str, tuple[str, int | None]]:
    """Returns the samples of the members in the generated file ``path``: the file and the number of the member by name; the file alone without its branch.

    Raises:
        DataError: the file cannot be read.
    """
    schema = Schema({MEMBER: Field()})
    if _is_hdf5(path) or reader.missing_fields(path, schema):
        return {name: (path, None)}
    numbers = np.unique(ak.to_numpy(reader.read(path, schema)[MEMBER]))
    return {member_name(number): (path, number) for number in map(int, numbers)}


def _read_evenly(
    path: str, schema: Schema, weight: str | None, number: int, total: int
) -> ak.Array:
    """Returns ``number`` of the ``total`` events of a file, evenly spaced."""
    options, start, parts = reader.ReadOptions(weight=weight, check=False), 0, []
    for chunk in reader.iterate(path, schema, options=options):
        span = range(start, start + len(chunk.events))
        parts.append(chunk.events[evenly_spaced(span, number, total) - start])
        start = span.stop
    return ak.concatenate(parts)


class _Voxels(NamedTuple):
    """The CaloChallenge's binning of HDF5 files.

    Attributes:
        layers: Layers of voxels.
        threshold: Energy below which voxels are set to zero [MeV].
        binning: Path of the XML file.
    """

    layers: Sequence[calochallenge.Layer]
    threshold: float
    binning: str

    def compared(self, config: str | None) -> "_ComparedSchema":
        """Returns the schema and geometry of the binning, with the table ``[evaluate]`` of a run file."""
        geometry = {
            layer.field: LayerGeometry(r_edges=layer.edges, number=float(layer.number))
            for layer in self.layers
        }
        voxels = sum(layer.size for layer in self.layers)
        source = (
            f"{with_sha256(self.binning)}: {len(self.layers)} layers, {voxels:,} voxels; voxels of HDF5 files below"
            f" {self.threshold:.4g} MeV are set to zero"
        )
        settings = load(gan_sources.local_folder(config)).evaluate if config else EvaluateSettings()
        return _ComparedSchema(calochallenge.schema_of(self.layers), geometry, settings, source)


def _voxels(files: Sequence[str], binning: str | None, threshold: float | None) -> _Voxels | None:
    """Returns the binning of the HDF5 files; ``None`` if there are none.

    Raises:
        DataError: there are HDF5 files, but no binning, or the reverse; a file is missing or does not match.
    """
    first = next(filter(_is_hdf5, files), None)
    if first is None:
        if binning or threshold is not None:
            raise DataError("--binning and --threshold are for HDF5 files, but none is given")
        return None
    if binning is None:
        raise DataError(
            f"'{first}' needs the binning of its voxels; give the CaloChallenge's XML file with --binning"
        )
    layers = calochallenge.layers_of(_paths(first)[0], Path(binning))
    default = calochallenge.readout_threshold(layers)
    return _Voxels(layers, default if threshold is None else threshold, binning)


def _is_hdf5(path: str) -> bool:
    return Path(path).suffix.lower() in {".hdf5", ".h5", ".hdf"}


def _paths(files: str) -> list[Path]:
    return [Path(source.path) for source in sources(files)]


def _no_weight(path: str, weight: str | None) -> None:
    if weight:
        raise DataError(f"'{path}' has no branches for the weight '{weight}'; give a ROOT file")


class _ComparedSchema(NamedTuple):
    """Schema and geometry of the files to compare.

    Attributes:
        schema: Fields and conditions.
        geometry: Geometry of the layers.
        settings: The table ``[evaluate]``.
        source: Run file or preset that they come from.
        unreadable: Branches that cannot be read, and why.
        weight: Weight of the events in the run file.
    """

    schema: Schema
    geometry: Mapping[str, LayerGeometry]
    settings: EvaluateSettings
    source: str
    unreadable: Mapping[str, str] = MappingProxyType({})
    weight: str | None = None


def _choose_schema(
    reference: str, generated: Mapping[str, str], config: str | None
) -> _ComparedSchema:
    beside = Path(next(iter(generated.values()))).parent / "run.toml"
    if config or beside.is_file():
        run = load(gan_sources.local_folder(config) if config else beside)
        source = str(config or beside)
        return _ComparedSchema(
            run.schema, run.geometry, run.evaluate, source, weight=run.data.weight
        )
    with reader.first_tree(reference) as first:
        for name in presets():
            preset = load(name)
            try:
                schema = first.resolve(preset.schema)
            except DataError:
                continue
            source = f"the preset {name}, whose branches the reference has (choose another with --config)"
            return _ComparedSchema(schema, preset.geometry, preset.evaluate, source)
        path, tree = first.source
    (summary,) = inspection.inspect(path, tree=tree)
    proposal = inspection.propose_fields(summary)
    others = {**proposal.conditions, **proposal.weights}
    fields = {name: field for name, field in proposal.readable.items() if name not in others}
    if not proposal.readable:
        count = len(proposal.unreadable)
        unreadable = f", and {count} cannot be read" if count else ""
        raise DataError(
            f"no branch of the tree '{tree}' of '{path}' holds numbers to compare{unreadable}; "
            f"hepgan inspect '{path}' lists them"
        )
    schema = Schema(fields or others, others if fields else {})
    source = "the reference's branches, without a geometry (choose a run file with --config)"
    return _ComparedSchema(schema, {}, EvaluateSettings(), source, proposal.unreadable)


def evaluate_samples(
    reference: ak.Array,
    samples: Mapping[str, ak.Array],
    schema: Schema,
    geometry: Mapping[str, LayerGeometry],
    folder: Path,
    settings: EvaluateSettings,
    seed: int,
    origin: Mapping[str, Any],
    device: torch.device,
    progress: ProgressCallback,
    skipped: Sequence["SkippedMetric"] = (),
    *,
    training: ak.Array | None = None,
    title: str = "Generated and reference events",
    trained: Path | None = None,
    facts: Mapping[str, str] = MappingProxyType({}),
    ensemble: bool = False,
    warnings: Sequence[str] = (),
) -> "Evaluation":
    """Evaluates samples that have been read, and writes the report; ``facts`` on the training join those of the run folder ``trained``."""
    from hepgan.evaluation import evaluate  # imported here: it imports matplotlib

    evaluation: Evaluation = evaluate(
        reference, samples, schema=schema, geometry=geometry, seed=seed, quick=settings.quick,
        metrics=settings.metrics, observables=settings.observables, by=settings.by, training=training,
        device=str(device), digits=settings.digits, skipped=skipped, progress=progress,
    )  # fmt: skip
    record = read_training(trained or folder)
    evaluation.write(
        folder,
        title=title,
        provenance={**origin, **record.origin},
        history=record.history,
        kept=record.kept,
        training={**record.facts, **facts},
        warnings=warnings,
        ensemble=ensemble,
        progress=progress,
    )
    return evaluation

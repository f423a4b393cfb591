"""Evaluation of generated samples against a reference: histograms, scores and verdicts, and the report.

``metrics.verdict`` describes the rule of the verdict.
"""

import dataclasses
import html
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import torch
from hist import Hist

from hepgan.atomic import os_errors_as_run_error
from hepgan.data.io.histograms import write_histograms
from hepgan.data.io.names import is_text, printable
from hepgan.data.schema import Schema
from hepgan.errors import DataError
from hepgan.evaluation import cleaning, histograms
from hepgan.evaluation.metrics import compute
from hepgan.evaluation.metrics.conditions import (
    ConditionCorrelation,
    ConditionResponse,
    conditions_of,
)
from hepgan.evaluation.metrics.context import MetricContext
from hepgan.evaluation.metrics.ensembles import ensemble_bands
from hepgan.evaluation.metrics.scores import (
    OVERALL,
    MetricResults,
    Scores,
    SkippedMetric,
    check_metrics,
)
from hepgan.evaluation.metrics.slices import SliceScore
from hepgan.evaluation.metrics.verdict import SampleEvaluation, evaluate_sample
from hepgan.evaluation.metrics.worth import Worth
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.observables.shower_profile import evaluated_observables
from hepgan.evaluation.observables.standard import (
    Observable,
    select_observables,
)
from hepgan.evaluation.profiles import Correlations, correlations
from hepgan.evaluation.report import figures, page, tables
from hepgan.evaluation.report.tables import Judged, Table
from hepgan.evaluation.sample import Sample, build_sample
from hepgan.progress import ProgressCallback, no_progress


class Comparison(NamedTuple):
    """Data from which the figures of a report are drawn.

    Attributes:
        samples: Reference and generated samples by name.
        schema: Fields and conditions that all samples have.
        observables: Observables by name.
        results: Results of the metrics by generated sample.
        geometry: Geometry of the layers.
        digits: Whether the events are MNIST's digits.
        seed: Seed of resampling.
        seconds: Time that the comparison took [s].
    """

    samples: Mapping[str, Sample]
    schema: Schema
    observables: Mapping[str, Observable]
    results: Mapping[str, MetricResults]
    geometry: Mapping[str, LayerGeometry]
    digits: bool
    seed: int
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of ``evaluate``.

    Attributes:
        samples: Verdict on each generated sample.
        scores: All scores.
        skipped: Metrics and fields that are missing, and the reasons.
        histograms: Histograms by observable.
        comparison: Data from which ``write`` draws the figures.
    """

    samples: Mapping[str, SampleEvaluation]
    scores: Scores
    skipped: Sequence[SkippedMetric]
    histograms: "Mapping[str, Hist[Any]]"
    comparison: Comparison

    @property
    def distinguishable(self) -> bool:
        """True if any generated sample can be distinguished from the reference."""
        return any(sample.distinguishable for sample in self.samples.values())

    @property
    def slices(self) -> dict[str, Sequence[SliceScore]]:
        """Scores in slices of the conditions, by generated sample."""
        return {name: one.slices for name, one in self.comparison.results.items()}

    @property
    def condition_correlations(self) -> dict[str, Sequence[ConditionCorrelation]]:
        """Correlations of observables with conditions, by generated sample."""
        return {name: one.condition_correlations for name, one in self.comparison.results.items()}

    @property
    def condition_responses(self) -> dict[str, Sequence[ConditionResponse]]:
        """Strength with which generated events follow each condition, by generated sample."""
        return {name: one.condition_responses for name, one in self.comparison.results.items()}

    @property
    def worth(self) -> dict[str, Sequence[Worth]]:
        """Worth in events of the reference, by generated sample."""
        return {name: one.worth for name, one in self.comparison.results.items()}

    @property
    def verdict(self) -> str:
        """The verdicts in words, one sentence per generated sample."""
        return " ".join(sample.sentence for sample in self.samples.values())

    def __repr__(self) -> str:
        return f"{self.verdict}\n{self.scores.overall!r}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(printable(self.verdict))}</p>{self.scores.overall._repr_html_()}"

    def write(
        self,
        folder: Path | str,
        *,
        title: str = "Generated and reference events",
        provenance: Mapping[str, Any] | None = None,
        history: Sequence[Mapping[str, Any]] = (),
        kept: int | None = None,
        training: Mapping[str, str] | None = None,
        warnings: Sequence[str] = (),
        ensemble: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> Path:
        """Writes ``report.html``, ``scores.json``, ``histograms.json`` (UHI), ``histograms.root`` and ``plots/``.

        Args:
            folder: Created if it does not exist.
            title: Title of the page.
            provenance: Versions, files, hardware and so on for the end of the page.
            history: Rows of a training history, for the loss curves.
            kept: Training step whose weights were kept, marked in the curves.
            training: Facts on the training, by name.
            warnings: Sentences above the verdicts.
            ensemble: Whether the samples are those of several trainings of one GAN, whose band is drawn.
            progress: Progress callback.

        Returns:
            The path of the page.

        Raises:
            RunError: a file cannot be written; existing files remain complete.
            DataError: an ensemble has fewer than three samples.
        """
        folder, started, data = Path(folder), time.perf_counter(), self.comparison
        with os_errors_as_run_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
        histograms.save_histograms(folder / "histograms.json", self.histograms)
        write_histograms(folder / "histograms.root", self.histograms)
        correlated = correlations(
            data.samples, [n for n, o in data.observables.items() if not o.spectrum]
        )
        subject = figures.Subject(
            data.samples, data.schema, data.observables, self.histograms, data.results,
            self._judged.ranking, history, kept=kept, geometry=data.geometry, correlations=correlated, digits=data.digits, seed=data.seed,
            bands=ensemble_bands(self.histograms) if ensemble else {},
        )  # fmt: skip
        drawn = figures.draw(subject, progress=progress)
        seconds = data.seconds + time.perf_counter() - started
        verdicts = [(sample.distinguishable, sample.sentence) for sample in self.samples.values()]
        return page.write_report(
            folder,
            title=title,
            verdicts=[*((True, warning) for warning in warnings), *verdicts],
            scores=self.scores,
            skipped=self.skipped,
            pictures=drawn,
            samples=self.samples,
            results=data.results,
            provenance={**(provenance or {}), "time": f"{seconds:.0f} s to compare and draw"},
            tables=self._tables(correlated),
            training=training,
        )

    @property
    def _judged(self) -> Judged:
        """Scores and verdicts, for tables."""
        data = self.comparison
        units = {name: observable.unit for name, observable in data.observables.items()}
        return Judged(self.scores, self.samples, data.results, units)

    def _tables(self, correlated: Correlations | None) -> list[Table]:
        """Returns the tables of the report."""
        judged = self._judged
        every = [
            *tables.verdict_tables(judged, figures.VERDICT),
            tables.scores_table(judged, figures.SCORES),
            tables.worth_table(judged, figures.WORTH),
            tables.observables_table(judged, figures.OBSERVABLES),
            *tables.condition_tables(judged, figures.SLICES),
            tables.telling_table(judged, figures.TELLING),
        ]
        if correlated:
            every.append(
                tables.correlation_table(correlated.differences, judged, figures.CORRELATIONS)
            )
        return [table for table in every if table]


def evaluate(
    reference: ak.Array,
    generated: ak.Array | Mapping[str, ak.Array],
    *,
    schema: Schema,
    geometry: Mapping[str, LayerGeometry] | None = None,
    observables: Sequence[str] | Mapping[str, Observable] = (),
    metrics: Sequence[str] = (),
    seed: int = 1,
    quick: bool = True,
    device: str = "auto",
    digits: bool = False,
    by: Sequence[str] = (),
    training: ak.Array | None = None,
    skipped: Sequence[SkippedMetric] = (),
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Evaluates generated samples against a reference; nothing is written (see ``Evaluation.write``).

    Events with a field ``weight`` that the schema does not declare are weighted with it.

    Args:
        reference: Events that training never saw.
        generated: Events, or several samples by name.
        schema: Fields and conditions; fields that a sample lacks are not compared and listed in ``skipped``.
        geometry: Geometry of the layers.
        observables: Names of the standard and registered observables to compare, by default all that apply; or observables by name.
        metrics: Names of the standard and registered metrics to compute; by default all that apply.
        seed: Seed of resampling, splits and classifiers.
        quick: Whether to train a small classifier once instead of the CaloChallenge's three times.
        device: Device on which classifiers are trained.
        digits: Whether the events are MNIST's digits, which the digit classifier scores.
        by: Conditions whose slices are compared, ``pdg`` or ``energy=1,10,100``; by default quartiles or classes of all conditions.
        training: Events that the generator was trained on: generated events are searched for copies of them, and their number gives
            the amplification.
        skipped: Fields that are known to be missing.
        progress: Progress callback.

    Raises:
        DataError: ``by`` does not fit the conditions, there are no events or no field to compare, a sample is named ``reference``,
            or there is no observable or metric of a name.
    """
    check_metrics(metrics)
    others = _named(generated)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    started, missing = time.perf_counter(), list(skipped)
    events = {histograms.REFERENCE: reference, **others}
    common = cleaning.common_schema(events, schema, missing)
    chosen = (
        dict(observables)
        if isinstance(observables, Mapping)
        else _select(observables, schema, common, geometry or {}, missing)
    )
    filled, samples = _filled_and_samples(events, common, chosen, missing)
    known = None
    if training is not None:
        cleaned = cleaning.drop_non_finite(training, common, "training", missing)
        known = build_sample(cleaned.fields, chosen, cleaned.weights)
    conditions = conditions_of(common, samples[histograms.REFERENCE].events, by)
    results = {}
    for name in others:
        context = MetricContext(
            samples[histograms.REFERENCE], samples[name], chosen, filled, name, seed, quick, device, digits,
            frozenset(metrics), conditions, known,
        )  # fmt: skip
        results[name] = compute.compute_metrics(context, progress=progress)
        missing += results[name].skipped
    used = {name: geometry[name] for name in common.fields if geometry and name in geometry}
    seconds = time.perf_counter() - started
    return Evaluation(
        {name: evaluate_sample(one, name) for name, one in results.items()},
        Scores(score for one in results.values() for score in one.scores),
        missing,
        filled,
        Comparison(samples, common, chosen, results, used, digits, seed, seconds),
    )


def _named(generated: ak.Array | Mapping[str, ak.Array]) -> dict[str, ak.Array]:
    """Returns generated samples by name; a single sample is named ``generated``.

    Raises:
        DataError: a name is ``reference`` or not printable.
    """
    samples = {"generated": generated} if isinstance(generated, ak.Array) else dict(generated)
    if histograms.REFERENCE in samples:
        raise DataError(
            f"a generated sample is called '{histograms.REFERENCE}'; give it another name"
        )
    for name in samples:
        if not is_text(name):
            raise DataError(
                f"the name of a generated sample, {name!a}, is not printable text; give it another name"
            )
    return samples


def _filled_and_samples(
    events: Mapping[str, ak.Array],
    schema: Schema,
    observables: Mapping[str, Observable],
    skipped: list[SkippedMetric],
) -> "tuple[dict[str, Hist[Any]], dict[str, Sample]]":
    """Returns the histograms and the samples of finite events; fields with other events or wrong units are appended to ``skipped``."""
    arrays = {
        name: cleaning.drop_non_finite(sample, schema, name, skipped)
        for name, sample in events.items()
    }
    skipped += cleaning.unit_mismatches(arrays, schema)
    fields = {name: sample.fields for name, sample in arrays.items()}
    weights = {name: s.weights for name, s in arrays.items() if s.weights is not None}
    filled = histograms.compare(
        fields.pop(histograms.REFERENCE), fields, observables, weights=weights
    )
    samples = {name: build_sample(s.fields, observables, s.weights) for name, s in arrays.items()}
    return filled, samples


def _select(
    names: Sequence[str],
    schema: Schema,
    common: Schema,
    geometry: Mapping[str, LayerGeometry],
    skipped: list[SkippedMetric],
) -> dict[str, Observable]:
    """Returns the observables of the common fields with these names; those of missing fields are appended to ``skipped``.

    Raises:
        DataError: there is no observable of a name, or no sample has the fields of any.
    """
    of_schema, of_common = (
        evaluated_observables(
            part, {name: geometry[name] for name in part.fields if name in geometry}
        )
        for part in (schema, common)
    )
    if not names:
        return of_common
    absent = select_observables(of_schema, names).keys() - of_common.keys()
    skipped += [
        SkippedMetric(OVERALL, name, "left out: a sample lacks its fields", histograms.REFERENCE)
        for name in names
        if name in absent
    ]
    if left := [name for name in names if name not in absent]:
        return select_observables(of_common, left)
    raise DataError(f"the samples lack the fields of the observables {', '.join(names)}")

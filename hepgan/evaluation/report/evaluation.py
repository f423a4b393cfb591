"""Reference against generated in one call: histograms, scores, pictures and the report with its verdict.

Samples are distinguishable where any p-value is below 1 % after Bonferroni's correction for their number, or a
classifier's AUC is more than three errors above 0.5; the verdict names the observables that show it.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
from hist import Hist

from hepgan.atomic import os_errors_as_run_error
from hepgan.data.io.histograms import write_histograms
from hepgan.data.io.names import is_text
from hepgan.data.schema import Schema
from hepgan.errors import DataError
from hepgan.evaluation import cleaning, histograms
from hepgan.evaluation.metrics import compute
from hepgan.evaluation.metrics.compute import MetricContext
from hepgan.evaluation.metrics.scores import (
    CLASSIFIER_INPUTS,
    MetricResults,
    Score,
    SkippedMetric,
    with_error,
)
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.observables.standard import Observable, observables_for
from hepgan.evaluation.report import figures, page
from hepgan.evaluation.sample import build_sample
from hepgan.progress import ProgressCallback, no_progress

SIGNIFICANCE_LEVEL = 0.01
AUC_SIGMAS = 3.0
MAX_NAMED = 3
"""How many observables a verdict names."""


class SampleEvaluation(NamedTuple):
    """One generated sample's verdict.

    Attributes:
        distinguishable: Whether anything tells it from the reference.
        sentence: The verdict in words.
        shown_by: Observables that tell it, the clearest first.
    """

    distinguishable: bool
    sentence: str
    shown_by: tuple[str, ...]


class Evaluation(NamedTuple):
    """What ``judge`` found.

    Attributes:
        distinguishable: Whether any generated sample can be told from the reference.
        sentence: The verdicts in words, one sentence a sample.
        samples: The verdict on each generated sample.
        scores: All scores.
        skipped: What could not be computed, and why.
        report: The page.
    """

    distinguishable: bool
    sentence: str
    samples: dict[str, SampleEvaluation]
    scores: list[Score]
    skipped: list[SkippedMetric]
    report: Path


def evaluate(
    reference: ak.Array,
    generated: Mapping[str, ak.Array],
    schema: Schema,
    geometry: Mapping[str, LayerGeometry] | None,
    folder: Path,
    *,
    seed: int,
    quick: bool,
    more: Mapping[str, Observable] | None = None,
    skipped: Sequence[SkippedMetric] = (),
    warnings: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    title: str = "Generated against reference",
    device: str = "cpu",
    digits: bool = False,
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Compare generated samples with the reference and write the report into ``folder``.

    Writes ``report.html``, ``scores.json``, ``histograms.json`` (UHI), ``histograms.root`` and ``plots/``. Events with a field
    ``weight`` that the schema does not name are weighted with it.

    Args:
        reference: Events that training never saw.
        generated: Events by name of sample.
        schema: Fields and conditions; what a sample lacks is left out of the comparison and said in the report.
        geometry: Where the cells of the layers are.
        folder: Made if it is not there.
        seed: Of resampling, splits and classifiers.
        quick: One training of a small classifier instead of three of the CaloChallenge's.
        more: Observables beside those that fit the schema.
        skipped: What is known to be missing.
        warnings: Sentences that stand above the verdicts.
        provenance: What the page ends with: versions, files, hardware, times.
        history: Rows of a training's history, for the loss curves.
        title: Of the page.
        device: Where classifiers are trained.
        digits: Whether the events are MNIST's digits, which the digit classifier scores.
        progress: Progress callback.

    Raises:
        DataError: no event or no field that can be compared, or a sample is called ``reference``.
        RunError: the system cannot write a file; those that are there are whole.
    """
    if histograms.REFERENCE in generated:
        raise DataError(
            f"a generated sample is called '{histograms.REFERENCE}'; give it another name"
        )
    for name in generated:
        if not is_text(name):
            raise DataError(
                f"the name of a generated sample, {name!a}, is no text; give it another"
            )
    started, missing = time.perf_counter(), list(skipped)
    samples, shared = _samples({histograms.REFERENCE: reference, **generated}, schema, missing)
    kept = {name: geometry[name] for name in shared.fields if geometry and name in geometry}
    observables = {**observables_for(shared, kept), **(more or {})}
    filled = histograms.compare(
        samples[histograms.REFERENCE].fields,
        {name: samples[name].fields for name in generated},
        observables,
        weights={name: s.weights for name, s in samples.items() if s.weights is not None},
    )
    ready = {name: build_sample(s.fields, observables, s.weights) for name, s in samples.items()}
    measured = {}
    for name in generated:
        plan = MetricContext(
            ready[histograms.REFERENCE],
            ready[name],
            observables,
            filled,
            name,
            seed,
            quick,
            device,
            digits,
        )
        measured[name] = compute.compute_metrics(plan, progress=progress)
        missing += measured[name].skipped
    _save(folder, filled)
    drawn = figures.draw(
        ready,
        shared,
        observables,
        filled,
        measured,
        history,
        geometry=kept,
        digits=digits,
        progress=progress,
    )
    spent = {"time": f"{time.perf_counter() - started:.0f} s to compare and draw"}
    page = {**(provenance or {}), **spent}
    return _written(folder, title, warnings, measured, missing, drawn, page)


def _samples(
    events: Mapping[str, ak.Array], schema: Schema, skipped: list[SkippedMetric]
) -> tuple[dict[str, cleaning.SampleArrays], Schema]:
    """What can be compared, and the schema of it; the rest is added to the skipped."""
    shared = cleaning.common_schema(events, schema, skipped)
    found = {
        name: cleaning.drop_non_finite(sample, shared, name, skipped)
        for name, sample in events.items()
    }
    skipped += cleaning.unit_mismatches(found, shared)
    return found, shared


def _save(folder: Path, filled: "Mapping[str, Hist[Any]]") -> None:
    with os_errors_as_run_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
    histograms.save_histograms(folder / "histograms.json", filled)
    write_histograms(folder / "histograms.root", filled)


def _written(
    folder: Path,
    title: str,
    warnings: Sequence[str],
    measured: Mapping[str, MetricResults],
    skipped: list[SkippedMetric],
    drawn: Sequence[figures.Picture],
    provenance: Mapping[str, Any],
) -> Evaluation:
    judged = {name: evaluate_sample(found, name) for name, found in measured.items()}
    scores = [score for found in measured.values() for score in found.scores]
    written = page.write_report(
        folder,
        title=title,
        verdicts=[
            *((True, warning) for warning in warnings),
            *((one.distinguishable, one.sentence) for one in judged.values()),
        ],
        scores=scores,
        skipped=skipped,
        pictures=drawn,
        provenance=provenance,
    )
    sentence = " ".join(one.sentence for one in judged.values())
    distinguishable = any(one.distinguishable for one in judged.values())
    return Evaluation(distinguishable, sentence, judged, scores, skipped, written)


def evaluate_sample(measured: MetricResults, name: str) -> SampleEvaluation:
    """The verdict on one sample from its scores."""
    tested = [score for score in measured.scores if score.p_value is not None]
    told = [
        s for s in tested if s.p_value is not None and s.p_value * len(tested) < SIGNIFICANCE_LEVEL
    ]
    strength: dict[str, float] = {}
    for score in told:
        strength[score.observable] = max(strength.get(score.observable, 0.0), score.n_sigma)
    shown_by = tuple(sorted(strength, key=lambda observable: -strength[observable]))
    classified = [
        s
        for s in measured.scores
        if s.metric in CLASSIFIER_INPUTS and s.value - 0.5 > AUC_SIGMAS * max(s.error, 1e-9)
    ]
    if not tested:
        return SampleEvaluation(True, f"{name} could not be compared with the reference.", ())
    number = tested[0].n_reference, tested[0].n_generated
    among = f"with {number[0]:,} reference and {number[1]:,} generated events"
    if not shown_by and not classified:
        return SampleEvaluation(
            False, f"{name} is indistinguishable from the reference {among}.", ()
        )
    reasons = []
    if shown_by:
        more = f" and {len(shown_by) - MAX_NAMED} more" if len(shown_by) > MAX_NAMED else ""
        reasons.append(f"most clearly by {', '.join(shown_by[:MAX_NAMED])}{more}")
    if classified:
        best = max(classified, key=lambda s: s.value)
        reasons.append(
            f"by a classifier of {CLASSIFIER_INPUTS[best.metric]} with an AUC of {with_error(best.value, best.error)}"
        )
    sentence = f"{name} is distinguishable from the reference {among}: {'; '.join(reasons)}."
    return SampleEvaluation(True, sentence, shown_by)

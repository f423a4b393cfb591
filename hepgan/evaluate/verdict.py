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

from hepgan.atomic import told
from hepgan.data.histograms import write_histograms
from hepgan.data.names import is_text
from hepgan.data.schema import Schema
from hepgan.errors import DataError
from hepgan.evaluate import common, compare, metrics, pictures, report
from hepgan.evaluate.geometry import LayerGeometry
from hepgan.evaluate.metrics import Plan, Tick
from hepgan.evaluate.observables import Observable, observables_for
from hepgan.evaluate.sample import sample_of
from hepgan.evaluate.scores import CLASSIFIED, Gap, Measured, Score, with_error

LEVEL = 0.01
ERRORS = 3.0
NAMED = 3
"""How many observables a verdict names."""


class Judged(NamedTuple):
    """One generated sample's verdict.

    Attributes:
        distinguishable: Whether anything tells it from the reference.
        sentence: The verdict in words.
        shown_by: Observables that tell it, the clearest first.
    """

    distinguishable: bool
    sentence: str
    shown_by: tuple[str, ...]


class Verdict(NamedTuple):
    """What ``judge`` found.

    Attributes:
        distinguishable: Whether any generated sample can be told from the reference.
        sentence: The verdicts in words, one sentence a sample.
        samples: The verdict on each generated sample.
        scores: All scores.
        gaps: What could not be computed, and why.
        report: The page.
    """

    distinguishable: bool
    sentence: str
    samples: dict[str, Judged]
    scores: list[Score]
    gaps: list[Gap]
    report: Path


def judge(
    reference: ak.Array,
    generated: Mapping[str, ak.Array],
    schema: Schema,
    geometry: Mapping[str, LayerGeometry] | None,
    folder: Path,
    *,
    seed: int,
    quick: bool,
    more: Mapping[str, Observable] | None = None,
    gaps: Sequence[Gap] = (),
    warnings: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    title: str = "Generated against reference",
    device: str = "cpu",
    digits: bool = False,
    tick: Tick = lambda _text, _share: None,
) -> Verdict:
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
        gaps: What is known to be missing.
        warnings: Sentences that stand above the verdicts.
        provenance: What the page ends with: versions, files, hardware, times.
        history: Rows of a training's history, for the loss curves.
        title: Of the page.
        device: Where classifiers are trained.
        digits: Whether the events are MNIST's digits, which the digit classifier scores.
        tick: Told each step and the share of it that is done.

    Raises:
        DataError: no event or no field that can be compared, or a sample is called ``reference``.
        RunError: the system cannot write a file; those that are there are whole.
    """
    if compare.REFERENCE in generated:
        raise DataError(f"a generated sample is called '{compare.REFERENCE}'; give it another name")
    for name in generated:
        if not is_text(name):
            raise DataError(
                f"the name of a generated sample, {name!a}, is no text; give it another"
            )
    started, missing = time.perf_counter(), list(gaps)
    samples, shared = _samples({compare.REFERENCE: reference, **generated}, schema, missing)
    kept = {name: geometry[name] for name in shared.fields if geometry and name in geometry}
    observables = {**observables_for(shared, kept), **(more or {})}
    histograms = compare.compare(
        samples[compare.REFERENCE].fields,
        {name: samples[name].fields for name in generated},
        observables,
        weights={name: s.weights for name, s in samples.items() if s.weights is not None},
    )
    ready = {name: sample_of(s.fields, observables, s.weights) for name, s in samples.items()}
    measured = {}
    for name in generated:
        plan = Plan(
            ready[compare.REFERENCE],
            ready[name],
            observables,
            histograms,
            name,
            seed,
            quick,
            device,
            digits,
        )
        measured[name] = metrics.measure(plan, tick=tick)
        missing += measured[name].gaps
    _save(folder, histograms)
    drawn = pictures.draw(
        ready,
        shared,
        observables,
        histograms,
        measured,
        history,
        geometry=kept,
        digits=digits,
        tick=tick,
    )
    spent = {"time": f"{time.perf_counter() - started:.0f} s to compare and draw"}
    page = {**(provenance or {}), **spent}
    return _written(folder, title, warnings, measured, missing, drawn, page)


def _samples(
    events: Mapping[str, ak.Array], schema: Schema, gaps: list[Gap]
) -> tuple[dict[str, common.Arrays], Schema]:
    """What can be compared, and the schema of it; the rest is added to the gaps."""
    shared = common.common_schema(events, schema, gaps)
    found = {name: common.clean(sample, shared, name, gaps) for name, sample in events.items()}
    gaps += common.other_units(found, shared)
    return found, shared


def _save(folder: Path, histograms: "Mapping[str, Hist[Any]]") -> None:
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    compare.save(folder / "histograms.json", histograms)
    write_histograms(folder / "histograms.root", histograms)


def _written(
    folder: Path,
    title: str,
    warnings: Sequence[str],
    measured: Mapping[str, Measured],
    gaps: list[Gap],
    drawn: Sequence[pictures.Picture],
    provenance: Mapping[str, Any],
) -> Verdict:
    judged = {name: verdict_on(found, name) for name, found in measured.items()}
    scores = [score for found in measured.values() for score in found.scores]
    page = report.write_report(
        folder,
        title=title,
        verdicts=[
            *((True, warning) for warning in warnings),
            *((one.distinguishable, one.sentence) for one in judged.values()),
        ],
        scores=scores,
        gaps=gaps,
        pictures=drawn,
        provenance=provenance,
    )
    sentence = " ".join(one.sentence for one in judged.values())
    distinguishable = any(one.distinguishable for one in judged.values())
    return Verdict(distinguishable, sentence, judged, scores, gaps, page)


def verdict_on(measured: Measured, name: str) -> Judged:
    """The verdict on one sample from its scores."""
    tested = [score for score in measured.scores if score.p_value is not None]
    told = [s for s in tested if s.p_value is not None and s.p_value * len(tested) < LEVEL]
    strength: dict[str, float] = {}
    for score in told:
        strength[score.observable] = max(strength.get(score.observable, 0.0), score.away)
    shown_by = tuple(sorted(strength, key=lambda observable: -strength[observable]))
    classified = [
        s
        for s in measured.scores
        if s.metric in CLASSIFIED and s.value - 0.5 > ERRORS * max(s.error, 1e-9)
    ]
    if not tested:
        return Judged(True, f"{name} could not be compared with the reference.", ())
    number = tested[0].n_reference, tested[0].n_generated
    among = f"with {number[0]:,} reference and {number[1]:,} generated events"
    if not shown_by and not classified:
        return Judged(False, f"{name} is indistinguishable from the reference {among}.", ())
    reasons = []
    if shown_by:
        more = f" and {len(shown_by) - NAMED} more" if len(shown_by) > NAMED else ""
        reasons.append(f"most clearly by {', '.join(shown_by[:NAMED])}{more}")
    if classified:
        best = max(classified, key=lambda s: s.value)
        reasons.append(
            f"by a classifier of {CLASSIFIED[best.metric]} with an AUC of {with_error(best.value, best.error)}"
        )
    sentence = f"{name} is distinguishable from the reference {among}: {'; '.join(reasons)}."
    return Judged(True, sentence, shown_by)

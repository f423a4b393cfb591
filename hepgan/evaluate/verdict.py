"""Reference against generated in one call: histograms, scores, pictures and the report with its verdict.

Samples are distinguishable where any p-value is below 1 % after Bonferroni's correction for their number, or a
classifier's AUC is more than three errors above 0.5; the verdict names the observables that show it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.schema import Schema
from hepgan.errors import DataError
from hepgan.evaluate import compare, metrics, pictures, report
from hepgan.evaluate.geometry import LayerGeometry
from hepgan.evaluate.kernels import Array
from hepgan.evaluate.metrics import Gap, Measured, Score, Tick
from hepgan.evaluate.observables import arrays, observables_for

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
    provenance: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    title: str = "Generated against reference",
    device: str = "cpu",
    tick: Tick = lambda _text, _share: None,
) -> Verdict:
    """Compare generated samples with the reference and write the report into ``folder``.

    Writes ``report.html``, ``scores.json``, ``histograms.json`` and ``plots/``.

    Args:
        reference: Events that training never saw.
        generated: Events by name of sample.
        schema: Fields and conditions; what a sample lacks is left out of the comparison and said in the report.
        geometry: Where the cells of the layers are.
        folder: Made if it is not there.
        seed: Of resampling, splits and classifiers.
        quick: One training of a small classifier instead of three of the CaloChallenge's.
        provenance: What the page ends with: versions, files, hardware, times.
        history: Rows of a training's history, for the loss curves.
        title: Of the page.
        device: Where classifiers are trained.
        tick: Told each step and the share of it that is done.

    Raises:
        DataError: no event or no field that can be compared.
    """
    gaps: list[Gap] = []
    common = _common(reference, generated, schema, gaps)
    samples = {
        name: _clean(arrays(events, common.all), name, gaps)
        for name, events in {compare.REFERENCE: reference, **generated}.items()
    }
    kept = {name: geometry[name] for name in common.fields if geometry and name in geometry}
    observables = observables_for(common, kept)
    histograms = compare.compare(
        samples[compare.REFERENCE], {name: samples[name] for name in generated}, observables
    )
    measured = {
        name: metrics.measure(
            samples[compare.REFERENCE],
            samples[name],
            observables,
            seed=seed,
            quick=quick,
            source=name,
            histograms=histograms,
            device=device,
            tick=tick,
        )
        for name in generated
    }
    judged = {name: verdict_on(found, name) for name, found in measured.items()}
    scores = [score for found in measured.values() for score in found.scores]
    gaps += [gap for found in measured.values() for gap in found.gaps]
    folder.mkdir(parents=True, exist_ok=True)
    compare.save(folder / "histograms.json", histograms)
    drawn = pictures.draw(
        samples, common, observables, histograms, measured, history, geometry=kept, tick=tick
    )
    page = report.write_report(
        folder,
        title=title,
        verdicts=[(one.distinguishable, one.sentence) for one in judged.values()],
        scores=scores,
        gaps=gaps,
        pictures=drawn,
        provenance=provenance or {},
    )
    sentence = " ".join(one.sentence for one in judged.values())
    return Verdict(
        any(one.distinguishable for one in judged.values()), sentence, judged, scores, gaps, page
    )


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
        if s.metric.startswith("auc") and s.value - 0.5 > ERRORS * max(s.error, 1e-9)
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
        inputs = "cells" if best.metric == "auc_low" else "observables"
        reasons.append(
            f"by a classifier of {inputs} with an AUC of {metrics.with_error(best.value, best.error)}"
        )
    sentence = f"{name} is distinguishable from the reference {among}: {'; '.join(reasons)}."
    return Judged(True, sentence, shown_by)


def _common(
    reference: ak.Array, generated: Mapping[str, ak.Array], schema: Schema, gaps: list[Gap]
) -> Schema:
    """The schema without what some sample does not have in the schema's shape."""
    lost = set()
    for source, events in {compare.REFERENCE: reference, **generated}.items():
        if len(events) == 0:
            raise DataError(f"{source} has no events to compare; give a file with some")
        for name, field in schema.all.items():
            try:
                arrays(events, {name: field})
            except DataError as error:
                gaps.append(Gap("all", name, f"left out: {error}", source))
                lost.add(name)
    fields = {name: field for name, field in schema.fields.items() if name not in lost}
    if not fields:
        reasons = "; ".join(dict.fromkeys(f"{gap.source}: {gap.reason}" for gap in gaps))
        raise DataError(f"the samples have no field in common that the schema names ({reasons})")
    conditions = {name: field for name, field in schema.conditions.items() if name not in lost}
    return dataclasses.replace(schema, fields=fields, conditions=conditions)


def _clean(events: dict[str, Array], source: str, gaps: list[Gap]) -> dict[str, Array]:
    """Events without those that hold a NaN or an infinity, which are named among the gaps."""
    number = len(next(iter(events.values())))
    good = np.ones(number, dtype=bool)
    for name, values in events.items():
        finite = np.isfinite(values.reshape(number, -1)).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            many = int((~finite).sum())
            gaps.append(
                Gap(
                    "all",
                    name,
                    f"NaN or infinite in {many} of {number} events, first in entry {first}: left out",
                    source,
                )
            )
            good &= finite
    if not good.any():
        raise DataError(f"{source} has no event without NaN or infinity")
    return events if good.all() else {name: values[good] for name, values in events.items()}

"""``report.html``, a self-contained page for light and dark mode and any screen, and ``scores.json``."""

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from hepgan.atomic import subfolder, write_bytes, write_text
from hepgan.data.io.names import file_names, printable
from hepgan.evaluation.metrics import verdict
from hepgan.evaluation.metrics.scores import OVERALL, MetricResults, Score, SkippedMetric
from hepgan.evaluation.metrics.verdict import SampleEvaluation
from hepgan.evaluation.report.figures import (
    CORRELATIONS,
    IMAGES,
    OBSERVABLES,
    PROFILES,
    SCORES,
    SINGLE_EVENTS,
    SLICES,
    TELLING,
    TRAINING,
    VERDICT,
    WORTH,
    Picture,
)
from hepgan.evaluation.report.glossary import NOTIONS, term_of
from hepgan.evaluation.report.tables import Judged, Table, all_scores_table

MAX_FIGURE_BYTES = 4_500_000
"""Largest size of all figures on a page [bytes]; further figures are only in ``plots/``."""

SECTIONS = (
    VERDICT, SCORES, TRAINING, WORTH, OBSERVABLES, PROFILES, SLICES, CORRELATIONS, IMAGES, TELLING, SINGLE_EVENTS,
)  # fmt: skip
"""Sections of the page in order; sections of other names follow."""


class Section(NamedTuple):
    """Section of the page.

    Attributes:
        title: Heading.
        anchor: Target of links.
        tables: Tables.
        pictures: Figures.
        facts: Text by name.
        note: Sentence before the figures.
    """

    title: str
    anchor: str
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    facts: Mapping[str, str]
    note: str


NOTES = {
    SCORES: "The baseline is the value for reference against reference. n_sigma is the significance of the p-value, or else the distance"
    " from the baseline in units of the combined uncertainty; it is red where it is significant among all scores that count for the"
    " verdict, and black where a score does not count. Definitions: hover over a name, or see the glossary.",
    OBSERVABLES: "Histograms are normalized; errors are statistical, and the gray band of the ratio is that of the reference. χ² is"
    " that of the shapes, with the entries outside the axis. Triangles mark ratios beyond the scale.",
    CORRELATIONS: "Missing values are replaced by the mean of their sample.",
    IMAGES: "A pull is the difference of a cell's mean from the reference's in units of its statistical error.",
}  # fmt: skip
"""Sentence of each section."""


def write_report(
    folder: Path,
    *,
    title: str,
    verdicts: Sequence[tuple[bool, str]],
    scores: Sequence[Score],
    skipped: Sequence[SkippedMetric],
    pictures: Sequence[Picture],
    provenance: Mapping[str, Any],
    tables: Sequence[Table] = (),
    training: Mapping[str, str] | None = None,
    samples: Mapping[str, SampleEvaluation] = MappingProxyType({}),
    results: Mapping[str, MetricResults] = MappingProxyType({}),
) -> Path:
    """Writes ``report.html``, ``scores.json`` and ``plots/`` to ``folder`` and returns the path of the page.

    Args:
        folder: Existing folder.
        title: Title of the page.
        verdicts: Whether a sample differs, and the verdict in words.
        scores: All scores.
        skipped: Metrics and fields that are missing, and the reasons.
        pictures: Figures.
        provenance: Facts for the end of the page.
        tables: Tables of the sections.
        training: Facts on the training, such as the kept step.
        samples: Verdicts by generated sample.
        results: Results of the metrics by generated sample.

    Raises:
        RunError: a file cannot be written; existing files remain complete.
    """
    plots = subfolder(folder / "plots")
    names = file_names(picture.name for picture in pictures)
    for picture in pictures:
        for suffix, content in picture.files.items():
            write_bytes(plots / f"{names[picture.name]}.{suffix}", content)
    written = as_json(scores, skipped) | {
        "verdicts": {name: verdict.as_json(one, results[name]) for name, one in samples.items()}
    }
    text = json.dumps(_without_nan(written), indent=1, allow_nan=False)
    write_text(folder / "scores.json", text + "\n")
    shown = _within_size(pictures)
    metrics = dict.fromkeys(score.metric for score in scores)
    terms = {term_of(m).label: term_of(m).definition for m in metrics if term_of(m).definition}
    page = _template().render(
        title=title,
        verdicts=verdicts,
        suspicious=[(s.observable, s.source, s.reason) for s in skipped if s.metric == OVERALL],
        skipped=[(_subject(s), s.source, s.reason) for s in skipped if s.metric != OVERALL],
        sections=_sections(shown, tables, training or {}),
        anchors={picture.name: f"figure-{names[picture.name]}" for picture in shown},
        omitted=len(pictures) - len(shown),
        number=len(scores),
        all_scores=all_scores_table(Judged(scores, samples, results)),
        glossary=list({**terms, **NOTIONS}.items()) if scores else [],
        provenance=provenance,
        style=Markup(_resource("report.css")),  # noqa: S704  part of the package
        script=Markup(_resource("report.js")),  # noqa: S704
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _without_nan(value: Any) -> Any:
    """Returns tables and lists with ``None`` instead of numbers that are NaN or infinite, which JSON has not."""
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(scores: Sequence[Score], skipped: Sequence[SkippedMetric] = ()) -> dict[str, Any]:
    """Returns the content of ``scores.json``; infinite and undefined numbers are null."""
    return {
        "n_reference": max((score.n_reference for score in scores), default=0),
        "n_generated": max((score.n_generated for score in scores), default=0),
        "scores": [
            {
                "metric": score.metric,
                "observable": score.observable,
                "value": _finite(score.value),
                "error": _finite(score.error),
                "baseline": _finite(score.baseline),
                "baseline_error": _finite(score.baseline_error),
                "n_sigma": _finite(score.n_sigma),
                "p_value": score.p_value,
                "measured_baseline": score.measured_baseline,
                "measured_baseline_error": score.measured_baseline_error,
                "source": score.source,
                "n_reference": score.n_reference,
                "n_generated": score.n_generated,
            }
            for score in scores
        ],
        "skipped": [skip._asdict() for skip in skipped],
    }


def _finite(number: float) -> float | None:
    number = float(number)
    return number if abs(number) < float("inf") else None


def _within_size(pictures: Sequence[Picture]) -> list[Picture]:
    """Returns the figures that fit on the page, as markup; the least significant observables are left out first."""
    sizes = [len(picture.svg.encode()) for picture in pictures]
    last_first = sorted(
        range(len(pictures)), key=lambda i: (pictures[i].section != OBSERVABLES, -i)
    )
    size, omitted = sum(sizes), set()
    for i in last_first:
        if size <= MAX_FIGURE_BYTES:
            break
        size -= sizes[i]
        omitted.add(i)
    return [
        picture._replace(svg=Markup(picture.svg))  # noqa: S704  drawn by ``plots``
        for i, picture in enumerate(pictures)
        if i not in omitted
    ]


def _sections(
    pictures: Sequence[Picture], tables: Sequence[Table], training: Mapping[str, str]
) -> list[Section]:
    """Returns the sections that have content, in the order of ``SECTIONS``."""
    used = [*(table.section for table in tables), *(picture.section for picture in pictures)]
    titles = list(dict.fromkeys([*SECTIONS, *used]))
    sections = []
    for title in titles:
        own = [table for table in tables if table.section == title]
        drawn = [picture for picture in pictures if picture.section == title]
        facts = training if title == TRAINING else {}
        if own or drawn or facts:
            anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
            sections.append(Section(title, anchor, own, drawn, facts, NOTES.get(title, "")))
    return sections


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.from_string(_resource("report.html.jinja"))


def _shown(value: Any) -> Any:
    """Returns a value without unprintable characters, which have no place in HTML."""
    return value if isinstance(value, Markup) else printable(str(value), keep="\n\t")


def _resource(name: str) -> str:
    return resources.files("hepgan.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _subject(skip: SkippedMetric) -> str:
    return skip.metric if skip.observable == OVERALL else skip.observable

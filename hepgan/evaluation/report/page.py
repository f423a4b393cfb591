"""``report.html``, a self-contained page for light and dark mode and any screen, and ``scores.json``."""

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hepgan.atomic import subfolder, write_bytes, write_text
from hepgan.data.io.names import file_names, printable
from hepgan.evaluation.metrics import verdict
from hepgan.evaluation.metrics.scores import (
    OVERALL,
    REGISTERED,
    MetricResults,
    Score,
    SkippedMetric,
    with_error,
)
from hepgan.evaluation.metrics.verdict import SampleEvaluation
from hepgan.evaluation.report.figures import SINGLE_EVENTS, Picture

MAX_FIGURE_BYTES = 4_500_000
"""Largest size of all figures on a page [bytes]; further figures are only in ``plots/``."""

HEADLINE_ROWS = 8
"""Rows of single observables in the first table."""

METRICS = {
    "auc_observables": ("classifier of all observables and conditions: AUC", 1),
    "auc_boosted": ("boosted trees of all observables and conditions: AUC", 1),
    "auc_image": ("convolutional classifier of images: AUC", 1),
    "auc_low": ("classifier of cells: AUC", 1),
    "auc_log": ("classifier of log cells: AUC", 1),
    "auc_high": ("classifier of the CaloChallenge's observables: AUC", 1),
    "accuracy_observables": ("classifier of all observables and conditions: accuracy", 1),
    "accuracy_boosted": ("boosted trees of all observables and conditions: accuracy", 1),
    "accuracy_image": ("convolutional classifier of images: accuracy", 1),
    "accuracy_low": ("classifier of cells: accuracy", 1),
    "accuracy_log": ("classifier of log cells: accuracy", 1),
    "accuracy_high": ("classifier of the CaloChallenge's observables: accuracy", 1),
    "fpd": ("FPD × 10³", 1000),
    "fpd_trimmed": ("FPD × 10³ of trimmed features", 1000),
    "sliced_wasserstein": ("sliced W1 of all observables and conditions", 1),
    "energy_distance": ("energy distance of all observables and conditions × 10³", 1000),
    "duplicates": ("fraction of events that repeat another one", 1),
    "copies": ("events close to a training event", 1),
    "kpd": ("KPD × 10³", 1000),
    "precision": ("precision", 1),
    "recall": ("recall", 1),
    "density": ("density", 1),
    "coverage": ("coverage", 1),
    "correlation": ("correlations: rms difference", 1),
    "digit_confidence": ("digits: mean confidence", 1),
    "digit_balance": ("digits: class balance", 1),
    "digit_frechet": ("digits: Fréchet distance", 1),
    "separation": ("separation power × 10³", 1000),
    "chi_square": ("χ² / ndf", 1),
    "kolmogorov": ("Kolmogorov distance", 1),
    "wasserstein": ("W1 / standard deviation of the reference", 1),
    "mean_image": ("mean image: largest pull", 1),
    "tails": ("fraction beyond 3 standard deviations", 1),
}
"""Name of each metric on the page, and the factor that its values are multiplied by."""


def write_report(
    folder: Path,
    *,
    title: str,
    verdicts: Sequence[tuple[bool, str]],
    scores: Sequence[Score],
    skipped: Sequence[SkippedMetric],
    pictures: Sequence[Picture],
    provenance: Mapping[str, Any],
    samples: Mapping[str, SampleEvaluation] = MappingProxyType({}),
    results: Mapping[str, MetricResults] = MappingProxyType({}),
) -> Path:
    """Writes ``report.html``, ``scores.json`` and ``plots/`` to ``folder`` and returns the path of the page.

    Raises:
        RunError: a file cannot be written; existing files remain complete.
    """
    plots = subfolder(folder / "plots")
    names = file_names(picture.name for picture in pictures)
    for picture in pictures:
        write_bytes(plots / f"{names[picture.name]}.png", picture.png)
    content = as_json(scores, skipped) | {
        "verdicts": {name: verdict.as_json(one, results[name]) for name, one in samples.items()}
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    write_text(folder / "scores.json", text + "\n")
    page = folder / "report.html"
    sections = [
        _verdicts(verdicts),
        _headline(scores, samples),
        _skipped(skipped),
        _pictures(pictures),
        _every_score(scores, samples),
        _provenance(provenance),
    ]
    write_text(page, _page(title, sections))
    return page


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


def _escaped(text: str) -> str:
    """Returns ``text`` escaped for HTML, without unprintable characters."""
    return html.escape(printable(text, keep="\n\t"))


def _finite(number: float) -> float | None:
    number = float(number)
    return number if abs(number) < float("inf") else None


def _page(title: str, sections: Iterable[str]) -> str:
    style = (
        resources.files("hepgan.evaluation.report")
        .joinpath("report.css")
        .read_text(encoding="utf-8")
    )
    name = _escaped(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{name}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n<h1>{name}</h1>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def _verdicts(verdicts: Sequence[tuple[bool, str]]) -> str:
    return "\n".join(
        f'<p class="verdict {"different" if different else "alike"}">{_escaped(sentence)}</p>'
        for different, sentence in verdicts
    )


def _headline(scores: Sequence[Score], samples: Mapping[str, SampleEvaluation]) -> str:
    if not scores:
        return ""
    overall = [
        s for s in scores if s.metric not in PER_OBSERVABLE and not s.metric.startswith("accuracy")
    ]
    order = list(METRICS)
    overall.sort(key=lambda s: order.index(s.metric) if s.metric in METRICS else len(order))
    return (
        "<h2>Scores</h2>\n"
        + _table([*overall, *_most_different(scores)], samples)
        + '<p class="note">The baseline is the value for reference against reference. n_sigma is the distance from the'
        " baseline in units of the combined uncertainty, or the significance of the p-value; it is red where it is significant among all"
        " scores that count for the verdict."
        " The most different observables come first; all scores are listed at the end.</p>"
    )


def _most_different(scores: Sequence[Score]) -> list[Score]:
    """Returns the separation powers of the observables with the most significant differences, for all samples."""
    single = [s for s in scores if s.metric == "separation"]
    farthest: dict[str, float] = {}
    for score in single:
        name = score.observable
        farthest[name] = max(farthest.get(name, -math.inf), _capped(score))
    number = max(2, HEADLINE_ROWS // len({s.source for s in single} or {""}))
    first = sorted(farthest, key=lambda name: -farthest[name])[:number]
    return sorted(
        (s for s in single if s.observable in first), key=lambda s: first.index(s.observable)
    )


PER_OBSERVABLE = {"separation", "chi_square", "kolmogorov", "wasserstein", "mean_image", "tails"}


def _table(scores: Sequence[Score], samples: Mapping[str, SampleEvaluation]) -> str:
    several = len({score.source for score in scores}) > 1
    head = "<tr><th>score</th><th>value</th><th>baseline</th><th>n_sigma</th></tr>"
    return (
        f'<table class="scores">\n<thead>{head}</thead>\n<tbody>\n'
        + "\n".join(_row(score, samples.get(score.source), several=several) for score in scores)
        + "\n</tbody></table>\n"
    )


def _row(score: Score, sample: SampleEvaluation | None, *, several: bool) -> str:
    label, factor = METRICS.get(score.metric) or (_escaped(REGISTERED[score.metric].label), 1)
    where = "" if score.observable == OVERALL else f" <code>{_escaped(score.observable)}</code>"
    source = f' <span class="source">{_escaped(score.source)}</span>' if several else ""
    n_sigma = _capped(score)
    # red only where the verdict is: a score that counts and is significant among all of them
    kind = "far" if sample and sample.significant(score.metric, score.observable) else "at"
    shown = ">999" if n_sigma >= 1000 else f"{n_sigma:.1f}".replace("-", "−")
    return (
        f"<tr><td>{label}{where}{source}</td><td>{_number(score.value, score.error, factor)}</td>"
        f'<td>{_number(score.baseline, score.baseline_error, factor)}</td><td class="{kind}">{shown}</td></tr>'
    )


def _capped(score: Score) -> float:
    return max(-1e6, min(score.n_sigma, 1e6))


def _number(value: float, error: float, factor: float) -> str:
    return with_error(value * factor, error * factor)


def _skipped(skipped: Sequence[SkippedMetric]) -> str:
    if not skipped:
        return ""
    items = "\n".join(
        f"<li><code>{_escaped(_what(skip))}</code> ({_escaped(skip.source)}): {_escaped(skip.reason)}</li>"
        for skip in skipped
    )
    return f'<h2>Skipped metrics and suspicious input</h2>\n<ul class="skipped">\n{items}\n</ul>'


def _what(skip: SkippedMetric) -> str:
    return skip.metric if skip.observable == OVERALL else skip.observable


def _pictures(pictures: Sequence[Picture]) -> str:
    groups: dict[str, list[str]] = {}
    left, size = 0, 0
    for picture in pictures:
        size += len(picture.svg.encode())
        if size > MAX_FIGURE_BYTES:
            left += 1
            continue
        groups.setdefault(picture.group, []).append(_figure(picture))
    text = "\n".join(
        f'<h2>{_escaped(group)}</h2>\n<div class="pictures{" pairs" if group == SINGLE_EVENTS else ""}">\n'
        + "\n".join(figures)
        + "\n</div>"
        for group, figures in groups.items()
    )
    note = f'<p class="note">{left} more figures are in the folder plots.</p>' if left else ""
    return text + note


def _figure(picture: Picture) -> str:
    caption = _escaped(picture.caption)
    kind = ' class="wide"' if picture.wide else ""
    return (
        f'<figure{kind}><div class="picture" role="img" aria-label="{caption}">{picture.svg}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _every_score(scores: Sequence[Score], samples: Mapping[str, SampleEvaluation]) -> str:
    if not scores:
        return ""
    return f"<details>\n<summary>All {len(scores)} scores</summary>\n{_table(scores, samples)}</details>"


def _provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    rows = "\n".join(
        f"<dt>{_escaped(str(key))}</dt><dd>{_value(value)}</dd>"
        for key, value in provenance.items()
    )
    return f'<h2>Provenance</h2>\n<dl class="provenance">\n{rows}\n</dl>'


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = "".join(f"<li>{_escaped(str(k))}: {_value(v)}</li>" for k, v in value.items())
        return f"<ul>{inner}</ul>"
    text = _escaped(str(value))
    return f"<pre>{text}</pre>" if "\n" in text else text

"""Tables of the report: scores, observables, correlations."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hepgan.evaluation.metrics.scores import OVERALL, Score, relation_of_p_value, with_error
from hepgan.evaluation.profiles import CorrelationDifference
from hepgan.evaluation.report.glossary import GLOSSARY, Term, term_of

MAX_CORRELATIONS = 15
"""Rows of the table of correlations."""


class Cell(NamedTuple):
    """Cell of a table.

    Attributes:
        text: Text.
        sort: Number that the cell is sorted by; ``None`` for text.
        kind: CSS class.
        title: Explanation shown on hover.
        link: Name of the figure that the cell links to.
    """

    text: str
    sort: float | None = None
    kind: str = ""
    title: str = ""
    link: str = ""


class Table(NamedTuple):
    """Table whose groups of rows can be sorted.

    Attributes:
        section: Heading of the section on the page.
        columns: Titles of the columns.
        groups: Rows of cells by the heading of their group; empty for none.
        note: Sentence below the table.
    """

    section: str
    columns: Sequence[Cell]
    groups: Mapping[str, Sequence[Sequence[Cell]]]
    note: str = ""


def rank_observables(scores: Iterable[Score]) -> dict[str, float]:
    """Returns the largest n_sigma of each observable over all its scores and samples, the worst first."""
    worst: dict[str, float] = {}
    for score in scores:
        if score.observable != OVERALL:
            worst[score.observable] = max(worst.get(score.observable, -math.inf), _capped(score))
    return dict(sorted(worst.items(), key=lambda item: -item[1]))


def scores_table(scores: Sequence[Score], section: str) -> Table | None:
    """Returns the scores of all observables together, in groups of metrics; ``None`` if there are none."""
    overall = [s for s in scores if s.observable == OVERALL and not s.metric.startswith("accuracy")]
    order = {metric: i for i, metric in enumerate(GLOSSARY)}
    overall.sort(key=lambda s: order.get(s.metric, len(order)))
    several = len({s.source for s in scores}) > 1
    groups: dict[str, list[list[Cell]]] = {}
    for score in overall:
        groups.setdefault(term_of(score.metric).group, []).append(
            _score_row(score, several=several)
        )
    return Table(section, _score_columns(several=several), groups) if groups else None


def all_scores_table(scores: Sequence[Score], section: str) -> Table:
    """Returns a table of all scores."""
    several = len({s.source for s in scores}) > 1
    rows = [_score_row(score, several=several) for score in scores]
    return Table(section, _score_columns(several=several), {"": rows})


def _score_columns(*, several: bool) -> list[Cell]:
    sample = [Cell("sample")] if several else []
    return [Cell("score"), *sample, Cell("value"), Cell("baseline"), Cell("n_sigma")]


def _score_row(score: Score, *, several: bool) -> list[Cell]:
    term = term_of(score.metric)
    label = term.label if score.observable == OVERALL else f"{score.observable}: {term.label}"
    return [
        Cell(label, title=term.definition),
        *([Cell(score.source)] if several else []),
        Cell(with_error(score.value * term.factor, score.error * term.factor), score.value),
        Cell(
            with_error(score.baseline * term.factor, score.baseline_error * term.factor),
            score.baseline,
        ),
        _significance(_capped(score)),
    ]


def observables_table(scores: Sequence[Score], section: str) -> Table | None:
    """Returns a row for each observable and sample, the worst first; ``None`` without scores of single observables."""
    ranking = rank_observables(scores)
    if not ranking:
        return None
    found = {(s.observable, s.source, s.metric): s for s in scores}
    sources = list(dict.fromkeys(s.source for s in scores))
    metrics = [m for m, term in GLOSSARY.items() if term.group == term_of("separation").group]
    metrics = [m for m in metrics if any(s.metric == m for s in scores)]
    several = len(sources) > 1
    columns = [
        Cell("observable"),
        *([Cell("sample")] if several else []),
        Cell("n_sigma", title="largest of the row"),
    ]
    for metric in metrics:
        columns.append(Cell(term_of(metric).label, title=term_of(metric).definition))
        if metric == "chi_square":
            columns.append(Cell("p(χ²)"))
    rows = []
    for observable in ranking:
        for source in sources:
            each = {
                m: found[observable, source, m] for m in metrics if (observable, source, m) in found
            }
            if not each:
                continue
            row = [Cell(observable, link=observable), *([Cell(source)] if several else [])]
            row.append(_significance(max(_capped(score) for score in each.values())))
            for metric in metrics:
                row += _metric_cells(metric, each.get(metric), term_of(metric))
            rows.append(row)
    note = "n_sigma is the largest of the row's scores; the figures below have the same order."
    return Table(section, columns, {"": rows}, note)


def _metric_cells(metric: str, score: Score | None, term: Term) -> list[Cell]:
    if score is None:
        return [Cell("–", -math.inf)] * (2 if metric == "chi_square" else 1)
    cells = [Cell(_short(score.value * term.factor), score.value)]
    if metric == "chi_square":
        p = score.p_value
        cells.append(Cell("–" if p is None else relation_of_p_value(p).removeprefix("= "), p))
    return cells


def correlation_table(
    differences: Sequence[CorrelationDifference], section: str, *, several: bool
) -> Table:
    """Returns the pairs of observables whose correlation differs most significantly."""
    columns = [
        Cell("observables"), *([Cell("sample")] if several else []), Cell("reference"), Cell("generated"), Cell("difference"),
        Cell("n_sigma", title="difference of Fisher's z = artanh r in units of its error"),
    ]  # fmt: skip
    rows = [
        [
            Cell(f"{d.first} · {d.second}"),
            *([Cell(d.source)] if several else []),
            *(_signed(value) for value in (d.reference, d.generated, d.generated - d.reference)),
            _significance(abs(d.n_sigma)),
        ]
        for d in differences[:MAX_CORRELATIONS]
    ]
    note = f"The {len(rows)} most significant of {len(differences):,} differences of correlation coefficients."
    return Table(section, columns, {"": rows}, note)


def _signed(value: float) -> Cell:
    return Cell(f"{value:+.3f}".replace("-", "−"), value)


def _significance(n_sigma: float) -> Cell:
    kind = "far" if n_sigma > 5 else "near" if n_sigma > 3 else "at"
    return Cell(significance_text(n_sigma), n_sigma, kind)


def significance_text(n_sigma: float) -> str:
    """Formats n_sigma, with one digit."""
    return (
        ">999" if n_sigma >= 1000 else f"{n_sigma + 0:.1f}".replace("-0.0", "0.0").replace("-", "−")
    )


def _capped(score: Score) -> float:
    return max(-1e6, min(score.n_sigma, 1e6))


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")

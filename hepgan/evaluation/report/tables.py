"""Tables of the report: verdict, scores, worth, observables, slices and conditions, correlations."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hepgan.evaluation.formatting import (
    percent,
    relation_of_p_value,
    rounded,
    significance_text,
    with_error,
)
from hepgan.evaluation.metrics.conditions import ConditionResponse
from hepgan.evaluation.metrics.dependence import MIN_SIGNIFICANCE
from hepgan.evaluation.metrics.scores import (
    OVERALL,
    MetricResults,
    Score,
)
from hepgan.evaluation.metrics.slices import SliceScore
from hepgan.evaluation.metrics.verdict import SampleEvaluation, significance
from hepgan.evaluation.metrics.worth import Interval
from hepgan.evaluation.profiles import CorrelationDifference
from hepgan.evaluation.report.glossary import DISTANCES, GLOSSARY, SINGLE, Term, input_of, term_of

MAX_ROWS = 15
"""Rows of the tables of tests, slices and correlations, the most significant first."""

MAX_OBSERVABLES = 60
"""Largest number of observables in the table and in figures, the worst first."""

NAMES_OF_TESTS = {"slice": "slice", "condition_correlation": "correlation with a condition"}
"""Names of the tests that are no scores."""


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


NOT_TESTED = Cell("–", -math.inf, title="the values of both samples are identical")
"""Significance of a comparison without any difference by construction."""

Row = Sequence[Cell]


class Table(NamedTuple):
    """Table whose groups of rows can be sorted.

    Attributes:
        section: Heading of the section on the page.
        columns: Titles of the columns.
        groups: Rows by the heading of their group; empty for none.
        note: Sentence below the table.
    """

    section: str
    columns: Row
    groups: Mapping[str, Sequence[Row]]
    note: str = ""


class Judged(NamedTuple):
    """Scores of all generated samples with their verdicts.

    Attributes:
        scores: Scores.
        samples: Verdicts by generated sample.
        results: Results of the metrics by generated sample.
        units: Units of the observables.
    """

    scores: Sequence[Score]
    samples: Mapping[str, SampleEvaluation]
    results: Mapping[str, MetricResults]
    units: Mapping[str, str] = {}

    @property
    def several(self) -> bool:
        """True if there are several generated samples, which tables then name."""
        return len({score.source for score in self.scores} | set(self.samples)) > 1

    def sample_cell(self, source: str) -> list[Cell]:
        """Returns a cell with the name of the sample, if there are several."""
        return [Cell(source)] if self.several else []

    @property
    def strengths(self) -> dict[tuple[str, str], float]:
        """Largest n_sigma by observable and sample: of its scores, and of its tests in slices of the conditions."""
        strengths: dict[tuple[str, str], float] = {}
        tests = [
            *(((s.observable, s.source), _capped(s)) for s in self.scores),
            *(
                ((row.observable, source), significance(row.p_value))
                for source, sample in self.samples.items()
                for row in sample.rows
            ),
        ]
        for key, n_sigma in tests:
            if key[0] != OVERALL:
                strengths[key] = max(strengths.get(key, -math.inf), n_sigma)
        return strengths

    @property
    def ranking(self) -> dict[str, float]:
        """Largest n_sigma of each observable over all samples, the worst first."""
        worst: dict[str, float] = {}
        for (observable, _), n_sigma in self.strengths.items():
            worst[observable] = max(worst.get(observable, -math.inf), n_sigma)
        return dict(sorted(worst.items(), key=lambda item: -item[1]))

    @property
    def identical(self) -> set[tuple[str, str]]:
        """Observables and samples whose values are those of the reference, such as copied conditions: nothing is tested there."""
        return {
            (s.observable, s.source)
            for s in self.scores
            if s.metric == "kolmogorov" and s.value == 0
        }

    def tested(self, score: Score) -> bool:
        """Returns whether a score has a significance: not where the values are identical, or nothing is counted in either sample."""
        nothing = score.p_value == 1 and score.value == score.baseline
        return not nothing and (score.observable, score.source) not in self.identical

    def kind(self, score: Score) -> str:
        """Returns the CSS class of a score: red if the verdict counts it as significant, plain if it does not count."""
        sample = self.samples.get(score.source)
        counted = sample.significant(score.metric, score.observable) if sample else None
        return "" if counted is None else "far" if counted else "at"


def verdict_tables(judged: Judged, section: str) -> Iterator[Table]:
    """Yields the rule of the verdict in numbers, and its most significant tests."""
    samples = {name: sample for name, sample in judged.samples.items() if sample.rows}
    if not samples:
        return
    columns = [
        *judged.sample_cell("sample"), Cell("tests"), Cell("independent"), Cell("smallest corrected p"), Cell("level"),
        Cell("visible AUC"), Cell("visible shift"),
    ]  # fmt: skip
    rows = []
    for name, sample in samples.items():
        seen = sample.sensitivity
        rows.append([
            *judged.sample_cell(name),
            Cell(f"{len(sample.rows):,}", len(sample.rows)),
            Cell(f"{sample.effective_tests:.1f}", sample.effective_tests),
            Cell(_p(sample.p_value), sample.p_value, "far" if sample.distinguishable else "at"),
            Cell(f"{sample.level:.2g}", sample.level),
            Cell(f"{seen.auc:.3f}" if seen and seen.auc else "–", seen.auc if seen else None),
            Cell(f"{seen.shift:.2g} σ" if seen and math.isfinite(seen.shift) else "–", seen.shift if seen else None),
        ])  # fmt: skip
    yield Table(
        section, columns, {"": rows},
        "Every score with a p-value counts. p-values are corrected for the number of independent tests that all the correlated tests"
        " are worth, from permutations of events between the samples: a perfect sample has a smallest corrected p-value below the level"
        " with exactly that probability. Visible: the smallest AUC, and the median over observables of the smallest shift in standard"
        " deviations, that would have been seen at this N with a probability of 90 %.",
    )  # fmt: skip
    columns = [*judged.sample_cell("sample"), Cell("test"), Cell("observable"), Cell("corrected p"), Cell("p"), Cell("where")]  # fmt: skip
    rows = [
        [
            *judged.sample_cell(name),
            Cell(NAMES_OF_TESTS.get(row.metric) or term_of(row.metric).label),
            Cell("all" if row.observable == OVERALL else row.observable, link=row.observable),
            Cell(_p(row.corrected), row.corrected, "far" if row.significant else "at"),
            Cell(_p(row.p_value), row.p_value),
            Cell(row.part or "all events"),
        ]
        for name, sample in samples.items()
        for row in sample.rows[: max(4, MAX_ROWS // len(samples))]
    ]
    yield Table(section, columns, {"": rows}, "The most significant tests.")


def scores_table(judged: Judged, section: str) -> Table | None:
    """Returns the scores of all observables together, in groups of metrics; ``None`` if there are none."""
    overall = [
        s for s in judged.scores if s.observable == OVERALL and not s.metric.startswith("accuracy")
    ]
    order = {metric: i for i, metric in enumerate(GLOSSARY)}
    overall.sort(key=lambda s: order.get(s.metric, len(order)))
    groups: dict[str, list[Row]] = {}
    for score in overall:
        group = term_of(score.metric).group
        group = DISTANCES if group == SINGLE else group
        groups.setdefault(group, []).append(_score_row(score, judged))
    return Table(section, _score_columns(judged), groups) if groups else None


def all_scores_table(judged: Judged) -> Table:
    """Returns a table of all scores."""
    rows = [_score_row(score, judged) for score in judged.scores]
    return Table("", _score_columns(judged), {"": rows})


def _score_columns(judged: Judged) -> list[Cell]:
    names = ("n_sigma", "value", "baseline", "p")
    return [Cell("score"), *judged.sample_cell("sample"), *map(Cell, names)]


def _score_row(score: Score, judged: Judged) -> Row:
    term = term_of(score.metric)
    label = term.label if score.observable == OVERALL else f"{score.observable}: {term.label}"
    baseline = with_error(score.baseline * term.factor, score.baseline_error * term.factor)
    measured = ""
    if score.measured_baseline is not None:
        measured = f"measured: {with_error(score.measured_baseline * term.factor, score.measured_baseline_error * term.factor)}"
    return [
        Cell(label, title=term.definition),
        *judged.sample_cell(score.source),
        _significance(_capped(score), judged.kind(score)) if judged.tested(score) else NOT_TESTED,
        Cell(with_error(score.value * term.factor, score.error * term.factor), score.value),
        Cell(baseline, score.baseline, title=measured),
        Cell("–" if score.p_value is None else _p(score.p_value), score.p_value),
    ]


def worth_table(judged: Judged, section: str) -> Table | None:
    """Returns the worth in events of the reference, of all observables together and of the least worth ones."""
    several = sum(1 for result in judged.results.values() if result.worth)
    if not several:
        return None
    amplified = any(one.amplification for result in judged.results.values() for one in result.worth)
    columns = [
        Cell("observable"), *judged.sample_cell("sample"), Cell("reference events with the same error"), Cell("the same for infinitely many generated events"),
        *([Cell("amplification")] if amplified else []),
    ]  # fmt: skip
    rows = []
    for source, result in judged.results.items():
        ordered = sorted(result.worth, key=lambda one: (one.observable != OVERALL, one.limit.value))
        for one in ordered[: max(4, MAX_ROWS // several)]:
            name = "all together" if one.observable == OVERALL else one.observable
            rows.append([
                Cell(name, link=one.observable), *judged.sample_cell(source),
                _interval(one.equivalent), _interval(one.limit),
                *([_interval(one.amplification)] if amplified else []),
            ])  # fmt: skip
    note = (
        "The number of reference events with the same total error as the generated sample, with 68 % intervals, or a lower limit where no"
        " difference is seen. The amplification is this number for infinitely many generated events over the number of training events. The"
        " observables with the smallest numbers."
    )
    return Table(section, columns, {"": rows}, note)


def _interval(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell("–", math.inf)
    low, high = (rounded(each, 2) for each in (interval.low, interval.high))
    if math.isinf(interval.value):
        return Cell("∞" if math.isinf(interval.low) else f"> {low}", interval.value)
    return Cell(f"{rounded(interval.value, 2)} [{low}, {high}]", interval.value)


def observables_table(judged: Judged, section: str) -> Table | None:
    """Returns a row for each observable and sample, the worst first; ``None`` without scores of single observables."""
    ranking = judged.ranking
    if not ranking:
        return None
    by_key = {(s.observable, s.source, s.metric): s for s in judged.scores}
    sources = list(dict.fromkeys(s.source for s in judged.scores))
    present = {s.metric for s in judged.scores}
    metrics = [m for m, term in GLOSSARY.items() if term.group == SINGLE and m in present]
    columns = [
        Cell("observable"), *judged.sample_cell("sample"), Cell("n_sigma", title="largest of the observable's tests, in slices of the conditions too")
    ]  # fmt: skip
    for metric in metrics:
        columns.append(Cell(term_of(metric).label, title=term_of(metric).definition))
        if metric == "chi_square":
            columns.append(Cell("p(χ²)"))
    columns.append(
        Cell("visible shift", title="smallest shift that would have been seen at this N")
    )
    rows, strengths = [], judged.strengths
    wrong = {
        (row.observable, source)
        for source, sample in judged.samples.items()
        for row in sample.rows
        if row.significant
    }
    for observable in list(ranking)[:MAX_OBSERVABLES]:
        for source in sources:
            each = {
                m: by_key[observable, source, m]
                for m in metrics
                if (observable, source, m) in by_key
            }
            if not each:
                continue
            counted = source in judged.samples
            kind = "far" if (observable, source) in wrong else "at" if counted else ""
            row = [Cell(observable, link=observable), *judged.sample_cell(source)]
            same = (observable, source) in judged.identical
            row.append(NOT_TESTED if same else _significance(strengths[observable, source], kind))
            for metric in metrics:
                row += _metric_cells(metric, each.get(metric), term_of(metric))
            row.append(NOT_TESTED if same else _shift(judged, observable, source))
            rows.append(row)
    note = (
        "n_sigma is the largest of the observable's tests, also in slices of the conditions, and red where one of them is significant for"
        " the verdict; the figures below have the same order."
    )
    if len(ranking) > MAX_OBSERVABLES:
        note += f" The worst {MAX_OBSERVABLES} of {len(ranking):,} observables; the list of all scores has the others."
    return Table(section, columns, {"": rows}, note)


def _metric_cells(metric: str, score: Score | None, term: Term) -> list[Cell]:
    if score is None:
        return [Cell("–", -math.inf)] * (2 if metric == "chi_square" else 1)
    cells = [Cell(rounded(score.value * term.factor), score.value)]
    if metric == "chi_square":
        p = score.p_value
        cells.append(Cell("–" if p is None else _p(p), p))
    return cells


def _shift(judged: Judged, observable: str, source: str) -> Cell:
    sample = judged.samples.get(source)
    shift = sample.sensitivity.shifts.get(observable) if sample and sample.sensitivity else None
    if shift is None or not math.isfinite(shift):
        return Cell("–", math.inf)
    unit = judged.units.get(observable, "")
    return Cell(f"{rounded(shift, 2)} {unit}".strip(), shift)


def condition_tables(judged: Judged, section: str) -> Iterator[Table]:
    """Yields the strength with which events follow each condition, the worst slices, and the worst correlations with conditions."""
    results = judged.results
    rows = [
        [
            Cell(one.condition), *judged.sample_cell(source), *_strength(one, result.different_conditions),
        ]
        for source, result in results.items()
        for one in result.condition_responses
    ]  # fmt: skip
    if rows:
        columns = [
            Cell("condition"), *judged.sample_cell("sample"), Cell("strength"),
            Cell("n_sigma in the reference", title="significance of the dependence in the reference"), Cell("remark"),
        ]  # fmt: skip
        note = (
            "Strength 1: the observables depend on the condition as in the reference; 0: the condition is ignored; negative: in reverse. It is"
            " a ratio of slopes, which do not depend on the distribution of the condition."
        )
        yield Table(section, columns, {"": rows}, note)
    slices = [(source, one) for source, result in results.items() for one in result.slices]
    if slices:
        yield _slice_table(slices, judged, section)
    correlated = [
        (source, one) for source, result in results.items() for one in result.condition_correlations
    ]
    if correlated:
        significant = _significant_parts(judged, "condition_correlation")
        correlated.sort(key=lambda pair: pair[1].p_value)
        columns = [
            Cell("observable"), Cell("condition"), *judged.sample_cell("sample"), Cell("reference"), Cell("generated"),
            Cell("difference"), Cell("n_sigma"), Cell("p"),
        ]  # fmt: skip
        rows = [
            [
                Cell(one.observable, link=one.observable), Cell(one.column), *judged.sample_cell(source),
                Cell(with_error(one.reference, one.reference_error), one.reference),
                Cell(with_error(one.generated, one.generated_error), one.generated),
                _signed(one.generated - one.reference),
                _significance(significance(one.p_value), _far(significant, source, one.observable, one.column)),
                Cell(_p(one.p_value), one.p_value),
            ]
            for source, one in correlated[:MAX_ROWS]
        ]  # fmt: skip
        note = f"Correlation coefficients of normal scores with the conditions: the {len(rows)} most significant of {len(correlated):,} differences."
        yield Table(section, columns, {"": rows}, note)


def _strength(one: ConditionResponse, different: Sequence[str]) -> list[Cell]:
    """Returns the strength, its significance in the reference, and the remark; no strength where the reference shows no dependence."""
    significance = Cell(f"{one.reference_significance:.0f}", one.reference_significance)
    if one.reference_significance < MIN_SIGNIFICANCE:
        seen = "no significant dependence in the reference"
        return [Cell("–", -math.inf), significance, Cell(seen)]
    remark = one.remark
    if not remark and one.condition in different:
        remark = "not compared: the samples have different distributions of it"
    kind = "far" if one.remark else "" if remark else "at"
    return [
        Cell(with_error(one.value, one.error), one.value, kind),
        significance,
        Cell(remark or "as in the reference"),
    ]


def _slice_table(slices: list[tuple[str, SliceScore]], judged: Judged, section: str) -> Table:
    significant = _significant_parts(judged, "slice")
    columns = [
        Cell("slice"), Cell("observable"), *judged.sample_cell("sample"), Cell("N"), Cell("mean, reference"), Cell("mean, generated"),
        Cell("width ratio", title="standard deviation, generated over reference"), Cell("n_sigma"), Cell("p"),
    ]  # fmt: skip
    rows = []
    for source, one in sorted(slices, key=lambda pair: pair[1].p_value)[:MAX_ROWS]:
        ratio = one.width_generated / one.width_reference if one.width_reference > 0 else math.nan
        unit = judged.units.get(one.observable, "")
        rows.append([
            Cell(one.slice.label), Cell(one.observable, link=one.observable), *judged.sample_cell(source),
            Cell(f"{one.n_reference:,}/{one.n_generated:,}", one.n_reference),
            Cell(f"{with_error(one.mean_reference, one.mean_reference_error)} {unit}".strip(), one.mean_reference),
            Cell(f"{with_error(one.mean_generated, one.mean_generated_error)} {unit}".strip(), one.mean_generated),
            Cell("–" if math.isnan(ratio) else f"{ratio:.3f}", ratio),
            _significance(significance(one.p_value), _far(significant, source, one.observable, one.slice.label)),
            Cell(_p(one.p_value), one.p_value),
        ])  # fmt: skip
    note = f"Observables in slices of the conditions: the {len(rows)} most significant of {len(slices):,} tests of location and scale."
    return Table(section, columns, {"": rows}, note)


def _significant_parts(judged: Judged, metric: str) -> set[tuple[str, str, str]]:
    return {
        (name, row.observable, row.part)
        for name, sample in judged.samples.items()
        for row in sample.rows
        if row.metric == metric and row.significant
    }


def _far(significant: set[tuple[str, str, str]], *key: str) -> str:
    return "far" if key in significant else "at"


def telling_table(judged: Judged, section: str) -> Table | None:
    """Returns the observables in which the most telling events of the classifiers are unusual."""
    rows = [
        [
            Cell(f"{input_of(metric)}: {percent(one.fraction)} of the events"), *judged.sample_cell(source),
            Cell(name, link=name), Cell(f"{score:+.2f}".replace("-", "−"), score),
        ]
        for source, result in judged.results.items()
        for metric, one in result.telling.items()
        for name, score in list(one.observables.items())[:4]
    ]  # fmt: skip
    if not rows:
        return None
    columns = [
        Cell("classifier"),
        *judged.sample_cell("sample"),
        Cell("observable"),
        Cell("mean shift [σ]"),
    ]
    note = (
        "Observables of the generated events that the classifiers recognize most confidently: the mean of their normal scores, which is 0 for"
        " an observable with the reference's distribution, ±1 for one that is a standard deviation off."
    )
    return Table(section, columns, {"": rows}, note)


def correlation_table(
    differences: Sequence[CorrelationDifference], judged: Judged, section: str
) -> Table:
    """Returns the pairs of observables whose correlation differs most significantly."""
    columns = [
        Cell("observables"), *judged.sample_cell("sample"), Cell("reference"), Cell("generated"), Cell("difference"),
        Cell("n_sigma", title="difference in units of its error, from the influence of each event: valid for heavy tails, too"),
    ]  # fmt: skip
    rows = [
        [
            Cell(f"{d.first} · {d.second}"),
            *judged.sample_cell(d.source),
            *(_signed(value) for value in (d.reference, d.generated)),
            Cell(rounded(d.generated - d.reference, 2, sign="+"), d.generated - d.reference),
            _significance(abs(d.n_sigma), ""),
        ]
        for d in differences[:MAX_ROWS]
    ]
    note = f"The {len(rows)} most significant of {len(differences):,} differences of correlation coefficients; they do not count for the verdict."
    return Table(section, columns, {"": rows}, note)


def _signed(value: float) -> Cell:
    return Cell(f"{value:+.3f}".replace("-", "−"), value)


def _significance(n_sigma: float, kind: str) -> Cell:
    return Cell(significance_text(n_sigma), n_sigma, kind)


def _capped(score: Score) -> float:
    return max(-1e6, min(score.n_sigma, 1e6))


def _p(p: float) -> str:
    return relation_of_p_value(p).removeprefix("= ")

"""Tables of the report: order, glossary and numbers."""

import math

import pytest

from hepgan.data.schema import Field, Schema
from hepgan.evaluation.metrics.conditions import ConditionResponse, Slice
from hepgan.evaluation.metrics.scores import STANDARD, MetricResults, Score
from hepgan.evaluation.metrics.slices import SliceScore
from hepgan.evaluation.metrics.verdict import evaluate_sample
from hepgan.evaluation.metrics.worth import Interval, Worth
from hepgan.evaluation.observables.standard import observables_for
from hepgan.evaluation.report import figures, glossary, page, tables
from hepgan.evaluation.report.tables import Judged


def judged(*scores: Score, **results: object) -> Judged:
    found = MetricResults(list(scores), [], {}, **results)
    return Judged(scores, {"gan": evaluate_sample(found, "gan")}, {"gan": found}, {"x": "mm"})


def score(observable: str, p_value: float, metric: str = "chi_square") -> Score:
    return Score(metric, observable, 2.0, 0.1, 1.0, 500, 500, 0.1, p_value, "gan")


def test_every_standard_score_has_a_definition() -> None:
    tests = {"slice", "condition_correlation", "worth"}  # not scores
    assert STANDARD - tests <= set(glossary.GLOSSARY)
    assert all(term.definition for term in glossary.GLOSSARY.values())


def test_observables_are_ranked_by_their_worst_score_and_the_table_has_that_order() -> None:
    found = judged(
        score("x", 1e-3), score("y", 1e-30), score("z", 0.5), score("x", 1e-9, "kolmogorov")
    )
    assert list(found.ranking) == ["y", "x", "z"]
    table = tables.observables_table(found, "Observables")
    assert table is not None
    rows = table.groups[""]
    assert [row[0].text for row in rows] == ["y", "x", "z"]
    assert [row[1].kind for row in rows] == ["far", "far", "at"]
    assert [row[1].text for row in rows] == ["11.5", "6.0", "0.0"]


def test_a_score_is_red_only_if_the_verdict_counts_it_as_significant() -> None:
    found = judged(
        score("all", 1e-9, "auc_high"), score("all", 0.3, "fpd"), score("all", None, "recall")
    )
    table = tables.scores_table(found, "Scores")
    assert table is not None
    kinds = {row[0].text: row[1].kind for rows in table.groups.values() for row in rows}
    assert kinds == {"AUC, CaloChallenge's observables": "far", "FPD × 10³": "at", "recall": ""}
    assert list(table.groups) == [glossary.CLASSIFIERS, glossary.DISTANCES, glossary.FIDELITY]


def test_worth_has_intervals_and_names_what_is_unlimited() -> None:
    one = Worth("x", Interval(1234.0, 87.6, math.inf), Interval(math.inf, 5.0, math.inf), None)
    table = tables.worth_table(judged(score("x", 0.5), worth=[one]), "Worth")
    assert table is not None
    assert [cell.text for cell in table.groups[""][0]] == ["x", "1,200 [88, ∞]", "> 5"]
    assert tables._interval(Interval(math.inf, math.inf, math.inf)).text == "∞"


def test_a_condition_without_influence_on_the_reference_has_no_strength() -> None:
    responses = [
        ConditionResponse("pdg", 0.3, 0.2, 0.5, ""),
        ConditionResponse("energy", 0.9, 0.1, 12.0, ""),
        ConditionResponse("eta", 0.9, 0.1, 12.0, ""),
    ]
    found = judged(score("x", 0.5), condition_responses=responses, different_conditions=["eta"])
    (table,) = tables.condition_tables(found, "Conditions")
    rows = [[cell.text for cell in row] for row in table.groups[""]]
    assert rows[0] == ["pdg", "–", "0", "no significant dependence in the reference"]
    assert rows[1] == ["energy", "0.90 ± 0.10", "12", "as in the reference"]
    assert "different distributions" in rows[2][3]


def test_a_verdict_names_correlations_that_differ_beside_a_classifier() -> None:
    found = judged(score("all", 1e-9, "correlation"), score("all", 1e-5, "auc_observables"))
    sentence = found.samples["gan"].sentence
    assert "the correlations between observables differ; by a classifier of all" in sentence


def test_identical_values_and_zero_against_zero_have_no_significance() -> None:
    copied = Score("kolmogorov", "E_inc", 0.0, 0.0, 0.03, 500, 500, 0.01, 1.0, "gan")
    none = Score("duplicates", "all", 0.0, 0.002, 0.0, 500, 500, 0.002, 1.0, "gan")
    found = judged(copied, none, score("x", 0.5))
    texts = {row[0].text: row[1].text for row in tables.all_scores_table(found).groups[""]}
    assert texts["duplicates"] == texts["E_inc: Kolmogorov distance"] == "–"
    assert texts["x: χ²/ndf"] == "0.0"
    table = tables.observables_table(found, "Observables")
    assert table is not None
    assert {row[0].text: row[1].text for row in table.groups[""]} == {"x": "0.0", "E_inc": "–"}


def test_a_metric_of_ones_own_is_listed_under_its_name() -> None:
    assert glossary.term_of("my_metric").label == "my metric"
    assert glossary.term_of("my_metric").group == glossary.OTHERS


def test_the_least_significant_observables_give_way_to_other_figures_on_a_large_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def picture(name: str, section: str) -> figures.Picture:
        return figures.Picture(name, section, "", False, "x" * 100, {})

    pictures = [picture(name, figures.OBSERVABLES) for name in ("worst", "middle", "best")]
    pictures += [picture("five events", figures.TELLING)]
    monkeypatch.setattr(page, "MAX_FIGURE_BYTES", 250)
    assert [one.name for one in page._within_size(pictures)] == ["worst", "five events"]
    monkeypatch.setattr(page, "MAX_FIGURE_BYTES", 400)
    assert len(page._within_size(pictures)) == 4


def test_samples_keep_their_order_and_thus_their_colors_in_figures_of_slices() -> None:
    part = Slice("energy", "energy = 1 … 2 GeV", 1.0, 2.0, closed=True)

    def results_with(p_value: float) -> MetricResults:
        one = SliceScore(part, "x", 50, 50, 0, 1, 0, 1, 1, 1, 1, 1, p_value)
        return MetricResults([], [], {}, slices=[one])

    subject = figures.Subject(
        {}, Schema({"x": Field()}), observables_for(Schema({"x": Field()})), {},
        {"good": results_with(0.5), "wrong": results_with(1e-9)}, {},
    )  # fmt: skip
    (drawing,) = figures._slices(subject)
    assert list(drawing.draw.args[0]) == ["good", "wrong"]

"""Cuts and weights have the values of NumPy and ROOT; any other text gives an error with a caret."""

import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hepgan.data.io.expressions import Expression
from hepgan.data.io.grammar import DEEPEST, LONGEST, as_tcut
from hepgan.errors import DataError

X = np.array([-2, -1, -0.5, 0, 0.3, 0.5, 1, 1.5, 2, 3, np.nan, np.inf])
E = len(X)
K = np.arange(E)
COLUMNS: dict[str, Any] = {
    "x": X,
    "y": np.array([3, 0, -1, 0, 2, -2, 1, 1, 0, 4, 1, 1.0]),
    "i": (K - 4).astype("i4"),
    "f": (0.1 * K).astype("f4"),
    "small": (K * 20).astype("u1"),
    "large": K.astype("i8") + 2**53,
    "v": (K[:, None] - np.arange(3)).astype("f4"),
    "hits": ak.values_astype(ak.Array([[k + j for j in range(k % 3)] for k in range(E)]), "f4"),
    "jet.pt": X + 1,
    "a b/c": X,
}
I, Y, V, F = (COLUMNS[name] for name in ("i", "y", "v", "f"))
N = K % 3  # number of hits


def value(text: str, what: str = "weight") -> np.ndarray[Any, Any]:
    parsed = Expression.parse(text, what)
    return parsed({name: COLUMNS[name] for name in parsed.names}, "file.root")


def fault(text: str) -> str:
    with pytest.raises(DataError) as caught:
        value(text)
    return str(caught.value)


with np.errstate(all="ignore"):
    EXPECTED = {
        "-2*x + v[1]": -2 * X + V[:, 1],
        "x**2**0.5": X**2**0.5,
        "-x**2": -(X**2),
        "2**-x": 2.0**-X,
        "8 / 4 / 2 * x - 1 - 2": X - 3,
        "i % 3": I % 3,
        "i % 0": np.full(E, np.nan),
        "i // 0": I / np.zeros(E),
        "0 ** -1 * y": np.inf * Y,
        "9**9**9 + x": np.full(E, np.inf) + X,
        "i / 2": I / 2,
        "i ** 2 * i * 10**9": I.astype(float) ** 3 * 1e9,
        "small * small": (20.0 * K) ** 2,
        "f > 0.3": F.astype(float) > 0.3,
        "large == 9007199254740993": K == 1,
        "large % 2": K % 2,
        "i & 3": I & 3,
        "(i & 0x2) == 2": (I & 2) == 2,
        "0 < x < 1": (X > 0) & (X < 1),
        "x > 0 && y > 0 || x < -1": (X > 0) & (Y > 0) | (X < -1),
        "x > 0 and y > 0 or x < -1": (X > 0) & (Y > 0) | (X < -1),
        "y > 3 || x > 0 && y > 0": (Y > 3) | (X > 0) & (Y > 0),
        "not x > 0": ~(X > 0),
        "!x > 0": X == 0,
        "!(x > 0) && y > 0": ~(X > 0) & (Y > 0),
        "~(x > 0) & (y > 0) | (i == 1)": ~(X > 0) & (Y > 0) | (I == 1),
        "!!y": Y != 0,
        "(x > 0) != (y > 0)": (X > 0) != (Y > 0),
        "sum(v) + max(x, y)": V.sum(1) + np.maximum(X, Y),
        "sum(v > x)": (X[:, None] < V).sum(1),
        "len(hits) + len(v)": N + 3,
        "sum(hits > 4)": (np.maximum(0, K + N - 5) - np.maximum(0, K - 5)),
        "jet.pt + `a b/c`": X + 1 + X,
        "True + i": I + 1,
        'TCut("x^2 > 1") + 0': (X**2 > 1) | np.isnan(X) & False,
    }


@pytest.mark.parametrize("text", EXPECTED)
def test_an_expression_has_the_value_of_numpy(text: str) -> None:
    np.testing.assert_allclose(value(text), EXPECTED[text])


NOT_READ = {
    "x ^ 2 > 1": ("write ** for a power", "^"),
    "x << 1": ("multiply by 2**n", "<<"),
    "x @ y": ("'@' is not supported", "@"),
    "x in (1, 2)": ("'in' is not supported", "in"),
    "x is y": ("'is' is not supported", "is"),
    "x = 1": ("write ==", "="),
    "x > 0 ? 1 : 2": ("'?:' is not supported", "?"),
    "x > 0 & y > 0": ("has another precedence in Python than in ROOT", "0 & y"),
    "x > (y > not x)": ("put parentheses around 'not …'", "not"),
    "x < y > 0": ("comparisons of different directions", ">"),
    'x["a"]': ("an index must be an integer", '"a"'),
    "x[0.5]": ("an index must be an integer", "0.5"),
    "x[99999999999]": ("an index must be an integer", "99999999999"),
    "x[0]": ("a scalar cannot be indexed", "x[0]"),
    "v[3]": ("no value 3; each entry has 3", "v[3]"),
    "x & 1": ("need integers or comparisons", "x & 1"),
    "~x": ("write not or !", "~x"),
    "len(x)": ("several values per entry", "len(x)"),
    "x >": ("a branch or number is missing before the end", " "),
    "x y": ("an operator is missing before 'y'", "y"),
    "x > 1)": ("')' is unexpected here", ")"),
    "(x > 1": ("'(' is not closed by ')'", "("),
    "x > '1'": ("not strings", "'1'"),
    "x + 5j": ("'5j' is neither a number", "5j"),
    "x > 007": ("must not begin with 0", "007"),
    "x > 1e999": ("is not a number below", "1e999"),
    "x > 18446744073709551616": ("is not a number below 2^64", "18446744073709551616"),
    "x > 0x": ("is not a number below", "0x"),
    "sqr(x)": ("did you mean 'sqrt'", "sqr"),
    "hypot(x)": ("hypot() takes 2 values", "hypot"),
    "min()": ("min() takes 1 value", "min"),
    "Sum$(hits)": ("write sum(…)", "Sum$"),
    "__import__('os')": ("no function '__import__'", "__import__"),
    "x; y": ("';' is not a valid character", ";"),
    "x\x00": ("is not a valid character", "?"),
    "lambda x: x": ("'lambda' is not supported", "lambda"),
    "TCut(x)": ("in quotes", "TCut"),
    "TCut('~(x > 1)')": ("ROOT has no '~'", "~"),
    "TCut('x > 1 and y > 1')": ("write && in a ROOT cut", "and"),
    "TCut('0 < x < 1')": ("ROOT does not chain", "<"),
    "TCut('2^3^x')": ("add parentheses", "^"),
    "TCut('!x^2')": ("add parentheses", "!"),
    "TCut('(x > 1) ^ (y > 1)')": ("write != for 'exclusive or'", "^"),
    "TCut('7 % 4 * i')": ("has another precedence in ROOT", "*"),
    "TCut('i % (i + 4)')": ("would crash ROOT", "i % (i + 4)"),
    "TCut('Max$(hits) > 1')": ("write max(…)", "Max$"),
    "TCut('x > 1 | y > 1')": ("write ||", "1 | y"),
    "TCut('x & 1')": ("write && or ||", "x & 1"),
    "-" * (DEEPEST + 1) + "x": ("nested more than", "-"),
}


@pytest.mark.parametrize("text", NOT_READ)
def test_an_invalid_expression_raises_with_a_caret(text: str) -> None:
    message, marked = NOT_READ[text]
    error = fault(text)
    line, caret = error.splitlines()[-2:]
    assert message in error
    shown = (line + " ")[caret.index("^") : caret.rindex("^") + 1]
    assert shown == marked


def test_the_length_of_an_expression_is_limited() -> None:
    start = time.process_time()
    runs = " || ".join(f"i == {n}" for n in range(1200))
    np.testing.assert_array_equal(value(runs, "cut"), I >= 0)
    assert time.process_time() - start < 5
    assert f"maximum of {LONGEST:,}" in fault("x+" * LONGEST + "x")


def test_entries_that_lack_a_value_do_not_pass() -> None:
    exists = N > 1
    hits = K + 1
    for text, expected in {
        "hits[1] > 4": exists & (hits > 4),
        "hits[1] != 4": exists & (hits != 4),
        "!(hits[1] > 4)": exists & ~(hits > 4),
        "(len(hits) < 2) || (hits[1] > 4)": exists & (hits > 4),  # as in ROOT
        "max(hits) < 5": (N > 0) & (K + N - 1 < 5),
        "TCut('hits[1] > 4')": exists & (hits > 4),
    }.items():
        np.testing.assert_array_equal(value(text, "cut"), expected, text)
    np.testing.assert_array_equal(np.isnan(value("hits[1]")), ~exists)


# ROOT's cuts. The expectations are written out after TTreeFormula of ROOT 6.40; a cut keeps what is not below 0.5, as in TMVA.

with np.errstate(all="ignore"):
    CUTS = {
        "x^2 > 1": X**2 > 1,
        "x**2 > 1": X**2 > 1,
        "-x^2 < -1": -(X**2) < -1,
        "2^-x > 1": 2.0**-X > 1,
        "x*-2^2 > 1": -4 * X > 1,
        "!x > 0": X == 0,
        "!x == 0": X != 0,
        "!(x>0) && y>0": ~(X > 0) & (Y > 0),
        "x>0&&y>0||x<-1": (X > 0) & (Y > 0) | (X < -1),
        "y>3||x>0&&y>0": (Y > 3) | (X > 0) & (Y > 0),
        "x&&y": (X != 0) & (Y != 0),
        "(x>0) & (y>0)": (X > 0) & (Y > 0),
        "(x>0)*2 > 1": X > 0,
        "1/x < 1": (X <= 0) | (X > 1),
        "x/0 == 0": np.full(E, True),
        "5/2 == 2.5 && x > 0": X > 0,
        "i%2 == 0": I % 2 == 0,
        "i%3 == -1": (I < 0) & (-I % 3 == 1),
        "sqrt(x) > 1": np.sqrt(np.abs(X)) > 1,
        "log(x) == 0": ~(X > 0) | (X == 1),
        "log10(x) < 0": (X > 0) & (X < 1),
        "acos(x) == 0": (np.abs(X) > 1) | (X == 1),
        "int(x) == 0": np.abs(X) < 1,
        "sign(x) > 0": ~(X < 0),
        "max(x, 1) > 1": X > 1,
        "TMath::Abs(x) < 1": np.abs(X) < 1,
        "TMath::Pi() > 3 && x > 0": X > 0,
        "f > 0.3": F.astype(float) > 0.3,
        "x": ~(X < 0.5),  # as TMVA evaluates a cut
        "v[1] > 2": V[:, 1] > 2,
        "hits[1] != 4": (N > 1) & (K + 1 != 4),
        "Length$(hits) == 2": N == 2,
        "Sum$(hits) > 4": N * K + N * (N - 1) // 2 > 4,
    }


def passing(cut: str) -> np.ndarray[Any, Any]:
    return value(as_tcut(cut), "cut")


@pytest.mark.parametrize("cut", CUTS)
def test_a_root_cut_keeps_the_entries_that_root_keeps(cut: str) -> None:
    np.testing.assert_array_equal(passing(cut), CUTS[cut])


def test_root_agrees_if_it_is_installed(tmp_path: Path) -> None:
    ROOT = pytest.importorskip("ROOT", reason="ROOT is the oracle of its own cuts")
    names = ("x", "y", "i", "f")
    frame = ROOT.RDF.FromNumpy({name: np.ascontiguousarray(COLUMNS[name]) for name in names})
    frame = frame.Define("v", "ROOT::RVecF{float(i + 4), float(i + 3), float(i + 2)}")
    lists = "ROOT::RVecF h; for (int j = 0; j < (i + 4) % 3; ++j) h.push_back(i + 4 + j); return h;"
    path = str(tmp_path / "cuts.root")
    frame.Define("hits", lists).Snapshot("t", path)
    file = ROOT.TFile.Open(path)
    tree = file.Get("t")
    for cut in CUTS:
        formula = ROOT.TTreeFormula("cut", cut, tree)
        results = []
        for entry in range(E):
            tree.LoadTree(entry)
            results.append(bool(formula.GetNdata() and not formula.EvalInstance(0) < 0.5))
        np.testing.assert_array_equal(passing(cut), results, cut)


PIECES = [
    *"xyiv()[]+-*/%^&|~!<>=,.0123456789eE \"'`@?:$\n", "hits", "**", "//", "&&", "||", "==", "!=", "<<", "not ", " and ",
    " or ", " in ", "sum(", "max(", "TCut(", "9**9**9", "True", "x>0", "v[1]", "TMath::Pi()", "Sum$(", "é", "\x00",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
@example("9**9**9**9**9**x")
@example("x[" * 300)
@example("(" * 5000 + "x")
@example("not " * 5000 + "x")
@example("x if x else x")
@example("hits[999999999] > 0")
def test_any_text_gives_values_or_a_data_error(text: str) -> None:
    try:
        parsed = Expression.parse(text, "cut")
        if not set(parsed.names) <= set(COLUMNS):
            return
        values = value(text, "cut")
    except DataError:
        return
    assert values.shape == (E,)
    assert values.dtype == bool

"""Words and openings that hepgan's texts avoid: pages, tutorials, docstrings, messages and comments."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "examples/calogan/README.md"]  # fmt: skip
FILES = [
    *(ROOT / page for page in PAGES),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")),
    *sorted((ROOT / "hepgan").rglob("*.py")),
]

INSTEAD = {
    r"told|heard|listen(s|ed|ing)?": "declared, passed, recorded",
    r"apart": "distinguish, at a distance of",
    r"lit": "nonzero, hit",
    r"shares? of|(as a|whose|the same) share": "fraction of",
    r"anew": "again",
    r"make room|put(s|ting)? that right": "free disk space, fix",
    r"go(es|ing)? on|went on": "continue",
    r"last words|way down|(?<!gradient )(?<!recursive-)descents?|descend(s|ed|ing)?": "stop message, optimization",
    r"learning rates?'? (that )?(falls?|fell|fallen)|fallen to": "learning-rate schedule, decay",
    r"judg(e[sd]?|ing|e?ments?)": "evaluate, evaluation",
    r"(above|below|from|near|than) the floor": "baseline",
    r"errors? away|in errors of": "n_sigma",
    r"events? seen|seen events?": "training events",
    r"(what|as) (the |a )?discriminators? sees?": "discriminator input",
    r"watch(e[sd]|ing)?|ticks?": "validation, progress",
    r"mirror(ed|ing)": "reflect",
    r"refus(e[sd]?|ing|(al)s?)": "raise an error, reject",
    r"pieces?|borders? of chunks?": "chunk, part",
    r"skipbadfiles": "on_bad_file",
    r"spreads|spreading": "distribute",
    r"untouched": "raw, unchanged",
    r"vocabular(y|ies)": "layer words",
    r"cumulated": "cumulative",
    r"(?<!mean )discrepanc(y|ies)": "difference, MMD",
    r"ours": "those of hepgan",
    r"travels? with|lying on|carr(y|ies|ied|ying) (the |a )?GANs?": "send, embed, install",
    r"while it lasts|know each other|lone process(es)?": "context manager, process group, single",
    r"whatever happens|gone afterwards": "always removed on exit",
    r"know as much as": "effective number",
    r"where it stands|columns behind": "position, appended columns",
    r"should be made|many words|says? all|larger by the sides": "plain words",
    r"(the )?whole way": "full pipeline",
    r"lies about|by its nature|in the form of your own|gives? (you )?back": "plain words",
    r"(initial|optim|normal|standard|serial|regular|parametr|summar|real|recogn|memor|penal)is(e[ds]?|ing|ations?)": "-ize",
    r"grey|colour(s|ed)?": "gray, color",
    r"behaviours?|neighbours?|favours?": "-or",
    r"centre[ds]?|fibres?|licences?|catalogues?": "center, license, catalog",
    r"(model|label|travel)l(ed|ing)": "one l",
    r"whilst|amongst|learnt": "while, among, learned",
    r"utili[sz]e[ds]?|leverag(e[ds]?|ing)|seamless(ly)?|blazing(ly)?|simply|obviously": "use, or nothing",
}
"""Words by regular expression, and what to write instead."""

BANNED = re.compile("|".join(rf"\b(?:{words})\b" for words in INSTEAD), re.IGNORECASE)
NOUN_CLAUSE = re.compile(r"(What|Where|As|How|While|Whether|When|Whose|Which|Who)\b")


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the texts of a file for readers, with their lines: no code."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        for i, cell in enumerate(json.loads(source)["cells"]):
            if cell["cell_type"] == "markdown":
                yield i, "".join(cell["source"])
    elif path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if tokenize.tok_name[token.type] in ("STRING", "COMMENT", "FSTRING_MIDDLE"):
                yield token.start[0], re.sub(r"``[^`]*``", "", token.string)
    else:
        for number, line in enumerate(source.splitlines(), 1):
            yield number, re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "", line)


def findings(text: str) -> list[str]:
    return [match[0] for match in BANNED.finditer(text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_have_no_word_of_the_list(path: Path) -> None:
    found = [f"{path.name}:{line}: {w}" for line, text in texts_of(path) for w in findings(text)]
    assert not found, found


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.suffix == ".py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_docstring_opens_with_a_noun_clause(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in nodes:
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            assert not NOUN_CLAUSE.match(text), f"{path.name}: {text.splitlines()[0]}"


@pytest.mark.parametrize(
    "text",
    [
        "a share of the events",
        "lit cells",
        "Initialises the weights",
        "it is told of 8 steps",
        "cells 5 apart",
        "the networks are judged",
        "then go on with --resume",
        "what the discriminator sees",
        "refuses the file",
        "read piece by piece",
        "the learning rates have fallen to",
        "events of hepgan or ours",
    ],
)
def test_words_of_the_list_are_found(text: str) -> None:
    assert findings(text)


@pytest.mark.parametrize(
    "text",
    [
        "shared weights",
        "a center",
        "literal",
        "recognized",
        "modeled",
        "gradient descent",
        "maximum mean discrepancy",
        "mirror images",
    ],
)
def test_other_words_are_not_found(text: str) -> None:
    assert not findings(text)

"""The fuzzer's targets accept their initial texts, and every prefix of these gives a result or a hepgan error."""

import pytest
from fuzz import languages

from hepgan.errors import HepganError
from hepgan.tmva import booking


@pytest.mark.parametrize("language", languages.TARGETS)
def test_the_fuzzers_initial_texts_and_their_prefixes_parse_or_raise_our_errors(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("schema_of", "_events"):  # which the target replaces
        monkeypatch.setattr(booking, name, getattr(booking, name))
    run = languages.TARGETS[language]()
    read = 0
    for text in languages.SEEDS[language]:
        for end in (len(text), len(text) * 2 // 3, len(text) // 3):
            try:
                run(text[:end])
            except HepganError:
                continue
            read += 1
    assert read

"""Layout strings: TMVA's spellings, round trips, and errors that point at the place."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.errors import LayoutError
from hepgan.layout import parse, parse_gan, trace
from hepgan.layout.spec.base import ACTIVATIONS, LAYERS, Activation, Layout
from hepgan.layout.spec.dense_norm import DenseSpec
from hepgan.layout.zoo import published_layouts

ALPHABET = "DENSECOVMAXPLRTHUGBNYI0123456789|,;:[]#()+-*/.N \n_é٣ßıſ\u202e\U0001f600\ud800\x00"


def message(text: str) -> str:
    with pytest.raises(LayoutError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["DENSE|128|TANH", "DENSE|TANH|128", "TANH|128", "128|TANH", "dense | 128 | tanh", "128"],
)
def test_dense_is_parsed_in_every_spelling_of_tmva(text: str) -> None:
    assert parse(text) == Layout((DenseSpec(128),))


def test_a_bare_activation_is_a_dense_layer_with_as_many_outputs_as_the_network() -> None:
    assert (
        parse("LINEAR") == Layout((DenseSpec(0, Activation("LINEAR")),)) == parse("DENSE|0|LINEAR")
    )


def test_dense_has_tanh_by_default() -> None:
    assert parse("DENSE|5") == parse("DENSE|5|TANH")


def test_convolution_has_no_padding_by_default() -> None:
    assert parse("CONV|12|2|2|1|1|TANH") == parse("CONV|12|2|2|1|1|0|0|TANH")


@pytest.mark.parametrize("name", ["relu", "TANH", "FTANH", "SYMMRELU", "SOFTSIGN", "GAUSS", "Silu"])
def test_activations_are_not_case_sensitive(name: str) -> None:
    assert parse(f"DENSE|3|{name}").words[0] == DenseSpec(3, Activation(name.upper()))


def test_slope_of_a_leaky_relu_is_distinguished_from_a_width() -> None:
    wide = parse("LRELU|64").words[0]
    assert wide == DenseSpec(64, Activation("LRELU"))
    assert parse("LRELU|0.1|64") == parse("DENSE|64|LRELU|0.1")
    assert parse("DENSE|64|LRELU|1") == parse("DENSE|64|LRELU|1.0")


def test_flags_are_parsed_in_any_order_and_printed_in_canonical_order() -> None:
    assert str(parse("DENSE|3|NOBIAS|SN|LINEAR|ZERO")) == "DENSE|3|LINEAR|ZERO|SN|NOBIAS"


def test_formulas_of_constants_are_evaluated_and_those_of_n_are_kept() -> None:
    assert parse("DENSE|2*(3+4)") == parse("DENSE|14")
    assert str(parse("DENSE| ( N + 100 ) *2 ")) == "DENSE|(N+100)*2|TANH"


def test_gan_is_split_at_the_double_hash() -> None:
    assert parse_gan("DENSE|3##DENSE|1") == (parse("DENSE|3"), parse("DENSE|1"))


@pytest.mark.parametrize("name", published_layouts())
def test_published_layouts_survive_a_round_trip(name: str) -> None:
    text = published_layouts()[name].layout
    layouts = parse_gan(text) if "##" in text else (parse(text),)
    for network in layouts:
        assert parse(str(network)) == network


@pytest.mark.parametrize(
    ("text", "says", "marked"),
    [
        ("DENSE|64|RELUU", "unknown activation 'RELUU'; did you mean 'RELU'?", "RELUU"),
        ("DENSE|64, DENS|3", "unknown word 'DENS'; did you mean 'DENSE'?", "DENS"),
        ("MAXPOL|2|2|2|2", "did you mean 'MAXPOOL'?", "MAXPOL"),
        ("RESHAPE|FALT", "did you mean 'FLAT'?", "FALT"),
        ("RSE[DENSE|3]", "did you mean 'RES'?", "RSE"),
        ("DENSE|64|TANH|RELU", "a second activation 'RELU'", "RELU"),
        ("DENSE|64|32", "2 numbers are given", "DENSE|64|32"),
        ("CONV|12|2|2|1|TANH", "4 numbers are given", "CONV|12|2|2|1|TANH"),
        ("CONV|TANH|12|2|2|1|1", "a number after the names", "12"),
        ("DENSE|-1", "width must be at least 0, not -1", "-1"),
        ("CONV|0|2|2|1|1|TANH", "depth must be at least 1, not 0", "0"),
        ("CONV|1|2|2|1|0|TANH", "stride cols must be at least 1, not 0", "0"),
        ("RESHAPE|1|0|28", "height must be at least 1, not 0", "0"),
        ("DROPOUT|1", "rate must be below 1", "1"),
        ("DENSE|(N+1", "not a sum or product of integers and N", "(N+1"),
        ("DENSE|N N", "not a sum or product", "N N"),
        ("DENSE|4/0", "divides by zero", "4/0"),
        ("DENSE|9999999999999999999", "larger than any network", "9999999999999999999"),
        ("DENSE|1.5", "should be an integer", "1.5"),
        ("DROPOUT|1e999", "should be a number", "1e999"),
        ("BNORM|0.9|0", "epsilon must be at least 1e-12, not 0.0", "0"),
        ("LNORM|0", "epsilon must be at least 1e-12", "0"),
        ("GNORM|1|2", "epsilon must be at most 1, not 2", "2"),
        ("INORM|1e-300", "epsilon must be at least 1e-12", "1e-300"),
        ("BNORM|-2", "momentum must be at least -1", "-2"),
        ("BNORM|1.5", "momentum must be at most 1, not 1.5", "1.5"),
        ("DENSE|3|LRELU|1e300", "slope must be at most 1000, not 1e+300", "1e300"),
        ("ACT|ELU|-1e300", "slope must be at least -1000", "-1e300"),
        ("ACT|ELU|1e-300", "slope must be 0 or 1e-30 or more", "1e-300"),
        ("CONV|1|2|2|1000000000000|1", "stride rows must be at most 1,000,000", "1000000000000"),
        ("TCONV|1|2|2|1|1000001", "stride cols must be at most 1,000,000, not 1000001", "1000001"),
        ("MAXPOOL|2|1000000000000|1|1", "width must be at most 1,000,000", "1000000000000"),
        ("PAD|1000000000000|1", "top must be at most 1,000,000", "1000000000000"),
        ("UPSAMPLE|1|99999999", "width must be at most 1,000,000", "99999999"),
        ("SCALE|1e300", "factor must be at most 1e+12", "1e300"),
        ("SCALE|1e-300", "factor must be 0 or 1e-30 or more", "1e-300"),
        ("OCCUPANCY|0|1e-300", "softness must be 0 or 1e-30 or more", "1e-300"),
        ("OCCUPANCY|-1e300", "threshold must be at least -1e+12", "-1e300"),
        ("BALANCE|1|1e300", "limit must be at most 1e+12", "1e300"),
        ("LSTM|3|4|5|2", "should be 0 or 1", "2"),
        ("DENSE|3||TANH", "an argument is missing", "|"),
        ("DENSE|3,,DENSE|4", "a layer is expected before ','", ","),
        ("DENSE|3]", "']' is not expected here", "]"),
        ("DENSE|3 # DENSE|4", "'#' is not expected here", "#"),
        ("[DENSE|3; DENSE|4", "'[' is not closed", "["),
        ("[a: DENSE|3; a: DENSE|4]", "a second branch 'a'", "a"),
        ("RES[a: DENSE|3]", "only the branches of a plain '[…]' have names", "a"),
        ("RES", "needs a network in brackets", "RES"),
        ("DENSE|3|SN|SN", "once is enough", "SN"),
        ("DENSE|3|ZERO|HE", "one of XAVIER", "HE"),
        ("COND|RELU", "needs a width", "COND|RELU"),
        ("ACT", "needs an activation", "ACT"),
        ("FROM|a|b", "FROM takes the name of a branch", "FROM|a|b"),
        ("DENSE|3 DENSE|4", "should be a number", "3 DENSE"),
        ("sıgmoid", "unknown word", "sıgmoid"),
        ("DENSE|٣", "unknown activation", "٣"),
        ("DENSE|1_0", "should be a number", "1_0"),
    ],
)
def test_errors_describe_and_mark_the_fault(text: str, says: str, marked: str) -> None:
    first, line, caret = message(text).split("\n")
    assert says in first
    start = caret.index("^")
    assert line[start : start + caret.count("^")] == marked


def test_caret_is_under_the_line_of_the_fault() -> None:
    first, line, caret = message("DENSE|3,\nDENSE|4|RELUU,\nDENSE|5").split("\n")
    assert "RELUU" in first
    assert line.strip() == "DENSE|4|RELUU,"
    assert caret.count("^") == 5


def test_long_lines_are_shortened_around_the_fault() -> None:
    error = message("DENSE|3," * 500 + "DENSE|4|RELUU" + ",DENSE|3" * 500)
    assert len(error) < 400
    assert "RELUU" in error.split("\n")[1]


def test_single_network_raises_where_a_gan_is_expected_and_vice_versa() -> None:
    with pytest.raises(LayoutError, match="discriminator's layout are missing"):
        parse_gan("DENSE|3")
    with pytest.raises(LayoutError, match="a single network is expected"):
        parse("DENSE|3##DENSE|1")
    with pytest.raises(LayoutError, match="a third network"):
        parse_gan("DENSE|3##DENSE|1##DENSE|1")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1000,
        "[" * 1000 + "DENSE|3" + "]" * 1000,
        "RES[" * 1000 + "DENSE|3" + "]" * 1000,
        "(" * 10_000,
        "DENSE|" + "(" * 1000 + "N" + ")" * 1000 + "|X",
        "DENSE|" + "9" * 10_000,
        "DENSE|" + "9*" * 5_000 + "9",
        "DENSE|" + "9" * 50_000 + "x",
        "DENSE|3" + " " * 50_000 + "x",
        "[" + "".join(f"b{i}: PASS; " for i in range(9_000)) + "b1: PASS]",
        "A" * 10_000,
        "DENSE|" + "A" * 10_000,
        "|" * 10_000,
        "DENSE|3," * 1_250,
        "\ud800" * 10_000,
        "DENSE|3|SN" + "|SN" * 3_000,
        "x" * 300_000,
        "",
        " \n\t ",
    ],
    ids=lambda text: f"{text[:12]!r}…{len(text)}",
)
def test_hostile_strings_raise_quickly(text: str) -> None:
    start = time.process_time()
    error = message(text)
    assert time.process_time() - start < 0.5
    assert len(error) < 1000


@given(st.text(max_size=200) | st.text(ALPHABET, max_size=60))
def test_any_text_parses_or_raises_a_layout_error(text: str) -> None:
    try:
        layout = parse(text)
    except LayoutError:
        return
    assert parse(str(layout)) == layout


def mutated(random_: random.Random, texts: list[str]) -> str:
    """A string near to a layout: cut, doubled, spliced, or with other characters in it."""
    text = list(random_.choice(texts))
    for _ in range(random_.randint(1, 6)):
        at, to = sorted(random_.randrange(len(text) + 1) for _ in range(2))
        kind = random_.randrange(5)
        if kind == 0:
            text[at : at + 1] = random_.choice(ALPHABET)
        elif kind == 1:
            del text[at : min(to, at + 8)]
        elif kind == 2:
            text[at:at] = random_.choice(
                [*LAYERS, *ACTIVATIONS, "[", "]", "##", "|", ",", "; ", "a: "]
            )
        elif kind == 3 and len(text) < 10_000:
            text[at:at] = text[at:to] * random_.randint(1, 3)
        else:
            text[at:at] = chr(random_.choice([0x300, 0x660, 0xDFFF, 0x1F600, 0x130, 0x2028, 0]))
    return "".join(text)


def hostile(random_: random.Random, texts: list[str]) -> str:
    kind = random_.randrange(100)
    if kind < 70:
        return mutated(random_, texts)
    if kind < 98:
        return "".join(random_.choices(ALPHABET, k=random_.randrange(60)))
    if kind < 99:
        return "".join(random_.choices(ALPHABET, k=random_.choice([1_000, 10_000])))
    return random_.choice(["[", "RES[", "(", "[a:", "ATTEND["]) * random_.choice([50, 1_000])


def raises_layout_errors_alone(count: int, seed: int) -> float:
    """The longest time that any of ``count`` hostile strings took [s]."""
    random_ = random.Random(seed)
    texts = [text.layout for name, text in published_layouts().items() if name != "calogan"] + [
        "CONV|12|2|2|1|1|TANH, MAXPOOL|6|6|1|1, RESHAPE|1|1|5808|FLAT, DENSE|(N+100)*2|TANH",
        "[layer_0: RES[DENSE|3|LRELU|0.2|SN; PASS]; layer_1: FROM|layer_0], COND|3|SILU, LINEAR",
        "GRU|5|28|28|0|1|1, BNORM|-1|1e-4, DROPOUT|0.5##CONV3D|1|2|2|2|1|1|1|RELU|CIRCW",
    ]
    longest = 0.0
    for _ in range(count):
        text = hostile(random_, texts)
        start = time.process_time()
        for read in (parse, parse_gan):
            try:
                read(text)
                trace(parse(text), input=(1, 28, 28), conditions=1)
            except LayoutError as error:
                assert len(str(error)) < 1500  # noqa: PT017
        longest = max(longest, time.process_time() - start)
    return longest


def test_hostile_strings_raise_only_layout_errors() -> None:
    assert raises_layout_errors_alone(4_000, seed=1) < 1.0


@pytest.mark.slow
def test_a_million_hostile_strings_raise_only_layout_errors() -> None:
    assert raises_layout_errors_alone(1_000_000, seed=2) < 1.0


@settings(max_examples=200)
@given(st.integers(-50, 50), st.integers(0, 50), st.integers(1, 50), st.integers(1, 1000))
def test_formulas_have_pythons_value(a: int, b: int, c: int, n: int) -> None:
    from hepgan.layout.spec.formula import evaluate

    text = f"(N+{b})*{c}-{abs(a)}/{c}+(2*(N-{b}))"
    assert evaluate(text, n) == (n + b) * c - abs(a) // c + 2 * (n - b)

"""Numbers as text: rounding by the error, plain numbers, and powers of ten only where they help."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepgan.evaluation.formatting import distinct_texts, percent, rounded, with_error

SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def parsed(text: str) -> tuple[float, float]:
    """Returns the value and the error that a text states."""
    body, _, exponent = text.partition("·10")
    numbers = body.strip("()").replace("−", "-").replace(",", "").split(" ± ")
    factor = 10.0 ** int(exponent.translate(SUPERSCRIPTS) or 0)
    value, error = (float(number) * factor for number in numbers)
    return value, error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        # the Particle Data Group's examples: 0.827 ± 0.119, 0.827 ± 0.367
        (0.827, 0.119, "0.83 ± 0.12"),
        (0.827, 0.367, "0.8 ± 0.4"),
        (14.674, 0.964, "14.7 ± 1.0"),
        (1.0, 2e-6, "1.0000000 ± 0.0000020"),
        (1.0, 1e-12, "1.0000000 ± 0.0000010"),
        (-0.0001, 0.01, "0.000 ± 0.010"),
        (-2.5, 0.1, "−2.50 ± 0.10"),
        (123_456.7, 4210.0, "123,000 ± 4,000"),
        (2.5e8, 4e6, "(2.50 ± 0.04)·10⁸"),
        (3.21e-8, 4e-9, "(3.2 ± 0.4)·10⁻⁸"),
        (0.25, 0.0, "0.25"),
        (0.25, math.nan, "0.25"),
        (math.inf, 1.0, "∞"),
    ],
)
def test_a_value_is_rounded_by_its_error(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e9))
def test_the_rounded_error_is_within_fifteen_percent_and_the_value_within_a_tenth_of_it(
    value: float, error: float
) -> None:
    text = with_error(value, error)
    shown, doubt = parsed(text)
    expected = max(error, 1e-6 * abs(value))
    assert doubt == pytest.approx(expected, rel=0.15)
    assert abs(shown - value) <= 0.16 * expected
    assert "e" not in text


@given(st.floats(1e-4, 9.9e6))
def test_plain_numbers_have_no_exponent(value: float) -> None:
    assert "·" not in rounded(value)
    assert "e" not in rounded(value)


def test_different_numbers_have_different_texts() -> None:
    assert distinct_texts([1000.0, 2638.4]) == ["1,000", "2,640"]
    assert distinct_texts([0.1, 1000.1, 1000.4]) == ["0.1", "1,000.1", "1,000.4"]
    assert percent(-0.00123, sign="+") == "−0.12 %"

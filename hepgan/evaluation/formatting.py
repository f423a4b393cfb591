"""Numbers as text: rounded, with errors, as percentages and as p-values."""

import itertools
import math
from collections.abc import Iterable

PDG_ONE_DIGIT = 3.55
"""Leading digits of an error from which one digit is shown, and two below (Particle Data Group, rounding)."""
MAX_PRECISION = 1e-6
"""Smallest error relative to its value that is shown; smaller ones are rounded up to it."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def rounded(value: float, digits: int = 3, *, sign: str = "") -> str:
    """Formats a number with ``digits`` significant digits, thousands separators, and a power of ten if it is very large or small.

    >>> rounded(2638.4), rounded(0.01234), rounded(-5.0), rounded(6.02e23), rounded(math.inf)
    ('2,640', '0.0123', '−5', '6.02·10²³', '∞')
    """
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else "∞" if value > 0 else "−∞"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    power = 0 if -5 < exponent < 7 else exponent
    decimals = digits - 1 - exponent + power
    text = _fixed(value / 10.0**power, decimals, sign)
    return (text.rstrip("0").rstrip(".") if "." in text else text) + _power_of_ten(power)


def distinct_texts(values: Iterable[float]) -> list[str]:
    """Formats increasing numbers with the fewest digits, at least three, that distinguish them, and without decimals beyond their distances.

    >>> distinct_texts([1000.0, 2638.4]), distinct_texts([0.5, 2638.4, 2641.0]), distinct_texts([4e-6, 0.0877])
    (['1,000', '2,640'], ['0.5', '2,638', '2,641'], ['0', '0.0877'])
    """
    exact = [float(value) for value in values]
    gaps = [b - a for a, b in itertools.pairwise(exact) if b > a]
    decimals = 2 - math.floor(math.log10(min(gaps))) if gaps else 15
    for digits in range(3, 16):
        texts = [rounded(round(value, decimals), digits) for value in exact]
        if len(set(texts)) == len(texts):
            return texts
    return [str(value) for value in exact]


def with_error(value: float, error: float) -> str:
    """Formats a value with its error, rounded as the Particle Data Group does: two digits of the error below 355, one from there on.

    Both have a common power of ten if they are very large or small. A value without an error has three digits.

    >>> with_error(0.55384, 0.0102), with_error(12.3456, 0.42), with_error(1.0, 2e-6), with_error(3.21e-8, 4e-9)
    ('0.554 ± 0.010', '12.3 ± 0.4', '1.0000000 ± 0.0000020', '(3.2 ± 0.4)·10⁻⁸')
    """
    if not (math.isfinite(value) and 0 < error < math.inf):
        return rounded(value)
    exponent = math.floor(math.log10(max(abs(value), error)))
    power = 0 if -4 < exponent < 6 else exponent
    scaled, doubt = value / 10.0**power, error / 10.0**power
    doubt = max(doubt, MAX_PRECISION * abs(scaled))
    digit = math.floor(math.log10(doubt))
    decimals = (1 if doubt / 10.0**digit < PDG_ONE_DIGIT else 0) - digit
    text = f"{_fixed(scaled, decimals)} ± {_fixed(doubt, decimals)}"
    return f"({text}){_power_of_ten(power)}" if power else text


def percent(fraction: float, *, sign: str = "") -> str:
    """Formats a fraction as a percentage of two digits.

    >>> percent(0.0123), percent(1.0), percent(-0.005, sign="+")
    ('1.2 %', '100 %', '−0.5 %')
    """
    value = 100 * fraction
    return f"{rounded(value, 2 if abs(value) < 99.5 else 3, sign=sign)} %"


def relation_of_p_value(p: float) -> str:
    """Formats a p-value with its relation sign.

    >>> relation_of_p_value(0.4321), relation_of_p_value(3.2e-7), relation_of_p_value(0.0)
    ('= 0.43', '= 3·10⁻⁷', '< 10⁻³⁰⁰')
    """
    if p < 1e-300:
        return "< 10⁻³⁰⁰"
    if p >= 0.001:
        return f"= {p:.2g}"
    digits, exponent = f"{p:.0e}".split("e")
    return f"= {digits}{_power_of_ten(int(exponent))}"


def significance_text(n_sigma: float) -> str:
    """Formats n_sigma, with one digit.

    >>> significance_text(3.14), significance_text(-0.01), significance_text(1e4)
    ('3.1', '0.0', '>999')
    """
    return ">999" if n_sigma >= 1000 else _fixed(n_sigma, 1)


def _fixed(value: float, decimals: int, sign: str = "") -> str:
    """Returns a number with so many decimals (zeros before the point if negative), thousands separators and a minus sign."""
    nearest = round(value, decimals) + 0.0  # 0.0 instead of −0.0
    return f"{nearest:{sign},.{max(0, decimals)}f}".replace("-", "−")


def _power_of_ten(exponent: int) -> str:
    return f"·10{str(exponent).translate(_SUPERSCRIPTS)}" if exponent else ""

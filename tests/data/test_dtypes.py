"""Values are converted to the types of a file, within their limits."""

import awkward as ak
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hepgan.data.dtypes import to_dtype
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import DataError, HepganError, RunError

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", INTEGERS)
@given(value=st.floats(allow_nan=False, allow_infinity=False), width=st.sampled_from(FLOATS[1:]))
def test_numbers_are_rounded_to_the_nearest_representable_integer(
    dtype: str, value: float, width: str
) -> None:
    with np.errstate(over="ignore"):
        number = np.array([value]).astype(width)
    if not np.isfinite(number[0]):
        return
    limits = np.iinfo(dtype)
    expected = min(max(round(float(number[0])), int(limits.min)), int(limits.max))
    assert int(to_dtype(number, dtype, "n")[0]) == expected


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("source", FLOATS[1:])
def test_the_limits_of_integers_do_not_wrap(dtype: str, source: str) -> None:
    limits = np.iinfo(dtype)
    values = np.array([limits.min, limits.max, -1e30, 1e30], source)
    converted = to_dtype(values, dtype, "n").tolist()
    assert converted == [limits.min, limits.max, limits.min, limits.max]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("source", INTEGERS)
def test_integers_of_another_type_are_clipped(dtype: str, source: str) -> None:
    low, high, source_limits = np.iinfo(dtype), np.iinfo(dtype), np.iinfo(source)
    values = np.array([source_limits.min, 0, source_limits.max], source)
    expected = [max(source_limits.min, low.min), 0, min(source_limits.max, high.max)]
    assert to_dtype(values, dtype, "n").tolist() == expected


def test_booleans_are_true_from_one_half() -> None:
    values = np.array([-3.0, 0.0, 0.01, 0.49, 0.5, 1.0, 7.0], "f4")
    assert to_dtype(values, "bool", "b").tolist() == [False] * 4 + [True] * 3
    assert to_dtype(np.array([False, True]), "uint8", "b").tolist() == [0, 1]


def test_large_numbers_stay_finite_in_a_smaller_type() -> None:
    values = np.array([1e300, -1e300, 1.5, np.inf, np.nan])
    converted = to_dtype(values, "float32", "x")
    largest = np.finfo("f4").max
    np.testing.assert_array_equal(
        converted, np.array([largest, -largest, 1.5, np.inf, np.nan], "f4")
    )


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_cannot_become_an_integer(dtype: str, bad: float) -> None:
    message = f"field 'hits' is {bad} in event 11, which {dtype} cannot represent"
    with pytest.raises(DataError, match=message):
        to_dtype(np.array([[0.0, 1.0], [0.0, bad]]), dtype, "hits", first=10)


def test_generated_booleans_and_integers_have_the_types_of_the_file() -> None:
    schema = Schema.from_table({"fields": {"b": {"dtype": "bool"}, "n": {"dtype": "int32"}}})
    limits = np.iinfo("int32")
    numbers = np.array([0, 1, 1, 0, 1, 100, 2**23, -(2**23)], "i4")
    events = ak.zip({"b": numbers == 1, "n": numbers}, depth_limit=1)
    encoding = Encoding.fit(events, schema, EncodingSettings(({"step": "standardize"},)), seed=1)
    decoded = encoding.decode(*encoding.encode(events, seed=1))
    assert decoded["b"].tolist() == events["b"].tolist()
    noise = 1e4 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    generated = encoding.decode(noise, torch.empty(4000, 0))
    assert 0.4 < np.mean(generated["b"]) < 0.6
    assert (ak.min(generated["n"]), ak.max(generated["n"])) == (limits.min, limits.max)
    with pytest.raises(HepganError, match="nan in generated event 0"):
        encoding.decode(noise * torch.nan, torch.empty(4000, 0))


@pytest.mark.parametrize("dtype", ["U5", "complex128", "datetime64[s]", "object"])
def test_a_dtype_that_is_not_numeric_raises(dtype: str) -> None:
    with pytest.raises(RunError, match="not numeric"):
        Schema.from_table({"fields": {"b": {"dtype": dtype}}})

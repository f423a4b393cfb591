"""Shapes and sizes without torch, against published figures and by hand."""

import math
import subprocess
import sys

import pytest

from hepgan.errors import LayoutError
from hepgan.layout import parse, trace
from hepgan.layout.memory import check_memory
from hepgan.layout.nn.network import build
from hepgan.layout.shapes import shape_context, trace_steps
from hepgan.layout.summary import summarize
from hepgan.layout.zoo import look_up, published_layouts

SLIDES = "CONV|12|2|2|1|1|TANH, MAXPOOL|6|6|1|1, RESHAPE|1|1|9408|FLAT, DENSE|512|TANH"
FIELDS = {"layer_0": (3, 96), "layer_1": (12, 12), "energy": ()}


def last(text: str, *input: int, **options: object) -> tuple[int, ...]:
    return trace(parse(text), input=input, **options)[-1].output  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "counts"),
    [("calogan", [29_726_376, 2_744_524]), ("alexnet", [62_378_344])],
)
def test_published_networks_have_the_published_numbers_of_parameters(
    name: str, counts: list[int]
) -> None:
    parameters = [network["parameters"] for network in published_layouts()[name].summary().values()]
    assert parameters == counts == list(published_layouts()[name].published)


def test_dcgan_has_as_many_parameters_as_in_torchs_tutorial() -> None:
    parameters = [network["trainable"] for network in look_up("dcgan-64").summary().values()]
    assert parameters == [3_576_704, 2_765_568]


@pytest.mark.parametrize("name", published_layouts())
def test_every_named_layout_generates_and_classifies_events(name: str) -> None:
    networks = look_up(name).summary()
    if "generator" in networks:
        output = networks["generator"]["layers"][-1]["output"]
        assert math.prod(output) == math.prod(look_up(name).input)
        assert math.prod(networks["discriminator"]["layers"][-1]["output"]) == 1


def test_the_slides_reshape_to_9408_raises_with_5808() -> None:
    with pytest.raises(LayoutError) as caught:
        summarize(SLIDES, input=(1, 28, 28))
    first, line, caret = str(caught.value).split("\n")
    assert "5808" in first
    assert line[caret.index("^") : caret.rindex("^") + 1] == "9408"


def test_the_slides_layout_with_a_plain_flat_is_valid() -> None:
    text = SLIDES.replace("1|1|9408|FLAT", "FLAT")
    layers = summarize(text, input=(1, 28, 28))["network"]["layers"]
    assert [layer["output"] for layer in layers] == [[12, 27, 27], [12, 22, 22], [5808], [512]]
    assert layers[0]["parameters"] == 12 * 4 + 12
    assert layers[3]["parameters"] == 5808 * 512 + 512


@pytest.mark.parametrize(
    ("text", "input_", "output"),
    [
        ("RESHAPE|FLAT", (3, 4, 5), (60,)),
        ("RESHAPE|1|1|60|FLAT", (3, 4, 5), (60,)),
        ("RESHAPE|5|3|4", (60,), (5, 3, 4)),
        ("TCONV|8|4|4|2|2|1|1|RELU", (3, 7, 9), (8, 14, 18)),
        ("UPSAMPLE|2|3", (3, 7, 9), (3, 14, 27)),
        ("AVGPOOL|1|8|1|8", (1, 12, 96), (1, 12, 12)),
        ("ADAPTIVE|2|2", (4, 7, 9), (4, 2, 2)),
        ("PAD|0|1|2|3", (4, 7, 9), (4, 8, 14)),
        ("CONV3D|5|3|3|3|2|1|1|1|1|1|RELU", (1, 45, 16, 9), (5, 23, 16, 9)),
        ("MAXPOOL|2|2|2|2|2|2", (3, 8, 8, 9), (3, 4, 4, 4)),
        ("LSTM|7|4|5", (5, 4), (7,)),
        ("GRU|7|4|5|0|1|1", (1, 5, 4), (5, 7)),
        ("[CONV|2|1|1|1|1; CONV|3|1|1|1|1]", (1, 4, 4), (5, 4, 4)),
        ("[CONV|2|1|1|1|1; SUM]", (1, 4, 4), (33,)),
        ("RES[CONV|2|3|3|1|1|1|1; CONV|2|1|1|1|1]", (1, 4, 4), (2, 4, 4)),
        ("MBDISC|10|4", (6,), (16,)),
        ("MBDISC|10|4|ALONE", (6,), (10,)),
        ("MINIBATCHSTD", (6,), (7,)),
        ("MINIBATCHSTD", (3, 5, 5), (4, 5, 5)),
        ("MINIBATCHSTD", (4, 3), (4, 4)),
        ("ATTENTION|2", (4, 6, 7), (4, 6, 7)),
        ("COND, MODULATE|4|SILU", (3, 5, 5), (5, 5, 5)),
        ("COND, ADALN", (9,), (11,)),
        ("COND, PROJECTION", (3, 5, 5), (1,)),
        ("COND", (3, 5, 5), (5, 5, 5)),
        ("COND|7|SILU", (4, 3), (4, 10)),
        ("DENSE|4, COND", (9,), (6,)),
    ],
)
def test_shapes_equal_those_computed_by_hand(
    text: str, input_: tuple[int, ...], output: tuple[int, ...]
) -> None:
    conditions = 2 if "COND" in text else 0
    assert last(text, *input_, conditions=conditions) == output


def test_width_zero_means_the_number_of_outputs() -> None:
    assert last("DENSE|5,LINEAR", 9, outputs=3) == (3,)
    with pytest.raises(LayoutError, match="not known here"):
        last("DENSE|5,LINEAR", 9)


@pytest.mark.parametrize(
    ("text", "says", "marked"),
    [
        ("CONV|12|30|2|1|1|TANH", "only 28", "30"),
        ("MAXPOOL|2|29|1|1", "only 28", "29"),
        ("DENSE|4, CONV|1|2|2|1|1|TANH", "CONV needs depth|height|width", "CONV|1|2|2|1|1|TANH"),
        ("TCONV|1|1|1|1|1|14|14|RELU", "leaves nothing", "14"),
        ("CONV|1|3|3|1|1|40|1|RELU|CIRCH", "circular padding 40 exceeds the length 28", "40"),
        ("LSTM|5|27|28", "use 28 inputs", "27"),
        ("LSTM|5|28|27", "use 28 time steps", "27"),
        ("DENSE|N-784", "width must be at least 1, but N-784 is 0", "N-784"),
        ("DENSE|N-785", "at least 0, not -1", "N-785"),
        ("CONV|N-784|1|1|1|1", "depth must be at least 1, not 0", "N-784"),
        ("DENSE|3/(N-784)", "divides by zero", "3/(N-784)"),
        ("CONV|8|1|1|1|1, GNORM|3", "3 groups do not divide", "3"),
        ("RES[CONV|2|1|1|1|1]", "cannot add 2|28|28 to 1|28|28", "CONV|2|1|1|1|1"),
        ("[a: SUM; b: FROM|aa]", "did you mean 'a'?", "aa"),
        ("COND", "the events have none", "COND"),
        (
            "CONV|4|1|1|1|1, CONV|6|1|1|1|1|0|0|4",
            "4 groups do not divide the input depth 4 and the output depth 6",
            "4",
        ),
        ("RESHAPE", "RESHAPE needs", "RESHAPE"),
        ("RESHAPE|3|5|5|FLAT", "75 values, but its input is 1|28|28 = 784", "3|5|5"),
        ("UPSAMPLE|2|2|2", "needs depth|length|height|width", "UPSAMPLE|2|2|2"),
    ],
)
def test_layers_that_do_not_fit_are_marked(text: str, says: str, marked: str) -> None:
    with pytest.raises(LayoutError) as caught:
        last(text, 1, 28, 28)
    first, line, caret = str(caught.value).split("\n")
    assert says in first
    assert line[caret.index("^") : caret.rindex("^") + 1] == marked


def test_faults_of_layouts_built_in_python_are_marked_in_their_printed_form() -> None:
    layout = parse("CONV|12|30|2|1|1|TANH")
    bare = type(layout)(layout.words)
    with pytest.raises(LayoutError, match=r"CONV\|12\|30"):
        trace(bare, input=(1, 28, 28))


def test_branches_named_after_fields_read_them_in_a_discriminator() -> None:
    text = "[layer_1: CONV|1|1|1|1|1; layer_0: PASS; energy: PASS]"
    lines = trace(parse(text), input=(433,), fields=FIELDS, role="discriminator")
    assert [line.output for line in lines] == [(1, 12, 12), (1, 3, 96), (1,), (433,)]
    assert [line.branch for line in lines] == ["layer_1", "layer_0", "energy", ""]


def test_branches_named_after_fields_must_generate_them_in_a_generator() -> None:
    valid = "[energy: DENSE|1; layer_0: DENSE|288; layer_1: DENSE|144]"
    assert last(valid, 433, fields=FIELDS, role="generator") == (433,)
    with pytest.raises(LayoutError, match=r"'layer_0' is 3\|96 = 288 values, but"):
        last(valid.replace("288", "287"), 20, fields=FIELDS)
    with pytest.raises(LayoutError, match="no branch generates the event's field 'energy'"):
        last("[layer_0: DENSE|288; layer_1: DENSE|144]", 20, fields=FIELDS)


def test_misspelled_field_raises_with_the_nearest_name() -> None:
    with pytest.raises(LayoutError, match="did you mean 'layer_0'"):
        last("[layer0: SUM; layer_1: SUM]", 433, fields=FIELDS, role="discriminator")


def test_fields_can_be_read_only_by_the_first_layer() -> None:
    with pytest.raises(LayoutError, match="its stream must be the first layer"):
        last("ACT|RELU, [layer_0: SUM; layer_1: SUM]", 433, fields=FIELDS, role="discriminator")


def test_conditions_are_concatenated_to_the_input_by_default() -> None:
    assert trace(parse("DENSE|4"), input=(9,), conditions=2)[0].word == "COND"
    inside = trace(
        parse("[layer_0: PASS; layer_1: PASS]"), input=(433,), fields=FIELDS, conditions=2
    )
    assert inside[1].output == (3, 3, 96)


def test_conditions_are_concatenated_after_a_leading_reshape() -> None:
    lines = trace(parse("RESHAPE|1|1|784|FLAT, DENSE|4"), input=(1, 28, 28), conditions=2)
    assert [line.output for line in lines] == [(784,), (786,), (4,)]


def test_generator_of_the_wrong_output_size_raises() -> None:
    with pytest.raises(LayoutError, match="output is 512 = 512 values, but an event has N = 784"):
        summarize("DENSE|512##DENSE|1", input=(1, 28, 28), features=784)


def test_summary_of_a_gan_gives_each_network() -> None:
    table = summarize("DENSE|N##DENSE|1|SIGMOID", input=(4,), generator_input=(2,), conditions=1)
    assert table["generator"]["layers"][1] == {
        "word": "DENSE|4|TANH",
        "output": [4],
        "parameters": 16,
        "operations": 12,
        "branch": "",
    }
    assert table["generator"]["parameters"] == 16
    assert table["discriminator"]["parameters"] == 6


def test_billion_wide_layer_is_summarized_but_not_built() -> None:
    wide = "DENSE|8, DENSE|1000000000"
    assert summarize(wide, input=(784,))["network"]["parameters"] == 8 * 785 + 9 * 10**9
    with pytest.raises(LayoutError) as caught:
        build(parse(wide), input=(784,), seed=1)
    first, line, caret = str(caught.value).split("\n")
    assert "GB" in first
    assert line[caret.index("^") : caret.rindex("^") + 1] == "1000000000"


def test_outputs_too_large_for_memory_raise() -> None:
    with pytest.raises(LayoutError, match="of memory"):
        build(parse("UPSAMPLE|10000|10000"), input=(1, 28, 28), seed=1)


def test_outputs_beyond_any_memory_raise_immediately() -> None:
    with pytest.raises(LayoutError, match="exceeds any memory"):
        last(", ".join(["UPSAMPLE|1000000|1000000"] * 300), 1, 28, 28)


def test_required_memory_is_16_bytes_per_parameter_and_4_per_value() -> None:
    layout = parse("DENSE|9")
    steps = trace_steps(layout, (10,), shape_context((10,)))
    check_memory(layout, steps, limit=99 * 16 + 9 * 4)
    with pytest.raises(LayoutError, match="of memory"):
        check_memory(layout, steps, limit=99 * 16 + 9 * 4 - 1)


@pytest.mark.parametrize("input_", [(), (0,), (1, -28, 28)])
def test_input_without_values_raises(input_: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match="input shape"):
        trace(parse("DENSE|3"), input=input_)


def test_oversized_input_raises() -> None:
    with pytest.raises(LayoutError, match="too large"):
        trace(parse("DENSE|3"), input=(10**9, 10**9))


def test_grammar_and_shapes_do_not_import_torch() -> None:
    code = "import hepgan.layout.summary, hepgan.layout.zoo, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

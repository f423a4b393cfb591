"""Random layouts: print and parse, and shapes and sizes without torch against those of the built network."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.errors import LayoutError
from hepgan.layout import parse, trace
from hepgan.layout.nn.network import build
from hepgan.layout.spec.base import ACTIVATIONS, LAYERS, Shape

INPUTS: tuple[Shape, ...] = ((7,), (4, 3), (1, 5, 6), (3, 4, 4), (1, 3, 4, 3), (1, 1, 9))
CONDITIONAL = ("COND", "TIMES", "BALANCE", "MODULATE", "ADALN", "PROJECTION")
FLAGS = ["", "", "", "|SN", "|ZERO", "|NOBIAS", "|HE|SN"]


def activation(r: random.Random) -> str:
    name = r.choice(list(ACTIVATIONS))
    return (
        f"{name}|{r.choice(['0.1', '2.5', '1e-3'])}"
        if ACTIVATIONS[name] and r.random() < 0.5
        else name
    )


def numbers(r: random.Random, least: int, most: int, count: int) -> str:
    return "|".join(str(r.randint(least, most)) for _ in range(count))


def dense(r: random.Random) -> str:
    width = r.choice(["5", "8", "(N+3)*2", "2*3", "n", "0"])
    name = activation(r)
    spellings = [
        f"DENSE|{width}|{name}",
        f"DENSE|{name}|{width}",
        f"{width}|{name}",
        f" dense | {width}",
    ]
    return r.choice(spellings[:3] if "|" not in name else spellings[:1]) + r.choice(FLAGS)


def sliding(r: random.Random, word: str, axes: int) -> str:
    pads = "|" + numbers(r, 0, 2, axes) if r.random() < 0.5 else ""
    pads += f"|{r.randint(1, 3)}" if pads and word == "CONV" and r.random() < 0.5 else ""
    around = r.choice(["", "|CIRCW", "|CIRCH|CIRCW"]) if "T" not in word else ""
    window = f"{numbers(r, 1, 3, axes)}|{numbers(r, 1, 2, axes)}"
    return f"{word}|{r.randint(1, 4)}|{window}{pads}|{activation(r)}{around}{r.choice(FLAGS)}"


def word(r: random.Random, shape: Shape, depth: int) -> str:
    """A word that may fit ``shape``."""
    kind = r.choice([w for w in LAYERS if w != "FROM" or depth])
    axes = 3 if len(shape) == 4 else 2
    if kind in ("", "RES", "ATTEND"):
        return branching(r, kind, shape, depth)
    makers = {
        "DENSE": lambda: dense(r),
        "ACT": lambda: f"ACT|{activation(r)}",
        "RESHAPE": lambda: r.choice(["RESHAPE|FLAT", f"RESHAPE|{'|'.join(map(str, (1, *shape)))}"]),
        "BNORM": lambda: r.choice(["BNORM", "bnorm|0.9", "BNORM|-1|1e-4"]),
        "LNORM": lambda: r.choice(["LNORM", "LNORM|0.001"]),
        "GNORM": lambda: f"GNORM|{r.randint(1, 3)}",
        "DROPOUT": lambda: "DROPOUT|0.25",
        "ADAPTIVE": lambda: f"ADAPTIVE|{numbers(r, 1, 3, axes)}",
        "UPSAMPLE": lambda: f"UPSAMPLE|{numbers(r, 1, 2, axes)}" + r.choice(["", "|BILINEAR"]),
        "PAD": lambda: f"PAD|{numbers(r, 0, 2, r.choice([2, 4]))}" + r.choice(["", "|CIRCH"]),
        "COND": lambda: r.choice(["COND", "COND|4", "COND|3|SILU"]),
        "TIMES": lambda: r.choice(["TIMES", "TIMES|1"]),
        "SCALE": lambda: "SCALE|0.5",
        "OCCUPANCY": lambda: r.choice(["OCCUPANCY", "OCCUPANCY|-0.1|0.2"]),
        "BALANCE": lambda: r.choice(["BALANCE|2|1", "BALANCE|2.5|1e-1|1"]),
        "MBDISC": lambda: f"MBDISC|{numbers(r, 1, 4, 2)}" + r.choice(["", "|TANH", "|ALONE"]),
        "FROM": lambda: "FROM|a",
        "MODULATE": lambda: r.choice(["MODULATE", "MODULATE|3", "MODULATE|3|SILU"]),
        "ADALN": lambda: r.choice(["ADALN", "ADALN|3|SILU", "ADALN|3|1e-3|SILU"]),
        "PROJECTION": lambda: "PROJECTION" + r.choice(["", "|SN", "|3|SILU", "|ZERO"]),
        "ATTENTION": lambda: f"ATTENTION|{r.randint(1, 2)}" + r.choice(["", "|POSITIONS", "|ZERO"]),
    }
    if kind in ("RNN", "LSTM", "GRU"):
        flags = r.choice(["", "|0", "|1|1", "|0|1|1" if kind == "GRU" else ""])
        return f"{kind}|{r.randint(1, 5)}|{shape[-1]}|{shape[-2] if len(shape) > 1 else 1}{flags}"
    if kind in ("MAXPOOL", "AVGPOOL"):
        return f"{kind}|{numbers(r, 1, 2, axes)}|{numbers(r, 1, 2, axes)}"
    if kind.endswith(("CONV", "CONV3D")) or kind == "LOCAL":
        return sliding(r, kind, 3 if kind.endswith("3D") else 2)
    return makers.get(kind, lambda: kind)()


def branching(r: random.Random, kind: str, shape: Shape, depth: int) -> str:
    if depth >= 2:
        return "PASS"
    count = 1 if kind == "ATTEND" else r.randint(1, 3)
    names = ["a: ", "layer_1 : ", ""] if not kind else ["", "", ""]
    branches = [names[i] + net(r, shape, r.randint(1, 2), depth + 1) for i in range(count)]
    return f"{kind}[{r.choice(['; ', ';', ' ;' + chr(10)]).join(branches)}]"


def net(r: random.Random, shape: Shape, length: int, depth: int = 0) -> str:
    """A net of ``length`` words that fit; those that do not are drawn again."""
    words: list[str] = []
    while len(words) < length:
        trial = word(r, shape, depth)
        try:
            # With a COND behind it, none is put in front.
            lines = trace(parse(f"{trial}, COND"), input=shape, features=6, conditions=2, outputs=3)
        except LayoutError:
            if "FROM" in trial and depth:
                words.append(trial)
                break
            continue
        if sum(line.parameters for line in lines) > 20_000 or max(map(len_, lines)) > 4_000:
            continue
        words.append(trial)
        shape = lines[-2].output
    return r.choice([",", ", ", " ,\n"]).join(words)


def len_(line: object) -> int:
    product = 1
    for length in line.output:  # type: ignore[attr-defined]
        product *= length
    return product


def agrees(seed: int) -> int:
    """Checks one random layout; 1 where it fitted as a whole, else 0."""
    r = random.Random(seed)
    input_ = r.choice(INPUTS)
    text = net(r, input_, r.randint(1, 5))
    layout = parse(text)
    assert parse(str(layout)) == layout
    said = any(word in text.upper() for word in CONDITIONAL)
    conditions = 2 if said else r.choice([0, 0, 2])
    options = {"input": input_, "features": 6, "conditions": conditions, "outputs": 3}
    try:
        lines = trace(layout, **options)
    except (
        LayoutError
    ):  # a branch's FROM that found nothing, or conditions in front of a layer with fixed sizes
        return 0
    assert lines == trace(parse(str(layout)), **options)
    torch_agrees(layout, lines, options)
    return 1


def torch_agrees(layout, lines, options) -> None:  # type: ignore[no-untyped-def]
    network = build(layout, seed=1, **options)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *options["input"], generator=generator)
    y = network(x, torch.randn(3, options["conditions"], generator=generator))
    assert tuple(y.shape) == (3, *lines[-1].output)
    assert y.isfinite().all()
    trained = sum(p.numel() for p in network.parameters())
    kept = sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    assert trained == sum(line.parameters - line.statistics for line in lines)
    assert kept == sum(line.statistics for line in lines)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_random_layouts_round_trip_and_agree_with_torch(seed: int) -> None:
    agrees(seed)


def test_most_random_layouts_are_valid() -> None:
    assert sum(map(agrees, range(100))) > 60


@pytest.mark.slow
def test_twenty_thousand_random_layouts_round_trip_and_agree_with_torch() -> None:
    fitted = seed = 0
    while fitted < 20_000:
        fitted += agrees(seed)
        seed += 1

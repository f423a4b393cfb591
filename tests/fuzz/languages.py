"""Coverage-guided fuzzing of user input: layouts, run files, TMVA options, cuts and weights.

    pip install atheris
    python tests/fuzz/languages.py {layout,toml,tmva,expression} --seconds 600

Any text must give a result or a HepganError within 10 s and 2 GB. The last lines report the number of inputs, in total and per second.
Failing texts are printed and kept in ``--failures``; pass their paths to retry them.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONGEST_S, MOST_MB = 10, 2048

SEEDS = {
    "layout": [
        "conv|12|2|2|1|1|tanh, MAXPOOL|2|2|1|1, RESHAPE|FLAT, TANH|(N+100)*2, LRELU|0.1|4 ## BNORM|0.9|1e-4, 3|SN|HE, DENSE|1|SIGMOID",
        "[a: COND|3|SILU, DENSE|4; b: FROM|a], RES[DENSE|8|LINEAR; PASS], TIMES|1, SCALE|0.5, MBDISC|3|2|TANH|ALONE",
        "TCONV|2|3|3|2|2|1|1|ELU|0.5, LOCAL|3|2|2|1|1|CIRCH|CIRCW, GNORM|1|1e-5, INORM, UPSAMPLE|2|2|BILINEAR, PAD|1|2|0|1, AVGPOOL|2|2|2|2",
        "RESHAPE|6|6, LSTM|3|6|6|0|1, GRU|4|3|6|0|0|1, LNORM|1e-3, RESHAPE|1|2|2, ADAPTIVE|1|2, DROPOUT|0.25, [OCCUPANCY|0|0.2; BALANCE|2|1; SUM]",
        "RES[TIMES], ATTEND[CONV|1|3|3|1|1|1|1|NOBIAS], ACT|SOFTMAX, RNN|2|6|6|0|1, RESHAPE|1|3|2|2, CONV3D|1|2|2|2|1|1|1, 16|GAUSS",
    ],
    "toml": [
        """seed = 1
data = {files = ["sample:showers.root"], cut = "energy > 1", reflect = ["x"], test = 0.2}
schema.fields.x = {shape = [2, 3], branches = ["x_{0..5}"], unit = "GeV", dtype = "float32", minimum = 0.0}
schema.conditions.energy = {}
encoding.steps = [{step = "scale", to = [-1, 1]}, {step = "log"}, {step = "marginals"}, {step = "whiten", fields = ["x"]}]
encoding.conditions.energy = {range = [1, 100], scale = "log"}
geometry.x = {cell = [1.0, 2.0], axes = ["y", "x"]}
evaluate.quick = true
""",
        """[gan]
latent = [8]
layout = "TANH|4, DENSE|0 ## TANH|4, LINEAR|1"
[train]
steps = 10
batch_size = 4
objective = "wasserstein"
ema = 0.999
generator = {learning_rate = 1e-4, optimizer = "adam", betas = [0.0, 0.9]}
discriminator = {learning_rate = 1e-4}
[[phases]]
steps = 5
batch_size = 4
objective = "hinge"
generator = {learning_rate = 1e-4, optimizer = "sgd", momentum = 0.5}
discriminator.learning_rate = 1e-4
""",
    ],
    "tmva": [
        "!H:V:ErrorStrategy=CROSSENTROPY:VarTransform=N,G:WeightInitialization=XAVIER:InputLayout=1|1|9##1|1|9:BatchLayout=32|1|9##32|1|9",
        "Layout=RESHAPE|1|1|9|FLAT,DENSE|8|RELU,DENSE|0|LINEAR##DENSE|4|RELU,DENSE|1|SIGMOID:RandomSeed=7:ValidationSize=25%",
        ("TrainingStrategy=MaxEpochs=4,GeneratorLearningRate=2e-4,Momentum=0.9,Repetitions=1,DiscriminatorRepetitions=2,ConvergenceSteps=20"
        ",BatchSize=32,TestRepetitions=10,WeightDecay=1e-4,Regularization=L2,DropConfig=0.0+0.5,Multithreading=True,Optimizer=RMSPROP"
        ",ADAM_beta1=0.5|MaxEpochs=1,LearningRate=2e-5:Architecture=CPU:VerbosityLevel=Info"),
        "nTrain_Signal=100:nTest_Background=50:SplitMode=Random:NormMode=NumEvents:!V",
        "pt^2>1 && !(mass<0) || fabs(eta)<2.5 & (n%2==0)",
    ],
    "expression": [
        '(x > 0.2) & (abs(y) < 1) | (sum(v) > 2) and not hits[1] >= 3e-1',
        "-2*x**2 + v[1] // 3 % 0x1F - max(x, `a b`) / len(hits) <= min(v)",
        'TCut("x^2 > 1 && !(y>0) || (Sum$(hits) != Length$(hits)) & (i%3==1) | (TMath::Abs(x) < TMath::Pi())") and i == 1',
        "0 < x < 1 || ~((i & 3) == 2) != True && hypot(x, y) > arctan2(x, 1) && any(v > 1) && isfinite(x)",
        "TCut('int(x) + sq(y) * sqrt(x) - log(x) / exp(y) < atan2(x, y) && min(x,1) > pow(x, -1)')",
    ],
}  # fmt: skip
"""Initial texts, which together contain every word of each language."""

SEEDS["toml"].append("".join(SEEDS["toml"]))
SEEDS["tmva"].append(":".join(SEEDS["tmva"][:3]))


def layout() -> Callable[[str], None]:
    """Prints layouts, and builds and runs the small ones."""
    import torch

    from hepgan.layout import parse, parse_gan
    from hepgan.layout.nn.network import build
    from hepgan.layout.summary import summarize

    event: dict[str, Any] = {"input": (1, 6, 6), "conditions": 2}
    fields = {"a": (4,), "b": (4,)}

    def run(text: str) -> None:
        summary = summarize(text, **event)
        layouts = parse_gan(text) if "##" in text else (parse(text),)
        for network, (name, table) in zip(layouts, summary.items(), strict=True):
            assert str(parse(str(network))) == str(network)
            values = sum(size_of(layer) for layer in table["layers"])
            if values < 50_000 and len(table["layers"]) < 100:
                outputs = {"generator": 36, "discriminator": 1}.get(name, 0)
                module = build(network, seed=1, features=36, outputs=outputs, **event)
                output = module(torch.zeros(2, 1, 6, 6), torch.zeros(2, 2))
                assert list(output.shape[1:]) == table["layers"][-1]["output"]
        if "##" not in text:
            summarize(text, input=(8,), fields=fields, conditions=2)

    def size_of(layer: dict[str, Any]) -> int:
        values = 1
        for length in layer["output"]:
            values *= length
        return values + int(layer["parameters"]) + int(layer["operations"])

    torch.set_num_threads(1)
    return run


def toml() -> Callable[[str], None]:
    """Loads run files, and the files written back from them."""
    from hepgan import pipeline as library

    folder = tempfile.mkdtemp()
    path, again = Path(folder, "run.toml"), Path(folder, "again.toml")

    def run(text: str) -> None:
        path.write_bytes(text.encode())
        loaded = library.load(path)
        again.write_text(library.as_toml(loaded), encoding="utf-8")
        assert library.as_toml(library.load(again)) == library.as_toml(loaded)

    return run


def tmva() -> Callable[[str], None]:
    """Books methods on a schema of nine variables, and prepares trees with options and cuts."""
    from hepgan.data.schema import Field, Schema
    from hepgan.errors import HepganError
    from hepgan.tmva import DataLoader, booking

    schema = Schema({"x": Field((9,))})
    vars(booking).update(schema_of=lambda *_: schema, _events=lambda *_: 1000)

    def run(text: str) -> None:
        for action in (
            lambda: booking.book(text, ["sample:mnist.root"]),
            lambda: DataLoader("d").PrepareTrainingAndTestTree("", text),
            lambda: DataLoader("d").AddCut(text),
            lambda: DataLoader("d").AddVariable(text),
        ):
            try:
                action()
            except HepganError:
                continue

    return run


def expression() -> Callable[[str], None]:
    """Evaluates cuts and weights on branches of every kind."""
    import awkward as ak
    import numpy as np

    from hepgan.data.io.expressions import Expression

    x = np.array([-2, -1, -0.5, 0, 0.3, 0.5, 1, 1.5, 2, 3, np.nan, np.inf])
    arrays: dict[str, Any] = {
        "x": x, "y": np.arange(12.0), "i": np.arange(12, dtype="i4") - 4, "u": np.arange(12, dtype="u8"),
        "flag": x > 0, "v": np.zeros((12, 3), "f4"), "a b": x, "jet.pt": x.astype("f4"),
        "hits": ak.values_astype(ak.Array([[k + j for j in range(k % 3)] for k in range(12)]), "f4"),
    }  # fmt: skip

    def run(text: str) -> None:
        for what in ("cut", "weight"):
            parsed = Expression.parse(text, what)
            if set(parsed.names) <= set(arrays):
                assert parsed({name: arrays[name] for name in parsed.names}, "f").shape == (12,)

    return run


TARGETS = {"layout": layout, "toml": toml, "tmva": tmva, "expression": expression}


def fuzz(language: str, seconds: int, folder: Path, failed: list[str]) -> None:
    """Fuzzes in this process; libFuzzer exits it."""
    import atheris

    with atheris.instrument_imports(include=["hepgan", "tomllib"]):
        run = TARGETS[language]()
    from hepgan.errors import HepganError

    def one(data: bytes) -> None:
        try:
            run(data.decode("utf-8", "replace"))
        except HepganError as error:
            str(error)

    words = {word for text in SEEDS[language] for word in re.findall(r"\w+|[^\w\s]+", text)}
    dictionary, corpus = folder / "words", folder / "corpus"
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in sorted(words)))
    corpus.mkdir()
    for number, text in enumerate(SEEDS[language]):
        (corpus / f"seed{number}").write_text(text, encoding="utf-8")
    options = [
        f"-max_total_time={seconds}", f"-timeout={LONGEST_S}", f"-rss_limit_mb={MOST_MB}", "-max_len=4096",
        f"-dict={dictionary}", f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, *(failed or [str(corpus)])], one)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(
        c if c.isascii() and c.isalnum() else "".join(f"\\x{b:02x}" for b in c.encode())
        for c in word
    )


def main() -> int:
    """Runs the fuzzer in a subprocess and reports the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("failed", nargs="*", help="Files with texts to retry instead.")
    chosen = parser.parse_intermixed_args()
    if chosen.inside:
        fuzz(chosen.language, chosen.seconds, chosen.inside, chosen.failed)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, __file__, *sys.argv[1:], "--inside", temporary]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ, check=False
        )
        output = done.stdout.decode(errors="replace")
        stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", output))
        if done.returncode:
            sys.stdout.write(output[-6000:])
        for path in Path(temporary).glob("*-*"):
            chosen.failures.mkdir(exist_ok=True)
            saved = chosen.failures / f"{chosen.language}-{path.name}"
            saved.write_bytes(path.read_bytes())
            print(f"failed: {saved}\n{path.read_bytes()[:500]!r}")
    tried, rate = (
        int(stats.get(f"{key}", 0)) for key in ("number_of_executed_units", "average_exec_per_sec")
    )
    print(
        f"{chosen.language}: {tried:,} inputs, {rate:,} a second, {stats.get('peak_rss_mb')} MB at most, "
        f"{'a failure' if done.returncode else 'no failure'}"
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

"""TMVA's option strings: each option and key works or raises with its name; macros translate line by line."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from hepgan import pipeline as library
from hepgan.cli import main
from hepgan.data.encoding.encoding import Encoding
from hepgan.data.io import reader
from hepgan.data.schema import Schema
from hepgan.errors import HepganError, LayoutError, RunError
from hepgan.gan import serialization
from hepgan.gan.training import history
from hepgan.pipeline.training import read_events
from hepgan.tmva import DataLoader, Factory, Tools, Types, book, help_text
from hepgan.tmva.options import OPTIONS, UNSUPPORTED, options_of
from hepgan.tmva.strategy import KEYS

EVENTS = 200
SMALL = "Layout=TANH|8,DENSE|0|TANH##TANH|8,DENSE|1|SIGMOID"
TUTORIAL_PHASE = (
    "MaxEpochs={epochs},GeneratorLearningRate=2e-4,GeneratorMomentum=0.9,GeneratorRepetitions=1,"
    "GeneratorConvergenceSteps=20,GeneratorBatchSize=32,GeneratorTestRepetitions=10,"
    "GeneratorWeightDecay=1e-4,GeneratorRegularization=L2,"
    "GeneratorDropConfig=0.0+0.5+0.5+0.5, GeneratorMultithreading=True,"
    "DiscriminatorLearningRate=1e-4,DiscriminatorMomentum=0.9,DiscriminatorRepetitions=1,"
    "DiscriminatorConvergenceSteps=20,DiscriminatorBatchSize=32,DiscriminatorTestRepetitions=10,"
    "DiscriminatorWeightDecay=1e-4,DiscriminatorRegularization=L2,"
    "DropConfig=0.0+0.0+0.0+0.0, Multithreading=True"
)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images of 16 × 16 as TMVA stored them, one branch per pixel, and a label."""
    path = tmp_path_factory.mktemp("tmva") / "pixels.root"
    rng = np.random.default_rng(2)
    with uproot.recreate(path) as file:
        branches = {f"x{i}": rng.uniform(0, 255, EVENTS).astype("f4") for i in range(256)}
        file["pixels"] = branches | {"label": rng.integers(0, 10, EVENTS, dtype="i4")}
    return str(path)


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tmva") / "columns.root"
    rng = np.random.default_rng(3)
    with uproot.recreate(path) as file:
        file["events"] = {"mass": rng.normal(91, 2, EVENTS), "pt": rng.exponential(20, EVENTS)}
        file["others"] = {"mass": rng.normal(125, 2, 50), "pt": rng.exponential(20, 50)}
    return str(path)


def booked(options: str, path: str, **more: Any) -> Any:
    return book(options, [path], tree="events", **more).run


def test_the_string_of_the_tutorial_gives_the_expected_run(pixels: str) -> None:
    phase = TUTORIAL_PHASE.format(epochs=10)
    second = "MaxEpochs=4,LearningRate=2e-5,Momentum=0.0,BatchSize=32,TestRepetitions=1"
    options = (
        "!H:V:ErrorStrategy=CROSSENTROPY:VarTransform=N:WeightInitialization=XAVIERUNIFORM:"
        "InputLayout=1|1|100##1|1|256:BatchLayout=32|1|100##32|1|256:"
        "Layout=RESHAPE|1|1|100|FLAT,DENSE|64|RELU,DENSE|128|RELU,DENSE|128|RELU,DENSE|256|TANH"
        "##RESHAPE|1|1|256|FLAT,DENSE|64|RELU,DENSE|32|RELU,DENSE|1|SIGMOID:"
        f"TrainingStrategy={phase}|{second}:Architecture=CPU:RandomSeed=7:ValidationSize=25%"
    )
    booking = book(options, [pixels])
    run = booking.run
    assert (booking.device, booking.verbose, booking.help) == ("cpu", True, False)
    assert run.seed == 7
    assert run.gan.latent == (1, 1, 100)
    assert run.gan.input == (1, 1, 256)
    assert run.gan.initialization == "XAVIERUNIFORM"
    assert dict(run.schema.fields)["x"].shape == (16, 16)
    assert run.schema.features == 256
    assert not run.schema.conditions
    assert run.data.test == 0.2
    assert run.data.validation == pytest.approx(0.2)
    epoch = int(EVENTS * 0.6) // 32
    one, two = run.training
    assert (one.steps, two.steps) == (10 * epoch, 4 * epoch)
    assert (one.validate_every, two.validate_every) == (10 * epoch, epoch)
    assert (one.patience, two.patience) == (2, 100)
    assert (one.objective, one.r1, one.r2) == ("non-saturating", 1.0, 1.0)
    assert one.generator.dropout == (0.0, 0.5, 0.5, 0.5)
    assert one.discriminator.dropout == ()
    assert (one.generator.learning_rate, one.discriminator.learning_rate) == (2e-4, 1e-4)
    assert (one.generator.betas, one.generator.epsilon) == ((0.9, 0.999), 1e-7)
    assert (one.generator.l2, one.generator.l1) == (1e-4, 0.0)
    assert two.generator.betas == (0.0, 0.999)
    assert two.discriminator.l2 == 0.0


def test_a_booked_run_is_a_run_file(columns: str) -> None:
    run = booked(f"{SMALL}:TrainingStrategy=MaxEpochs=2|MaxEpochs=1", columns)
    assert library.replaced(run, {}) == run


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("Optimizer=SGD,Momentum=0.5", {"optimizer": "sgd", "momentum": 0.5}),
        ("Optimizer=RMSPROP,Momentum=0.5", {"optimizer": "rmsprop", "momentum": 0.5, "rho": 0.9}),
        ("Optimizer=adagrad", {"optimizer": "adagrad"}),
        ("Optimizer=ADADELTA", {"optimizer": "adadelta", "rho": 0.95}),
        ("ADAM_beta1=0.5,ADAM_beta2=0.9,ADAM_eps=1e-6", {"betas": (0.5, 0.9), "epsilon": 1e-6}),
        ("WeightDecay=1e-3,Regularization=L1", {"l1": 1e-3, "l2": 0.0}),
        ("weightdecay=1e-3,REGULARIZATION=l2", {"l1": 0.0, "l2": 1e-3}),
        ("DropConfig=0.1+0.2", {"dropout": (0.1, 0.2)}),
        ("LearningRate=0.01", {"learning_rate": 0.01}),
    ],
)
def test_training_keys_reach_both_networks_or_one(
    columns: str, keys: str, expected: dict[str, Any]
) -> None:
    plain = booked(SMALL, columns).train
    both = booked(f"{SMALL}:TrainingStrategy=MaxEpochs=1,{keys}", columns).train
    prefixed = ",".join(f"Generator{key}" for key in keys.split(","))
    one = booked(f"{SMALL}:TrainingStrategy=MaxEpochs=1,{prefixed}", columns).train
    for name, value in expected.items():
        assert getattr(both.generator, name) == getattr(both.discriminator, name) == value
        assert getattr(one.generator, name) == value
    assert one.discriminator == plain.discriminator


def test_shared_training_keys_work(columns: str) -> None:
    keys = "MaxEpochs=3,BatchSize=20,TestRepetitions=2,ConvergenceSteps=5,DiscriminatorRepetitions=4,Multithreading=False"
    run = booked(f"{SMALL}:TrainingStrategy={keys}:ErrorStrategy=SUMOFSQUARES", columns)
    epoch = int(EVENTS * 0.64) // 20
    settings = run.train
    assert (settings.batch_size, settings.steps, settings.validate_every) == (
        20,
        3 * epoch,
        2 * epoch,
    )
    assert (settings.patience, settings.critic_steps, run.threads) == (3, 4, 1)
    assert settings.objective == "sum-of-squares"


def test_every_option_and_key_in_the_help_is_accepted(columns: str) -> None:
    text = help_text()
    for name in (*OPTIONS, *UNSUPPORTED, *KEYS):
        assert f"  {name} " in text
    values = {
        "VerbosityLevel": "Debug", "VarTransform": "N", "InputLayout": "5##2", "BatchLayout": "1|9|5##1|9|2",
        "Layout": "TANH|2##LINEAR|1", "ErrorStrategy": "CROSSENTROPY", "WeightInitialization": "GAUSS",
        "Architecture": "STANDARD", "RandomSeed": "3", "ValidationSize": "40", "TrainingStrategy": "MaxEpochs=1",
        "H": "F", "V": "T", "CreateMVAPdfs": "False", "IgnoreNegWeightsInTraining": "F",
    }  # fmt: skip
    assert set(values) == {*OPTIONS, *UNSUPPORTED}
    booking = book(":".join(f"{k}={v}" for k, v in values.items()), [columns], tree="events")
    assert booking.level == logging.DEBUG
    assert booking.run.train.batch_size == 9
    assert booking.run.data.validation == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("options", "message", "marked"),
    [
        ("Layuot=TANH|2##TANH|1", "no option 'Layuot'; did you mean 'Layout'", "Layuot"),
        (f"{SMALL}:Layout=TANH|1##TANH|1", "Layout is given twice", "Layout=TANH|1##TANH|1"),
        (f"{SMALL}:Architecture", "Architecture needs a value", "Architecture"),
        (f"{SMALL}:!Architecture", "Architecture needs a value", "!Architecture"),
        (f"{SMALL}:Architecture=GPO", "did you mean 'GPU'", "GPO"),
        (f"{SMALL}:ErrorStrategy=MUTUALEXCLUSIVE", "needs several classes", "MUTUALEXCLUSIVE"),
        (f"{SMALL}:WeightInitialization=XAVIR", "did you mean 'XAVIER'", "XAVIR"),
        (f"{SMALL}:CreateMVAPdfs", "CreateMVAPdfs is not supported", "CreateMVAPdfs"),
        (f"{SMALL}:V=maybe", "V should be True or False", "maybe"),
        (f"{SMALL}:RandomSeed=-1", "RandomSeed should be an integer", "-1"),
        (f"{SMALL}:VarTransform=P", "write D", "P"),
        (f"{SMALL}:VarTransform=N,G", "outside the range of the generator's last layer, TANH", "G"),
        (f"{SMALL}:VarTransform=Q", "VarTransform is not 'Q'", "Q"),
        (f"{SMALL}:InputLayout=1|1|3##1|1|9", "the tree has mass (1), pt (1)", None),
        (f"{SMALL}:InputLayout=a|1", "a size of InputLayout should be an integer", "a"),
        (f"{SMALL}:BatchLayout=4|1|3##4|1|3", "is not a batch of inputs 2", "4|1|3"),
        (f"{SMALL}:BatchLayout=4|1|2##5|1|2", "different batch sizes", "5|1|2"),
        (f"{SMALL}:ValidationSize=100%", "more than 0 and less than the number of training events", "100%"),
        (f"{SMALL}:TrainingStrategy=LearnRate=1", "did you mean 'LearningRate'", "LearnRate"),
        (f"{SMALL}:TrainingStrategy=GeneratorMaxEpochs=1", "takes no prefix", "GeneratorMaxEpochs"),
        (f"{SMALL}:TrainingStrategy=MaxEpochs", "a training key needs a value", "MaxEpochs"),
        (f"{SMALL}:TrainingStrategy=MaxEpochs=0", "MaxEpochs should be an integer of 1", "0"),
        (f"{SMALL}:TrainingStrategy=Optimizer=ADAMAX", "Optimizer is not 'ADAMAX'", "ADAMAX"),
        (f"{SMALL}:TrainingStrategy=Momentum=0.5,ADAM_beta1=0.4", "for ADAM, Momentum is beta1", "0.5"),
        (f"{SMALL}:TrainingStrategy=Optimizer=ADAGRAD,Momentum=0.5", "ADAGRAD has no momentum", "0.5"),
        (f"{SMALL}:TrainingStrategy=Renormalize=L2", "Renormalize is not supported", "L2"),
        (f"{SMALL}:TrainingStrategy=DropRepetitions=5", "DropRepetitions is not supported", "5"),
        (f"{SMALL}:TrainingStrategy=Regularization=L3", "Regularization is not 'L3'", "L3"),
        (f"{SMALL}:TrainingStrategy=GeneratorRepetitions=2", "one step at a time", "2"),
        (
            f"{SMALL}:TrainingStrategy=GeneratorBatchSize=8,DiscriminatorBatchSize=16",
            "BatchSize is 8 for the generator and 16 for the discriminator", "16",
        ),
        (f"{SMALL}:TrainingStrategy=LearningRate=fast", "LearningRate should be a number", "fast"),
        (f"{SMALL}:TrainingStrategy=LearningRate=0", "learning_rate = 0.0 should be positive", None),
        (f"{SMALL}:TrainingStrategy=BatchSize=1000", "choose a smaller BatchSize", None),
    ],
)  # fmt: skip
def test_unsupported_options_raise_with_name_and_position(
    columns: str, options: str, message: str, marked: str | None
) -> None:
    with pytest.raises(RunError) as caught:
        book(options, [columns], tree="events")
    text = str(caught.value)
    assert message in text
    if marked:
        line, caret = text.splitlines()[-2:]
        assert line[caret.index("^") : caret.rindex("^") + 1] == marked


def test_a_fault_in_the_layout_has_a_caret_under_the_layout(columns: str) -> None:
    with pytest.raises(LayoutError, match="did you mean 'DENSE'"):
        booked("Layout=DENS|3|TANH##TANH|1", columns)


def test_colons_inside_brackets_belong_to_the_layout() -> None:
    text = "Layout=[mass: TANH|4; pt: TANH|4], DENSE|0##[mass: TANH|4; pt: TANH|4], DENSE|1:!V"
    options = options_of(text)
    assert options["Layout"].text == text.removeprefix("Layout=").removesuffix(":!V")
    assert options["V"].text == "False"


PIECES = [*"!:=|,#+[]HVN019.e- ", "Layout", "TrainingStrategy", "MaxEpochs", "=1"]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map(lambda pieces: "".join(pieces)))
def test_any_string_gives_options_or_a_hepgan_error(text: str) -> None:
    try:
        options = options_of(text)
    except RunError:
        return
    assert set(options) <= {*OPTIONS, *UNSUPPORTED}


@pytest.mark.parametrize(
    ("transform", "last", "inside"),
    [("None", "TANH", (-1, 1)), ("N", "TANH", (-1, 1)), ("N", "SIGMOID", (0, 1)), ("None", "RELU", (0, 1))],
)  # fmt: skip
def test_variables_are_scaled_to_the_range_of_the_last_layer_and_back(
    columns: str, transform: str, last: str, inside: tuple[int, int]
) -> None:
    run = booked(f"Layout=DENSE|0|{last}##DENSE|1:VarTransform={transform}", columns)
    events = reader.read(columns, run.schema, tree="events")
    encoding = Encoding.fit(events, run.schema, run.encoding, seed=1)
    x, c = encoding.encode(events, seed=1)
    assert (x.min().item(), x.max().item()) == pytest.approx(inside, abs=1e-6)
    ranges = (x.amax(0) - x.amin(0)).tolist()
    assert (ranges[0] == pytest.approx(ranges[1])) == (transform == "N")
    back = encoding.decode(x, c)
    np.testing.assert_allclose(back["pt"], events["pt"], rtol=1e-5, atol=1e-4)


def test_variables_are_chosen_by_name_size_or_pattern(pixels: str) -> None:
    def fields(size: str = "", **more: Any) -> dict[str, tuple[int, ...]]:
        options = f"{SMALL}:InputLayout={size}##{size}" if size else SMALL
        schema = book(options, [pixels], **more).run.schema
        return {name: field.shape for name, field in schema.fields.items()}

    assert fields() == {"x": (16, 16)}
    assert fields("1|1|256") == {"x": (16, 16)}
    assert fields(variables=["x[256]"]) == {"x": (16, 16)}
    assert fields(variables=["x{0..3}"]) == {"x": (4,)}
    assert fields(variables=[f"x{i}" for i in range(4)]) == {"x": (4,)}
    assert fields(variables=["label", "x7"]) == {"label": (), "x7": ()}


def test_pixels_are_in_the_order_of_the_branches(pixels: str) -> None:
    schema = book(SMALL, [pixels]).run.schema
    events = reader.read(pixels, schema, entry_stop=5)
    with uproot.open(pixels) as file:
        raw = np.stack([file["pixels"][f"x{i}"].array(library="np")[:5] for i in range(256)], 1)
    np.testing.assert_array_equal(ak.to_numpy(events["x"]).reshape(5, -1), raw)


def test_train_accepts_a_tmva_string_and_phases_continue(columns: str, tmp_path: Path) -> None:
    """The second phase starts from the first one's weights: with a tiny learning rate it hardly changes them."""
    phases = (
        "MaxEpochs=4,LearningRate=1e-2,BatchSize=32|MaxEpochs=2,LearningRate=1e-12,BatchSize=32"
    )
    options = f"!H:!V:{SMALL}:TrainingStrategy={phases}:Architecture=CPU"
    arguments = ["train", "--files", columns, "--tree", "events", "--set", "train.ema=0.0"]
    for name, text in (("both", options), ("first", options.replace("|MaxEpochs=2", "", 1))):
        text = text if name == "both" else text.replace(",LearningRate=1e-12,BatchSize=32", "")
        result = CliRunner().invoke(main, [*arguments, "--tmva", text, "-o", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
    rows = history.read(tmp_path / "both")
    assert {row["phase"] for row in rows if row["step"]} == {0, 1}
    last = {
        name: serialization.read_tensors(max((tmp_path / name / "checkpoints").iterdir()))
        for name in ("both", "first")
    }
    for name, tensor in last["first"].items():
        if name.startswith("generator."):
            np.testing.assert_allclose(last["both"][name], tensor, atol=1e-6)


def test_command_line_names_missing_options(columns: str, tmp_path: Path) -> None:
    for arguments, message in (
        (["train"], "name a preset"),
        (["train", "--tmva", SMALL], "--tmva needs --files"),
        (["train", "mnist", "--tmva", SMALL, "--files", columns], "exclude each other"),
        (["train", "mnist", "--tree", "events"], "--tree needs --tmva"),
        (["train", "--tmva", SMALL, "--files", columns, "--tree", "evens"], "events"),
    ):
        result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "no")])
        assert result.exit_code == 2
        assert message in result.output
    assert not (tmp_path / "no").exists()


def test_h_prints_help_and_stops(columns: str, tmp_path: Path) -> None:
    for options, files in (("H", []), (f"H:{SMALL}", ["--files", columns, "--tree", "events"])):
        arguments = ["train", "--tmva", options, *files, "-o", str(tmp_path / "run")]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        assert result.output == f"{help_text()}\n"
    assert not (tmp_path / "run").exists()


def test_a_tmva_macro_translates_line_by_line(
    columns: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hepgan")
    loader = DataLoader("dataset")
    with uproot.open(columns) as file:
        loader.AddSignalTree(file["events"], 1.0)
    loader.AddBackgroundTree(f"{columns}:others", 1.0)
    loader.AddVariable("mass", "Mass", "GeV", "F")
    loader.AddVariable("pt", "F")
    loader.PrepareTrainingAndTestTree(
        "pt>1 && !(mass<0)", "pt>1 && !(mass<0)",
        "nTrain_Signal=100:nTrain_Background=50:nTest_Signal=50:SplitMode=Random:NormMode=NumEvents:!V",
    )  # fmt: skip
    factory = Factory("Job", str(tmp_path), "!V:!Silent:Color:Transformations=I;D;P;G,D")
    options = f"H:V:{SMALL}:TrainingStrategy=MaxEpochs=2,BatchSize=16:Architecture=CPU"
    factory.BookMethod(loader, Types.kGAN, "GAN", options)
    assert "TrainingStrategy" in caplog.text
    folder = tmp_path / "dataset" / "Job_GAN"
    assert not folder.exists()
    factory.TrainAllMethods()
    assert "training 100 %" in caplog.text
    factory.TestAllMethods()
    run = library.load(folder / "run.toml")
    assert run.data.test == 0.25
    with uproot.open(folder / "generated.root") as file:
        assert file["events"].num_entries == 62
        assert file["events"].keys() == ["mass", "pt"]
    verdict = factory.EvaluateAllMethods()["Job_GAN"]
    assert (folder / "report.html").is_file()
    assert verdict.verdict
    events = read_events(run)
    assert min(ak.min(part["pt"]) for part in events.values()) > 1
    assert {len(part) for part in events.values()} <= set(range(1, 250))
    assert max(ak.max(part["mass"]) for part in events.values()) > 115  # both trees


def test_a_weight_expression_is_the_weight_of_the_run(columns: str, tmp_path: Path) -> None:
    loader = DataLoader("dataset")
    loader.AddTree(f"{columns}:events")
    loader.AddVariable("pt")
    loader.SetSignalWeightExpression("mass / 100")
    loader.SetBackgroundWeightExpression("mass / 100")
    factory = Factory("Job", str(tmp_path), "!V:Silent")
    factory.BookMethod(loader, Types.kGAN, "GAN", f"{SMALL}:TrainingStrategy=MaxEpochs=2")
    (booking,) = factory.booked.values()
    assert booking.run.data.weight == "mass / 100"


def test_a_weight_of_1_is_no_weight() -> None:
    loader = DataLoader("dataset")
    loader.SetWeightExpression("1")
    assert loader.weight is None


def test_faults_of_a_macro_raise(columns: str, tmp_path: Path) -> None:
    loader = DataLoader("dataset")
    faults: list[tuple[Any, str]] = [
        (lambda: loader.AddVariable("a+b"), "not formulas"),
        (lambda: loader.AddVariablesArray("a", 0), "size should be 1 or more"),
        (lambda: loader.AddTree(columns, weight=2.0), "weight of 2"),
        (lambda: loader.AddTree(5), "is not a tree"),
        (lambda: loader.PrepareTrainingAndTestTree("a>1", "a>2", ""), "differ"),
        (lambda: loader.PrepareTrainingAndTestTree("a>1", "a>2", V=False), "differ"),
        (lambda: loader.PrepareTrainingAndTestTree("", 1, 2, 3), "those of each class"),
        (lambda: loader.PrepareTrainingAndTestTree("", 1.5, 2), "1.5 should be a number of events"),
        (
            lambda: loader.PrepareTrainingAndTestTree("", nTrain_Signal="9" * 5000),
            "a number of events",
        ),
        (lambda: loader.AddCut("a>1", "Signal"), "for the class 'Signal' only"),
        (lambda: loader.AddCut("0<a<1"), r"write && between them\n  0<a<1\n     \^"),
        (lambda: loader.AddCut('strstr(a,"b")'), "numbers, not strings"),
        (lambda: loader.AddTree(columns, treetype="Test"), "a tree for 'Test' only"),
        (lambda: loader.SetInputTrees(columns, "a>1", "a<1"), "use AddTree and AddCut"),
        (lambda: loader.SetSignalWeightExpression("w +"), r"w \+"),
        (
            lambda: (
                loader.SetSignalWeightExpression("w"),
                loader.SetBackgroundWeightExpression("1"),
            ),
            "another class has the weight 'w'",
        ),
        (lambda: loader.AddTarget("a"), r"write a run file with \[schema.conditions.NAME\]"),
        (lambda: loader.AddSignalTrainingEvent([1.0]), "write them to a ROOT file"),
        (
            lambda: Factory("Job").GetROCCurve(loader, "GAN"),
            "EvaluateAllMethods returns evaluations",
        ),
        (lambda: Factory("Job").MakeClass(), "hepgan export"),
        (lambda: Factory("Job", AnalysisTyp="x"), "did you mean 'AnalysisType'"),
        (lambda: Factory("Job").BookMethod(loader, Types.kDL, "D", H=False), "not DL"),  # type: ignore[attr-defined]
        (lambda: loader.PrepareTrainingAndTestTree("", "SplitMode=Block"), "split at random"),
        (lambda: loader.PrepareTrainingAndTestTree("", "nTrain_Signal=x"), "a number of events"),
        (lambda: loader.PrepareTrainingAndTestTree("", "Foo=1"), "unknown option Foo=1"),
        (lambda: Factory("Job", "TMVA.root"), "should be a folder"),
        (lambda: Factory("Job", ".", "Silnt"), "did you mean 'Silent'"),
        (lambda: Factory("Job").BookMethod(loader, "BDT", "BDT", ""), "not BDT"),
        (lambda: Factory("Job").BookMethod(loader, "GAN", "GAN", SMALL), "no input file"),
    ]
    for fault, message in faults:
        with pytest.raises(HepganError, match=message):
            fault()
    loader = DataLoader("dataset", trees=[f"{columns}:events"])
    factory = Factory("Job", str(tmp_path))
    factory.BookMethod(loader, "GAN", "GAN", SMALL)
    with pytest.raises(RunError, match="'GAN' is already booked"):
        factory.BookMethod(loader, "GAN", "GAN", SMALL)


@pytest.mark.parametrize(
    ("options", "fraction"),
    [
        ("SplitMode=Random", 0.5),
        ("nTrain_Signal=40:nTrain_Background=40", 0.6),
        ("nTest_Signal=50", 0.25),
        ("nTrain_Signal=60:nTest_Signal=20", 0.25),
        ("nTrain_Signal=0:nTest_Signal=0:!V", 0.5),
    ],
)
def test_numbers_of_events_become_fractions_of_the_available_events(
    columns: str, tmp_path: Path, options: str, fraction: float
) -> None:
    loader = DataLoader("d", trees=[f"{columns}:events"])
    loader.PrepareTrainingAndTestTree("", options)
    factory = Factory("Job", str(tmp_path))
    factory.BookMethod(loader, "GAN", "GAN", f"{SMALL}:TrainingStrategy=MaxEpochs=1,BatchSize=8")
    (booking,) = factory.booked.values()
    assert booking.run.data.test == pytest.approx(fraction)


def test_more_events_than_available_raises(columns: str) -> None:
    loader = DataLoader("d", trees=[f"{columns}:events"])
    loader.PrepareTrainingAndTestTree("", "nTrain_Signal=500")
    with pytest.raises(
        RunError, match="asks for 500 training and 0 test events, but there are 200"
    ):
        Factory("Job").BookMethod(loader, "GAN", "GAN", SMALL)


def test_cuts_mean_the_same_as_in_tmva(columns: str) -> None:
    events = reader.read(f"{columns}:events", Schema.from_table({"fields": {"mass": {}, "pt": {}}}))
    mass, pt = ak.to_numpy(events["mass"]), ak.to_numpy(events["pt"])
    cuts = {
        "pt>5 && abs(mass-91)<1": (pt > 5) & (abs(mass - 91) < 1),
        "pt<5 || pt>20 && mass>91": (pt < 5) | ((pt > 20) & (mass > 91)),
        "(pt<5 || pt>20) && !(mass>91)": ((pt < 5) | (pt > 20)) & ~(mass > 91),
        "pt^2 > 100 && mass > 91": (pt**2 > 100) & (mass > 91),
        "pt != 0": pt != 0,
    }
    for cut, expected in cuts.items():
        loader = DataLoader("d")
        loader.AddCut(cut)
        schema = Schema.from_table({"fields": {"mass": {}, "pt": {}}})
        selected = reader.read(f"{columns}:events", schema, cut=loader.cut)
        np.testing.assert_array_equal(ak.to_numpy(selected["pt"]), pt[expected])


def test_keywords_give_the_same_run_as_option_strings(
    columns: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class TCut:
        GetTitle = staticmethod(lambda: "pt > 1")

    class TTree:
        GetName = staticmethod(lambda: "events")
        GetCurrentFile = staticmethod(lambda: TFile)

    class TFile:
        GetName = staticmethod(lambda: columns)

    forms: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((TCut(), "nTrain_Signal=100:nTest_Signal=50:SplitMode=Random:!V"), {}),
        (("pt > 1", "pt > 1", "nTrain_Signal=100:nTest_Signal=50:!V"), {}),
        (
            ("pt > 1",),
            {"nTrain_Signal": 100, "nTest_Signal": 50, "SplitMode": "Random", "V": False},
        ),
        (("pt > 1", "pt > 1", "SplitMode=Random"), {"nTrain_Signal": 100, "nTest_Signal": 50}),
        (("pt > 1", 100, 50), {}),
        (("pt > 1", 60, 40, 30, 20, "SplitMode=Random:!V"), {}),
    ]
    for arguments, options in forms:
        loader = DataLoader("d")
        loader.AddSignalTree(TTree())
        loader.PrepareTrainingAndTestTree(*arguments, **options)
        assert (loader.cuts, loader.numbers) == (["pt > 1"], (100, 50)), arguments
        assert loader.trees == [f"{columns}:events"]
    Tools.Instance()
    loader.AddVariable("label := pt", "Momentum", "GeV", "F", 0.0, 100.0)
    loader.AddVariable("mass", type="F")
    loader.AddSpectator("eta", "F")
    assert "AddSpectator('eta'): ignored" in caplog.text
    loader.SetWeightExpression("1.0")
    phases = [{"MaxEpochs": 2, "BatchSize": 16}, "MaxEpochs=1,BatchSize=16"]
    keywords = {
        "H": False, "V": True, "VarTransform": None, "Layout": SMALL.removeprefix("Layout="), "TrainingStrategy": phases,
        "Architecture": "CPU",
    }  # fmt: skip
    text = f"!H:V:{SMALL}:TrainingStrategy=MaxEpochs=2,BatchSize=16|MaxEpochs=1,BatchSize=16:Architecture=CPU"
    one = Factory("Job", str(tmp_path), V=False, Silent=True, Transformations=["I", "D"])
    other = Factory("Job", "!V:Silent:Transformations=I;D")
    assert one.options == other.options
    one.BookMethod(loader, Types.kGAN, "GAN", **keywords)
    other.BookMethod(loader, "GAN", "GAN", text)
    assert [*one.booked.values()] == [*other.booked.values()]


def test_a_cut_of_one_tree_is_not_applied_to_another(columns: str) -> None:
    loader = DataLoader("d")
    loader.AddTree(f"{columns}:events", "Signal", 1.0, "pt > 1")
    assert loader.cut == 'TCut("pt > 1")'
    loader.AddTree(f"{columns}:others", "Background", 1.0)
    with pytest.raises(RunError, match="of the trees differ"):
        loader.cut  # noqa: B018


def test_weight_decay_without_a_penalty_warns(
    columns: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = booked(f"{SMALL}:TrainingStrategy=MaxEpochs=1,WeightDecay=1e-3", columns)
    assert "WeightDecay=0.001 has no effect without Regularization" in caplog.text
    assert dataclasses.asdict(run.train.generator)["l2"] == 0


def test_digits_of_a_data_loader_equal_those_of_a_run_file() -> None:
    options = "Layout=TANH|4,TANH|784##TANH|4,LINEAR|1:TrainingStrategy=MaxEpochs=1"
    runs = []
    for digits in (True, False):
        loader = DataLoader("d", trees=["sample:mnist.root:mnist"], digits=digits)
        loader.AddVariablesArray("image", 784)
        factory = Factory("Job", "!V")
        factory.BookMethod(loader, Types.kGAN, "GAN", options)
        (booking,) = factory.booked.values()
        runs.append(booking.run)
    assert runs[0].evaluate.digits
    assert not runs[1].evaluate.digits
    assert dataclasses.replace(runs[0], evaluate=runs[1].evaluate) == runs[1]

"""TMVA's ``Factory`` and ``DataLoader``, to port a macro line by line; methods have TMVA's names.

>>> loader = DataLoader("dataset")
>>> loader.AddTree("sample:mnist.root:mnist")
>>> loader.AddVariablesArray("image", 784)
>>> factory = Factory("TMVAGeneration", options="!V:!Silent")
>>> factory.BookMethod(loader, Types.kGAN, "GAN", "Layout=TANH|64,TANH|784##TANH|64,LINEAR|1")

All trees hold events of one kind: there is no signal and no background to separate.
"""

import dataclasses
import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from hepgan import pipeline as library
from hepgan.data.io import reader
from hepgan.data.io.expressions import Expression
from hepgan.data.io.grammar import as_tcut
from hepgan.errors import RunError, did_you_mean
from hepgan.progress import ProgressCallback
from hepgan.tmva.booking import Booking, book, help_text

if TYPE_CHECKING:
    from hepgan.evaluation.report.evaluation import Evaluation

log = logging.getLogger(__name__)

_FACTORY = (
    "V", "Silent", "Color", "DrawProgressBar", "Transformations", "AnalysisType", "ROC", "Correlations",
    "VerboseLevel", "ModelPersistence",
)  # fmt: skip
_SPLITTING = (
    "SplitMode", "MixMode", "NormMode", "SplitSeed", "V", "CalcCorrelations", "ScaleWithPreselEff",
)  # fmt: skip
_SEPARATORS = {"Layout": ",", "VarTransform": ",", "DropConfig": "+", "TrainingStrategy": "|"}
"""Separator of the values of an option that is given as a list; a semicolon for the others."""


class Types:
    """TMVA's names of methods, classes and splits; GAN is the only supported method."""

    kGAN = "GAN"  # noqa: N815


_METHODS = (
    "Cuts", "SeedDistance", "Likelihood", "PDERS", "HMatrix", "Fisher", "KNN", "CFMlpANN", "TMlpANN", "BDT", "DT",
    "RuleFit", "SVM", "MLP", "BayesClassifier", "FDA", "Boost", "PDEFoam", "LD", "Plugins", "Category", "DNN", "DL",
    "PyRandomForest", "PyAdaBoost", "PyGTB", "PyKeras", "PyTorch", "C50", "RSNNS", "RSVM", "RXGB",
)  # fmt: skip
for _name in (*_METHODS, "Training", "Testing", "MaxTreeType", "Signal", "Background"):
    setattr(Types, f"k{_name}", _name)


class Tools:
    """TMVA's singleton, with which macros begin."""

    @staticmethod
    def Instance() -> None:
        """Does nothing: there is nothing to load."""


class _Macro:
    """Base class whose unsupported TMVA methods raise an error that names the replacement."""

    unsupported: ClassVar[Mapping[str, str]] = {}

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name not in self.unsupported:
            known = [*self.unsupported, *(word for word in dir(type(self)) if word[0].isupper())]
            raise AttributeError(f"{type(self).__name__} has no {name}{did_you_mean(name, known)}")

        def reject(*_: Any, **__: Any) -> NoReturn:
            raise RunError(f"{type(self).__name__}.{name}: {self.unsupported[name]}")

        return reject


_NO_EVENT = (
    "events come from files; write them to a ROOT file and name it in AddTree('file.root:tree')"
)
_NO_TARGET = (
    "a GAN has no regression target; a quantity that determines the events is a condition: write a run file with "
    "[schema.conditions.NAME], as `hepgan inspect` proposes it"
)


@dataclasses.dataclass
class DataLoader(_Macro):
    """Trees, variables, cuts, weights, and numbers of training and test events (0: the rest).

    ``name`` is the folder of the methods' run folders. With ``digits``, the events are MNIST's digits, and the digit
    classifier is used for validation and scores (``[evaluate] digits = true`` of a run file).
    """

    unsupported: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("AddTarget", "AddRegressionTarget", "AddTargets"), _NO_TARGET),
        **dict.fromkeys(
            ("AddEvent", "AddTrainingEvent", "AddTestEvent", "AddSignalTrainingEvent", "AddSignalTestEvent",
             "AddBackgroundTrainingEvent", "AddBackgroundTestEvent"),
            _NO_EVENT,
        ),
        "MakeKFoldDataSet": "there is no cross validation; hepgan evaluate gives errors and a baseline instead",
        "VarTransform": "the option VarTransform of BookMethod transforms variables",
        "GetDataSetInfo": "hepgan inspect shows what a file holds",
        "GetCorrelationMatrix": "report.html, which EvaluateAllMethods writes, has the correlations",
        "MakeCopy": "make a second DataLoader",
    }  # fmt: skip

    name: str
    variables: list[str] = dataclasses.field(default_factory=list)
    trees: list[str] = dataclasses.field(default_factory=list)
    cuts: list[str] = dataclasses.field(default_factory=list)
    numbers: tuple[int, int] = (0, 0)
    tree_cuts: dict[str, str] = dataclasses.field(default_factory=dict)
    weights: set[str] = dataclasses.field(default_factory=set)
    digits: bool = dataclasses.field(default=False, kw_only=True)

    def AddVariable(self, expression: str, *about: Any, **more: Any) -> None:
        """Adds a branch, which may have a label (``label := branch``); title, unit, type and range serve TMVA's plots and are ignored.

        Raises:
            RunError: it is a formula of branches, which cannot be written to a tree.
        """
        branch = str(expression).rpartition(":=")[2].strip()
        if not re.fullmatch(r"[\w./]+(\{\d+\.\.\d+\})?", branch):
            raise RunError(
                f"AddVariable('{expression}'): only branches can be generated and written, not formulas; "
                "create the branch first, for example with RDataFrame's Define and Snapshot"
            )
        self.variables.append(branch)

    def AddVariablesArray(self, expression: str, size: Any, *about: Any, **more: Any) -> None:
        """Adds an array branch of ``size`` values, or the branches ``expression0`` … if there is no such array."""
        if not isinstance(size, int) or size < 1:
            raise RunError(f"AddVariablesArray('{expression}', {size}): size should be 1 or more")
        self.variables.append(f"{expression}[{size}]")

    def SetInputVariables(self, variables: Any) -> None:
        """Adds several branches."""
        for variable in variables:
            self.AddVariable(variable)

    def AddSpectator(self, expression: str, *about: Any, **more: Any) -> None:
        """Ignores the branch, with a warning: only variables are generated."""
        log.warning(
            "AddSpectator('%s'): ignored, since generated events have variables only; use AddVariable to generate it",
            expression,
        )

    def AddTree(
        self,
        tree: Any,
        class_name: str = "",
        weight: float = 1.0,
        cut: Any = "",
        treetype: Any = "MaxTreeType",
    ) -> None:
        """Adds a tree: ``"file.root:tree"``, or one opened by uproot or ROOT. The class is ignored.

        Raises:
            RunError: the tree has a weight, or is for training or testing only.
        """
        _check_weight("AddTree", weight)
        if str(treetype).lower().removeprefix("k") not in ("", "maxtreetype"):
            raise RunError(
                f"AddTree: a tree for '{treetype}' only is not supported, since events are split at random; add all "
                "trees without a type and set the number of test events in PrepareTrainingAndTestTree"
            )
        name = _name_of(tree)
        self.trees.append(name)
        if text := _cut(cut):
            self.tree_cuts[name] = text

    def AddSignalTree(self, tree: Any, weight: float = 1.0, treetype: Any = "") -> None:
        """Adds a tree, as ``AddTree`` does."""
        self.AddTree(tree, weight=weight, treetype=treetype)

    def AddBackgroundTree(self, tree: Any, weight: float = 1.0, treetype: Any = "") -> None:
        """Adds a tree, as ``AddTree`` does: the generator learns from these events too."""
        self.AddTree(tree, weight=weight, treetype=treetype)

    SetSignalTree = AddSignalTree
    SetBackgroundTree = AddBackgroundTree
    AddRegressionTree = AddSignalTree
    SetTree = AddSignalTree

    def SetInputTrees(self, signal: Any, background: Any, *weights: Any) -> None:
        """Adds two trees, as ``AddTree`` does; one tree with a cut per class is not supported.

        Raises:
            RunError: there are cuts instead of a second tree, or a weight.
        """
        cuts = [text for text in weights if not isinstance(text, (int, float))]
        if cuts:
            raise RunError(
                "SetInputTrees: a cut per class is not supported, since all events are of one kind; use AddTree and AddCut"
            )
        for tree, weight in zip((signal, background), (*weights, 1.0, 1.0), strict=False):
            self.AddTree(tree, weight=weight)

    def SetWeightExpression(self, expression: str, class_name: str = "") -> None:
        """Sets the weight of all events, which may be negative; generated events have weight 1.

        Raises:
            RunError: another class has another weight.
            DataError: it does not parse; the message shows the position.
        """
        text = _text(expression).strip()
        text = "" if text in ("1", "1.", "1.0") else text
        if text:
            Expression.parse(text, "weight")
        if self.weights - {text}:
            raise RunError(
                f"SetWeightExpression('{expression}'): another class has the weight '{min(self.weights - {text})}', but all events are of one"
                " kind; use one expression of branches for all"
            )
        self.weights.add(text)

    SetSignalWeightExpression = SetWeightExpression
    SetBackgroundWeightExpression = SetWeightExpression

    @property
    def weight(self) -> str | None:
        """Weight of all events, as an expression of a run file."""
        return max(self.weights, default="") or None

    def AddCut(self, cut: Any, class_name: str = "") -> None:
        """Adds a cut in TTreeFormula's language, which all events have to pass.

        Raises:
            RunError: it is for one class only.
            DataError: it does not parse; the message shows the position.
        """
        if class_name:
            raise RunError(
                f"AddCut: a cut for the class '{class_name}' only is not supported, since all events are of one kind; "
                "write AddCut(cut)"
            )
        if text := _cut(cut):
            self.cuts.append(text)

    def SetCut(self, cut: Any, class_name: str = "") -> None:
        """Replaces all previous cuts."""
        self.cuts.clear()
        self.AddCut(cut, class_name)

    def PrepareTrainingAndTestTree(self, *arguments: Any, **options: Any) -> None:
        """Sets a cut (or one per class, which must agree), numbers of events, and TMVA's splitting options.

        ``(cut, options)``, ``(cut, cut, options)``, ``(cut, training, test)`` and ``(cut, training signal, training
        background, test signal, test background, options)``; options as a string, as keywords or both. The numbers of
        training and test events are used as fractions of all events; 0 or less stands for the rest, or for one half if
        both are 0. Events are split at random.

        Raises:
            RunError: two cuts differ, or an option is not supported.
            DataError: a cut does not parse; the message shows the position.
        """
        numbers = [value for value in arguments if isinstance(value, (int, float))]
        texts = [_text(value) for value in arguments if not isinstance(value, (int, float))]
        splitting = ""
        if len(texts) > 1 and (not options or _is_splitting(texts[-1])):
            splitting = texts.pop() if not numbers or _is_splitting(texts[-1]) else ""
        cuts = [_cut(text) for text in texts]
        if len(set(cuts)) > 1:
            raise RunError(
                f"PrepareTrainingAndTestTree: the cuts {cuts} differ, but all events are of one kind"
            )
        self.cuts += [text for text in dict.fromkeys(cuts) if text]
        if len(numbers) not in (0, 1, 2, 4):
            raise RunError(
                "PrepareTrainingAndTestTree: pass the numbers of training and test events, or those of each class"
            )
        half = max(1, len(numbers) // 2)
        train, test = (sum(map(_number, part)) for part in (numbers[:half], numbers[half:]))
        more = _numbers(option_string(splitting, options))
        self.numbers = train + more[0], test + more[1]

    @property
    def cut(self) -> str | None:
        """Conjunction of all cuts, as an expression of a run file.

        Raises:
            RunError: a cut for one tree alone.
        """
        tree_cuts = {self.tree_cuts.get(tree, "") for tree in self.trees}
        if len(tree_cuts) > 1:
            raise RunError(
                f"AddTree: the cuts {sorted(tree_cuts)} of the trees differ, but all trees are read with one cut; "
                "write the selected events to one file first, for example with RDataFrame's Filter and Snapshot"
            )
        cuts = dict.fromkeys(filter(None, (*self.cuts, *tree_cuts)))
        return " & ".join(map(as_tcut, cuts)) or None


def _text(value: Any) -> str:
    """Returns a string, or the text of ROOT's ``TCut`` or ``TString``."""
    return str(value.GetTitle()) if hasattr(value, "GetTitle") else str(value)


def _cut(cut: Any) -> str:
    """Returns the text of a valid cut, empty without one."""
    text = _text(cut).strip()
    if text:
        as_tcut(text)
    return text


def _check_weight(method: str, weight: Any) -> None:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight != 1:
        raise RunError(
            f"{method}: a tree weight of {weight} is not supported; write the weights into a branch and use SetWeightExpression"
        )


def _name_of(tree: Any) -> str:
    if isinstance(tree, (str, os.PathLike)):
        return os.fspath(tree)
    try:
        if hasattr(tree, "GetCurrentFile"):
            return f"{tree.GetCurrentFile().GetName()}:{tree.GetName()}"
        return f"{tree.file.file_path}:{tree.object_path.rpartition(':')[2].lstrip('/')}"
    except (AttributeError, ReferenceError) as error:
        raise RunError(
            f"AddTree: {tree!r} is not a tree; pass 'file.root:tree' or a tree opened by uproot"
        ) from error


def option_string(text: str, options: Mapping[str, Any]) -> str:
    """Returns TMVA's option string from a string and keywords: ``H=False`` is ``!H``, a list gets its separators.

    >>> option_string("V", {"H": False, "Layout": ["TANH|8", "LINEAR"], "TrainingStrategy": [{"MaxEpochs": 2}]})
    'V:!H:Layout=TANH|8,LINEAR:TrainingStrategy=MaxEpochs=2'
    """
    parts = [_text(text)] if text else []
    for name, value in options.items():
        if isinstance(value, bool):
            parts.append(name if value else f"!{name}")
        elif value is not None:
            parts.append(f"{name}={_value(name, value)}")
    return ":".join(parts)


def _value(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_value(key, item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return _SEPARATORS.get(name, ";").join(_value(name, item) for item in value)
    return _text(value)


def _is_splitting(text: str) -> bool:
    """Returns whether ``text`` contains splitting options rather than a cut."""
    names = [part.partition("=")[0].strip().removeprefix("!") for part in text.split(":")]
    known = {name.lower() for name in _SPLITTING}
    return any(
        name.lower() in known or re.fullmatch(r"n(train|test)_\w+", name, flags=re.IGNORECASE)
        for name in names
    )


def _number(value: Any) -> int:
    if not math.isfinite(value) or value != int(value) or abs(value) >= 10**12:
        raise RunError(f"PrepareTrainingAndTestTree: {value} should be a number of events")
    return max(0, int(value))


def _numbers(options: str) -> tuple[int, int]:
    """Returns the numbers of training and test events in ``nTrain_Signal=…:nTest_Signal=…``, summed over classes.

    Raises:
        RunError: an option is not supported.
    """
    numbers = {"train": 0, "test": 0}
    for option in filter(None, (part.strip() for part in options.split(":"))):
        name, _, value = (part.strip() for part in option.partition("="))
        if match := re.fullmatch(r"n(train|test)_\w+", name, flags=re.IGNORECASE):
            if not re.fullmatch(r"[0-9]{1,12}", value):
                raise RunError(f"PrepareTrainingAndTestTree: {option} should be a number of events")
            numbers[match[1].lower()] += int(value)
        elif name.lower() == "splitmode" and value.lower() != "random":
            raise RunError(
                f"PrepareTrainingAndTestTree: {option} is not supported; events are split at random"
            )
        elif name.removeprefix("!").lower() not in {known.lower() for known in _SPLITTING}:
            hint = did_you_mean(name.removeprefix("!"), _SPLITTING)
            raise RunError(f"PrepareTrainingAndTestTree: unknown option {option}{hint}")
    return numbers["train"], numbers["test"]


def _test_fraction(loader: DataLoader) -> float:
    """Returns the fraction of test events.

    Raises:
        RunError: there are fewer events than requested.
    """
    train, test = loader.numbers
    total = sum(reader.num_entries(loader.trees).values())
    if train + test > total:
        raise RunError(
            f"PrepareTrainingAndTestTree asks for {train:,} training and {test:,} test events, but there are {total:,}"
        )
    if train and test:
        return test / (train + test)
    return 0.5 if not train and not test else test / total or 1 - train / total


class Factory(_Macro):
    """Books methods, and trains, tests and evaluates them.

    A method's run folder is ``<output>/<loader>/<job>_<method>``, as TMVA names its weight files.

    Attributes:
        job: Name of the job.
        output: Folder of all output.
        options: TMVA's options: ``Silent`` disables logging; the others concern TMVA's printing and plots and are ignored.
        booked: Booked methods by run folder.
    """

    unsupported: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("GetROCCurve", "GetROCIntegral", "GetROCCurveAsMultiGraph", "GetMultipleROC"),
            "a GAN does not separate signal from background; EvaluateAllMethods returns evaluations, and writes the AUC of "
            "generated against real events to scores.json and report.html",
        ),
        "EvaluateAllVariables": "EvaluateAllMethods compares every variable and writes report.html",
        "EvaluateImportance": "a GAN ranks no variables; EvaluateAllMethods compares each of them",
        "MakeClass": "`hepgan export RUN_FOLDER` writes ONNX, which C++ reads",
        "GetMethod": "hepgan.GAN.load(run folder) gives the trained GAN",
        "OptimizeAllMethods": "no parameters are tuned here; book several methods and compare their scores",
        "CrossValidate": "there is no cross validation; EvaluateAllMethods gives errors and a baseline",
    }  # fmt: skip

    def __init__(self, job: str, output: Any = "", options: str = "", **keywords: Any) -> None:
        """Checks the options; ``output`` may be omitted, as in TMVA.

        Raises:
            RunError: the output is a file instead of a folder, or TMVA has no such option.
        """
        folder = str(output.GetName()) if hasattr(output, "GetName") else os.fspath(output)
        if _is_option(folder) and not options:
            folder, options = "", folder
        if folder.endswith(".root"):
            raise RunError(
                f"Factory: '{folder}' should be a folder, in which each method writes its run folder and ROOT file"
            )
        self.job, self.output = job, folder or "."
        self.options = option_string(options, keywords)
        self.booked: dict[Path, Booking] = {}
        for option in filter(None, self.options.split(":")):
            if (name := option.partition("=")[0].removeprefix("!")) not in _FACTORY:
                hint = did_you_mean(name, _FACTORY) or f"; the options are {', '.join(_FACTORY)}"
                raise RunError(f"Factory has no option '{name}'{hint}")

    def BookMethod(
        self, loader: DataLoader, method: Any, title: str, options: str = "", **keywords: Any
    ) -> None:
        """Checks the option string, or the keywords, against the data; writes nothing.

        Raises:
            RunError: the method is not a GAN, the title is already booked, or as ``book``.
        """
        if str(method).removeprefix("k") != Types.kGAN:
            raise RunError(f"BookMethod: the only method is GAN, not {method}")
        folder = Path(self.output) / loader.name / f"{self.job}_{title}"
        if folder in self.booked:
            raise RunError(f"BookMethod: '{title}' is already booked")
        booking = book(
            option_string(options, keywords),
            loader.trees,
            variables=loader.variables,
            cut=loader.cut,
            weight=loader.weight,
            test=_test_fraction(loader),
            digits=loader.digits,
        )
        logging.getLogger("hepgan").setLevel(booking.level)
        if booking.help:
            log.info("%s", help_text())
        library.check_folder(folder, None)
        self.booked[folder] = booking

    def DeleteAllMethods(self) -> None:
        """Removes all bookings; run folders remain."""
        self.booked.clear()

    def SetVerbose(self, verbose: bool = True) -> None:
        """Sets whether each entry of the history is logged."""
        self.booked = {k: b._replace(verbose=verbose) for k, b in self.booked.items()}

    def TrainAllMethods(self) -> None:
        """Trains each method; see ``hepgan.pipeline.train``."""
        for folder, booking in self.booked.items():
            library.train(
                booking.run, folder, device=booking.device, progress=self._progress(folder)
            )

    def TestAllMethods(self) -> None:
        """Generates as many events as there are test events, into ``generated.root`` of each run folder."""
        for folder, booking in self.booked.items():
            events = sum(reader.num_entries(list(booking.run.data.files)).values())
            number = max(1, int(booking.run.data.test * events))
            library.generate(
                folder,
                folder / "generated.root",
                n=number,
                seed=booking.run.seed,
                device=booking.device,
            )

    def EvaluateAllMethods(self) -> "dict[str, Evaluation]":
        """Compares each method with the test events, writes ``report.html`` and ``scores.json``, and returns the evaluations."""
        return {
            folder.name: library.run(
                booking.run,
                folder,
                device=booking.device,
                resume=True,
                progress=self._progress(folder),
            )
            for folder, booking in self.booked.items()
        }

    TrainAllMethodsForClassification = TrainAllMethods
    TrainAllMethodsForRegression = TrainAllMethods

    def _progress(self, folder: Path) -> ProgressCallback:
        silent, verbose = "Silent" in self.options.split(":"), self.booked[folder].verbose

        def progress(task: str, fraction: float, remark: str) -> None:
            if not silent and (verbose or fraction in (0.0, 1.0)):
                log.info("%s: %s %.0f %% %s", folder.name, task, 100 * fraction, remark)

        return progress


def _is_option(text: str) -> bool:
    return text.startswith("!") or text.partition(":")[0].partition("=")[0] in _FACTORY

"""TMVA's ``Factory`` and ``DataLoader``, so that a macro carries over line by line; methods have TMVA's names.

>>> loader = DataLoader("dataset")
>>> loader.AddTree("sample:mnist.root:mnist")
>>> loader.AddVariablesArray("image", 784)
>>> factory = Factory("TMVAGeneration", options="!V:!Silent")
>>> factory.BookMethod(loader, Types.kGAN, "GAN", "Layout=TANH|64,TANH|784##TANH|64,LINEAR|1")

Trees are all taken for events of one kind: there is no signal and no background to tell apart.
"""

import dataclasses
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepgan import run as library
from hepgan.data import root
from hepgan.errors import RunError, did_you_mean
from hepgan.tmva.booking import Booking, book, help_text

if TYPE_CHECKING:
    from hepgan.evaluate.verdict import Verdict

log = logging.getLogger(__name__)

_FACTORY = (
    "V", "Silent", "Color", "DrawProgressBar", "Transformations", "AnalysisType", "ROC", "Correlations",
    "VerboseLevel", "ModelPersistence",
)  # fmt: skip


class Types:
    """TMVA's names of methods; there is one."""

    kGAN = "GAN"  # noqa: N815


@dataclasses.dataclass
class DataLoader:
    """Trees, variables, cuts, and the numbers of events to train on and to test with (0: what is left).

    ``name`` is the folder that the methods' run folders are in.
    """

    name: str
    variables: list[str] = dataclasses.field(default_factory=list)
    trees: list[str] = dataclasses.field(default_factory=list)
    cuts: list[str] = dataclasses.field(default_factory=list)
    numbers: tuple[int, int] = (0, 0)

    def AddVariable(self, expression: str, *about: str) -> None:
        """A branch; ``about`` (title, unit, type ``'F'`` or ``'I'``) is for plots of TMVA and left aside.

        Raises:
            RunError: a formula of branches, which could not be written to a tree again.
        """
        if not re.fullmatch(r"[\w./]+(\{\d+\.\.\d+\})?", expression):
            raise RunError(
                f"AddVariable('{expression}'): only a branch can be generated and written again, no formula; "
                "make the branch first, as with RDataFrame's Define and Snapshot"
            )
        self.variables.append(expression)

    def AddVariablesArray(self, expression: str, size: int, *about: str) -> None:
        """An array branch of ``size`` values, or the branches ``expression0`` … where there is no such array."""
        if size < 1:
            raise RunError(f"AddVariablesArray('{expression}', {size}): size should be 1 or more")
        self.variables.append(f"{expression}[{size}]")

    def AddTree(self, tree: Any, class_name: str = "", weight: float = 1.0, cut: str = "") -> None:
        """A tree: ``"file.root:tree"``, or one that uproot has opened. Its class does not matter.

        Raises:
            RunError: it has a weight of its own.
        """
        if weight != 1.0:
            raise RunError(
                f"AddTree: a tree's weight of {weight:g} cannot be had; all events count as 1"
            )
        self.trees.append(_name_of(tree))
        if cut:
            self.cuts.append(cut)

    def AddSignalTree(self, tree: Any, weight: float = 1.0) -> None:
        """As ``AddTree``."""
        self.AddTree(tree, weight=weight)

    def AddBackgroundTree(self, tree: Any, weight: float = 1.0) -> None:
        """As ``AddTree``: the generator learns from these events as well."""
        self.AddTree(tree, weight=weight)

    def PrepareTrainingAndTestTree(self, cut: str, *others: str) -> None:
        """A cut (or one for each class, which must be the same), and TMVA's options of splitting.

        Of these the numbers of training and test events count, as shares of what there is; 0 stands for the rest, or for
        one half where both are 0. Events are split at random.

        Raises:
            RunError: two different cuts, or an option that cannot be had.
        """
        *cuts, options = (cut, *others)
        self.cuts += [text for text in dict.fromkeys(cuts) if text]
        if len(set(cuts)) > 1:
            raise RunError(
                f"PrepareTrainingAndTestTree: the cuts {cuts} differ, but all events are of one kind"
            )
        self.numbers = _numbers(options)

    @property
    def select(self) -> str | None:
        """All cuts together, as an expression of a run file."""
        return " & ".join(f"({_from_cut(cut)})" for cut in self.cuts) or None


def _name_of(tree: Any) -> str:
    if isinstance(tree, (str, os.PathLike)):
        return os.fspath(tree)
    try:
        return f"{tree.file.file_path}:{tree.object_path.rpartition(':')[2].lstrip('/')}"
    except AttributeError as error:
        raise RunError(
            f"AddTree: {tree!r} is no tree; give 'file.root:tree' or a tree that uproot opened"
        ) from error


def _from_cut(cut: str) -> str:
    """A cut in TFormula's words as one in Python's: brackets, since ``&`` binds more tightly than ``<``."""
    text = re.sub(r"!(?!=)", "~", cut)
    return (
        f"({text})".replace("&&", ")&(").replace("||", ")|(")
        if re.search(r"&&|\|\|", text)
        else text
    )


def _numbers(options: str) -> tuple[int, int]:
    """The numbers of training and test events in ``nTrain_Signal=…:nTest_Signal=…``, those of all classes together.

    Raises:
        RunError: an option that cannot be had.
    """
    numbers = {"train": 0, "test": 0}
    for option in filter(None, (part.strip() for part in options.split(":"))):
        name, _, value = option.partition("=")
        if match := re.fullmatch(r"n(train|test)_\w+", name, flags=re.IGNORECASE):
            if not value.isdecimal():
                raise RunError(f"PrepareTrainingAndTestTree: {option} should be a number of events")
            numbers[match[1].lower()] += int(value)
        elif name.lower() == "splitmode" and value.lower() != "random":
            raise RunError(
                f"PrepareTrainingAndTestTree: {option} cannot be had; events are split at random"
            )
        elif name.lower() not in ("splitmode", "mixmode", "normmode", "splitseed", "!v", "v"):
            raise RunError(f"PrepareTrainingAndTestTree: unknown option {option}")
    return numbers["train"], numbers["test"]


def _test_share(loader: DataLoader) -> float:
    """The share of the events that is tested with.

    Raises:
        RunError: there are fewer events than are asked for.
    """
    train, test = loader.numbers
    total = sum(root.counts(loader.trees).values())
    if train + test > total:
        raise RunError(
            f"PrepareTrainingAndTestTree asks for {train:,} training and {test:,} test events, but there are {total:,}"
        )
    if train and test:
        return test / (train + test)
    return 0.5 if not train and not test else test / total or 1 - train / total


@dataclasses.dataclass
class Factory:
    """Books methods, and trains, tests and evaluates them all.

    A method's run folder is ``<output>/<loader>/<job>_<method>``, as TMVA names its weight files.

    Attributes:
        job: The name of the job.
        output: The folder that all goes to.
        options: TMVA's: ``Silent`` tells nothing; the others, of TMVA's printing and plots, are left aside.
    """

    job: str
    output: str = "."
    options: str = ""
    booked: dict[Path, Booking] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.output.endswith(".root"):
            raise RunError(
                f"Factory: '{self.output}' should be a folder; each method leaves its run folder and ROOT file there"
            )
        for option in filter(None, self.options.split(":")):
            if (name := option.partition("=")[0].removeprefix("!")) not in _FACTORY:
                hint = did_you_mean(name, _FACTORY) or f"; there are {', '.join(_FACTORY)}"
                raise RunError(f"Factory has no option '{name}'{hint}")

    def BookMethod(self, loader: DataLoader, method: str, title: str, options: str) -> None:
        """Checks the option string against the data; nothing is written yet.

        Raises:
            RunError: another method than a GAN, a title that is booked, or as ``book``.
        """
        if method.removeprefix("k") != Types.kGAN:
            raise RunError(f"BookMethod: hepgan knows the method GAN, not {method}")
        folder = Path(self.output) / loader.name / f"{self.job}_{title}"
        if folder in self.booked:
            raise RunError(f"BookMethod: '{title}' is booked already")
        booking = book(
            options,
            loader.trees,
            variables=loader.variables,
            select=loader.select,
            test=_test_share(loader),
        )
        logging.getLogger("hepgan").setLevel(booking.level)
        if booking.help:
            log.info("%s", help_text())
        library.check_folder(folder, None)
        self.booked[folder] = booking

    def TrainAllMethods(self) -> None:
        """Trains each; see ``hepgan.run.train``."""
        for folder, booking in self.booked.items():
            library.train(booking.run, folder, device=booking.device, tick=self._tick(folder))

    def TestAllMethods(self) -> None:
        """Generates as many events as there are test events, into ``generated.root`` of each run folder."""
        for folder, booking in self.booked.items():
            events = sum(root.counts(list(booking.run.data.files)).values())
            number = max(1, int(booking.run.data.test * events))
            library.generate(
                folder,
                folder / "generated.root",
                n=number,
                seed=booking.run.seed + 1,
                device=booking.device,
            )

    def EvaluateAllMethods(self) -> "dict[str, Verdict]":
        """Compares each with the test events; leaves ``report.html`` and ``scores.json``, and gives the verdicts."""
        return {
            folder.name: library.run(
                booking.run, folder, device=booking.device, resume=True, tick=self._tick(folder)
            )
            for folder, booking in self.booked.items()
        }

    def _tick(self, folder: Path) -> library.Tick:
        silent, verbose = "Silent" in self.options.split(":"), self.booked[folder].verbose

        def tick(text: str, share: float, remark: str) -> None:
            if not silent and (verbose or share in (0.0, 1.0)):
                log.info("%s: %s %.0f %% %s", folder.name, text, 100 * share, remark)

        return tick

"""Run files: TOML tables as frozen dataclasses, the presets, and the way back."""

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from hepgan.config import LONGEST, check_plain, from_table, parse_toml, shown, to_table
from hepgan.data.encoding.encoding import EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import RunError, did_you_mean
from hepgan.evaluation.metrics.digits import digit_field
from hepgan.evaluation.observables.geometry import AXES, LayerGeometry
from hepgan.gan.networks import GANSettings
from hepgan.gan.training.settings import TrainSettings
from hepgan.random_streams import check_seed


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The table ``[data]``.

    Attributes:
        files: Paths, globs, ``path:tree``, URLs, or ``sample:mnist.root`` and ``sample:showers.root``.
        tree: The tree, where a file has several.
        cut: Expression of branches, ``(energy > 10) & (abs(eta) < 2)``, or a ROOT cut, ``TCut("energy > 10 && fabs(eta) < 2")``; events
            for which it is false are dropped.
        validation: Share of the events that choose the weights that are kept.
        test: Share of the events that training never sees and that generated ones are compared with.
        mirror: Axes of the geometry along which the detector and the events are symmetric: training events are seen in mirror
            images too, two axes make four of each. Only where particles come in at a right angle, and at a centre of symmetry.
    """

    files: tuple[str, ...]
    tree: str | None = None
    cut: str | None = None
    validation: float = 0.1
    test: float = 0.2
    mirror: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (min(self.validation, self.test) > 0 and self.validation + self.test < 1):
            raise RunError(
                f"[data] validation = {self.validation} and test = {self.test} should be positive and leave a rest to train on"
            )

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of the events in each split."""
        rest = 1 - self.validation - self.test
        return {"train": rest, "validation": self.validation, "test": self.test}


@dataclasses.dataclass(frozen=True)
class EvaluateSettings:
    """The table ``[evaluate]``.

    Attributes:
        quick: A small classifier, trained once, instead of the CaloChallenge's, trained three times.
        digits: The events are MNIST's digits: one field of 28 × 28 pixels from 0 to 255. Validation and scores then use
            the features of the digit classifier that comes with the package.
    """

    quick: bool = True
    digits: bool = False


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run file.

    Attributes:
        seed: Of everything random.
        train: How the GAN is trained.
        phases: Further phases of the training, each from the weights of the last one; its optimizers begin anew.
        threads: CPU threads of torch, 0 for torch's own choice. Results depend on them in the last digits, so that
            the same seed gives the same events only with the same number.
        purpose: What it is for, in a sentence.
    """

    seed: int
    data: DataSettings
    schema: Schema
    encoding: EncodingSettings
    gan: GANSettings
    train: TrainSettings
    geometry: Mapping[str, LayerGeometry] = dataclasses.field(default_factory=dict)
    phases: tuple[TrainSettings, ...] = ()
    evaluate: EvaluateSettings = EvaluateSettings()
    threads: int = 0
    purpose: str = ""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.threads < 0:
            raise RunError(f"threads = {self.threads} should be 0 or more")
        for name in self.geometry:
            if name not in self.schema.fields:
                hint = did_you_mean(name, self.schema.fields)
                raise RunError(f"[geometry.{name}] is no field of the schema{hint}")
        if len(set(self.data.mirror)) < len(self.data.mirror):
            raise RunError(f"[data] mirror = {list(self.data.mirror)} names an axis twice")
        self.mirrored  # noqa: B018  an axis that a field lacks is told before data are read
        if self.evaluate.digits:
            digit_field(self.schema)  # another schema is refused before data are read

    @property
    def mirrored(self) -> dict[str, dict[str, int]]:
        """For each axis of ``data.mirror``, which axis of each field it is.

        Raises:
            RunError: a field does not have it.
        """
        return {
            axis: {name: self._axis(axis, name) for name in self.schema.fields}
            for axis in self.data.mirror
        }

    def _axis(self, axis: str, field: str) -> int:
        layer = self.geometry.get(field, LayerGeometry())
        axes = layer.axes
        if layer.cell and not axes:
            axes = AXES[: len(self.schema.fields[field].shape)]
        if axis not in axes:
            raise RunError(
                f"[data] mirror = '{axis}' is no axis of the field '{field}'; name its axes in [geometry.{field}], such as"
                ' axes = ["y", "x"]'
            )
        return axes.index(axis)

    @property
    def training(self) -> tuple[TrainSettings, ...]:
        """All phases of the training."""
        return (self.train, *self.phases)

    @property
    def steps(self) -> int:
        """Generator steps of all phases, where none ends early."""
        return sum(phase.steps for phase in self.training)


def presets() -> dict[str, str]:
    """The run files that come with the package: name -> purpose."""
    return {name: str(tomllib.loads(_preset(name)).get("purpose", "")) for name in _preset_names()}


def _preset_names() -> list[str]:
    found = resources.files("hepgan.presets").iterdir()
    return sorted(p.name.removesuffix(".toml") for p in found if p.name.endswith(".toml"))


def _preset(name: str) -> str:
    return resources.files("hepgan.presets").joinpath(f"{name}.toml").read_text(encoding="utf-8")


MEASURED = Path(__file__).parent.parent / "presets" / "measured.json"


def measured() -> dict[str, Any]:
    """How good the presets were found to be, by name; written by ``benchmarks/presets.py --publish``."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def load(source: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """A preset by its name, or a run file by its path.

    Args:
        source: ``showers``, or ``my.toml``.
        overrides: Values by dotted key, such as ``{"train.steps": 2000}``.

    Raises:
        RunError: no such preset or file, no TOML, an unknown key, or a value of another type.
    """
    return _with(_read_table(source), overrides or {})


def replaced(run: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """``run`` with other values; the overrides are those of ``load``.

    Raises:
        RunError: an unknown key, or a value of another type.
    """
    return _with(to_table(run), overrides)


def _with(table: dict[str, Any], overrides: Mapping[str, Any]) -> RunConfig:
    for key, value in overrides.items():
        _set(table, key, value)
    check_plain(table, where="the run file")
    return from_table(RunConfig, table, where="")


def _read_table(source: str | os.PathLike[str]) -> dict[str, Any]:
    name, path = os.fspath(source), Path(source)
    known = _preset_names()
    if name in known:
        text = _preset(name)
    elif _is_file(path):
        text = _read_text(path)
    else:
        hint = did_you_mean(name, known) or f"; the presets are {', '.join(known)}"
        raise RunError(f"there is no preset and no run file {shown(name)}{hint}")
    return parse_toml(text, where=name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is longer than any file's
        return False


def _read_text(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > LONGEST:
            raise RunError(f"{path} is no run file: it has {size:,} bytes")
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise RunError(f"{path} is no run file: {error}") from error


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RunError(f"--set {key}: '{part}' is a value, not a table")
    table[last] = value


def as_toml(run: RunConfig) -> str:
    """The run file that gives ``run``, with every default written out."""
    return tomli_w.dumps(to_table(run))

"""Run files: TOML tables as frozen dataclasses, and writing back."""

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w

from hepgan import plugins
from hepgan.config import (
    LONGEST,
    Within,
    check_plain,
    from_table,
    parse_toml,
    short_repr,
    to_table,
    value_of,
)
from hepgan.data.cells import read_cells
from hepgan.data.encoding.encoding import EncodingSettings
from hepgan.data.loaders.augment import (
    SINES,
    Reflection,
    Rotation,
    check_reflection,
    check_rotation,
)
from hepgan.data.schema import Schema
from hepgan.errors import RunError, did_you_mean
from hepgan.evaluation.metrics.conditions import parse_slices
from hepgan.evaluation.metrics.digits import digit_field
from hepgan.evaluation.metrics.ensembles import MIN_SAMPLES
from hepgan.evaluation.metrics.scores import CLASSIFIER_INPUTS, REGISTERED, check_metrics
from hepgan.evaluation.observables.geometry import AXES, LayerGeometry
from hepgan.evaluation.observables.standard import (
    layers_for,
    observables_for,
    select_observables,
)
from hepgan.gan.networks import GANSettings
from hepgan.gan.training.settings import TrainSettings
from hepgan.presets import preset_names, preset_text
from hepgan.random_streams import check_seed, child_seed


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The table ``[data]``.

    Attributes:
        files: Paths, globs, ``path:tree``, URLs, or samples of the package such as ``sample:showers.root``.
        tree: The tree, if a file has several.
        cut: Expression of branches, ``(energy > 10) & (abs(eta) < 2)``, or a ROOT cut, ``TCut("energy > 10 && fabs(eta) < 2")``;
            events for which it is false are dropped.
        weight: Expression of branches that is the weight of an event, ``"genWeight / 1000"``; may be negative. Generated events have
            weight 1 and follow the weighted distribution.
        validation: Fraction of the events used for validation, which selects the weights that are kept.
        test: Fraction of the events that training never sees and that generated events are compared with.
        reflect: Axes of the geometry along which the detector is symmetric: training events are augmented with their mirror images,
            with two axes four images of each. A name is enough for particles at normal incidence on a center of symmetry; otherwise
            a table says which conditions change: ``{ axis = "x", negate = ["x0"], azimuth = ["phi"] }``.
        rotate: Random rotations of cells in α and r, for detectors with this symmetry.
        stream: Whether the events are read from the files again in every epoch, instead of once into memory: ``true``, ``false``, or
            ``"auto"`` to stream them if they do not fit into the free memory. The encoding is then fitted to a random sample of the
            training events, the ranges of values and the moments to all of them.
        encoding_events: Number of events of this sample; 0 for 50,000, or as many as have 34 million values if that is less.
        bootstrap: Whether to train on a bootstrap sample of the training events: random weights, drawn with the seed, that stand for the
            fluctuations of another sample. Each member of an ``[ensemble]`` has its own.
    """

    files: tuple[str, ...]
    tree: str | None = None
    cut: str | None = None
    weight: str | None = None
    validation: float = 0.1
    test: float = 0.2
    reflect: tuple[str | Reflection, ...] = ()
    rotate: Rotation | None = None
    stream: Literal[True, False, "auto"] = "auto"
    encoding_events: int = 0
    bootstrap: bool = False

    def __post_init__(self) -> None:
        if self.encoding_events < 0:
            raise RunError(
                f"[data] encoding_events = {self.encoding_events} should be a number of events, or 0 for the default"
            )
        if not (min(self.validation, self.test) > 0 and self.validation + self.test < 1):
            raise RunError(
                f"[data] validation = {self.validation} and test = {self.test} should be positive and leave some events for training"
            )

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of each split."""
        rest = 1 - self.validation - self.test
        return {"train": rest, "validation": self.validation, "test": self.test}


@dataclasses.dataclass(frozen=True)
class EvaluateSettings:
    """The table ``[evaluate]``.

    Attributes:
        quick: Whether to use a small classifier, trained once, instead of the CaloChallenge's, trained three times.
        digits: Whether the events are MNIST's digits: one field of 28 × 28 pixels from 0 to 255. Validation and scores then use
            the features of the digit classifier that comes with the package.
        metrics: Names of the metrics to compute, standard ones or your own; by default all that apply.
        observables: Names of the observables to compare, standard ones or your own, also by metrics of all together and by
            classifiers; by default all that apply.
        by: Conditions whose slices are compared: ``["energy=1,10,50,100", "pdg"]``; by default all, in classes or quartiles.
        validation: Score on the validation split that chooses the weights that are kept: a registered metric (`@register_metric`), or
            the AUC of a classifier that sees the conditions, ``auc_observables``, ``auc_boosted``, ``auc_high`` or ``auc_low`` (cells),
            which takes some seconds. By default the Fréchet distance of all observables and conditions, which sees linear correlations.
    """

    quick: bool = True
    digits: bool = False
    metrics: tuple[str, ...] = ()
    observables: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    validation: str = ""

    def __post_init__(self) -> None:
        check_metrics(self.metrics)
        for text in self.by:
            parse_slices(text)
        known = {*REGISTERED, *CLASSIFIER_INPUTS}
        if self.validation and self.validation not in known:
            hint = did_you_mean(self.validation, known)
            raise RunError(
                f"[evaluate] validation = {short_repr(self.validation)} is not a registered metric or a classifier{hint}; choose one of"
                f" {', '.join(CLASSIFIER_INPUTS)}, or import the plugin that registers the metric with @register_metric"
            )


@dataclasses.dataclass(frozen=True)
class EnsembleSettings:
    """The table ``[ensemble]``: several trainings of one GAN, whose spread is the uncertainty of the training.

    Attributes:
        members: Number of trainings.
        bootstrap: Whether each member is trained on a bootstrap sample of its own, ``[data] bootstrap``; otherwise members differ by the seed alone.
    """

    members: Annotated[int, Within(MIN_SAMPLES)]
    bootstrap: bool = True


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run file.

    Attributes:
        seed: Seed of all random numbers.
        data: Input files, cut and splits.
        schema: Fields and conditions of an event.
        encoding: Steps of the encoding.
        gan: Layouts of the networks, and the noise.
        train: Training settings.
        geometry: Geometry of the layers.
        phases: Further training phases, each from the weights of the previous one, with new optimizers.
        evaluate: Evaluation settings.
        ensemble: Members of an ensemble; without this table, one GAN is trained.
        threads: CPU threads of torch, 0 for torch's default. Results depend on the number in the last digits, so the same seed gives
            the same events only with the same number.
        plugins: Modules to import before a run, which register steps, layers, observables, metrics or objectives: installed ones, or
            files next to the run file.
        description: One sentence about the run.
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
    ensemble: EnsembleSettings | None = None
    threads: int = 0
    plugins: tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.threads < 0:
            raise RunError(f"threads = {self.threads} should be 0 or more")
        for name in self.geometry:
            if name not in self.schema.fields:
                hint = did_you_mean(name, self.schema.fields)
                raise RunError(f"[geometry.{name}] is not a field of the schema{hint}")
        layers_for(self.schema, self.geometry)  # check the geometry before reading data
        self._check_symmetries()  # before reading data
        self._check_discriminators()
        if any(phase.start_from for phase in self.phases):
            raise RunError("[[phases]] continue the training; write start_from in [train]")
        if self.evaluate.observables:
            select_observables(
                observables_for(self.schema, self.geometry), self.evaluate.observables
            )
        if self.evaluate.digits:
            digit_field(self.schema)  # check the schema before reading data

    @property
    def reflections(self) -> dict[Reflection, dict[str, int]]:
        """Index of the axis of each entry of ``data.reflect`` in each field that changes.

        Raises:
            RunError: a field does not have the axis.
        """
        entries = (Reflection(e) if isinstance(e, str) else e for e in self.data.reflect)
        arrays = [name for name, field in self.schema.fields.items() if field.shape]
        return {
            entry: {n: i for n in arrays if (i := self._axis(entry.axis, n)) is not None}
            for entry in entries
        }

    @property
    def alpha_axes(self) -> dict[str, int]:
        """Index of the axis α of each field with cells in α and r, and more than one in α.

        Raises:
            RunError: an array has other cells.
        """
        axes = {}
        for name, field in self.schema.fields.items():
            if not field.shape:
                continue
            if not self.geometry.get(name, LayerGeometry()).r_edges:
                raise RunError(
                    f"[data] rotate needs cells in α and r, but [geometry.{name}] has no r_edges"
                )
            if len(field.shape) > 1 and field.shape[-2] > 1:
                axes[name] = len(field.shape) - 2
        return axes

    def _check_discriminators(self) -> None:
        adversarial = [phase.objective for phase in self.training if phase.adversarial]
        if adversarial and not self.gan.discriminators:
            raise RunError(
                f"[train] objective = '{adversarial[0]}' needs a discriminator; add [gan] discriminator = \"…\", or set objective = 'mmd'"
            )
        if self.gan.discriminators and not adversarial:
            raise RunError(
                f"[train] objective = '{self.train.objective}' trains without a discriminator; remove [gan] discriminator"
            )

    def _check_symmetries(self) -> None:
        axes = [entry.axis for entry in self.reflections]
        if len(set(axes)) < len(self.data.reflect):
            raise RunError(f"[data] reflect = {axes} names an axis twice")
        for entry in self.reflections:
            check_reflection(entry, self.schema, self.encoding.conditions)
        if self.data.rotate:
            bins = {n: self.schema.fields[n].shape[i] for n, i in self.alpha_axes.items()}
            check_rotation(self.data.rotate, bins, self.encoding.conditions)

    def _axis(self, axis: str, field: str) -> int | None:
        layer = self.geometry.get(field, LayerGeometry())
        axes, shape = layer.axes, self.schema.fields[field].shape
        if layer.r_edges and axis in SINES:  # cells in (α, r), for which it maps α to −α
            return len(shape) - 2 if len(shape) > 1 else None
        if layer.r_edges:
            raise RunError(
                f"[data] reflect = '{axis}' is not possible for the field '{field}' with cells in α and r; use 'y', which maps α"
                " to −α, and [data.rotate]"
            )
        if layer.cell and not axes:
            axes = AXES[: len(shape)]
        if axis not in axes:
            raise RunError(
                f"[data] reflect = '{axis}' is not an axis of the field '{field}'; name its axes in [geometry.{field}], such as"
                ' axes = ["y", "x"]'
            )
        return axes.index(axis)

    def member(self, number: int) -> "RunConfig":
        """Returns the run of one member of the ensemble: with a seed of its own and, by default, a bootstrap sample of its own."""
        if self.ensemble is None:
            return self
        seed, bootstrap = child_seed(self.seed, "member", number), self.ensemble.bootstrap
        data = dataclasses.replace(self.data, bootstrap=bootstrap)
        return dataclasses.replace(self, seed=seed, data=data, ensemble=None)

    @property
    def training(self) -> tuple[TrainSettings, ...]:
        """All training phases."""
        return (self.train, *self.phases)

    @property
    def steps(self) -> int:
        """Generator steps of all phases, if none ends early."""
        return sum(phase.steps for phase in self.training)


def load(
    source: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    import_plugins: bool = False,
) -> RunConfig:
    """Returns a preset by name, a run file by path, or the run of a run folder.

    Args:
        source: ``showers``, ``my.toml``, or ``runs/showers``, whose ``run.toml`` is read.
        overrides: Values by dotted key, such as ``{"train.steps": 2000}``.
        import_plugins: Whether to import the plugins that the run file names. Reading a file does not run code otherwise, and
            fails with the names of plugins that have not been imported.

    Raises:
        RunError: there is no such preset, file or folder, it is not valid TOML, a key is unknown, a value has the wrong type, or a plugin is
            not imported.
    """
    if is_run_folder(source):
        source = Path(source) / "run.toml"
    table = _apply(_read_table(source), overrides or {})
    names = value_of(tuple[str, ...], table.get("plugins", ()), "plugins")
    if import_plugins:
        plugins.import_plugins(names, folder=Path(source).absolute().parent)
    else:
        plugins.require_plugins(names, source=f"the run file {short_repr(os.fspath(source))}")
    return of_table(table)


def of_table(table: Mapping[str, Any]) -> RunConfig:
    """Returns the run of the table of a run file, with the positions of the cells that its geometry names.

    Raises:
        RunError: a key is unknown, or a value has the wrong type.
        DataError: a file with positions cannot be read.
    """
    tables = table.get("geometry", {})
    if isinstance(tables, Mapping):
        read = {name: _with_positions(layer, f"geometry.{name}") for name, layer in tables.items()}
        table = {**table, "geometry": read} if read else table
    return from_table(RunConfig, table, where="")


def _with_positions(table: Any, where: str) -> Any:
    """Returns the table of a geometry, with the positions of the cells instead of the name of their file."""
    if not (isinstance(table, Mapping) and table.get("file")):
        return table
    layer = from_table(LayerGeometry, table, where=where)
    cells = read_cells(layer.file, layer=layer.number)
    return to_table(dataclasses.replace(layer, file="", positions=cells))


def replaced(run: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """Returns ``run`` with other values; overrides as in ``load``.

    Raises:
        RunError: a key is unknown, or a value has the wrong type.
    """
    return of_table(_apply(to_table(run), overrides))


def _apply(table: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in overrides.items():
        _set(table, key, value)
    check_plain(table, where="the run file")
    return table


def _read_table(source: str | os.PathLike[str]) -> dict[str, Any]:
    name, path = os.fspath(source), Path(source)
    known = preset_names()
    if name in known:
        text = preset_text(name)
    elif _is_file(path):
        text = _read_text(path)
    else:
        hint = did_you_mean(name, known) or f"; the presets are {', '.join(known)}"
        raise RunError(f"there is no preset or run file {short_repr(name)}{hint}")
    return parse_toml(text, where=name)


def is_run_folder(source: str | os.PathLike[str]) -> bool:
    """Returns whether ``source`` is a folder with a ``run.toml``, and not the name of a preset."""
    return os.fspath(source) not in preset_names() and _is_file(Path(source) / "run.toml")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long for a file
        return False


def _read_text(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > LONGEST:
            raise RunError(f"{path} is not a run file:  it has {size:,} bytes")
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise RunError(f"{path} is not a run file:  {error}") from error


def setting(text: str) -> Any:
    """Returns the TOML value ``text``; text that is not valid TOML is a string.

    Raises:
        RunError: an integer has too many digits, or the value is nested too deeply.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise RunError("the value has too many digits or is nested too deeply") from error


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    """Changes a value of a table; entries of lists are numbered, ``encoding.steps[0].hidden``."""
    parts = re.sub(r"\[(\d+)\](?=\.|\[|$)", r".[\1]", key).split(".")
    at: Any = table
    for number, part in enumerate(parts):
        before = parts[number - 1] if number else ""
        index = int(part[1:-1]) if re.fullmatch(r"\[\d+\]", part) else None
        if index is None and not isinstance(at, dict):
            raise RunError(f"--set {key}: '{before}' is a value, not a table")
        if index is not None and not (isinstance(at, list) and index < len(at)):
            raise RunError(f"--set {key}: '{before}' has no entry {part}")
        if number + 1 == len(parts):
            at[part if index is None else index] = value
        else:
            at = at.setdefault(part, {}) if index is None else at[index]


def as_toml(run: RunConfig) -> str:
    """Returns the run file of ``run``, with every default written out."""
    return tomli_w.dumps(to_table(run))

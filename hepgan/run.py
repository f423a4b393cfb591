"""A run file as frozen dataclasses, and what is done with one: read, train, generate, compare, report.

``run`` is the whole way; ``train``, ``generate`` and ``evaluate`` are its parts. Each does what the command of its name
does.
"""

import dataclasses
import datetime as dt
import logging
import os
import platform
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt
import tomli_w
import torch

from hepgan.data import root
from hepgan.data.encoding import Encoding, EncodingSettings
from hepgan.data.loader import read_splits
from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError, did_you_mean
from hepgan.evaluate import digits, frechet, metrics
from hepgan.evaluate.geometry import LayerGeometry
from hepgan.evaluate.observables import arrays, observables_for
from hepgan.evaluate.observables import evaluate as evaluate_observables
from hepgan.evaluate.pairs import SURE
from hepgan.gan import checkpoint
from hepgan.gan import train as training
from hepgan.gan.model import GAN, Condition, GANSettings, parameters
from hepgan.gan.train import Row, TrainSettings
from hepgan.gan.view import View, shown
from hepgan.tables import from_table, to_table

if TYPE_CHECKING:
    from hepgan.evaluate.verdict import Verdict

log = logging.getLogger(__name__)

Tick = Callable[[str, float, str], None]
"""Told what is going on, what share of it is done, and a remark."""


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The table ``[data]``.

    Attributes:
        files: Paths, globs, ``path:tree``, URLs, or ``sample:mnist.root`` and ``sample:showers.root``.
        tree: The tree, where a file has several.
        select: An expression of branches; events where it is false are left out.
        validation: Share of the events that choose the weights that are kept.
        test: Share of the events that training never sees and that generated ones are compared with.
    """

    files: tuple[str, ...]
    tree: str | None = None
    select: str | None = None
    validation: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        if min(self.validation, self.test) <= 0 or self.validation + self.test >= 1:
            raise RunError(
                f"[data] validation = {self.validation} and test = {self.test} should be positive and leave a rest to train on"
            )

    @property
    def shares(self) -> dict[str, float]:
        """The share of each split."""
        rest = 1 - self.validation - self.test
        return {"train": rest, "validation": self.validation, "test": self.test}


@dataclasses.dataclass(frozen=True)
class EvaluateSettings:
    """The table ``[evaluate]``.

    Attributes:
        quick: A small classifier, trained once, instead of the CaloChallenge's, trained three times.
    """

    quick: bool = True


@dataclasses.dataclass(frozen=True)
class Run:
    """A run file.

    Attributes:
        seed: Of everything random.
        purpose: What it is for, in a sentence.
    """

    seed: int
    data: DataSettings
    schema: Schema
    encoding: EncodingSettings
    gan: GANSettings
    train: TrainSettings
    geometry: Mapping[str, LayerGeometry] = dataclasses.field(default_factory=dict)
    evaluate: EvaluateSettings = EvaluateSettings()
    purpose: str = ""


def presets() -> dict[str, str]:
    """The run files that come with the package: name -> purpose."""
    folder = resources.files("hepgan.presets")
    found = sorted(p.name for p in folder.iterdir() if p.name.endswith(".toml"))
    return {
        name.removesuffix(".toml"): str(
            tomllib.loads(folder.joinpath(name).read_text(encoding="utf-8")).get("purpose", "")
        )
        for name in found
    }


def load(source: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Run:
    """A preset by its name, or a run file by its path.

    Args:
        source: ``showers``, or ``my.toml``.
        overrides: Values by dotted key, such as ``{"train.steps": 2000}``.

    Raises:
        RunError: no such preset or file, no TOML, an unknown key, or a value of another type.
    """
    table = _read_table(source)
    for key, value in (overrides or {}).items():
        _set(table, key, value)
    return from_table(Run, table, where="run file")


def _read_table(source: str | os.PathLike[str]) -> dict[str, Any]:
    name, path = os.fspath(source), Path(source)
    known = presets()
    if name in known:
        text = (
            resources.files("hepgan.presets").joinpath(f"{name}.toml").read_text(encoding="utf-8")
        )
    elif path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        hint = did_you_mean(name, known) or f"; the presets are {', '.join(known)}"
        raise RunError(f"there is no preset and no run file '{name}'{hint}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"{name} is not valid TOML: {error}") from error


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RunError(f"--set {key}: '{part}' is a value, not a table")
    table[last] = value


def device_of(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1`` as a device.

    Raises:
        RunError: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RunError(f"'{name}' is no device; choose auto, cpu or cuda") from error
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise RunError(f"the device '{name}' is not there; choose cpu or auto")
    return device


class Prepared(NamedTuple):
    """All that a run needs before anything is written."""

    splits: dict[str, ak.Array]
    view: View
    state: training.State
    tree: str


def prepare(run: Run, *, device: torch.device) -> Prepared:
    """Reads the events, fits the encoding to the training split and builds the networks; writes nothing.

    Raises:
        HepganError: the data, the encoding or a layout does not fit.
    """
    run.gan.layouts  # noqa: B018  a typing error in a layout is told before data are read
    schema = root.resolve(list(run.data.files), run.schema, tree=run.data.tree)
    splits = read_splits(
        list(run.data.files), schema, run.data.shares, tree=run.data.tree, select=run.data.select
    )
    encoding = Encoding.fit(splits["train"], schema, run.encoding, seed=run.seed)
    x, c = (t.to(device) for t in encoding.encode(splits["train"], seed=run.seed))
    sees = run.gan.discriminator_sees
    observables = shown(schema, run.geometry) if "observables" in sees else {}
    view = View(encoding.to(device), observables, x, c, event="event" in sees).to(device)
    gan = GAN.build(run.gan, encoding, seed=run.seed, device=device, seen=view.size)
    state = training.start(gan, view, x, c, run.train, seed=run.seed)
    return Prepared(splits, view, state, tree_name(run.data))


def tree_name(data: DataSettings) -> str:
    """The tree that is read, which generated files take over."""
    source = root.sources(list(data.files), tree=data.tree)[0]
    return source.tree or root.inspect(source.path, entries=0)[0].name


def train(
    run: Run,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
    tick: Tick = lambda text, share, remark: None,
) -> tuple[GAN, Prepared]:
    """Trains and leaves ``run.toml``, ``history.jsonl``, ``checkpoints/``, ``generator.safetensors`` and ``gan.json`` in ``folder``.

    Args:
        run: What to train.
        folder: A new or empty folder; with ``resume`` the folder of the same run.
        device: Where.
        resume: Go on from the last checkpoint.
        tick: Told of the progress.

    Raises:
        RunError: the folder holds something else.
        HepganError: as ``prepare``, or training fails.
    """
    check_folder(folder, run if resume else None)
    tick("reading and encoding", 0.0, "")
    prepared = prepare(run, device=device)
    folder.mkdir(parents=True, exist_ok=True)
    if resume and (last := checkpoint.newest(folder)):
        checkpoint.load(prepared.state, last)
        training.cut_history(folder, prepared.state.step)
    checkpoint.write_text(folder / "run.toml", as_toml(run))
    tick("training", prepared.state.step / run.train.steps, "")
    gan, _ = training.train(
        prepared.state,
        prepared.view,
        run.train,
        validate=validation(prepared, run),
        folder=folder,
        on_row=lambda row: tick("training", row["step"] / run.train.steps, remark(row)),
    )
    checkpoint.save_gan(gan, folder, tree=prepared.tree)
    return gan, prepared


def remark(row: Row) -> str:
    """Losses and the validation score of a history row, for a progress bar."""
    names = {"discriminator_loss": "D", "generator_loss": "G", "validation": "validation"}
    return "  ".join(f"{text} {row[name]:.3f}" for name, text in names.items() if name in row)


def check_folder(folder: Path, run: Run | None) -> None:
    """A new or empty folder, or with ``run`` the folder of that very run.

    Raises:
        RunError: it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another folder with -o")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if run is None:
        raise RunError(
            f"{folder} is not empty; choose another folder with -o, or go on with --resume"
        )
    written = folder / "run.toml"
    if not written.is_file() or written.read_text(encoding="utf-8") != as_toml(run):
        raise RunError(f"{folder} holds another run; choose another folder with -o")


def as_toml(run: Run) -> str:
    """The run file that gives ``run``, with every default written out."""
    return tomli_w.dumps(to_table(run))


def validation(prepared: Prepared, run: Run) -> Callable[[GAN], float]:
    """A GAN's distance from the validation split, for ``training.train``.

    Summed W1 of the observables in widths of the reference; for digits, which observables hardly tell from
    scribbles, the Fréchet distance in the digit classifier's features.
    """
    reference = prepared.splits["validation"]
    given = {name: ak.to_numpy(reference[name]) for name in run.schema.conditions}
    distance = digit_distance(reference, run.schema) or observable_distance(reference, run)

    def score(gan: GAN) -> float:
        return distance(gan.sample(given, n=len(reference), seed=run.seed))

    return score


def observable_distance(reference: ak.Array, run: Run) -> Callable[[ak.Array], float]:
    """Events -> summed W1 of their observables to those of ``reference``, in widths of the reference."""
    observables = observables_for(run.schema, run.geometry)
    expected = evaluate_observables(arrays(reference, run.schema.all), observables)

    def distance(events: ak.Array) -> float:
        found = evaluate_observables(arrays(events, run.schema.all), observables)
        return metrics.validation_distance(expected, found)

    return distance


def digit_distance(reference: ak.Array, schema: Schema) -> Callable[[ak.Array], float] | None:
    """Events -> Fréchet distance of digits to those of ``reference``; ``None`` where ``reference`` are no digits."""
    if [field.shape for field in schema.fields.values()] != [(28, 28)]:
        return None
    (name,) = schema.fields
    expected = digits.digit_scores(ak.to_numpy(reference[name]))
    if expected.confidence < SURE:
        return None

    def distance(events: ak.Array) -> float:
        found = digits.digit_scores(ak.to_numpy(events[name]))
        return frechet.frechet_distance(expected.features, found.features)

    return distance


def generate(
    folder: Path,
    output: Path,
    *,
    n: int | None,
    seed: int,
    conditions: Mapping[str, Condition] | None = None,
    conditions_from: str | None = None,
    device: torch.device,
    tick: Tick = lambda text, share, remark: None,
) -> int:
    """Events of the GAN in ``folder`` as a ROOT file with the tree, branches and types that it was trained on.

    Args:
        folder: Of a run that has been trained.
        output: A new ROOT file.
        n: How many events; not needed with ``conditions_from``.
        seed: The same seed gives the same events on the same device.
        conditions: As in ``GAN.sample``.
        conditions_from: A ROOT file with the conditions' branches; an event is made for each of its first ``n`` entries.
        device: Where.
        tick: Told of the progress.

    Returns:
        How many events were written.

    Raises:
        HepganError: no GAN there, the file exists, or the conditions do not fit.
    """
    gan, tree = checkpoint.load_gan(folder, device=device)
    given: dict[str, Condition] = dict(conditions or {})
    if conditions_from:
        given |= _read_conditions(conditions_from, gan.encoding.schema, n)
        n = None
    total = n or max((len(v) for v in given.values() if isinstance(v, np.ndarray)), default=0)
    root.write(
        output,
        _counted(gan.sample_blocks(given, n=n, seed=seed), total, tick),
        gan.encoding.schema,
        tree=tree,
    )
    return total


def _read_conditions(
    file: str, schema: Schema, n: int | None
) -> dict[str, npt.NDArray[np.float64]]:
    if not schema.conditions:
        raise DataError("the GAN takes no conditions; leave out --conditions-from")
    events = root.read(file, Schema(schema.conditions), stop=n)
    return {
        name: np.asarray(ak.to_numpy(events[name]), dtype=np.float64) for name in schema.conditions
    }


def _counted(parts: Iterator[ak.Array], total: int, tick: Tick) -> Iterator[ak.Array]:
    done = 0
    for part in parts:
        yield part
        done += len(part)
        tick("generating", done / max(total, 1), f"{done:,} events")


def evaluate(
    reference: str,
    generated: Mapping[str, str],
    folder: Path,
    *,
    seed: int,
    config: str | None = None,
    quick: bool = False,
    device: torch.device,
    tick: Tick = lambda text, share, remark: None,
) -> "Verdict":
    """Compares ROOT files with a reference file and leaves ``report.html``, ``scores.json`` and ``plots/`` in ``folder``.

    What an event is comes from the run file ``config``; without one from ``run.toml`` beside the first generated file, from
    the first preset that fits the reference, or else from the reference's own branches.

    Raises:
        HepganError: a file cannot be read, the files do not fit each other, or the folder is not empty.
    """
    check_folder(folder, None)
    schema, geometry = _meant(reference, generated, config)
    tick("reading", 0.0, "")
    events = root.read(reference, schema)
    samples = {name: root.read(path, schema) for name, path in generated.items()}
    settings = EvaluateSettings(quick)
    about = provenance(seed, device) | {"reference": reference, **generated}
    folder.mkdir(parents=True, exist_ok=True)
    return _judged(events, samples, schema, geometry, folder, settings, seed, about, device, tick)


def _meant(
    reference: str, generated: Mapping[str, str], config: str | None
) -> tuple[Schema, Mapping[str, LayerGeometry]]:
    """Schema and geometry that two files are compared with."""
    beside = Path(next(iter(generated.values()))).parent / "run.toml"
    if config or beside.is_file():
        chosen = load(config or beside)
        return root.resolve(reference, chosen.schema), chosen.geometry
    for name in presets():
        preset = load(name)
        try:
            return root.resolve(reference, preset.schema), preset.geometry
        except DataError:
            continue
    table = tomllib.loads(root.propose(root.inspect(reference)[0]))
    return root.resolve(reference, Schema.from_table(table["schema"])), {}


def run(
    run: Run,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
    tick: Tick = lambda text, share, remark: None,
) -> "Verdict":
    """The whole way: ``train``, then an event generated for each test event, and the two compared.

    Beside what ``train`` leaves, ``folder`` gets ``generated.root``, ``scores.json``, ``plots/`` and ``report.html``.

    Raises:
        HepganError: as ``train``.
    """
    gan, prepared = train(run, folder, device=device, resume=resume, tick=tick)
    reference, schema = prepared.splits["test"], gan.encoding.schema
    given = {name: ak.to_numpy(reference[name]) for name in schema.conditions}
    parts = gan.sample_blocks(given, n=len(reference), seed=run.seed + 1)
    blocks = list(_counted(parts, len(reference), tick))
    root.write(folder / "generated.root", blocks, schema, tree=prepared.tree, overwrite=resume)
    return _judged(
        reference, {"generated": ak.concatenate(blocks)}, schema, run.geometry, folder,
        run.evaluate, run.seed, provenance(run.seed, device) | about_gan(run, gan), device, tick,
    )  # fmt: skip


def _judged(
    reference: ak.Array,
    samples: Mapping[str, ak.Array],
    schema: Schema,
    geometry: Mapping[str, LayerGeometry],
    folder: Path,
    settings: EvaluateSettings,
    seed: int,
    about: Mapping[str, str],
    device: torch.device,
    tick: Tick,
) -> "Verdict":
    from hepgan.evaluate import judge  # here: it pulls in matplotlib

    verdict: Verdict = judge(
        reference, samples, schema, geometry, folder,
        seed=seed, quick=settings.quick, provenance=about, history=training.read_history(folder),
        device=str(device), tick=lambda text, share: tick(text, share, ""),
    )  # fmt: skip
    return verdict


def provenance(seed: int, device: torch.device) -> dict[str, str]:
    """What a report says of how it came about."""
    packages = ("hepgan", "torch", "numpy", "awkward", "uproot", "hist")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "seed": str(seed),
        "device": f"{device} {name}".strip(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def about_gan(run: Run, gan: GAN) -> dict[str, str]:
    """What a report says of the GAN and its training."""
    counts = parameters(run.gan, gan.encoding, seen=gan.seen)
    generator, discriminator = run.gan.layouts
    return {
        "data": ", ".join(run.data.files),
        "generator": f"{generator} ({counts['generator']:,} parameters)",
        "discriminator": f"{discriminator} ({counts['discriminator']:,} parameters)",
        "objective": run.train.objective,
        "steps": f"{run.train.steps:,} of {run.train.batch_size} events",
    }

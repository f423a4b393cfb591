"""Scan of settings: trainings of a run file with other values, chosen by Optuna from the validation scores of those before.

The folder of a scan has Optuna's journal, a run folder for each trial, a table of all trials and the run file of the best one.
"""

import csv
import dataclasses
import functools
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from hepgan import atomic
from hepgan.atomic import os_errors_as_run_error
from hepgan.config import parse_toml, short_repr
from hepgan.data.encoding.encoding import Encoding
from hepgan.data.io import reader
from hepgan.errors import HepganError, RunError
from hepgan.gan.devices import resolve_device
from hepgan.gan.training import checkpoint
from hepgan.gan.training.signals import TrainingStopped
from hepgan.pipeline.config import RunConfig, as_toml, of_table, replaced, setting
from hepgan.pipeline.run_folder import clear_folder, flat, locked, make_folder
from hepgan.pipeline.tracking import Tracker
from hepgan.pipeline.training import cpu_threads, prepare, train_locked
from hepgan.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from hepgan.processors.executors import MapItems

JOURNAL, BASE, SPACE, TABLE, BEST = "journal.log", "run.toml", "scan.json", "scan.csv", "best.toml"

CONTENT = ("trials", "checkpoints", JOURNAL, TABLE, BEST, BASE, SPACE)
"""Files and folders of a scan; the one that shows that a folder holds a scan is the last."""

SHARED = ("gan.", "train.", "phases", "evaluate.")
"""Keys of which the encoding is independent, except ``START``."""

START = "train.start_from"
"""Key of the GAN whose encoding is continued."""

_RANGE = re.compile(r"(?P<low>[-+.\deE]+):(?P<high>[-+.\deE]+)(?P<log>:log)?")


@dataclasses.dataclass(frozen=True)
class Dimension:
    """Values of a key: a range of numbers, or choices.

    Attributes:
        key: Dotted key, as in ``--set``.
        low: Smallest value.
        high: Largest value; both are integers if only integers are tried.
        log: Whether logarithms are tried with equal probability.
        choices: Values to choose from, instead of a range.
    """

    key: str
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[str, ...] = ()

    @property
    def ends(self) -> list[Any]:
        """Smallest and largest value, or all choices."""
        return list(map(setting, self.choices)) if self.choices else [self.low, self.high]

    def suggest(self, trial: Any) -> Any:
        """Returns the value that Optuna's ``trial`` suggests."""
        if self.choices:
            return setting(trial.suggest_categorical(self.key, self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


def dimensions(over: Sequence[str]) -> list[Dimension]:
    """Returns the dimensions of a scan.

    Args:
        over: ``key=low:high``, ``key=low:high:log``, or ``key=value`` once for each value to choose from.

    Raises:
        RunError: a text is none of these; names it.
    """
    choices: dict[str, list[str]] = {}
    result: dict[str, Dimension] = {}
    for text in over:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not key or not equals or not value:
            raise RunError(
                f"--over {text}: write KEY=LOW:HIGH, KEY=LOW:HIGH:log, or KEY=VALUE once for each value"
            )
        if match := _RANGE.fullmatch(value):
            if key in result or key in choices:
                raise RunError(f"--over {key} is given twice, but a range stands alone")
            result[key] = _range(text, key, match)
        elif key in result:
            raise RunError(f"--over {key} is given twice, but a range stands alone")
        else:
            choices.setdefault(key, []).append(value)
    for key, values in choices.items():
        if len(set(values)) < 2:
            raise RunError(
                f"--over {key}={values[0]} is one value; repeat --over {key}=… with the others, or give a range"
            )
        result[key] = Dimension(key, choices=tuple(dict.fromkeys(values)))
    if not result:
        raise RunError("a scan needs at least one --over KEY=LOW:HIGH or --over KEY=VALUE")
    return list(result.values())


def _range(text: str, key: str, match: re.Match[str]) -> Dimension:
    try:
        low, high = (
            int(end) if re.fullmatch(r"[-+]?\d+", end) else float(end)
            for end in match.group("low", "high")
        )
    except ValueError as error:
        raise RunError(f"--over {text}: '{error.args[0]}'; write KEY=LOW:HIGH") from error
    log = bool(match["log"])
    if not low < high or (log and low <= 0):
        above = " of positive numbers" if log else ""
        raise RunError(f"--over {text}: {match['low']}:{match['high']} is not a range{above}")
    return Dimension(key, low, high, log)


def encoding_is_shared(space: Sequence[Dimension]) -> bool:
    """Returns whether the encoding is the same for all values."""
    return all(d.key.startswith(SHARED) and d.key != START for d in space)


class Trial(NamedTuple):
    """Training of a scan.

    Attributes:
        number: Its number, which is the name of its folder in ``trials``.
        values: Values of the scanned keys.
        state: ``complete``, ``pruned``, ``failed`` or ``running``.
        score: Best validation score after the first step, if the training is complete; smaller is better.
        seconds: Its duration.
        remark: Why it failed.
    """

    number: int
    values: Mapping[str, Any]
    state: str
    score: float | None
    seconds: float
    remark: str


def scan(
    run: RunConfig,
    folder: str | Path,
    over: Sequence[str],
    *,
    trials: int,
    device: torch.device | str = "auto",
    mapper: "MapItems | None" = None,
    overwrite: bool = False,
    progress: ProgressCallback = no_progress,
) -> list[Trial]:
    """Trains a run with other values until there are as many ``trials``, and returns them, the best one first.

    A trial without prospects is ended early: its validation score is worse than the median of those of the others at the same step.
    The encoding is fitted once if it depends on no scanned key. All trials have the seed of the run. A scan that was stopped is continued;
    a trial that was stopped is done again.

    Args:
        run: The run.
        folder: A new or empty folder, or that of the same scan.
        over: Keys and values, as in ``dimensions``.
        trials: Number of trainings, those of an earlier call included.
        device: Device of the networks.
        mapper: Maps trainings over workers, which must see the folder; in this process by default.
        overwrite: Whether to replace a scan in the folder, instead of continuing it.
        progress: Progress callback.

    Raises:
        RunError: Optuna is not installed, ``over`` is invalid, the folder holds another scan, or the run has no validation score.
        HepganError: the data or the encoding does not fit, or every training fails.
    """
    optuna, space, folder = _optuna(), dimensions(over), Path(folder)
    run = dataclasses.replace(run, ensemble=None)
    _check_validated(run)
    for dimension in space:
        for value in dimension.ends:
            _check_validated(replaced(run, {dimension.key: value}))
    if not (overwrite and (folder / SPACE).is_file()):
        _check_same(folder, run, space)
    make_folder(folder)
    with locked(folder):
        if overwrite:
            clear_folder(folder, CONTENT)
        atomic.write_text(folder / BASE, as_toml(run))
        atomic.write_text(folder / SPACE, json.dumps([vars(d) for d in space], indent=1) + "\n")
        if encoding_is_shared(space):
            _fit_encoding(run, folder, resolve_device(str(device)), progress)
        study = _study(optuna, folder, run.seed)
        for trial in study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.RUNNING:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                study.enqueue_trial(trial.params)
        task = functools.partial(_train_trial, folder=str(folder), device=str(device))
        done = sum(trial.state != "stopped" for trial in _read(optuna, study))
        numbers = range(done, trials)
        if mapper:
            mapper(task, numbers)
        for number in () if mapper else numbers:
            progress("scanning", number / trials, _remark(study))
            task(number)
        return _finish(optuna, study, folder, run)


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise RunError("hepgan scan needs Optuna: pip install 'hepgan[scan]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    module: ModuleType = optuna
    return module


def _study(optuna: ModuleType, folder: Path, seed: int) -> Any:
    journal = optuna.storages.journal
    storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(folder / JOURNAL)))
    return optuna.create_study(
        study_name="scan", storage=storage, load_if_exists=True, direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )  # fmt: skip


def _check_validated(run: RunConfig) -> None:
    if not any(phase.validate_every for phase in run.training) or not run.data.validation:
        raise RunError(
            "a scan compares validation scores; set [train] validate_every and [data] validation above 0"
        )


def _check_same(folder: Path, run: RunConfig, space: Sequence[Dimension]) -> None:
    """Checks that ``folder`` is new or empty, or holds the same scan."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / SPACE).is_file()):
        raise RunError(f"{folder} holds something other than a scan; choose another folder with -o")
    if not (folder / SPACE).is_file():
        return
    with os_errors_as_run_error(folder):
        before = [
            flat(parse_toml((folder / BASE).read_text(encoding="utf-8"), where=str(folder / BASE))),
            {d["key"]: d for d in json.loads((folder / SPACE).read_text(encoding="utf-8"))},
        ]
    now = [
        flat(parse_toml(as_toml(run), where="the run")),
        {d.key: json.loads(json.dumps(vars(d))) for d in space},
    ]
    for what, old, new in zip(("", "--over "), before, now, strict=True):
        for key in [*new, *(key for key in old if key not in new)]:
            if old.get(key) != new.get(key):
                there, here = (short_repr(t[key]) if key in t else "not set" for t in (old, new))
                raise RunError(
                    f"{folder} holds another scan: {what}{key} is {there} there and {here} here; choose another folder with -o"
                )


def _fit_encoding(
    run: RunConfig, folder: Path, device: torch.device, progress: ProgressCallback
) -> None:
    """Fits the encoding that all trials share, and writes it to the folder, unless it is there."""
    if _encoding(run, folder) is None:
        with cpu_threads(run.threads):
            prepared = prepare(run, device=device, progress=progress)
        checkpoint.save_encoding(prepared.state.gan.encoding, folder)


def _encoding(run: RunConfig, folder: Path) -> Encoding | None:
    schema = reader.resolve(list(run.data.files), run.schema, tree=run.data.tree)
    return checkpoint.load_encoding(folder, schema)


def _train_trial(number: int, *, folder: str, device: str) -> dict[str, int]:
    """Trains once with the next values; the ``number`` of the training seeds the choice."""
    optuna, scanned = _optuna(), Path(folder)
    table = parse_toml((scanned / BASE).read_text(encoding="utf-8"), where=str(scanned / BASE))
    run = of_table(table)
    space = [Dimension(**d) for d in json.loads((scanned / SPACE).read_text(encoding="utf-8"))]
    space = [dataclasses.replace(d, choices=tuple(d.choices)) for d in space]
    study = _study(optuna, scanned, run.seed)
    study.sampler = optuna.samplers.TPESampler(
        seed=(run.seed + number) % 2**32, constant_liar=True, n_startup_trials=5
    )
    trial, state = study.ask(), optuna.trial.TrialState
    values = {d.key: d.suggest(trial) for d in space}
    own = scanned / "trials" / f"{trial.number:04d}"
    trained: list[float] = []

    def report(numbers: Mapping[str, float], step: int) -> None:
        if (score := numbers.get("validation")) is not None and step:
            trained.append(score)
            trial.report(score, step)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        with ExitStack() as stack:
            gan, _ = train_locked(
                replaced(run, values), own, stack, device=device, resume=False, overwrite=False, progress=no_progress,
                trackers=[Tracker(report, lambda _: None)], encoding=_encoding(run, scanned),
            )  # fmt: skip
        # Not that of the untrained generator, which all trainings share.
        study.tell(trial, min(trained) if trained else gan.kept and gan.kept.score)
    except optuna.TrialPruned:
        study.tell(trial, state=state.PRUNED)
    except TrainingStopped:
        raise
    except HepganError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=state.FAIL)
    return {"trials": 1}


def _read(optuna: ModuleType, study: Any) -> Iterator[Trial]:
    states = optuna.trial.TrialState
    names = {states.COMPLETE: "complete", states.PRUNED: "pruned", states.RUNNING: "running"}
    for trial in study.get_trials(deepcopy=False):
        if trial.state == states.WAITING:
            continue
        error = str(trial.user_attrs.get("error", ""))
        stopped = trial.state == states.FAIL and not error
        state = "stopped" if stopped else names.get(trial.state, "failed")
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        score = trial.value if trial.state == states.COMPLETE else None
        yield Trial(trial.number, trial.params, state, score, seconds, error)


def _remark(study: Any) -> str:
    scores = [trial.value for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    return f"best validation score {min(scores):.4g}" if scores else ""


def _finish(optuna: ModuleType, study: Any, folder: Path, run: RunConfig) -> list[Trial]:
    """Writes the table and the best run file, and returns the trials, the best one first."""
    found = [trial for trial in _read(optuna, study) if trial.state != "stopped"]
    ordered = sorted(found, key=lambda t: (t.score is None, t.score or 0.0, t.number))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    keys = list(dict.fromkeys(key for trial in found for key in trial.values))
    rows.writerow(["trial", "state", "score", "seconds", *keys, "remark"])
    for trial in ordered:
        score = "" if trial.score is None else repr(trial.score)
        values = [trial.values.get(key, "") for key in keys]
        rows.writerow(
            [trial.number, trial.state, score, f"{trial.seconds:.1f}", *values, trial.remark]
        )
    atomic.write_text(folder / TABLE, text.getvalue())
    if not ordered or ordered[0].score is None:
        reasons = [trial.remark for trial in ordered if trial.remark]
        raise RunError(
            f"no training of the scan was completed{': ' + reasons[0] if reasons else ''}; {folder / TABLE} lists them"
        )
    best = {
        key: setting(value) if isinstance(value, str) else value
        for key, value in ordered[0].values.items()
    }
    atomic.write_text(folder / BEST, as_toml(replaced(run, best)))
    return ordered

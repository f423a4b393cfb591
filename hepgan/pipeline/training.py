"""Training: from a run file to a trained GAN in a run folder."""

import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import torch

import hepgan
from hepgan import atomic
from hepgan.data.encoding.base import STEPS
from hepgan.data.encoding.encoding import Encoding
from hepgan.data.io import fingerprint, reader, writer
from hepgan.data.io.files import sources
from hepgan.data.schema import Schema
from hepgan.data.weights import LEAST_EFFECTIVE, WeightSums, event_weights, normalized_weights
from hepgan.errors import DataError, RunError
from hepgan.evaluation.metrics.scores import REGISTERED as METRICS
from hepgan.evaluation.observables.base import REGISTERED as OBSERVABLES
from hepgan.gan.devices import resolve_device
from hepgan.gan.discriminator_input import DiscriminatorInput, discriminator_parts
from hepgan.gan.members import member_folder, member_name
from hepgan.gan.model import GAN
from hepgan.gan.serialization import read_kept_step
from hepgan.gan.training import checkpoint, distributed, history
from hepgan.gan.training import loop as training
from hepgan.gan.training.history import Row
from hepgan.gan.training.objectives import objective_named
from hepgan.gan.training.signals import TrainingStopped
from hepgan.gan.training.state import Origin, TrainingState
from hepgan.pipeline.candidates import Fit, fit_encoding, settings_like
from hepgan.pipeline.config import DataSettings, RunConfig, as_toml
from hepgan.pipeline.events import (
    ReadMode,
    augment,
    fit_to_stream,
    read_events,
    read_mode,
    sample_events,
    stream_events,
)
from hepgan.pipeline.fine_tuning import load_start, start_gan
from hepgan.pipeline.provenance import command_line
from hepgan.pipeline.run_folder import (
    check_folder,
    clear_folder,
    locked,
    logged,
    make_folder,
    recorded,
)
from hepgan.pipeline.tracking import Tracker, tracked
from hepgan.pipeline.validation import make_validation
from hepgan.plugins import plugin_of, plugins_of
from hepgan.progress import ProgressCallback, no_progress, renamed

log = logging.getLogger(__name__)


_UNTRAINED = 1000
"""Number of events that are encoded if no network is trained with them."""


class Prepared(NamedTuple):
    """Inputs of a training, complete before anything is written.

    Attributes:
        splits: Events of ``train``, ``validation`` and ``test``; random samples of them if the training is streamed.
        discriminator_input: Input of the discriminator.
        state: State at the start of the training.
        mode: Whether the events are streamed, and why.
        seconds: Time to read the events and to fit the encoding [s]; 0 if it was fitted before.
    """

    splits: dict[str, ak.Array]
    discriminator_input: DiscriminatorInput
    state: TrainingState
    mode: ReadMode
    seconds: float = 0.0


def prepare(
    run: RunConfig,
    *,
    device: torch.device,
    last: Path | None = None,
    encoding: Encoding | None = None,
    progress: ProgressCallback = no_progress,
) -> Prepared:
    """Reads the events, fits the encoding to the training split and builds the networks; writes nothing.

    With ``last``, the checkpoint to resume from, the input files must be unchanged, and the saved encoding is used. With ``encoding``,
    fitted to the same events, none is fitted.

    Raises:
        HepganError: the data, the encoding or a layout does not fit.
    """
    started, fitted = time.perf_counter(), encoding is None and last is None
    run.gan.layouts  # noqa: B018  check the layouts before reading data
    schema = reader.resolve(list(run.data.files), run.schema, tree=run.data.tree)
    writer.check_names(schema)
    paths = [source.path for source in sources(list(run.data.files), tree=run.data.tree)]
    files = {path: fingerprint.of_file(path) for path in paths}
    mode = read_mode(run, schema)
    if last:
        checkpoint.check_files(files, last)
        if (streamed := checkpoint.is_streamed(last)) != mode.stream:
            mode = ReadMode.of(streamed, reason="as before the training was stopped")
    start = load_start(run, schema) if run.train.start_from and not last else None
    settings = settings_like(run.encoding, start.gan.encoding) if start else run.encoding
    splits = sample_events(run, progress=progress) if mode.stream else read_events(run)
    _check_validation(run, len(splits["validation"]))
    _check_weights(splits, schema)
    log.info("events: %s", mode.reason)
    if not mode.stream:
        log.info("%s", about_splits(splits, mode))
    events = augment(splits["train"], run, seed=run.seed)
    fit: Fit = (
        functools.partial(fit_to_stream, run=run, schema=schema, start=start and start.gan.encoding)
        if mode.stream
        else lambda settings, report: Encoding.fit(
            events,
            schema,
            settings,
            seed=run.seed,
            start=start and start.gan.encoding,
            progress=report,
        )
    )
    encoding = checkpoint.load_encoding(last.parent.parent, schema) if last else encoding
    encoding = encoding or fit_encoding(
        fit, splits["validation"], schema, settings, run.geometry,
        seed=run.seed, progress=progress,
    )  # fmt: skip
    seconds = time.perf_counter() - started if fitted else 0.0
    origin = Origin(files, encoding.fingerprint())
    encoding = encoding.to(device)
    events = events if run.steps else events[:_UNTRAINED]
    x, c = encoding.encode(events, seed=run.seed)
    discriminator_input = DiscriminatorInput(
        encoding,
        x=x,
        c=c,
        train_encoding=any(phase.encoding for phase in run.training),
        **discriminator_parts(run.gan, schema, run.geometry),
    )
    gan = GAN.build(
        run.gan, encoding,
        seed=run.seed, device=device, discriminator_shapes=discriminator_input.shapes if run.gan.discriminators else (),
        geometry=run.geometry, tree=tree_name(run.data),
    )  # fmt: skip
    gan = start_gan(gan, start) if start else gan
    stream = stream_events(run, encoding, discriminator_input) if mode.stream else None
    weights = normalized_weights(events, schema)
    state = training.initial_state(
        gan, discriminator_input, x, c, run.training,
        seed=run.seed, weights=None if weights is None else weights.to(x), origin=origin, stream=stream,
    )  # fmt: skip
    for path in paths if stream else ():
        if fingerprint.of_file(path) != files[path]:
            raise DataError(
                f"'{path}' changed while it was read; wait until it is completely written"
            )
    return Prepared(splits, discriminator_input, state, mode, seconds)


def about_splits(splits: Mapping[str, ak.Array], mode: ReadMode) -> str:
    """Returns the numbers of events in each split in words, or how they are streamed."""
    if mode.stream:
        return mode.reason
    return ", ".join(f"{len(splits[name]):,} for {text}" for name, text in SPLITS.items())


SPLITS = {"train": "training", "validation": "validation", "test": "the test"}
"""Splits in words."""


def _check_validation(run: RunConfig, events: int) -> None:
    """Checks that there are enough events for a validation score."""
    if events < 2 and any(phase.validate_every for phase in run.training):
        raise DataError(
            f"the validation split has {events} event, but a validation score needs 2; increase [data] validation ="
            f" {run.data.validation:g}, use more events, or set [train] validate_every = 0"
        )


def _check_weights(splits: Mapping[str, ak.Array], schema: Schema) -> None:
    """Checks that the net weight of each split can be used.

    Raises:
        DataError: it cannot; names the split.
    """
    for name, events in splits.items():
        weights = event_weights(events, schema)
        if weights is None or (sums := WeightSums.of(weights)).equal:
            continue
        try:
            sums.check(least=LEAST_EFFECTIVE if name == "train" else 2.0)
        except DataError as error:
            raise DataError(f"the split '{name}' cannot be used: {error}") from error


def tree_name(data: DataSettings) -> str:
    """Returns the name of the tree that is read, without its cycle; generated files use it too."""
    return reader.tree_name(list(data.files), tree=data.tree)


def train(
    run: RunConfig,
    folder: str | os.PathLike[str],
    *,
    device: torch.device | str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    track: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> tuple[GAN, Prepared]:
    """Trains in all processes started by ``torchrun``; writes ``run.toml``, ``history.jsonl``, ``checkpoints/``, ``generator.safetensors``, ``gan.json`` and ``hepgan.log`` to ``folder``.

    Nothing is written before the data, the encoding and the layouts have been checked. If a signal stops the training, the best
    generator so far is written as well. An ensemble has a folder ``members/0``, ``members/1``, … with these files for each member.

    Args:
        run: The run to train.
        folder: A new or empty folder; with ``resume`` the folder of the same run.
        device: Device of the networks.
        resume: Whether to continue from the last checkpoint; the last phase may have more steps than before.
        overwrite: Whether to replace the run in ``folder``.
        track: Trackers of the history, ``tensorboard``, ``mlflow`` or ``wandb``.
        progress: Progress callback.

    Returns:
        The GAN and the inputs of its training; of an ensemble, those of the first member.

    Raises:
        RunError: the folder holds something else, or cannot be created.
        HepganError: as ``prepare``, or training fails.
    """
    names = track if os.environ.get("RANK", "0") == "0" else ()
    with ExitStack() as stack, tracked(run, Path(folder), names) as trackers:
        trained = train_each(
            run, Path(folder), stack, device=device, resume=resume, overwrite=overwrite, progress=progress, trackers=trackers,
        )  # fmt: skip
        first = next(trained)
        for _ in trained:
            pass
    return first


def train_each(
    run: RunConfig,
    folder: Path,
    stack: ExitStack,
    *,
    device: torch.device | str,
    resume: bool,
    overwrite: bool,
    progress: ProgressCallback,
    trackers: Sequence[Tracker] = (),
) -> Iterator[tuple[GAN, Prepared]]:
    """Trains as ``train`` does, keeps ``folder`` locked until ``stack`` is closed, and yields the GAN; of an ensemble, one member after the other."""
    if run.ensemble is None:
        yield train_locked(
            run, folder, stack,
            device=device, resume=resume, overwrite=overwrite, progress=progress, trackers=trackers,
        )  # fmt: skip
        return
    members, run = run.ensemble.members, with_plugins(run)
    check_folder(folder, run if resume else None, overwrite=overwrite)
    for number in range(members):
        with ExitStack() as own:
            yield train_locked(
                run.member(number), member_folder(folder, number), own,
                device=device, resume=resume, overwrite=overwrite,
                progress=renamed(progress, f"{member_name(number)}: "),
                trackers=[tracker.renamed(f"{member_name(number)}/") for tracker in trackers],
                ensemble=_Ensemble(run, folder, stack) if number == 0 else None,
            )  # fmt: skip


class _Ensemble(NamedTuple):
    """Ensemble whose folder the training of its first member claims: its run, its folder, and the stack that keeps it locked."""

    run: RunConfig
    folder: Path
    stack: ExitStack


def train_locked(
    run: RunConfig,
    folder: Path,
    stack: ExitStack,
    *,
    device: torch.device | str,
    resume: bool,
    overwrite: bool,
    progress: ProgressCallback,
    ensemble: _Ensemble | None = None,
    trackers: Sequence[Tracker] = (),
    encoding: Encoding | None = None,
) -> tuple[GAN, Prepared]:
    """Trains one GAN, and keeps ``folder`` locked until ``stack`` is closed; with ``encoding``, none is fitted."""
    device, run = distributed.local_device(resolve_device(str(device))), with_plugins(run)
    if resume and overwrite:
        raise RunError("--resume continues a run and --overwrite replaces it; choose one of them")
    same = run if resume else None
    check_folder(folder, same, overwrite=overwrite)
    with cpu_threads(run.threads), distributed.process_group(device):
        first = distributed.rank() == 0
        if not first:
            progress = no_progress
        with recorded() as early:
            log.info("hepgan %s: %s", hepgan.__version__, command_line())
            if exists := resume and folder.is_dir():
                _claim(folder, same, stack, device, early, overwrite=False)
            if first:
                _warn_of_placeholders(run)
            progress("reading and encoding", 0.0, "")
            newest = checkpoint.newest_checkpoint(folder) if resume else None
            last = distributed.broadcast(newest, device)
            prepared = prepare(run, device=device, last=last, encoding=encoding, progress=progress)
            validation = make_validation(
                run, prepared.splits["validation"], prepared.state.gan.encoding
            )
        distributed.barrier()  # all ranks check the folder before the first one writes to it
        if ensemble:
            same_ensemble = ensemble.run if resume else None
            _claim(
                ensemble.folder, same_ensemble, ensemble.stack, device, early, overwrite=overwrite
            )
            if first:
                atomic.write_text(ensemble.folder / "run.toml", as_toml(ensemble.run))
        if not exists:
            _claim(folder, same, stack, device, early, overwrite=overwrite)
        if first:
            # First of all, so that a run that is killed here can be resumed.
            atomic.write_text(folder / "run.toml", as_toml(run))
            if not last:
                checkpoint.save_encoding(prepared.state.gan.encoding, folder)
        _resume(prepared.state, folder, last, write=first)
        if origin := prepared.state.gan.started_from:
            log.info("started from %s", origin)
        if run.steps:
            log.info("training on %s from step %d to %d", device, prepared.state.step, run.steps)
        fitted = prepared.state.gan.encoding
        log.info("the encoding is fitted to %s", fitted.about_events)
        about = fitted.about_events if fitted.effective_events else ""
        task = "training" if run.steps else "validating the encoding"
        progress(task, prepared.state.step / max(run.steps, 1), about)

        def on_row(row: Row) -> None:
            fraction = row["step"] / run.steps if run.steps else 1.0
            progress(task, fraction, remark(row, run.steps))
            for tracker in trackers:
                tracker.row(row)

        try:
            gan, _ = training.train(
                prepared.state,
                prepared.discriminator_input,
                validation=validation,
                folder=folder if first else None,
                on_row=on_row,
            )
        except TrainingStopped:
            if first:  # so that the GAN of a stopped training can be used like any other
                training.best_gan(prepared.state).save(folder)
            raise
        if first:
            gan.save(folder)
            gan = dataclasses.replace(
                gan, kept=read_kept_step(folder)
            )  # with the fit of the encoding
        log.info("%s", gan.kept)
    return gan, prepared


def _warn_of_placeholders(run: RunConfig) -> None:
    """Warns if there are training steps, but the discriminator has no hidden layer, as in run files for the encoding alone."""
    discriminators = [
        [word for word in layout if word.word != "COND"] for layout in run.gan.layouts[1:]
    ]
    linear = all(len(words) == 1 and words[0].word == "DENSE" for words in discriminators)
    if not (run.steps and discriminators and linear and run.gan.latent == (0,)):
        return
    conditions = "COND, " * bool(run.schema.conditions)
    settings = {
        "gan.generator": f"RES[{conditions}DENSE|256|LRELU, DENSE|N|LINEAR|ZERO]",
        "gan.discriminator": f"{conditions}DENSE|256|LRELU, DENSE|256|LRELU, DENSE|1|LINEAR",
        "train.r1": "10.0",
        "train.r2": "10.0",
        "train.transport": "0.1",
    }
    if any(step.get("step") == "energy_tree" for step in run.encoding.every_step):
        settings["gan.discriminator_input"] = "cells and observables"
    log.warning(
        "there are %s training steps, but the discriminator is a placeholder without a hidden layer, which sees means only; choose networks, such"
        " as %s",
        f"{run.steps:,}", " ".join(f"--set '{key}={value}'" for key, value in settings.items()),
    )  # fmt: skip


def with_plugins(run: RunConfig) -> RunConfig:
    """Returns ``run`` with the plugins that define what it uses, so that its ``run.toml`` can be resumed in another process."""
    evaluated = {run.evaluate.validation, *(run.evaluate.metrics or METRICS)}
    used: list[Callable[..., Any]] = [
        *(objective_named(phase.objective).generator for phase in run.training),
        *(
            STEPS[name]
            for step in run.encoding.every_step
            if (name := str(step.get("step"))) in STEPS
        ),
        *(o.observable.function for o in OBSERVABLES.values() if {*o.fields} <= {*run.schema.all}),
        *(metric.function for name, metric in METRICS.items() if name in evaluated),
    ]
    names = {plugin for item in used if (plugin := plugin_of(item))}
    names |= {*plugins_of(run.gan.all_layouts)}
    return dataclasses.replace(run, plugins=tuple(dict.fromkeys((*run.plugins, *sorted(names)))))


def _claim(
    folder: Path,
    run: RunConfig | None,
    stack: ExitStack,
    device: torch.device,
    earlier: Sequence[logging.LogRecord],
    *,
    overwrite: bool,
) -> None:
    """Creates and locks ``folder``, and opens its log with the records ``earlier``, in the first process; all processes raise if that fails."""
    failure = None
    if distributed.rank() == 0:
        try:
            make_folder(folder)
            stack.enter_context(locked(folder))
            # Check again: another training may have filled the folder before we locked it.
            check_folder(folder, run, overwrite=overwrite)
            if overwrite:
                clear_folder(folder)
            stack.enter_context(logged(folder, earlier))
        except RunError as error:
            failure = error
    if failure := distributed.broadcast(failure, device):
        raise failure


def _resume(state: TrainingState, folder: Path, last: Path | None, *, write: bool) -> None:
    """Continues from the checkpoint ``last`` of ``folder``, or starts from the beginning if there is none."""
    if last:
        checkpoint.load_checkpoint(state, last)
    if write:
        for path in (folder, atomic.subfolder(folder / "checkpoints")):
            atomic.remove_stale_parts(path)
        history.cut(folder, state.step)


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Context manager that sets the number of torch's CPU threads; 0 leaves it unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def remark(row: Row, steps: int) -> str:
    """Returns step, losses and validation score of a history row, for a progress bar."""
    names = {"discriminator_loss": "D", "generator_loss": "G", "validation": "validation"}
    numbers = [f"{text} {row[name]:.3f}" for name, text in names.items() if name in row]
    return "  ".join([f"step {int(row['step']):,} of {steps:,}"] * bool(steps) + numbers)

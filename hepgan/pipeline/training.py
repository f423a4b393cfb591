"""From a run file to a trained GAN in a run folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import numpy as np
import torch

from hepgan import atomic
from hepgan.data.encoding.encoding import Encoding
from hepgan.data.io import fingerprint, reader, writer
from hepgan.data.io.files import sources
from hepgan.data.io.reader import ReadOptions
from hepgan.data.io.splits import read_splits
from hepgan.data.loaders.augment import with_reflections
from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation.metrics import compute, digits, fpd
from hepgan.evaluation.observables.standard import arrays, evaluate_observables, observables_for
from hepgan.gan import serialization
from hepgan.gan.devices import device_of
from hepgan.gan.discriminator_input import DiscriminatorInput, discriminator_observables
from hepgan.gan.model import GAN
from hepgan.gan.training import distributed, history
from hepgan.gan.training import loop as training
from hepgan.gan.training.history import Row
from hepgan.gan.training.state import Origin, TrainingState
from hepgan.gan.training.validation import Validation
from hepgan.pipeline.config import DataSettings, RunConfig, as_toml
from hepgan.pipeline.lock import is_lock, locked
from hepgan.progress import ProgressCallback, no_progress
from hepgan.random_streams import child_seed

VALIDATED = 5000
"""About so many generated events make a validation score."""


class Prepared(NamedTuple):
    """All that a run needs before anything is written."""

    splits: dict[str, ak.Array]
    view: DiscriminatorInput
    state: TrainingState
    tree: str


def prepare(run: RunConfig, *, device: torch.device, last: Path | None = None) -> Prepared:
    """Reads the events, fits the encoding to the training split and builds the networks; writes nothing.

    With ``last``, a checkpoint to go on from, the input files must be those of then, and the encoding is the one of then.

    Raises:
        HepganError: the data, the encoding or a layout does not fit.
    """
    run.gan.layouts  # noqa: B018  a typing error in a layout is told before data are read
    schema = reader.resolve(list(run.data.files), run.schema, tree=run.data.tree)
    writer.check_names(schema)
    paths = [source.path for source in sources(list(run.data.files), tree=run.data.tree)]
    files = {path: fingerprint.of_file(path) for path in paths}
    if last:
        serialization.check_files(files, last)
    splits = read_events(run)
    _check_validation(run, len(splits["validation"]))
    seen = with_reflections(splits["train"], run.mirrored)
    encoding = serialization.load_encoding(last.parent.parent, schema) if last else None
    encoding = encoding or Encoding.fit(seen, schema, run.encoding, seed=run.seed)
    origin = Origin(files, fingerprint.of_encoding(encoding))
    encoding = encoding.to(device)
    x, c = encoding.encode(seen, seed=run.seed)
    sees = run.gan.discriminator_sees
    observables = discriminator_observables(schema, run.geometry) if "observables" in sees else {}
    view = DiscriminatorInput(encoding, observables, x, c, event="event" in sees)
    gan = GAN.build(run.gan, encoding, seed=run.seed, device=device, seen=view.size)
    state = training.initial_state(gan, view, x, c, run.training, seed=run.seed, origin=origin)
    return Prepared(splits, view, state, tree_name(run.data))


def _check_validation(run: RunConfig, events: int) -> None:
    """Checks that there are events enough for the distance that validates."""
    if events < 2 and any(phase.validate_every for phase in run.training):
        raise DataError(
            f"the validation split has {events} event, but a validation score needs 2; raise [data] validation ="
            f" {run.data.validation:g}, give more events, or set [train] validate_every = 0"
        )


def read_events(run: RunConfig) -> dict[str, ak.Array]:
    """The events of a run by split: ``train``, ``validation`` and ``test``. The same for every seed."""
    data = run.data
    return read_splits(
        list(data.files),
        run.schema,
        data.fractions,
        options=ReadOptions(tree=data.tree, cut=data.cut),
    )


def tree_name(data: DataSettings) -> str:
    """The tree that is read, without its cycle: the name that generated files take over."""
    return reader.tree_name(list(data.files), tree=data.tree)


def train(
    run: RunConfig,
    folder: str | os.PathLike[str],
    *,
    device: torch.device | str = "auto",
    resume: bool = False,
    progress: ProgressCallback = no_progress,
) -> tuple[GAN, Prepared]:
    """Trains, in all processes that ``torchrun`` started, and leaves ``run.toml``, ``history.jsonl``, ``checkpoints/``, ``generator.safetensors`` and ``gan.json`` in ``folder``.

    Nothing is written before the data, the encoding and the layouts have been found to fit.

    Args:
        run: What to train.
        folder: A new or empty folder; with ``resume`` the folder of the same run.
        device: Where.
        resume: Go on from the last checkpoint.
        progress: Progress callback.

    Raises:
        RunError: the folder holds something else, or cannot be made.
        HepganError: as ``prepare``, or training fails.
    """
    with ExitStack() as held:
        return train_locked(
            run, Path(folder), held, device=device, resume=resume, progress=progress
        )


def train_locked(
    run: RunConfig,
    folder: Path,
    held: ExitStack,
    *,
    device: torch.device | str,
    resume: bool,
    progress: ProgressCallback,
) -> tuple[GAN, Prepared]:
    """Trains as ``train`` does, and locks ``folder`` until ``held`` is closed."""
    device = distributed.local_device(device_of(str(device)))
    same = run if resume else None
    check_folder(folder, same)
    with cpu_threads(run.threads), distributed.process_group(device):
        first = distributed.rank() == 0
        if not first:
            progress = no_progress
        if there := resume and folder.is_dir():
            _claim(folder, same, held, device)
        progress("reading and encoding", 0.0, "")
        last = distributed.broadcast(serialization.newest_checkpoint(folder), device)
        prepared = prepare(run, device=device, last=last)
        watch = make_validation(prepared, run)
        distributed.barrier()  # all have looked at the folder before the first one writes there
        if not there:
            _claim(folder, same, held, device)
        if first:
            # Before anything else: a run that is killed here can be resumed.
            atomic.write_text(folder / "run.toml", as_toml(run))
            if not last:
                serialization.save_encoding(prepared.state.gan.encoding, folder)
        _resume(prepared.state, folder, last, write=first)
        progress("training", prepared.state.step / max(run.steps, 1), "")
        gan, _ = training.train(
            prepared.state,
            prepared.view,
            watch=watch,
            folder=folder if first else None,
            on_row=lambda row: progress(
                "training", row["step"] / max(run.steps, 1), remark(row, run.steps)
            ),
        )
        if first:
            serialization.save_gan(gan, folder, tree=prepared.tree)
    return gan, prepared


def _claim(folder: Path, run: RunConfig | None, held: ExitStack, device: torch.device) -> None:
    """Lets the first of several processes make and lock ``folder``; all end where it cannot."""
    refused = None
    if distributed.rank() == 0:
        try:
            make_folder(folder)
            held.enter_context(locked(folder))
            # Again: another training may have filled it before we held the lock.
            check_folder(folder, run)
        except RunError as error:
            refused = error
    if refused := distributed.broadcast(refused, device):
        raise refused


def _resume(state: TrainingState, folder: Path, last: Path | None, *, write: bool) -> None:
    """Goes on from the checkpoint ``last`` of ``folder``, or starts anew where there is none."""
    if last:
        serialization.load_checkpoint(state, last)
    if write:
        for place in (folder, atomic.subfolder(folder / "checkpoints")):
            atomic.remove_stale_parts(place)
        history.cut(folder, state.step)


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Torch with so many CPU threads while it lasts; 0 leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def remark(row: Row, steps: int) -> str:
    """Step, losses and validation score of a history row, for a progress bar."""
    names = {"discriminator_loss": "D", "generator_loss": "G", "validation": "validation"}
    numbers = [f"{text} {row[name]:.3f}" for name, text in names.items() if name in row]
    return "  ".join([f"step {int(row['step']):,} of {steps:,}", *numbers])


def check_folder(folder: Path, run: RunConfig | None) -> None:
    """A new or empty folder, or with ``run`` the folder of that very run.

    Raises:
        RunError: it holds something else, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another folder with -o")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise RunError(f"{folder} cannot be made in {existing}; choose another folder with -o")
    if not folder.is_dir() or all(
        atomic.is_part(path) or is_lock(path) for path in folder.iterdir()
    ):
        return
    written = folder / "run.toml"
    if run is None:
        again = "; --resume goes on with a run" if written.is_file() else ""
        raise RunError(f"{folder} is not empty; choose another folder with -o{again}")
    if not written.is_file() or written.read_text(encoding="utf-8") != as_toml(run):
        raise RunError(
            f"{folder} holds another run (see its run.toml); choose another folder with -o"
        )


def make_folder(folder: Path) -> None:
    """The folder, with those above it.

    Raises:
        RunError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made: {error.strerror}") from error


def make_validation(prepared: Prepared, run: RunConfig) -> Validation:
    """What a training is watched with: a GAN's distance from the validation split, and the encoded split itself.

    The distance is the Fréchet distance of the observables; with ``[evaluate] digits``, since observables hardly tell digits
    from scribbles, that of the digit classifier's features.
    """
    reference = prepared.splits["validation"]
    # Several generated events for each reference event: the reference's own fluctuations are the same in every score.
    copies = max(1, VALIDATED // len(reference))
    given = {name: np.tile(ak.to_numpy(reference[name]), copies) for name in run.schema.conditions}
    distance = (
        digit_distance(reference, run.schema)
        if run.evaluate.digits
        else observable_distance(reference, run)
    )

    seed = child_seed(run.seed, "validation")

    def score(gan: GAN) -> float:
        return distance(gan.sample(given, n=copies * len(reference), seed=seed))

    return Validation(score, prepared.state.gan.encoding.encode(reference, seed=seed))


def observable_distance(reference: ak.Array, run: RunConfig) -> Callable[[ak.Array], float]:
    """Events -> Fréchet distance of their observables to those of ``reference``, in widths of the reference."""
    observables = observables_for(run.schema, run.geometry)
    expected = evaluate_observables(arrays(reference, run.schema.all), observables)

    def distance(events: ak.Array) -> float:
        found = evaluate_observables(arrays(events, run.schema.all), observables)
        return compute.validation_distance(expected, found)

    return distance


def digit_distance(reference: ak.Array, schema: Schema) -> Callable[[ak.Array], float]:
    """Returns a function of events: the Fréchet distance of their digits to those of ``reference``."""
    name = digits.digit_field(schema)

    def scores(events: ak.Array) -> digits.DigitScores:
        return digits.digit_scores(ak.to_numpy(events[name]).reshape(-1, 28, 28))

    expected = scores(reference)

    def distance(events: ak.Array) -> float:
        found = scores(events)
        return fpd.frechet_distance(expected.features, found.features)

    return distance

"""Generation of events with a trained GAN, into a ROOT file."""

import logging
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch

from hepgan.data.io import reader, writer
from hepgan.data.io.files import split_tree
from hepgan.data.loaders.shuffle import prefetch
from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError
from hepgan.gan.conditions import Condition, Conditions
from hepgan.gan.devices import resolve_device
from hepgan.gan.engines import EngineName, device_for
from hepgan.gan.members import count_members, sample_members, with_member
from hepgan.gan.model import GAN
from hepgan.pipeline.config import RunConfig
from hepgan.progress import NOTICE, ProgressCallback, no_progress
from hepgan.random_streams import numpy_generator

log = logging.getLogger(__name__)

SMALLEST = 1e6
"""Bytes of events below which blocks are written together, because small baskets are slow to read; larger ones are not copied."""

COMPRESSION = 50
"""Upper limit of the compression of showers, most of whose cells are zero."""


def generate(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    n: int | None = None,
    seed: int,
    conditions: Mapping[str, Condition] | None = None,
    conditions_from: str | None = None,
    member: int | Literal["all"] | None = None,
    device: torch.device | str = "auto",
    engine: EngineName = "torch",
    overwrite: bool = False,
    progress: ProgressCallback = no_progress,
) -> int:
    """Generates events with the GAN in ``folder`` into a ROOT file: a tree of the same name as in training, with fields and conditions in their types.

    A thread generates the next events while events are compressed and written, in memory that does not grow with their number.

    Args:
        folder: Run folder of a trained GAN.
        output: A ROOT file.
        n: Number of events; may be omitted with ``conditions_from``.
        seed: Seed; the same seed gives the same events on the same device.
        conditions: As in ``GAN.sample``.
        conditions_from: A ROOT file with the conditions' branches; one event is generated for each of its first ``n`` entries. If it has
            fewer, they are used in order, again and again; the last ones are drawn without replacement.
        member: Member of an ensemble, by default the first; ``"all"`` draws the events evenly from all of them, and writes the branch
            ``member``.
        device: Device of the networks.
        engine: ``torch``, or ``onnx`` for ONNX Runtime on the CPU, as in ``GAN.sample``.
        overwrite: Whether to replace an existing file.
        progress: Progress callback.

    Returns:
        Number of events written.

    Raises:
        HepganError: there is no GAN, the file exists, or the conditions do not fit.
    """
    writer.check_output(output, overwrite=overwrite)
    device = resolve_device(device_for(engine, str(device)))
    every = range(count_members(folder)) if member == "all" else ()
    gans = [GAN.load(folder, device=device, member=number) for number in every]
    # without members, "all" is one
    gan = (
        gans[0]
        if gans
        else GAN.load(folder, device=device, member=None if member == "all" else member)
    )
    schema = with_member(gan.schema) if gans else gan.schema
    values: dict[str, Condition] = dict(conditions or {})
    if conditions_from:
        read = _read_conditions(conditions_from, gan.encoding.schema, n, seed)
        if duplicates := set(values) & set(read):
            raise DataError(
                f"the condition '{min(duplicates)}' is given twice, by a value and by {conditions_from}; give it once"
            )
        values |= read
    request = Conditions.of(values, n, gan.encoding)
    for sentence in request.drawn:
        log.log(NOTICE, "%s", sentence)
    _check_space(Path(output), request.n, schema)
    blocks = (
        sample_members(gans, request.n, conditions=values, seed=seed, engine=engine)
        if gans
        else gan.sample_blocks(n, conditions=values, seed=seed, engine=engine)
    )
    writer.write(
        output, with_progress(prefetch(_collected(blocks)), request.n, progress), schema, tree=gan.tree, overwrite=overwrite,
    )  # fmt: skip
    return request.n


def generate_command(run: RunConfig, folder: Path) -> str:
    """Returns the ``hepgan generate`` command for the run in ``folder``, with the conditions of its first file, or ranges if it has a cut."""
    path = f"{folder.resolve().name}_generated.root"
    words = ["hepgan", "generate", str(folder), "-n", "10000", "-o", path]
    scales = {name: run.encoding.conditions[name] for name in run.schema.conditions}
    if run.data.cut:
        for name, scale in scales.items():
            low, high = scale.range
            log = ":log" if scale.scale == "log" else ""
            if not scale.classes:  # otherwise all are drawn
                words += ["--condition", f"{name}={low:.10g}:{high:.10g}{log}"]
    elif scales:
        file, tree = run.data.files[0], run.data.tree
        own = split_tree(file)[1] or not tree
        words += ["--conditions-from", file if own else f"{file}:{tree}"]
    return shlex.join(words)


def _check_space(output: Path, events: int, schema: Schema) -> None:
    """Checks that the file may fit on the disk if it compresses well.

    Raises:
        RunError: there is too little space.
    """
    event = sum(f.size * np.dtype(f.dtype or "float32").itemsize for f in schema.all.values())
    folder = output.absolute().parent
    if not folder.is_dir():
        return  # the writer reports it
    free = shutil.disk_usage(folder).free
    if events * event > COMPRESSION * free:
        raise RunError(
            f"{events:,} events are {events * event / 1e12:,.3g} TB before compression, but {folder} has"
            f" {free / 1e12:,.3g} TB free; generate fewer, or several files on other disks"
        )


def _read_conditions(
    file: str, schema: Schema, n: int | None, seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the conditions of the first ``n`` entries; of fewer, in order and again, the last ones drawn without replacement."""
    if not schema.conditions:
        raise DataError("the GAN has no conditions; omit --conditions-from")
    events = reader.read(file, Schema(schema.conditions), entry_stop=n)
    columns = {
        name: np.asarray(ak.to_numpy(events[name]), dtype=np.float64) for name in schema.conditions
    }
    entries = len(events)
    if n is None or n <= entries or not entries:
        return columns
    times, rest = divmod(n, entries)
    drawn = numpy_generator(seed, "sample", "entries").permutation(entries)[:rest]
    rows = np.concatenate([np.tile(np.arange(entries), times), np.sort(drawn)])
    often = f"{times} times" if not rest else f"{times} or {times + 1} times"
    log.log(
        NOTICE,
        f"{file} has {entries:,} entries, fewer than the {n:,} events requested: each is used {often}",
    )
    return {name: column[rows] for name, column in columns.items()}


def with_progress(
    parts: Iterator[ak.Array], total: int, progress: ProgressCallback
) -> Iterator[ak.Array]:
    """Yields the parts of a sample of ``total`` events and reports the progress."""
    written = 0
    for part in parts:
        yield part
        written += len(part)
        progress("generating", written / max(total, 1), f"{written:,} events")


def _collected(chunks: Iterator[ak.Array]) -> Iterator[ak.Array]:
    """Yields the chunks, small ones together."""
    small: list[ak.Array] = []
    size = 0
    for chunk in chunks:
        small.append(chunk)
        size += chunk.nbytes
        if size >= SMALLEST:
            yield ak.concatenate(small) if len(small) > 1 else chunk
            small, size = [], 0
    if small:
        yield ak.concatenate(small) if len(small) > 1 else small[0]

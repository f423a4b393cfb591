"""Events of a training: read into memory, or streamed from the files in every epoch."""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt
from torch import Tensor

from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.io import reader
from hepgan.data.io.reader import ReadOptions
from hepgan.data.io.splits import Bootstrap, read_splits, sample_splits, split_chunks
from hepgan.data.loaders.augment import reflect, rotate
from hepgan.data.loaders.streaming import StreamingLoader
from hepgan.data.schema import Schema
from hepgan.data.weights import WEIGHT
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.training import distributed
from hepgan.layout.memory import available, readable
from hepgan.pipeline.config import RunConfig
from hepgan.progress import ProgressCallback, no_progress
from hepgan.random_streams import child_seed

SAMPLE_VALUES = 2**25
"""Largest number of values in a sample or a shuffle buffer: 128 MiB in single precision."""

SAMPLES = {"train": 20_000, "validation": 10_000, "test": 50_000}
"""Largest number of events in memory of each split of a stream."""

ENCODING_EVENTS = 50_000
"""Largest number of events that an encoding is fitted to in a stream, by default, and size of the shuffle buffer."""

CHUNK = 25.0
"""Size of a chunk of a stream, mirror images included [MB]."""

BYTES_PER_VALUE = 40
"""Memory of a training in memory per value in the files: events, their splits, the fit in double precision, and encoded events."""


class ReadMode(NamedTuple):
    """Choice between reading the events of a training into memory and streaming them, with its reason."""

    stream: bool
    reason: str

    @classmethod
    def of(cls, stream: bool, reason: str) -> "ReadMode":
        """Returns the mode; ``reason`` follows its name."""
        return cls(stream, f"{'streamed from the files' if stream else 'in memory'}, {reason}")


def read_mode(run: RunConfig, schema: Schema) -> ReadMode:
    """Returns whether to stream the events: ``[data] stream``, by default if they would take more than the free memory."""
    if run.data.stream != "auto":
        return ReadMode.of(bool(run.data.stream), "as [data] stream says")
    entries = sum(reader.num_entries(list(run.data.files), tree=run.data.tree).values())
    values = sum(field.size for field in schema.all.values())
    copies = 1 + run.data.fractions["train"] * (_copies(run) - 1)
    need, free = int(entries * values * copies * BYTES_PER_VALUE), available()
    return ReadMode.of(
        need > free,
        f"because {entries:,} entries of {values:,} values need about {readable(need)} of memory, and {readable(free)} are free",
    )


def read_events(run: RunConfig) -> dict[str, ak.Array]:
    """Returns the events of a run by split, ``train``, ``validation`` and ``test``. The split does not depend on the seed."""
    data = run.data
    splits = read_splits(list(data.files), run.schema, data.fractions, options=_options(run))
    return _without_ones(splits, run)


def sample_events(
    run: RunConfig, *, progress: ProgressCallback = no_progress
) -> dict[str, ak.Array]:
    """Returns random samples of the events of each split, which are those of ``read_events``."""
    sizes = {name: _sample_size(run.schema, size) for name, size in SAMPLES.items()}
    samples = sample_splits(
        list(run.data.files), run.schema, run.data.fractions, sizes,
        step_size=_step_size(run), options=_options(run), progress=progress,
    )  # fmt: skip
    return _without_ones({name: sample.events for name, sample in samples.items()}, run)


def _without_ones(splits: dict[str, ak.Array], run: RunConfig) -> dict[str, ak.Array]:
    """Returns the splits; those of which a bootstrap draws nothing have no weights unless the run file has a weight."""
    if not run.data.bootstrap or run.data.weight:
        return splits
    return {
        name: events if name == "train" else ak.without_field(events, WEIGHT)
        for name, events in splits.items()
    }


def augment(events: ak.Array, run: RunConfig, *, seed: int) -> ak.Array:
    """Returns training events followed by their mirror images and rotated copies; ``seed`` is that of the rotations."""
    events = reflect(events, run.reflections, run.encoding.conditions)
    if run.data.rotate:
        events = rotate(events, run.data.rotate, run.alpha_axes, run.encoding.conditions, seed=seed)
    return events


def fit_to_stream(
    settings: EncodingSettings,
    progress: ProgressCallback,
    *,
    run: RunConfig,
    schema: Schema,
    start: Encoding | None = None,
) -> Encoding:
    """Returns an encoding that is fitted to a stream: ranges and moments to all training events, the rest to a sample of them.

    ``start`` is an encoding to start from, as in ``Encoding.fit``.
    """

    def chunks() -> Iterator[ak.Array]:
        parts = split_chunks(
            list(run.data.files), run.schema, run.data.fractions, "train",
            step_size=_step_size(run), options=_options(run),
        )  # fmt: skip
        for number, events in enumerate(parts):
            yield augment(events, run, seed=child_seed(run.seed, "augmentation", number))

    sample = run.data.encoding_events or _sample_size(schema, ENCODING_EVENTS)
    return Encoding.fit_stream(
        chunks, schema, settings, seed=run.seed, sample=sample, start=start, progress=progress
    )


def stream_events(
    run: RunConfig, encoding: Encoding, discriminator_input: DiscriminatorInput
) -> StreamingLoader:
    """Returns the loader of discriminator inputs of the training events, mirror images and rotated copies included."""
    copies = _copies(run)
    return StreamingLoader(
        list(run.data.files),
        run.schema,
        functools.partial(
            _encoded, run=run, encoding=encoding, discriminator_input=discriminator_input
        ),
        batch_size=distributed.local_batch_size(run.train.batch_size),
        seed=run.seed,
        step_size=_step_size(run),
        buffer=_sample_size(run.schema, ENCODING_EVENTS),
        part=("train", run.data.fractions),
        options=_options(run),
        copies=copies,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def _encoded(
    events: ak.Array,
    /,
    *,
    file: str,
    entries: npt.NDArray[np.int64],
    run: RunConfig,
    encoding: Encoding,
    discriminator_input: DiscriminatorInput,
) -> tuple[Tensor, Tensor]:
    """Returns the discriminator input and the conditions of events and their copies."""
    first = int(entries[0]) if len(entries) else 0
    seed = child_seed(run.seed, "augmentation", file, first)
    # The noise of an encoding is keyed by file and entry: a copy gets other numbers, and another part of the file the same.
    keys = np.concatenate([entries + copy * _MOST_ENTRIES for copy in range(_copies(run))])
    x, c = encoding.encode(augment(events, run, seed=seed), seed=run.seed, file=file, entries=keys)
    return discriminator_input.of_events(x, c), c


_MOST_ENTRIES = 2**40
"""More than the entries of any file."""


def _copies(run: RunConfig) -> int:
    """Returns the number of training events per event: it, its mirror images and rotated copies."""
    rotated = run.data.rotate.copies if run.data.rotate else 0
    return int(2 ** len(run.reflections) * (1 + rotated))


def _options(run: RunConfig) -> ReadOptions:
    data, seed = run.data, child_seed(run.seed, "bootstrap")
    bootstrap = Bootstrap("train", data.fractions, seed) if data.bootstrap else None
    return ReadOptions(tree=data.tree, cut=data.cut, weight=data.weight, reweight=bootstrap)


def _sample_size(schema: Schema, events: int) -> int:
    """Returns ``events``, or fewer if they have more than ``SAMPLE_VALUES`` values."""
    values = sum(math.prod(field.shape) for field in schema.all.values())
    return max(1, min(events, SAMPLE_VALUES // max(values, 1)))


def _step_size(run: RunConfig) -> str:
    return f"{CHUNK / _copies(run):.3f} MB"

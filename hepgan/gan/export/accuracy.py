"""Exported files compared with ``GAN.sample``, cell by cell, run as the host runs them."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from hepgan.errors import RunError
from hepgan.gan.export.hosts import Array, HostModel
from hepgan.gan.export.onnx_model import Run
from hepgan.gan.model import GAN
from hepgan.random_streams import numpy_generator

TOLERANCE = 1e-4
"""Relative difference above which a cell counts as different."""

MOST_DIFFERENT = 1e-3
"""Largest fraction of different cells of a file that is written, unless they hold hardly any energy."""

MOST_MOVED = 1e-4
"""Fraction of the sum of all values that may differ in any case: the last bits of a split decide about dim cells of ``energy_tree``."""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Difference of an exported file to ``GAN.sample`` with the same noise and conditions.

    Attributes:
        events: Number of events.
        cells: Number of values that are not zero in either.
        different: Number of these that differ by more than ``TOLERANCE``, relative.
        largest: Largest relative difference.
        alone: Number of values that are above the threshold in only one of the two.
        largest_alone: Largest of them in units of the threshold; 0 without any, infinite without a threshold.
        moved: Sum of all differences as a fraction of the sum of all values, the largest of the fields.
    """

    events: int
    cells: int = 0
    different: int = 0
    largest: float = 0.0
    alone: int = 0
    largest_alone: float = 0.0
    moved: float = 0.0

    def __str__(self) -> str:
        alone = f", up to {self.largest_alone:.2g} × threshold" if self.alone else ""
        return (
            f"{self.different:,} of {self.cells:,} nonzero values in {self.events:,} events differ from GAN.sample by more than"
            f" {TOLERANCE:g} (largest {self.largest:.1e}, relative); {self.alone:,} are above the threshold in only one of the two{alone};"
            f" the differences add up to {self.moved:.1e} of all values"
        )

    def check(self) -> None:
        """Checks that the exported file gives the same events.

        Raises:
            RunError: more than ``MOST_DIFFERENT`` of the cells differ, or a cell is above the threshold in only one of the two, and above
                twice the threshold; and the differences are more than ``MOST_MOVED`` of all values.
        """
        visible = self.different > MOST_DIFFERENT * self.cells or self.largest_alone > 2
        if visible and self.moved > MOST_MOVED:
            raise RunError(f"the exported model is not accurate enough: {self}; please report this")


def measure(gan: GAN, model: HostModel, run: Run, *, events: int, seed: int = 1) -> Accuracy:
    """Returns the difference of a file that ``run`` runs to ``gan``; a host that has single events runs one after the other.

    Raises:
        RunError: ``run`` fails, or the shapes differ.
    """
    rng = numpy_generator(seed, "export")
    noise = model.draw(rng, events)
    values = {name: model.examples(name, events) for name in model.conditions}
    rows = 1024 if model.any_batch else 1
    parts = []
    for start in range(0, events, rows):
        part = slice(start, start + rows)
        here = {name: value[part] for name, value in values.items()}
        parts.append(model.read(run(model.feed(noise[part], here)), here))
    exported = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return compare(exported, sampled(gan, model, noise, values), thresholds(gan))


def sampled(
    gan: GAN, model: HostModel, noise: Array, values: Mapping[str, Array]
) -> dict[str, Array]:
    """Returns the fields of ``GAN.sample`` for the noise that the model makes of the host's."""
    fixed = {name: np.full(len(noise), value) for name, value in model.fixed.items()}
    none = torch.empty(len(noise), 0)
    with torch.no_grad():
        c = gan.encoding.encode_conditions({**values, **fixed}) if gan.encoding.scales else none
        x = gan.generate(torch.from_numpy(model.normal(noise)), c)
        decoded = gan.encoding.decode_tensors(x, c)
    return {name: field.numpy() for name, field in decoded.items()}


def thresholds(gan: GAN) -> dict[str, float]:
    """Returns the threshold of each field: of its geometry, otherwise of the encoding's steps; 0 without any."""
    of_steps = max(
        (float(getattr(step, "threshold", 0.0)) for step in gan.encoding.steps), default=0.0
    )
    found = {
        name: gan.geometry[name].threshold for name in gan.schema.fields if name in gan.geometry
    }
    return {name: found.get(name) or of_steps for name in gan.schema.fields}


def compare(
    exported: Mapping[str, Array], expected: Mapping[str, Array], threshold: Mapping[str, float]
) -> Accuracy:
    """Returns the difference of two sets of fields ``[events, …]``.

    Raises:
        RunError: the shapes differ.
    """
    total = Accuracy(len(next(iter(expected.values()))))
    for name, other in expected.items():
        one = exported[name]
        if one.shape != other.shape:
            raise RunError(
                f"the exported model returns '{name}' with the shape {one.shape} instead of {other.shape}; please report this"
            )
        limit = threshold[name]
        both = (one != 0) & (other != 0)
        relative = np.abs(one - other)[both] / np.abs(other[both])
        alone = (np.abs(one) > limit) != (np.abs(other) > limit)
        size = np.maximum(np.abs(one), np.abs(other))[alone].max(initial=0.0)
        total = dataclasses.replace(
            total,
            cells=total.cells + int(both.sum()),
            different=total.different + int((relative > TOLERANCE).sum()),
            largest=max(total.largest, float(relative.max(initial=0.0))),
            alone=total.alone + int(alone.sum()),
            largest_alone=max(
                total.largest_alone,
                float(size / limit) if limit else np.inf * size if size else 0.0,
            ),
            moved=max(
                total.moved, float(np.abs(one - other).sum() / max(np.abs(other).sum(), 1e-30))
            ),
        )
    return total

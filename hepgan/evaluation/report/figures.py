"""Selection of the figures of a report, drawn by ``plots``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from hist import Hist

from hepgan.data.schema import Field, Schema
from hepgan.data.units import ENERGY_UNITS
from hepgan.evaluation.metrics import per_observable, statistics
from hepgan.evaluation.metrics.digits import digit_scores
from hepgan.evaluation.metrics.scores import CLASSIFIER_INPUTS, OVERALL, MetricResults
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.observables.standard import Observable
from hepgan.evaluation.sample import Sample
from hepgan.progress import ProgressCallback, no_progress

MAX_OBSERVABLES = 60
"""Largest number of observables drawn, the most different first."""

SINGLE_EVENTS = "Single events"
GRID_EVENTS = 50
"""Events per grid of single events."""


class Picture(NamedTuple):
    """Figure of the report.

    Attributes:
        name: Name of its files.
        group: Heading on the page.
        caption: Caption.
        wide: Whether it takes the full width of the page.
        svg: SVG for the page.
        png: PNG for slides.
    """

    name: str
    group: str
    caption: str
    wide: bool
    svg: str
    png: bytes


Samples = Mapping[str, Sample]
Drawing = tuple[str, str, str, bool, Any]


def draw(
    samples: Samples,
    schema: Schema,
    observables: Mapping[str, Observable],
    histograms: "Mapping[str, Hist[Any]]",
    measured: Mapping[str, MetricResults],
    history: Sequence[Mapping[str, Any]],
    *,
    geometry: Mapping[str, LayerGeometry] | None = None,
    digits: bool = False,
    progress: ProgressCallback = no_progress,
) -> list[Picture]:
    """Returns all figures of a report in order; ``geometry`` names the axes of images, ``digits`` adds class fractions."""
    from hepgan.evaluation import plots

    result = []
    drawings = [
        *_overview(samples, observables, measured, history),
        *_images(samples, schema, geometry or {}, digits=digits),
        *_distributions(samples, observables, histograms, measured),
    ]
    for i, (name, group, caption, wide, figure) in enumerate(drawings):
        progress("drawing", i / len(drawings), "")
        drawn = figure()
        result.append(Picture(name, group, caption, wide, plots.svg(drawn), plots.png(drawn)))
    return result


def _overview(
    samples: Samples,
    observables: Mapping[str, Observable],
    measured: Mapping[str, MetricResults],
    history: Sequence[Mapping[str, Any]],
) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    if len(history) > 1:
        yield (
            "losses",
            "Training",
            "Training: losses and validation",
            False,
            lambda: plots.losses(history),
        )
    if {"E_inc", "E_tot_over_E_inc"} <= observables.keys():
        profiles = {
            name: (s.values["E_inc"], s.values["E_tot_over_E_inc"], s.weights)
            for name, s in samples.items()
        }
        caption = "Response and resolution: total energy over incident energy"
        unit = observables["E_inc"].unit
        yield "response", "Together", caption, False, lambda: plots.response(profiles, unit=unit)
    curves = {
        f"{source}: {CLASSIFIER_INPUTS[metric]}": curve
        for source, found in measured.items()
        for metric, curve in found.curves.items()
    }
    if curves:
        yield (
            "roc",
            "Together",
            "ROC curves of the classifiers",
            False,
            lambda: plots.roc(curves),
        )
    if sum(not o.spectrum for o in observables.values()) > 2:
        yield from _correlations(samples, observables)


def _correlations(samples: Samples, observables: Mapping[str, Observable]) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    filled = {
        o.name: {source: _filled(sample.values[o.name]) for source, sample in samples.items()}
        for o in observables.values()
        if not o.spectrum
    }
    names = [n for n, f in filled.items() if all(np.ptp(v) > 0 for v in f.values())][
        :MAX_OBSERVABLES
    ]
    if len(names) < 2:
        return
    matrices = {
        source: per_observable.correlations(
            np.stack([filled[n][source] for n in names], axis=1), sample.weights
        )
        for source, sample in samples.items()
    }
    yield (
        "correlations",
        "Together",
        "Correlations between observables",
        True,
        lambda: plots.correlations(matrices, names),
    )


def _filled(values: Floats) -> Floats:
    there = np.isfinite(values)
    return np.where(there, values, values[there].mean() if there.any() else 0.0)


def _images(
    samples: Samples, schema: Schema, geometry: Mapping[str, LayerGeometry], *, digits: bool
) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    for name, field in schema.fields.items():
        if len(field.shape) != 2:
            continue
        energy = field.unit in ENERGY_UNITS
        # as in the names of observables: the default of layers is (x, y), of images (y, x)
        axes = geometry[name].axes if name in geometry else ()
        axes = axes or (("x", "y") if energy or name in geometry else ("y", "x"))
        means = {
            source: statistics.weighted_mean(sample.events[name], sample.weights)[0]
            for source, sample in samples.items()
        }
        yield (
            f"{name}.mean_image",
            "Mean images",
            f"{name}: mean",
            len(means) > 2 and field.shape[1] <= 2 * field.shape[0],
            lambda m=means, f=field, e=energy, a=axes: plots.mean_images(
                m, names=a, unit=f.unit, log=e
            ),
        )
        yield from _grids(name, field, samples, schema.incident, log=energy)
        if digits:
            yield _classes(name, samples)


def _grids(
    name: str, field: Field, samples: Samples, incident: str, *, log: bool
) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    columns = 10 if field.shape[1] <= 2 * field.shape[0] else 2
    for source, events in ((source, sample.events) for source, sample in samples.items()):
        shown = np.asarray(events[name][: GRID_EVENTS if columns > 2 else 20], dtype=float)
        order = (
            np.argsort(events[incident][: len(shown)])
            if log and incident in events
            else slice(None)
        )
        yield (
            f"{name}.{source}",
            SINGLE_EVENTS,
            f"{name}: {source}" + (", by incident energy" if log and incident in events else ""),
            False,
            lambda s=shown[order]: plots.sample_grid(s, columns=columns, log=log),
        )


def _classes(name: str, samples: Samples) -> Drawing:
    from hepgan.evaluation import plots

    fractions = {
        source: digit_scores(sample.events[name].reshape(-1, 28, 28)).fractions
        for source, sample in samples.items()
    }
    caption = f"{name}: classes according to the digit classifier"
    return (
        f"{name}.classes",
        "Together",
        caption,
        False,
        lambda: plots.class_fractions(fractions, labels="0123456789"),
    )


def _distributions(
    samples: Samples,
    observables: Mapping[str, Observable],
    histograms: "Mapping[str, Hist[Any]]",
    measured: Mapping[str, MetricResults],
) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    worst: dict[str, float] = {}
    for found in measured.values():
        for score in found.scores:
            if score.observable != OVERALL and score.metric == "separation":
                worst[score.observable] = max(
                    worst.get(score.observable, 0.0), score.value - score.baseline
                )
    numbers = {source: float(sample.weights.sum()) for source, sample in samples.items()}
    for name in sorted(observables, key=lambda name: -worst.get(name, -1.0))[:MAX_OBSERVABLES]:
        spectrum = observables[name].spectrum
        yield (
            name,
            "Observables, the most different first",
            name,
            False,
            lambda n=name, s=spectrum: plots.observable(
                histograms[n], per_event=numbers if s else None
            ),
        )

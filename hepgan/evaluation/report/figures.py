"""Selection of the figures of a report, drawn by ``plots``."""

import functools
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from hist import Hist

from hepgan.data.schema import Schema
from hepgan.data.units import ENERGY_UNITS
from hepgan.evaluation import profiles
from hepgan.evaluation.formatting import significance_text
from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics import statistics
from hepgan.evaluation.metrics.digits import digit_scores
from hepgan.evaluation.metrics.ensembles import EnsembleBand
from hepgan.evaluation.metrics.histogram_tests import HistogramTest
from hepgan.evaluation.metrics.scores import MetricResults, Score
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.observables.standard import Observable, layers_for
from hepgan.evaluation.profiles import Correlations
from hepgan.evaluation.report.cell_images import CellImage, cell_images
from hepgan.evaluation.report.glossary import input_of
from hepgan.evaluation.report.tables import MAX_OBSERVABLES
from hepgan.evaluation.sample import Sample
from hepgan.processes import on_processes
from hepgan.progress import ProgressCallback, no_progress

MAX_CORRELATED = 20
"""Largest number of observables in the figure of correlations: those of the most significant differences."""

MAX_SLICED = 6
"""Largest number of figures of observables in slices of a condition."""

MAX_LAYERS = 60
"""Largest number of layers in a longitudinal profile."""

VERDICT = "Rule of the verdict"
SCORES = "Scores"
TRAINING = "Training"
WORTH = "Equivalent numbers of reference events"
OBSERVABLES = "Observables"
PROFILES = "Response and profiles"
SLICES = "Conditions and their slices"
CORRELATIONS = "Correlations"
IMAGES = "Mean images"
TELLING = "Events that look most generated"
SINGLE_EVENTS = "Single events"

TELLING_EVENTS = 5
"""Events drawn for each classifier."""

MIN_FIGURES = 20
"""Smallest number of figures for which it pays to start other processes."""

MAX_HELPERS = 3
"""Largest number of other processes that draw figures."""

GRID_EVENTS = 20
"""Events per grid of single events."""


class Picture(NamedTuple):
    """Figure of the report.

    Attributes:
        name: Name of its files.
        section: Heading on the page.
        caption: Caption.
        wide: Whether it takes the full width of the page.
        svg: SVG element for the page.
        files: Contents of its files by suffix.
    """

    name: str
    section: str
    caption: str
    wide: bool
    svg: str
    files: Mapping[str, bytes]


class Drawing(NamedTuple):
    """Figure that is still to be drawn by ``draw``; the other attributes are those of ``Picture``."""

    name: str
    section: str
    caption: str
    wide: bool
    draw: Callable[[], Any]


class Subject(NamedTuple):
    """Samples to draw.

    Attributes:
        samples: Reference and generated samples by name.
        schema: Fields and conditions that all samples have.
        observables: Observables by name.
        histograms: Histograms by observable.
        results: Results of the metrics by generated sample.
        ranking: Largest n_sigma of each observable, the worst first.
        history: Rows of a training history.
        kept: Training step whose weights were kept, or ``None``.
        geometry: Geometry of the layers.
        correlations: Correlations between observables, or ``None``.
        digits: Whether the events are MNIST's digits.
        seed: Seed of resampling.
        bands: Bands of the generated samples as an ensemble, by observable.
    """

    samples: Mapping[str, Sample]
    schema: Schema
    observables: Mapping[str, Observable]
    histograms: "Mapping[str, Hist[Any]]"
    results: Mapping[str, MetricResults]
    ranking: Mapping[str, float]
    history: Sequence[Mapping[str, Any]] = ()
    kept: int | None = None
    geometry: Mapping[str, LayerGeometry] = {}
    correlations: Correlations | None = None
    digits: bool = False
    seed: int = 1
    bands: Mapping[str, EnsembleBand] = {}

    @property
    def scores(self) -> list[Score]:
        """Scores of all generated samples."""
        return [score for result in self.results.values() for score in result.scores]

    @property
    def events(self) -> dict[str, float]:
        """Sums of the event weights by source."""
        return {source: float(sample.weights.sum()) for source, sample in self.samples.items()}


def draw(subject: Subject, *, progress: ProgressCallback = no_progress) -> list[Picture]:
    """Returns all figures of a report in the order of its sections."""
    from hepgan.evaluation import plots

    drawings = [
        *_classifiers(subject),
        *_training(subject),
        *_distributions(subject),
        *_profiles(subject),
        *_slices(subject),
        *_correlations(subject),
        *_images(subject),
        *_telling(subject),
    ]
    few = len(drawings) < MIN_FIGURES
    gc.freeze()  # a figure is garbage with cycles: collections take a tenth of the time unless they skip all older objects
    try:
        files = on_processes(
            functools.partial(plots.draw_files, plots.settings()),
            [drawing.draw for drawing in drawings],
            helpers=0 if few else min(torch.get_num_threads() - 1, MAX_HELPERS),
            progress=lambda fraction: progress("drawing", fraction, ""),
        )
    finally:
        gc.unfreeze()
    return [
        Picture(name, section, caption, wide, plots.inline(own["svg"].decode()), own)
        for (name, section, caption, wide, _), own in zip(drawings, files, strict=True)
    ]


def _classifiers(subject: Subject) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    scores = {(score.source, score.metric): score for score in subject.scores}
    curves = {}
    for source, result in subject.results.items():
        for metric, curve in result.curves.items():
            area = scores.get((source, metric))
            label = input_of(metric)
            label = f"{source}: {label}" if len(subject.results) > 1 else label
            curves[f"{label}: {area.value:.3f} ± {area.error:.3f}" if area else label] = curve
    if curves:
        caption = "ROC curves and AUC of the classifiers, on events that they were not trained with"
        yield Drawing("roc", SCORES, caption, False, functools.partial(plots.roc, curves))
    for source, result in subject.results.items():
        for metric, learned in result.learning_curves.items():
            caption = f"{source}: AUC against the number of events, {input_of(metric)}"
            yield Drawing(
                f"{source}.{metric}.learning_curve", SCORES, caption, False,
                functools.partial(plots.learning_curve, learned),
            )  # fmt: skip


def _training(subject: Subject) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    if len(subject.history) > 1:
        caption = "Losses and validation score during training"
        yield Drawing(
            "losses",
            TRAINING,
            caption,
            True,
            functools.partial(plots.losses, subject.history, kept=subject.kept),
        )


def _distributions(subject: Subject) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    worst = subject.ranking
    ordered = [*worst, *(name for name in subject.observables if name not in worst)]
    chi_squares = {
        (s.observable, s.source): Estimate(
            s.value, s.error, s.baseline, s.baseline_error, s.p_value
        )
        for s in subject.scores
        if s.metric == "chi_square"
    }

    def drawing(name: str) -> Callable[[], Any]:
        tests: dict[str, HistogramTest] = {}
        for source in subject.results:
            chi_square = chi_squares.get((name, source))
            if chi_square and (test := profiles.as_test(chi_square)):
                tests[source] = test
        return functools.partial(
            plots.observable,
            subject.histograms[name],
            events=subject.events,
            per_event=subject.observables[name].spectrum,
            tests=tests,
            band=subject.bands.get(name),
        )

    for name in ordered[:MAX_OBSERVABLES]:
        if _constant(name, subject):
            continue
        seen = worst.get(name, -1.0) >= 0
        caption = f"{name}: n_sigma {significance_text(worst[name])}" if seen else name
        yield Drawing(name, OBSERVABLES, caption, False, drawing(name))


def _constant(name: str, subject: Subject) -> bool:
    """Returns whether an observable has one value in all events of all samples, so that there is nothing to draw."""
    if subject.observables[name].spectrum:
        return False
    values = np.concatenate([sample.values[name] for sample in subject.samples.values()])
    return bool(np.all(values == values[0]))


def _profiles(subject: Subject) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    observables = subject.observables
    if {"E_inc", "E_tot_over_E_inc"} <= set(observables):
        yield from _response(subject)
    layers = layers_for(subject.schema, subject.geometry)
    if not layers:
        return
    unit = observables["E_tot"].unit if "E_tot" in observables else ""
    drawn = {}
    if 2 < len(layers) <= MAX_LAYERS:
        drawn["longitudinal_profile"] = (
            "Mean energy of each layer",
            profiles.longitudinal(subject.samples, layers, unit=unit),
        )
    if rings := profiles.radial(subject.samples, layers, unit=unit):
        about = "all layers" if len(layers) > 1 else layers[0].name
        drawn["radial_profile"] = (f"Mean energy per radius about r = 0, {about}", rings)
    for name, (caption, profile) in drawn.items():
        yield Drawing(
            name, PROFILES, f"{caption}; χ² with the covariance between bins", False,
            functools.partial(
                plots.profile, profile.histogram, events=subject.events, tests=profile.tests
            ),
        )  # fmt: skip


def _response(subject: Subject) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    unit = subject.observables["E_inc"].unit
    to_gev = ENERGY_UNITS[unit] / ENERGY_UNITS["GeV"]
    edges = profiles.energy_edges(subject.samples[REFERENCE].values["E_inc"])
    responses = {
        name: profiles.response(
            s.values["E_inc"], s.values["E_tot_over_E_inc"], s.weights, edges, seed=subject.seed
        )
        for name, s in subject.samples.items()
    }
    if not len(responses[REFERENCE].energy):
        return
    fits = {}
    for name, response in responses.items():
        if fit := profiles.fit_resolution(response._replace(energy=response.energy * to_gev)):
            fits[name] = fit
    caption = (
        "Response and resolution: total energy over incident energy, Gaussian core (± 2 σ) in bins of the incident energy;"
        " lines: σ/E = a/√E ⊕ b/E ⊕ c with E in GeV"
    )
    yield Drawing(
        "response", PROFILES, caption, False,
        functools.partial(plots.response, responses, fits, unit=unit, to_gev=to_gev),
    )  # fmt: skip


def _slices(subject: Subject) -> Iterator[Drawing]:
    """Yields the observables that differ most in slices of a condition, at most ``MAX_SLICED``."""
    from hepgan.evaluation import plots

    every = [(source, one) for source, result in subject.results.items() for one in result.slices]
    every.sort(key=lambda pair: pair[1].p_value)
    pairs = dict.fromkeys((one.slice.condition, one.observable) for _, one in every)
    for condition, observable in list(pairs)[:MAX_SLICED]:
        parts = {
            source: sorted(
                (
                    one
                    for one in result.slices
                    if (one.slice.condition, one.observable) == (condition, observable)
                ),
                key=lambda one: one.slice.low,
            )
            for source, result in subject.results.items()
        }
        yield Drawing(
            f"{observable}.by.{condition}", SLICES, f"{observable} in slices of {condition}: mean and standard deviation", False,
            functools.partial(plots.slices, parts, label=subject.observables[observable].title),
        )  # fmt: skip


def _correlations(subject: Subject) -> Iterator[Drawing]:
    from hepgan.evaluation import plots

    correlated = subject.correlations
    if correlated is None:
        return
    first = list(dict.fromkeys(n for d in correlated.differences for n in (d.first, d.second)))
    chosen = set(first[:MAX_CORRELATED])
    rows = [i for i, name in enumerate(correlated.names) if name in chosen]
    matrices = {
        source: matrix[np.ix_(rows, rows)] for source, matrix in correlated.matrices.items()
    }
    names = [correlated.names[i] for i in rows]
    some = (
        f", the {len(names)} of the most significant differences"
        if len(names) < len(correlated.names)
        else ""
    )
    yield Drawing(
        "correlations", CORRELATIONS, f"Correlation coefficients between observables{some}", True,
        functools.partial(plots.correlations, matrices, names),
    )  # fmt: skip


def _images(subject: Subject) -> Iterator[Drawing]:
    """Yields mean images, then single events, of the fields and layers that differ most."""
    chosen = cell_images(subject.schema, subject.geometry, subject.scores)
    for image in chosen:
        yield _mean_image(image, subject)
    for image in chosen:
        yield from _grids(image, subject)


def _telling(subject: Subject) -> Iterator[Drawing]:
    """Yields the weights of each classifier, and the generated events that it recognizes most confidently."""
    from hepgan.evaluation import plots

    chosen = cell_images(subject.schema, subject.geometry, subject.scores)
    for source, result in subject.results.items():
        for metric, weights in result.classifier_weights.items():
            yield Drawing(
                f"{source}.{metric}.weights", TELLING,
                f"{source}: weights of the test events, from the classifier of {input_of(metric)}; 1 for an event that both samples"
                " contain equally often",
                False, functools.partial(plots.observable, weights),
            )  # fmt: skip
        for metric, telling in result.telling.items():
            rows = list(telling.events[:TELLING_EVENTS])
            sure = ", ".join(f"{p:.3f}" for p in telling.probabilities[:TELLING_EVENTS])
            for image in chosen if rows else ():
                events = subject.samples[source].events
                shown = image.drawn(
                    image.values({image.field: np.asarray(events[image.field])[rows]})
                )
                yield Drawing(
                    f"{source}.{metric}.{image.name}.telling", TELLING,
                    f"{image.name}: the events of {source} that look most generated (classifier of {input_of(metric)}); probability of being generated: {sure}",
                    False,
                    functools.partial(
                        plots.sample_grid, shown, columns=1 if image.flat else TELLING_EVENTS, log=image.energy, unit=image.unit,
                    ),
                )  # fmt: skip


def _mean_image(image: CellImage, subject: Subject) -> Drawing:
    from hepgan.evaluation import plots

    moments = {
        source: statistics.weighted_mean(image.values(sample.events), sample.weights)
        for source, sample in subject.samples.items()
    }
    means = {source: image.drawn(mean) for source, (mean, _) in moments.items()}
    pulls = {}
    for source, (mean, variance) in moments.items():
        if source != REFERENCE:
            noise = variance + moments[REFERENCE][1]
            difference = mean - moments[REFERENCE][0]
            pulls[source] = image.drawn(difference / np.sqrt(np.where(noise > 0, noise, 1.0)))
    depth = ", summed over the depth" if image.deep else ""
    return Drawing(
        f"{image.name}.mean_image", IMAGES, f"{image.name}: mean{depth}, and pulls of the generated mean", not image.flat,
        functools.partial(
            plots.mean_images, means, pulls=pulls, names=image.axes, extent=image.extent, r_edges=image.r_edges, unit=image.unit,
            log=image.energy,
        ),
    )  # fmt: skip


def _grids(image: CellImage, subject: Subject) -> list[Drawing]:
    from hepgan.evaluation import plots

    incident, name = subject.schema.incident, image.name
    columns = 5 if image.shape[1] <= 2 * image.shape[0] else 2
    number = GRID_EVENTS if columns > 2 else GRID_EVENTS // 2
    shown: dict[str, Floats] = {}
    for source, sample in subject.samples.items():
        # From the whole sample: the first events of a file may be of one kind.
        at = np.linspace(0, sample.number - 1, min(number, sample.number)).astype(int)
        chosen = {k: v[at] for k, v in sample.events.items()}
        images = image.drawn(image.values(chosen))
        if image.energy and incident in chosen:
            images = images[np.argsort(chosen[incident])]
        shown[source] = images
    highest = max(float(np.nanmax(images)) for images in shown.values())
    order = ", by incident energy" if image.energy and incident in subject.schema.all else ""
    if image.r_edges:
        order += "; rows are bins in α, columns in r"
    return [
        Drawing(
            f"{name}.{source}", SINGLE_EVENTS, f"{name}: {source}, {len(images)} events{order}", False,
            functools.partial(
                plots.sample_grid, images, columns=columns, log=image.energy, highest=highest, unit=image.unit
            ),
        )
        for source, images in shown.items()
    ] + ([_classes(name, subject)] if subject.digits else [])  # fmt: skip


def _classes(name: str, subject: Subject) -> Drawing:
    from hepgan.evaluation import plots

    fractions = {
        source: digit_scores(sample.events[name].reshape(-1, 28, 28)).fractions
        for source, sample in subject.samples.items()
    }
    caption = f"{name}: classes according to the digit classifier"
    return Drawing(
        f"{name}.classes", IMAGES, caption, False,
        functools.partial(
            plots.class_fractions, fractions, labels="0123456789", events=subject.events
        ),
    )  # fmt: skip

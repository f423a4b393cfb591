"""Choice between encodings: each is fitted, and its events, decoded from normal numbers, are compared with validation events.

Classifiers compare them; for events with negative weights, which a classifier cannot use, the Fréchet distance of their observables does.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

import awkward as ak
import torch

from hepgan.data.encoding.encoding import Encoding, EncodingSettings, step_names
from hepgan.data.io.names import printable
from hepgan.data.schema import Schema
from hepgan.data.weights import event_weights, with_weights_of
from hepgan.errors import DataError, RunError
from hepgan.evaluation.formatting import with_error
from hepgan.evaluation.metrics.compute import validation_distance
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.observables.standard import arrays, evaluate_observables, observables_for
from hepgan.evaluation.report.evaluation import evaluate
from hepgan.gan.noise import normal_blocks
from hepgan.progress import ProgressCallback, no_progress, part_of

log = logging.getLogger(__name__)

METRICS = ("auc_observables", "auc_low")
"""Classifiers whose mean AUC decides; both see the conditions."""


Fit = Callable[[EncodingSettings, ProgressCallback], Encoding]
"""Function that fits an encoding to the training events."""


class Candidate(NamedTuple):
    """Fitted encoding and its distance from the validation events, an AUC or a Fréchet distance, in words too."""

    name: str
    encoding: Encoding
    distance: float
    text: str

    def __str__(self) -> str:
        return f"{printable(self.name)} ({self.text})"


def fit_encoding(
    fit: Fit,
    validation: ak.Array,
    schema: Schema,
    settings: EncodingSettings,
    geometry: Mapping[str, LayerGeometry],
    *,
    seed: int,
    progress: ProgressCallback = no_progress,
) -> Encoding:
    """Returns the encoding of ``settings``, or its best candidate.

    Args:
        fit: Fits one encoding to the training events.
        validation: Events that the candidates are compared with.
        schema: Fields and conditions.
        settings: Steps, or candidates.
        geometry: Geometry of the layers, for observables.
        seed: Seed.
        progress: Progress callback.

    Raises:
        RunError: an unknown step or setting, or no candidate can be used.
        DataError: events that a step does not support, or too few validation events for a comparison.
    """
    if not settings.candidates:
        return fit(settings, progress)
    candidates = []
    failures = []
    for number, (name, steps) in enumerate(settings.candidates.items()):
        compared = part_of(progress, "comparing encodings", number, len(settings.candidates))
        compared(printable(name), 0.0, "")
        one = EncodingSettings(steps, settings.conditions)
        try:
            encoding = fit(one, part_of(compared, printable(name)))
        except DataError as error:
            failures.append(f"{printable(name)} cannot be used: {error}")
            log.warning(failures[-1])
            continue
        candidates.append(_compare(name, encoding, validation, schema, geometry, seed))
        log.info("encoding %s", candidates[-1])
    if not candidates:
        raise RunError("no candidate of [encoding.candidates] can be used: " + "; ".join(failures))
    best, *others = sorted(candidates, key=lambda candidate: candidate.distance)
    reason = ", ".join([str(best), *(f"not {other}" for other in others)])
    log.info("chose the encoding %s", reason)
    return dataclasses.replace(best.encoding, choice=reason)


def settings_like(settings: EncodingSettings, start: Encoding) -> EncodingSettings:
    """Returns ``settings`` with the steps of the candidate that ``start`` was fitted with; unchanged without candidates.

    The candidate is the one with the steps of ``start``; among several, the one that was chosen when ``start`` was fitted.

    Raises:
        RunError: there is no such candidate, or there are several and none of them was chosen.
    """
    if not settings.candidates:
        return settings
    same = {n: s for n, s in settings.candidates.items() if step_names(s) == start.step_names}
    if len(same) > 1:
        chosen = {n: s for n, s in same.items() if start.choice.startswith(f"{printable(n)} (")}
        same = chosen or same
    if len(same) != 1:
        raise RunError(
            f"{'several candidates' if same else 'no candidate'} of [encoding.candidates] can continue the encoding to start from, whose"
            f" steps are {', '.join(start.step_names) or 'none'}; write its 'steps' in [encoding] instead of 'candidates'"
        )
    ((name, steps),) = same.items()
    log.info("the encoding is '%s', that of the GAN to start from", printable(name))
    return EncodingSettings(steps, settings.conditions)


def _compare(
    name: str,
    encoding: Encoding,
    validation: ak.Array,
    schema: Schema,
    geometry: Mapping[str, LayerGeometry],
    seed: int,
) -> Candidate:
    conditions = {name: ak.to_numpy(validation[name]) for name in schema.conditions}
    blocks = normal_blocks(len(validation), (encoding.features,), seed=seed)
    noise = torch.cat([block for _, block in blocks])
    c = encoding.encode_conditions(conditions) if conditions else noise[:, :0]
    generated = encoding.decode(noise, c, given=conditions)
    generated = with_weights_of(validation, generated, schema)
    weights = [event_weights(events, schema) for events in (validation, generated)]
    if weights[0] is not None and weights[0].min() < 0:
        observables = observables_for(schema, geometry)
        expected, found = (
            evaluate_observables(arrays(events, schema.all), observables)
            for events in (validation, generated)
        )
        distance = validation_distance(expected, found, (weights[0], weights[1]))
        return Candidate(name, encoding, distance, f"Fréchet distance {distance:.3g}")
    scores = evaluate(
        validation, generated, schema=schema, geometry=geometry, metrics=METRICS, seed=seed
    ).scores
    aucs = [score for score in scores if score.metric in METRICS]
    if not aucs:
        raise DataError(
            f"the validation split has {len(validation):,} events, too few to compare encodings with classifiers; increase [data]"
            " validation, or give 'steps' instead of 'candidates'"
        )
    # The classifiers see the same events: their errors are added linearly.
    values, errors = zip(*((score.value, score.error) for score in aucs), strict=True)
    auc, error = sum(values) / len(aucs), sum(errors) / len(aucs)
    return Candidate(name, encoding, auc, f"AUC {with_error(auc, error)}")

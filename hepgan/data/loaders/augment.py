"""Data augmentation by symmetries of the detector: mirror images, and rotations about the axis of cells in α and r.

Conditions on the direction or the position of the incident particle change with the event; all others stay the same.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch

from hepgan.config import Within
from hepgan.data.encoding.conditions import PERIODS, ConditionScale
from hepgan.data.schema import Schema
from hepgan.errors import RunError, did_you_mean
from hepgan.random_streams import numpy_generator

COSINES = ("x", "eta")
"""Axes along which a reflection maps an azimuth φ to π − φ."""

SINES = ("y", "phi")
"""Axes along which a reflection maps an azimuth φ to −φ."""


@dataclasses.dataclass(frozen=True)
class Reflection:
    """Reflection of events along an axis of the detector, and its effect on scalars.

    Attributes:
        axis: Name of the axis.
        negate: Conditions and scalar fields that change sign: impact points and components of the direction along the axis.
        azimuth: Conditions that are the azimuth φ of the direction, with φ = 0 along x (or eta) and π/2 along y (or phi).
    """

    axis: str
    negate: tuple[str, ...] = ()
    azimuth: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Random rotations of cells in α and r: copies of each training event, turned by different angles.

    The angles are multiples of the largest one that is a whole number of cells in every field.

    Attributes:
        copies: Number of rotated copies of each event, which are added to it.
        azimuth: Conditions that are the azimuth φ of the direction, and turn with the cells.
    """

    copies: Annotated[int, Within(1)]
    azimuth: tuple[str, ...] = ()


def reflect(
    events: ak.Array,
    axes: Mapping[Reflection, Mapping[str, int]],
    scales: Mapping[str, ConditionScale],
) -> ak.Array:
    """Returns ``events`` followed by their reflections; two of them give four events for each one.

    Args:
        events: E events.
        axes: For each reflection, the index of its axis in each field that has one: ``{Reflection("y"): {"layer_0": 0}}``.
        scales: Scales of the conditions, which define the full circle of azimuths.
    """
    columns = {name: ak.to_numpy(events[name]) for name in events.fields}
    for reflection, indices in axes.items():
        images = {name: np.flip(columns[name], 1 + index) for name, index in indices.items()}
        images |= {name: -columns[name] for name in reflection.negate}
        for name in reflection.azimuth:
            zero = _mirrored_zero(reflection, scales[name])
            images[name] = _turned(-columns[name].astype(np.float64), zero, scales[name])
        columns = {
            name: np.concatenate([values, images.get(name, values)], dtype=values.dtype)
            for name, values in columns.items()
        }
    return _events(columns)


def rotate(
    events: ak.Array,
    rotation: Rotation,
    axes: Mapping[str, int],
    scales: Mapping[str, ConditionScale],
    *,
    seed: int,
) -> ak.Array:
    """Returns ``events`` followed by copies of them that are rotated by random angles.

    Args:
        events: E events.
        rotation: Number of copies, and the azimuths that turn with them.
        axes: Index of the axis α in each field that has one.
        scales: Scales of the conditions, which define the full circle of azimuths.
        seed: Seed of the angles.
    """
    columns = {name: ak.to_numpy(events[name]) for name in events.fields}
    angles = rotation_angles({name: columns[name].shape[1 + index] for name, index in axes.items()})
    rng = numpy_generator(seed, "augmentation")
    # Every event is turned by different angles, of which none is zero.
    choices = np.tile(np.arange(1, angles), (len(events), 1))
    turns = rng.permuted(choices, axis=1)[:, : rotation.copies]
    copies = [columns]
    for turn in turns.T:
        copy = dict(columns)
        for name, index in axes.items():
            copy[name] = _rolled(columns[name], 1 + index, turn, angles)
        for name in rotation.azimuth:
            change = turn * (scales[name].period / angles)
            copy[name] = _turned(columns[name].astype(np.float64), change, scales[name])
        copies.append(copy)
    return _events(
        {
            name: np.concatenate([copy[name] for copy in copies], dtype=values.dtype)
            for name, values in columns.items()
        }
    )


def rotation_angles(bins: Mapping[str, int]) -> int:
    """Returns the number of angles that turn all fields by whole cells, for their numbers of bins in α."""
    return math.gcd(*bins.values()) or 1


def check_reflection(
    reflection: Reflection, schema: Schema, scales: Mapping[str, ConditionScale]
) -> None:
    """Checks that a reflection names all azimuths, and that conditions of mirror images are in their ranges.

    Raises:
        RunError: they are not.
    """
    where = f"[data] reflect, axis '{reflection.axis}'"
    scalars = [name for name, field in schema.all.items() if not field.shape]
    for name in reflection.negate:
        if name not in scalars:
            hint = did_you_mean(name, scalars) or f"; there are: {', '.join(scalars) or 'none'}"
            raise RunError(
                f"{where}: negate names '{name}', which is neither a condition nor a scalar field{hint}"
            )
        if (scale := scales.get(name)) and (
            scale.classes or not scale.allows_range(-scale.range[1], -scale.range[0])
        ):
            raise RunError(
                f"{where}: negate names '{name}', but not all values of {scale} may change sign; use a scale and a range that are"
                " symmetric about 0"
            )
    _check_azimuths(reflection.azimuth, scales, where, negated=reflection.negate)
    if reflection.azimuth and reflection.axis not in (*COSINES, *SINES):
        raise RunError(
            f"{where}: an azimuth is the angle between x (eta) and y (phi); name the axis so"
        )
    for name in reflection.azimuth:
        zero, (low, high) = _mirrored_zero(reflection, scales[name]), scales[name].range
        if not scales[name].allows_range(zero - high, zero - low):
            raise RunError(
                f"{where}: mirror images of '{name}' are outside its range, {scales[name]}; use the full circle"
            )


def check_rotation(
    rotation: Rotation, bins: Mapping[str, int], scales: Mapping[str, ConditionScale]
) -> None:
    """Checks that there are enough rotations by whole cells for the numbers of ``bins`` in α, and that all azimuths are named.

    Raises:
        RunError: there are not, or they are not.
    """
    if rotation.copies >= (angles := rotation_angles(bins)):
        numbers = ", ".join(f"{name} {number}" for name, number in bins.items()) or "none"
        raise RunError(
            f"[data.rotate] copies = {rotation.copies}, but the cells in α ({numbers}) have {angles - 1} rotations by whole cells"
        )
    _check_azimuths(rotation.azimuth, scales, "[data.rotate]")
    for name in rotation.azimuth:
        if not scales[name].circle:
            raise RunError(
                f"[data.rotate]: azimuth names '{name}', whose range is {scales[name]}; use the full circle"
            )


def _check_azimuths(
    names: tuple[str, ...],
    scales: Mapping[str, ConditionScale],
    where: str,
    *,
    negated: tuple[str, ...] = (),
) -> None:
    for name in names:
        if name not in scales:
            hint = did_you_mean(name, scales)
            raise RunError(f"{where}: azimuth names '{name}', which is not a condition{hint}")
        if scales[name].scale not in PERIODS:
            raise RunError(
                f"{where}: azimuth names '{name}', whose scale is '{scales[name].scale}'; write"
                f' [encoding.conditions.{name}] scale = "angle"'
            )
    for name, scale in scales.items():
        if scale.scale in PERIODS and scale.circle and name not in (*names, *negated):
            raise RunError(
                f"{where}: the condition '{name}' covers the full circle, so that it changes with the event; add"
                f' azimuth = ["{name}"]'
            )


def _mirrored_zero(reflection: Reflection, scale: ConditionScale) -> float:
    """Returns the mirror image of the azimuth 0."""
    return scale.period / 2 if reflection.axis in COSINES else 0.0


def _rolled(
    cells: npt.NDArray[Any], axis: int, turns: npt.NDArray[np.int64], angles: int
) -> npt.NDArray[Any]:
    """Returns ``cells[E, …]`` moved along ``axis`` by ``turns[E]`` of ``angles`` equal parts of its length."""
    length = cells.shape[axis]
    source = (np.arange(length) - turns[:, None] * (length // angles)) % length
    shape = [len(cells) if i == 0 else length if i == axis else 1 for i in range(cells.ndim)]
    return np.take_along_axis(cells, source.reshape(shape), axis)


def _turned(
    values: npt.NDArray[np.float64],
    change: float | npt.NDArray[np.float64],
    scale: ConditionScale,
) -> npt.NDArray[np.float64]:
    """Returns angles ``[E]`` plus ``change``, in the range of their condition."""
    return scale.wrap(torch.from_numpy(values + change)).numpy()


def _events(columns: Mapping[str, npt.NDArray[Any]]) -> ak.Array:
    return ak.zip({name: ak.from_numpy(v) for name, v in columns.items()}, depth_limit=1)

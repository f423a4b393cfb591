"""Small showers and columns, and the settings of steps for them."""

from typing import Any

import awkward as ak
import numpy as np

from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema

THRESHOLD = 0.01


def showers(number: int = 1500, seed: int = 3) -> ak.Array:
    """Two layers of few cells with thresholds, empty layers and an incident energy [GeV], cells [MeV]."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(1, 100, number)
    fraction = rng.beta(2, 5, number)
    first = rng.gamma(0.4, 1.0, (number, 2, 3)) + 0.2
    second = rng.gamma(0.15, 1.0, (number, 4))
    second[rng.random(number) < 0.1] = 0.0
    second[second < 0.05] = 0.0
    first *= (900 * energy * (1 - fraction) / first.sum((1, 2)))[:, None, None]
    sums = second.sum(1)
    second *= np.divide(60 * energy * fraction, sums, out=np.zeros_like(sums), where=sums > 0)[
        :, None
    ]
    second[second < THRESHOLD] = 0.0
    return ak.zip(
        {
            "energy": energy.astype("f4"),
            "front": first.astype("f4"),
            "back": second.astype("f4"),
        },
        depth_limit=1,
    )


SHOWERS = Schema.from_table(
    {
        "fields": {
            "front": {"shape": [2, 3], "unit": "MeV"},
            "back": {"shape": [4], "unit": "MeV"},
        },
        "conditions": {"energy": {"unit": "GeV"}},
        "incident": "energy",
    }
)

ENERGY = {"energy": ConditionScale((1.0, 100.0), "log")}

SUMS = {"step": "layer_sums", "incident": "energy", "threshold": THRESHOLD}

LOG = {"step": "log", "threshold": THRESHOLD}

COPULA = {
    "step": "copula",
    "condition": "energy",
    "censored_zeros": True,
    "windows": 6,
    "per_window": 300,
}


def fit(events: ak.Array, schema: Schema, *steps: dict[str, Any], **conditions: Any) -> Encoding:
    return Encoding.fit(events, schema, EncodingSettings(steps, conditions), seed=1)


COLUMNS = Schema.from_table({"fields": {"a": {}, "b": {"shape": [2]}}})


def columns(number: int = 800) -> ak.Array:
    rng = np.random.default_rng(5)
    return ak.zip(
        {
            "a": rng.gamma(2.0, 3.0, number).astype("f4"),
            "b": rng.uniform(0.05, 0.95, (number, 2)).astype("f4"),
        },
        depth_limit=1,
    )


FRACTIONS = [
    {"step": "threshold", "threshold": THRESHOLD},
    {"step": "layer_fractions"},
    {"step": "total_fractions"},
    {"step": "incident_fraction", "incident": "energy"},
]

SHARES = {"step": "logit", "fields": ["front", "back", "appended"]}

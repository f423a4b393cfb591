"""Untrained GANs of small showers whose conditions and cells are those of the hosts."""

from typing import Any

import awkward as ak
import numpy as np

from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings

SCALES = {
    "energy": ConditionScale((1000.0, 100_000.0), "log"),
    "theta": ConditionScale((0.9, 2.2)),
    "phi": ConditionScale((-3.2, 3.0)),
    "pdg": ConditionScale(scale="classes", values=(22, -11)),
}
UNITS = {"energy": "MeV", "theta": "rad", "phi": "rad", "pdg": ""}
THRESHOLD = 0.05

COPULA = (
    {"step": "log", "threshold": THRESHOLD},
    {"step": "copula", "condition": "energy", "windows": 4, "per_window": 200, "knots": 9},
)


def shower_gan(
    shapes: dict[str, tuple[int, ...]],
    *conditions: str,
    geometry: dict[str, LayerGeometry] | None = None,
    generator: str = "RES[COND, DENSE|8|LRELU, DENSE|N|LINEAR]",
    steps: tuple[dict[str, Any], ...] = COPULA,
    seed: int = 1,
    **settings: Any,
) -> GAN:
    """An untrained GAN of showers [MeV] with the given layers and conditions, the first of which is the incident energy."""
    rng = np.random.default_rng(2)
    number = 600
    values = {
        "energy": 10 ** rng.uniform(3, 5, number),
        "theta": rng.uniform(0.9, 2.2, number),
        "phi": rng.uniform(-3.2, 3.0, number),
        "pdg": rng.choice([22, -11], number),
    }
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    cells = rng.gamma(0.7, 1, (number, size)) * np.exp(
        np.outer(values["theta"] - 1.5, np.linspace(-1, 1, size))
    )
    cells *= (0.9 * values["energy"] / cells.sum(1))[:, None]
    cells[cells < THRESHOLD] = 0
    events = {name: values[name].astype("f4") for name in conditions}
    start = 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape))
        events[name] = cells[:, start:stop].reshape(number, *shape).astype("f4")
        start = stop
    schema = Schema.from_table(
        {
            "fields": {n: {"shape": list(s), "unit": "MeV"} for n, s in shapes.items()},
            "conditions": {name: {"unit": UNITS[name]} for name in conditions},
            **({"incident": "energy"} if "energy" in conditions else {}),
        }
    )
    scales = {name: SCALES[name] for name in conditions}
    encoding = Encoding.fit(
        ak.zip(events, depth_limit=1), schema, EncodingSettings(steps, scales), seed=1
    )
    networks = GANSettings((0,), generator=generator, discriminator="DENSE|1|LINEAR", **settings)
    return GAN.build(networks, encoding, seed=seed, geometry=geometry)

"""Small conditional sample with a known distribution, and a run file for it."""

from pathlib import Path

import awkward as ak
import numpy as np

from hepgan.data.io import writer
from hepgan.data.schema import Schema

TINY = """
seed = 1

[data]
files = ["{path}"]
tree = "events"

[schema.fields.a]
unit = "GeV"

[schema.fields.b]
shape = [2]

[schema.conditions.energy]
unit = "GeV"

[encoding]
steps = [{{ step = "copula", condition = "energy", windows = 8, per_window = 400 }}]

[encoding.conditions.energy]
range = [1.0, 10.0]

[gan]
latent = [0]
generator = "RES[COND, DENSE|8|LRELU, DENSE|N|LINEAR|ZERO]"
discriminator = "DENSE|16|LRELU, DENSE|1|LINEAR"

[train]
steps = 20
batch_size = 64
generator = {{ learning_rate = 1e-4 }}
discriminator = {{ learning_rate = 1e-4 }}
r1 = 1.0
r2 = 1.0
log_every = 5
validate_every = 10
checkpoint_every = 10
"""


def tiny_events(number: int, seed: int) -> ak.Array:
    """a = energy (1 + 0.1 u), b = (v, 0.8 v + 0.6 w), with u, v, w standard normal; energy uniform in 1 … 10 GeV."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(1, 10, number).astype("f4")
    u, v, w = rng.standard_normal((3, number))
    values = {
        "energy": energy,
        "a": (energy * (1 + 0.1 * u)).astype("f4"),
        "b": np.stack([v, 0.8 * v + 0.6 * w], 1),
    }
    return ak.zip(values, depth_limit=1)


def write_tiny(path: Path, events: ak.Array) -> None:
    schema = Schema.from_table(
        {
            "fields": {"a": {}, "b": {"shape": [2], "dtype": "float64"}},
            "conditions": {"energy": {}},
        }
    )
    writer.write(path, events, schema, tree="events")

"""A run file, and what is done with one: each function does what the command of its name does.

| to | use |
|---|---|
| read a preset or a run file | ``load``, ``presets`` |
| go the whole way: read, train, generate, compare, report | ``run`` |
| train only | ``train`` |
| generate with a trained GAN | ``generate`` |
| compare any ROOT files | ``evaluate`` |
"""

from hepgan.gan.devices import device_of
from hepgan.pipeline.commands import evaluate, generate, run
from hepgan.pipeline.config import (
    MEASURED,
    DataSettings,
    EvaluateSettings,
    RunConfig,
    as_toml,
    load,
    measured,
    presets,
    replaced,
)
from hepgan.pipeline.training import (
    Prepared,
    check_folder,
    make_validation,
    prepare,
    train,
)

__all__ = [
    "MEASURED",
    "DataSettings",
    "EvaluateSettings",
    "Prepared",
    "RunConfig",
    "as_toml",
    "check_folder",
    "device_of",
    "evaluate",
    "generate",
    "load",
    "make_validation",
    "measured",
    "prepare",
    "presets",
    "replaced",
    "run",
    "train",
]

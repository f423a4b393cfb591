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
from hepgan.run.file import (
    MEASURED,
    DataSettings,
    EvaluateSettings,
    Run,
    as_toml,
    load,
    measured,
    presets,
    replaced,
)
from hepgan.run.judging import evaluate, generate, run
from hepgan.run.training import Prepared, Tick, check_folder, prepare, train, watched

__all__ = [
    "MEASURED",
    "DataSettings",
    "EvaluateSettings",
    "Prepared",
    "Run",
    "Tick",
    "as_toml",
    "check_folder",
    "device_of",
    "evaluate",
    "generate",
    "load",
    "measured",
    "prepare",
    "presets",
    "replaced",
    "run",
    "train",
    "watched",
]

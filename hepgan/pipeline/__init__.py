"""Run files and the pipeline; each function does the work of the command of the same name.

| to | use |
|---|---|
| read a preset or a run file | ``load``, ``presets`` |
| propose a run file for ROOT files | ``init``, ``propose`` |
| run the full pipeline: train, generate, evaluate, report | ``run`` |
| train only | ``train`` |
| generate with a trained GAN | ``generate`` |
| evaluate any ROOT files | ``evaluate`` |
| write a model card | ``card`` |
| train with many settings, and find the best | ``scan`` |
"""

from hepgan.gan.devices import resolve_device
from hepgan.pipeline.card import card
from hepgan.pipeline.config import (
    DataSettings,
    EnsembleSettings,
    EvaluateSettings,
    RunConfig,
    as_toml,
    is_run_folder,
    load,
    replaced,
    setting,
)
from hepgan.pipeline.end_to_end import run
from hepgan.pipeline.evaluation import evaluate
from hepgan.pipeline.generation import generate, generate_command
from hepgan.pipeline.proposal import (
    about_model,
    init,
    is_data,
    parse,
    propose,
    propose_schema,
    stem,
)
from hepgan.pipeline.run_folder import check_folder
from hepgan.pipeline.scans import Trial, scan
from hepgan.pipeline.training import Prepared, prepare, train
from hepgan.pipeline.validation import make_validation
from hepgan.presets import PRESET_SCORES, preset_scores, preset_text, presets

__all__ = [
    "PRESET_SCORES",
    "DataSettings",
    "EnsembleSettings",
    "EvaluateSettings",
    "Prepared",
    "RunConfig",
    "Trial",
    "about_model",
    "as_toml",
    "card",
    "check_folder",
    "evaluate",
    "generate",
    "generate_command",
    "init",
    "is_data",
    "is_run_folder",
    "load",
    "make_validation",
    "parse",
    "prepare",
    "preset_scores",
    "preset_text",
    "presets",
    "propose",
    "propose_schema",
    "replaced",
    "resolve_device",
    "run",
    "scan",
    "setting",
    "stem",
    "train",
]

"""Generative adversarial networks for high-energy physics, straight from ROOT files.

| to | use |
|---|---|
| train from a run file, end to end | ``load_run``, ``hepgan.pipeline.run`` |
| generate events with a trained GAN | ``GAN.load``, ``GAN.sample``, ``Range``, ``Choice`` |
| read and write ROOT files | ``read``, ``write``, ``Schema``, ``Field`` |
| feed any network from ROOT files | ``Encoding``, ``UnsupervisedLoader``, ``StreamingLoader`` |
| describe networks by layouts | ``Layout``, ``parse_gan``, ``hepgan.layout`` |
| compare samples | ``compare``, ``score``, ``evaluate``, ``Observable``, ``LayerGeometry`` |
| write your own | ``register_observable``, ``register_metric``, ``register_objective``, ``register_step``, ``register_layer`` |
| import modules with your own | ``import_plugins`` |

Names are imported on first use. More: ``hepgan.pipeline`` (run files), ``hepgan.processors`` (coffea), ``hepgan.tmva`` and the command
``hepgan --help``.
"""

import importlib
from typing import Any

_MODULES = {
    "Batch": "hepgan.gan.training.objectives",
    "CheckpointError": "hepgan.errors",
    "Choice": "hepgan.gan.conditions",
    "Condition": "hepgan.gan.conditions",
    "ConditionScale": "hepgan.data.encoding.base",
    "DataError": "hepgan.errors",
    "DataSettings": "hepgan.pipeline.config",
    "Encoding": "hepgan.data.encoding.encoding",
    "EncodingSettings": "hepgan.data.encoding.encoding",
    "EnergySettings": "hepgan.gan.networks",
    "EnsembleSettings": "hepgan.pipeline.config",
    "Estimate": "hepgan.evaluation.metrics.statistics",
    "EvaluateSettings": "hepgan.pipeline.config",
    "Evaluation": "hepgan.evaluation.report.evaluation",
    "Field": "hepgan.data.schema",
    "GAN": "hepgan.gan.model",
    "GANSettings": "hepgan.gan.networks",
    "HepganError": "hepgan.errors",
    "LayerGeometry": "hepgan.evaluation.observables.geometry",
    "Layout": "hepgan.layout.spec.base",
    "LayoutError": "hepgan.errors",
    "NetworkSettings": "hepgan.gan.training.settings",
    "Objective": "hepgan.gan.training.objectives",
    "Observable": "hepgan.evaluation.observables.base",
    "ProgressCallback": "hepgan.progress",
    "Range": "hepgan.gan.conditions",
    "ReadOptions": "hepgan.data.io.reader",
    "RunConfig": "hepgan.pipeline.config",
    "RunError": "hepgan.errors",
    "Sample": "hepgan.evaluation.sample",
    "Schema": "hepgan.data.schema",
    "Score": "hepgan.evaluation.metrics.scores",
    "Scores": "hepgan.evaluation.metrics.scores",
    "StreamingLoader": "hepgan.data.loaders.streaming",
    "TrainSettings": "hepgan.gan.training.settings",
    "UnsupervisedLoader": "hepgan.data.loaders.in_memory",
    "chi_square_test": "hepgan.evaluation.metrics.histogram_tests",
    "compare": "hepgan.evaluation.histograms",
    "evaluate": "hepgan.evaluation.report.evaluation",
    "import_plugins": "hepgan.plugins",
    "kolmogorov_test": "hepgan.evaluation.metrics.histogram_tests",
    "load_run": "hepgan.pipeline.config",
    "observables_for": "hepgan.evaluation.observables.standard",
    "parse_gan": "hepgan.layout.parser",
    "progress_bar": "hepgan.progress",
    "read": "hepgan.data.io.reader",
    "register_builder": "hepgan.layout.spec.base",
    "register_layer": "hepgan.layout.spec.base",
    "register_metric": "hepgan.evaluation.metrics.scores",
    "register_objective": "hepgan.gan.training.objectives",
    "register_observable": "hepgan.evaluation.observables.base",
    "register_step": "hepgan.data.encoding.base",
    "score": "hepgan.evaluation.metrics.compute",
    "write": "hepgan.data.io.writer",
}
"""Public name -> its module; ``__init__.pyi`` has the same names for type checkers and editors."""

_ATTRIBUTES = {"load_run": "load"}
"""Name within its module, where it differs from the public one."""

_SUBPACKAGES = ("data", "evaluation", "gan", "layout", "pipeline", "processors", "tmva")

__all__ = list(_MODULES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"hepgan.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'hepgan' has no attribute '{name}'{_hint(name)}")
    value = getattr(importlib.import_module(_MODULES[name]), _ATTRIBUTES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBPACKAGES, "__version__"])


def _hint(name: str) -> str:
    from hepgan.errors import did_you_mean

    return did_you_mean(name, [*_MODULES, *_SUBPACKAGES])

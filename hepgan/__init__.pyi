"""Types of the public names, which ``__init__.py`` imports on first use."""

from hepgan import data as data
from hepgan import evaluation as evaluation
from hepgan import gan as gan
from hepgan import layout as layout
from hepgan import pipeline as pipeline
from hepgan import processors as processors
from hepgan import tmva as tmva
from hepgan.data.encoding.base import register_step as register_step
from hepgan.data.encoding.conditions import ConditionScale as ConditionScale
from hepgan.data.encoding.encoding import Encoding as Encoding
from hepgan.data.encoding.encoding import EncodingSettings as EncodingSettings
from hepgan.data.io.reader import ReadOptions as ReadOptions
from hepgan.data.io.reader import read as read
from hepgan.data.io.writer import write as write
from hepgan.data.loaders.in_memory import UnsupervisedLoader as UnsupervisedLoader
from hepgan.data.loaders.streaming import StreamingLoader as StreamingLoader
from hepgan.data.schema import Field as Field
from hepgan.data.schema import Schema as Schema
from hepgan.errors import CheckpointError as CheckpointError
from hepgan.errors import DataError as DataError
from hepgan.errors import HepganError as HepganError
from hepgan.errors import LayoutError as LayoutError
from hepgan.errors import RunError as RunError
from hepgan.evaluation.histograms import compare as compare
from hepgan.evaluation.metrics.compute import score as score
from hepgan.evaluation.metrics.histogram_tests import chi_square_test as chi_square_test
from hepgan.evaluation.metrics.histogram_tests import kolmogorov_test as kolmogorov_test
from hepgan.evaluation.metrics.scores import Score as Score
from hepgan.evaluation.metrics.scores import Scores as Scores
from hepgan.evaluation.metrics.scores import register_metric as register_metric
from hepgan.evaluation.metrics.statistics import Estimate as Estimate
from hepgan.evaluation.observables.base import Observable as Observable
from hepgan.evaluation.observables.base import register_observable as register_observable
from hepgan.evaluation.observables.geometry import LayerGeometry as LayerGeometry
from hepgan.evaluation.observables.standard import observables_for as observables_for
from hepgan.evaluation.report.evaluation import Evaluation as Evaluation
from hepgan.evaluation.report.evaluation import evaluate as evaluate
from hepgan.evaluation.sample import Sample as Sample
from hepgan.gan.conditions import Choice as Choice
from hepgan.gan.conditions import Condition as Condition
from hepgan.gan.conditions import Range as Range
from hepgan.gan.model import GAN as GAN
from hepgan.gan.networks import EnergySettings as EnergySettings
from hepgan.gan.networks import GANSettings as GANSettings
from hepgan.gan.training.objectives import Batch as Batch
from hepgan.gan.training.objectives import Objective as Objective
from hepgan.gan.training.objectives import register_objective as register_objective
from hepgan.gan.training.settings import NetworkSettings as NetworkSettings
from hepgan.gan.training.settings import TrainSettings as TrainSettings
from hepgan.layout.parser import parse_gan as parse_gan
from hepgan.layout.spec.base import Layout as Layout
from hepgan.layout.spec.base import register_builder as register_builder
from hepgan.layout.spec.base import register_layer as register_layer
from hepgan.pipeline.config import DataSettings as DataSettings
from hepgan.pipeline.config import EnsembleSettings as EnsembleSettings
from hepgan.pipeline.config import EvaluateSettings as EvaluateSettings
from hepgan.pipeline.config import RunConfig as RunConfig
from hepgan.pipeline.config import load as load_run
from hepgan.plugins import import_plugins as import_plugins
from hepgan.progress import ProgressCallback as ProgressCallback
from hepgan.progress import progress_bar as progress_bar

__version__: str
__all__ = [
    "GAN",
    "Batch",
    "CheckpointError",
    "Choice",
    "Condition",
    "ConditionScale",
    "DataError",
    "DataSettings",
    "Encoding",
    "EncodingSettings",
    "EnergySettings",
    "EnsembleSettings",
    "Estimate",
    "EvaluateSettings",
    "Evaluation",
    "Field",
    "GANSettings",
    "HepganError",
    "LayerGeometry",
    "Layout",
    "LayoutError",
    "NetworkSettings",
    "Objective",
    "Observable",
    "ProgressCallback",
    "Range",
    "ReadOptions",
    "RunConfig",
    "RunError",
    "Sample",
    "Schema",
    "Score",
    "Scores",
    "StreamingLoader",
    "TrainSettings",
    "UnsupervisedLoader",
    "chi_square_test",
    "compare",
    "evaluate",
    "import_plugins",
    "kolmogorov_test",
    "load_run",
    "observables_for",
    "parse_gan",
    "progress_bar",
    "read",
    "register_builder",
    "register_layer",
    "register_metric",
    "register_objective",
    "register_observable",
    "register_step",
    "score",
    "write",
]

"""Tracking of trainings with TensorBoard, MLflow or Weights & Biases: settings, rows of the history, and final scores.

Each is a context manager that yields a ``Tracker``; its library is imported on use only.
"""

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from hepgan.config import to_table
from hepgan.errors import RunError
from hepgan.evaluation.metrics.scores import OVERALL, Scores
from hepgan.gan.training.history import Row
from hepgan.pipeline.config import RunConfig, as_toml
from hepgan.pipeline.run_folder import flat

PARAMETERS = 100
"""Largest number of parameters that MLflow takes at once."""

LONGEST = 500
"""Largest number of characters of a parameter in MLflow."""


class Tracker(NamedTuple):
    """Destination of a training's numbers.

    Attributes:
        numbers: Called with numbers by name and the step.
        summary: Called with the final scores by name.
    """

    numbers: Callable[[Mapping[str, float], int], None]
    summary: Callable[[Mapping[str, float]], None]

    def row(self, row: Row) -> None:
        """Records a row of the history."""
        self.numbers({name: v for name, v in row.items() if name != "step"}, int(row["step"]))

    def renamed(self, prefix: str) -> "Tracker":
        """Returns the tracker with ``prefix`` in front of the names of numbers."""
        return Tracker(
            lambda values, step: self.numbers(
                {prefix + name: v for name, v in values.items()}, step
            ),
            self.summary,
        )

    def scores(self, scores: Scores) -> None:
        """Records the scores of all observables together, by sample and metric."""
        overall = (score for score in scores if score.observable == OVERALL)
        self.summary({f"{s.source}/{s.metric}": s.value for s in overall})


@contextmanager
def tensorboard(run: RunConfig, folder: Path) -> Iterator[Tracker]:
    """Context manager that yields a tracker that writes event files into the folder ``tensorboard`` of the run folder."""
    library = _library("tensorboard")
    writer = library.SummaryWriter(log_dir=str(folder / "tensorboard"))
    try:
        writer.add_text("run.toml", f"```toml\n{as_toml(run)}\n```")

        def numbers(values: Mapping[str, float], step: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, global_step=step)

        yield Tracker(numbers, lambda scores: numbers(scores, run.steps))
    finally:
        writer.close()


@contextmanager
def mlflow(run: RunConfig, folder: Path) -> Iterator[Tracker]:
    """Context manager that yields a tracker of MLflow, whose server and experiment are those of its environment variables."""
    library = _library("mlflow")
    parameters = [(name, str(v)[:LONGEST]) for name, v in flat(to_table(run)).items()]
    with library.start_run(run_name=folder.name):
        for start in range(0, len(parameters), PARAMETERS):
            library.log_params(dict(parameters[start : start + PARAMETERS]))
        library.log_text(as_toml(run), "run.toml")
        yield Tracker(
            lambda values, step: library.log_metrics(dict(values), step=step),
            lambda scores: library.log_metrics(dict(scores), step=run.steps),
        )


@contextmanager
def wandb(run: RunConfig, folder: Path) -> Iterator[Tracker]:
    """Context manager that yields a tracker of Weights & Biases, whose project is that of its environment variables."""
    library = _library("wandb")
    with library.init(name=folder.name, config=to_table(run)) as tracked:
        tracked.define_metric("*", step_metric="step")  # members start again at step 0
        yield Tracker(
            lambda values, step: tracked.log({**values, "step": step}),
            lambda scores: tracked.summary.update(dict(scores)),
        )


TRACKERS: dict[str, Callable[[RunConfig, Path], AbstractContextManager[Tracker]]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
}
"""Context managers of trackers, by name."""


@contextmanager
def tracked(run: RunConfig, folder: Path, names: Sequence[str]) -> Iterator[list[Tracker]]:
    """Context manager that yields the trackers called ``names``.

    Raises:
        RunError: there is no such tracker, or its library is not installed.
    """
    if unknown := set(names) - set(TRACKERS):
        raise RunError(f"track = '{min(unknown)}' is not one of {', '.join(TRACKERS)}")
    for name in names:
        _library(name)
    with ExitStack() as stack:
        # Opened with the first numbers: before, the run may turn out to be invalid, and its folder has to be empty.
        opened = functools.cache(lambda name: stack.enter_context(TRACKERS[name](run, folder)))
        yield [_opened_later(opened, name) for name in dict.fromkeys(names)]


def _opened_later(opened: Callable[[str], Tracker], name: str) -> Tracker:
    return Tracker(
        lambda values, step: opened(name).numbers(values, step),
        lambda scores: opened(name).summary(scores),
    )


LIBRARIES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""Module of each tracker."""


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(LIBRARIES[name])
    except ImportError as error:
        raise RunError(
            f"--track {name} needs the package {name}: pip install {name} ({error})"
        ) from error

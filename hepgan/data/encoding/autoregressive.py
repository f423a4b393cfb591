"""The encoding step ``autoregressive``: normal scores of columns, each conditional on the conditions and the columns before it."""

import dataclasses
from typing import Annotated, Self

import torch
from torch import Tensor

from hepgan.config import Within
from hepgan.data.encoding.base import (
    ColumnLayout,
    Noise,
    NotNegative,
    Positive,
    register_step,
    uniform,
)
from hepgan.data.encoding.density.distributions import (
    LogisticSpline,
    Tails,
    standard_spline,
)
from hepgan.data.encoding.density.network import (
    FitSettings,
    FitStatus,
    FitTask,
    Fitted,
    RowNetwork,
    Rows,
    about_fit,
    check_events,
    fill_vectors,
    fit_rows,
    run_tasks,
)
from hepgan.data.encoding.density.ranks import Ranks
from hepgan.errors import RunError
from hepgan.progress import ProgressCallback, no_progress
from hepgan.random_streams import torch_generator

_PASSES = 25.0
"""Largest number of times that the fit sees each event: in more, networks learn few events by heart."""


@register_step("autoregressive")
@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """Normal scores of a table or of shower-level variables; values that many events share are reproduced exactly.

    The tails of a column continue beyond the training data, unless it ends abruptly, as at a cut.

    Attributes:
        columns: ``[K]`` columns of ``x``, in order.
        conditions: ``[C]`` columns of ``c`` on which the distributions depend.
        ranks: Ranks of each column.
        calibration: Ranks of the conditional scores of each column, which make their distributions exactly normal.
        networks: Network of the distribution of each column's rank scores, given those of the columns before it.
        log_likelihood: Log-likelihood of the rank scores per held-out event, in nats.
        events: Number of events of the fit.
    """

    columns: Tensor
    conditions: Tensor
    ranks: tuple[Ranks, ...]
    calibration: tuple[Ranks, ...]
    networks: tuple[RowNetwork, ...]
    log_likelihood: float
    events: int

    @classmethod
    def fit(
        cls,
        x: Tensor,
        c: Tensor,
        columns: ColumnLayout,
        noise: Noise,
        progress: ProgressCallback = no_progress,
        weights: Tensor | None = None,
        start: Self | None = None,
        *,
        fields: tuple[str, ...] = (),
        conditions: tuple[str, ...] = (),
        hidden: Annotated[int, Within(1, 4096)] = 96,
        steps: Annotated[int, Within(1, 10**7)] = 2500,
        learning_rate: Positive = 2e-3,
        weight_decay: NotNegative = 1e-3,
        held_out: Annotated[float, Within(0, 0.9, above=True)] = 0.1,
    ) -> Self:
        """Fits a network to each column, in parallel on the threads of torch.

        Args:
            x: Features ``[E, F]``.
            c: Encoded conditions ``[E, C]``.
            columns: Columns of the fields and conditions.
            noise: Random numbers.
            progress: Progress callback.
            weights: Weights ``[E]`` of the events, which add up to E and may be negative.
            start: Step whose networks a second fit starts from, with a quarter of the steps; held-out events choose between both.
            fields: Fields, or ``appended``; all columns by default.
            conditions: Conditions on which the distributions depend; all by default.
            hidden: Number of hidden units of each network.
            steps: Largest number of optimizer steps of each network; few events take fewer.
            learning_rate: Largest learning rate.
            weight_decay: Decoupled weight decay.
            held_out: Fraction of the events whose likelihood chooses the best of ten states of each network.

        Raises:
            RunError: an unknown field or condition.
            DataError: too few events.
        """
        at = columns.mask(fields, x.shape[1]).nonzero()[:, 0]
        chosen = columns.condition_columns(conditions)
        check_events(len(x))
        values = x[:, at]
        ranks = tuple(Ranks.fit(column, weights, tails=True) for column in values.unbind(1))
        scores = _rank_scores(ranks, values, uniform(values, noise))
        settings = FitSettings(hidden, steps, 512, learning_rate, weight_decay, held_out, _PASSES)
        known = c[:, chosen].float()
        single = None if weights is None else weights.to(scores)
        if start and len(start.networks) != len(at):
            raise RunError(
                f"the step to start from describes {len(start.networks)} columns, but here there are {len(at)}"
            )

        def task(number: int) -> FitTask:
            def fit(status: FitStatus) -> Fitted:
                def likelihood(parameters: Tensor, rows: Tensor) -> Tensor:
                    spline = LogisticSpline.of(parameters)
                    each = spline.cdf_and_log_density(scores[None, rows, number])[1]
                    return each.sum() if single is None else each[0] @ single[rows]

                rng = torch_generator(noise.seed, "encoding", *noise.children, number)
                rows = Rows.of_events(torch.cat([known, scores[:, :number]], 1))
                network = start.networks[number] if start else None
                return fit_rows(rows, likelihood, standard_spline(), rng, settings, status, network)

            return fit

        fitted = run_tasks([task(number) for number in range(len(at))], progress)
        networks = tuple(result.network for result in fitted)
        conditional = _conditional_scores(networks, known, scores)
        calibration = tuple(Ranks.fit(column, weights) for column in conditional.unbind(1))
        return cls(
            at,
            chosen,
            ranks,
            calibration,
            networks,
            sum(result.log_likelihood for result in fitted),
            len(x),
        )

    def summary(self) -> str:
        """Returns the networks and the quality of the fit in one line."""
        return about_fit(self.networks, self.log_likelihood, self.events)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns normal scores in the columns of the step."""
        values = x[:, self.columns]
        ranks = _rank_scores(self.ranks, values, uniform(values, noise))
        scores = _conditional_scores(self.networks, c[:, self.conditions].to(ranks), ranks)
        calibrated = _rank_scores(
            self.calibration, scores, uniform(values, noise.child("calibration"))
        )
        return x.float().index_copy(1, self.columns, calibrated)

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns the values, one column after the other."""
        return fill_vectors(self._decode, x, c)

    def _decode(self, x: Tensor, c: Tensor) -> Tensor:
        known = c[:, self.conditions].to(x)
        scores = x[:, self.columns]
        ranks, values = x[:, :0], []
        for number, column in enumerate(self.ranks):
            conditional = self.calibration[number].decode(scores[:, number])
            spline = _spline(self.networks[number], known, ranks)
            score = spline.quantile(Tails.of_scores(conditional))
            ranks = torch.cat([ranks, score[:, None]], 1)
            values.append(column.decode(score))
        return x.index_copy(1, self.columns, torch.stack(values, 1))


def _spline(network: RowNetwork, known: Tensor, ranks: Tensor) -> LogisticSpline:
    return LogisticSpline.of(network(*Rows.of_events(torch.cat([known, ranks], 1))))


def _conditional_scores(networks: tuple[RowNetwork, ...], known: Tensor, ranks: Tensor) -> Tensor:
    """Returns the scores ``[E, K]`` of ``ranks[E, K]``, each given the columns before it."""
    columns = []
    for number, network in enumerate(networks):
        spline = _spline(network, known, ranks[:, :number])
        columns.append(spline.cdf(ranks[None, :, number]).scores()[0])
    return torch.stack(columns, 1)


def _rank_scores(ranks: tuple[Ranks, ...], values: Tensor, drawn: Tensor) -> Tensor:
    scores = [
        column.encode(values[:, number], drawn[:, number]) for number, column in enumerate(ranks)
    ]
    return torch.stack(scores, 1)

"""Small networks that give parameters of distributions, one row per node of an event, and their fit by maximum likelihood."""

import concurrent.futures
import contextvars
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from hepgan.data.encoding.base import NAMES, NETWORKS, tensor_record
from hepgan.errors import DataError, RunError
from hepgan.progress import ProgressCallback, no_progress
from hepgan.threads import one_thread_each

VECTOR = 32
"""Multiple of the numbers in a CPU's vector registers. The last numbers of a tensor that do not fill them are rounded differently."""


_BLOCK = 1024
"""Number of rows whose hidden units are in memory at the same time."""


def fill_vectors(
    decode: Callable[[Tensor, Tensor], Tensor], x: Tensor, c: Tensor, filler: float = 0.0
) -> Tensor:
    """Returns ``decode(x, c)``, in which no event depends on the number of events: on the CPU, ``decode`` gets a multiple of ``VECTOR``.

    The other events are full of the number ``filler``.
    """
    # In this order: exported programs accept batches of any size.
    if torch.compiler.is_compiling() or x.device.type != "cpu" or len(x) % VECTOR == 0:
        return decode(x, c)
    missing = -len(x) % VECTOR
    filled = (functional.pad(values, (0, 0, 0, missing), value=filler) for values in (x, c))
    return decode(*filled)[: len(x)]


@tensor_record
@dataclasses.dataclass(frozen=True)
class RowNetwork:
    """Network of two layers with a residual connection, shared by the nodes of an event.

    A row has features of its own, the context of its event, and a node, whose constants are added to the hidden units and the outputs.

    Attributes:
        features: ``[f, H]`` weights.
        context: ``[q, H]`` weights.
        context_bias: ``[H]``.
        context_hidden: ``[H, H]`` weights.
        nodes: ``[N, H]``, constants of the nodes.
        hidden: ``[H, H]`` weights.
        hidden_bias: ``[H]``.
        output: ``[H, P]`` weights.
        output_bias: ``[N, P]``.
    """

    features: Tensor
    context: Tensor
    context_bias: Tensor
    context_hidden: Tensor
    nodes: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    output: Tensor
    output_bias: Tensor

    @classmethod
    def initial(
        cls, features: int, context: int, outputs: Tensor, hidden: int, rng: torch.Generator
    ) -> Self:
        """Returns a network with random weights, whose outputs are nearly ``outputs[N, P]``."""

        def normal(rows: int, columns: int, std: float) -> Tensor:
            return torch.randn(rows, columns, generator=rng) * std

        return cls(
            normal(features, hidden, 1 / math.sqrt(max(1, features))),
            normal(context, hidden, 1 / math.sqrt(max(1, context))),
            torch.zeros(hidden),
            normal(hidden, hidden, 1 / math.sqrt(hidden)),
            normal(len(outputs), hidden, 0.02),
            normal(hidden, hidden, 1 / math.sqrt(hidden)),
            torch.zeros(hidden),
            normal(hidden, outputs.shape[1], 0.02),
            outputs.clone(),
        )

    def __call__(self, features: Tensor, context: Tensor, event: Tensor, node: Tensor) -> Tensor:
        """Returns the outputs ``[P, R]`` of R rows.

        Args:
            features: ``[R, f]``.
            context: ``[E, q]`` of the events.
            event: ``[R]``, index of each row's event.
            node: ``[R]``, index of each row's node.
        """
        known = functional.silu(torch.addmm(self.context_bias, context, self.context))
        known = known @ self.context_hidden
        # In place, because new tensors of this size take as long as the products.
        x = known.index_select(0, event).add_(self.nodes.index_select(0, node))
        x = functional.silu(x.addmm_(features, self.features))
        x = functional.silu(torch.addmm(self.hidden_bias, x, self.hidden)).add_(x)
        bias = self.output_bias.T.contiguous().index_select(1, node)
        return bias.addmm_(self.output.T, x.T)

    @torch.no_grad()
    def by_blocks(self, features: Tensor, context: Tensor, event: Tensor, node: Tensor) -> Tensor:
        """Returns the outputs ``[R, P]``, without gradients: the rows take turns in a memory that fits into the CPU's cache.

        Args:
            features: ``[f, R]``.
            context: ``[E, q]``.
            event: ``[R]``.
            node: ``[R]``.
        """
        known = functional.silu(torch.addmm(self.context_bias, context, self.context))
        known = known @ self.context_hidden
        outputs = self.output_bias.index_select(0, node)
        first, second = features.new_empty(2, _BLOCK, self.hidden.shape[0])
        for start in range(0, len(node), _BLOCK):
            rows = slice(start, start + _BLOCK)
            size = len(node[rows])
            x, y = first[:size], second[:size]
            torch.index_select(known, 0, event[rows], out=x)
            x += torch.index_select(self.nodes, 0, node[rows], out=y)
            functional.silu(x.addmm_(features[:, rows].T, self.features), inplace=True)
            torch.addmm(self.hidden_bias, x, self.hidden, out=y)
            x += functional.silu(y, inplace=True)
            outputs[rows].addmm_(x, self.output)
        return outputs

    @property
    def parameters(self) -> int:
        """Number of weights and constants."""
        return sum(int(getattr(self, field.name).numel()) for field in dataclasses.fields(self))

    def standardized_inputs(self, features: "Scale", context: "Scale") -> Self:
        """Returns the network that standardizes its inputs itself: ``self`` was fitted to standardized ones."""
        return dataclasses.replace(
            self,
            features=self.features / features.std[:, None],
            nodes=self.nodes - (features.mean / features.std) @ self.features,
            context=self.context / context.std[:, None],
            context_bias=self.context_bias - (context.mean / context.std) @ self.context,
        )

    def for_standardized_inputs(self, features: "Scale", context: "Scale") -> Self:
        """Returns the network for standardized inputs that ``standardized_inputs`` maps to ``self``."""
        return dataclasses.replace(
            self,
            features=self.features * features.std[:, None],
            nodes=self.nodes + features.mean @ self.features,
            context=self.context * context.std[:, None],
            context_bias=self.context_bias + context.mean @ self.context,
        )


NAMES[RowNetwork] = "row_network"  # saved with steps, but not a step of run files
NETWORKS.add(RowNetwork)


class Scale(NamedTuple):
    """Mean and standard deviation of columns."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Self:
        """Returns the scale of ``x[R, f]``; constant columns have a standard deviation of 1."""
        if not x.numel():
            return cls(x.new_zeros(x.shape[1]), x.new_ones(x.shape[1]))
        std, mean = torch.std_mean(x, 0, correction=0)
        return cls(mean, torch.where(std > 1e-6, std, torch.ones_like(std)))

    def __call__(self, x: Tensor) -> Tensor:
        """Returns ``x[R, f]`` with mean 0 and standard deviation 1."""
        return (x - self.mean) / self.std


class Rows(NamedTuple):
    """Rows of events, sorted by event, for a fit.

    Attributes:
        features: ``[R, f]``.
        context: ``[E, q]``.
        event: ``[R]``.
        node: ``[R]``.
    """

    features: Tensor
    context: Tensor
    event: Tensor
    node: Tensor

    @classmethod
    def of_events(cls, context: Tensor) -> Self:
        """Returns one row per event, without features."""
        events = context.shape[0]  # not `len`, which exported programs would take for a constant
        every = torch.arange(events, device=context.device)
        return cls(context.new_empty(events, 0), context, every, torch.zeros_like(every))


_LEAST_STEPS = 100
"""Number of optimizer steps to which a limit of passes does not apply."""


class FitSettings(NamedTuple):
    """Settings of a fit.

    Attributes:
        hidden: H, number of hidden units.
        steps: Number of optimizer steps.
        rows: Typical number of rows of a step.
        learning_rate: Largest learning rate of a one-cycle schedule.
        weight_decay: Decoupled weight decay.
        held_out: Fraction of the events whose likelihood chooses the best of ten states of the fit.
        passes: Largest number of times that the fit sees each event, which may take fewer than ``steps``.
    """

    hidden: int = 96
    steps: int = 2500
    rows: int = 1024
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    held_out: float = 0.1
    passes: float = math.inf

    def for_batches(self, batches: float) -> Self:
        """Returns the settings of a fit to so many batches of events."""
        most = max(_LEAST_STEPS, self.passes * batches)
        return self._replace(steps=math.ceil(min(self.steps, most)))

    @property
    def from_start(self) -> Self:
        """Settings of a fit that starts from a fitted network: a quarter of the steps, at a quarter of the learning rate."""
        return self._replace(steps=max(1, self.steps // 4), learning_rate=self.learning_rate / 4)


class Fitted(NamedTuple):
    """Fitted network, and its log-likelihood per held-out event."""

    network: RowNetwork
    log_likelihood: float


LEAST_EVENTS = 100
"""Smallest number of events to which networks are fitted."""


def check_events(events: int) -> None:
    """Checks that there are enough events for a fit.

    Raises:
        DataError: too few events.
    """
    if events < LEAST_EVENTS:
        raise DataError(
            f"its networks need at least {LEAST_EVENTS} events, but there are {events}; use more events, or the step 'standardize'"
        )


def about_fit(networks: Sequence[RowNetwork], log_likelihood: float, events: int) -> str:
    """Returns the size of a fitted step, its log-likelihood per held-out event, and its number of events."""
    count = "1 network" if len(networks) == 1 else f"{len(networks)} networks"
    parameters = sum(network.parameters for network in networks)
    return (
        f"{count} with {parameters:,} parameters fitted to {events:,} events,"
        f" log-likelihood {log_likelihood:.2f} per held-out event"
    )


INTERVAL = 0.5
"""Interval between two calls of the progress callback [s]."""


@dataclasses.dataclass
class FitStatus:
    """Status of a fit, shared by its thread and the thread that waits for it.

    Attributes:
        cancelled: Set to end the fit.
        done: Fraction of the fit that is done.
    """

    cancelled: threading.Event
    done: float = 0.0

    def check(self) -> None:
        """Ends the fit if it has been cancelled.

        Raises:
            CancelledError: the fit has been cancelled.
        """
        if self.cancelled.is_set():
            raise concurrent.futures.CancelledError


FitTask = Callable[[FitStatus], Fitted]
"""Fit that updates its status, and checks it at least every few steps."""


class _Data(NamedTuple):
    """Rows by event, and their likelihood.

    Attributes:
        rows: Inputs of the network.
        log_likelihood: Summed log-likelihood of rows, from outputs ``[P, r]`` and row indices ``[r]``.
        features: Scale of the features.
        context: Scale of the context.
        counts: ``[E]``, number of rows of each event.
        starts: ``[E]``, first row of each event.
    """

    rows: Rows
    log_likelihood: Callable[[Tensor, Tensor], Tensor]
    features: Scale
    context: Scale
    counts: Tensor
    starts: Tensor

    @classmethod
    def of(cls, rows: Rows, log_likelihood: Callable[[Tensor, Tensor], Tensor]) -> Self:
        counts = torch.bincount(rows.event, minlength=len(rows.context))
        scales = Scale.of(rows.features), Scale.of(rows.context)
        return cls(rows, log_likelihood, *scales, counts, counts.cumsum(0) - counts)

    def of_events(self, network: RowNetwork, events: Tensor) -> Tensor:
        """Returns the summed log-likelihood of the events ``[e]``."""
        count = self.counts[events]
        event = torch.repeat_interleave(count)
        first = (self.starts[events] - (count.cumsum(0) - count))[event]
        at = first + torch.arange(len(event))
        # Several times faster than indexing.
        features = self.features(self.rows.features.index_select(0, at))
        context = self.context(self.rows.context.index_select(0, events))
        output = network(features, context, event, self.rows.node[at])
        return self.log_likelihood(output, at)

    @torch.no_grad()
    def mean(self, network: RowNetwork, events: Tensor, at_once: int, status: "FitStatus") -> float:
        """Returns the mean log-likelihood of the events ``[e]``, of which so many are evaluated at once."""
        total = 0.0
        for part in torch.split(events, at_once):
            status.check()
            total += float(self.of_events(network, part))
        return total / len(events)


def fit_rows(
    rows: Rows,
    log_likelihood: Callable[[Tensor, Tensor], Tensor],
    outputs: Tensor,
    rng: torch.Generator,
    settings: FitSettings,
    status: FitStatus,
    start: RowNetwork | None = None,
) -> Fitted:
    """Returns the network that maximizes the likelihood.

    Args:
        rows: Inputs of the network.
        log_likelihood: Summed log-likelihood of a selection of rows, from outputs ``[P, r]`` and row indices ``[r]``; weighted with
            weights that are 1 on average if the events have weights.
        outputs: ``[N, P]``, outputs of each node to start from.
        rng: Generator of weights, split and order.
        settings: Size and schedule.
        status: Status of the fit.
        start: Network to start from in a second fit, such as one fitted to other events. The network that the held-out events prefer
            is returned: this fit, that from random weights, or ``start`` as it is.

    Raises:
        CancelledError: the fit has been cancelled.
        RunError: ``start`` is a network of another size.
    """
    data = _Data.of(rows, log_likelihood)
    network = RowNetwork.initial(
        rows.features.shape[1], rows.context.shape[1], outputs, settings.hidden, rng
    )
    if start is None:
        return _fit(data, network, rng, settings, status)
    _check_start(start, network)
    state = rng.get_state()
    best = _fit(data, network, rng, settings, status, part=(0.0, 0.8))
    rng.set_state(state)  # so that the same events are held out
    standardized = start.for_standardized_inputs(data.features, data.context)
    few = settings.from_start
    tuned = _fit(data, standardized, rng, few, status, part=(0.8, 1.0), keep=True)
    return max(tuned, best, key=lambda fitted: fitted.log_likelihood)


def _fit(
    data: _Data,
    network: RowNetwork,
    rng: torch.Generator,
    settings: FitSettings,
    status: FitStatus,
    *,
    part: tuple[float, float] = (0.0, 1.0),
    keep: bool = False,
) -> Fitted:
    """Returns the best of ten states of a fit that starts from ``network``, and with ``keep`` of this network itself.

    The fit is the ``part`` of all the work from its first to its second fraction.
    """
    rows, events = data.rows, len(data.rows.context)
    order = torch.randperm(events, generator=rng)
    held_out, train = order.tensor_split([max(1, round(settings.held_out * events))])
    train = train if len(train) else held_out
    per_event = max(1e-3, len(rows.event) / events)
    batch = min(len(train), max(32, round(settings.rows / per_event)))
    at_once = max(32, 8 * batch)

    weights = [getattr(network, field.name) for field in dataclasses.fields(network)]
    best = data.mean(network, held_out, at_once, status) if keep else -math.inf
    kept = [w.detach().clone() for w in weights]
    settings = settings.for_batches(len(train) / batch)
    every = max(1, settings.steps // 10)
    steps = _optimized(data, network, weights, train, batch, rng, settings)
    for step, _ in enumerate(steps, start=1):
        status.check()
        if step % every == 0:
            value = data.mean(network, held_out, at_once, status)
            if value > best:
                best, kept = value, [w.detach().clone() for w in weights]
        status.done = part[0] + (part[1] - part[0]) * step / settings.steps
    names = (field.name for field in dataclasses.fields(network))
    fitted = RowNetwork(**dict(zip(names, kept, strict=True)))
    return Fitted(fitted.standardized_inputs(data.features, data.context), best)


def _optimized(
    data: _Data,
    network: RowNetwork,
    weights: list[Tensor],
    events: Tensor,
    batch: int,
    rng: torch.Generator,
    settings: FitSettings,
) -> Iterator[None]:
    """Changes the weights of a network in every step, for batches of ``events[e]`` in random order."""
    optimizer = torch.optim.AdamW(
        [w.requires_grad_() for w in weights],
        lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99), fused=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, max(2, settings.steps + 1), pct_start=0.15
    )
    waiting = events[:0]
    for _ in range(settings.steps):
        if len(waiting) < batch:
            waiting = events[torch.randperm(len(events), generator=rng)]
        selected, waiting = waiting[:batch], waiting[batch:]
        loss = -data.of_events(network, selected) / batch
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        schedule.step()
        yield


def _check_start(start: RowNetwork, network: RowNetwork) -> None:
    for field in dataclasses.fields(network):
        there, here = (tuple(getattr(one, field.name).shape) for one in (start, network))
        if there != here:
            raise RunError(
                f"the network to start from has '{field.name}' of shape {list(there)}, but here it is {list(here)}; use the same"
                " layers, conditions and 'hidden'"
            )


def run_tasks(tasks: Sequence[FitTask], progress: ProgressCallback = no_progress) -> list[Fitted]:
    """Returns the results of all tasks, which run in parallel on as many threads as torch has, one for each task.

    An exception in the thread that waits for them, such as that of Ctrl-C, ends them, as does the failure of one of them.
    """
    cancelled, started = threading.Event(), time.monotonic()
    statuses = [FitStatus(cancelled) for _ in tasks]
    title = "1 network" if len(tasks) == 1 else f"{len(tasks)} networks"
    with one_thread_each() as pool:
        futures = [
            pool.submit(contextvars.copy_context().run, task, status)
            for task, status in zip(tasks, statuses, strict=True)
        ]
        try:
            waiting = set(futures)
            while waiting:
                ended, waiting = concurrent.futures.wait(
                    waiting, INTERVAL, concurrent.futures.FIRST_EXCEPTION
                )
                for future in ended:
                    future.result()
                done = sum(status.done for status in statuses) / len(statuses)
                progress(title, done, f"{time.monotonic() - started:.0f} s")
            return [future.result() for future in futures]
        except BaseException:
            cancelled.set()
            for future in futures:
                future.cancel()
            raise

"""``energy_tree`` and ``autoregressive``: conditional, invertible, exact in sums, zeros and shared values, and differentiable."""

import dataclasses
import itertools
import re
import threading

import awkward as ak
import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor
from torch.nn import functional

from hepgan.data.encoding import kernels
from hepgan.data.encoding.autoregressive import Autoregressive
from hepgan.data.encoding.base import ColumnLayout, Noise
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.density import network as fits
from hepgan.data.encoding.density.distributions import (
    SPLINE,
    SPLIT,
    LogisticSpline,
    Split,
    Tails,
    signed_tail_scores,
    signed_tails,
    split_constants,
    split_log_likelihood,
    standard_spline,
)
from hepgan.data.encoding.density.kernels import split_energies, split_tails
from hepgan.data.encoding.density.levels import build_levels
from hepgan.data.encoding.density.network import RowNetwork
from hepgan.data.encoding.density.ranks import Ranks
from hepgan.data.encoding.density.spectrum import Spectrum
from hepgan.data.encoding.density.tree import block_energies, context_of
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.encoding.energy_tree import EnergyTree
from hepgan.data.encoding.steps import are_weights, map_tensors, pack_step, step_to, unpack_step
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, DataError, RunError
from hepgan.progress import ProgressCallback, no_progress

SHAPES = {"front": (2, 8), "back": (3, 5), "tail": ()}
SIZES = {"front": 16, "back": 15, "tail": 1}
THRESHOLD = 0.05


def columns() -> ColumnLayout:
    """Returns three layers in MeV, of which the last is a single cell, an incident energy and a position."""
    ends = np.cumsum(list(SIZES.values())).tolist()
    fields = {
        name: slice(end - size, end) for (name, size), end in zip(SIZES.items(), ends, strict=True)
    }
    units = dict.fromkeys(fields, "MeV") | {"energy": "GeV", "y": "mm"}
    scales = {"energy": ConditionScale((1.0, 10.0), "log"), "y": ConditionScale((-1.0, 1.0))}
    return ColumnLayout(fields, units, {"energy": slice(0, 1), "y": slice(1, 2)}, scales, SHAPES)


def showers(events: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns cells ``[E, 32]`` and conditions: a spot at ``y``, a sampling fraction of about 1, and often nothing in the last layers."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(-1, 1, (events, 2))
    energy = 1000 * np.exp((c[:, 0] + 1) / 2 * np.log(10))
    total = energy * rng.normal(1, 0.05, events)
    depth = 0.5 + 0.2 * c[:, 0] + rng.normal(0, 0.1, events)
    layers = np.stack([1 - depth, depth, 0.1 * np.maximum(depth - 0.6, 0)], 1).clip(0)
    layers *= (total / layers.sum(1))[:, None]
    layers[rng.random(events) < 0.05, 1:] = 0
    parts = []
    for (name, shape), energies in zip(SHAPES.items(), layers.T, strict=True):
        rows, cells = shape or (1, 1)
        across = np.arange(cells) / max(1, cells - 1) * 2 - 1
        spot = np.exp(-(((across - 0.7 * c[:, 1:]) / 0.3) ** 2))
        part = (
            spot[:, None] * rng.gamma(2, 1, (events, rows, cells))
            if shape
            else np.ones((events, 1, 1))
        )
        part = part.reshape(events, SIZES[name])
        part = part / part.sum(1, keepdims=True) * energies[:, None]
        parts.append(np.where(part > THRESHOLD, part, 0))
    return torch.from_numpy(np.concatenate(parts, 1)), torch.from_numpy(c)


def noise(events: int, name: str = "fit") -> Noise:
    """Returns noise for ``events`` events."""
    return Noise(1, (name,), np.arange(events))


@pytest.fixture(scope="module")
def step() -> EnergyTree:
    """Returns a tree that is fitted to 3,000 showers for 600 steps a level."""
    x, c = showers(3000, seed=1)
    return EnergyTree.fit(
        x, c, columns(), noise(3000), threshold=THRESHOLD, incident="energy", steps=600, hidden=32
    )


def decoded(step: EnergyTree, events: int, seed: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Returns generated cells, and cells and conditions of made-up showers with the same conditions."""
    x, c = showers(events, seed)
    scores = torch.randn(events, 32, generator=torch.Generator().manual_seed(seed))
    return step.decode(scores, c.float()), x, c


def layers(cells: Tensor) -> Tensor:
    """Returns the layer energies ``[E, 3]``."""
    return torch.stack([part.sum(1) for part in torch.split(cells, [16, 15, 1], 1)], 1)


def test_decode_inverts_encode(step: EnergyTree) -> None:
    x, c = showers(2000, seed=3)
    scores = step.encode(x, c, noise(2000, "encode"))
    back = step.decode(scores, c.float()).double()
    # Probabilities near 1 have few digits in float32.
    typical = (scores.abs() < 3.5).all(1)
    assert typical.float().mean() > 0.97
    # Cells near the largest small energy of the spectrum may be on its other side.
    close = torch.isclose(back[typical], x[typical], rtol=5e-3, atol=2e-2)
    assert (~close).double().mean() < 1e-3
    # A split of an unseen shower may be outside the range of the training events.
    close = torch.isclose(back[typical], x[typical], rtol=0.1, atol=1.0)
    assert (~close).double().mean() < 1e-4
    assert ((back[typical] > 0) != (x[typical] > 0)).double().mean() < 1e-4


def test_cells_are_zero_or_above_the_threshold_and_add_up(step: EnergyTree) -> None:
    cells, _, _ = decoded(step, 3000)
    assert ((cells == 0) | (cells >= 0.999 * THRESHOLD)).all()
    assert (cells == 0).double().mean() > 0.05
    scores = torch.randn(100, 32, generator=torch.Generator().manual_seed(1))
    totals = torch.full((100, 1), 500.0)
    known = torch.zeros(100, 2)
    context = context_of(known, known[:, :1], totals, THRESHOLD)
    parts = step.depth.decode(scores[:, :2], totals, known, context)
    torch.testing.assert_close(parts.sum(1, keepdim=True), totals)


def test_scores_of_unseen_showers_are_standard_normal(step: EnergyTree) -> None:
    x, c = showers(4000, seed=4)
    scores = step.encode(x, c, noise(4000, "encode"))
    assert (scores.mean(0).abs() < 0.15).all()
    assert ((scores.std(0) - 1).abs() < 0.15).all()


def test_generated_showers_follow_every_condition(step: EnergyTree) -> None:
    cells, x, c = decoded(step, 4000)
    across = torch.arange(8.0, dtype=torch.float64)
    for column, quantity in (
        (0, lambda v: layers(v)[:, 1] / layers(v).sum(1)),
        (1, lambda v: v[:, :16].reshape(-1, 2, 8).sum(1) @ across / v[:, :16].sum(1)),
    ):
        pairs = [torch.stack([quantity(v.double()), c[:, column]]) for v in (x, cells)]
        expected, generated = (float(torch.corrcoef(pair)[0, 1]) for pair in pairs)
        assert abs(expected) > 0.4
        assert generated == pytest.approx(expected, abs=0.08)
    empty = [(layers(v)[:, 1] == 0).double().mean() for v in (x, cells)]
    assert float(empty[1]) == pytest.approx(float(empty[0]), abs=0.02)


def test_layers_follow_small_fluctuations_of_the_visible_energy() -> None:
    """The energy that leaks out behind the last layer is missing in the sum: a difference of 1 % tells much about the last layer."""
    rng = np.random.default_rng(5)
    events = 3000
    c = rng.uniform(-1, 1, (events, 2))
    energy = 1000 * np.exp((c[:, 0] + 1) / 2 * np.log(10))
    leakage = rng.gamma(1, 0.004, events)
    last = 5 * leakage * energy
    first = 0.4 * energy
    middle = (1 - leakage) * energy - first - last
    cells = np.zeros((events, 32))
    cells[:, 0], cells[:, 16], cells[:, 31] = first, middle, last
    x, known = torch.from_numpy(cells), torch.from_numpy(c)
    fitted = EnergyTree.fit(
        x, known, columns(), noise(events), threshold=THRESHOLD, incident="energy", steps=400, hidden=32
    )  # fmt: skip
    scores = torch.randn(events, 32, generator=torch.Generator().manual_seed(1))
    generated = fitted.decode(scores, known.float()).double() / torch.from_numpy(energy)[:, None]
    missing = 1 - generated.sum(1)
    assert torch.corrcoef(torch.stack([missing, generated[:, 31]]))[0, 1] > 0.9


def test_energies_above_the_incident_energy_are_generated(step: EnergyTree) -> None:
    cells, x, c = decoded(step, 3000)
    incident = 1000 * torch.exp((c[:, 0] + 1) / 2 * np.log(10))
    ratios = [v.double().sum(1) / incident for v in (x, cells)]
    assert float(ratios[1].std()) == pytest.approx(float(ratios[0].std()), rel=0.15)
    assert float((ratios[1] > 1).double().mean()) == pytest.approx(0.5, abs=0.06)


def test_an_event_does_not_depend_on_the_others_of_its_batch(step: EnergyTree) -> None:
    _, c = showers(300, seed=5)
    scores = torch.randn(300, 32, generator=torch.Generator().manual_seed(5))
    together = step.decode(scores, c.float())
    for size in (1, 7, 100):
        parts = [
            step.decode(s, k)
            for s, k in zip(torch.split(scores, size), torch.split(c.float(), size), strict=True)
        ]
        assert torch.equal(torch.cat(parts), together)


def test_the_path_without_synchronization_gives_the_same_cells(
    step: EnergyTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kernels.eager():  # kernels round differently
        cells, _, _ = decoded(step, 200)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(decoded(step, 200)[0], cells, rtol=1e-4, atol=1e-3)


def test_kernels_give_the_cells_of_torch_within_rounding(step: EnergyTree) -> None:
    pytest.importorskip("numba")
    x, c = showers(2000, seed=7)
    cells, _, _ = decoded(step, 2000)
    scores = step.encode(x, c, noise(2000, "encode"))
    with kernels.eager():
        of_torch, _, _ = decoded(step, 2000)
        scores_of_torch = step.encode(x, c, noise(2000, "encode"))
    torch.testing.assert_close(cells.sum(1), of_torch.sum(1), rtol=1e-5, atol=1e-3)
    # The variance of a layer with one hot cell has few digits in float32.
    assert (~torch.isclose(cells, of_torch, rtol=1e-3, atol=1e-3)).double().mean() < 3e-3
    assert ((cells > 0) != (of_torch > 0)).double().mean() < 1e-4
    assert (~torch.isclose(scores, scores_of_torch, atol=1e-2)).double().mean() < 1e-3


def test_events_and_scores_do_not_depend_on_the_number_of_threads(step: EnergyTree) -> None:
    x, c = showers(2500, seed=8)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            scores = step.encode(x, c, noise(2500, "encode"))
            results.append((decoded(step, 2500)[0], scores))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_kernel_of_a_likelihood_has_the_value_and_gradient_of_torch(weighted: bool) -> None:
    pytest.importorskip("numba")
    rng = torch.Generator().manual_seed(1)
    parameters = 2 * torch.randn(SPLIT, 500, generator=rng)
    low, logit, high = 3 * torch.randn(3, 500, generator=rng).sort(0).values
    kinds = torch.randint(0, 3, (500,), generator=rng)
    log_both = torch.where((torch.arange(500) < 50) & (kinds != 2), -60.0, 0.0)
    weights = torch.randn(500, generator=rng) if weighted else None

    def of(values: Tensor) -> tuple[Tensor, Tensor]:
        values = values.clone().requires_grad_()
        limits = torch.stack([logit, low, high])
        total = split_log_likelihood(values, kinds, limits, log_both, weights)
        return total.detach(), torch.autograd.grad(total * 3, values)[0]

    value, gradient = of(parameters)
    with kernels.eager():
        expected, expected_gradient = of(parameters)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-2)
    assert not torch.equal(gradient, expected_gradient)  # else both came from torch
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-3)


def test_gradients_agree_with_finite_differences(step: EnergyTree) -> None:
    precise = step_to(step, torch.float64)
    _, c = showers(6, seed=6)
    scores = torch.randn(6, 32, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    weights = torch.linspace(0.5, 2, 32, dtype=torch.float64)

    def total(values: Tensor) -> Tensor:
        return (precise.decode(values, c) * weights).sum()

    scores.requires_grad_()
    (gradient,) = torch.autograd.grad(total(scores), scores)
    assert (gradient != 0).double().mean() > 0.4
    with torch.no_grad():
        for at in [(0, 0), (1, 1), (2, 3), (3, 10), (4, 20), (5, 30)]:
            shift = torch.zeros_like(scores)
            shift[at] = 1e-6
            slope = (total(scores + shift) - total(scores - shift)) / 2e-6
            assert float(gradient[at]) == pytest.approx(float(slope), rel=1e-3, abs=1e-2)


def test_gradients_of_the_weights_agree_with_finite_differences(step: EnergyTree) -> None:
    precise, flags = step_to(step, torch.float64), iter(list(are_weights(step)))
    weights: list[Tensor] = []

    def trained(tensor: Tensor) -> Tensor:
        if not next(flags):
            return tensor
        weights.append(tensor.clone().requires_grad_())
        return weights[-1]

    learning = map_tensors(precise, trained)
    networks = 1 + len(step.depth.levels) + len(step.cells.levels)
    assert len(weights) == 9 * networks
    _, c = showers(6, seed=6)
    rng = torch.Generator().manual_seed(6)
    scores = torch.randn(6, 32, generator=rng, dtype=torch.float64)
    factors = torch.linspace(0.5, 2, 32, dtype=torch.float64)
    gradients = torch.autograd.grad((learning.decode(scores, c) * factors).sum(), weights)
    for number in range(0, len(weights), 9):  # the networks of the total, the layers and the cells
        part = slice(number, number + 9)
        directions = [
            torch.randn(w.shape, generator=rng, dtype=torch.float64) for w in weights[part]
        ]
        # Of length 1: a large step would change which parts are empty.
        length = torch.cat([d.flatten() for d in directions]).norm()
        directions = [d / length for d in directions]
        values = []
        with torch.no_grad():
            for step_size in (1e-6, -2e-6):
                torch._foreach_add_(weights[part], directions, alpha=step_size)
                values.append(float((learning.decode(scores, c) * factors).sum()))
            torch._foreach_add_(weights[part], directions, alpha=1e-6)
        expected = (values[0] - values[1]) / 2e-6
        slope = sum(float((g * d).sum()) for g, d in zip(gradients[part], directions, strict=True))
        assert slope == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_a_saved_step_decodes_identically(step: EnergyTree) -> None:
    tensors: dict[str, Tensor] = {}
    loaded = unpack_step(pack_step(step, "encoding.0", tensors), tensors)
    assert loaded == step
    assert torch.equal(decoded(loaded, 50)[0], decoded(step, 50)[0])


@pytest.mark.parametrize("name", ["parent", "children", "neighbors", "members"])
def test_a_damaged_level_raises(step: EnergyTree, name: str) -> None:
    tensors: dict[str, Tensor] = {}
    table = pack_step(step, "encoding.0", tensors)
    key = f"encoding.0.cells.levels.1.{name}"
    tensors[key] = tensors[key] + 10**9
    with pytest.raises(
        CheckpointError, match="a level of the encoding step 'energy_tree' is damaged"
    ):
        unpack_step(table, tensors)


def test_every_tensor_is_moved(step: EnergyTree) -> None:
    moved = map_tensors(step, lambda tensor: tensor.to("meta"))
    scores, c = torch.empty(5, 32, device="meta"), torch.empty(5, 2, device="meta")
    assert moved.decode(scores, c).shape == (5, 32)


def test_the_same_seed_gives_the_same_fit_with_one_thread_and_two() -> None:
    x, c = showers(200, seed=7)
    threads = torch.get_num_threads()
    try:
        steps = []
        for count in (1, 2):
            torch.set_num_threads(count)
            steps.append(
                EnergyTree.fit(x, c, columns(), noise(200), threshold=THRESHOLD, steps=3, hidden=4)
            )
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert steps[0] == steps[1]


def test_other_fields_and_unnamed_conditions_are_left_out() -> None:
    x, c = showers(200, seed=8)
    step = EnergyTree.fit(
        x, c, columns(), noise(200),
        threshold=THRESHOLD, fields=("back", "tail"), conditions=("y",), steps=3, hidden=4,
    )  # fmt: skip
    scores = step.encode(x, c, noise(200, "encode"))
    assert torch.equal(scores[:, :16], x[:, :16].float())
    shifted = c.clone()
    shifted[:, 0] += 0.1
    assert torch.equal(step.decode(scores, shifted.float()), step.decode(scores, c.float()))


def test_a_field_with_three_axes_is_a_layer_per_index() -> None:
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.gamma(1, 1, (100, 24)))
    layout = ColumnLayout(
        {"voxels": slice(0, 24)}, {"voxels": "MeV"}, {}, {}, {"voxels": (2, 4, 3)}
    )
    step = EnergyTree.fit(
        x, x[:, :0], layout, noise(100), threshold=0.01, polar=True, steps=3, hidden=4
    )
    assert step.depth.splits == 1
    assert step.cells.splits == 22
    assert step.decode(torch.randn(5, 24), torch.empty(5, 0)).shape == (5, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": ("middle",)}, "fields names 'middle', but the fields are front, back, tail"),
        ({"conditions": ("x",)}, "conditions names 'x', which is not a condition"),
        ({"incident": "x"}, "incident = 'x' is not a condition"),
    ],
)
def test_unknown_names_raise(options: dict[str, object], message: str) -> None:
    x, c = showers(20, seed=9)
    with pytest.raises(RunError, match=message):
        EnergyTree.fit(x, c, columns(), noise(20), threshold=0.1, **options)  # type: ignore[arg-type]


def test_a_field_that_is_not_an_energy_raises_with_its_unit() -> None:
    x, c = showers(20, seed=9)
    layout = dataclasses.replace(columns(), units={**columns().units, "tail": "ns"})
    with pytest.raises(
        RunError, match="the field 'tail' has the unit 'ns', which is not a unit of energy"
    ):
        EnergyTree.fit(x, c, layout, noise(20), threshold=0.1, incident="energy")


def test_showers_below_the_threshold_raise() -> None:
    x, c = showers(200, seed=9)
    with pytest.raises(
        DataError, match="no cell of any event has more than the threshold of 1e\\+09"
    ):
        EnergyTree.fit(x, c, columns(), noise(200), threshold=1e9)


def test_too_few_events_raise_with_their_number() -> None:
    x, c = showers(99, seed=9)
    message = "need at least 100 events, but there are 99"
    with pytest.raises(DataError, match=message):
        EnergyTree.fit(x, c, columns(), noise(99), threshold=THRESHOLD)
    with pytest.raises(DataError, match=message):
        Autoregressive.fit(x, c, columns(), noise(99))


def test_far_more_energy_than_incident_raises_with_the_ratio_and_the_units() -> None:
    x, c = showers(200, seed=9)
    with pytest.raises(DataError, match=r"is [\d,]+, .*: cells in MeV, energy in GeV"):
        EnergyTree.fit(1000 * x, c, columns(), noise(200), threshold=THRESHOLD, incident="energy")


def test_nothing_is_generated_in_layers_and_cells_that_are_always_empty() -> None:
    x, c = showers(200, seed=10)
    dead = torch.tensor([3, *range(16, 31)])  # a cell of the first layer, and the second layer
    x[:, dead] = 0
    step = EnergyTree.fit(x, c, columns(), noise(200), threshold=THRESHOLD, steps=30, hidden=4)
    scores = torch.randn(5000, 32, generator=torch.Generator().manual_seed(1))
    cells = step.decode(scores, c.float().repeat(25, 1))
    assert not cells[:, dead].any()
    assert cells[:, 31].any()


def test_progress_names_the_step_and_grows_to_1() -> None:
    calls: list[tuple[str, float, str]] = []
    fit_encoding(progress=lambda *call: calls.append(call))
    texts, fractions, remarks = zip(*calls, strict=True)
    assert {*texts} == {"fitting the encoding"}
    assert list(fractions) == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert remarks[0] == "standardize"
    assert re.fullmatch(r"autoregressive, 3 networks, \d+ s", remarks[-2])


def fit_encoding(progress: ProgressCallback = no_progress) -> Encoding:
    """Returns the encoding of a table by networks of 10 steps."""
    x, c = table(200, seed=1)
    names = ("first", "second", "third")
    events = ak.zip({**dict(zip(names, x.numpy().T, strict=True)), "c": c[:, 0].numpy()})
    schema = Schema.from_table({"fields": {name: {} for name in names}, "conditions": {"c": {}}})
    steps = ({"step": "standardize"}, {"step": "autoregressive", "steps": 10, "hidden": 4})
    settings = EncodingSettings(steps, {"c": ConditionScale((-1.0, 1.0))})
    return Encoding.fit(events, schema, settings, seed=1, progress=progress)


def test_the_card_of_an_encoding_shows_the_quality_of_its_fits() -> None:
    encoding = fit_encoding()
    step = encoding.steps[-1]
    assert isinstance(step, Autoregressive)
    expected = (
        f"autoregressive: 3 networks with {sum(network.parameters for network in step.networks):,} parameters fitted to 200 events,"
        f" log-likelihood {step.log_likelihood:.2f} per held-out event"
    )
    assert expected in repr(encoding)
    assert expected.partition(": ")[2] in encoding._repr_html_()
    # Hidden layers of 4: context of 1, 2 and 3 values, and 14 outputs.
    assert step.networks[0].parameters == 4 + 4 + 16 + 4 + 16 + 4 + 4 * SPLINE + SPLINE


def test_a_failing_fit_ends_the_others() -> None:
    started, ended = threading.Event(), threading.Event()

    def fails(status: fits.FitStatus) -> fits.Fitted:
        started.wait(10)
        raise KeyboardInterrupt

    def waits(status: fits.FitStatus) -> fits.Fitted:
        started.set()
        status.cancelled.wait(10)
        ended.set()
        status.check()
        raise AssertionError("not cancelled")

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            fits.run_tasks([fails, waits])
    finally:
        torch.set_num_threads(threads)
    assert ended.is_set()


def test_a_fit_keeps_the_best_held_out_state() -> None:
    """With far too many steps for 40 events, the network overfits; the kept state does not get worse than a short fit."""
    rng = torch.Generator().manual_seed(1)
    context, values = torch.randn(40, 5, generator=rng), torch.randn(40, 1, generator=rng)

    def likelihood(parameters: Tensor, rows: Tensor) -> Tensor:
        return LogisticSpline.of(parameters).cdf_and_log_density(values[None, rows, 0])[1].sum()

    short, long = (
        fits.fit_rows(
            fits.Rows.of_events(context), likelihood, standard_spline(), torch.Generator().manual_seed(2),
            fits.FitSettings(hidden=32, steps=steps), fits.FitStatus(threading.Event()),
        ).log_likelihood
        for steps in (20, 400)
    )  # fmt: skip
    assert long > short - 0.3


@pytest.mark.parametrize(("batches", "steps"), [(0.5, 100), (40, 1000), (1000, 2500)])
def test_a_fit_sees_few_events_at_most_so_many_times(batches: float, steps: int) -> None:
    assert fits.FitSettings(steps=2500, passes=25).for_batches(batches).steps == steps
    assert fits.FitSettings(steps=60, passes=25).for_batches(batches).steps == 60
    assert fits.FitSettings(steps=2500).for_batches(batches).steps == 2500


def test_spline_density_is_the_derivative_of_its_cdf_and_the_quantile_its_inverse() -> None:
    parameters = torch.randn(SPLINE, 50, generator=torch.Generator().manual_seed(1)).double()
    spline = LogisticSpline.of(parameters)
    probability = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
    values = spline.quantile(Tails(probability, 1 - probability))
    torch.testing.assert_close(spline.cdf(values[None]).lower[0], probability)
    torch.testing.assert_close(spline.cdf(values[None]).upper[0], 1 - probability)
    low, high = (spline.cdf((values + d)[None]).lower[0] for d in (-1e-6, 1e-6))
    _, log_density = spline.cdf_and_log_density(values[None])
    torch.testing.assert_close((high - low) / 2e-6, log_density[0].exp(), rtol=1e-3, atol=1e-6)


def test_probabilities_of_scores_have_small_relative_errors_in_both_tails() -> None:
    scores = torch.linspace(-4.7, 4.7, 2001)
    tails = Tails.of_scores(scores)
    exact = [
        torch.from_numpy(scipy.special.ndtr(sign * scores.double().numpy())) for sign in (1, -1)
    ]
    for tail, expected in zip(tails, exact, strict=True):
        torch.testing.assert_close(tail.double(), expected, rtol=3e-6, atol=0)
    torch.testing.assert_close(tails.scores(), scores, rtol=0, atol=3e-6)
    torch.testing.assert_close(signed_tail_scores(signed_tails(scores)), scores, rtol=0, atol=3e-6)
    scores.requires_grad_()
    (slopes,) = torch.autograd.grad(Tails.of_scores(scores).lower.sum(), scores)
    scores = scores.detach()
    torch.testing.assert_close(slopes, torch.exp(-0.5 * scores**2) / (2 * np.pi) ** 0.5)


def splits(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns parameters ``[SPLIT, N]`` of splits whose parts are hardly ever empty, their energies and ranges, for N scores."""
    parameters = torch.randn(SPLIT, len(scores), generator=torch.Generator().manual_seed(1))
    parameters[0], parameters[1] = 3 * parameters[0], 0.3 * parameters[1] - 0.5
    parameters[2:SPLINE] = 0.5 * parameters[2:SPLINE] + standard_spline()[0, 2:, None]
    parameters[SPLINE:] -= 20
    ranges = torch.tensor([[-60.0], [60.0]]).expand(2, len(scores)).contiguous()
    return parameters, torch.full_like(scores, 1e7), ranges


def kernel_arguments(scores: Tensor) -> tuple[Tensor, tuple[int, Tensor, Tensor, Tensor], Tensor]:
    """Returns the parameters, rows and ranges of ``splits`` for the kernels: an event with a node for each score."""
    parameters, energies, ranges = splits(scores)
    node = torch.arange(len(scores))
    rows = (len(scores), torch.zeros_like(node), node, energies)
    return parameters.T.contiguous(), rows, ranges


def test_splits_are_as_accurate_in_the_upper_tail_as_in_the_lower_one() -> None:
    """A probability next to 1 has few digits in single precision: 6e-8 is 2 % of the tail beyond 4.5 standard deviations."""
    pytest.importorskip("numba")
    scores = torch.linspace(-4.6, 4.6, 4001)
    parameters, energies, ranges = splits(scores)
    precise = Split.of(parameters.double(), energies.double(), THRESHOLD, ranges.double())
    exact = torch.stack(precise.fractions(scores.double()))
    of_torch = torch.stack(Split.of(parameters, energies, THRESHOLD, ranges).fractions(scores))
    torch.testing.assert_close(of_torch.double(), exact, rtol=1e-5, atol=0)

    by_node, rows, ranges = kernel_arguments(scores)
    children = torch.arange(2 * len(scores)).reshape(-1, 2)
    kept = torch.empty(2, 0, dtype=torch.long)
    cells = split_energies(
        energies[None], signed_tails(scores)[None], by_node, rows, (kept, children, ranges), 2 * len(scores),
        THRESHOLD, *split_constants(),
    )  # fmt: skip
    of_kernel = cells.reshape(-1, 2).T / energies
    torch.testing.assert_close(of_kernel, of_torch, rtol=1e-5, atol=0)
    torch.testing.assert_close(of_kernel.double(), exact, rtol=1e-5, atol=0)


def test_scores_of_splits_are_as_accurate_in_the_upper_tail_as_in_the_lower_one() -> None:
    pytest.importorskip("numba")
    scores = torch.linspace(-4.6, 4.6, 4001)
    parameters, energies, ranges = splits(scores)
    split = Split.of(parameters, energies, THRESHOLD, ranges)
    first, second = (fraction * energies for fraction in split.fractions(scores))
    uniform = torch.full_like(scores, 0.5)
    torch.testing.assert_close(split.scores(first, second, uniform), scores, rtol=0, atol=1e-5)
    by_node, rows, ranges = kernel_arguments(scores)
    children = torch.arange(2 * len(scores)).reshape(-1, 2)
    tails = split_tails(
        torch.stack([first, second], 1).reshape(1, -1), uniform[None], by_node, rows, (children, ranges), THRESHOLD, *split_constants(),
    )  # fmt: skip
    torch.testing.assert_close(signed_tail_scores(tails)[0], scores, rtol=0, atol=1e-5)


def test_kernels_of_splits_with_extreme_parameters_give_the_fractions_of_torch() -> None:
    """Exponentials of the parameters would be infinite, or all 0."""
    pytest.importorskip("numba")
    scores = torch.linspace(-3, 3, 101)
    for masses, atoms in ((200.0, 0.0), (-200.0, 0.0), (0.0, 200.0), (0.0, -200.0)):
        by_node, rows, ranges = kernel_arguments(scores)
        by_node[:, 2:SPLINE] += masses
        by_node[:, SPLINE:] += 20 + atoms
        children = torch.arange(2 * len(scores)).reshape(-1, 2)
        kept = torch.empty(2, 0, dtype=torch.long)
        cells = split_energies(
            rows[3][None], signed_tails(scores)[None], by_node, rows, (kept, children, ranges), 2 * len(scores),
            THRESHOLD, *split_constants(),
        )  # fmt: skip
        expected = Split.of(by_node.T, rows[3], THRESHOLD, ranges).fractions(scores)
        torch.testing.assert_close(
            cells.reshape(-1, 2).T / rows[3], torch.stack(expected), rtol=1e-4, atol=1e-6
        )


def test_a_split_of_less_than_two_thresholds_has_an_empty_part() -> None:
    parameters = torch.randn(SPLIT, 100, generator=torch.Generator().manual_seed(1))
    wide = torch.tensor([[-60.0], [60.0]]).expand(2, 100)
    split = Split.of(parameters, torch.full((100,), 0.15), 0.1, wide)
    first, second = split.fractions(torch.randn(100))
    assert (torch.minimum(first, second) == 0).all()
    assert (first + second == 1).all()


def test_ranks_reproduce_shared_values_exactly() -> None:
    rng = np.random.default_rng(1)
    spike_and_tail = np.where(rng.random(5000) < 0.3, 0.0, 1 + rng.exponential(1, 5000))
    x = torch.from_numpy(np.where(rng.random(5000) < 0.1, 2.0, spike_and_tail))
    ranks = Ranks.fit(x)
    scores = ranks.encode(x, torch.rand(5000, generator=torch.Generator().manual_seed(1)))
    assert abs(float(scores.mean())) < 0.05
    assert float(scores.std()) == pytest.approx(1, abs=0.03)
    back = ranks.decode(scores)
    for value in (0.0, 2.0):
        assert torch.equal(back == value, x == value)
    torch.testing.assert_close(back.double(), x, rtol=1e-3, atol=1e-3)
    drawn = ranks.decode(torch.randn(20_000, generator=torch.Generator().manual_seed(2)))
    assert not ((drawn > 0) & (drawn < 1)).any()
    assert float((drawn == 0).double().mean()) == pytest.approx(0.27, abs=0.02)


def table(events: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns a table: a width that grows with the condition, a spike with a tail, and a sum of both."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(-1, 1, (events, 1))
    first = rng.normal(0, 1, events) * np.exp(c[:, 0])
    second = np.where(rng.random(events) < 0.4, 0, rng.exponential(1, events))
    third = first**2 + second + rng.normal(0, 0.1, events)
    return torch.from_numpy(np.stack([first, second, third], 1)), torch.from_numpy(c)


def test_autoregressive_tables_follow_conditions_and_other_columns() -> None:
    names = ("first", "second", "third")
    fields = {name: slice(i, i + 1) for i, name in enumerate(names)}
    layout = ColumnLayout(
        fields, dict.fromkeys(names, ""), {"c": slice(0, 1)}, {"c": ConditionScale((-1, 1))}
    )
    x, c = table(4000, seed=1)
    step = Autoregressive.fit(x, c, layout, noise(4000), steps=400, hidden=32)
    y, k = table(4000, seed=2)
    scores = step.encode(y, k, noise(4000, "encode"))
    assert (scores.mean(0).abs() < 0.12).all()
    assert ((scores.std(0) - 1).abs() < 0.12).all()
    typical = (scores.abs() < 3).all(1)
    back = step.decode(scores, k.float()).double()
    torch.testing.assert_close(back[typical], y[typical], rtol=2e-2, atol=2e-2)
    drawn = step.decode(
        torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)), k.float()
    ).double()
    assert float((drawn[:, 1] == 0).double().mean()) == pytest.approx(0.4, abs=0.04)
    wide, narrow = (float(drawn[side, 0].std()) for side in ((k[:, 0] > 0.5), (k[:, 0] < -0.5)))
    assert wide / narrow == pytest.approx(np.exp(1.5), rel=0.25)
    rest = drawn[:, 2] - drawn[:, 0] ** 2 - drawn[:, 1]
    assert float(rest.median().abs()) < 0.2
    assert float(rest.quantile(0.9) - rest.quantile(0.1)) < 1.5
    assert dataclasses.replace(step) == step


def test_spectra_with_lines_are_generated() -> None:
    """Half of the small cells have exactly 1 MeV: smooth distributions of fractions would wash the line out."""
    rng = np.random.default_rng(1)
    c = rng.uniform(-1, 1, (4000, 1))
    small = np.where(rng.random((4000, 15)) < 0.5, 1.0, rng.exponential(2, (4000, 15)) + 0.1)
    small *= rng.random((4000, 15)) < 0.5
    core = 200 * np.exp(c) * rng.gamma(20, 0.05, (4000, 1))
    x = torch.from_numpy(np.concatenate([core, small], 1))
    layout = ColumnLayout(
        {"cells": slice(0, 16)}, {"cells": "MeV"}, {"c": slice(0, 1)}, {"c": ConditionScale((-1, 1))}, {"cells": (16,)}
    )  # fmt: skip
    lines, sums = [], []
    for spectrum in (False, True):
        step = EnergyTree.fit(
            x, torch.from_numpy(c), layout, noise(4000),
            threshold=THRESHOLD, steps=200, hidden=16, spectrum=spectrum,
        )  # fmt: skip
        scores = torch.randn(4000, 16, generator=torch.Generator().manual_seed(1))
        cells = step.decode(scores, torch.from_numpy(c).float())[:, 1:]
        lines.append(float(((cells - 1).abs() < 0.01).double().sum() / (cells > 0).double().sum()))
        sums.append(step.decode(scores, torch.from_numpy(c).float()).sum(1))
    assert lines[0] < 0.1
    assert lines[1] == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(sums[1], sums[0], rtol=1e-4, atol=1e-3)


def test_lines_of_spectra_are_exact_in_every_layer() -> None:
    """Decision trees would separate lines that differ in the last digits."""
    rng = np.random.default_rng(9)
    line = np.float32(0.5109989)
    layer = torch.arange(20) // 5

    def cells(events: int, fraction: float) -> Tensor:
        x = rng.lognormal(1.0, 1.5, (events, 20)).astype(np.float32)
        x = np.where(rng.random(x.shape) < fraction, line, x)
        x[:, ::5] = rng.lognormal(5.0, 0.3, (events, 4))  # holds most of its layer's energy
        return torch.from_numpy(x)

    reference, generated = cells(4000, 0.1), cells(4000, 0.0)
    spectrum = Spectrum.fit(generated, reference, layer, 0.01)
    mapped = spectrum.to_reference(generated)
    for number in range(4):
        exact = [float((x[:, layer == number] == line).float().mean()) for x in (reference, mapped)]
        assert exact[1] == pytest.approx(exact[0], rel=0.1)
    sums = [x.reshape(-1, 4, 5).sum(2) for x in (generated, mapped)]
    torch.testing.assert_close(sums[1], sums[0])
    back = spectrum.to_generated(mapped)
    off_line = ((mapped - line).abs() > 0.01) & (mapped < spectrum.limits[layer])
    torch.testing.assert_close(back[off_line], generated[off_line], rtol=2e-3, atol=5e-3)


def test_spectra_map_the_smallest_and_largest_energy_of_a_layer_within_it() -> None:
    layer = torch.tensor([0, 0, 1, 1])
    rng = np.random.default_rng(10)
    x = torch.from_numpy(rng.uniform(0.01, 20, (5000, 4)).astype(np.float32))
    x[:, 1::2] += 500
    spectrum = Spectrum.fit(x, x, layer, 0.01)
    edges = torch.tensor([[0.01, 500.0, 0.01, 500.0], [0.0101, 500.0, 0.0101, 500.0]])
    edges[1, ::2] = spectrum.limits * 0.99999
    torch.testing.assert_close(spectrum.to_reference(edges), edges, rtol=1e-3, atol=1e-4)


def test_white_blocks_are_split_after_black_ones_and_see_both_of_their_parts() -> None:
    none = RowNetwork.initial(1, 0, torch.zeros(1, SPLIT), 1, torch.Generator())
    levels = build_levels(((4, 6), (3, 5)), (False, False), none)
    cells = torch.arange(1.0, 40.0)[None]
    energies = block_energies(levels, cells)
    assert torch.equal(energies[0], torch.stack([cells[0, :24].sum(), cells[0, 24:].sum()])[None])
    seen = False
    for before, after in itertools.pairwise(levels):
        pairs = before.children[:, 0], before.children[:, 1]
        for first, second in zip(*pairs, strict=True):
            rows = (after.neighbors == first).nonzero()
            for node, column in rows.tolist():
                if column < 4 and after.layer[node] in before.layer:
                    seen |= bool(after.neighbors[node, column + 4] == second)
    assert seen
    # Blocks of a layer never share a border with another one that is split at the same level.
    for level in levels:
        for node in range(len(level.parent)):
            adjacent = level.neighbors[node, :4]
            assert not torch.isin(adjacent, level.parent).any()
    assert all((level.members < level.blocks + 1).all() for level in levels)


def test_centers_of_gravity_between_the_colors_are_those_of_the_blocks() -> None:
    none = RowNetwork.initial(1, 0, torch.zeros(1, SPLIT), 1, torch.Generator())
    levels = build_levels(((4, 6),), (False, False), none)
    cells = torch.rand(3, 24, generator=torch.Generator().manual_seed(1))
    for level, energies in zip(levels, block_energies(levels, cells), strict=False):
        padded = functional.pad(energies, (0, 1))
        sums = padded[:, level.members[0]] @ level.moments[0]
        torch.testing.assert_close(sums[:, 0], cells.sum(1))
    last = block_energies(levels, cells)[-1]
    assert torch.equal(last, cells)


def test_generated_fractions_stay_within_the_range_of_the_training_events() -> None:
    """Tails of the distributions would give an event in thousands an energy that no real one has."""
    rng = np.random.default_rng(11)
    events = 4000
    c = rng.uniform(-1, 1, (events, 2))
    energy = 1000 * np.exp((c[:, 0] + 1) / 2 * np.log(10))
    cells = np.zeros((events, 32))
    cells[:, 0] = energy * rng.uniform(0.70, 0.75, events)
    cells[:, 16] = energy - cells[:, 0]
    x, known = torch.from_numpy(cells), torch.from_numpy(c)
    fitted = EnergyTree.fit(
        x, known, columns(), noise(events), threshold=THRESHOLD, incident="energy", steps=3, hidden=4
    )  # fmt: skip
    scores = torch.randn(20_000, 32, generator=torch.Generator().manual_seed(1))
    fractions = fitted.decode(scores, known[:1].float().expand(20_000, 2))
    fractions = fractions[:, 0] / fractions.sum(1)
    fractions = fractions[(fractions > 0) & (fractions < 1)]  # neither part is empty
    assert len(fractions) > 19_900
    assert 0.69 < fractions.min() < 0.70
    assert 0.75 < fractions.max() < 0.76

"""Built networks against torch's own layers, and what training relies on."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from hepgan.errors import LayoutError, RunError
from hepgan.layout import parse, parse_gan
from hepgan.layout.nn.modules import BatchNorm, Recurrent, SpectralNorm, Weighted
from hepgan.layout.nn.network import Network, build, frozen_statistics
from hepgan.layout.zoo import look_up


def network(text: str, *input_: int, seed: int = 1, **options: object) -> Network:
    return build(parse(text), input=input_, seed=seed, **options)  # type: ignore[arg-type]


def only_module(net: nn.Module, kind: type[nn.Module]) -> nn.Module:
    (match,) = [module for module in net.modules() if isinstance(module, kind)]
    return match


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conditions(text: str) -> int:
    return 2 if any(word in text for word in ("COND", "ADALN", "MODULATE", "PROJECTION")) else 0


EVERY_WORD = [
    ("DENSE|6|SN|SILU, DENSE|4|LRELU|0.1, LNORM", (5,)),
    ("CONV|3|2|3|1|2|1|0|GELU|SN, BNORM|0.9, MAXPOOL|2|2|1|1", (2, 5, 6)),
    ("CONV|3|3|3|1|1|1|1|SOFTPLUS|CIRCW|CIRCH, GNORM|3, AVGPOOL|2|2|2|2", (2, 5, 6)),
    ("CONV|4|2|2|1|1|1|0|2|RELU, CONV|4|3|3|1|1|1|1|4|SN|CIRCH", (2, 5, 6)),
    ("PAD|0|1|2|1|CIRCW, LOCAL|2|2|2|1|2|1|0|ELU|SN, INORM, UPSAMPLE|2|2|BILINEAR", (2, 5, 6)),
    ("TCONV|3|4|4|2|2|1|1|TANH|SN, ADAPTIVE|3|2, UPSAMPLE|2|1", (2, 3, 4)),
    ("CONV3D|2|2|2|2|1|1|1|0|1|1|GAUSS|CIRCW, UPSAMPLE|2|1|1, ADAPTIVE|2|2|2", (1, 3, 4, 4)),
    ("TCONV3D|2|2|2|2|2|2|2|SOFTSIGN|SN, MAXPOOL|2|2|2|2|2|2, AVGPOOL|1|2|2|1|1|1", (1, 3, 4, 4)),
    ("RNN|4|3|5|0|1, BNORM, LSTM|4|4|5|0|1, GRU|3|4|5", (5, 3)),
    ("GRU|3|3|5|0|1|1, ACT|SOFTMAX, RESHAPE|1|5|3, CONV|2|2|2|1|1|LINEAR, ACT|SOFTMAX", (5, 3)),
    ("MBDISC|3|2|TANH, SCALE|0.3, RES[DENSE|8|RELU; DENSE|8|LINEAR]", (5,)),
    ("COND|3|SILU, TIMES|1, [BALANCE|2|0.5; SUM; OCCUPANCY|0.1|0.5]", (5,)),
    ("COND, [a: CONV|1|1|1|1|1; b: FROM|a, ACT|SIGMOID]", (1, 4, 4)),
    ("RES[CONV|1|3|3|1|1|1|1], ATTEND[ACT|SYMMRELU], [PASS; LOCAL|1|1|1|1|1|FTANH]", (1, 4, 4)),
    ("DENSE|6|SILU, ADALN|4|SILU, MINIBATCHSTD, PROJECTION|4|SILU", (5,)),
    (
        "CONV|4|1|1|1|1|TANH, MODULATE, RES[ATTENTION|2|POSITIONS], MINIBATCHSTD, PROJECTION|SN",
        (2, 3, 3),
    ),
    ("RES[ADALN, ATTENTION|2], MINIBATCHSTD, MODULATE|3|SILU", (5, 4)),
    ("RESHAPE|1|2|2|5, RESHAPE|4|5, COND, DROPOUT|0, ACT|RELU, DENSE|3", (20,)),
]


@pytest.mark.parametrize(("text", "input_"), EVERY_WORD)
def test_every_word_can_be_differentiated_twice(text: str, input_: tuple[int, ...]) -> None:
    net = network(text, *input_, conditions=conditions(text)).double().eval()
    x = random(3, *input_).double().requires_grad_()
    c = random(3, conditions(text), seed=1).double()
    assert torch.autograd.gradcheck(lambda x: net(x, c), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: net(x, c), x, fast_mode=True)


@pytest.mark.parametrize(("text", "input_"), EVERY_WORD)
def test_every_word_trains_and_survives_a_copy(text: str, input_: tuple[int, ...]) -> None:
    net = network(text, *input_, conditions=conditions(text))
    x, c = random(4, *input_), random(4, conditions(text), seed=1)
    net(x, c).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    twin = network(text, *input_, conditions=conditions(text), seed=5)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(copy.deepcopy(net).eval()(x, c), twin.eval()(x, c))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("text", "input_"), EVERY_WORD)
def test_every_word_gives_the_same_output_on_a_gpu(text: str, input_: tuple[int, ...]) -> None:
    net = network(text, *input_, conditions=conditions(text)).double()
    x, c = random(4, *input_).double(), random(4, conditions(text), seed=1).double()
    on_gpu = copy.deepcopy(net).to("cuda")(x.to("cuda"), c.to("cuda"))
    torch.testing.assert_close(on_gpu.cpu(), net(x, c))


def test_equal_seeds_give_equal_weights_and_leave_torchs_global_generator_unchanged() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    text = "CONV|3|2|2|1|1|SN, BNORM, RESHAPE|21|7, LSTM|3|7|21"
    nets = [network(text, 1, 8, 8, seed=seed) for seed in (7, 7, 8)]
    first, same, other = (net.state_dict() for net in nets)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["layers.layers.0.0.weight"], other["layers.layers.0.0.weight"])


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("XAVIER", math.sqrt(2 / 900)),
        ("XAVIERUNIFORM", math.sqrt(2 / 900)),
        ("GAUSS", math.sqrt(2 / 500)),
        ("UNIFORM", math.sqrt(2 / 500 / 3)),
        ("HE", math.sqrt(2 / 500)),
        ("HEUNIFORM", math.sqrt(2 / 500)),
        ("LECUN", math.sqrt(1 / 500)),
        ("TORCH", math.sqrt(1 / 500 / 3)),
        ("ORTHOGONAL", math.sqrt(1 / 500)),
    ],
)
def test_initial_weights_have_the_width_of_their_scheme_and_biases_are_zero(
    name: str, deviation: float
) -> None:
    layer = only_module(network("DENSE|400", 500, initialization=name), Weighted)
    weight = layer.weight.detach()
    assert weight.std() == pytest.approx(deviation, rel=0.01)
    assert weight.mean() == pytest.approx(0, abs=5 * deviation / math.sqrt(weight.numel()))
    assert not layer.bias.any()
    if "UNIFORM" in name or name == "TORCH":
        assert weight.abs().max() <= deviation * math.sqrt(3)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_orthogonal_weights_are_orthogonal(shape: tuple[int, int]) -> None:
    weight = only_module(
        network(f"DENSE|{shape[0]}|ORTHOGONAL", shape[1]), Weighted
    ).weight.detach()
    square = weight @ weight.T if shape[0] < shape[1] else weight.T @ weight
    torch.testing.assert_close(square, torch.eye(3))


def test_identity_and_zero_initialization_give_the_identity_and_zero() -> None:
    x = random(4, 5)
    assert torch.equal(network("DENSE|5|LINEAR|IDENTITY", 5)(x), x)
    assert torch.equal(network("RES[DENSE|9|RELU, DENSE|5|LINEAR|ZERO]", 5)(x), x)
    assert not network("DENSE|5|LINEAR", 5, initialization="zero")(x).any()


def test_unknown_initialization_raises_with_the_nearest_name() -> None:
    with pytest.raises(RunError, match="did you mean 'XAVIER'"):
        network("DENSE|5", 5, initialization="XAVIR")


def test_billion_wide_layer_raises_before_it_is_allocated() -> None:
    with pytest.raises(LayoutError, match="of memory"):
        network("DENSE|1000000000", 784)


@pytest.mark.parametrize(("word", "kind"), [("RNN", nn.RNN), ("LSTM", nn.LSTM), ("GRU", nn.GRU)])
def test_recurrent_layers_equal_torchs(word: str, kind: type[nn.RNNBase]) -> None:
    text = f"{word}|4|3|6|0|1" + ("|1" if word == "GRU" else "")
    net, oracle = network(text, 6, 3), kind(3, 4, batch_first=True)
    layer = only_module(net, Recurrent)
    assert isinstance(layer, Recurrent)
    with torch.no_grad():
        layer.bias.normal_(generator=torch.Generator().manual_seed(2))
        parts = [layer.weight_input, layer.weight_state, layer.bias]
        if word == "LSTM":  # torch's order of the gates is input, forget, candidate, output
            order = [0, 1, 3, 2]
            parts = [torch.cat([part.chunk(4)[i] for i in order]) for part in parts]
        names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"]
        for name, part in zip(names, parts, strict=True):
            getattr(oracle, name).copy_(part)
        oracle.bias_hh_l0.zero_()
    x = random(5, 6, 3)
    torch.testing.assert_close(net(x), oracle(x)[0])
    assert torch.equal(
        network(f"{word}|4|3|6", 6, 3)(x), network(f"{word}|4|3|6|0|1", 6, 3)(x)[:, -1]
    )


def test_remembered_state_continues_from_the_previous_batch() -> None:
    x = random(5, 8, 3)
    whole = network("LSTM|4|3|8|0|1", 8, 3)(x)
    halves = network("LSTM|4|3|4|1|1", 4, 3)
    torch.testing.assert_close(torch.cat([halves(x[:, :4]), halves(x[:, 4:])], dim=1), whole)


@pytest.mark.parametrize("momentum", [0.9, 0.99, -1])
@pytest.mark.parametrize("shape", [(6,), (6, 3, 4)])
def test_batch_norm_equals_torchs_with_one_minus_the_momentum(
    momentum: float, shape: tuple[int, ...]
) -> None:
    net = network(f"BNORM|{momentum}|0.001", *shape)
    kind = nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d
    oracle = kind(6, momentum=None if momentum < 0 else 1 - momentum, eps=0.001)
    for seed in range(3):
        x = 3 * random(7, *shape, seed=seed) + 1
        torch.testing.assert_close(net(x), oracle(x))
    layer = only_module(net, BatchNorm)
    torch.testing.assert_close(layer.running_mean, oracle.running_mean)
    torch.testing.assert_close(layer.running_var, oracle.running_var)
    torch.testing.assert_close(net.eval()(x), oracle.eval()(x))


def test_locally_connected_layer_with_equal_weights_is_a_convolution() -> None:
    net = network("LOCAL|3|2|3|1|2|1|0|LINEAR", 2, 5, 7)
    layer = only_module(net, Weighted)
    kernel = random(3, 2, 2, 3)
    with torch.no_grad():
        layer.weight.copy_(kernel.reshape(3, -1).T.expand_as(layer.weight))
    x = random(4, 2, 5, 7)
    torch.testing.assert_close(net(x), F.conv2d(x, kernel, stride=(1, 2), padding=(1, 0)))


def test_circular_padding_is_equivariant_under_rotation() -> None:
    net = network("CONV|3|3|3|1|1|1|1|TANH|CIRCW", 2, 4, 9)
    x = random(4, 2, 4, 9)
    torch.testing.assert_close(net(x.roll(2, dims=-1)), net(x).roll(2, dims=-1))
    oracle = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    net = network("CONV|3|3|3|1|1|1|1|LINEAR|CIRCW|CIRCH", 2, 4, 9)
    with torch.no_grad():
        oracle.weight.copy_(only_module(net, Weighted).weight)
        oracle.bias.zero_()
    torch.testing.assert_close(net(x), oracle(x))


@pytest.mark.parametrize(
    "text", ["DENSE|7", "CONV|7|2|2|1|1", "TCONV|7|2|2|1|1", "LOCAL|7|2|2|1|1"]
)
def test_spectral_norm_makes_the_largest_singular_value_one(text: str) -> None:
    net = network(f"{text}|SN", 3, 4, 4)
    layer, norm = only_module(net, Weighted), only_module(net, SpectralNorm)
    for _ in range(50):
        weight = norm(layer.weight)
    matrix = weight.movedim(norm.axis, 0).flatten(1)
    assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=1e-3)


def test_minibatch_discrimination_detects_copies() -> None:
    net = network("MBDISC|4|3|ALONE", 5)
    different, equal = 100 * random(6, 5), random(1, 5).expand(6, 5)
    torch.testing.assert_close(net(equal), torch.full((6, 4), 6.0))
    assert net(different).mean() < 2


def test_energy_features_equal_their_formulas() -> None:
    x, c = random(6, 4).abs(), random(6, 2)
    text = "[SUM; OCCUPANCY|0.5; BALANCE|10|3|1]"
    missing = (x.sum(1) - 10 * c[:, 1]).abs()
    expected = [x.sum(1), (x > 0.5).float().mean(1), missing, 10.0 * (missing > 3)]
    torch.testing.assert_close(network(text, 4, conditions=2)(x, c), torch.stack(expected, dim=1))


def test_attention_is_initially_the_identity() -> None:
    net = network("ATTEND[SCALE|-1]", 1, 3, 4, initialization="ZERO")
    x = random(5, 1, 3, 4)
    torch.testing.assert_close(net(x), x, rtol=2e-4, atol=0)


def test_named_branches_read_their_fields_and_are_joined_in_the_fields_order() -> None:
    fields = {"a": (2, 3), "b": (), "c": (4,)}
    x = random(5, 11)
    text = "[c: SCALE|3; a: SCALE|1; b: SCALE|2]"
    read = network(text, 11, fields=fields, role="discriminator")(x)
    torch.testing.assert_close(read, torch.cat([x[:, :6], 2 * x[:, 6:7], 3 * x[:, 7:]], dim=1))
    text = "[c: DENSE|4|LINEAR; a: DENSE|6|LINEAR|ZERO; b: DENSE|1|LINEAR|ZERO]"
    made = network(text, 11, fields=fields, role="generator")(x)
    assert not made[:, :7].any()
    assert made[:, 7:].all()


def test_conditions_are_constant_over_an_image() -> None:
    x, c = random(5, 1, 3, 4), random(5, 2)
    y = network("COND", 1, 3, 4, conditions=2)(x, c)
    assert torch.equal(y[:, :1], x)
    assert torch.equal(y[:, 1:], c[:, :, None, None].expand(5, 2, 3, 4))


def test_network_accepts_flat_events_and_raises_without_conditions() -> None:
    net = network("CONV|2|2|2|1|1", 1, 3, 4, conditions=2)
    x, c = random(5, 1, 3, 4), random(5, 2)
    assert torch.equal(net(x, c), net(x.flatten(1), c))
    with pytest.raises(RunError, match=r"needs conditions c\[B, 2\]"):
        net(x)


def test_generator_step_through_a_frozen_discriminator_leaves_it_unchanged_bit_for_bit() -> None:
    generator, discriminator = parse_gan(
        "DENSE|16|RELU, BNORM, DENSE|36|LINEAR, RESHAPE|1|6|6"
        "##CONV|4|3|3|1|1|1|1|LRELU|SN, BNORM|0.9, RESHAPE|12|12, LSTM|5|12|12|1, DENSE|1|LINEAR"
    )
    g = build(generator, input=(3,), seed=1)
    d = build(discriminator, input=(1, 6, 6), seed=2)
    d(random(8, 1, 6, 6))
    before, remembered = copy.deepcopy(d.state_dict()), only_module(d, Recurrent).last
    z = random(8, 3)
    with frozen_statistics(d):
        gradients = torch.autograd.grad(F.softplus(-d(g(z))).mean(), list(g.parameters()))
    assert all(torch.equal(value, before[key]) for key, value in d.state_dict().items())
    assert only_module(d, Recurrent).last is remembered
    assert all(gradient.any() for gradient in gradients)
    d(random(8, 1, 6, 6))
    assert not torch.equal(
        d.state_dict()["layers.layers.1.running_mean"], before["layers.layers.1.running_mean"]
    )


def test_generator_gradient_through_a_frozen_discriminator_equals_that_of_the_composition() -> None:
    g = network("DENSE|16|RELU, BNORM, DENSE|36|LINEAR, RESHAPE|1|6|6", 3)
    d = network(
        "CONV|4|3|3|1|1|1|1|LRELU, BNORM, RESHAPE|FLAT, MBDISC|3|2, DENSE|1|LINEAR", 1, 6, 6
    )
    whole = nn.Sequential(copy.deepcopy(g), copy.deepcopy(d))
    z = random(8, 3)
    with frozen_statistics(d):
        ours = torch.autograd.grad(F.softplus(-d(g(z))).mean(), list(g.parameters()))
    theirs = torch.autograd.grad(F.softplus(-whole(z)).mean(), list(whole[0].parameters()))
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("which", [0, 1])
def test_calogan_is_built_with_its_published_parameters_and_trains(which: int) -> None:
    layout = look_up("calogan")
    net = build(
        parse_gan(layout.layout)[which],
        input=(layout.generator_input, layout.input)[which],
        fields=layout.fields,
        conditions=1,
        role=("generator", "discriminator")[which],
        seed=1,
    )
    parameters = sum(p.numel() for p in net.parameters())
    statistics = sum(b.numel() for n, b in net.named_buffers() if "running" in n)
    assert parameters + statistics == layout.published[which]
    y = net(random(3, *(layout.generator_input, layout.input)[which]).abs(), torch.rand(3, 1))
    assert y.shape == ((3, 504), (3, 1))[which]
    y.mean().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(("text", "input_"), EVERY_WORD)
def test_every_word_compiles_in_one_graph(text: str, input_: tuple[int, ...]) -> None:
    torch.compiler.reset()
    net = network(text, *input_, conditions=conditions(text))
    compiled = torch.compile(copy.deepcopy(net), backend="aot_eager", fullgraph=True)
    x, c = random(4, *input_), random(4, conditions(text), seed=1)
    torch.testing.assert_close(compiled(x, c), net(x, c))


@pytest.mark.parametrize(("text", "input_"), EVERY_WORD)
def test_every_word_exports_for_any_batch(text: str, input_: tuple[int, ...]) -> None:
    net = network(text, *input_, conditions=conditions(text)).eval()
    x, c = random(4, *input_), random(4, conditions(text), seed=1)
    batch = torch.export.Dim("batch", min=2, max=1000)
    program = torch.export.export(net, (x, c), dynamic_shapes=({0: batch}, {0: batch}))
    x, c = random(7, *input_, seed=2), random(7, conditions(text), seed=3)
    torch.testing.assert_close(program.module()(x, c), net(x, c))

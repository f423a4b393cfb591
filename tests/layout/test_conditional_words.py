"""Words that use the conditions or the batch: modulation, adaptive norm, projection, minibatch standard deviation; and attention."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hepgan.errors import LayoutError
from hepgan.layout import parse, trace
from hepgan.layout.nn.network import Network, build


def network(text: str, *input: int, conditions: int = 2) -> Network:
    return build(parse(text), input=input, seed=1, conditions=conditions)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("text", "input", "parameters", "operations"),
    [
        ("MODULATE", (5,), 2 * 5 * 3, 2 * 5 * 2),
        ("MODULATE|4|SILU", (3, 6, 6), 4 * 3 + 6 * 5, 4 * 2 + 6 * 4),
        ("ADALN", (7, 5), 2 * 5 * 3, 2 * 5 * 2),
        ("ADALN|4|SILU", (3, 6, 6), 4 * 3 + 6 * 5, 4 * 2 + 6 * 4),
        ("PROJECTION", (3, 2), 6 + 1 + 2 * 6, 6 + 6 + 2 * 6),
        ("PROJECTION|8|SILU", (6,), 6 + 1 + 8 * 3 + 8 * 6, 6 + 6 + 8 * 2 + 8 * 6),
        ("COND, MINIBATCHSTD", (3, 4, 4), 0, 0),
        ("COND, ATTENTION|3", (4, 5, 6), 4 * (6 * 6 + 6), 4 * 30 * 36 + 2 * 30 * 30 * 6),
        ("COND, ATTENTION|2|POSITIONS", (5, 4), 4 * (6 * 6 + 6) + 30, 4 * 5 * 36 + 2 * 25 * 6),
    ],
)
def test_parameters_and_operations_equal_those_computed_by_hand(
    text: str, input: tuple[int, ...], parameters: int, operations: int
) -> None:
    layers = trace(parse(text), input=input, conditions=2)
    assert sum(layer.parameters for layer in layers) == parameters
    assert sum(layer.operations for layer in layers) == operations
    weights = network(text, *input).parameters()
    assert sum(w.numel() for w in weights) == parameters


@pytest.mark.parametrize("input", [(5,), (4, 5), (5, 3, 2)])
def test_modulation_starts_as_the_identity_and_scales_and_shifts_each_channel(
    input: tuple[int, ...],
) -> None:
    net, x, c = network("MODULATE", *input), random(6, *input), random(6, 2, seed=1)
    assert torch.equal(net(x, c), x)
    weight, bias = net.parameters()
    with torch.no_grad():
        weight.normal_(generator=torch.Generator().manual_seed(2))
        bias.normal_(generator=torch.Generator().manual_seed(3))
    scale, shift = (c @ weight.T + bias).chunk(2, 1)
    channels = (0, 2, 1) if len(input) == 2 else tuple(range(len(input) + 1))
    moved = x.permute(channels)  # [B, channels, …]
    extra = [1] * (moved.ndim - 2)
    expected = moved * (1 + scale.reshape(6, 5, *extra)) + shift.reshape(6, 5, *extra)
    torch.testing.assert_close(net(x, c).permute(channels), expected)


def test_adaptive_layer_norm_starts_as_a_layer_norm() -> None:
    x, c = random(6, 3, 4, 4), random(6, 2, seed=1)
    torch.testing.assert_close(
        network("ADALN|4|SILU", 3, 4, 4)(x, c), nn.functional.layer_norm(x, (3, 4, 4))
    )


def test_a_projection_of_classes_is_a_linear_function_with_a_vector_for_each_class() -> None:
    net, x = network("PROJECTION", 5, conditions=3), random(9, 5)
    classes = torch.arange(9) % 3
    linear, bias, embedding = dict(net.named_parameters()).values()
    expected = ((linear + embedding.T[classes]) * x).sum(1) + bias
    torch.testing.assert_close(net(x, nn.functional.one_hot(classes).float())[:, 0], expected)


@pytest.mark.parametrize("input", [(5,), (4, 5), (5, 3, 2)])
def test_minibatch_std_is_the_mean_standard_deviation_over_the_batch(
    input: tuple[int, ...],
) -> None:
    x = random(6, *input)
    y = network("MINIBATCHSTD", *input, conditions=0)(x)
    axis = 2 if len(input) == 2 else 1
    torch.testing.assert_close(y.narrow(axis, 0, 5), x)
    more = y.narrow(axis, 5, 1)
    torch.testing.assert_close(more, x.std(0, correction=0).mean().expand(more.shape))
    assert network("MINIBATCHSTD", *input, conditions=0)(x[:1]).isfinite().all()


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_equals_that_of_torch(heads: int) -> None:
    net, x = network(f"ATTENTION|{heads}", 7, 6, conditions=0), random(4, 7, 6)
    theirs = nn.MultiheadAttention(6, heads, batch_first=True)
    weights = [w.detach() for w in net.parameters()]
    with torch.no_grad():
        for parameter, value in zip(theirs.parameters(), weights, strict=True):
            parameter.copy_(value)
    torch.testing.assert_close(net(x), theirs(x, x, x, need_weights=False)[0])
    images = network(f"ATTENTION|{heads}", 6, 7, 1, conditions=0)
    torch.testing.assert_close(images(x.transpose(1, 2)[..., None]).squeeze(3).transpose(1, 2), net(x))  # fmt: skip


def test_attention_with_zero_starts_as_the_identity_in_a_residual_block_and_learns() -> None:
    net, x = network("RES[LNORM, ATTENTION|2|ZERO]", 5, 4, conditions=0), random(3, 5, 4)
    assert torch.equal(net(x), x)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    gradients = {n: w.grad for n, w in net.named_parameters() if w.grad is not None}
    assert all(bool(g.abs().sum() > 0) for n, g in gradients.items() if n.endswith("weight"))


def test_attention_sees_the_order_of_tokens_only_with_positions() -> None:
    x = random(2, 5, 4)
    plain = network("ATTENTION|2", 5, 4, conditions=0)
    torch.testing.assert_close(plain(x.flip(1)), plain(x).flip(1))
    placed = network("ATTENTION|2|POSITIONS", 5, 4, conditions=0)
    with torch.no_grad():
        dict(placed.named_parameters())["layers.layers.0.positions"].normal_()
    assert not torch.allclose(placed(x.flip(1)), placed(x).flip(1))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("ATTENTION|2", {"input": (6,)}, "ATTENTION needs tokens"),
        ("ATTENTION|4", {"input": (5, 6)}, "4 heads do not divide the 6 channels of 5\\|6"),
        ("MODULATE", {"input": (6,)}, "MODULATE needs conditions"),
        ("PROJECTION", {"input": (6,)}, "PROJECTION needs conditions"),
        ("ADALN|SILU", {"input": (6,), "conditions": 2}, "write ADALN\\|width\\|activation"),
    ],
)
def test_words_that_do_not_fit_raise(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        trace(parse(text), **options)

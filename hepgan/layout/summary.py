"""Layer table of a network or GAN as plain values, for the command line and JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from hepgan.errors import LayoutError, with_caret
from hepgan.layout.parser import parse, parse_gan
from hepgan.layout.shapes import LayerInfo, layer_table, shape_context, trace_steps
from hepgan.layout.spec.base import LAYERS, Layout, Role, Shape, format_shape, size


def summarize(
    text: str,
    *,
    input: Shape,
    generator_input: Shape | None = None,
    features: int = 0,
    conditions: int = 0,
    fields: Mapping[str, Shape] | None = None,
) -> dict[str, Any]:
    """Returns layers, output shapes, parameters and multiply-adds of a network, or of both networks if ``text`` has ``##``.

    Args:
        text: The layout.
        input: Shape of one event: the input of the network, or of the discriminator.
        generator_input: Shape of the noise; by default that of the event, as in TMVA.
        features: ``N``; 0 counts the values of ``fields``, or else of ``input``.
        conditions: ``C``, the number of conditions.
        fields: Shapes of the event's fields, in order.

    Returns:
        ``{"network": net}`` or ``{"generator": net, "discriminator": net}`` with net ``{"layers": [{"word", "output",
        "parameters", "operations", "branch"}, …], "parameters", "trainable", "operations"}``. ``parameters`` counts the
        running statistics of batch norms, as Keras and the papers do; ``trainable`` does not.

    Raises:
        LayoutError: as for ``parse`` and ``trace``; or the generator's output does not have the event's ``N`` values, if
            ``features`` or ``fields`` declare them.
    """
    fields = fields or {}
    features = features or sum(map(size, fields.values()))
    if "##" not in text:
        layout = parse(text)
        return {"network": _network(layout, input, features, conditions, fields, 0, None)}
    generator, discriminator = parse_gan(text)
    wanted = features or size(input)
    generated = _network(
        generator, generator_input or input, wanted, conditions, fields, wanted, "generator"
    )
    if features:
        check_generated(generator, tuple(generated["layers"][-1]["output"]), features)
    discriminated = _network(discriminator, input, wanted, conditions, fields, 1, "discriminator")
    return {"generator": generated, "discriminator": discriminated}


def words() -> list[dict[str, str]]:
    """Returns every word of the language with its spellings, flags and description."""
    return [
        {
            "word": word or "[a; b]",
            "spellings": " or ".join(kind.spellings()),
            "flags": " ".join("/".join(group) for group in kind.known_flags),
            "description": (kind.__doc__ or "").split("\n")[0],
        }
        for word, kind in LAYERS.items()
    ]


def check_generated(generator: Layout, output: Shape, features: int) -> None:
    """Raises ``LayoutError``, pointing at the last layer, if the generator's output does not have ``features`` values."""
    if size(output) != features:
        text = generator.text or str(generator)
        start, end = generator.words[-1].span() or (0, len(text))
        message = f"the generator's output is {format_shape(output)} = {size(output)} values"
        raise LayoutError(
            with_caret(f"{message}, but an event has N = {features}", text, start, end)
        )


def _network(
    layout: Layout,
    input: Shape,
    features: int,
    conditions: int,
    fields: Mapping[str, Shape],
    outputs: int,
    role: Role | None,
) -> dict[str, Any]:
    steps = trace_steps(
        layout, input, shape_context(input, features, conditions, fields, outputs, role)
    )
    return summarize_layers(layer_table(steps))


def summarize_layers(layers: Sequence[LayerInfo]) -> dict[str, Any]:
    """Returns layers, parameters and multiply-adds of a network from its layer table, as ``summarize`` does."""
    parameters = sum(layer.parameters for layer in layers)
    return {
        "layers": [_line(layer) for layer in layers],
        "parameters": parameters,
        "trainable": parameters - sum(layer.statistics for layer in layers),
        "operations": sum(layer.operations for layer in layers),
    }


def _line(layer: LayerInfo) -> dict[str, Any]:
    return {
        "word": layer.word,
        "output": list(layer.output),
        "parameters": layer.parameters,
        "operations": layer.operations,
        "branch": layer.branch,
    }

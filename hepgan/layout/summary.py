"""The table of a layout's layers as plain values, for the command line and its JSON."""

from collections.abc import Mapping
from typing import Any

from hepgan.layout.parser import parse, parse_gan
from hepgan.layout.shapes import LayerInfo, layer_table, shape_context, trace_steps
from hepgan.layout.spec.arguments import spans, spellings
from hepgan.layout.spec.base import Layout, Role, Shape, format_shape, size
from hepgan.layout.spec.dense_norm import LAYERS
from hepgan.layout.spec.diagnostics import error_at


def summarize(
    text: str,
    *,
    input: Shape,
    generator_input: Shape | None = None,
    features: int = 0,
    conditions: int = 0,
    fields: Mapping[str, Shape] | None = None,
) -> dict[str, Any]:
    """Layers, output shapes, parameters and multiply-adds of a network, or of a GAN's two where ``text`` has ``##``.

    Args:
        text: The layout.
        input: The shape of one event: what the network, or the discriminator, is given.
        generator_input: The shape of the noise; by default the event's, as in TMVA.
        features: ``N``; 0 takes the values of ``fields``, else of ``input``.
        conditions: ``C``.
        fields: The shape of each of the event's fields, in order.

    Returns:
        ``{"network": net}`` or ``{"generator": net, "discriminator": net}`` with net ``{"layers": [{"word", "output",
        "parameters", "operations", "branch"}, …], "parameters", "trainable", "operations"}``. ``parameters`` counts the
        running statistics of normalisations, as Keras and the papers do; ``trainable`` does not.

    Raises:
        LayoutError: as ``parse`` and ``trace``; a generator that does not make the event's
            ``N`` values, where ``features`` or ``fields`` say what these are.
    """
    fields = fields or {}
    features = features or sum(map(size, fields.values()))
    if "##" not in text:
        layout = parse(text)
        return {"network": _network(layout, input, features, conditions, fields, 0, None)}
    generator, discriminator = parse_gan(text)
    wanted = features or size(input)
    made = _network(
        generator, generator_input or input, wanted, conditions, fields, wanted, "generator"
    )
    if features:
        check_generated(generator, tuple(made["layers"][-1]["output"]), features)
    judged = _network(discriminator, input, wanted, conditions, fields, 1, "discriminator")
    return {"generator": made, "discriminator": judged}


def words() -> list[dict[str, str]]:
    """Every word of the language: how it is written, its flags, and what it does."""
    return [
        {
            "word": word or "[a; b]",
            "written": " or ".join(spellings(kind)),
            "flags": " ".join("/".join(group) for group in kind.known_flags),
            "about": (kind.__doc__ or "").split("\n")[0],
        }
        for word, kind in LAYERS.items()
    ]


def check_generated(generator: Layout, output: Shape, features: int) -> None:
    """Raises ``LayoutError``, at its last layer, for a generator whose output is not an event's ``features`` values."""
    if size(output) != features:
        text = generator.text or str(generator)
        start, end = spans(generator.words[-1]) or (0, len(text))
        message = f"the generator makes {format_shape(output)} = {size(output)} values"
        raise error_at(f"{message}, but an event has N = {features}", text, start, end)


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
    layers = layer_table(steps)
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

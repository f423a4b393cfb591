"""Reference pages generated from the code: each ``<!-- name -->`` in a page is replaced while the site is built.

This is a hook of mkdocs (``mkdocs.yml``) that only needs hepgan, so that the pages are never out of date.
"""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hepgan.cli.presets import format_score, headlines
from hepgan.data.encoding.steps import STEPS
from hepgan.gan.serialization import VERSION
from hepgan.gan.training import objectives
from hepgan.gan.training.schedule import Schedule
from hepgan.layout.spec import composite, convolution, physics, pooling, recurrent
from hepgan.layout.spec.base import (
    ACTIVATIONS,
    INITIALIZATIONS,
    LAYERS,
    Activation,
    LayerSpec,
)
from hepgan.layout.zoo import published_layouts
from hepgan.pipeline import RunConfig, preset_scores, presets

MISSING = (dataclasses.MISSING, inspect.Parameter.empty)
PLAIN = {int: "integer", float: "number", str: "text", bool: "true or false", Schedule: "schedule"}
PLURALS = {int: "integers", float: "numbers", str: "texts"}
KINDS = {
    convolution: "Images and voxels",
    pooling: "Pooling and resizing",
    recurrent: "Sequences",
    composite: "Networks inside",
    physics: "For events",
}


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: object) -> str:
    """Fills a page (called by mkdocs); links to tutorials go to their pages, those out of ``docs/`` to the repository."""
    for name, text in PAGES.items():
        markdown = markdown.replace(f"<!-- {name} -->", text())
    markdown = re.sub(r"\]\((tutorials/[\w-]+)\.ipynb\)", r"](\1.md)", markdown)
    outside = "../" * (1 + page.file.src_uri.count("/"))
    return markdown.replace(f"]({outside}", f"]({config['repo_url']}/blob/main/")


def words() -> str:
    """Returns every layer word by kind, with spellings, fields, defaults and flags."""
    parts: list[str] = []
    for kind in (None, *KINDS):
        parts.append(f"## {KINDS[kind] if kind else 'Any shape'}")
        for word in LAYERS.values():
            module = inspect.getmodule(word)
            if module is kind or (kind is None and module not in KINDS):
                parts += _word(word)
    return "\n\n".join(parts)


def _word(word: type[LayerSpec]) -> Iterator[str]:
    yield f"### {word.word or '[ … ; … ]'}"
    yield "\n".join(["```", *word.spellings(), "```"])
    yield about(word)
    numbers = {name for form in word.forms for name in form}
    shown = [f for f in dataclasses.fields(word) if f.name in numbers]
    if shown:
        yield table(
            ("field", "default", "at least"),
            [
                (f.name.replace("_", " "), _usual(f), _value(f.metadata.get("bounds", ("",))[0]))
                for f in shown
            ],
        )
    defaults = {f.name: f.default for f in dataclasses.fields(word)}
    if isinstance(defaults.get("activation"), Activation):
        yield f"Activation: `{defaults['activation']}` by default."
    groups = [_flags(group) for group in word.known_flags]
    if groups:
        yield f"Flags: {', '.join(groups)}."


def _usual(field: "dataclasses.Field[Any]") -> str:
    """Returns a number's default; empty if it is out of bounds, which stands for no value."""
    least, _ = field.metadata.get("bounds", (None, None))
    none = least is not None and field.default not in MISSING and field.default < least
    return "" if none else _value(field.default)


def _flags(group: tuple[str, ...]) -> str:
    if group == INITIALIZATIONS:
        return "an [initialization](#initializations)"
    return " or ".join(f"`{flag}`" for flag in group)


def activations() -> str:
    """Returns every activation, with its default slope if it has one."""
    rows = [(f"`{name}`", _value(slope) if slope else "") for name, slope in ACTIVATIONS.items()]
    return table(("activation", "default slope"), rows)


def initializations() -> str:
    """Returns the names of all weight initializations."""
    return ", ".join(f"`{name}`" for name in INITIALIZATIONS)


def published() -> str:
    """Returns the table of published layouts."""
    rows = [
        (f"`{name}`", entry.description, entry.source)
        for name, entry in published_layouts().items()
    ]
    return table(("name", "network", "from"), rows)


def gallery() -> str:
    """Returns every published layout with the diagram of its networks: shapes, layers and parameters."""
    parts: list[str] = []
    for name, entry in published_layouts().items():
        parts += [
            f"## {name}",
            f"{entry.description}. From {entry.source}.",
            f"`{_one_line(entry.layout)}`",
        ]
        for role, network in entry.summary().items():
            counts = (
                f"{network['parameters']:,} parameters, {network['operations']:,} multiply-adds"
            )
            start = entry.generator_input if role == "generator" else entry.input
            parts.append(f"**{role.capitalize()}**: {counts}")
            parts.append("\n".join(["```text", *_diagram(network["layers"], start), "```"]))
    return "\n\n".join(parts)


def _one_line(layout: str) -> str:
    return " ".join(layout.split()).replace("##", " ## ").replace("  ", " ")


def _diagram(layers: Sequence[Mapping[str, Any]], start: Sequence[int]) -> Iterator[str]:
    """Yields a line per layer with its output and its parameters, and a line with the name of each branch."""
    rows = [("×".join(map(str, start)), "", "")]
    branch = ""
    for layer in layers:
        depth = layer["branch"].count("/") + 1 if layer["branch"] else 0
        if layer["branch"] not in ("", branch):
            rows.append((f"{'  │' * depth} {layer['branch']}", "", ""))
        branch = layer["branch"]
        count = f"{layer['parameters']:,}" if layer["parameters"] else ""
        output = "×".join(map(str, layer["output"]))
        rows.append((f"{'  │' * depth}  ↓ {layer['word']}", output, count))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for left, output, count in rows:
        yield f"{left:{widths[0]}}  {output:{widths[1]}}  {count:>{widths[2]}}".rstrip()


def measured_presets() -> str:
    """Returns the table of presets with their sizes and measured scores, if any."""
    results = preset_scores()
    rows = []
    for name, description in presets().items():
        one = results.get(name, {"scores": {}})
        scores = [
            f"{text} {format_score(one['scores'][m])}" for m, text in headlines(one["scores"])
        ]
        size = f"{one['parameters'] / 1e6:.2g} M" if "parameters" in one else ""
        trained = f"{one['steps']:,} × {one['batch']}" if "steps" in one else ""
        rows.append((f"`{name}`", description, size, trained, "; ".join(scores)))
    return table(("preset", "for", "generator", "steps × events", "scores (baseline)"), rows)


def run_file() -> str:
    """Returns every table of a run file with its keys, types, defaults and meaning."""
    parts: list[str] = []
    first: dict[type, str] = {}
    for where, record in tables(RunConfig).items():
        parts.append(f"## `{where}`" if where else "## Top-level keys")
        parts += [f"As `{first[record]}`."] if record in first else _table_of(record)
        first.setdefault(record, where)
    return "\n\n".join(parts)


def _table_of(record: type) -> Iterator[str]:
    if record is not RunConfig:
        yield about(record)
    yield from table_of_keys(record)


def table_of_keys(record: type) -> Iterator[str]:
    """Yields the table of the keys of a record that are values; nothing if there are none."""
    hints, texts = typing.get_type_hints(record), attributes(record)
    rows = [
        (
            f"`{field.name.removesuffix('_')}`",
            kind(hints[field.name]),
            default(field),
            texts[field.name],
        )
        for field in dataclasses.fields(record)
        if not inner(hints[field.name])
    ]
    if rows:
        yield table(("key", "type", "default", "meaning"), rows)


def tables(record: type, where: str = "") -> dict[str, type]:
    """Returns the dataclass of each TOML table by the table's name, such as ``[schema.fields.<name>]``."""
    records = {where: record}
    path = where.strip("[]")
    for name, hint in typing.get_type_hints(record).items():
        key = f"{path}.{name}" if path else name
        if several := [part for part in typing.get_args(hint) if typing.get_origin(part) is tuple]:
            records |= {f"[[{key}]]": dataclass for part in several if (dataclass := inner(part))}
        if dataclass := inner(hint):
            key += ".<name>" if typing.get_origin(hint) is Mapping else ""
            several = typing.get_origin(hint) is tuple
            records |= {f"[[{key}]]": dataclass} if several else tables(dataclass, f"[{key}]")
    return records


def inner(hint: Any) -> type | None:
    """Returns the dataclass of a table, of a table of tables or of a list of them; ``None`` for values, schedules included."""
    for part in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(part) and part is not Schedule:
            return typing.cast(type, part)
    return None


def objectives_table() -> str:
    """The objectives, as the module that has them lists them."""
    lines = (inspect.getdoc(objectives) or "").splitlines()
    return "\n".join(line.replace("``", "`") for line in lines if line.startswith("|"))


def steps() -> str:
    """Returns every step of an encoding, with its settings."""
    parts: list[str] = []
    for name, step in STEPS.items():
        fit: Callable[..., object] = typing.cast(Any, step).fit
        hints = typing.get_type_hints(fit, include_extras=True)
        rows = [
            (f"`{key}`", kind(hints[key]), _value(parameter.default))
            for key, parameter in inspect.signature(fit).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        parts += [f"### {name}", about(step), about(fit)]
        if rows:
            parts.append(table(("setting", "type", "default"), rows))
    return "\n\n".join(parts)


def kind(hint: Any) -> str:
    """Returns a type in TOML's terms."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        limits = str(inside[1])
        return kind(inside[0]) if limits == "finite" else f"{kind(inside[0])}, {limits}"
    if origin is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in inside)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(kind(part) for part in inside if part is not types.NoneType)
    if origin is tuple and inside[1] is Ellipsis:
        if typing.get_origin(inside[0]) in (typing.Union, types.UnionType):
            return f"list of {' or '.join(PLURALS.get(part, 'tables') for part in typing.get_args(inside[0]))}"
        choices = typing.get_origin(inside[0]) is typing.Literal
        return f"list of {kind(inside[0]) if choices else PLURALS.get(inside[0], 'tables')}"
    if origin is tuple:
        (item, *_) = typing.get_args(inside[0]) or (inside[0],)
        return f"list of {len(inside)} {PLURALS[item]}"
    if origin is Mapping:
        return f"table of {kind(inside[1]).replace('list', 'lists')}"
    return PLAIN[hint]


def default(field: "dataclasses.Field[Any]") -> str:
    """Returns a field's default, as TOML."""
    factory = field.default_factory
    return _value(field.default if factory is dataclasses.MISSING else factory())


def _value(value: Any) -> str:
    if value in MISSING:
        return "*required*"
    if value is None or value == "":
        return ""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    if isinstance(value, tuple):
        text = repr(list(value))
    return f"`{text}`".replace("'", '"')


def about(thing: Any) -> str:
    """Returns a docstring as Markdown, without its sections."""
    text = re.split(r"\n\n?(?:Attributes|Raises|Args|Returns):\n", inspect.getdoc(thing) or "")[0]
    return text.replace("``", "`")


def attributes(record: type) -> dict[str, str]:
    """Returns the description of each attribute in a docstring."""
    _, _, text = (inspect.getdoc(record) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): ((?:.+\n?)(?: {8}.+\n?)*)", text, re.MULTILINE)
    return {name: " ".join(text.split()).replace("``", "`") for name, text in entries}


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def example(path: Path) -> str:
    """Returns the code of an example, with a link to it."""
    code = path.read_text(encoding="utf-8").rstrip()
    return f"```python\n{code}\n```\n\nThis is [{path.name}](../examples/{path.name}), which the tests run."


PAGES = {
    "words": words,
    "activations": activations,
    "initializations": initializations,
    "published": published,
    "run file": run_file,
    "presets": measured_presets,
    "gallery": gallery,
    "format version": lambda: f" (version {VERSION})",
    "objectives": objectives_table,
    "schedules": lambda: "\n".join(table_of_keys(Schedule)),
    "steps": steps,
    **{
        f"example {path.stem}": functools.partial(example, path)
        for path in sorted(Path(__file__).parents[1].glob("examples/own_*.py"))
    },
}

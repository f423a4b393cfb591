"""Model card of a trained GAN: a page in Markdown that goes with the run folder when it is shared."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import hepgan
from hepgan.atomic import write_text
from hepgan.data.io.files import base_name
from hepgan.data.io.names import printable
from hepgan.errors import RunError
from hepgan.evaluation.formatting import with_error
from hepgan.gan import pretrained, sources
from hepgan.gan.model import GAN
from hepgan.gan.networks import count_parameters
from hepgan.pipeline.config import RunConfig, is_run_folder, load

LICENSE = "TO BE FILLED IN"
"""Placeholder: only the owner of the data and the weights can choose a license."""

LIMITS = """## Limits

Valid only for the detector, particles and conditions of the training events; values outside the ranges above are an error. A generated
sample does not contain more information than the training events: see "What a GAN cannot add" in the documentation of hepgan."""


def card(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Writes a model card in Markdown and returns its path.

    Args:
        folder: Run folder of a trained GAN, the name of a pretrained one, or an address.
        output: File to write; ``README.md`` in the run folder by default.
        overwrite: Whether to replace an existing file.

    Raises:
        HepganError: there is no GAN, or the file exists.
    """
    remote = sources.is_remote(folder)
    if output is None and (remote or pretrained.find(folder)):
        kind = "an address" if remote else "a pretrained GAN of the package"
        raise RunError(f"{folder} is {kind}; pass -o FILE.md")
    path = Path(folder) / "README.md" if output is None else Path(output)
    if path.suffix != ".md":
        raise RunError(f"{path} does not end with .md; rename the card")
    if path.exists() and not overwrite:
        raise RunError(
            f"{path} exists; choose another file with -o, or replace it with --overwrite"
        )
    name = str(folder) if remote else Path(folder).resolve().name
    local = sources.local_folder(folder)
    gan = GAN.load(local, device="cpu")
    write_text(path, card_text(gan, _run_of(local), name=name))
    return path


def card_text(gan: GAN, run: RunConfig | None, *, name: str) -> str:
    """Returns the model card of ``gan`` in Markdown: events, conditions, data, networks, encoding, scores and how to load it."""
    model = (
        "A conditional encoding fitted"
        if _is_encoding_alone(gan)
        else "A generative adversarial network trained"
    )
    description = (
        f"{run.description[:1].upper()}{run.description[1:]}." if run and run.description else ""
    )
    blocks = [
        f"---\nlicense: other  # {LICENSE}\nlibrary_name: hepgan\ntags: [gan, high-energy-physics, root]\n---",
        f"# {_plain(name)}",
        f"{_plain(description)} {model} with hepgan {hepgan.__version__}.".strip(),
        f"License: **{LICENSE}**. Authors and contact: **{LICENSE}**.",
        _usage(gan, name),
        _events(gan),
        _data(gan, run),
        _networks(gan, run),
        _scores(gan),
        LIMITS,
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _run_of(folder: str | os.PathLike[str]) -> RunConfig | None:
    """Returns the run of a run folder; ``None`` for a folder that holds only a GAN, as that of a pretrained one."""
    return load(folder) if is_run_folder(folder) else None


def _usage(gan: GAN, name: str) -> str:
    scales = gan.encoding.scales
    ranges = {
        n: str(s.classes[0]) if s.classes else f"hepgan.Range({s.range[0]:g}, {s.range[1]:g})"
        for n, s in scales.items()
    }
    conditions = ", ".join(f"{n!r}: {value}" for n, value in ranges.items())
    argument = f", conditions={{{conditions}}}" if conditions else ""
    options = "".join(
        f" --condition '{n}={s.classes[0] if s.classes else f'{s.range[0]:g}:{s.range[1]:g}'}'"
        for n, s in scales.items()
    )
    return _plain(
        "## How to use it\n\nDownload this folder. In Python:\n\n```python\nimport hepgan\n\n"
        f'gan = hepgan.GAN.load("{name}")\nevents = gan.sample(1000{argument}, seed=1)\n```\n\n'
        f"On the command line:\n\n```sh\nhepgan generate {name} -n 1000 -o events.root --seed 1{options}\n```",
        keep="\n",
    )


def _events(gan: GAN) -> str:
    schema, scales = gan.schema, gan.encoding.scales
    fields = [
        (name, " × ".join(map(str, field.shape)) or "scalar", field.unit, field.dtype or "")
        for name, field in schema.fields.items()
    ]
    conditions = [
        (
            name,
            str(scale),
            schema.conditions[name].unit,
            "incident energy" * (name == schema.incident),
        )
        for name, scale in scales.items()
    ]
    text = f"## Events\n\nTree `{_plain(gan.tree)}`.\n\n{_table(('field', 'shape', 'unit', 'type'), fields)}"
    if conditions:
        text += f"\n\n{_table(('condition', 'range', 'unit', 'role'), conditions)}"
    return text


def _data(gan: GAN, run: RunConfig | None) -> str:
    if run is None:
        return ""
    data = run.data
    rows = {
        "files": ", ".join(base_name(file) for file in data.files),
        "cut": data.cut or "none",
        "weight": data.weight or "",
        "splits": ", ".join(f"{name} {part:.0%}" for name, part in data.fractions.items()),
        "events that the encoding was fitted to": gan.encoding.about_events if gan.encoding.fitted_events else "",
        "seed": str(run.seed),
    }  # fmt: skip
    return f"## Training data\n\n{_facts(rows)}"


def _is_encoding_alone(gan: GAN) -> bool:
    return gan.kept is not None and not gan.kept.adversarial


def _networks(gan: GAN, run: RunConfig | None) -> str:
    encoding = {"encoding": repr(gan.encoding).removeprefix("Encoding(").removesuffix(")")}
    kept = {"weights": str(gan.kept or "")}
    if _is_encoding_alone(gan):
        return f"## Encoding\n\n{_facts(encoding | kept)}"
    counts = count_parameters(
        gan.settings, gan.encoding, discriminator_shapes=gan.discriminator_shapes
    )
    generator, *discriminators = gan.settings.layouts
    layouts = {"generator": f"`{generator}`"}
    layouts["discriminator"] = "; ".join(f"`{layout}`" for layout in discriminators) or "none"
    rows = {name: f"{layouts[name]}, {number:,} parameters" for name, number in counts.items()} | {
        "noise": " × ".join(map(str, gan.latent)),
        **encoding,
        "objective": run.train.objective if run else "",
        "steps": f"{run.steps:,} of {run.train.batch_size} events" if run else "",
        **kept,
    }
    return f"## Networks and training\n\n{_facts(rows)}"


def _scores(gan: GAN) -> str:
    rows = [
        (
            score.metric, with_error(score.value, score.error), with_error(score.baseline, score.baseline_error),
            f"{score.n_generated:,} and {score.n_reference:,}",
        )
        for score in gan.scores.overall
    ]  # fmt: skip
    if not rows:
        return "## Scores\n\nNot evaluated yet; `hepgan run FOLDER --resume` does it."
    table = _table(("metric", "value", "baseline", "generated and reference events"), rows)
    return (
        "## Scores\n\nOf all observables or cells together, against reference events that were not used in training; the baseline is the"
        f" score of two reference samples of this size.\n\n{table}"
    )


def _facts(rows: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {_plain(text)}" for name, text in rows.items() if text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return _plain(text).replace("|", r"\|")


def _plain(text: str, keep: str = "") -> str:
    """Returns ``text`` without control characters and without HTML."""
    return printable(text, keep=keep).replace("<", "&lt;")

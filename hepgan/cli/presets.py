"""``hepgan presets``."""

from collections.abc import Mapping
from typing import Any

import click

from hepgan.cli.options import examples

HEADLINES = {
    "auc_low": "AUC of cells",
    "auc_high": "of the CaloChallenge's observables",
    "digit_frechet": "Fréchet distance",
    "digit_confidence": "confidence",
}
"""Scores that are listed, and their names."""


def complete_preset(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Returns the presets that start with ``incomplete``."""
    from hepgan.presets import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


@click.command(
    epilog=examples(
        "hepgan presets",
        "hepgan presets showers > mine.toml",
    )
)
@click.argument("name", required=False, shell_complete=complete_preset)
def presets(name: str | None) -> None:
    """List the run files that come with the package, or print the one called NAME, to start your own from it.

    The list has description, size and measured scores.

    Scores are means over seeds, with their standard deviation, of the classifiers and metrics of the runs' own reports;
    in brackets the baseline, reference against reference. AUCs are those of cells (auc_low) and of the CaloChallenge's high-level
    observables (auc_high). Published GANs are marked with the fraction of their recipe for which they were trained.
    """
    from hepgan import presets as library
    from hepgan.gan.pretrained import folders, scores

    if name is not None:
        click.echo(library.preset_text(name), nl=False)
        return
    figures = library.preset_scores()
    width = max(map(len, library.preset_names()))
    for preset, description in library.presets().items():
        click.echo(f"{preset:{width}} {description}")
        if preset in figures:
            click.echo(f"{'':{width}} {_measured_line(figures[preset])}")
        if mark := library.recipe_fraction(preset):
            recipe = library.baselines()[preset]
            click.echo(
                f"{'':{width}} trained for {mark}, not the quality of the published GAN: {recipe.recipe} ({recipe.source})"
            )
        if preset in folders():
            pretrained = scores(preset)
            rows = {row["metric"]: row for row in pretrained["scores"]}
            texts = [
                f"{text} {rows[metric]['value']:.3g} ({rows[metric]['baseline']:.3g})"
                for metric, text in headlines(rows)
            ]
            click.echo(f"{'':{width}} pretrained, hepgan generate {preset}: {', '.join(texts)}")


def _measured_line(figures: Mapping[str, Any]) -> str:
    """Returns size, training and scores in one line."""
    scores = [
        f"{text} {format_score(figures['scores'][metric])}"
        for metric, text in headlines(figures["scores"])
    ]
    size = f"generator {figures['parameters'] / 1e6:.2g} M"
    trained = f"{figures['steps']:,} steps of {figures['batch']}, {figures['seeds']} seeds"
    return f"{size}; {trained.replace(' 1 seeds', ' 1 seed')}: {', '.join(scores)}"


def headlines(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns metrics and their names; digits have their own."""
    digits = "digit_frechet" in scores
    return [(m, t) for m, t in HEADLINES.items() if m in scores and m.startswith("digit") == digits]


def format_score(score: Mapping[str, Any]) -> str:
    """Returns mean, standard deviation over seeds if there are several, and baseline."""
    deviation = "" if score["sd"] is None else f" ± {score['sd']:.3g}"
    return f"{score['mean']:.3g}{deviation} ({score['baseline']:.3g})"

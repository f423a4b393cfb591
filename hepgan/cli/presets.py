"""``hepgan presets``."""

from collections.abc import Mapping
from typing import Any

import click

HEADLINES = {
    "auc_low": "AUC of cells",
    "auc_high": "of observables",
    "digit_frechet": "Fréchet distance",
    "digit_confidence": "confidence",
}
"""The scores that are listed."""


@click.command()
def presets() -> None:
    """List the run files that come with the package: what for, how large, and how good they were found to be.

    Scores are means over seeds, with their standard deviation, of the classifiers and metrics of the runs' own reports;
    in brackets the same of reference against reference.
    """
    from hepgan import pipeline as library
    from hepgan.gan.pretrained import folders, scores

    found = library.measured()
    for name, purpose in library.presets().items():
        click.echo(f"{name:12} {purpose}")
        if name in found:
            click.echo(f"{'':12} {_told(found[name])}")
        if name in folders():
            one = scores(name)
            rows = {row["metric"]: row for row in one["scores"]}
            told = [
                f"{text} {rows[metric]['value']:.3g} ({rows[metric]['baseline']:.3g})"
                for metric, text in headlines(rows)
            ]
            click.echo(f"{'':12} comes trained, hepgan generate {name}: {', '.join(told)}")


def _told(found: Mapping[str, Any]) -> str:
    """Size, training and scores in a line."""
    scores = [
        f"{text} {with_spread(found['scores'][metric])}"
        for metric, text in headlines(found["scores"])
    ]
    size = f"generator {found['parameters'] / 1e6:.2g} M"
    trained = f"{found['steps']:,} steps of {found['batch']}, {found['seeds']} seeds"
    return f"{size}; {trained.replace(' 1 seeds', ' 1 seed')}: {', '.join(scores)}"


def headlines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Metrics and what they are called; of digits their own."""
    digits = "digit_frechet" in found
    return [(m, t) for m, t in HEADLINES.items() if m in found and m.startswith("digit") == digits]


def with_spread(score: Mapping[str, Any]) -> str:
    """Mean, standard deviation over seeds where there are several, and the baseline."""
    spread = "" if score["sd"] is None else f" ± {score['sd']:.3g}"
    return f"{score['mean']:.3g}{spread} ({score['baseline']:.3g})"

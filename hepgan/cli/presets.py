"""``hepgan presets``."""

import click

HEADLINES = ("auc_low", "auc_high", "digit_frechet", "digit_confidence")
"""The scores that are listed, where a trained GAN comes with the package."""


@click.command()
def presets() -> None:
    """List the run files that come with the package, and how good their trained GANs are."""
    from hepgan import run as library
    from hepgan.gan.trained import scores, trained

    for name, purpose in library.presets().items():
        click.echo(f"{name:12} {purpose}")
        if name in trained():
            found = scores(name)
            size = f"{found['parameters']['generator'] / 1e6:.2f} M parameters"
            rows = [score for score in found["scores"] if score["metric"] in HEADLINES]
            texts = [f"{s['metric']} {s['value']:.3f} (floor {s['floor']:.3f})" for s in rows]
            click.echo(f"{'':12} comes trained: {', '.join([size, *texts])}")

"""``hepgan upgrade``."""

import click

from hepgan.cli.options import OVERWRITE, PLUGIN, examples


@click.command(epilog=examples("hepgan upgrade runs/showers", "hepgan upgrade runs/*"))
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=click.Path())
@OVERWRITE
@PLUGIN
def upgrade(folders: tuple[str, ...], overwrite: bool) -> None:
    """Rewrite GANs of earlier versions of hepgan in the current format.

    Each GAN is loaded first; its old files are kept beside the new ones, gan.json as gan.json.v3. --overwrite replaces those of an
    earlier upgrade.
    """
    from hepgan.gan import serialization as library
    from hepgan.gan.members import gan_folders
    from hepgan.gan.versions import VERSION

    for folder in [gan for each in folders for gan in gan_folders(each)]:
        before = library.upgrade(folder, overwrite=overwrite)
        new = before < VERSION
        done = f"upgraded from version {before} to" if new else "already of version"
        click.echo(f"{folder}: {done} {VERSION}")

"""The command line; each command is one library call."""

import signal
from typing import Any

import click

from hepgan.cli.card import card
from hepgan.cli.convert import convert
from hepgan.cli.evaluate import evaluate
from hepgan.cli.export import export
from hepgan.cli.fetch import fetch
from hepgan.cli.generate import generate
from hepgan.cli.init import init
from hepgan.cli.inspect import inspect
from hepgan.cli.layout import layout
from hepgan.cli.presets import presets
from hepgan.cli.run import run
from hepgan.cli.scan import scan
from hepgan.cli.signals import ending_cleanly, received
from hepgan.cli.simulate import simulate
from hepgan.cli.train import train
from hepgan.cli.upgrade import upgrade
from hepgan.cli.verbosity import add_verbosity, start_log
from hepgan.data.io.names import printable
from hepgan.errors import HepganError
from hepgan.gan.training.signals import TrainingStopped


class Commands(click.Group):
    """Command group that reports user errors in one line and exits with 2.

    Ctrl-C, SIGTERM and SIGHUP end any command with 128 plus the signal's number: 130, 143 and 129.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except TrainingStopped as stopped:
            click.echo(f"hepgan: {stopped}", err=True)
            ctx.exit(stopped.code)
        except Exception as error:
            if number := received():
                click.echo("hepgan: stopped", err=True)
                ctx.exit(128 + number)
            if not isinstance(error, HepganError):
                raise
            message = printable(
                str(error), keep="\n"
            )  # names from files may contain control characters
            click.echo(f"hepgan: error: {message}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("hepgan: stopped", err=True)
            ctx.exit(128 + signal.SIGINT)
        except SystemExit:  # by a signal, see ``signals``
            click.echo("hepgan: stopped", err=True)
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order of use rather than alphabetically."""
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hepgan", prog_name="hepgan")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Train, evaluate and run GANs straight from ROOT files."""
    ctx.with_resource(ending_cleanly())
    start_log(ctx)


for _command in (
    init, run, train, scan, generate, simulate, evaluate, export, card, layout, inspect, convert, fetch, upgrade, presets,
):  # fmt: skip
    main.add_command(_command)
for _command in (main, *main.commands.values()):
    add_verbosity(_command)

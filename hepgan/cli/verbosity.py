"""Options ``-v`` and ``-q`` of every command, and the log on stderr that they control."""

import logging

import click

from hepgan.progress import NOTICE

_VERBOSITY, _HANDLER = "hepgan.verbosity", "hepgan.handler"
_LEVELS = {"quiet": logging.ERROR, "normal": NOTICE, "verbose": logging.INFO}


def start_log(ctx: click.Context) -> None:
    """Prints the log on stderr until the command ends."""
    root, logger = logging.getLogger(), logging.getLogger("hepgan")
    handler, before = logging.StreamHandler(), logger.level
    handler.setFormatter(logging.Formatter("hepgan: %(message)s"))
    # Dask logs every step.
    handler.addFilter(lambda r: r.name.startswith("hepgan") or r.levelno >= logging.WARNING)
    ctx.meta[_HANDLER] = handler
    set_log_level(_LEVELS[verbosity()])
    root.addHandler(handler)
    logger.setLevel(logging.INFO)  # for the log in the run folder
    ctx.call_on_close(lambda: root.removeHandler(handler))
    ctx.call_on_close(lambda: logger.setLevel(before))


def verbosity() -> str:
    """Returns ``"quiet"``, ``"normal"`` or ``"verbose"``."""
    ctx = click.get_current_context(silent=True)
    return str(ctx.meta.get(_VERBOSITY, "normal")) if ctx else "normal"


def is_verbosity_set() -> bool:
    """Returns whether ``-v`` or ``-q`` is among the options."""
    return verbosity() != "normal"


def set_log_level(level: int) -> None:
    """Prints messages of ``level`` and above; the log in the run folder does not depend on it."""
    handler = click.get_current_context().meta.get(_HANDLER)
    if handler:
        handler.setLevel(level)


def _set(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_VERBOSITY] = option.name
        if handler := ctx.meta.get(_HANDLER):
            handler.setLevel(_LEVELS[str(option.name)])


def add_verbosity(command: click.Command) -> None:
    """Adds ``-v`` and ``-q`` to a command."""
    helps = {
        "verbose": "Print every step of the progress and the log.",
        "quiet": "Print results and errors only.",
    }
    for name, text in helps.items():
        command.params.append(
            click.Option(
                [f"-{name[0]}", f"--{name}"],
                is_flag=True,
                expose_value=False,
                callback=_set,
                help=text,
            )
        )

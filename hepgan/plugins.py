"""Plugins: your own modules that register encoding steps, layer words, observables, metrics or objectives.

A run file names them (``plugins = ["my_module"]``); ``hepgan run`` and ``hepgan train`` import them, and the option ``--plugin``
does for every command. A training records the plugins that it uses in its ``run.toml``. Opening a file never imports anything: a saved GAN or a run file that is only read names the
plugins that it needs, and an error names those that have not been imported.
"""

import dataclasses
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hepgan.errors import RunError, did_you_mean

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST_NAME = 200


def import_plugins(names: Iterable[str], *, folder: Path | None = None) -> None:
    """Imports the modules ``names``, which register what they define.

    Args:
        names: Modules that are installed or in ``folder``, such as ``my_module``.
        folder: Folder that is searched first, such as that of the run file. It stays on ``sys.path``, so that plugins
            may import each other and worker processes find them.

    Raises:
        RunError: a name is not that of a module, there is no such module, or importing it fails.
    """
    names = list(names)
    for name in names:
        check_name(name)
    if names and folder is not None and (path := str(folder.absolute())) not in sys.path:
        sys.path.insert(0, path)
    for name in names:
        _import(name, folder)


def require_plugins(names: Iterable[str], *, source: object) -> None:
    """Checks that the modules ``names`` have been imported.

    Args:
        names: Plugins that a file needs.
        source: The file, for the error message.

    Raises:
        RunError: a plugin has not been imported.
    """
    for name in names:
        check_name(name)
        if not is_imported(name):
            raise RunError(
                f"{source} needs the plugin '{name}', which is not imported; pass --plugin {name}, or import it in Python"
                " before loading"
            )


def is_imported(name: str) -> bool:
    """Returns whether the module ``name`` has been imported, or is the script that runs."""
    return name in sys.modules or name == _script()


def plugins_of(*records: Any) -> tuple[str, ...]:
    """Returns the modules outside of hepgan that define ``records``, or any dataclass within them, sorted by name.

    >>> plugins_of({"threshold": 0.01}, ["a"])
    ()
    """
    modules: set[str] = set()
    remaining = list(records)
    while remaining:
        record = remaining.pop()
        if isinstance(record, Mapping):
            remaining += record.values()
        elif isinstance(record, (list, tuple)):
            remaining += record
        elif dataclasses.is_dataclass(record):
            if plugin := plugin_of(type(record)):
                modules.add(plugin)
            remaining += [getattr(record, field.name) for field in dataclasses.fields(record)]
    return tuple(sorted(modules))


def plugin_of(definition: Callable[..., Any]) -> str | None:
    """Returns the module that must be imported to have the class or function ``definition``; ``None`` for hepgan's own."""
    module = definition.__module__
    if module.partition(".")[0] == "hepgan":
        return None
    return _script() or module if module == "__main__" else module


def check_name(name: str) -> None:
    """Checks that ``name`` is the name of a module, not a path.

    Raises:
        RunError: it is not.
    """
    if len(name) > _LONGEST_NAME or not _MODULE.fullmatch(name):
        raise RunError(
            f"plugins: {name[:_LONGEST_NAME]!r} is not the name of a module; write my_module for my_module.py"
        )


def _script() -> str | None:
    """Returns the module name of the script that runs, if it is a file."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).stem if file else None


def _import(name: str, folder: Path | None) -> None:
    if is_imported(name):
        _check_same_file(name, folder)
        return
    importlib.invalidate_caches()
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise RunError(f"the plugin '{name}' cannot be imported: {error}") from error
        beside = sorted(path.stem for path in folder.glob("*.py")) if folder else []
        hint = did_you_mean(name, beside) or "; install it, or put the file into that folder"
        where = f" in {folder}, and none is installed" if folder else " is installed"
        raise RunError(f"there is no plugin '{name}'{where}{hint}") from error
    except Exception as error:  # the plugin's own code may raise anything
        raise RunError(
            f"the plugin '{name}' cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _check_same_file(name: str, folder: Path | None) -> None:
    """Checks that an imported module is the one in ``folder``, if there is one of its name.

    Raises:
        RunError: the module comes from another file.
    """
    module: ModuleType | None = sys.modules.get(name)
    origin = getattr(module, "__file__", None)
    if folder is None or origin is None:
        return
    stem = folder.joinpath(*name.split("."))
    for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if file.is_file() and not file.samefile(origin):
            raise RunError(
                f"the plugin '{name}' in {folder} has the name of a module that is already imported from {origin}; rename it"
            )

#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Sessions for contributors and for the nightly workflow; ``nox -l`` lists them."""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    session.install("-c", "constraints.txt", "-e", ".[lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the quick test suite in parallel."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", *session.posargs)


@nox.session(default=False)
def slow(session: nox.Session) -> None:
    """Run the slow tests: full presets, a million random layouts, the documentation site."""
    session.install("-c", "constraints.txt", "-e", ".[docs,test]")
    session.run("python", "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Fuzz the layout, run-file, TMVA and expression parsers, ten minutes each by default."""
    session.install("-c", "constraints.txt", "-e", ".[fuzz,test]")
    for language in ("layout", "toml", "tmva", "expression"):
        session.run("python", "tests/fuzz/languages.py", language, *session.posargs)


@nox.session(default=False)
def damaged(session: nox.Session) -> None:
    """Read thousands of damaged files of every supported format."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("python", "tests/fuzz/files.py", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation into ``site/``; warnings are errors."""
    session.install("-c", "constraints.txt", "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the source distribution and the wheel into ``dist/``."""
    session.install("build")
    session.run("python", "-m", "build")


if __name__ == "__main__":
    nox.main()

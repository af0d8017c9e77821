"""The distribution that people install: its name, its version, and the command that installs an optional part."""

NAME = "mdfa-lab"
"""Name on a package index; PyPI's `mdfa` is another project. The import name is `mdfa_core`."""

VERSION = "0.1.0"
"""The only place of the version: pyproject.toml reads it from here."""


def install(extra: str) -> str:
    """The command that installs an extra of pyproject.toml, for error messages.

    >>> install("results")
    "pip install 'mdfa-lab[results]'"
    """
    return f"pip install '{NAME}[{extra}]'"

"""The command `mdfa`: one module a command; `program` joins them, `options` and `output` hold what they share."""

from mdfa_core.cli.program import cli, main

__all__ = ["cli", "main"]

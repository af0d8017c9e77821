"""Tables, plots, verdicts and the whole report, made from what a store holds and nothing else."""

from importlib.util import find_spec

from mdfa_core.errors import MissingPackage

_NEEDED = ("bokeh", "holoviews", "jinja2", "pandas", "tabulate")

_missing = [name for name in _NEEDED if find_spec(name) is None]
if _missing:
    raise MissingPackage(
        f"reports need {', '.join(_missing)}, which {'is' if len(_missing) == 1 else 'are'} not installed: "
        "run pip install -e '.[results]' in the clone"
    )

from mdfa_core.reports.document import html, markdown, write  # noqa: E402 - they import what was looked for above

__all__ = ["html", "markdown", "write"]

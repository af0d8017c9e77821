"""Reports on a store: tables, plots, verdicts, and the whole report as HTML or Markdown.

write           write the report and all tables into a folder
html, markdown  the report as text

Modules: `results` reads a store, `tables` and `plots` show results, `document` makes the report. `disagreements` makes
the pages on cells that differ from the paper.
"""

from importlib.util import find_spec

from mdfa_core.base.distribution import install
from mdfa_core.base.errors import MissingPackage

_NEEDED = ("bokeh", "jinja2", "matplotlib", "pandas", "tabulate")

_missing = [name for name in _NEEDED if find_spec(name) is None]
if _missing:
    raise MissingPackage(
        f"reports need {', '.join(_missing)}, which {'is' if len(_missing) == 1 else 'are'} not installed: "
        f"run {install('results')}"
    )

from mdfa_core.studies.reports.document import html, markdown, write  # noqa: E402 - they import what was looked for above

__all__ = ["html", "markdown", "write"]

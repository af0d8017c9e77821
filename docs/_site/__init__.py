"""The site's own extension of Sphinx: links that leave docs/, generated parts, terms of the glossary, notebooks.

A page stays readable on a code host. A part that the build writes stands between two comments, around what a code host
shows instead:

    <!-- site: methods -->
    Run `mdfa train --help` for the list.
    <!-- site: end -->
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

from _site import generated, links, markup, terms

DOCS = Path(__file__).resolve().parents[1]
LAB = "http://localhost:8888/lab/tree"  # where `make lab` serves the clone
ANNOTATED = re.compile(r"Annotated\[(\w+), \w+\([^()]*\)\]")
CELL = re.compile(r"<td>.*?</td>", re.DOTALL)
LONG_NAME = re.compile(r'<span class="pre">(?!-)([^<\s]{16,})</span>')
log = logging.getLogger(__name__)


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Write the generated parts of a page into its text, and make its links work in the site."""
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md":
        text = links.rewritten(generated.filled(source[0], path), path.parent)
        source[0] = links.outside_code(text, markup.subscripts)


def check_docstring(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Warn of a public name without a docstring; the build makes an error of it."""
    own = str(getattr(thing, "__module__", "")).startswith("mdfa_core")
    public = not any(part.startswith("_") for part in name.split("."))
    if own and public and kind in {"module", "class", "exception", "function", "method"} and not any(lines):
        log.warning("%s %s has no docstring", kind, name, type="site", subtype="docstring")


def escape(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Prepare a docstring for reStructuredText."""
    lines[:] = markup.restructured(lines)


def find_public(app: Sphinx, env: Any, node: Any, contents: Any) -> Any:
    """Link the type in a signature, which names the module it is defined in, to the public name on the site."""
    if node.get("refdomain") != "py":
        return None
    target, domain = node["reftarget"], env.domains["py"]
    name = f".{target.rpartition('.')[2]}"
    found = [known for known in domain.objects if known.endswith(name)] if target.startswith("mdfa_core.") else []
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contents)


def plain_types(app: Sphinx, document: nodes.document) -> None:
    """Show `int` in place of `Annotated[int, Range(…)]`: the docstring says what is allowed."""
    for node in document.findall(lambda node: isinstance(node, (addnodes.desc_annotation, addnodes.desc_parameter))):
        text, found = ANNOTATED.subn(r"\1", node.astext())
        if found:
            node[:] = [nodes.Text(text)]


def link_terms(app: Sphinx, document: nodes.document, name: str) -> None:
    """Link the terms of the glossary, on every page but the glossary itself and the list of changes."""
    known = terms.terms(terms.GLOSSARY.read_text(encoding="utf-8"))
    if name == "glossary":
        terms.mark(document, known)
    elif name != "contributing/changelog":
        terms.link(document, app.builder.get_relative_uri(name, "glossary"), known)


def offer_notebook(app: Sphinx, document: nodes.document, name: str) -> None:
    """Below the title of a tutorial that is a notebook: where to get it and how to run it."""
    path = Path(app.env.doc2path(name))
    if path.suffix == ".ipynb" and app.builder.format == "html":
        lab = f"{LAB}/{path.relative_to(DOCS.parent).as_posix()}"
        text = (
            f'<p class="notebook"><a href="{path.name}" download>Download this notebook</a>, or run '
            f'<code>make lab</code> in a clone and <a href="{lab}">open it in JupyterLab</a>.</p>'
        )
        title = next(document.findall(nodes.title))
        title.parent.insert(title.parent.index(title) + 1, nodes.raw("", text, format="html"))


def break_names(body: str) -> str:
    """Let long paths and names in tables break after a slash, dot or comma, so that no column is cut off."""

    def breakable(name: re.Match[str]) -> str:
        text = re.sub(r"([/.,]|_(?=[A-Z]))(?=.)", r"\1<wbr>", name[1])
        return f'<span class="pre long">{text}</span>'

    return CELL.sub(lambda cell: LONG_NAME.sub(breakable, cell[0]), body)


def lay_out_tables(app: Sphinx, name: str, template: str, context: dict[str, Any], document: nodes.document) -> None:
    """`break_names` in a finished page."""
    if "body" in context:
        context["body"] = break_names(context["body"])


def copy_files(app: Sphinx, error: Exception | None) -> None:
    """Replays are finished pages, which Sphinx must not touch; notebooks are offered as they are."""
    if error is None and app.builder.format == "html":
        shutil.copytree(DOCS / "gallery", Path(app.outdir) / "gallery", dirs_exist_ok=True)
        for notebook in (DOCS / "tutorials").glob("*.ipynb"):
            shutil.copy(notebook, Path(app.outdir) / "tutorials")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", check_docstring)
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon writes markup
    app.connect("doctree-read", plain_types)
    app.connect("missing-reference", find_public)
    app.connect("doctree-resolved", link_terms)
    app.connect("doctree-resolved", offer_notebook)
    app.connect("html-page-context", lay_out_tables)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

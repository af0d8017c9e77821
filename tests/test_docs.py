"""The documentation site: it is complete without a network, and its pages show what a code host cannot."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from docutils import nodes
from docutils.core import publish_doctree

import mdfa_core
from benchmarks import site as benchmark
from mdfa_core import METHODS

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))  # the site's extension lies beside the pages

import _site  # noqa: E402
from _site import generated, links, markup, terms  # noqa: E402


def test_links_that_leave_the_documents_become_files_or_names() -> None:
    text = (
        "[a](architecture.md#x) [b](../README.md) [c](../mdfa_core/cli) [d](../LICENSE) [e](gallery/index.html)\n\n"
        "```\n[f](../mdfa_core/cli)\n```\n"
    )

    done = links.rewritten(text, DOCS, DOCS / "contributing")

    assert "[a](../architecture.md#x)" in done
    assert "[b](../index.md)" in done
    assert "`mdfa_core/cli`" in done
    assert "[d](path:../../LICENSE)" in done
    assert '<a href="../gallery/index.html">e</a>' in done
    assert "[f](../mdfa_core/cli)" in done, "code is left alone"


def test_formulas_in_docstrings_are_no_markup() -> None:
    lines = [
        "Weights [R, *units] of `a_*`, δ_{l+1}.",
        "",
        "name    meaning",
        "        more",
        "",
        "Example:",
        "    a*b",
        "",
        "c*d",
    ]

    done = markup.restructured(lines)

    assert done[0] == r"Weights [R, \*units] of `a_*`, δ\_{l+1}."
    assert done[2:6] == ["::", "", "    name    meaning", "            more"]
    assert done[7:11] == ["Example::", "", "    a*b", ""]
    assert done[-1] == r"c\*d"


def test_long_names_in_tables_may_break_and_others_may_not() -> None:
    long, short = '<span class="pre">mdfa_core/nets/layers.py</span>', '<span class="pre">--origin</span>'

    done = _site.break_names(f"<p>{long}</p><table><td><p>{long} {short}</p></td></table>")

    broken = '<span class="pre long">mdfa_core/<wbr>nets/<wbr>layers.<wbr>py</span>'
    assert done == f"<p>{long}</p><table><td><p>{broken} {short}</p></td></table>"


TASKS = {
    "my own CNN, logged and plotted": "tutorials/own_cnn.ipynb",
    "my own rule over five seeds": "tutorials/own_rule.ipynb",
    "cells of a table as LaTeX": "howto/latex.md",
    "my own arrays with four classes": "howto/own_data.md",
    "learning curves of the published runs": "howto/pandas.md",
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_one_click_from_the_home_page(task: str) -> None:
    """Its page has a block that runs: tests/test_api.py runs those of Markdown, the build runs notebooks."""
    _, _, paths = (DOCS / "index.md").read_text(encoding="utf-8").partition("## Choose your path\n")

    assert f"]({TASKS[task]})" in paths
    page = (DOCS / TASKS[task]).read_text(encoding="utf-8")
    assert "```python" in page or '"cell_type": "code"' in page


KNOWN = terms.terms(terms.GLOSSARY.read_text(encoding="utf-8"))


def test_the_first_use_of_a_term_is_linked_and_nothing_else() -> None:
    page = publish_doctree(
        "The task\n========\n\nThe ``replica`` of a case. Tasks and BP; a *case*, a task, mono-nets, `a cell <x>`__.\n"
    )

    terms.link(page, "../glossary.html", KNOWN)

    found = {node.astext(): node["refuri"] for node in page.findall(nodes.reference) if "term" in node["classes"]}
    assert found == {
        "Tasks": "../glossary.html#term-task",
        "BP": "../glossary.html#term-bp",
        "case": "../glossary.html#term-case",
        "mono-nets": "../glossary.html#term-mono-net",
    }
    assert page.astext().endswith("The replica of a case. Tasks and BP; a case, a task, mono-nets, a cell.")


def test_a_link_written_as_html_gets_no_other_link() -> None:
    page = nodes.document(None, None)
    page += nodes.paragraph(
        "", "", nodes.raw("", "<a href='x.html'>"), nodes.Text("More replays"), nodes.raw("", "</a>")
    )

    terms.link(page, "glossary.html", KNOWN)

    assert not list(page.findall(nodes.reference))


def test_every_public_name_is_in_the_reference() -> None:
    pages = [page.read_text(encoding="utf-8") for page in (DOCS / "reference/api").glob("*.md")]
    modules = [
        name for page in pages for part in re.findall(r"^<!-- site: api (.*) -->$", page, re.M) for name in part.split()
    ]
    shown = {
        name for module in map(importlib.import_module, modules) for name in getattr(module, "__all__", vars(module))
    }

    assert set(mdfa_core.__all__) - {"__version__"} <= shown


def test_terms_have_addresses_of_their_own() -> None:
    assert len({term.anchor for term in KNOWN}) == len(KNOWN) > 60
    assert {name for term in KNOWN for name in term.names} >= terms.ORDINARY


def test_every_learning_rule_has_a_card_that_says_when_it_fails() -> None:
    text = (DOCS / "reference/methods.md").read_text(encoding="utf-8")
    cards = re.findall(
        r"^## (.*)\n\n<!-- site: method (\w+) -->\n.*\n<!-- site: end -->\n\n\*\*When it fails\.", text, re.M
    )

    assert cards == [(rule.title, name) for name, rule in METHODS.items()]


def test_a_page_can_include_one_section_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "x.md").write_text("# X\n\n## Two words\n\n[a](docs/a.md)\n\n### Deep\n\nb\n\n## Next\n\nc\n", "utf-8")

    assert generated.include("../x.md#two-words", tmp_path / "docs/p.md").strip().endswith("### Deep\n\nb")
    assert generated.include("../x.md", tmp_path / "docs/p.md").strip().endswith("c")
    with pytest.raises(ValueError, match="not enough values"):
        generated.include("../x.md#absent", tmp_path / "docs/p.md")


@pytest.mark.parametrize("name", METHODS)
def test_the_card_of_a_rule_has_the_measured_figures(name: str) -> None:
    card = generated.method(name, DOCS / "reference/methods.md")

    assert re.search(r"^\| two digits, one output \|( \d+\.\d ± \d+\.\d \|){3}$", card, re.M)
    assert re.search(r"^\| ten digits, ten outputs \|( \d+\.\d ± \d+\.\d \|){3}$", card, re.M)
    assert ("[Table 1]" in card) == (name in {"bp", "fa", "dfa", "mdfa"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-E",
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        "docs",
        str(folder),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("docs")
def test_the_site_is_complete_without_a_network(site: Path) -> None:
    pages = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]  # which has templates
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="([^"]+)"|<link[^>]+href="([^"]+)"', text)
        for address in (first or second for first, second in loaded):
            assert not re.match(r"(https?:)?//", address), f"{page.relative_to(site)} loads {address}"
            if not address.startswith(("data:", "#")):
                assert (page.parent / re.split("[?#]", address)[0]).exists(), f"{page.relative_to(site)}: {address}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("docs")
def test_links_to_terms_lead_to_rows_of_the_glossary(site: Path) -> None:
    rows = set(re.findall(r'<tr[^>]* id="(term-[\w-]+)"', (site / "glossary.html").read_text(encoding="utf-8")))
    linked = {
        term
        for page in site.rglob("*.html")
        for term in re.findall(r'class="term[^>]*glossary\.html#([\w-]+)"', page.read_text(encoding="utf-8"))
    }

    assert rows == {term.anchor for term in KNOWN}
    assert {"term-task", "term-replica", "term-profile", "term-best-fit", "term-sign-agreement"} <= linked <= rows


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("docs")
def test_a_tutorial_offers_its_notebook(site: Path) -> None:
    for notebook in (DOCS / "tutorials").glob("*.ipynb"):
        text = (site / "tutorials" / notebook.name).with_suffix(".html").read_text(encoding="utf-8")
        assert f'<a href="{notebook.name}" download>' in text
        assert f"/lab/tree/docs/tutorials/{notebook.name}" in text
        assert (site / "tutorials" / notebook.name).read_bytes() == notebook.read_bytes()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("docs")
def test_the_home_page_is_light_and_asks_no_other_machine(site: Path, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    home = benchmark.load(page, site / "index.html")

    page.frame_locator("iframe.replay").locator("canvas").first.wait_for()
    assert home.paint > 0
    assert home.weight <= 3_000_000

    page.goto((site / "search.html").as_uri() + "?q=mono_net")
    page.locator("#search-results li").first.wait_for()
    assert all(url.startswith(("file://", "data:", "blob:")) for url in asked), asked

"""The project's own promises: what is declared, pinned, documented and checked agrees."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNPINNED = {"peers"}  # extras of other projects to compare with, which nothing here needs
UNTRACKED = {".git", ".venv", "__pycache__", "data", "runs", "out", "build", "dist"}


def declared() -> dict[str, Requirement]:
    """Every direct dependency of the project and its pinned extras, by name; references to its own extras left out."""
    groups = [group for name, group in PROJECT["optional-dependencies"].items() if name not in UNPINNED]
    texts = PROJECT["dependencies"] + [text for group in groups for text in group]
    requirements = [Requirement(text) for text in texts]
    return {canonicalize_name(r.name): r for r in requirements if r.name != PROJECT["name"]}


def pins() -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def tracked_files() -> Iterator[Path]:
    """The files git knows or would take; in an archive without git, all but the ignored folders."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        yield from (ROOT / name for name in names if name and (ROOT / name).is_file())
    else:
        for path in ROOT.rglob("*"):
            if path.is_file() and not UNTRACKED.intersection(path.relative_to(ROOT).parts):
                yield path


# ---------------------------------------------------------------------------------------------- dependencies


def test_environment_yml_names_what_pyproject_names() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    listed = [Requirement(text) for text in pip if not text.startswith("-")]

    assert {canonicalize_name(r.name): (r.extras, r.specifier) for r in listed} == {
        name: (r.extras, r.specifier) for name, r in declared().items()
    }
    assert len(listed) == len(declared()), "a name stands twice in environment.yml"
    assert {"-c constraints.txt", "-e ."} <= set(pip)
    (python,) = [entry for entry in conda if entry.startswith("python ")]
    assert PROJECT["requires-python"] in python


def test_every_extra_is_part_of_dev() -> None:
    (own,) = [r for r in map(Requirement, PROJECT["optional-dependencies"]["dev"]) if r.name == PROJECT["name"]]
    assert own.extras == set(PROJECT["optional-dependencies"]) - {"dev"} - UNPINNED


def test_constraints_pin_every_direct_dependency_within_its_bounds() -> None:
    pinned = {canonicalize_name(r.name): r for r in pins() if r.marker is None}
    for name, requirement in declared().items():
        assert name in pinned, f"constraints.txt lacks {name}: run `make constraints`"
        (version,) = [s.version for s in pinned[name].specifier]
        assert version in requirement.specifier


def test_constraints_are_exact_public_versions() -> None:
    for pin in pins():
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert Version(specifier.version).local is None, f"{pin}: a local version exists on one index only"
    assert not {"pip", "setuptools", "wheel"} & {canonicalize_name(pin.name) for pin in pins()}


@pytest.mark.parametrize("python", ["3.11.2", "3.12.1", "3.13.0"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_constraints_pin_a_name_once_per_platform(python: str, system: str) -> None:
    environment = {"python_full_version": python, "python_version": python[:4], "sys_platform": system}

    def applies(marker: Marker | None) -> bool:
        return marker is None or marker.evaluate(environment)

    names = [canonicalize_name(pin.name) for pin in pins() if applies(pin.marker)]
    assert sorted(names) == sorted(set(names))


# --------------------------------------------------------------------------------------------------- imports


def test_imports_keep_the_contract() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_no_module_imports_the_package_as_a_whole() -> None:
    """`import mdfa_core` inside the package would reach every row at once, past the layers contract."""
    graph = grimp.build_graph("mdfa_core", cache_dir=None)
    importers = graph.find_modules_that_directly_import("mdfa_core")
    assert not importers


# ---------------------------------------------------------------------------------------- commands and texts


def make(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user would: without what an outer make passes on."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON"}}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True
    )


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@needs_make
def test_make_alone_lists_every_documented_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    documented = set(re.findall(r"^([a-z-]+):.*## ", text, flags=re.MULTILINE))
    assert {"help", "app", "lab", "test", "clean"} <= documented
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert documented <= set(phony.split())

    outcome = make()
    assert outcome.returncode == 0
    assert set(re.findall(r"^  make ([a-z-]+) +\S", outcome.stdout, flags=re.MULTILINE)) == documented


@needs_make
def test_make_test_runs_every_check() -> None:
    commands = make("--dry-run", "test").stdout
    for command in ("ruff check", "ruff format --check", "mypy", "lint-imports", "python -m pytest"):
        assert command in commands


def fake_python(folder: Path, script: str) -> Path:
    path = folder / "fakepython"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@needs_make
@pytest.mark.parametrize("target", ["app", "lab", "test"])
@pytest.mark.parametrize(
    ("script", "remedy"),
    [
        (None, "install Python 3.11 or newer"),
        ('case "$1" in --version) echo Python 3.9.6;; *) exit 1;; esac', "is Python 3.9.6, but Python 3.11 or newer"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
    ids=["no Python", "old Python", "no venv"],
)
def test_make_says_what_is_missing(tmp_path: Path, target: str, script: str | None, remedy: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "absent" if script is None else fake_python(tmp_path, script)

    outcome = make(target, f"PYTHON={python}", cwd=tmp_path)
    assert outcome.returncode == 2
    (message,) = [line for line in outcome.stderr.splitlines() if not line.startswith("make")]
    assert remedy in message
    assert not (tmp_path / ".venv").exists()


def test_readme_starts_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ").split("#")[0].strip() for block in blocks for line in block.splitlines()]
    makes = [line for line in lines if line.startswith("make")]
    assert makes[:2] == ["make app", "make test"]


def test_readme_is_short_and_leads() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 130
    assert len(re.findall(r"^!\[", readme, flags=re.MULTILINE)) == 1, "one picture"
    findings = re.search(r"^## Three findings\n(.*?)^## ", readme, flags=re.MULTILINE | re.DOTALL)
    assert findings is not None
    assert re.findall(r"^\d", findings[1], flags=re.MULTILINE) == ["1", "2", "3"]
    ways = re.search(r"^## Four ways on\n(.*?)^## ", readme, flags=re.MULTILINE | re.DOTALL)
    assert ways is not None
    starts = re.findall(r"^\*\*(.*?)\*\*", ways[1], flags=re.MULTILINE)
    assert starts == ["See it.", "Use it on your model.", "Check the paper.", "Extend it."]


def test_the_citation_file_is_valid_and_says_what_the_readme_says() -> None:
    """Required and allowed keys as in the schema of the Citation File Format 1.2.0."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "type"} <= set(citation)
    allowed = {"cff-version", "title", "message", "authors", "type", "license", "keywords", "preferred-citation"}
    assert set(citation) <= allowed
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert citation["keywords"] == PROJECT["keywords"]
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)

    entry = (ROOT / "README.md").read_text(encoding="utf-8").partition("```bibtex\n")[2].partition("```")[0]
    fields = dict(re.findall(r"^ *(\w+) *= \{(.*)\},?$", entry, flags=re.MULTILINE))
    (author,) = paper["authors"]
    assert fields == {
        "author": f"{author['family-names']}, {author['given-names']}",
        "title": paper["title"],
        "booktitle": paper["collection-title"],
        "year": str(paper["year"]),
        "url": paper["url"],
    }


def test_contributing_names_files_commands_and_tables_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", text)) <= targets
    names = re.findall(r"`([^`\n]+)`", text)
    for path in (
        name for name in names if "/" in name and " " not in name and not name.startswith((".venv", "mdfa_core."))
    ):
        assert (ROOT / path).exists(), path


def test_the_page_of_additions_names_files_and_tables_that_exist() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## How to add something\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| an? ([a-z ]+) \| (.*) \| (.*) \|$", section, flags=re.MULTILINE)
    kinds = {kind for kind, *_ in rows}
    assert {"learning rule", "initializer", "setting of a run", "command", "dependency", "tab of the app"} <= kinds
    for _, write, register in rows:
        for path in re.findall(r"`([\w/.-]+/[\w/.-]*)`", write + register):
            assert (ROOT / path).exists(), path
        for table, file in re.findall(r"`([A-Z]+)` in `([\w/.]+)`", write + register):
            assert re.search(rf"^{table}\b", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE), table


def markdown_files() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def anchors(text: str) -> set[str]:
    """The fragments that links to the headings of a Markdown text have on GitHub."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*?) *$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_point_at_files_and_headings(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(<?([^)\s>]+)", text):
        if re.match(r"[a-z][a-z+.-]*:", target):
            continue
        name, _, fragment = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), f"{path.name} links to {target}"
        if fragment and file.suffix == ".md":
            assert fragment in anchors(file.read_text(encoding="utf-8")), f"{path.name} links to {target}"


def resolves(dotted: str) -> bool:
    """Whether a name such as `mdfa_core.nets.losses.output_error` is a module or something in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if error.name is None or not dotted.startswith(error.name):
                return True  # an optional package of this module is not installed
            continue
        for attribute in parts[end:]:
            if not hasattr(thing, attribute):
                return False
            thing = getattr(thing, attribute)
        return True
    return False


def test_the_architecture_page_shows_every_room_from_the_top() -> None:
    """Its tables of rooms list the rows of the import contracts, in their order."""
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    for contract in contracts:
        if contract["type"] == "layers":
            (package,) = contract["containers"]
            shown = re.findall(rf"^\| \[(\w+)\]\(\.\./\.\./{package}/\1\) \|", text, flags=re.MULTILINE)
            assert shown == [room for room in contract["layers"] if room != "__main__"]


DOCUMENTS = [path for path in markdown_files() if path.name != "CHANGELOG.md"]  # which also names what is gone
PAGES = [*DOCUMENTS, *sorted((ROOT / "notebooks").glob("*.ipynb"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_in_documents_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in sorted(set(re.findall(r"(?<![\w/.])mdfa_(?:core|app)(?:\.[A-Za-z_]\w*)+", text))):
        assert resolves(name), f"{path.name} names {name}"
    folders = r"(?:app|benchmarks|docs|mdfa_core|mdfa_app|notebooks|studies|tests)"
    for name in sorted(set(re.findall(rf"(?<![\w./-])({folders}/[\w/-]+(?:\.\w+)*)(?![\w*<{{\[])", text))):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_no_file_names_a_developers_folder() -> None:
    # Written so that this file does not match itself.
    pattern = re.compile(r"(?<![\w.~-])/(?:home|Users|root|work)/(?!\W)[\w.-]+|[A-Z]:\\\\?Users\\")
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or an archive
        found = pattern.search(text)
        assert found is None, f"{path.relative_to(ROOT)} names {found[0] if found else ''}"

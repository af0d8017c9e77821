"""The public names, one place to add each kind of thing, and the examples in docstrings and documents, which are run.

Documents are README.md and docs/*.md. Their blocks of Python run in the order they stand in, those of one file in one
namespace; so do the lines of their console blocks that start with `mdfa` (with or without `$`). A block is left alone
only if `<!-- not run: REASON -->` stands right above it.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import pydoc
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mdfa_core
from mdfa_core import ACTIVATIONS, DATASETS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS, Experiment, train
from mdfa_core.base import errors
from mdfa_core.cli import main
from mdfa_core.data import ArrayDataSet
from mdfa_core.nets.layers import Dense
from mdfa_core.nets.networks import Architecture

ROOT = Path(__file__).resolve().parents[1]
TABLES = (ACTIVATIONS, DATASETS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS)
MODULES = sorted({m.name for m in pkgutil.walk_packages(mdfa_core.__path__, "mdfa_core.")} - {"mdfa_core.__main__"})


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What examples add to the tables, and the threads they choose, end with the test."""
    threads, names = torch.get_num_threads(), [set(table) for table in TABLES]
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for table, known in zip(TABLES, names, strict=True):
        for name in set(table) - known:
            table.remove(name)  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------------- public names


def names_for_type_checkers() -> dict[str, str]:
    """The public names that type checkers see in the package's source, each with the module it comes from."""
    tree = ast.parse(Path(mdfa_core.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names if node.module is not None}


def test_the_public_names_are_all_there() -> None:
    promised = {
        *("ACTIVATIONS", "DATASETS", "INITIALIZERS", "METHODS", "NETWORKS", "OPTIMIZERS"),
        *("Every", "Experiment", "Learner", "MdfaError", "Network", "Run", "__version__", "train"),
    }
    assert promised <= set(mdfa_core.__all__)
    assert len(mdfa_core.__all__) == len(set(mdfa_core.__all__))
    assert set(mdfa_core.__all__) <= set(dir(mdfa_core))
    namespace: dict[str, Any] = {}
    exec("from mdfa_core import *", namespace)
    for name in mdfa_core.__all__:
        assert namespace[name] is getattr(mdfa_core, name)
    with pytest.raises(AttributeError, match="has no attribute 'Sweep'"):
        _ = mdfa_core.Sweep  # type: ignore[attr-defined]


def test_type_checkers_see_the_names_that_are_imported_on_first_use() -> None:
    known = names_for_type_checkers()

    assert {*known, "__version__"} == set(mdfa_core.__all__)
    for name, module in known.items():
        assert getattr(importlib.import_module(module), name) is getattr(mdfa_core, name)


def test_the_help_of_the_package_names_everything_public_on_its_first_screen() -> None:
    screen = pydoc.render_doc(mdfa_core, renderer=pydoc.plaintext).splitlines()[:40]

    assert "PACKAGE CONTENTS" in screen, "the description is longer than a screen"
    words = set(re.findall(r"\w+", "\n".join(screen)))
    assert {name for name in mdfa_core.__all__ if not name.startswith("_")} <= words


def test_every_public_class_and_function_says_what_it_is() -> None:
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        assert module.__doc__, module_name
        for name, thing in vars(module).items():
            own = getattr(thing, "__module__", None) == module_name
            if own and not name.startswith("_") and (inspect.isclass(thing) or inspect.isfunction(thing)):
                generated = f"{name}("  # what a dataclass writes where there is nothing
                assert thing.__doc__, f"{module_name}.{name}"
                assert not thing.__doc__.startswith(generated), f"{module_name}.{name}"


def test_every_error_of_the_package_is_one_kind() -> None:
    raised = [thing for _, thing in inspect.getmembers(errors, inspect.isclass) if issubclass(thing, Exception)]

    assert len(raised) > 5
    assert all(issubclass(thing, mdfa_core.MdfaError) for thing in raised)


def test_importing_writes_nothing_and_changes_nothing() -> None:
    program = (
        "import numpy, random, torch, warnings\n"
        "warnings.simplefilter('error')\n"
        "def state():\n"
        "    return (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), random.getstate(),\n"
        "            torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist())\n"
        "before = state()\n"
        "from mdfa_core import *\n"
        "import mdfa_core.cli, sys\n"
        "assert state() == before\n"
        "assert not {'panel', 'bokeh', 'holoviews', 'dask', 'matplotlib', 'IPython'} & set(sys.modules)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys\nbefore = set(sys.modules)\nimport mdfa_core\nprint(*sorted(set(sys.modules) - before))\n"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout.split() == ["mdfa_core", "mdfa_core.base", "mdfa_core.base.distribution"]


# ---------------------------------------------------------------------------------- one place to add each kind of thing


def test_what_is_added_to_a_table_can_be_used_everywhere() -> None:
    METHODS.add("mine", replace(METHODS["dfa"], title="Mine"))
    ACTIVATIONS.add("mine", ACTIVATIONS["tanh"])
    OPTIMIZERS.add("mine", OPTIMIZERS["sgd"])
    NETWORKS.add("mine", Architecture((Dense(3),)))
    rows = np.arange(40)
    images = np.zeros((40, 1, 2, 2), np.uint8)
    images[rows, 0, 0, rows % 2] = 255
    DATASETS.add(
        "mine",
        ArrayDataSet(
            train_images=images,
            train_labels=rows % 2,
            test_images=images,
            test_labels=rows % 2,
            class_names=["left", "right"],
        ),
    )
    experiment = Experiment(
        data="mine", method="mine", activation="mine", optimizer="mine", network="mine", batch_size=8, epochs=3
    )

    *_, mine = train(experiment, device="cpu")
    *_, usual = train(
        experiment.replace(method="dfa", activation="tanh", optimizer="sgd", network="fc:3"), device="cpu"
    )

    assert mine == usual
    with pytest.raises(SystemExit) as caught:
        main(["train", "--data", "mine", "--method", "mine", "--network", "mine", "--batch-size", "8", "--epochs", "1"])
    assert caught.value.code == 0


# ------------------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("name", ["mdfa_core", *MODULES])
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    done = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)

    assert done.failed == 0


def test_there_are_examples_in_docstrings() -> None:
    assert doctest.testmod(importlib.import_module("mdfa_core.training.run")).attempted >= 3


PYTHON = {"python", "py", "python3"}
CONSOLE = {"console", "bash", "sh", "shell", "shell-session"}
FENCE = re.compile(r"^(?P<indent>\s*(?:>\s*)?)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w+-]*)[^`]*$")
MARKER = re.compile(r"<!--\s*not run\b(?P<rest>.*?)-->", re.DOTALL)
GOOD_MARKER = re.compile(r":\s*\S.*", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts on, and why it is not run (None: it is)."""

    language: str
    text: str
    line: int
    reason: str | None


def blocks(text: str) -> list[Block]:
    """The blocks of a Markdown text.

    Raises:
        ValueError: a block is not closed, or a marker has no reason or no block of Python or console right below it.
    """
    found: list[Block] = []
    marker: tuple[int, str] | None = None
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        fence = FENCE.match(line)
        if fence:
            opened, closing = number, re.compile(rf"^\s*(?:>\s*)?{fence['fence'][0]}{{{len(fence['fence'])},}}\s*$")
            number += 1
            body: list[str] = []
            while number < len(lines) and not closing.match(lines[number]):
                width = len(fence["indent"])
                body.append(lines[number][width:] if not lines[number][:width].strip(" >") else lines[number])
                number += 1
            if number == len(lines):
                raise ValueError(f"line {opened + 1}: the block is not closed")
            language = fence["language"].lower()
            if marker is not None and language not in PYTHON | CONSOLE:
                raise ValueError(f"line {marker[0]}: the marker stands above a block that is never run")
            found.append(Block(language, "\n".join(body) + "\n", opened + 2, marker[1] if marker else None))
            marker = None
        elif line.lstrip(" >").startswith("<!--") and "not run" in line:
            comment = line
            start = number + 1
            while "-->" not in comment and number + 1 < len(lines):
                number += 1
                comment += "\n" + lines[number]
            match = MARKER.search(comment)
            if match is None or not GOOD_MARKER.fullmatch(match["rest"].strip()):
                raise ValueError(f"line {start}: write the marker as <!-- not run: REASON -->")
            marker = (start, match["rest"].strip()[1:].strip())
        elif line.strip(" >") and marker is not None:
            raise ValueError(f"line {marker[0]}: no block right below the marker")
        number += 1
    if marker is not None:
        raise ValueError(f"line {marker[0]}: no block right below the marker")
    return found


def commands(block: Block) -> list[tuple[int, str]]:
    """The `mdfa` commands of a console block with their lines; what else stands there is output or for other programs.

    Where a line has a prompt, `$` or `%`, lines without one are output.
    """
    found = []
    lines = block.text.split("\n")
    prompted = any(re.match(r"\s*[$%]\s", line) for line in lines)
    number = 0
    while number < len(lines):
        start, is_command = number, not prompted or re.match(r"\s*[$%]\s", lines[number]) is not None
        line = re.sub(r"^\s*[$%]\s+", "", lines[number]).strip()
        while line.endswith("\\") and number + 1 < len(lines):
            number += 1
            line = line[:-1] + re.sub(r"^\s*>\s", " ", lines[number]).strip()
        if is_command and re.match(r"(?:\w+=\S*\s+)*mdfa(?:\s|$)", line):
            found.append((block.line + start, line))
        number += 1
    return found


def _run_command(line: str, where: str) -> None:
    words = shlex.split(line, comments=True)
    assert "app" not in words[:2], f"{where}: {line!r} serves until it is stopped: mark its block as not run"
    if words[0] == "mdfa" and not re.search(r"[|&;<>*~`$(]", line):
        with pytest.raises(SystemExit) as ended:
            main(words[1:])
        assert not ended.value.code, f"{where}: {line!r} ended with {ended.value.code}"
        return
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, f"{where}: {line!r} ended with {done.returncode}: {done.stderr}"


def run_document(path: Path) -> int:
    """Runs the examples of a document and returns how many there were.

    Raises:
        Exception: what an example raises; a note says where it stands.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.reason is not None:
            continue
        if block.language in PYTHON:
            where = f"{path.name}, line {block.line}"
            source = block.text
            if re.search(r"^>>> ", source, re.MULTILINE):
                test = doctest.DocTestParser().get_doctest(source, namespace, where, str(path), block.line - 1)
                test.globs = namespace
                report: list[str] = []
                runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
                runner.run(test, out=report.append, clear_globs=False)
                assert not report, "".join(report)
            else:
                try:
                    exec(compile("\n" * (block.line - 1) + source, str(path), "exec"), namespace)
                except (Exception, SystemExit) as error:
                    error.add_note(f"in the example in {where}")
                    raise
            count += 1
        elif block.language in CONSOLE:
            for line, command in commands(block):
                _run_command(command, f"{path.name}, line {line}")
                count += 1
    return count


DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))) if path.is_file()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_in_documents_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "docs").symlink_to(ROOT / "docs")  # an example reads the published results as in a clone
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MDFA_MIRROR", "http://127.0.0.1:9")  # an example that downloads has to be marked

    run_document(path)


def test_the_readme_shows_both_ways_in() -> None:
    found = [block for block in blocks((ROOT / "README.md").read_text(encoding="utf-8")) if block.reason is None]

    assert any(block.language in PYTHON for block in found)
    assert any(commands(block) for block in found if block.language in CONSOLE)


SAMPLE = """
# A sample

```python
number = 20
```

Some words, then a list:

- with a block
  ```py
  number += 1
  ```

~~~console
$ mdfa --version
mdfa, version 0.1.0
mdfa is what this line of output starts with
$ git clone elsewhere
$ mdfa data fetch \\
>   digits
~~~

```sh
git clone elsewhere
mdfa data list  # with a remark
```

<!-- not run: needs the
     network -->

```python
raise RuntimeError
```

```json
{"not": "run"}
```

````text
```python
raise RuntimeError
```
````

```python
>>> number + 1
22
```
"""


def test_blocks_are_found_with_their_lines_and_reasons() -> None:
    found = blocks(SAMPLE)

    assert [(block.language, block.line) for block in found] == [
        ("python", 5),
        ("py", 12),
        ("console", 16),
        ("sh", 25),
        ("python", 33),
        ("json", 37),
        ("text", 41),
        ("python", 47),
    ]
    assert found[1].text == "number += 1\n"
    assert [block.reason for block in found] == [None] * 4 + ["needs the\n     network"] + [None] * 3
    assert commands(found[2]) == [(16, "mdfa --version"), (20, "mdfa data fetch digits")]
    assert commands(found[3]) == [(26, "mdfa data list  # with a remark")]


def test_a_document_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sample.md"
    path.write_text(SAMPLE)

    assert run_document(path) == 6
    assert "digits is bundled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("```python\nx = 1\n1 / 0\n```\n", ZeroDivisionError, "sample.md, line 2"),
        ("```python\nimport sys\nsys.exit(0)\n```\n", SystemExit, "sample.md, line 2"),
        ("```python\nx = (\n```\n", SyntaxError, "sample.md, line 2"),
        ("```python\n>>> 1 + 1\n3\n```\n", AssertionError, "sample.md"),
        ("```console\n$ mdfa train --epochs 0\n```\n", AssertionError, "line 2: 'mdfa train --epochs 0' ended with 2"),
        ("```sh\nmdfa app\n```\n", AssertionError, "mark its block as not run"),
        ("```sh\nmdfa train --epochs 0 2> log\n```\n", AssertionError, "ended with 2"),
        ("```python\nx = 1\n", ValueError, "line 1: the block is not closed"),
        ("<!-- not run -->\n```python\n```\n", ValueError, "line 1: write the marker as"),
        ("<!-- not run: -->\n```python\n```\n", ValueError, "line 1: write the marker as"),
        ("<!-- not run: slow -->\nwords\n```python\n```\n", ValueError, "line 1: no block right below"),
        ("<!-- not run: slow -->\n", ValueError, "line 1: no block right below"),
        ("<!-- not run: slow -->\n```json\n{}\n```\n", ValueError, "line 1: the marker stands above"),
    ],
)
def test_a_document_that_is_wrong_is_noticed(
    text: str, error: type[BaseException], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sample.md"
    path.write_text(text)

    with pytest.raises(error) as caught:
        run_document(path)

    assert said in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])

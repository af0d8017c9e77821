"""The wheel in an environment of its own, used from a folder whose files have the names of modules.

The environment finds third-party packages in this one's site-packages, so that nothing is downloaded, but not the
editable installation of this project.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import pytest
import requests

from mdfa_core import __version__
from mdfa_core.studies.notebooks import NOTEBOOKS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

ROOT = Path(__file__).resolve().parents[1]
FILES = ("app.py", "click.py", "numpy.py", "panel.py", "random.py", "torch.py", "typing.py")
FOLDERS = ("app", "mdfa_app", "notebooks", "tests")
SMALL = ("--network", "fc:8", "--epochs", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    pytest.importorskip("hatchling", reason="needs hatchling: run make slow, which installs it")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a fresh environment with the wheel in it."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
    command = [home / "bin" / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel]
    subprocess.run(command, check=True, capture_output=True, env=environment())
    return home / "bin"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: importing anything from it ends the program."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text("raise SystemExit(f'{__file__} was imported')\n")
    for name in FOLDERS:
        (folder / name).mkdir()
        for file in ("__init__.py", "main.py"):
            (folder / name / file).write_text("raise SystemExit(f'{__file__} was imported')\n")
    monkeypatch.chdir(folder)
    return folder


def environment() -> dict[str, str]:
    """This environment without a path to the tree."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONSAFEPATH"}}
    return kept | {"OMP_NUM_THREADS": "1"}


def run(*command: str | Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_brings_two_packages_and_their_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert wheel.name.startswith(f"mdfa_lab-{__version__}-py3-none-any")
    assert {name.partition("/")[0] for name in names} == {"mdfa_core", "mdfa_app", f"mdfa_lab-{__version__}.dist-info"}
    assert {"mdfa_core/py.typed", "mdfa_app/app/main.py", "mdfa_app/assets/page.html"} <= names
    assert {f"mdfa_core/_notebooks/{name}.ipynb" for name in NOTEBOOKS} <= names
    assert not [name for name in names if "__pycache__" in name or ".ipynb_checkpoints" in name]


@pytest.mark.usefixtures("hostile")
def test_the_commands_run_from_any_folder(scripts: Path) -> None:
    version = f"mdfa, version {__version__}\n"
    assert run(scripts / "mdfa", "--version") == version
    assert run(scripts / "python", "-m", "mdfa_core", "--version") == version
    for command in ((scripts / "mdfa",), (scripts / "python", "-m", "mdfa_core")):
        assert "seed 0: best training accuracy" in run(*command, "train", *SMALL)
    where = "import mdfa_core; print(mdfa_core.__file__)"
    assert Path(run(scripts / "python", "-P", "-c", where).strip()).is_relative_to(scripts.parent)


def test_a_table_is_reproduced_from_any_folder(scripts: Path, hostile: Path) -> None:
    only = ("--methods", "mdfa", "--networks", "fc", "--activations", "tanh", "--classes", "2")
    out = run(scripts / "mdfa", "reproduce", "table_1", *only)

    assert "wrote reproduction/report.html" in out
    assert (hostile / "reproduction" / "table_1.ipynb").is_file()


@pytest.mark.usefixtures("hostile")
def test_the_page_is_served_from_any_folder(scripts: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://localhost:{port}"
    log = tmp_path / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [scripts / "mdfa", "app", "--port", str(port)], stdout=output, stderr=subprocess.STDOUT, env=environment()
        )
    try:
        end = time.monotonic() + 120
        while True:
            try:
                alive = requests.get(f"{address}/liveness", timeout=60)
                break
            except requests.ConnectionError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
        page = requests.get(f"{address}/app", timeout=300)
    finally:
        server.terminate()
        server.wait(60)

    assert alive.json() == {"/liveness": True}
    assert page.status_code == 200, log.read_text()
    assert "Learning without backpropagation" in page.text
    assert "was imported" not in log.read_text()
    assert "Traceback" not in log.read_text()

"""The files of docs/deploy: a real nginx before a real server, and what the container is made of."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from mdfa_core.cli.app import app
from tests.support.patience import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str], address: str, log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                requests.get(address, timeout=PATIENCE, allow_redirects=False)
                break
            except requests.ConnectionError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deploy")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[int]:
    """`mdfa app`, allowed for the name of the example."""
    port = free_port()
    command = [sys.executable, "-c", "from mdfa_core.cli import main; main()", "app", "--port", str(port)]
    command += ["--origin", "lab.example.org", "--behind-proxy", "--max-pages-per-address", "2"]
    with running(command, f"http://localhost:{port}/liveness", folder / "server.log"):
        yield port


def test_the_server_listens_to_this_machine_only(server: int) -> None:
    assert requests.get(f"http://localhost:{server}/liveness", timeout=PATIENCE).json() == {"/liveness": True}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: asks which address this machine has outside
        except OSError:
            pytest.skip("this machine has no other address")
        outside = probe.getsockname()[0]
    if outside.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{outside}:{server}/liveness", timeout=5)


def test_mdfa_app_is_guarded(server: int) -> None:
    """tests/app/test_attacks.py attacks a bare `panel serve app/`."""
    for path in ("/components/unittest.__main__/x/css/y", "/app/metadata", "/admin"):
        assert requests.get(f"http://localhost:{server}{path}", timeout=PATIENCE).status_code == 404
    answer = requests.get(f"http://localhost:{server}/liveness?endpoint=/app", timeout=PATIENCE)
    assert answer.json() == {"/liveness": True}
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_make_app_listens_to_this_machine_only() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "$(BIN)/panel serve" in line]
    assert "--address localhost" in line


@pytest.mark.slow
@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_nginx_brings_the_page_and_its_websocket(server: int, folder: Path) -> None:
    port = free_port()
    site = (ROOT / "docs" / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("127.0.0.1:5006", f"127.0.0.1:{server}")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; {temporary}{site} }}\n"
    )
    assert NGINX is not None
    with running(
        [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder)], f"http://127.0.0.1:{port}/", folder / "nginx.log"
    ):
        moved = requests.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE, allow_redirects=False)
        assert (moved.status_code, moved.headers["Location"].endswith("/app")) == (302, True)
        page = requests.get(f"http://127.0.0.1:{port}/app", timeout=PATIENCE, headers={"Host": "lab.example.org"})
        assert "Learning without backpropagation" in page.text
        token = re.search(r'"token":\s*"([^"]+)"', page.text)
        assert token is not None
        assert asyncio.run(greet(port, token[1], "http://lab.example.org")) == "ACK"
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": f"bokeh, {token[1]}",
                   "Host": "lab.example.org", "Origin": "http://elsewhere.example.org"}  # fmt: skip
        assert requests.get(f"http://127.0.0.1:{port}/app/ws", timeout=PATIENCE, headers=upgrade).status_code == 403
        for path in ("/components/unittest.__main__/x/css/y", "/app/metadata", "/app/autoload.js", "/liveness", "/x"):
            assert requests.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE).status_code == 404
        for script in re.findall(r'src="(static/[^"]+)"', page.text):
            assert requests.get(f"http://127.0.0.1:{port}/{script}", timeout=PATIENCE).status_code == 200
        # A visitor who makes up an address for every page counts as the one who is seen.
        pages = [
            requests.get(f"http://127.0.0.1:{port}/app", timeout=PATIENCE, headers=made_up(number))
            for number in range(3)
        ]
        assert [answer.status_code for answer in pages][-1] == 503
        assert any("your network address" in answer.text.lower() for answer in pages)
        posted = requests.post(f"http://127.0.0.1:{port}/app", timeout=PATIENCE, data=b"x" * 5000)
        assert posted.status_code == 413
        assert requests.post(f"http://127.0.0.1:{port}/app", timeout=PATIENCE, data=b"x").status_code == 405


def made_up(number: int) -> dict[str, str]:
    """Headers that name another address each time."""
    address = f"192.0.2.{number}"
    return {"Host": "lab.example.org", "X-Real-IP": address, "X-Forwarded-For": address, "Forwarded": f"for={address}"}


async def greet(port: int, token: str, origin: str) -> str:
    """The kind of the server's first message to a page from there."""
    headers = {"Host": "lab.example.org", "Origin": origin}
    request = HTTPRequest(f"ws://127.0.0.1:{port}/app/ws", headers=headers)
    connection = await websocket_connect(request, subprotocols=["bokeh", token])
    message = await connection.read_message()
    connection.close()
    while await connection.read_message() is not None:
        pass
    assert isinstance(message, str)
    return str(json.loads(message)["msgtype"])


def test_the_container_is_made_of_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)
        kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
        assert all(f"!{source}" in kept for source in sources)
    assert re.search(r"^USER mdfa$", text, flags=re.MULTILINE)
    assert "HEALTHCHECK" in text
    entry, command = (json.loads(re.search(rf"^{word} (\[.*\])$", text, flags=re.MULTILINE)[1])  # type: ignore[index]
                      for word in ("ENTRYPOINT", "CMD"))  # fmt: skip
    parsed = app.make_context("app", [*entry[2:], *command]).params
    assert (entry[:2], parsed["address"], parsed["port"]) == (["mdfa", "app"], "0.0.0.0", 5006)


def test_jupyters_configuration_starts_the_app() -> None:
    path = ROOT / "docs" / "deploy" / "jupyter_server_config.py"
    spec = importlib.util.spec_from_file_location("jupyter_server_config", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    class Settings:
        servers: dict[str, dict[str, list[str]]]

    class Config:
        ServerProxy = Settings()

    module.__dict__["get_config"] = Config
    spec.loader.exec_module(module)
    words = [word.format(port=1234) for word in Config.ServerProxy.servers["mdfa"]["command"]]
    assert app.make_context("app", words[2:]).params["origin"] == ("*",)

"""`panel serve app/` as a user starts it, and a network that fails."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Proxy:
    """A door to a server of this machine that can be shut, as a network that fails."""

    def __init__(self, to: int) -> None:
        self._to, self._open = to, True
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Every connection ends at once, and no new one comes about."""
        self._open = False
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def mend(self) -> None:
        self._open = True

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)  # wakes who waits at it
        self._door.close()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._door.accept()
            except OSError:
                return
            if not self._open:
                visitor.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [visitor, server]
            for a, b in ((visitor, server), (server, visitor)):
                threading.Thread(target=self._carry, args=(a, b), daemon=True).start()

    @staticmethod
    def _carry(a: socket.socket, b: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for end in (a, b):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Server:
    """A server of the page in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]
    proxy: Proxy
    _log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/app"

    @property
    def unsteady(self) -> str:
        """The address through the door that can be shut."""
        return f"http://127.0.0.1:{self.proxy.port}/app"

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()


@contextlib.contextmanager
def served(log: Path) -> Iterator[Server]:
    """Start `panel serve app/`, and end it."""
    port = free_port()
    proxy = Proxy(port)
    command = [sys.executable, "-m", "panel", "serve", "app/", "--port", str(port), "--address", "127.0.0.1"]
    for door in (port, proxy.port):
        command += ["--allow-websocket-origin", f"127.0.0.1:{door}"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    server = Server(port, process, proxy, log)
    try:
        end = time.monotonic() + 60
        while "app running at" not in server.log():
            assert process.poll() is None, server.log()
            assert time.monotonic() < end, "the server did not start within a minute"
            time.sleep(0.1)
        yield server
    finally:
        proxy.close()
        if process.poll() is None:
            process.terminate()
        process.wait(30)

"""`mdfa app`: serves the page in a process of its own, from whatever folder it is called."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import rich_click as click
from click.exceptions import Exit

from mdfa_core.base.distribution import install
from mdfa_core.base.errors import InvalidValue, MissingPackage
from mdfa_core.base.text import shown
from mdfa_core.cli.options import Command

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_ORIGIN = re.compile(r"[\w.*-]+(?::([0-9]{1,5}))?")  # Bokeh takes no IPv6 address and no port "*"
_PREFIX = re.compile(r"[A-Za-z0-9._~%@/-]*")


@click.command(cls=Command)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5006, show_default=True, panel="Address", help="TCP port"
)
@click.option(
    "--address",
    default="localhost",
    show_default=True,
    metavar="NAME",
    panel="Address",
    help="Network address to listen on: localhost is this machine only, 0.0.0.0 every network",
)
@click.option(
    "--origin",
    multiple=True,
    metavar="HOST:PORT",
    panel="Address",
    help="Name under which browsers may open the page; repeat it for each name",
)
@click.option(
    "--prefix", default="", metavar="PATH", panel="Address", help="Path before /app, for a proxy that keeps it"
)
@click.option(
    "--behind-proxy",
    is_flag=True,
    panel="Visitors",
    help="Believe X-Real-IP and X-Forwarded-For: only if every request comes through a proxy that sets both",
)
@click.option(
    "--embed-in",
    multiple=True,
    metavar="ORIGIN",
    panel="Visitors",
    help="Site that may show the page in a frame, as https://example.org; repeat it for each site",
)
@click.option("--max-pages", type=click.IntRange(1, 10_000), panel="Visitors", help="Open pages in all; 40 by default")
@click.option(
    "--max-pages-per-address",
    type=click.IntRange(1, 10_000),
    panel="Visitors",
    help="Open pages from one network address; 24 by default",
)
@click.option(
    "--downloads/--no-downloads",
    default=None,
    panel="Visitors",
    help="Whether Start may download a data set of up to 170 MB once; by default only on this machine",
)
@click.option("--show/--no-show", default=False, show_default=True, panel="Output", help="Open the page in a browser")
def app(
    port: int,
    address: str,
    origin: tuple[str, ...],
    prefix: str,
    behind_proxy: bool,
    embed_in: tuple[str, ...],
    max_pages: int | None,
    max_pages_per_address: int | None,
    downloads: bool | None,
    show: bool,
) -> None:
    """Serve the live app at /app, to this machine only unless --address says otherwise.

    /liveness answers whether the server is up. docs/howto/serve.md explains proxies, containers and JupyterHub.

    \b
    Examples:
      mdfa app --show
      mdfa app --address 0.0.0.0 --origin lab.example.org
    """  # noqa: D301 - click reads the \b
    for host in origin:
        found = _ORIGIN.fullmatch(host)
        if found is None or not 1 <= int(found[1] or 80) <= 65535:
            raise InvalidValue(
                f"the origin is {shown(host)}: give HOST or HOST:PORT with a port from 1 to 65535, such as "
                "lab.example.org:5006"
            )
    if not _PREFIX.fullmatch(prefix):
        raise InvalidValue(
            f"the prefix is {shown(prefix)}: give a path of letters, digits, '/' and '._~%@-', such as lab/mdfa"
        )
    _refuse_taken(address, port)
    command = [sys.executable, "-m", "panel", "serve", str(_served_folder()), "--liveness"]
    command += ["--port", str(port), "--address", address]
    command += [word for host in origin for word in ("--allow-websocket-origin", host)]
    command += [*(["--prefix", prefix] if prefix else []), *(["--show"] if show else [])]
    command += ["--use-xheaders"] if behind_proxy else []
    decided = {  # as mdfa_app.serving.guard reads it
        "MDFA_EMBED_IN": " ".join(embed_in) or None,
        "MDFA_MAX_PAGES": max_pages,
        "MDFA_MAX_PAGES_PER_ADDRESS": max_pages_per_address,
        "MDFA_DOWNLOADS": _downloads(downloads, alone=address in _THIS_MACHINE and not origin and not behind_proxy),
    }
    environment = os.environ | {name: str(value) for name, value in decided.items() if value is not None}
    if os.name == "posix":  # the server takes this process's place: whoever ends the process ends the server
        os.execve(command[0], command, environment)
    try:
        raise Exit(subprocess.call(command, env=environment))
    except KeyboardInterrupt:  # the server received it too and has ended
        raise Exit(0) from None


def _refuse_taken(address: str, port: int) -> None:
    """Say what is wrong with an address or a port before the server starts, which would end with a number.

    Raises:
        InvalidValue: the machine does not have the address, or cannot open the port.
    """
    reasons: list[OSError] = []
    try:
        places = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, place in places:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
                try:
                    tried.bind(place)
                except OSError as error:
                    reasons.append(error)
    except (OSError, UnicodeError):  # no such host; socket.gaierror is an OSError
        raise InvalidValue(
            f"the address is {shown(address)}, which this machine does not know: give localhost, 0.0.0.0 or one of its "
            "own addresses"
        ) from None
    taken = [error for error in reasons if error.errno in (errno.EADDRINUSE, errno.EACCES)]
    if taken or len(reasons) == len(places):  # localhost may have one address that is switched off, such as ::1
        raise InvalidValue(
            f"port {port} of {address} cannot be opened ({(taken or reasons)[0].strerror}): end the program that uses "
            "it, or give another --port or --address"
        )


def _downloads(chosen: bool | None, *, alone: bool) -> int | None:
    """The value of `MDFA_DOWNLOADS`; None leaves it as it is in the environment."""
    if chosen is None and "MDFA_DOWNLOADS" in os.environ:
        return None
    return int(alone if chosen is None else chosen)


def _served_folder() -> Path:
    """The folder `app`, whose name is the page's path: inside `mdfa_app` in a wheel, beside it in a clone.

    Raises:
        MissingPackage: the page or Panel is not installed.
    """
    page = importlib.util.find_spec("mdfa_app")
    if page is not None and page.origin is not None and importlib.util.find_spec("panel") is not None:
        package = Path(page.origin).parent
        for folder in (package / "app", package.parent / "app"):
            if (folder / "main.py").is_file():
                return folder
    raise MissingPackage(f"the app is not installed: run {install('app')}")

"""The server of the page, with what a stranger may ask of it bounded.

`install` has Bokeh make its servers of the classes below. It must run before a server is made: `server_lifecycle.py`
beside the page's `main.py` does it, which Bokeh loads first (and does not start if that fails). From then on

- only the addresses in `routes` are answered, and every answer has the headers in `headers`;
- session ids and tokens are signed with a key of this server, and a visitor chooses none;
- pages and websockets pass `admission`, whatever asks for them;
- requests, connections and messages keep to `bounds`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import bokeh.server.server
from bokeh.application import Application
from bokeh.protocol.message import Message
from bokeh.resources import Resources
from bokeh.server.auth_provider import NullAuth
from bokeh.server.contexts import ApplicationContext
from bokeh.server.session import ServerSession
from bokeh.server.tornado import BokehTornado
from bokeh.settings import settings
from bokeh.util.token import check_token_signature, get_session_id, get_token_payload
from panel.io.liveness import LivenessHandler
from panel.io.server import DocHandler, WSHandler
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerRequest
from tornado.iostream import IOStream
from tornado.routing import Rule
from tornado.web import HTTPError, RequestHandler

from mdfa_app.serving import bounds, headers, routes
from mdfa_app.serving.admission import Admission, Caps, Full
from mdfa_app.serving.log_filter import log_shortly
from mdfa_app.serving.presence import SERVER, give_up_longest_away
from mdfa_app.serving.refusal_log import RefusalLog
from mdfa_app.serving.shell import END, FAILED, shell
from mdfa_app.trainer.sharing import MEMORY
from mdfa_core import MdfaError

ASK_SECONDS = 3.0
"""Between two questions of a waiting browser; one without a ticket waits ten times as long."""
STALE_SECONDS = 5.0
"""Without a connection, after which a page that nothing holds makes room for others."""
SHELL_SECONDS = 0.2
"""How long the server lets a browser take the shell of its page: while it makes the rest, it sends nothing."""
END_SECONDS = 60.0
"""How long a run that needs memory waits for the server to end an abandoned page."""
REST = 0.5
"""How long the next page waits, as a share of the time the last one took: others' clicks are answered in between."""
_KEY = 32  # characters
_QUEUE_PAGE = Path(__file__).parents[1] / "assets" / "queue.html"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """What the operator decides.

    Attributes:
        caps: how many pages and websockets there may be.
        ancestors: origins whose pages may frame the app.
    """

    caps: Caps = field(default_factory=Caps)
    ancestors: tuple[str, ...] = ()

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Policy:
        """The policy in the variables MDFA_MAX_PAGES, MDFA_MAX_PAGES_PER_ADDRESS and MDFA_EMBED_IN (origins).

        Raises:
            MdfaError: if one of them cannot be read.
        """
        pages = _number(environment, "MDFA_MAX_PAGES", Caps.pages)
        own = _number(environment, "MDFA_MAX_PAGES_PER_ADDRESS", min(Caps.pages_of_address, pages))
        ancestors = headers.check_ancestors(environment.get("MDFA_EMBED_IN", "").split())
        return cls(Caps(pages=pages, pages_of_address=own), ancestors)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 10_000):
        raise MdfaError(f"{name} is {text[:20]!r}: give a whole number from 1 to 10000")
    return int(text)


def install() -> None:
    """Have Bokeh make guarded servers in this process from now on; a second time changes nothing."""
    Policy.read()  # an unreadable one is said before a server listens
    key = settings.secret_key()
    if key is None:
        settings.secret_key.set_value(secrets.token_urlsafe(32))
        vars(settings).pop("_secret_key_bytes", None)  # Bokeh has it from when there was none
    elif len(key) < _KEY:
        raise MdfaError(
            f"BOKEH_SECRET_KEY has {len(key)} characters, fewer than {_KEY}: `bokeh secret` makes a new key"
        )
    settings.sign_sessions.set_value(True)  # for the tokens that are renewed outside the server's handlers
    log_shortly()
    vars(bokeh.server.server).update(BokehTornado=GuardedTornado, HTTPServer=GuardedHTTPServer)


def require() -> None:
    """See to it that this process's servers are guarded.

    Raises:
        MdfaError: if they are not, as when `main.py` is served instead of its folder.
    """
    if bokeh.server.server.BokehTornado is not GuardedTornado:
        raise MdfaError("this server is not guarded: serve the folder, as in `panel serve app/`, not the file main.py")


# ------------------------------------------------------------------------------------------------------ the application


class GuardedTornado(BokehTornado):
    """Bokeh's application of Tornado, of whose routes only those are left that the page needs.

    Args:
        applications: as Bokeh's.
        policy: what the operator decided; read from the environment if it is not given.
    """

    def __init__(
        self,
        applications: Mapping[str, Application] | Application,
        *,
        policy: Policy | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(options.get("auth_provider", NullAuth()), NullAuth):
            raise MdfaError("the app serves no login page: ask for a password in a proxy, as docs/howto/serve.md says")
        self.policy = policy or Policy.read()
        self.refusals = RefusalLog()
        self.connections: bounds.Connections | None = None  # the HTTP server has them
        key = options.pop("secret_key", None) or settings.secret_key_bytes() or secrets.token_bytes(32)
        for name in ("include_headers", "include_cookies", "exclude_headers", "exclude_cookies"):
            options.pop(name, None)  # a visitor's headers and cookies do not go into the page's token
        options |= {
            "secret_key": key,
            "sign_sessions": True,
            "generate_session_ids": True,
            "include_headers": [],
            "include_cookies": [],
            "use_index": True,
            "redirect_root": True,
            "websocket_max_message_size_bytes": bounds.MESSAGE_BYTES,
            "websocket_ping_interval": bounds.PING_SECONDS,
            "default_handler_class": NotFound,
        }
        super().__init__(applications, **options)
        self._values: dict[str, bounds.SetValues] = {}
        self._cleaned = -STALE_SECONDS
        self._making = asyncio.Lock()
        self.beginnings: dict[HTTPServerRequest, Callable[[], Awaitable[None]]] = {}
        """What is done for a request as soon as it has a place, before its page is made."""
        self.admission = Admission(self._live, self._make_room, self.policy.caps)
        MEMORY.make_room = self.end_abandoned
        for context in self.applications.values():
            vars(context)["create_session_if_needed"] = self._admitted(context, context.create_session_if_needed)
        self.addresses = self._keep_routes()

    # --------------------------------------------------------------------------------------------------------- routes

    def _keep_routes(self) -> routes.Addresses:
        """Drop every route that the page does not need, and have guarded handlers answer the rest."""
        apps, kept, liveness = tuple(self.applications), [], ""
        for rule in self.wildcard_router.rules:
            pattern, handler = cast(Any, rule.matcher).regex.pattern, cast(type[RequestHandler], rule.target)
            if issubclass(handler, LivenessHandler):  # under whatever name the operator gave it
                liveness = pattern.removesuffix("$").removeprefix(self.prefix)
                kept.append(Rule(rule.matcher, Liveness))
                continue
            route = routes.find_route(pattern, handler, apps, self.prefix)
            if route is None:
                _log.warning("not served: %s (%s), which the page does not need", pattern, handler.__qualname__)
            elif route.served:
                kept.append(Rule(rule.matcher, guarded(handler), rule.target_kwargs, rule.name))
        self.wildcard_router.rules[:] = kept
        self.add_handlers(".*$", [(f"{self.prefix}{app}{routes.QUEUE}", Queue) for app in apps])
        return routes.Addresses(apps, self.prefix, liveness)

    def find_handler(self, request: HTTPServerRequest, **more: Any) -> Any:
        """The handler of a request, or one that refuses it before anything of Panel's sees it."""
        status = self.addresses.refusal(request.method or "", request.path, request.query)
        if status is None:
            return super().find_handler(request, **more)
        return self.get_handler_delegate(request, NotFound, {"status": status})

    def log_request(self, handler: RequestHandler) -> None:
        """Log what failed, and what was refused in short."""
        status, request = handler.get_status(), handler.request
        if status >= 500 and status != 503:
            super().log_request(handler)
        elif status >= 400 and status != 503:  # whoever refuses with 503 says why
            self.refusals.note("a request", str(request.remote_ip), f"{status} {request.method} {request.path}")

    def resources(self, absolute_url: str | bool | None = None) -> Resources:
        """Bokeh's resources, without scripts that the page does not need: WebGL and MathJax have 2 MB."""
        made = super().resources(absolute_url)
        made.components = list(routes.COMPONENTS)
        return made

    # ---------------------------------------------------------------------------------------------------------- pages

    def _admitted(
        self, context: ApplicationContext, create: Callable[..., Awaitable[ServerSession]]
    ) -> Callable[..., Awaitable[ServerSession]]:
        """Bokeh's function that every way to a page leads through, with a place taken first."""
        coming: set[str] = set()

        async def create_session_if_needed(
            session_id: str, request: HTTPServerRequest | None = None, token: str | None = None
        ) -> ServerSession:
            if session_id in coming or self.has_page(context, session_id):
                return await create(session_id, request, token)
            address = str(getattr(request, "remote_ip", ""))
            self.admission.enter(address)
            coming.add(session_id)
            try:
                if request is not None and request in self.beginnings:
                    await self.beginnings[request]()
                await self._making.acquire()
                start = time.perf_counter()
                try:
                    session = await create(session_id, request, token)
                finally:
                    self.io_loop.call_later(REST * (time.perf_counter() - start), self._making.release)
            except BaseException:
                self.admission.failed(address)
                raise
            finally:
                coming.discard(session_id)
            self.admission.made(address, session_id)
            return session

        return create_session_if_needed

    @staticmethod
    def has_page(context: ApplicationContext, session_id: str) -> bool:
        """Whether there is a page with this id."""
        return any(session.id == session_id for session in context.sessions)

    def _sessions(self) -> list[ServerSession]:
        return [session for context in self.applications.values() for session in context.sessions]

    def _live(self) -> set[str]:
        return {session.id for session in self._sessions()}

    def _make_room(self) -> None:
        """End pages that nobody is connected to and nothing holds: Bokeh would, some seconds later."""
        now = time.monotonic()
        if now - self._cleaned < STALE_SECONDS / 5:
            return
        self._cleaned = now
        stale = self._stale()
        for session in stale:
            session.request_expiration()
        if stale:
            self.io_loop.add_callback(self._cleanup_sessions)

    def _stale(self) -> list[ServerSession]:
        """Pages that nobody is connected to and nothing holds, the one that has been alone for longest first."""
        stale = [
            session
            for session in self._sessions()
            if session.connection_count == 0
            and not session.expiration_blocked
            and session.milliseconds_since_last_unsubscribe > 1000 * STALE_SECONDS
        ]
        return sorted(stale, key=lambda session: -session.milliseconds_since_last_unsubscribe)

    def end_abandoned(self) -> bool:
        """End a page without a visitor, for its memory; False if there is none. Any thread but the server's may call.

        A page that nothing holds goes first, then the one that is kept for an absent visitor and has waited longest.
        """
        ended: Future[bool] = Future()

        async def end() -> None:
            session = next(iter(self._stale()), None) or give_up_longest_away()
            if session is not None:
                session.request_expiration()
                await self._cleanup_sessions()
            ended.set_result(session is not None)

        self.io_loop.add_callback(end)
        try:
            return ended.result(END_SECONDS)
        except TimeoutError:  # the server is busy, or ends
            return False

    def values(self, page: str) -> bounds.SetValues:
        """What browsers have set in a page."""
        if page not in self._values:
            live = self._live()
            self._values = {known: values for known, values in self._values.items() if known in live}
            self._values[page] = bounds.SetValues()
        return self._values[page]


# ------------------------------------------------------------------------------------------------------------- handlers


class SecureHandler(RequestHandler):
    """A handler whose every answer has the headers, errors included."""

    _nonce = ""

    @property
    def server(self) -> GuardedTornado:
        """Whose handler it is."""
        return cast(GuardedTornado, self.application)

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.clear_header("Server")
        secured = headers.security_headers(nonce=self._nonce, ancestors=self.server.policy.ancestors)
        for name, value in secured.items():
            self.set_header(name, value)

    @property
    def visitor(self) -> str:
        """The address a request counts for."""
        return str(self.request.remote_ip)

    def refuse(self, kind: str, detail: str, status: int = 403) -> HTTPError:
        """The error to raise; it is logged in short."""
        self.server.refusals.note(kind, self.visitor, detail)
        return HTTPError(status)


class NotFound(SecureHandler):
    """The answer to a request for nothing that is served."""

    def initialize(self, status: int = 404) -> None:
        self.set_status(status)

    def prepare(self) -> None:
        self.finish("Nothing is here.\n")


class Liveness(SecureHandler):
    """The answer that the server is up. Panel's would make a page to see whether it can."""

    def get(self) -> None:
        self.write({self.request.path: True})


class Queue(SecureHandler):
    """The position of a visitor who waits, and the name of this process for a browser that lost its connection."""

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        position = self.server.admission.ask(self.get_query_argument("ticket", ""), self.visitor)
        self.write({"position": position, "server": SERVER})


class GuardedDoc(SecureHandler, DocHandler):
    """The page, or the queue for it.

    A visitor who is admitted gets the shell of the page at once, and the rest when it is made.
    """

    _begun = False

    async def prepare(self) -> None:
        await cast(Awaitable[Any], super().prepare())
        chosen = [name for name in routes.CHOSEN if name in self.request.arguments]
        if chosen or routes.CHOSEN_HEADER in self.request.headers:
            raise self.refuse("a session chosen by the visitor", " ".join(chosen))

    async def get(self, *args: Any, **kwargs: Any) -> None:
        name = self.request.path.rstrip("/").rpartition("/")[2]
        if name and self.request.path.endswith("/"):  # relative addresses in the page would be other ones
            self.redirect(f"../{name}" + (f"?{self.request.query}" if self.request.query else ""))
            return
        self._nonce = headers.new_nonce()
        self.set_default_headers()
        self.set_header("Cache-Control", "no-store")  # a restored page would have the token of a session that is over
        self.set_header("X-Accel-Buffering", "no")  # nginx passes on what there is
        self.server.beginnings[self.request] = self._begin
        try:
            await cast(Awaitable[None], super().get(*args, **kwargs))
        except Full as full:
            self._show_queue(full)
        except Exception:
            if not self._begun:
                raise
            self.log_exception(*sys.exc_info())
            self.write(FAILED)
        finally:
            del self.server.beginnings[self.request]

    async def _begin(self) -> None:
        """Send the shell. A browser that does not take it keeps nobody waiting."""
        self.write(shell(recorded=not self.request.query))
        self._begun = True
        await asyncio.wait([asyncio.ensure_future(self.flush())], timeout=SHELL_SECONDS)

    def write(self, chunk: str | bytes | dict[str, Any]) -> None:
        if self._begun and isinstance(chunk, str):
            chunk = chunk.partition(END)[2] or FAILED
        super().write(headers.with_nonce(chunk, self._nonce) if isinstance(chunk, str) and self._nonce else chunk)

    def _show_queue(self, full: Full) -> None:
        self.server.refusals.note("a page for now", self.visitor, full.reason)
        wait = ASK_SECONDS if full.ticket else 10 * ASK_SECONDS
        self.set_status(503)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Retry-After", str(round(wait)))
        text = _QUEUE_PAGE.read_text(encoding="utf-8")
        shown = {"reason": full.reason, "ticket": full.ticket, "position": str(full.position or "not in it yet")}
        for name, value in (shown | {"wait": str(round(1000 * wait))}).items():
            text = text.replace(f"%{name}%", value)
        self.write(text)


class GuardedWS(SecureHandler, WSHandler):
    """The websocket of a page that this server made, for browsers at an address it knows."""

    _page = ""
    _over = False  # whether nothing more is heard

    async def prepare(self) -> None:
        await super().prepare()
        if self.current_user is None:  # and so refused
            return
        origin = self.request.headers.get("Origin", "")
        # Tornado asks only about an origin that is sent and is not the Host that the same request names.
        if not origin or not self.check_origin(origin):
            raise self.refuse("a websocket", f"origin {origin or 'missing'}")
        page = self._signed_page()
        if not page:
            raise self.refuse("a websocket", "its token is not one of this server's, or too old")
        reason = self.server.admission.socket_refusal(self.visitor, page)
        if reason:
            raise self.refuse("a websocket", reason, 503)
        self._page = page

    def _signed_page(self) -> str:
        """The id of the page whose token is in the request, or nothing."""
        words = self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        if len(words) != 2:
            return ""
        token, app = words[1].strip(), self.server
        try:
            if not check_token_signature(token, secret_key=app.secret_key, signed=True):
                return ""
            if get_token_payload(token)["session_expiry"] <= time.time():
                return ""
            return str(get_session_id(token))
        except Exception:  # of whatever kind: the token is anything that a visitor made up
            return ""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        self._meter, self._share = bounds.MessageMeter(), bounds.FairShare()
        self.server.admission.socket_opened(self.visitor, self._page)
        if self.server.connections is not None and self.ws_connection is not None:
            self.server.connections.becomes_socket(cast(Any, self.ws_connection).stream)
        return super().open(*args, **kwargs)

    def on_close(self) -> None:
        self.server.admission.socket_closed(self.visitor, self._page)
        with contextlib.suppress(AssertionError):  # Bokeh's ping may have given the connection up before
            super().on_close()

    async def _async_open(self, token: str) -> None:
        try:
            await super()._async_open(token)
        except Full as full:
            self.server.refusals.note("a page for now", self.visitor, full.reason)
            self.close(1013, "try again later")

    @property
    def _given_up(self) -> bool:
        """Whether Bokeh has taken the page from this connection, because a ping could not be sent."""
        try:
            return self.connection is not None and self.connection.session is None
        except AssertionError:  # how Bokeh says that there is none
            return True

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        self._over = True
        super().close(code, reason)

    async def on_message(self, fragment: str | bytes) -> None:
        if self._over:  # what was under way; Tornado reads on until the browser closes, too
            return
        try:
            if self.connection is None:
                raise bounds.Unacceptable("a message before the page is there")
            self._meter.take(fragment)
        except bounds.Unacceptable as error:
            self.server.refusals.note("a message", self.visitor, str(error))
            self.close(1009, "out of bounds")
            return
        start = time.thread_time()
        await super().on_message(fragment)
        wait = self._share.spend(time.thread_time() - start)
        if wait:  # nothing more is read meanwhile, not even the answer to a ping
            await asyncio.sleep(min(wait, bounds.PING_SECONDS / 10))

    async def _handle(self, message: Message[Any]) -> Any:
        if self._given_up:  # its browser has closed; this message was still to be read
            return None
        try:
            bounds.check_message(message.msgtype, message.content, self.server.values(self._page))
        except bounds.Unacceptable as error:
            self.server.refusals.note("a message", self.visitor, str(error))
            return self.connection.error(message, str(error)) if self.connection else None
        return await super()._handle(message)


def guarded(handler: type[RequestHandler]) -> type[RequestHandler]:
    """A handler of Bokeh's or Panel's with the headers, and what else it needs."""
    own: dict[type[RequestHandler], type[RequestHandler]] = {DocHandler: GuardedDoc, WSHandler: GuardedWS}
    return own.get(handler) or type(f"Guarded{handler.__name__}", (SecureHandler, handler), {})


# ---------------------------------------------------------------------------------------------------------- connections


class GuardedHTTPServer(HTTPServer):
    """Tornado's server of HTTP, with bounds on heads, bodies and connections."""

    def initialize(self, request_callback: Any, **options: Any) -> None:  # type: ignore[override]
        options |= {
            "max_header_size": bounds.HEAD_BYTES,
            "idle_connection_timeout": bounds.HEAD_SECONDS,
            "max_body_size": bounds.BODY_BYTES,
            "body_timeout": bounds.BODY_SECONDS,
            "max_buffer_size": bounds.READ_BYTES,
            "decompress_request": False,
        }
        super().initialize(request_callback, **options)
        proxied = bool(options.get("xheaders"))
        self._bounds = bounds.Connections(of_address=None) if proxied else bounds.Connections()
        if isinstance(request_callback, GuardedTornado):
            request_callback.connections = self._bounds

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        who = str(address[0]) if isinstance(address, tuple) else ""
        if not self._bounds.admit(stream, who):
            stream.close()
            if isinstance(self.request_callback, GuardedTornado):
                self.request_callback.refusals.note("a connection", who, "too many are open")
            return
        super().handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        stream = cast(Any, request_conn).stream
        self._bounds.awaits(stream)
        return _Heard(super().start_request(server_conn, request_conn), lambda: self._bounds.request_received(stream))


class _Heard(HTTPMessageDelegate):
    """Says when a request's head has come."""

    def __init__(self, delegate: HTTPMessageDelegate, heard: Callable[[], None]) -> None:
        self._delegate, self._heard = delegate, heard

    def headers_received(self, start_line: Any, headers: Any) -> Any:
        self._heard()
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()

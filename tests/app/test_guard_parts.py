"""The parts of the guard without a server: the list of routes, the queue, the bounds, the headers."""

from __future__ import annotations

import asyncio
import json
import logging
from argparse import Namespace
from collections.abc import Callable
from typing import Any, cast

import pytest
from bokeh.application import Application
from bokeh.command.subcommands.serve import Serve as BokehServe
from bokeh.server.tornado import BokehTornado
from bokeh.util.token import generate_jwt_token, generate_session_id
from hypothesis import given, settings
from hypothesis import strategies as st
from panel.command.serve import Serve
from panel.config import config
from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.routing import PathMatches
from tornado.web import RequestHandler
from tornado.websocket import websocket_connect

from mdfa_app.serving import bounds, guard, headers, routes
from mdfa_app.serving.admission import (
    CALL_SECONDS,
    MAKING,
    NEW_PAGE_SECONDS,
    TICKET_SECONDS,
    Admission,
    Caps,
    Full,
    party,
)
from mdfa_app.serving.guard import GuardedTornado, Policy, require
from mdfa_app.serving.log_filter import log_shortly
from mdfa_app.serving.refusal_log import LINES, WINDOW_SECONDS, RefusalLog
from mdfa_app.serving.shell import shell
from mdfa_core import MdfaError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --------------------------------------------------------------------------------------------------------------- routes


def patterns_of_panel(*, prefix: str = "") -> dict[str, Any]:
    """What `panel serve --liveness` gives Bokeh's application, by Panel's own code."""
    import argparse

    command = Serve(parser=argparse.ArgumentParser())
    args = command.parser.parse_args(["--liveness"])  # without the folder, which would install the guard here
    config.autoreload = False
    kept = BokehServe.customize_kwargs
    assert kept is not Serve.customize_kwargs  # Panel's adds the routes
    made: dict[str, Any] = command.customize_kwargs(Namespace(**vars(args)), {})
    return {"extra_patterns": made["extra_patterns"], "ico_path": made["ico_path"], "prefix": prefix}


def opened(application: BokehTornado) -> list[tuple[str, type[RequestHandler]]]:
    """Pattern and handler of every route an application has."""
    return [
        (cast(PathMatches, rule.matcher).regex.pattern, cast(type[RequestHandler], rule.target))
        for rule in application.wildcard_router.rules
    ]


def make(kind: Callable[..., BokehTornado], **options: Any) -> BokehTornado:
    return kind({"/app": Application()}, **patterns_of_panel(**options))


@pytest.mark.parametrize("prefix", ["", "/lab"])
def test_the_list_has_every_route_that_panel_and_bokeh_open(prefix: str) -> None:
    """An upgrade that opens a new route fails here: decide on it in `routes.ROUTES`."""
    found = [routes.find_route(*route, ("/app",), prefix) for route in opened(make(BokehTornado, prefix=prefix))]
    assert None not in found, opened(make(BokehTornado, prefix=prefix))[found.index(None)]
    assert set(found) == set(routes.ROUTES)


def test_a_known_address_with_another_handler_is_not_known() -> None:
    assert routes.find_route("/app/ws$", RequestHandler, ("/app",), "") is None


def test_only_routes_of_the_list_that_are_served_are_left(caplog: pytest.LogCaptureFixture) -> None:
    left = opened(make(GuardedTornado))
    wanted = {route.pattern.replace("{app}", "/app") + "$" for route in routes.ROUTES if route.served}
    assert {pattern for pattern, _ in left} == wanted
    assert not caplog.records


def test_a_route_that_nobody_decided_on_is_not_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class New(RequestHandler):
        pass

    options = patterns_of_panel()
    options["extra_patterns"] += [("/new", New), ("/admin/ws", New)]
    application = GuardedTornado({"/app": Application()}, **options)
    assert New not in {handler for _, handler in opened(application)}
    assert not application.addresses.knows("/new")
    assert "not served: /new$" in caplog.text


def test_a_login_of_panels_is_refused_with_what_to_do() -> None:
    from panel.auth import BasicAuthProvider

    with pytest.raises(MdfaError, match=r"ask for a password in a proxy"):
        GuardedTornado({"/app": Application()}, auth_provider=BasicAuthProvider())


def test_a_page_is_refused_by_a_server_without_the_guard() -> None:
    with pytest.raises(MdfaError, match="serve the folder"):
        require()


ADDRESSES = routes.Addresses(("/app",), "", "/liveness")
SERVED = ["/", "/app", "/app/", "/app/ws", "/app/queue", "/favicon.ico", "/liveness", "/static/js/bokeh.min.js",
          "/static/js/bokeh-widgets.min.js", "/static/extensions/panel/panel.min.js",
          "/static/extensions/panel/css/button.css", "/static/extensions/panel/bundled/theme/default.css",
          "/static/extensions/panel/bundled/reactiveesm/es-module-shims@%5E1.10.0/dist/es-module-shims.min.js",
          "/static/js/bokeh-tables.min.js"]  # fmt: skip
NOT_SERVED = ["/components/unittest.__main__/x/css/y", "/components", "/app/metadata", "/app/autoload.js", "/admin",
              "/rest/session_info", "/app/static/js/bokeh.min.js", "/static/js/bokeh.js",
              "/static/js/bokeh-mathjax.min.js", "/static/js/bokeh-gl.min.js",
              "/static/extensions/panel/bundled/datatabulator/tabulator-tables@6.4.0/dist/js/tabulator.min.js",
              "/static/", "/static",
              "/static/js/../../../../etc/passwd", "/static/js/%2e%2e/%2e%2e/etc/passwd", "/static/js/bokeh.min.js/",
              "/static/extensions/panel/../bokeh.min.js", "/static/extensions/panel/css/..%2fpanel.min.js",
              "/static/extensions/panel/css/%2e%2e%2fbutton.css", "/static//etc/passwd", "/static/%00",
              "/static/extensions/panel/css/button.css%00", "//app", "/app//", "/app/ws/", "/APP", "/app;x",
              "/app%2fws", "/login", "/logout", "/app/liveness", "*", "http://elsewhere/app",
              "/static/js/bokeh.min.js%0a",
              "/static/extensions/panel/bundled/../../../../../mdfa_core/cli.py"]  # fmt: skip


@pytest.mark.parametrize("path", SERVED)
def test_the_page_gets_what_it_needs(path: str) -> None:
    assert ADDRESSES.refusal("GET", path, "") is None
    assert routes.Addresses(("/app",), "/lab").knows(path if path == "/favicon.ico" else "/lab" + path) is (
        path != "/liveness"
    )


@pytest.mark.parametrize("path", NOT_SERVED)
def test_nothing_else_is_there(path: str) -> None:
    assert ADDRESSES.refusal("GET", path, "") == 404


@given(st.text(alphabet="/.%2efFapw:@^\\-_\0 ", max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_path_leads_out_of_the_static_files(tail: str) -> None:
    for start in ("/static/", "/static/extensions/panel/", "/static/extensions/panel/css/"):
        assert not ADDRESSES.knows(start + tail)


def test_only_reading_is_answered_and_only_short_links() -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", ""):
        assert ADDRESSES.refusal(method, "/app", "") == 405
    assert ADDRESSES.refusal("GET", "/app", "x" * routes.LONGEST_QUERY) is None
    assert ADDRESSES.refusal("GET", "/app", "x" * (routes.LONGEST_QUERY + 1)) == 414


# --------------------------------------------------------------------------------------------------------------- policy


def test_an_operator_decides_by_the_environment() -> None:
    policy = Policy.read(
        {"MDFA_MAX_PAGES": "9", "MDFA_MAX_PAGES_PER_ADDRESS": "2", "MDFA_EMBED_IN": "https://a.example b.example:8000"}
    )
    assert (policy.caps.pages, policy.caps.pages_of_address) == (9, 2)
    assert policy.ancestors == ("https://a.example", "b.example:8000")
    assert Policy.read({}).caps == Caps()
    assert Policy.read({"MDFA_MAX_PAGES": "3"}).caps.pages_of_address == 3


@pytest.mark.parametrize("value", ["", "0", "-1", "1e3", "x", "٣", "9" * 99, "10001", "1.5"])
def test_a_number_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(MdfaError, match=r"MDFA_MAX_PAGES is .*: give a whole number from 1 to 10000"):
        Policy.read({"MDFA_MAX_PAGES": value})


@pytest.mark.parametrize(
    "origin", ["'none'", "https://a;script-src", "javascript:x", "a,b", "https://", 'a"', "ftp://a"]
)
def test_an_embedding_origin_cannot_change_the_policy(origin: str) -> None:
    with pytest.raises(MdfaError, match="the page cannot be embedded in"):
        Policy.read({"MDFA_EMBED_IN": origin})


# -------------------------------------------------------------------------------------------------------------- headers


def test_the_policy_names_no_source_but_the_server() -> None:
    sent = headers.security_headers(nonce="n", ancestors=("https://a.example",))
    policy = dict(part.split(" ", 1) for part in sent["Content-Security-Policy"].split("; "))
    assert policy.pop("frame-ancestors") == "'self' https://a.example"
    words = {word for sources in policy.values() for word in sources.split()}
    assert words == {"'none'", "'self'", "blob:", "data:", "'unsafe-eval'", "'unsafe-inline'", "'nonce-n'"}
    assert "'unsafe-inline'" not in policy["script-src"]
    assert policy["default-src"] == "'none'"
    assert "X-Frame-Options" not in sent
    assert headers.security_headers()["X-Frame-Options"] == "SAMEORIGIN"
    assert "script-src 'none'" in headers.security_headers()["Content-Security-Policy"]


def test_a_nonce_is_given_to_scripts_and_never_twice() -> None:
    page = headers.with_nonce('<script>1</script><script src="a"></script><scripted>&lt;script&gt;', "n")
    assert page == '<script nonce="n">1</script><script nonce="n" src="a"></script><scripted>&lt;script&gt;'
    assert len({headers.new_nonce() for _ in range(100)}) == 100


# ------------------------------------------------------------------------------------------------------------ admission


class House:
    """Pages that exist, as the server knows them."""

    def __init__(self, clock: Clock, **caps: int) -> None:
        self.pages: list[str] = []
        self.asked_for_room = 0
        self.admission = Admission(lambda: self.pages, self._make_room, Caps(**caps), clock)

    def _make_room(self) -> None:
        self.asked_for_room += 1

    def come(self, address: str) -> str:
        self.admission.enter(address)
        page = f"{address} {len(self.pages)} {id(object())}"
        self.pages.append(page)
        self.admission.made(address, page)
        return page

    def refused(self, address: str) -> Full:
        with pytest.raises(Full) as caught:
            self.admission.enter(address)
        return caught.value


def test_pages_are_capped_per_address_and_in_all(clock: Clock) -> None:
    house = House(clock, pages=5, pages_of_address=2)
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"):
        house.come(address)
    assert "Your network address already has 2 open pages" in house.refused("10.0.0.1").reason
    house.come("10.0.0.3")
    full = house.refused("10.0.0.4")
    assert full.reason == "All 5 pages that this server allows are open."
    assert house.asked_for_room


def test_a_page_whose_owner_is_not_known_takes_a_place_too(clock: Clock) -> None:
    house = House(clock, pages=2)
    house.pages += ["made", "otherwise"]
    assert "All 2 pages that this server allows" in house.refused("10.0.0.1").reason


def test_a_queue_is_served_in_its_order(clock: Clock) -> None:
    house = House(clock, pages=2, pages_of_address=2)
    for address in ("10.0.0.1", "10.0.0.2"):
        house.come(address)
    first, second = house.refused("10.0.0.3"), house.refused("10.0.0.4")
    assert (first.position, second.position) == (1, 2)
    ask = house.admission.ask
    assert (ask(first.ticket, "10.0.0.3"), ask(second.ticket, "10.0.0.4")) == (1, 2)
    house.pages.pop()
    assert ask(second.ticket, "10.0.0.4") == 2  # not past the one before
    assert house.refused("10.0.0.5").reason == "Other visitors are already waiting."  # nor is anybody new
    assert ask(first.ticket, "10.0.0.3") == 0
    assert ask(second.ticket, "10.0.0.4") == 1
    assert "All 2 pages" in house.refused("10.0.0.4").reason  # one is kept for the first
    house.come("10.0.0.3")
    assert ask(first.ticket, "10.0.0.3") is None
    house.pages.pop()
    assert ask(second.ticket, "10.0.0.4") == 0


def test_a_ticket_is_its_addresss_and_ends_unheard(clock: Clock) -> None:
    house = House(clock, pages=1)
    house.come("10.0.0.1")
    full = house.refused("10.0.0.2")
    assert house.admission.ask(full.ticket, "10.0.0.9") is None
    assert house.admission.ask("made up", "10.0.0.2") is None
    clock.now += TICKET_SECONDS - 1
    assert house.admission.ask(full.ticket, "10.0.0.2") == 1
    clock.now += TICKET_SECONDS + 1
    assert house.admission.ask(full.ticket, "10.0.0.2") is None


def test_a_called_place_is_not_kept_for_ever(clock: Clock) -> None:
    house = House(clock, pages=1)
    house.come("10.0.0.1")
    full = house.refused("10.0.0.2")
    house.pages.clear()
    assert house.admission.ask(full.ticket, "10.0.0.2") == 0
    clock.now += CALL_SECONDS / 2
    assert house.admission.ask(full.ticket, "10.0.0.2") == 0
    next_ = house.refused("10.0.0.3").ticket
    clock.now += CALL_SECONDS / 2 + 1  # asking again does not keep it
    assert house.admission.ask(next_, "10.0.0.3") == 0
    assert house.admission.ask(full.ticket, "10.0.0.2") is None


def test_an_address_that_is_full_does_not_hold_up_others(clock: Clock) -> None:
    house = House(clock, pages=3, pages_of_address=1)
    house.come("10.0.0.1")
    own = house.refused("10.0.0.1")
    house.come("10.0.0.2")
    assert house.admission.ask(own.ticket, "10.0.0.1") == 1


def test_the_queue_has_an_end(clock: Clock) -> None:
    house = House(clock, pages=1, tickets=5, tickets_of_address=3)
    house.come("10.0.0.1")
    assert all(house.refused("10.0.0.2").ticket for _ in range(3))
    assert not house.refused("10.0.0.2").ticket
    assert all(house.refused("10.0.0.3").ticket for _ in range(2))
    assert not house.refused("10.0.0.4").ticket


def test_one_page_is_made_at_a_time(clock: Clock) -> None:
    house = House(clock)
    for number in range(MAKING):
        house.admission.enter(f"10.0.0.{number}")
    assert house.refused("10.0.0.9").reason == "Other pages are being made."
    house.admission.failed("10.0.0.0")
    assert house.admission.ask(house.refused("10.0.0.8").ticket, "10.0.0.8") is not None


def test_pages_that_are_opened_and_left_are_slowed_down(clock: Clock) -> None:
    house = House(clock, pages=5, pages_of_address=3)
    for _ in range(3):
        house.come("10.0.0.1")
        house.pages.clear()
    assert "within a short time" in house.refused("10.0.0.1").reason
    house.come("10.0.0.2")
    clock.now += TICKET_SECONDS + NEW_PAGE_SECONDS
    house.come("10.0.0.1")


def test_websockets_are_capped_per_page_per_address_and_in_all(clock: Clock) -> None:
    admission = House(clock, pages=3, pages_of_address=2, sockets_of_page=3).admission
    for _ in range(3):
        assert not admission.socket_refusal("10.0.0.1", "a")
        admission.socket_opened("10.0.0.1", "a")
    assert admission.socket_refusal("10.0.0.1", "a") == "3 websockets are open to this page"
    admission.socket_opened("10.0.0.1", "b")
    assert admission.socket_refusal("10.0.0.1", "c") == "4 websockets are open from this address"
    for page in "de":
        admission.socket_opened("10.0.0.2", page)
    assert admission.socket_refusal("10.0.0.3", "f") == "6 websockets are open"
    admission.socket_closed("10.0.0.1", "a")
    assert not admission.socket_refusal("10.0.0.1", "a")


def test_an_ipv6_host_counts_once() -> None:
    assert party("2001:db8::1") == party("2001:db8::ffff:2") != party("2001:db8:0:1::1")
    assert party("::ffff:10.0.0.1") == party("10.0.0.1") == "10.0.0.1"
    assert party("::1") == "::1"
    assert party("a unix socket") == "a unix socket"


# --------------------------------------------------------------------------------------------------------------- bounds


def message(meter: bounds.MessageMeter, *fragments: str | bytes) -> None:
    for fragment in fragments:
        meter.take(fragment)


HEADER = '{"msgid":"1","msgtype":"PATCH-DOC"}'


def test_messages_of_a_page_pass_one_after_another() -> None:
    meter = bounds.MessageMeter()
    for _ in range(1000):
        message(meter, HEADER, "{}", '{"events":[]}' + " " * 100_000)
        message(meter, '{"num_buffers":2}', "{}", "{}", "{}", b"1" * 1000, "{}", b"1")


@pytest.mark.parametrize(
    "fragments",
    [
        ('{"num_buffers":1000000000}',), ('{"num_buffers":9}',), ('{"num_buffers":-1}',), ('{"num_buffers":1.5}',),
        ('{"num_buffers":true}',), ('{"num_buffers":"2"}',), ('{"num_buffers":null}',), ("[]",), ("null",), ("{",),
        ("[" * 1000,), (b"\xff\xfe",), ("x" * 1025,), (HEADER, "x" * 1025), (HEADER, "{}", "x" * bounds.MESSAGE_BYTES),
        (HEADER, "{}", "é" * (bounds.MESSAGE_BYTES // 2)),
        ('{"num_buffers":8}', "{}", "{}", *["x" * 40_000] * 7),
    ],
    ids=lambda fragments: str(fragments)[:24],
)  # fmt: skip
def test_fragments_out_of_bounds_are_refused_as_they_come(fragments: tuple[str | bytes, ...]) -> None:
    meter = bounds.MessageMeter()
    message(meter, *fragments[:-1])
    with pytest.raises(bounds.Unacceptable):
        meter.take(fragments[-1])


def patch(*events: object) -> dict[str, object]:
    return {"events": list(events)}


def changed(value: object, model: str = "p1") -> dict[str, object]:
    return {"kind": "ModelChanged", "model": {"id": model}, "attr": "value", "new": value}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("PUSH-DOC", {}), ("ACK", {}), ("PATCH-DOC", 5), ("PATCH-DOC", {}), ("PATCH-DOC", {"events": 5}),
        ("PATCH-DOC", patch(5)), ("PATCH-DOC", patch({"kind": "RootAdded"})), ("PATCH-DOC", patch({"kind": ["x"]})),
        ("PATCH-DOC", patch({"kind": "ColumnsStreamed"})), ("PATCH-DOC", patch(*[{"kind": "MessageSent"}] * 1001)),
        ("PATCH-DOC", patch(changed(1), {"kind": "TitleChanged"})),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_page_says_is_refused(kind: str, content: object) -> None:
    with pytest.raises(bounds.Unacceptable):
        bounds.check_message(kind, content, bounds.SetValues())


def test_what_browsers_set_in_a_page_is_bounded_in_all() -> None:
    values = bounds.SetValues()
    for _ in range(100):  # the same one again and again takes no more
        bounds.check_message("PATCH-DOC", patch(changed("x" * 50_000)), values)
    for number in range(4):
        bounds.check_message("PATCH-DOC", patch(changed(["x" * 50_000], f"q{number}")), values)
    with pytest.raises(bounds.Unacceptable, match="values of more than 262144 bytes in one page"):
        bounds.check_message("PATCH-DOC", patch(changed("x" * 50_000, "r")), values)
    bounds.check_message("PATCH-DOC", patch(changed("", "q1")), values)
    bounds.check_message("PATCH-DOC", patch(changed("x" * 40_000, "r")), values)


def test_a_connection_gets_its_share_of_the_servers_time(clock: Clock) -> None:
    share = bounds.FairShare(clock)
    assert share.spend(bounds.CREDIT_SECONDS - 0.1) == 0
    wait = share.spend(1.1)
    assert wait == pytest.approx(1 / bounds.SHARE)
    clock.now += wait
    assert share.spend(0.0) == pytest.approx(bounds.FRAGMENT_SECONDS / bounds.SHARE)
    clock.now += 1e6
    assert share.spend(bounds.CREDIT_SECONDS) == 0
    clock.now += 1e6
    waits = [share.spend(0.0) for _ in range(10_000)]
    assert waits[4000] == 0
    assert waits[-1] > 10


class Stream:
    def __init__(self) -> None:
        self.open = True

    def closed(self) -> bool:
        return not self.open

    def close(self) -> None:
        self.open = False


def test_a_connection_that_is_late_with_its_head_makes_room(clock: Clock) -> None:
    connections = bounds.Connections(4, 3, clock)
    streams: list[Any] = [Stream() for _ in range(8)]
    for stream in streams[:3]:
        clock.now += 1
        assert connections.admit(stream, "a")
    connections.request_received(streams[0])
    assert connections.admit(streams[3], "a")  # over the address's number: the oldest that waits goes
    assert [stream.open for stream in streams[:4]] == [True, False, True, True]
    assert connections.admit(streams[4], "b")
    assert connections.admit(streams[5], "c")
    assert [stream.open for stream in streams[:6]] == [True, False, False, True, True, True]
    for stream in streams[3:6]:
        connections.becomes_socket(stream)
    assert not connections.admit(streams[6], "d")  # nobody waits, and answers have time
    clock.now += bounds.ANSWER_SECONDS + 1
    assert connections.admit(streams[6], "d")
    assert not streams[0].open
    streams[6].close()
    assert connections.admit(streams[7], "e")
    assert len(connections) == 4


# ------------------------------------------------------------------------------------------------------------------ log


def test_a_flood_of_refusals_takes_a_few_lines(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    refusals = RefusalLog(clock)
    for _ in range(1000):
        refusals.note("a message", "10.0.0.1", "x\n\x1b[2J" + "y" * 10_000)
    assert len(caplog.records) == LINES
    assert all(len(line) < 300 and "\x1b" not in line for line in caplog.text.splitlines())
    assert len(caplog.text.splitlines()) == LINES
    clock.now += WINDOW_SECONDS + 1
    refusals.note("a message", "10.0.0.1")
    assert f"refused a message {1000 - LINES} more times" in caplog.text
    assert refusals.total == {"a message": 1001}


def test_a_browser_that_does_not_take_its_shell_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SHELL_SECONDS", 0.01)
    written: list[str] = []

    async def begin() -> None:
        never = asyncio.get_running_loop().create_future()
        handler = Namespace(write=written.append, flush=lambda: never, request=Namespace(query=""))
        await asyncio.wait_for(guard.GuardedDoc._begin(cast(Any, handler)), 60)

    asyncio.run(begin())
    assert written == [shell(recorded=True)]


def test_a_message_from_a_browser_that_has_closed_is_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    """A ping that cannot be sent has Bokeh take the page from the connection, while messages are still to be read."""
    log_shortly()

    async def send_late() -> None:
        options = patterns_of_panel() | {"extra_websocket_origins": ["127.0.0.1"]}
        application = GuardedTornado({"/app": Application()}, **options)
        application.initialize(IOLoop.current())
        server = HTTPServer(application)
        (port_socket,) = bind_sockets(0, "127.0.0.1")
        server.add_sockets([port_socket])
        port = port_socket.getsockname()[1]
        key: dict[str, Any] = {"secret_key": application.secret_key, "signed": True}
        token = generate_jwt_token(generate_session_id(**key), **key)
        request = HTTPRequest(f"ws://127.0.0.1:{port}/app/ws", headers={"Origin": "http://127.0.0.1"})
        browser = await websocket_connect(request, subprotocols=["bokeh", token])
        for _ in range(3):  # the server's first message has three parts
            await browser.read_message()
        (connection,) = application._clients
        for turn in range(2):
            for part in ({"msgid": str(turn), "msgtype": "PULL-DOC-REQ"}, {}, {}):
                await browser.write_message(json.dumps(part))
            if turn == 0:
                assert json.loads(str(await browser.read_message()))["reqid"] == "0"
                application.client_lost(connection)
                browser.ping()
        browser.close()
        while await browser.read_message() is not None:
            pass
        server.stop()
        await server.close_all_connections()

    asyncio.run(send_late())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_a_page_says_is_far_within_the_bounds() -> None:
    """The longest text a control takes, and sizes of all charts at once."""
    sizes = [changed(1234.5, f"p{number}") | {"attr": attr} for number in range(40)
             for attr in ("inner_width", "inner_height", "outer_width", "outer_height")]  # fmt: skip
    values = bounds.SetValues()
    content = patch(*sizes, changed("fc:" + "100," * 60))
    assert len(json.dumps(content)) < bounds.MESSAGE_BYTES / 10
    bounds.check_message("PATCH-DOC", content, values)

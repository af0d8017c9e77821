"""Whether a page's visitor is present: a lost connection can come back to its run, a closed tab frees its slot.

Bokeh reconnects by itself, but (1) only with the token of the page's first minute, which the server refuses after five
minutes, and (2) only while the server keeps the session, by default some 15 seconds. So a page renews its browser's
token, and keeps its session for `KEPT_SECONDS` unless the browser reports that it leaves. Closed tabs often do not
report that, so at most `KEPT_PAGES` are kept; the page that waits longest goes first.

A server that was restarted has no sessions. The browser asks for `SERVER` while the connection is lost: if the answer
is another one, the runs are gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import param
from bokeh.document import Document
from bokeh.server.session import ServerSession
from bokeh.settings import settings
from bokeh.util.token import generate_jwt_token, get_token_payload

from mdfa_app.charts.live import Component

LOOK_SECONDS = 2.0
AWAY_SECONDS = 20.0
"""Seconds without a connection until training rests and its slot is free for others."""
KEPT_SECONDS = 300.0
"""Seconds without a connection until the session ends, and its run with it."""
KEPT_PAGES = 8
"""The number of pages kept for absent visitors; each takes about 13 MB of memory."""
SERVER = secrets.token_hex(8)
"""Names this process; the server answers it at `routes.QUEUE`."""
_RENEWED_LOOKS = 30

_waiting: list[Presence] = []  # pages of absent visitors, the one that waits longest first


def give_up_longest_away() -> ServerSession | None:
    """Keep the page whose visitor has been away for longest no longer; returns its session, if there is one."""
    while _waiting:
        presence = _waiting[0]
        session = presence._session
        presence._let_go()
        if session is not None:
            return session
    return None


class Presence(Component):
    """Watches a session. Its browser half says if the server is lost or silent, reconnects, and reports a closed tab.

    Args:
        document: of the session; None watches nothing.
        on_away: called when the visitor has gone, for a while or for good.
        on_back: called when an absent visitor is back.
    """

    token = param.String(doc="The token with which the browser reconnects.")
    beat = param.Integer(default=0, doc="Changes while a browser is connected, so that it hears from the server.")
    kept = param.Number(default=KEPT_SECONDS, doc="Seconds within which it can reconnect.")
    server = param.String(doc="`SERVER` of the process that has the session.")
    page = param.String(doc="Names this page: another one under the same session is a new page.")

    _esm = """
const WAIT = 3000;  // between two attempts, once Bokeh's own, ever rarer ones have come to an end
const SILENCE = 5;  // seconds; the server says something every two

// A connection that is back pulls the document again. Bokeh then forgets the arrays that come beside it, cannot read it
// without them, and sends all of it back to the server, part by part.
function pullWell(page, connection) {
  const { _pull_doc_json } = Object.getPrototypeOf(connection), { add_root } = Object.getPrototypeOf(page);
  page.add_root = (root) => add_root.call(page, root, { sync: false });
  connection._pull_doc_json = async () => {
    const pulled = await _pull_doc_json.call(connection);
    page.replace_with_json = (json) => {
      page.constructor.from_json(json, undefined, pulled.buffers).destructively_move(page);
      forgetNews(page);
    };
    return pulled;
  };
}

// Bokeh holds what the server sends later for news to the server, and sends it back whole with the first event that
// names it. Models of the server's have ids like p1234.
function forgetNews(page) {
  for (const model of page._new_models) if (/^p\\d+$/.test(model.id)) page._new_models.delete(model);
}

export function render({ model, view }) {
  const page = view.model.document;  // stays the same when a reconnection draws everything anew
  const say = (text, over = false) => {
    const note = document.getElementById("connection");
    if (!note) return;
    note.textContent = text;
    note.hidden = !text;
    if (!over) return;
    const reload = document.createElement("button");
    Object.assign(reload, { type: "button", className: "plain", textContent: "Reload" });
    reload.addEventListener("click", () => location.reload());
    note.append(" ", reload);
  };
  const end = (text) => {
    if (page.presence.gone) return;
    page.presence.gone = true;
    say(text, true);
  };
  const RESTARTED = "The server was restarted, so your runs are gone. Reload the page to start again.";
  if (!page.presence) {
    const presence = page.presence = { since: null, gone: false, silent: false, heard: Date.now() };
    const hear = () => {
      presence.heard = Date.now();
      if (presence.silent) { presence.silent = false; say(""); }
    };
    const apply = page.apply_json_patch;
    page.apply_json_patch = (...patch) => { hear(); apply.apply(page, patch); forgetNews(page); };
    // The address that answers visitors who wait also names the server's process.
    const ask = async () => {
      const address = `${location.pathname.replace(/\\/$/, "")}/queue?ticket=`;
      try {
        const answer = await fetch(address, { cache: "no-store" });
        const { server } = answer.ok ? await answer.json() : {};
        if (server && server !== presence.model.server) end(RESTARTED);
      } catch { /* the server or the network is away */ }
      if (presence.since !== null && !presence.gone) setTimeout(ask, WAIT);
    };
    // A network that fails does not end a connection: for minutes, the page would look as if all went well.
    setInterval(() => {
      const seconds = Math.floor((Date.now() - presence.heard) / 1000);
      if (presence.since !== null || presence.gone || seconds < SILENCE) return;
      presence.silent = true;
      const shown = seconds - seconds % SILENCE;
      say(`No answer from the server for ${shown} s. What you see is as old; buttons wait for the answer.`);
    }, 1000);
    page.on_event("connection_lost", (_, event) => {
      if (presence.gone) return;
      presence.silent = false;
      if (presence.since === null) {
        presence.since = Date.now();
        setTimeout(ask, WAIT / 3);
      }
      if (Date.now() - presence.since > 1000 * presence.model.kept) {
        end("The connection was lost for too long, so the server has ended the runs. Reload the page to start again.");
        return;
      }
      say("The connection to the server is lost: trying again. Your runs wait there; buttons have no effect now.");
      const connection = event.connection.deref();
      if (connection) {
        connection.token = presence.model.token || connection.token;
        // What was cut off in the middle of a message would be taken for the beginning of the next one.
        connection._receiver = new connection._receiver.constructor();
        pullWell(page, connection);
      }
      if (event.timeout == null) setTimeout(() => event.reconnect(), WAIT);
    });
    page.on_event("client_reconnected", () => {
      presence.since = null;
      hear();
      if (!presence.gone) say("");
    });
    window.addEventListener("pagehide", () => presence.model.send_msg("left"));
    // A browser may show a page again that a visitor had left; its session is over by then.
    window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  }
  // A server with the same key as before makes a new page for the old token.
  if (page.presence.model && page.presence.model.page !== model.page) end(RESTARTED);
  page.presence.model = model;
  const span = document.createElement("span");
  span.hidden = true;
  return span;
}
"""

    def __init__(
        self, document: Document | None, *, on_away: Callable[[], None], on_back: Callable[[], None], **more: Any
    ) -> None:
        super().__init__(width=0, height=0, margin=0, server=SERVER, page=secrets.token_hex(8), **more)
        self._document, self._on_away, self._on_back = document, on_away, on_back
        self._held = False  # whether the session is kept from ending
        self._away = self._left = False
        self._connected = 0  # looks in a row that found a connection
        if document is not None and document.session_context is not None:
            document.add_periodic_callback(self.look, round(1000 * LOOK_SECONDS))

    def look(self) -> None:
        """Check whether a browser is connected, and act on it."""
        session = self._session
        if session is None:
            return
        self._connected = self._connected + 1 if session.connection_count else 0
        if self._connected:
            self._welcome(session)
        elif self._held:  # until its first connection, Bokeh keeps the session
            alone = session.milliseconds_since_last_unsubscribe / 1000
            if alone > AWAY_SECONDS or self._left:
                self._leave()
            if alone > KEPT_SECONDS or self._left:
                self._let_go()

    @property
    def _session(self) -> ServerSession | None:
        context = None if self._document is None else self._document.session_context
        session: ServerSession | None = getattr(context, "session", None)
        return session

    def _welcome(self, session: ServerSession) -> None:
        if not self._held:
            self._held = True
            session.block_expiration()
        if self._connected < 2:  # a browser that has just received the page may miss messages
            return
        self.beat = self._connected % 2
        if self._away:
            self._away = self._left = False
            if self in _waiting:
                _waiting.remove(self)
            self._on_back()
        if (self._connected - 2) % _RENEWED_LOOKS == 0:
            self.token = _renewed(session)

    def _leave(self) -> None:
        if not self._away:
            self._away = True
            _waiting.append(self)
            self._on_away()
            if len(_waiting) > KEPT_PAGES:
                _waiting[0]._let_go()

    def _let_go(self) -> None:
        """Leave the session to Bokeh, which ends it soon unless a browser connects."""
        if self in _waiting:
            _waiting.remove(self)
        if self._held and self._session is not None:
            self._held = False
            self._session.unblock_expiration()

    def _handle_msg(self, data: Any) -> None:
        if data == "left":
            self._left = True
            self._leave()


def _renewed(session: ServerSession) -> str:
    """A token for the same session, valid as long as the session would be kept from now on."""
    payload = get_token_payload(session.token)
    payload.pop("session_expiry", None)
    return generate_jwt_token(
        session.id,
        secret_key=settings.secret_key_bytes(),
        signed=settings.sign_sessions(),
        extra_payload=payload,
        expiration=round(KEPT_SECONDS + _RENEWED_LOOKS * LOOK_SECONDS),
    )

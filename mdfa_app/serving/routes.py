"""Which addresses the server answers: an allow-list over every route that Panel and Bokeh open.

`ROUTES` names each of them and says whether the page needs it. A route that is not in the table, as after an upgrade or
with an option of `panel serve`, is not served. Of the static files only `RESOURCES` are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from bokeh.resources import Component

LONGEST_QUERY = 8192
"""Characters of a link's query: the longest that the page makes has some 1,000."""
QUEUE = "/queue"
"""After the page's path: where the browser of a visitor who waits, or has lost the connection, asks."""


@dataclass(frozen=True)
class Route:
    """A route that Panel or Bokeh opens.

    Attributes:
        pattern: as it stands in Tornado's table, with {app} for the page's path and without prefix.
        handler: module and name of its handler.
        served: whether it stays.
        reason: what the page needs it for, or what it would do.
    """

    pattern: str
    handler: str
    served: bool
    reason: str


ROUTES = (
    Route("/favicon.ico", "bokeh.server.views.ico_handler.IcoHandler", True, "icon of the tab"),
    Route("{app}/?", "panel.io.server.DocHandler", True, "the page"),
    Route("{app}/ws", "panel.io.server.WSHandler", True, "the page's websocket"),
    Route(
        "{app}/metadata",
        "bokeh.server.views.metadata_handler.MetadataHandler",
        False,
        "makes a page for an answer of a few bytes",
    ),
    Route(
        "{app}/autoload.js",
        "panel.io.server.AutoloadJsHandler",
        False,
        "makes a page for other sites' scripts, with their choice of addresses in it; frames need no script",
    ),
    Route("{app}/static/(.*)", "bokeh.server.views.static_handler.StaticHandler", False, "the files of /static again"),
    Route("/?", "panel.io.server.RootHandler", True, "sends a visitor of / to the page"),
    Route(
        "/static/extensions/(.*)",
        "bokeh.server.views.multi_root_static_handler.MultiRootStaticHandler",
        True,
        "Panel's scripts and style sheets, as far as RESOURCES has them",
    ),
    Route(
        "/static/(.*)",
        "bokeh.server.views.static_handler.StaticHandler",
        True,
        "Bokeh's scripts, as far as RESOURCES has them",
    ),
    Route("/liveness", "panel.io.liveness.LivenessHandler", True, "answers that the server is up (and no more)"),
    Route(
        "/components/(.*)", "panel.io.server.ComponentResourceHandler", False, "imports any module that the path names"
    ),
)

COMPONENTS: tuple[Component, ...] = ("bokeh", "bokeh-widgets", "bokeh-tables")
"""The scripts of Bokeh's that the page needs; Panel's script does not run without the tables."""
_VERSION = r"@\^?[0-9]+(\.[0-9]+)*"
RESOURCES = (
    rf"js/({'|'.join(COMPONENTS)})\.min\.js",
    r"extensions/panel/panel\.min\.js",
    r"extensions/panel/css/[a-z_]+\.css",
    r"extensions/panel/bundled/theme/[a-z_]+\.css",
    rf"extensions/panel/bundled/reactiveesm/es-module-shims{_VERSION}/dist/es-module-shims\.min\.js",
    r"extensions/panel/images/(apple-touch-icon|favicon)[a-z0-9-]*\.(png|ico|svg)",
)
"""The static files that the page loads, as patterns of their paths below /static/."""
_RESOURCES = re.compile("|".join(f"(?:{pattern})" for pattern in RESOURCES))

CHOSEN = ("bokeh-session-id", "bokeh-token")
"""Parameters with which a visitor would choose a session. It is the server that does."""
CHOSEN_HEADER = "Bokeh-Session-Id"


def find_route(pattern: str, handler: type, apps: tuple[str, ...], prefix: str) -> Route | None:
    """The entry of the table for a route as Tornado has it, or None if nobody has decided on it."""
    name = f"{handler.__module__}.{handler.__qualname__}"
    bare = pattern.removesuffix("$")
    for route in ROUTES:
        for app in apps:
            known = route.pattern.replace("{app}", app)
            if route.handler == name and bare in (known, prefix + known):
                return route
    return None


@dataclass(frozen=True)
class Addresses:
    """The paths that are answered.

    Args:
        apps: paths of the pages, as /app.
        prefix: before them all.
        liveness: path of the answer that the server is up, if there is one.
    """

    apps: tuple[str, ...]
    prefix: str = ""
    liveness: str = ""

    def refusal(self, method: str, path: str, query: str) -> int | None:
        """The status with which a request is refused, or None: nothing of it reaches Panel otherwise.

        Args:
            method: of the request.
            path: as it was sent, with its escapes.
            query: as it was sent.
        """
        if not self.knows(path):
            return 404
        if method not in ("GET", "HEAD"):
            return 405
        return 414 if len(query) > LONGEST_QUERY else None

    def knows(self, path: str) -> bool:
        """Whether anything is at this path."""
        if path == "/favicon.ico":
            return True
        if not path.startswith(self.prefix):
            return False
        below = path[len(self.prefix) :]
        bare = [app.rstrip("/") for app in self.apps]
        pages = [page for app in bare for page in (app, app + "/", app + "/ws", app + QUEUE)]
        if below in ("", "/", *pages) or (self.liveness and below == self.liveness):
            return True
        start = "/static/"
        return below.startswith(start) and _RESOURCES.fullmatch(unquote(below[len(start) :])) is not None

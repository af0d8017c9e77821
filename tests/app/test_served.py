"""`panel serve app/`, as a user starts it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import requests

from mdfa_app.charts.style import asset
from mdfa_app.serving import routes
from mdfa_app.serving.headers import with_nonce
from mdfa_app.serving.shell import FAILED, shell
from mdfa_app.stage import first
from tests.app.servers import Client, Server, served
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Whatever visitors do, the app's own code does not fail."""
    with served(tmp_path_factory.mktemp("served") / "log") as server:
        yield server
        # Tornado may log that a browser left in the middle of a message.
        assert not re.search(r'File ".*(/app/\w+|/mdfa_core/.*)\.py"|Error running', server.log()), server.log()


@pytest.fixture
def address(server: Server) -> str:
    return server.address


def test_the_page_explains_itself_and_names_no_other_server(address: str) -> None:
    answer = requests.get(address, timeout=PATIENCE)
    assert answer.status_code == 200
    assert "<title>Learning without backpropagation</title>" in answer.text
    assert "Mathias Lechner" in answer.text
    loaded = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']([^"']+)""", answer.text)
    assert loaded
    assert not [target for target in loaded if re.match(r"(https?:)?//", target)]
    for target in loaded:
        if target.endswith((".js", ".css")) or ".js?" in target:
            assert requests.get(requests.compat.urljoin(address, target), timeout=PATIENCE).status_code == 200  # type: ignore[attr-defined]


def test_every_file_that_the_page_names_is_on_the_guards_list(server: Server) -> None:
    """A component of Panel's that is new in the page may have files of its own: add them to `routes.RESOURCES`."""
    addresses = routes.Addresses(("/app",))

    async def parts() -> str:
        client = await Client.come(server)
        text = json.dumps(client.models)
        await client.close()
        return text

    named = set(re.findall(r'(static/[^"?]+\.(?:js|css|png))', asyncio.run(parts())))
    assert any("css" in file for file in named)
    named |= set(re.findall(r'(?:src|href)="(static/[^"?]+)', requests.get(server.address, timeout=PATIENCE).text))
    assert [file for file in named if not addresses.knows("/" + file)] == []
    scripts = {file.rpartition("/")[2] for file in named if file.endswith(".js")}
    expected = {f"{component}.min.js" for component in routes.COMPONENTS}
    assert scripts == expected | {"panel.min.js", "es-module-shims.min.js"}, (
        "a script that the page does not need is slow"
    )
    for file in named:
        answer = requests.get(f"http://127.0.0.1:{server.port}/{file}", timeout=PATIENCE)
        assert answer.status_code == 200, file


RECORDED = json.loads(asset(first.RECORDING))


def test_the_shell_comes_before_the_rest_and_a_recorded_run_only_where_the_address_asks_for_nothing(
    address: str,
) -> None:
    for query, recorded in (("", True), ("?outputs=2", False), ("?speed=normal", False), ("?embed=1", False)):
        answer = requests.get(address + query, timeout=PATIENCE, stream=True)
        begin, *rest = (chunk.decode() for chunk in answer.raw.read_chunked())
        assert begin == same_nonce(shell(recorded=recorded), begin)
        assert ('id="first"' in begin) == recorded
        assert "Bokeh.embed" in "".join(rest)
        assert "<html" not in "".join(rest)


def same_nonce(expected: str, found: str) -> str:
    """The expected page with the nonce of the one that was found."""
    nonce = re.search(r'nonce="([^"]+)"', found)
    assert nonce is not None
    return with_nonce(expected, nonce[1])


@pytest.mark.slow
def test_a_page_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    broken = "import mdfa_app.serving.server as server\ndef build(): raise ValueError('no')\nserver.build = build"
    with served(tmp_path / "log", first=broken) as server:
        answer = requests.get(server.address, timeout=PATIENCE)
        assert answer.text.count("<html") == 1
        assert answer.text.endswith(FAILED)


TIMERS = """
window.timers = new Map();
const { setInterval, clearInterval } = window;
window.setInterval = (call, delay, ...more) => {
  const made = setInterval(call, delay, ...more);
  timers.set(made, delay);
  return made;
};
window.clearInterval = (made) => { timers.delete(made); clearInterval(made); };
window.seen = {};
const look = () => {
  const recorded = document.querySelector("#first-nets dd.signs");
  if (/[0-9]/.test(recorded?.textContent ?? "")) {
    seen.recorded ??= document.querySelector(".nets").getBoundingClientRect().top;
    seen.live ||= Boolean(window.Bokeh?.documents?.length) && !document.getElementById("first");
  }
  requestAnimationFrame(look);
};
look();
"""


@pytest.mark.browser
def test_a_recorded_run_is_seen_until_the_live_networks_are_drawn(address: str, page: Page) -> None:
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
    page.add_init_script(TIMERS)
    page.goto(address)
    page.locator("#first").wait_for(state="detached")
    page.locator(".chip", has_text="Running").wait_for()
    seen, rest = page.evaluate("[seen, [...timers.values()]]")
    assert not seen["live"], "the recorded run was shown beside the live one"
    assert RECORDED["milliseconds"] not in rest
    networks = page.get_by_role("region", name="Networks")
    networks.locator(".row").nth(2).wait_for()
    assert networks.locator(".row").count() == 3
    place = networks.bounding_box()
    assert place is not None
    assert abs(place["y"] - seen["recorded"]) < 1, "the networks have moved"
    assert said == []


PAUSE = """
const press = () => {
  const button = document.getElementById("first-pause");
  if (button && !button.hidden) button.click();
  else requestAnimationFrame(press);
};
press();
"""
"""A visitor who pauses the recorded run at once."""


@pytest.mark.browser
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_recorded_run_can_be_paused_and_stands_still_for_who_wants_that(
    server: Server, browser: Browser, motion: Literal["no-preference", "reduce"]
) -> None:
    context = browser.new_context(reduced_motion=motion, color_scheme="dark", viewport={"width": 390, "height": 844})
    context.set_default_timeout(1000 * PATIENCE)
    try:
        page = context.new_page()
        page.add_init_script(PAUSE)
        page.goto(server.address.replace("127.0.0.1", "localhost"))  # the live networks do not come
        accuracy = page.locator("#first-nets dd").nth(2)
        accuracy.filter(has_text="%").wait_for()
        page.get_by_text("A recorded run. The live networks are loading …").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        pause = page.locator("#first-pause")
        if motion == "reduce":
            assert not pause.is_visible()
            return
        pause.filter(has_text="Play").wait_for()
        assert page.evaluate("document.documentElement.dataset.motion") == "off"
        before = accuracy.inner_text()
        pause.click()
        assert page.evaluate("document.documentElement.dataset.motion") == "on"
        pause.wait_for(state="hidden")  # at the end
        page.wait_for_function(
            "(before) => document.querySelectorAll('#first-nets dd')[2].innerText !== before", arg=before
        )
    finally:
        context.close()


@pytest.mark.browser
def test_the_served_page_learns_by_itself(address: str, page: Page) -> None:
    page.goto(address)
    page.get_by_text("100 % of the unit error signals have the true sign.").wait_for()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("key", ["", "0123456789abcdef0123456789abcdef"])  # with one, old tokens stay valid
def test_who_is_there_when_the_server_restarts_is_told_that_the_runs_are_gone(
    tmp_path: Path, page: Page, key: str
) -> None:
    environment = {"BOKEH_SECRET_KEY": key} if key else {}
    with served(tmp_path / "first", **environment) as server:
        page.goto(f"{server.address}?rules=mdfa&epochs=2000")
        page.locator(".chip", has_text="Ready").wait_for()
        page.get_by_role("button", name="▶ Start").click()
        page.locator(".chip", has_text="Running").wait_for()
    page.get_by_text("The connection to the server is lost: trying again. Your runs wait there").wait_for()
    with served(tmp_path / "second", port=server.port, **environment):
        page.get_by_text("The server was restarted, so your runs are gone.").wait_for()
        page.get_by_role("button", name="Reload", exact=True).click()
        page.locator(".chip", has_text="Ready").wait_for()
        page.locator("#connection").wait_for(state="hidden")


@pytest.mark.browser
def test_a_page_under_a_name_that_the_server_was_not_told_says_so(server: Server, page: Page) -> None:
    page.goto(server.address.replace("127.0.0.1", "localhost"))
    note = f"No connection to the server yet. If it does not come: is localhost:{server.port} the name that the server"
    page.get_by_role("alert").filter(has_text=note).wait_for()


POINTS = """() => Bokeh.documents[0].get_model_by_name("Error signals with the right sign").renderers
  .map((line) => line.data_source.data).filter((data) => data.x && !data.x0).map((data) => [...data.x])
  .filter((x) => x[0] !== -1e9)
  .reduce((a, b) => a.length > b.length ? a : b)"""
"""Where the longest line of the chart has its points, in epochs.

The names at the lines' ends have columns `x0` too, and the crosshair's lines begin far outside.
"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("query", ["tab=weights", "tab=plane&data=moons"])  # these tabs have arrays in their charts
def test_a_connection_that_is_cut_comes_back_to_its_run(server: Server, page: Page, query: str) -> None:
    page.goto(f"{server.unsteady}?rules=mdfa&epochs=2000&speed=normal&{query}")
    page.locator(".chip", has_text="Ready").wait_for()
    page.evaluate("window.sameLoad = true")
    page.get_by_role("button", name="▶ Start").click()
    page.get_by_text("100 % of the unit error signals have the true sign.").wait_for()
    note = page.get_by_role("alert").filter(has_text="The connection to the server is lost: trying again.")
    assert note.count() == 0
    server.proxy.cut()
    note.wait_for()
    assert note.inner_text().endswith("Your runs wait there; buttons have no effect now.")
    page.wait_for_timeout(500)  # until the last message is drawn
    before = page.evaluate(POINTS)
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(3000)
    assert page.evaluate(POINTS) == before, "the door is not shut"
    server.proxy.mend()
    note.wait_for(state="hidden")
    back = page.evaluate(POINTS)
    assert back[: len(before)] == before
    assert len(back) >= len(before) + 5, "what was measured meanwhile is missing"
    page.wait_for_function("([points, count]) => eval(points)().length > count + 5", arg=[POINTS, len(back)])
    assert page.evaluate("window.sameLoad"), "the page was loaded anew"
    page.locator(".chip", has_text="Running").wait_for()
    page.get_by_role("button", name="Pause").click()
    page.locator(".chip", has_text="Paused").wait_for()
    assert "reference already known" not in server.log(), "the browser sent back what it had got"

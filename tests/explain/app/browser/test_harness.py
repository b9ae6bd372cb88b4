"""The harness itself, over an app of two pages: what it waits for, and that it finds what is planted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState

from tests.support.browser.serving_tiny import tiny_app
from tests.support.browser.viewer import Theme, Viewer, viewing

pytestmark = pytest.mark.browser

_SOCKET = """(() => {
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) { window.__socket = this; return send.call(this, data); };
})()"""
"""Keeps what the page asks the app through."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tiny_app(tmp_path_factory.mktemp("tiny")) as found:
        yield found


@pytest.fixture
def viewer(browser: Browser, address: str) -> Iterator[Viewer]:
    with viewing(browser, address) as found:
        yield found


def test_a_page_without_faults_has_none(viewer: Viewer) -> None:
    viewer.open()
    seen = viewer.see()
    assert (seen.exceptions, seen.errors, seen.wide, seen.cut, seen.clipped) == ((), (), (), (), ())
    assert viewer.barriers() == []
    assert viewer.complaints == []


def test_what_is_planted_is_found(viewer: Viewer) -> None:
    viewer.open("bad")
    seen = viewer.see()
    assert "what nobody foresaw" in seen.exceptions[0]
    assert seen.errors == ("It was not found.",)
    assert seen.wide
    rules = {line.split()[0] for line in viewer.barriers()}
    assert {"image-alt", "color-contrast"} <= rules


def test_after_an_act_the_page_shows_what_came_of_it(viewer: Viewer) -> None:
    viewer.open()
    viewer.act(lambda: viewer.page.get_by_text("Slowly").click())
    slider = viewer.page.get_by_role("slider", name="Rows")
    slider.focus()
    for rows in (11, 12, 13):
        viewer.act(lambda: slider.press("ArrowRight"))
        assert viewer.texts(r"\d+ rows") == [f"{rows} rows"]


def test_a_page_whose_script_goes_on_is_not_settled(viewer: Viewer) -> None:
    viewer.open()
    viewer.act(lambda: viewer.page.get_by_text("Slowly").click())
    before = viewer.runs()
    viewer.page.get_by_role("slider", name="Rows").press("ArrowRight")
    viewer.page.wait_for_function("() => window.__runs.running")
    assert not viewer.page.evaluate("before => window.__settled(before)", before)
    viewer.settle(before)


def test_a_run_that_another_one_interrupts_is_not_waited_for(viewer: Viewer) -> None:
    viewer.open()
    viewer.act(lambda: viewer.page.get_by_text("Slowly").click())
    slider = viewer.page.get_by_role("slider", name="Rows")
    slider.press("ArrowRight")
    viewer.page.wait_for_function("() => window.__runs.running")
    viewer.act(lambda: slider.press("ArrowRight"))
    assert viewer.texts(r"\d+ rows") == ["12 rows"]


def test_a_part_that_asks_for_itself_and_is_gone_is_not_waited_for(viewer: Viewer) -> None:
    viewer.page.add_init_script(_SOCKET)
    viewer.open()
    asks = BackMsg(rerun_script=ClientState(fragment_id="gone", is_auto_rerun=True))
    viewer.page.evaluate("bytes => window.__socket.send(new Uint8Array(bytes))", list(asks.SerializeToString()))
    assert viewer.page.evaluate("() => window.__settled(0)")
    asks.rerun_script.is_auto_rerun = False
    viewer.page.evaluate("bytes => window.__socket.send(new Uint8Array(bytes))", list(asks.SerializeToString()))
    assert not viewer.page.evaluate("() => window.__settled(0)"), "what a person asks for is waited for"


def test_what_a_widget_says_stands_in_the_address_and_survives_a_reload(viewer: Viewer) -> None:
    viewer.open("?rows=20")
    assert viewer.texts(r"\d+ rows") == ["20 rows"]
    slider = viewer.page.get_by_role("slider", name="Rows")
    viewer.act(lambda: slider.press("ArrowRight"))
    assert "rows=21" in viewer.page.url
    viewer.reload()
    assert viewer.texts(r"\d+ rows") == ["21 rows"]


def test_a_download_is_read(viewer: Viewer) -> None:
    viewer.open("?rows=3")
    name, data = viewer.download(viewer.page.get_by_role("button", name="Squares"))
    assert (name, data) == ("squares.csv", b"x,y\n0,0\n1,1\n2,4\n")


def test_the_keyboard_comes_to_all_that_a_mouse_can_use(viewer: Viewer) -> None:
    viewer.open()
    walked = viewer.walk()
    assert any("Squares" in name for name in walked)
    assert set(viewer.reachable()) <= set(walked)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_is_the_systems(browser: Browser, address: str, theme: Theme, tmp_path: Path) -> None:
    with viewing(browser, address, width=768, theme=theme) as viewer:
        viewer.open()
        ground = viewer.page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
        light = sum(int(part) for part in ground.removeprefix("rgb(").rstrip(")").split(",")[:3]) > 3 * 128
        assert light == (theme == "light")
        assert viewer.picture(tmp_path / "page.png").read_bytes()[:4] == b"\x89PNG"


def test_an_app_that_is_gone_is_noticed(viewer: Viewer) -> None:
    viewer.address = "http://127.0.0.1:1"
    with pytest.raises(Error, match=r"ERR_CONNECTION_REFUSED|ERR_UNSAFE_PORT"):
        viewer.open()

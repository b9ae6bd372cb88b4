"""Home over a server in memory and a real registry: what it tells, whom, and what it says where nothing is there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import House, house
from aimass.explain.app.looks import Looks
from aimass.explain.app.overview import overview
from aimass.explain.app.people import Person
from aimass.explain.app.settings import AppSettings
from aimass.privacy.pki import Role
from aimass.proto.errors import Unavailable
from aimass.proto.views import RunState, RunSummary, RunView
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, seams
from tests.explain.runs.made import run
from tests.support.served_heart import publish_heart


def told(run_id: str, state: RunState = RunState.FINISHED, **more: Any) -> RunView:
    now = time.time()
    ended = now - 100 if state.final else None
    times: dict[str, Any] = {"created_at": now - 200, "ended_at": ended}
    return run([], run_id=run_id, state=state, **(times | more))


def home(opened: Opened, server: ToldServer, settings: AppSettings | None = None, **address: str) -> AppTest:
    return opened("home", settings, seams=seams(server), **address)


def links(page: AppTest) -> list[tuple[str, str, str]]:
    found = [one.proto for one in page.get("page_link")]
    return [(one.page, one.query_string, one.label.replace("\\", "")) for one in found]


def test_with_nothing_named_it_says_how_to_begin(opened: Opened) -> None:
    page = opened("home")
    assert not page.exception
    assert "aimass up" in [block.value for block in page.code]
    assert any("./scripts/demo" in block.value for block in page.code)


def test_a_server_without_runs_says_what_to_do(opened: Opened) -> None:
    page = home(opened, ToldServer())
    assert "There is no run and no model yet" in said(page)
    assert "No run is underway" in said(page)


def test_what_runs_what_is_new_and_what_failed_have_links_to_their_runs(opened: Opened) -> None:
    server = ToldServer(
        told("a" * 32, RunState.RUNNING, round=1), told("b" * 32), told("c" * 32, RunState.FAILED, reason="no quorum")
    )
    page = home(opened, server)
    assert not page.exception
    found = links(page)
    assert ("runs", f"run={'a' * 32}", "heart aaaaaaaa") in found
    assert ("runs", f"run={'c' * 32}", "Run heart cccccccc") in found
    assert "min ago: no quorum" in said(page)
    assert "finished after 3 of 3 rounds, " in said(page)
    assert page.get("progress")[0].proto.value == 33


def test_names_of_others_are_no_markup(opened: Opened) -> None:
    page = home(opened, ToldServer(told("a" * 32, RunState.RUNNING, name="[x](http://evil) <b>", task="$y$ :red[z]")))
    raw = [one.proto.label for one in page.get("page_link")] + [one.value for one in page.caption]
    assert any("\\[x\\]\\(http\\://evil\\) \\<b\\>" in text for text in raw)
    assert any("\\$y\\$ \\:red\\[z\\]" in text for text in raw)


def test_a_server_that_is_away_is_told_and_comes_back_by_itself(opened: Opened) -> None:
    server = ToldServer(told("a" * 32, RunState.RUNNING))
    server.away = Unavailable("the server does not answer", code="server.away", cure="Start it.")
    page = home(opened, server)
    assert not page.exception
    assert "at server.example.org:8443: the server does not answer. Start it." in said(page)
    server.away = None
    page.run()
    assert ("runs", f"run={'a' * 32}", "heart aaaaaaaa") in links(page)
    assert "does not answer" not in said(page)


def test_a_registry_alone_is_enough(opened: Opened, tmp_path: Path) -> None:
    url, trust = publish_heart(tmp_path)
    page = opened("home", AppSettings(registry=url, trust=str(trust)))
    assert not page.exception
    assert "Registry :material/check_circle: 1 model" in said(page).replace("*", "")
    assert "Training server" not in said(page)


def test_a_link_says_from_when_on_and_one_that_says_nonsense_is_told(opened: Opened) -> None:
    old = told("b" * 32, created_at=time.time() - 900_000, ended_at=time.time() - 800_000)
    week, month = home(opened, ToldServer(old), since="week"), home(opened, ToldServer(old), since="month")
    assert "finished" not in said(week)
    assert "finished" in said(month)
    assert "app.gone" in said(home(opened, ToldServer(old), since="yesterday"))


def test_the_last_visit_is_offered_once_there_was_one(opened: Opened) -> None:
    page = home(opened, ToldServer())
    assert page.selectbox(key="since").options == ["a day ago", "a week ago", "30 days ago"]
    moments = iter((1_000_000.0, 1_004_000.0, 1_004_000.0))
    house().looks = Looks(lambda: next(moments))
    assert page.run().selectbox(key="since").options[0] == "a day ago"
    assert page.run().selectbox(key="since").options[0] == "your last visit"
    page.selectbox(key="since").select("visit").run()
    assert "It ended 1970-01-12 13:46:40 UTC" in said(page)


def test_a_thousand_runs_are_counted_and_few_are_shown(opened: Opened) -> None:
    page = home(opened, ToldServer(*(told(f"{n:032x}", RunState.RUNNING) for n in range(1_000))))
    assert "and 992 more" in said(page)
    assert len(page.get("progress")) == 8


class HungServer(ToldServer):
    """Takes calls and answers none until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def runs(self, state: str = "", limit: int = 50) -> tuple[RunSummary, ...]:
        self.go.wait()
        return ()


def test_a_server_that_hangs_holds_one_thread_however_many_parts_of_home_ask_it(opened: Opened) -> None:
    server, before = HungServer(), set(threading.enumerate())
    try:
        page = home(opened, server)
        assert "no answer within" in said(page)
        begun = set(threading.enumerate()) - before
        assert sum(thread.name.startswith("aimass-overview") for thread in begun) == 1
    finally:
        server.go.set()


def test_a_server_that_hangs_for_many_people_makes_no_other_service_away(
    entered: Callable[..., House], tmp_path: Path
) -> None:
    server, (url, trust) = HungServer(), publish_heart(tmp_path)
    shown = entered(AppSettings(registry=url, trust=str(trust)), **seams(server))
    many = [shown.visit(Person(f"p{number}", Role.ANALYST), "tab") for number in range(40)]
    try:
        with ThreadPoolExecutor(len(many)) as looking:
            seen = list(looking.map(overview, many))
        assert [[(one.title, one.away) for one in found.services] for found in seen] == [
            [("Training server", True), ("Registry", False)]
        ] * len(many)
    finally:
        server.go.set()


def test_what_is_anybodys_is_asked_once_for_all_who_look(entered: Callable[..., House]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60.0)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        shown = entered(AppSettings(serving=(url,)))
        many = [shown.visit(Person(f"p{number}", Role.ANALYST), "tab") for number in range(4)]
        with ThreadPoolExecutor(len(many)) as looking:
            seen = [looking.submit(overview, one) for one in many]
            asked, _ = listening.accept()
            with asked:
                assert all(one.result(60).services[0].away for one in seen)  # it was open as long as they waited
            listening.settimeout(0.0)
            with pytest.raises(BlockingIOError):
                listening.accept()


def test_serving_that_nobody_answers_at_is_away(opened: Opened) -> None:
    page = opened("home", AppSettings(serving=("http://127.0.0.1:9",)))
    assert "no serving process answers there" in said(page)

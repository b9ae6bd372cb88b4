"""Files that come in are bounded by session and in all, and none outlives its session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

from aimass.explain.app import upload_bound
from aimass.explain.app.upload_bound import StreamlitFiles, UploadBound

MIB = 1 << 20


class Runtime:
    """What the bound asks of Streamlit: its own keeper of files, and whose pages are open."""

    def __init__(self) -> None:
        self.uploaded_file_mgr = MemoryUploadedFileManager("/_stcore/upload_file")
        self.open = {"a", "b"}

    def is_active_session(self, session: str) -> bool:
        return session in self.open

    def names(self, session: str) -> list[str]:
        return StreamlitFiles().names(session)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    found = Runtime()
    monkeypatch.setattr(upload_bound, "get_instance", lambda: found)
    return found


class Browser:
    """Sends files to the bound before an app that keeps what comes, as Streamlit does, once `meanwhile` is over."""

    def __init__(self, runtime: Runtime, largest: int = MIB) -> None:
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self._runtime = runtime
        self._bound = UploadBound(self._keep, largest, StreamlitFiles())

    async def _keep(self, scope: Any, receive: Any, send: Any) -> None:
        if self.meanwhile is not None:
            await self.meanwhile()
        _, session, name = scope["path"].rsplit("/", 2)
        if scope["method"] == "PUT":
            self._runtime.uploaded_file_mgr.add_file(session, UploadedFileRec(name, "rows.csv", "", scope["body"]))
        else:
            self._runtime.uploaded_file_mgr.remove_file(session, name)
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def sent(self, session: str, name: str, size: int = 1, method: str = "PUT") -> int:
        found: list[int] = []

        async def send(message: Any) -> None:
            found.append(message.get("status", 0))

        path = f"/explain/_stcore/upload_file/{session}/{name}"
        await self._bound({"type": "http", "method": method, "path": path, "body": bytes(size)}, None, send)  # type: ignore[arg-type]
        return found[0]

    def put(self, session: str, name: str, size: int = 1) -> int:
        return asyncio.run(self.sent(session, name, size))


def test_of_a_session_the_newest_files_are_held_and_another_s_are_left(runtime: Runtime) -> None:
    browser = Browser(runtime)
    browser.put("b", "kept")
    for place in range(1_000):
        assert browser.put("a", f"file {place}") == 204
    assert runtime.names("a") == ["file 997", "file 998", "file 999"]
    assert runtime.names("b") == ["kept"]


def test_a_file_that_comes_again_takes_the_place_of_its_first(runtime: Runtime) -> None:
    browser = Browser(runtime)
    for name in ("one", "two", "two", "two"):
        browser.put("a", name)
    assert runtime.names("a") == ["one", "two"]


def test_what_all_sessions_hold_is_bounded_and_room_is_made_by_who_takes_back(runtime: Runtime) -> None:
    browser = Browser(runtime)
    runtime.open = {str(place) for place in range(50)}
    said = [browser.put(str(place), "file", MIB) for place in range(50)]
    assert said == [204] * 40 + [503] * 10
    assert asyncio.run(browser.sent("0", "file", method="DELETE")) == 204
    assert browser.put("49", "file", MIB) == 204


def test_files_that_still_come_in_count_by_session_and_as_the_largest(runtime: Runtime) -> None:
    browser = Browser(runtime)
    runtime.open = {str(place) for place in range(50)}

    async def all_at_once() -> tuple[list[int], list[int]]:
        here, go = asyncio.Semaphore(0), asyncio.Event()

        async def waits() -> None:
            here.release()
            await go.wait()

        browser.meanwhile = waits
        coming = [asyncio.create_task(browser.sent(str(place), name)) for place in range(20) for name in "xy"]
        for _ in coming:
            await here.acquire()
        refused = [await browser.sent("0", "z"), await browser.sent("21", "z")]
        go.set()
        return refused, await asyncio.gather(*coming)

    assert asyncio.run(all_at_once()) == ([429, 503], [204] * 40)
    browser.meanwhile = None
    assert browser.put("0", "z") == browser.put("21", "z") == 204


def test_a_file_that_comes_in_as_its_session_ends_is_let_go(runtime: Runtime) -> None:
    browser = Browser(runtime)

    async def ends() -> None:
        runtime.open.discard("a")
        runtime.uploaded_file_mgr.remove_session_files("a")

    browser.meanwhile = ends
    browser.put("a", "late")
    assert not runtime.uploaded_file_mgr.file_storage


def test_a_session_that_is_away_for_a_moment_keeps_what_it_had(runtime: Runtime) -> None:
    browser = Browser(runtime)
    browser.put("a", "before")

    async def goes() -> None:
        runtime.open.discard("a")

    browser.meanwhile = goes
    browser.put("a", "late")
    assert runtime.names("a") == ["before"]


def test_a_request_that_fails_counts_no_longer(runtime: Runtime) -> None:
    browser = Browser(runtime)

    async def fails() -> None:
        raise ConnectionError

    browser.meanwhile = fails
    for _ in range(5):
        with pytest.raises(ConnectionError):
            browser.put("a", "file")
    browser.meanwhile = None
    assert browser.put("a", "file") == 204


def test_a_file_that_comes_in_is_not_written_to_disk(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MultiPartParser, "spool_max_size", MIB)  # as Starlette has it
    Browser(runtime, 4 * MIB)
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="rows.csv"\r\n\r\n'
    body = head + bytes(4 * MIB) + b"\r\n--x--\r\n"

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def on_disk() -> bool:
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        async with Request({"type": "http", "method": "PUT", "headers": headers}, receive).form() as form:
            file = form["f"]
            assert isinstance(file, UploadFile)
            return bool(file.file._rolled)  # type: ignore[attr-defined]

    assert not asyncio.run(on_disk())

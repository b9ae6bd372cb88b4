"""Viewers of a Streamlit app without a browser: they speak its protocol over a WebSocket and draw nothing.

What a page's script costs the server is the same for them as for people; what drawing costs a browser is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

__all__ = ["Visit", "WireViewer", "wire_viewer"]

_MOST_BYTES: Final = 64 << 20
_LONGEST_S: Final = 300.0
_CHARTS: Final = frozenset({"vega_lite_chart", "deck_gl_json_chart", "plotly_chart"})


@dataclasses.dataclass(frozen=True, slots=True)
class Visit:
    """One look at a page: seconds until its first chart had come (None where it has none) and until all had, bytes and
    messages, and the texts of exceptions."""

    first_chart_s: float | None
    whole_s: float
    received_bytes: int
    messages: int
    exceptions: tuple[str, ...]


@dataclasses.dataclass(slots=True)
class _Look:
    """What came so far of one look."""

    began: float
    first_chart: float | None = None
    received_bytes: int = 0
    messages: int = 0
    working: bool = False
    """Whether the page shows progress: its answer is still on its way."""
    page_hash: str = ""
    """What the app calls the page, once it has said so."""
    exceptions: list[str] = dataclasses.field(default_factory=list)

    def take(self, message: ForwardMsg, size: int) -> None:
        self.received_bytes += size
        self.messages += 1
        if message.WhichOneof("type") == "new_session" and not message.metadata.run.fragment_ids:
            self.working = False
        if message.WhichOneof("type") == "navigation":
            self.page_hash = message.navigation.page_script_hash
        if message.WhichOneof("type") != "delta" or message.delta.WhichOneof("type") != "new_element":
            return
        element = message.delta.new_element
        match element.WhichOneof("type"):
            case "progress":
                self.working = True
            case "exception":
                self.exceptions.append(element.exception.message)
            case str(kind) if kind in _CHARTS and self.first_chart is None:
                self.first_chart = time.perf_counter()

    def over(self) -> Visit:
        now = time.perf_counter()
        first = None if self.first_chart is None else self.first_chart - self.began
        return Visit(first, now - self.began, self.received_bytes, self.messages, tuple(self.exceptions))


class WireViewer:
    """One session of an app. Messages that the server believes to be cached here are none: nothing is kept."""

    def __init__(self, socket: ClientConnection, address: str) -> None:
        self._socket, self._address = socket, address
        self._timers: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> WireViewer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_timers()

    async def visit(self, page: str, query: str = "") -> Visit:
        """Ask for a page and take it in until nothing of it is computed any more."""
        self._stop_timers()
        look = _Look(time.perf_counter())
        await self._ask(self._state(page, query))
        async with asyncio.timeout(_LONGEST_S):
            while not await self._one_run(look, query) or look.working:
                pass
        self._stop_timers()
        return look.over()

    async def _one_run(self, look: _Look, query: str) -> bool:
        """Take in a run; False where the server broke it off for another."""
        while True:
            data = await self._socket.recv(decode=False)
            message = ForwardMsg.FromString(data)
            look.take(message, len(data))
            match message.WhichOneof("type"):
                case "new_session" if not message.metadata.run.fragment_ids:
                    self._stop_timers()  # its parts are made anew
                case "auto_rerun":
                    self._time(message.auto_rerun.fragment_id, message.auto_rerun.interval, look, query)
                case "script_finished":
                    return bool(message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN)

    def _time(self, fragment: str, interval_s: float, look: _Look, query: str) -> None:
        """Do as a browser does with a part of the page that runs by itself."""
        if fragment not in self._timers:
            self._timers[fragment] = asyncio.create_task(self._again(fragment, interval_s, look, query))

    async def _again(self, fragment: str, interval_s: float, look: _Look, query: str) -> None:
        while True:
            await asyncio.sleep(interval_s)
            state = self._state("", query)
            state.page_script_hash = look.page_hash  # by its name alone a run of the whole page would lead to the first
            state.fragment_id, state.is_auto_rerun = fragment, True
            await self._ask(state)

    def _stop_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _state(self, page: str, query: str) -> ClientState:
        state = ClientState(page_name=page, query_string=query)
        state.context_info.timezone, state.context_info.locale = "UTC", "en-GB"
        state.context_info.url = f"{self._address}/{page}"
        state.context_info.color_scheme = "light"
        return state

    async def _ask(self, state: ClientState) -> None:
        await self._socket.send(BackMsg(rerun_script=state).SerializeToString())


@contextlib.asynccontextmanager
async def wire_viewer(address: str) -> AsyncIterator[WireViewer]:
    """A session at `http://HOST:PORT`, until the block ends."""
    url = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
    spoken, origin = [Subprotocol("streamlit")], Origin(address)
    # As a browser: no pings of its own, and it comes from a page of the app.
    async with (
        connect(
            url, subprotocols=spoken, origin=origin, max_size=_MOST_BYTES, compression=None, ping_interval=None
        ) as socket,
        WireViewer(socket, address) as viewer,
    ):
        yield viewer

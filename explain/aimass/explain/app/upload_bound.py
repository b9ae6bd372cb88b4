"""What is held of uploaded files is bounded, with and without a login: Streamlit takes any number for any open session.

It keeps a file until its page takes it back or its session ends, and knows each by a name that the browser chooses.
What a session holds is asked of Streamlit itself each time, so nothing here can grow old; counted here are only files
that still come in, each as the largest that may come.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Protocol

from starlette.formparsers import MultiPartParser
from streamlit.runtime import get_instance
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from aimass.explain.app.guard import Asgi, Receive, Scope, Send, answer_text
from aimass.explain.app.upload_door import UPLOADS
from aimass.proto.errors import InternalError

__all__ = ["HeldFiles", "StreamlitFiles", "UploadBound"]

_MOST_FILES: Final = 3
"""Of one session: a page takes one, and one that was left may not have taken its own back."""
_MOST_COMING: Final = 2
"""At once into one session."""
_MOST_OF_ALL: Final = 40
"""So many of the largest files are held for all sessions together, in bytes."""
_FRAME_BYTES: Final = 1 << 20
"""More than a request may have around its file."""
_BUSY: Final = b"Files of this page are still coming in.\n"
_FULL: Final = b"The app holds as many files as it may. Come back later.\n"


class HeldFiles(Protocol):
    """Files that the app holds for its sessions."""

    def names(self, session: str) -> list[str]:
        """Of a session's files, the oldest first."""

    def total_bytes(self) -> int:
        """Of all sessions."""

    def is_open(self, session: str) -> bool:
        """Whether somebody looks at the session's page."""

    def remove(self, session: str, name: str) -> None:
        """Let go of one file."""


class UploadBound:
    """ASGI: a session's newest files are held and older ones let go; who sends too much at once, or while all that may
    be held is held, is told to come later.

    A file that comes in is held in memory, as pages promise: of more than 1 MiB Starlette would make a file on disk.
    """

    def __init__(self, app: Asgi, largest_bytes: int, held: HeldFiles) -> None:
        MultiPartParser.spool_max_size = largest_bytes + _FRAME_BYTES  # of the class: whoever makes one gives no size
        self._app, self._largest_bytes, self._held = app, largest_bytes, held
        self._coming: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or open one socket."""
        session = _session(scope)
        if session is None:
            await self._app(scope, receive, send)
        elif self._coming[session] >= _MOST_COMING:
            await answer_text(send, 429, _BUSY)
        elif self._full():
            await answer_text(send, 503, _FULL)
        else:
            await self._take(session, scope, receive, send)

    def _full(self) -> bool:
        coming = (self._coming.total() + 1) * self._largest_bytes
        return self._held.total_bytes() + coming > _MOST_OF_ALL * self._largest_bytes

    async def _take(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._coming[session] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._coming -= Counter([session])  # which forgets a session with nothing left
            self._settle(session, scope["path"].rpartition("/")[2])

    def _settle(self, session: str, name: str) -> None:
        """A file that came in as its session ended would be held for ever: what ends a session is over then."""
        names = self._held.names(session)
        gone = names[:-_MOST_FILES] if self._held.is_open(session) else [one for one in names if one == name]
        for one in gone:
            self._held.remove(session, one)


def _session(scope: Scope) -> str | None:
    """Of a request that brings a file."""
    if scope["type"] != "http" or scope["method"] != "PUT" or UPLOADS not in scope["path"]:
        return None
    return str(scope["path"].rpartition(UPLOADS)[2].partition("/")[0])


class StreamlitFiles:
    """Those of the Streamlit that runs in this process."""

    def names(self, session: str) -> list[str]:
        """Of a session's files, the oldest first."""
        return list(_manager().file_storage.get(session, ()))

    def total_bytes(self) -> int:
        """Of all sessions."""
        sessions = list(_manager().file_storage.values())
        return sum(len(file.data) for files in sessions for file in list(files.values()))

    def is_open(self, session: str) -> bool:
        """Whether somebody looks at the session's page."""
        return get_instance().is_active_session(session)

    def remove(self, session: str, name: str) -> None:
        """Let go of one file, and of a session without any."""
        _manager().remove_file(session, name)
        if not self.names(session):
            _manager().remove_session_files(session)


def _manager() -> MemoryUploadedFileManager:
    found = get_instance().uploaded_file_mgr
    if not isinstance(found, MemoryUploadedFileManager):
        raise InternalError("Streamlit keeps files otherwise than known here", code="app.upload_held")
    return found

"""Where a backup reads a server's models from: its folder, or the object store that it keeps them in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Protocol

from aimass.proto.errors import NotFound
from aimass.proto.stored import open_blobs

__all__ = ["Models", "models_of"]


class Models(Protocol):
    """Where the server's models stand; both raise `FileNotFoundError`."""

    def open(self, digest: str) -> IO[bytes]:
        """The model, readable to its end whatever is deleted meanwhile."""
        ...

    def size(self, digest: str) -> int:
        """Its bytes."""
        ...


def models_of(data: Path, url: str, cache: Path, to: Path) -> Models:
    """The models of a server with this data folder, or with its blobs at `url`, for a backup into `to`."""
    return _Elsewhere(url, cache, to) if url else _OnDisk(data)


class _OnDisk:
    """In the server's folder."""

    def __init__(self, data: Path) -> None:
        self._blobs = data / "blobs"

    def open(self, digest: str) -> IO[bytes]:
        return (self._blobs / digest[:2] / digest).open("rb")

    def size(self, digest: str) -> int:
        return (self._blobs / digest[:2] / digest).stat().st_size


class _Elsewhere:
    """In an object store, by a cache that holds one; what the backup holds already is not fetched."""

    def __init__(self, url: str, cache: Path, to: Path) -> None:
        self._blobs, self._to = open_blobs(url, cache, limit_bytes=1), to / "blobs"

    def open(self, digest: str) -> IO[bytes]:
        held = self._to / digest[:2] / digest
        if held.is_file() and held.stat().st_size == self.size(digest):
            return held.open("rb")
        try:
            return os.fdopen(self._blobs.descriptor(digest), "rb")
        except NotFound:
            raise FileNotFoundError(digest) from None

    def size(self, digest: str) -> int:
        try:
            return self._blobs.size(digest)
        except NotFound:
            raise FileNotFoundError(digest) from None

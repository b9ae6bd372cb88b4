"""Chunks on their way to a store that may break off: sent again from the first; what their giver raised stays his."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Final

from aimass.proto.durable import disk_errors
from aimass.proto.objects import CHUNK_BYTES, Chunk

__all__ = ["Source", "sent_again"]

_KEPT_BYTES: Final = 2 << 20
"""Of what is sent, in memory; more goes to the disk."""


@contextmanager
def sent_again(chunks: Iterable[Chunk]) -> Iterator[Iterable[Chunk]]:
    """The same chunks for any number of tries."""
    if iter(chunks) is not chunks:
        yield chunks
        return
    with tempfile.SpooledTemporaryFile(_KEPT_BYTES) as kept:
        yield _Kept(iter(chunks), kept)


class _Kept:
    """Chunks that come once; those that came are in a file."""

    def __init__(self, chunks: Iterator[Chunk], file: IO[bytes]) -> None:
        self._chunks, self._file = chunks, file

    def __iter__(self) -> Iterator[Chunk]:
        self._file.seek(0)
        while block := self._file.read(CHUNK_BYTES):
            yield block
        for chunk in self._chunks:
            with disk_errors("what is sent to a store, to send it again (TMPDIR)"):
                self._file.write(chunk)
            yield chunk


class Source:
    """Chunks as a client sends them, and what became of them: how many bytes, and what they raised."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = chunks
        self.size = 0
        self.raised: BaseException | None = None

    def __iter__(self) -> Iterator[memoryview]:
        try:
            for chunk in self._chunks:
                view = memoryview(chunk).cast("B")
                for start in range(0, len(view), CHUNK_BYTES):
                    piece = view[start : start + CHUNK_BYTES]
                    self.size += len(piece)
                    yield piece
        except GeneratorExit:  # the client has enough of them
            raise
        except BaseException as error:
            self.raised = error
            raise

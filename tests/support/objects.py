"""An object store in memory that counts, cuts and lies as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from aimass.proto.errors import Unavailable
from aimass.proto.objects import (
    CHUNK_BYTES,
    Chunk,
    ObjectInfo,
    check_key,
    check_prefix,
    check_range,
    exists,
    replaced,
    unknown,
)

__all__ = ["MemoryObjects"]


class MemoryObjects:
    """An `ObjectStore` whose next verbs may fail: `before` is called with the verb and the key."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self.held: dict[str, tuple[bytes, int]] = {}
        self.asked: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda verb, key: None
        self.cut_at: list[int] = []
        self._one = threading.Lock()
        self._count = 0

    def head(self, key: str) -> ObjectInfo:
        return self._info(key, *self._found("head", key))

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        check_range(start, size)
        data, number = self._found("read", key)
        if version and version != str(number):
            raise replaced(self, key)
        return data[start:] if size is None else data[start : start + size]

    def stream(self, key: str, start: int = 0, version: str = "") -> Iterator[bytes]:
        check_range(start)
        check_key(key)
        return self._stream(key, start, version)

    def _stream(self, key: str, start: int, version: str) -> Iterator[bytes]:
        data, number = self._found("stream", key)
        if version and version != str(number):
            raise replaced(self, key)
        cut = self.cut_at.pop(0) if self.cut_at else len(data)
        for at in range(start, min(cut, len(data)), CHUNK_BYTES):
            yield data[at : min(at + CHUNK_BYTES, cut)]
        if cut < len(data):
            raise Unavailable("cut", code="storage.unavailable")

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        return self.write(key, (data,), create=True)

    def put(self, key: str, data: Chunk) -> ObjectInfo:
        return self.write(key, (data,))

    def write(self, key: str, chunks: Iterable[Chunk], *, create: bool = False) -> ObjectInfo:
        self._ask("write", key)
        data = b"".join(chunks)
        with self._one:
            if create and key in self.held:
                raise exists(self, key)
            self._count += 1
            self.held[key] = data, self._count
            return self._info(key, data, self._count)

    def delete(self, key: str) -> None:
        self._ask("delete", key)
        self.held.pop(key, None)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.before("list", check_prefix(prefix))
        return iter([self._info(key, *held) for key, held in sorted(self.held.items()) if key.startswith(prefix)])

    def _ask(self, verb: str, key: str) -> None:
        self.asked.append((verb, check_key(key)))
        self.before(verb, key)

    def _found(self, verb: str, key: str) -> tuple[bytes, int]:
        self._ask(verb, key)
        if key not in self.held:
            raise unknown(self, key)
        return self.held[key]

    @staticmethod
    def _info(key: str, data: bytes, number: int) -> ObjectInfo:
        return ObjectInfo(key, len(data), str(number))

"""Objects in a bucket, over the S3 API (obstore): any S3, and Alibaba's OSS.

A request is tried again a bounded number of times. Who created an object is written beside it, so a creation whose
answer was lost, and which finds its own object the next time, knows it. obstore's runtime does not survive a fork:
open a store in the process that uses it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import obstore
from obstore.exceptions import BaseError

from aimass.proto.errors import Conflict, LimitExceeded, NotFound, Unavailable
from aimass.proto.objects import CHUNK_BYTES, Chunk, ObjectInfo, check_key, check_prefix, check_range, is_key
from aimass.proto.stores.retries import PATIENT, Retries
from aimass.proto.stores.s3_errors import beyond_the_end
from aimass.proto.stores.s3_link import Link, Timeouts
from aimass.proto.stores.s3_place import place_of

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta

__all__ = ["CREATE_BYTES", "PART_BYTES", "S3Objects", "open_store"]

T = TypeVar("T")
PART_BYTES: Final = 8 << 20
"""Of a multipart upload: the 10 000 parts that S3 allows hold 80 GB."""
CREATE_BYTES: Final = 64 << 20
"""Of an object that is created under a condition, in one request and in memory: a commit is small."""
_AT_ONCE: Final = 3
_WRITER: Final = "writer"


def open_store(url: str) -> S3Objects:
    """The bucket that `url` names, with the credentials of the environment."""
    return S3Objects(Link(place_of(url, os.environ), PATIENT.attempts, Timeouts(), os.environ))


class S3Objects:
    """An `ObjectStore` in a bucket. Objects whose keys are none of ours are nobody's, and not listed."""

    def __init__(
        self,
        link: Link,
        retries: Retries = PATIENT,
        part_bytes: int = PART_BYTES,
        create_bytes: int = CREATE_BYTES,
    ) -> None:
        self._link, self._retries, self._part_bytes, self._create_bytes = link, retries, part_bytes, create_bytes
        self._root = f"{link.place.prefix}/" if link.place.prefix else ""

    @property
    def url(self) -> str:
        """As it was given, without what the environment added."""
        return self._link.place.url

    def head(self, key: str) -> ObjectInfo:
        """Size and ETag."""
        path = self._path(key)
        return self._run(key, lambda: _info(key, obstore.head(self._link.once, path)))

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        """A range."""
        check_range(start, size)
        options = _options(start, max(1, size) if size is not None else None, version)

        def ask() -> bytes:
            answer = self._get(key, options)
            return b"" if answer is None else answer.bytes().to_bytes()

        return self._run(key, ask)[:size]

    def stream(self, key: str, start: int = 0, version: str = "") -> Iterator[bytes]:
        """Chunks of the version that the first answer names."""
        check_range(start)
        check_key(key)
        at, pinned = start, version

        def begin() -> Iterator[bytes]:
            nonlocal at, pinned
            with self._link.errors(self, key):
                answer = self._get(key, _options(at, None, pinned))
                if answer is None:
                    return
                pinned = pinned or answer.meta["e_tag"] or ""
                for piece in answer.stream(CHUNK_BYTES):
                    for part in _sliced(piece):
                        at += len(part)
                        yield part

        return self._retries.resumed(begin)

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        """The atomic commit: If-None-Match, or what OSS has for it."""
        return self._send(key, data, create=True)

    def put(self, key: str, data: Chunk) -> ObjectInfo:
        """One request."""
        return self._send(key, data, create=False)

    def write(self, key: str, chunks: Iterable[Chunk], *, create: bool = False) -> ObjectInfo:
        """One request for what fits into a part, a multipart upload beyond; one that breaks off is aborted.

        What is created goes in one request: some servers ignore the condition where parts are put together. Raises
        `LimitExceeded` as `storage.create_size`.
        """
        path, source = self._path(key), iter(chunks)
        if create:
            data = _first(source, self._create_bytes + 1)
            if len(data) > self._create_bytes:
                raise _too_large(key, self._create_bytes)
            return self._send(key, data, create=True)
        first = _first(source, self._part_bytes)
        if len(first) < self._part_bytes:
            return self._send(key, first, create=False)
        return self._upload(key, path, chain((first,), source))

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        self._remove(key, self._path(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Page by page, in the order of the bytes of the keys, as S3 lists them (directory buckets do not)."""
        first = f"{self._root}{check_prefix(prefix)}"
        folder, after = first.rpartition("/")[0], _just_before(first)

        def begin() -> Iterator[ObjectInfo]:
            nonlocal after
            with self._link.errors(self, prefix):
                for page in obstore.list(self._link.once, folder or None, offset=after):
                    for meta in page:
                        after = meta["path"]
                        if not after.startswith(first):
                            if after > first:
                                return
                        elif is_key(key := after[len(self._root) :]):
                            yield _info(key, meta)

        return self._retries.resumed(begin)

    def _path(self, key: str) -> str:
        return f"{self._root}{check_key(key)}"

    def _run(self, key: str, ask: Callable[[], T]) -> T:
        def attempt() -> T:
            with self._link.errors(self, key):
                return ask()

        return self._retries.run(attempt)

    def _get(self, key: str, options: GetOptions) -> GetResult | None:
        """The answer; None where the range begins behind the end."""
        try:
            return obstore.get(self._link.once, self._path(key), options=options)
        except BaseError as error:
            if beyond_the_end(error):
                return None
            raise

    def _send(self, key: str, data: Chunk, *, create: bool) -> ObjectInfo:
        path, sent, token = self._path(key), memoryview(data).cast("B"), secrets.token_hex(16)
        mode: Literal["create", "overwrite"] = "create" if create and self._link.conditional else "overwrite"

        def send() -> ObjectInfo:
            client = self._link.guarded if create else self._link.once
            answer = obstore.put(client, path, sent, mode=mode, use_multipart=False, attributes={_WRITER: token})
            return ObjectInfo(key, sent.nbytes, answer["e_tag"] or "")

        return self._once_ours(key, send, lambda: self._writer(path) == token)

    def _upload(self, key: str, path: str, chunks: Iterable[Chunk]) -> ObjectInfo:
        source, token, version = _Source(chunks), secrets.token_hex(16), ""
        try:
            with self._link.errors(self, key):
                answer = obstore.put(
                    self._link.parts,
                    path,
                    source,
                    attributes={_WRITER: token},
                    chunk_size=self._part_bytes,
                    max_concurrency=_AT_ONCE,
                )
                version = answer["e_tag"] or ""
        except _SourceFailed as failed:
            raise failed.error from None
        except NotFound as error:  # an upload is forgotten when it is done, whether we heard that or not
            if error.code != "storage.unknown" or self._run(key, lambda: self._writer(path)) != token:
                raise
        return ObjectInfo(key, source.size, version or self.head(key).version)

    def _once_ours(self, key: str, send: Callable[[], ObjectInfo], ours: Callable[[], bool]) -> ObjectInfo:
        """Try `send` again; an object that is in its way after a lost answer may be `ours`."""
        unsure = False

        def attempt() -> ObjectInfo:
            nonlocal unsure
            with self._link.errors(self, key):
                try:
                    with self._link.errors(self, key):
                        return send()
                except Unavailable:
                    unsure = True
                    raise
                except Conflict:
                    if unsure and ours():
                        return _info(key, obstore.head(self._link.once, self._path(key)))
                    raise

        return self._retries.run(attempt)

    def _writer(self, path: str) -> str:
        return str(obstore.get(self._link.once, path, options={"head": True}).attributes.get(_WRITER, ""))

    def _remove(self, key: str, path: str) -> None:
        with suppress(NotFound):
            self._run(key, lambda: obstore.delete(self._link.once, path))


class _SourceFailed(Exception):
    """The chunks of an upload raised `error`, which is the caller's own and not of the store."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Source:
    """The chunks of an upload, counted."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks, self.size = chunks, 0

    def __iter__(self) -> Iterator[Chunk]:
        try:
            for chunk in self._chunks:
                part = memoryview(chunk).cast("B")
                self.size += len(part)
                yield part
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is handed on
            raise _SourceFailed(error) from None


def _too_large(key: str, limit: int) -> LimitExceeded:
    return LimitExceeded(
        "an object that is created under a condition goes in one request, and this one is too large",
        code="storage.create_size",
        value=key,
        limit=f"{limit} bytes",
        cure="Write it under a key that nobody else writes, as its digest, and create a small object that names it.",
    )


def _info(key: str, meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["e_tag"] or "")


def _options(start: int, size: int | None, version: str) -> GetOptions:
    options: GetOptions = {}
    if size is not None:
        options["range"] = (start, start + size)
    elif start:
        options["range"] = {"offset": start}
    if version:
        options["if_match"] = version
    return options


def _first(chunks: Iterator[Chunk], size: int) -> bytes:
    """The first chunks, until they have `size` bytes or end."""
    data = bytearray()
    while len(data) < size and (chunk := next(chunks, None)) is not None:
        data += chunk
    return bytes(data)


def _sliced(piece: bytes) -> Iterator[bytes]:
    return (piece[at : at + CHUNK_BYTES] for at in range(0, len(piece), CHUNK_BYTES))


def _just_before(first: str) -> str | None:
    """What sorts before all that begins with `first`, and with hardly a key between: listings start after it."""
    return f"{first[:-1]}{chr(ord(first[-1]) - 1)}zzz" if first else None

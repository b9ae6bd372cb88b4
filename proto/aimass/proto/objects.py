"""Objects by key behind one URL: the seam that files, S3, OSS and HDFS come behind, for whoever keeps bytes elsewhere.

An object is whole or not there. `create` is the atomic commit: of two who create one key, one is told that it lost.
Data sets, checkpoints and blobs are built on these few verbs, so they hold on every store on which these hold.
"""

from __future__ import annotations

import importlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast, runtime_checkable
from urllib.parse import urlsplit

from aimass.proto.errors import AimassError, BadInput, Conflict, NotFound, Refused

__all__ = [
    "CHUNK_BYTES",
    "WRITTEN_S",
    "Chunk",
    "LeavesParts",
    "ObjectInfo",
    "ObjectStore",
    "check_key",
    "check_prefix",
    "check_range",
    "commits",
    "exists",
    "is_key",
    "open_objects",
    "replaced",
    "swept",
    "unknown",
]

CHUNK_BYTES: Final = 1 << 20
"""No store hands out longer chunks of a stream."""
WRITTEN_S: Final = 86_400.0
"""No object is being written for so long: what stands half for longer, its writer has died."""
_KEY_LENGTH: Final = 512
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._=@-]{1,255}")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._=@/-]*")
_PROBES: Final = "_probes"

Chunk = bytes | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: key, bytes, and a version (an ETag or the like) that another content changes; "" if there is none."""

    key: str
    size: int
    version: str = ""


class ObjectStore(Protocol):
    """Objects below one URL; synchronous, for any number of threads.

    Keys are relative and checked by `check_key`; no key is a folder of another ("a" and "a/b"). Every method raises
    `BadInput` for a key that is none, `Unavailable` as `storage.unavailable` once its retries are used up,
    `Unauthenticated` and `Refused` where the store does not let us, and `OutOfSpace` where it is full.
    """

    @property
    def url(self) -> str:
        """Where it is; no credentials stand in it."""
        ...

    def head(self, key: str) -> ObjectInfo:
        """Size and version; raises `NotFound` as `storage.unknown`."""
        ...

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        """At most `size` bytes from `start`; what lies beyond the end is left out.

        Raises `NotFound`, and `Conflict` as `storage.replaced` if a `version` is given that is not there any more.
        """
        ...

    def stream(self, key: str, start: int = 0, version: str = "") -> Iterator[bytes]:
        """The bytes from `start` in chunks of at most `CHUNK_BYTES`, all of one version.

        After a cut it goes on by itself where it was. Raises as `read`, at the first chunk or any later one.
        """
        ...

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        """Store `data` durably if nothing stands under `key`; raises `Conflict` as `storage.exists` otherwise."""
        ...

    def put(self, key: str, data: Chunk) -> ObjectInfo:
        """Store `data` durably in place of what stood under `key`; readers see one or the other whole."""
        ...

    def write(self, key: str, chunks: Iterable[Chunk], *, create: bool = False) -> ObjectInfo:
        """Like `put`, or `create`, for content in chunks, in bounded memory; what `chunks` raises leaves nothing.

        A store may take small objects alone under a condition: `LimitExceeded` as `storage.create_size` beyond.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key begins with `prefix`, in the order of their keys; asked for page by page."""
        ...


@runtime_checkable
class LeavesParts(Protocol):
    """A store in which something stays behind when a writer dies, though nobody sees it as an object."""

    def sweep(self, before: float, *, dry_run: bool = False) -> int:
        """Remove what was last written to `before` that Unix time; how many files it was, or would be."""
        ...


_BACKENDS: Final[Mapping[str, str]] = {
    "file": "aimass.proto.stores.files",
    "hdfs": "aimass.proto.stores.hadoop",
    "oss": "aimass.proto.stores.s3",
    "s3": "aimass.proto.stores.s3",
    "swebhdfs": "aimass.proto.stores.webhdfs",
    "webhdfs": "aimass.proto.stores.webhdfs",
}
"""By scheme, the module whose `open_store(url)` opens it; loaded when it is asked for."""


def open_objects(url: str) -> ObjectStore:
    """The store at `url`; raises `BadInput` as `storage.url` for what is none. Nothing is sent before the first use."""
    try:
        parts = urlsplit(url)
        scheme, named = parts.scheme, "@" in parts.netloc
    except ValueError:
        scheme, named = "", False
    if named:  # not repeated: it may be a password
        raise BadInput(
            "credentials stand in the URL of a store",
            code="storage.url_credentials",
            cure="Leave them out, and give them by the environment or a profile; see docs/data-sets.md.",
        )
    if scheme not in _BACKENDS:
        raise BadInput(
            "no store for this URL",
            code="storage.url",
            value=url.partition("?")[0],
            limit=", ".join(f"{name}://" for name in _BACKENDS),
            cure="Give a folder as file:///path, or a bucket as s3://bucket/prefix.",
        )
    return cast("ObjectStore", importlib.import_module(_BACKENDS[scheme]).open_store(url))


def check_key(key: str) -> str:
    """`key`, if every store can hold an object under it; raises `BadInput` as `storage.key`."""
    parts = key.split("/")
    if len(key) > _KEY_LENGTH or not all(_SEGMENT.fullmatch(part) and part not in {".", ".."} for part in parts):
        raise BadInput(
            "not the key of an object",
            code="storage.key",
            value=ascii(key),
            limit=f"names of letters, digits and ._=@- of at most 255, joined by /, at most {_KEY_LENGTH} in all",
        )
    return key


def is_key(text: str) -> bool:
    """Whether an object can stand under it."""
    try:
        return bool(check_key(text))
    except BadInput:
        return False


def check_prefix(prefix: str) -> str:
    """`prefix`, if keys can begin with it; raises `BadInput` as `storage.key`."""
    if len(prefix) > _KEY_LENGTH or not _PREFIX.fullmatch(prefix):
        raise BadInput("no key begins so", code="storage.key", value=ascii(prefix), limit=_PREFIX.pattern)
    return prefix


def check_range(start: int, size: int | None = None) -> None:
    """Raise `BadInput` as `storage.range` for a range that is none."""
    if start < 0 or (size is not None and size < 0):
        raise BadInput("not a range of an object", code="storage.range", value=f"{start}, {size}", limit=">= 0")


def swept(store: ObjectStore, now: float, *, dry_run: bool = False) -> int:
    """Remove what writers that died have left in the whole store; how many files it was, or would be."""
    return store.sweep(now - WRITTEN_S, dry_run=dry_run) if isinstance(store, LeavesParts) else 0


def unknown(store: ObjectStore, key: str) -> NotFound:
    """Nothing stands under `key`."""
    return NotFound("no such object in the store", code="storage.unknown", value=f"{key} at {store.url}")


def exists(store: ObjectStore, key: str) -> Conflict:
    """Somebody else created `key` before."""
    return Conflict("an object with this key is in the store", code="storage.exists", value=f"{key} at {store.url}")


def replaced(store: ObjectStore, key: str) -> Conflict:
    """What stands under `key` is not what was being read."""
    return Conflict(
        "the object was replaced while it was read",
        code="storage.replaced",
        value=f"{key} at {store.url}",
        cure="Nothing of it is used. See who writes there, and start again.",
    )


def commits(store: ObjectStore, token: str = "") -> None:
    """Prove that `create` is an atomic commit here: the second of two on one probe key has to fail.

    The key ends in `token`, random if there is none, and is deleted again. Raises `Refused` as `storage.no_commit`.
    """
    key = f"{_PROBES}/{token or secrets.token_hex(8)}"
    store.create(key, b"first")
    try:
        try:
            store.create(key, b"second")
        except AimassError as error:
            if error.code != "storage.exists":
                raise
        else:
            raise _no_commit(store, "a second object was created over the first")
        if (found := store.read(key)) != b"first":
            raise _no_commit(store, f"the first of two objects reads {found[:20]!r}")
    finally:
        store.delete(key)


def _no_commit(store: ObjectStore, found: str) -> Refused:
    return Refused(
        "this store does not keep two writers apart, and may not hold what has to be committed",
        code="storage.no_commit",
        value=f"{found}, at {store.url}",
        limit="creation under a condition (If-None-Match: *, or a rename without overwriting)",
        cure="Use a store or an endpoint that has it, or a newer release of this one.",
    )

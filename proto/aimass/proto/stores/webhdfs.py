"""A Hadoop file system over WebHDFS, the REST interface of name nodes and data nodes (Hadoop's WebHDFS.html).

Over urllib3 and without a second layer: fsspec's client holds whole files in memory, and knows one name node. Bytes go
to and come from a data node, whose address the name node answers with, and are never in memory whole. A name node that
is on standby or away makes the next one the first.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

import msgspec
import urllib3

from aimass.proto.errors import AimassError, Refused, Unauthenticated, Unavailable
from aimass.proto.objects import CHUNK_BYTES
from aimass.proto.stores.hdfs import HdfsObjects
from aimass.proto.stores.hdfs_errors import HdfsError
from aimass.proto.stores.hdfs_files import Status
from aimass.proto.stores.hdfs_place import Place, place_of, token_of, user_of
from aimass.proto.stores.retries import PATIENT, Retries
from aimass.proto.values import prepared

__all__ = ["Timeouts", "WebHdfs", "open_store"]

_PREFIX: Final = "/webhdfs/v1"
_TOKEN: Final = re.compile(r"(delegation=)[^&\s\"']*")
_LOGGER: Final = "urllib3.connectionpool"
_FAILOVER: Final = Retries(attempts=14)
"""Waits forty seconds on average: as long as it may take until one of two name nodes finds out that it is active."""
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds until a connection is given up, or one that takes no bytes, and until one that gives none is."""

    connect_s: float = 20.0
    silence_s: float = 60.0


class _FileStatus(msgspec.Struct, rename="camel", frozen=True):
    path_suffix: str
    type: Literal["FILE", "DIRECTORY", "SYMLINK"]
    length: int
    modification_time: int
    file_id: int = 0


class _Found(msgspec.Struct, rename="pascal", frozen=True):
    file_status: _FileStatus


class _Statuses(msgspec.Struct, rename="pascal", frozen=True):
    file_status: tuple[_FileStatus, ...]


class _Partial(msgspec.Struct, rename="pascal", frozen=True):
    file_statuses: _Statuses


class _Page(msgspec.Struct, rename="camel", frozen=True):
    partial_listing: _Partial
    remaining_entries: int


class _Listing(msgspec.Struct, rename="pascal", frozen=True):
    directory_listing: _Page


class _Truth(msgspec.Struct, frozen=True):
    boolean: bool


class _Exception(msgspec.Struct, frozen=True):
    exception: str
    message: str | None = ""


class _Remote(msgspec.Struct, rename="pascal", frozen=True):
    remote_exception: _Exception


def open_store(url: str) -> HdfsObjects:
    """The folder that `url` names, as the user of HADOOP_USER_NAME or of a delegation token."""
    place = place_of(url)
    retries = PATIENT if len(place.name_nodes) == 1 else _FAILOVER
    return HdfsObjects(place.url, WebHdfs(place, os.environ), place.root, retries)


class WebHdfs:
    """`HadoopFiles` over REST; for any number of threads of one process.

    Kerberos itself is not spoken: clusters that ask for it give delegation tokens.
    """

    def __init__(self, place: Place, environment: Mapping[str, str], timeouts: Timeouts = Timeouts()) -> None:
        self._transport = "https" if place.scheme == "swebhdfs" else "http"
        self._name_nodes, self._active, self._lock = place.name_nodes, 0, threading.Lock()
        self._failed = ""
        self._user, self._token = user_of(environment), token_of(environment)
        self._pool = urllib3.PoolManager(
            maxsize=16, timeout=urllib3.Timeout(connect=timeouts.connect_s, read=timeouts.silence_s)
        )
        _without_tokens()

    def status(self, path: str) -> Status | None:
        """GETFILESTATUS."""
        try:
            return _status(self._told(_Found, "GET", path, "GETFILESTATUS").file_status)
        except HdfsError as error:
            if error.absent:
                return None
            raise

    def entries(self, path: str) -> Iterator[Status]:
        """LISTSTATUS_BATCH, until nothing remains."""
        after, left = "", 1
        while left:
            try:
                page = self._told(_Listing, "GET", path, "LISTSTATUS_BATCH", startAfter=after).directory_listing
            except HdfsError as error:
                if error.absent:
                    return
                raise
            found = page.partial_listing.file_statuses.file_status
            yield from map(_status, found)
            after, left = (found[-1].path_suffix, page.remaining_entries) if found else ("", 0)

    def open(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """OPEN, in two steps."""
        where = self._redirected("GET", path, "OPEN", offset=str(start), length=str(size))
        with self._data_node(where), self._answer("GET", where) as answer:
            yield from answer.stream(CHUNK_BYTES)

    def create(self, path: str, chunks: Iterable[memoryview]) -> None:
        """CREATE, in two steps, of a file that is not there."""
        where = self._redirected("PUT", path, "CREATE", overwrite="false")
        with self._data_node(where), self._answer("PUT", where, chunks) as answer:
            answer.drain_conn()

    def make_folder(self, path: str) -> None:
        """MKDIRS."""
        if not self._told(_Truth, "PUT", path, "MKDIRS").boolean:
            raise HdfsError("IOException", "the folder was not made")

    def rename(self, source: str, target: str, *, overwrite: bool) -> None:
        """RENAME with options: the one without would move into a folder of that name, and says little."""
        options = "OVERWRITE" if overwrite else "NONE"
        answer = self._asked("PUT", source, "RENAME", destination=target, renameoptions=options)
        if answer.strip():  # HttpFS takes no options, and renames as it likes
            raise Refused(
                "this server does not rename under a condition",
                code="storage.unsupported",
                limit="the name nodes' own WebHDFS",
                cure="Name the name nodes instead of an HttpFS server, or use hdfs://.",
            )

    def delete(self, path: str) -> None:
        """DELETE, of a file or an empty folder."""
        self._told(_Truth, "DELETE", path, "DELETE", recursive="false")

    def _told(self, kind: type[A], method: str, path: str, op: str, **arguments: str) -> A:
        body = self._asked(method, path, op, **arguments)
        try:
            return msgspec.json.decode(body, type=prepared(kind))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise _unavailable(f"no answer of WebHDFS to {op}") from None

    def _asked(self, method: str, path: str, op: str, **arguments: str) -> bytes:
        with self._name_node() as base, self._answer(method, self._url(base, path, op, arguments)) as answer:
            return answer.read()

    def _redirected(self, method: str, path: str, op: str, **arguments: str) -> str:
        """The address of a data node that will do it; not of one that has just failed, if there is another."""
        with self._lock:
            failed, self._failed = self._failed, ""
        if failed:
            with suppress(HdfsError):
                return self._sent_to(method, path, op, excludedatanodes=failed, **arguments)
        return self._sent_to(method, path, op, **arguments)

    def _sent_to(self, method: str, path: str, op: str, **arguments: str) -> str:
        with self._name_node() as base:
            url = self._url(base, path, op, arguments)
            with self._answer(method, url) as answer:
                where = urljoin(url, answer.headers.get("Location", ""))
                answer.drain_conn()
        if answer.status != 307 or urlsplit(where).scheme != self._transport:
            raise Refused(
                "the name node sends us to no data node of its kind",
                code="storage.redirect",
                value=f"{answer.status} {urlsplit(where).scheme}://{urlsplit(where).hostname}",
                limit=f"307 {self._transport}://",
                cure="WebHDFS of a cluster is all http, or all https (swebhdfs://); HttpFS is not supported.",
            )
        return where

    def _url(self, base: str, path: str, op: str, arguments: Mapping[str, str]) -> str:
        token = self._token()
        who = {"delegation": token.reveal().decode("ascii", "replace")} if token else {"user.name": self._user}
        query = urlencode({"op": op, **arguments, **{name: value for name, value in who.items() if value}})
        return f"{base}{_PREFIX}{quote(path)}?{query}"

    @contextmanager
    def _name_node(self) -> Iterator[str]:
        """The one that is active, as far as we know; where it is not, the next try goes to another."""
        tried = self._active
        try:
            yield f"{self._transport}://{self._name_nodes[tried]}"
        except (HdfsError, Unavailable) as error:
            if isinstance(error, Unavailable) or error.java == "StandbyException":
                with self._lock:
                    if self._active == tried:
                        self._active = (tried + 1) % len(self._name_nodes)
            raise

    @contextmanager
    def _data_node(self, where: str) -> Iterator[None]:
        """Remember it for the next try where its link breaks: the name node may take minutes to find out."""
        try:
            yield
        except Unavailable:
            with self._lock:
                self._failed = urlsplit(where).netloc
            raise

    @contextmanager
    def _answer(
        self, method: str, url: str, body: Iterable[memoryview] | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer, if it is no error; its connection is kept where it was read to its end."""
        try:
            answer = self._pool.request(
                method,
                url,
                body=cast("Any", body),  # its types know no memoryview; what it does with one is right
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as error:  # not its text: a URL with a token may stand in it
            raise _broken(error) from None
        try:
            if answer.status >= 400:
                raise _error(answer.status, _blotted(url, answer.read()))
            yield answer
        except urllib3.exceptions.HTTPError as error:
            raise _broken(error) from None
        finally:
            answer.close()


def _status(found: _FileStatus) -> Status:
    folder = found.type != "FILE"  # of a link, neither
    return Status(found.path_suffix, found.length, found.modification_time, found.file_id, folder)


def _error(status: int, body: bytes) -> Exception:
    try:
        told = msgspec.json.decode(body, type=_Remote).remote_exception
        return HdfsError(told.exception, told.message or "")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    if status == 401:
        return HdfsError("AccessControlException", "Authentication required")
    if status >= 500 or status in {408, 429}:
        return _unavailable(f"HTTP status {status}")
    return Refused(
        "what answers there is no WebHDFS",
        code="storage.refused",
        value=f"HTTP status {status}",
        cure="Name the HTTP address of the name node (dfs.namenode.http-address), and its port.",
    )


def _broken(error: urllib3.exceptions.HTTPError) -> AimassError:
    if error.args and isinstance(error.args[0], ssl.SSLCertVerificationError):
        return Unauthenticated(
            "the store's certificate is of nobody whom we trust",
            code="storage.certificate",
            value=error.args[0].verify_message,
            cure="Name the file with its authority by SSL_CERT_FILE.",
        )
    return _unavailable(type(error).__name__)


def _unavailable(what: str) -> Unavailable:
    return Unavailable("the store does not answer", code="storage.unavailable", value=what)


def _blotted(url: str, body: bytes) -> bytes:
    """What was answered to `url`, without the token in it: servers quote arguments that they cannot read."""
    token = dict(parse_qsl(urlsplit(url).query)).get("delegation", "")
    return body.replace(token.encode(), b"***") if token else body


def _without_tokens() -> None:
    """Nobody's log of requests shows a token: WebHDFS takes it in the URL alone."""
    logger = logging.getLogger(_LOGGER)
    if _redacted not in logger.filters:
        logger.addFilter(_redacted)


def _redacted(record: logging.LogRecord) -> bool:
    record.msg, record.args = _TOKEN.sub(r"\1***", record.getMessage()), None
    return True

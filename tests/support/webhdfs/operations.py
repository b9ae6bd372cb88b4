"""What a name node answers to each operation of WebHDFS, over a namespace: values in, values out."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from tests.support.webhdfs.namespace import Inode, Namespace, Remote

PREFIX: Final = "/webhdfs/v1"
_STATUS: Final[Mapping[str, int]] = {
    "FileNotFoundException": 404,
    "IllegalArgumentException": 400,
    "UnsupportedOperationException": 400,
    "RuntimeException": 500,
}
"""By Java exception; every other is an IOException or about security, and 403 (ExceptionHandler of the name node)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One operation."""

    method: str
    op: str
    path: str
    arguments: Mapping[str, str]
    node: int
    data: bool

    def true(self, name: str, default: str = "false") -> bool:
        return self.arguments.get(name, default).lower() == "true"

    def number(self, name: str, default: int) -> int:
        return int(self.arguments.get(name, default))


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a node says."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/octet-stream"),)

    @classmethod
    def of(cls, value: object, status: int = 200) -> Answer:
        return cls(json.dumps(value).encode(), status, (("Content-Type", "application/json"),))

    @classmethod
    def error(cls, error: Remote) -> Answer:
        simple = re.split(r"[.$]", error.java)[-1]
        fields = {"exception": simple, "javaClassName": error.java, "message": error.message}
        return cls.of({"RemoteException": fields}, _STATUS.get(simple, 403))


def name_node(namespace: Namespace, request: Request, data_node: Callable[[str], str]) -> Answer:
    """What the active name node answers; `data_node` gives the address of one that is not among some."""
    operation = _OPERATIONS.get((request.method, request.op))
    if operation is not None:
        return operation(namespace, request)
    if (request.method, request.op) in {("GET", "OPEN"), ("PUT", "CREATE")}:
        return _redirect(namespace, request, data_node(request.arguments.get("excludedatanodes", "")))
    raise Remote("java.lang.IllegalArgumentException", f'Invalid value for webhdfs parameter "op": {request.op}')


def _redirect(namespace: Namespace, request: Request, data_node: str) -> Answer:
    if request.op == "OPEN":
        inode = namespace.status(request.path)
        start, length = request.number("offset", 0), inode.visible
        if inode.children is not None:
            raise Remote("java.io.FileNotFoundException", f"Path is not a file: {request.path}")
        if start < 0 or (start >= length > 0):
            raise Remote(
                "java.io.IOException", f"Offset={start} out of the range [0, {length}); OPEN, path={request.path}"
            )
    elif namespace.limits.safe_mode:
        namespace.mkdirs(request.path)  # raises
    elif namespace.limits.data_nodes == 0:
        raise Remote("java.io.IOException", f"Failed to find datanode, suggest to check cluster health. {request.path}")
    query = urlencode({"op": request.op, **request.arguments, "namenoderpcaddress": "127.0.0.1:8020"})
    location = f"{data_node}{PREFIX}{request.path}?{query}"
    if request.true("noredirect"):
        return Answer.of({"Location": location})
    return Answer(status=307, headers=(("Location", location), ("Content-Type", "application/octet-stream")))


def _described(name: str, inode: Inode) -> dict[str, object]:
    folder = inode.children is not None
    return {
        "accessTime": 0 if folder else inode.modified_ms,
        "blockSize": 0 if folder else 1 << 27,
        "childrenNum": len(inode.children or ()),
        "fileId": inode.id,
        "group": "supergroup",
        "length": inode.visible,
        "modificationTime": inode.modified_ms,
        "owner": "alice",
        "pathSuffix": name,
        "permission": "755" if folder else "644",
        "replication": 0 if folder else 1,
        "storagePolicy": 0,
        "type": "DIRECTORY" if folder else "FILE",
    }


def _status(namespace: Namespace, request: Request) -> Answer:
    return Answer.of({"FileStatus": _described("", namespace.status(request.path))})


def _list(namespace: Namespace, request: Request) -> Answer:
    entries, _ = namespace.listing(request.path)
    return Answer.of({"FileStatuses": {"FileStatus": [_described(*entry) for entry in entries]}})


def _list_batch(namespace: Namespace, request: Request) -> Answer:
    entries, left = namespace.listing(request.path, request.arguments.get("startafter", ""), namespace.page)
    page = {"FileStatuses": {"FileStatus": [_described(*entry) for entry in entries]}}
    return Answer.of({"DirectoryListing": {"partialListing": page, "remainingEntries": left}})


def _home(namespace: Namespace, request: Request) -> Answer:
    return Answer.of({"Path": f"/user/{request.arguments.get('user.name', 'dr.who')}"})


def _defaults(namespace: Namespace, request: Request) -> Answer:
    fields = {
        "blockSize": 1 << 27,
        "bytesPerChecksum": 512,
        "checksumType": 2,
        "defaultStoragePolicyId": 7,
        "encryptDataTransfer": False,
        "fileBufferSize": 4096,
        "keyProviderUri": "",
        "replication": 1,
        "snapshotTrashRootEnabled": False,
        "trashInterval": 0,
        "writePacketSize": 65536,
    }
    return Answer.of({"FsServerDefaults": fields})


def _mkdirs(namespace: Namespace, request: Request) -> Answer:
    return Answer.of({"boolean": namespace.mkdirs(request.path)})


def _rename(namespace: Namespace, request: Request) -> Answer:
    target = request.arguments["destination"]
    options = request.arguments.get("renameoptions", "")
    if not options:
        return Answer.of({"boolean": namespace.rename_old(request.path, target)})
    namespace.rename(request.path, target, overwrite="OVERWRITE" in options.split(","))
    return Answer()


def _delete(namespace: Namespace, request: Request) -> Answer:
    return Answer.of({"boolean": namespace.delete(request.path, recursive=request.true("recursive"))})


_OPERATIONS: Final[Mapping[tuple[str, str], Callable[[Namespace, Request], Answer]]] = {
    ("GET", "GETFILESTATUS"): _status,
    ("GET", "LISTSTATUS"): _list,
    ("GET", "LISTSTATUS_BATCH"): _list_batch,
    ("GET", "GETHOMEDIRECTORY"): _home,
    ("GET", "GETSERVERDEFAULTS"): _defaults,
    ("PUT", "MKDIRS"): _mkdirs,
    ("PUT", "RENAME"): _rename,
    ("DELETE", "DELETE"): _delete,
}

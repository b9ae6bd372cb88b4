"""What a name node knows: folders and files with their ids, leases, limits, and the rules of each change.

In memory, for tests. The rules are those of Hadoop's file system specification (filesystem.html) and of its name node
where that one is stricter; both renames are here, the old one with its traps. Whatever breaks a rule raises `Remote`
with the name of the Java exception that a real name node answers with.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

PAGE: Final = 1000
"""Entries of one answer to a listing: `dfs.ls.limit`."""
_COMPONENT: Final = 255
_FIRST_ID: Final = 16386  # as a fresh HDFS counts


class Remote(Exception):
    """A Java exception of the server, by its class."""

    def __init__(self, java: str, message: str) -> None:
        self.java, self.message = java, message
        super().__init__(f"{java}: {message}")


def io_error(message: str) -> Remote:
    return Remote("java.io.IOException", message)


def not_found(path: str) -> Remote:
    return Remote("java.io.FileNotFoundException", f"File does not exist: {path}")


def already_exists(path: str) -> Remote:
    return Remote("org.apache.hadoop.fs.FileAlreadyExistsException", f"{path} already exists")


def no_folder(path: str) -> Remote:
    return Remote("org.apache.hadoop.fs.ParentNotDirectoryException", f"{path} (is not a directory)")


@dataclasses.dataclass(slots=True, eq=False)
class Inode:
    """A file, or a folder where `children` is not None. `holder` has the lease of a file that is being written."""

    id: int
    modified_ms: int
    children: dict[str, Inode] | None = None
    data: bytearray = dataclasses.field(default_factory=bytearray)
    holder: str = ""

    @property
    def visible(self) -> int:
        """Length that the name node tells: of a file that is being written, nothing yet."""
        return 0 if self.holder else len(self.data)


@dataclasses.dataclass(slots=True)
class Limits:
    """What a test makes scarce. Bytes and names of all files together, and the nodes that can take blocks."""

    bytes: int | None = None
    names: int | None = None
    data_nodes: int = 1
    safe_mode: bool = False


class Namespace:
    """One tree of files, changed by one call at a time; `events` hears of each change that was made."""

    def __init__(self, clock: Callable[[], float] = time.time, page: int = PAGE) -> None:
        self.limits, self.page = Limits(), page
        self.lock = threading.RLock()
        self.events: list[str] = []
        self._clock, self._last_id = clock, _FIRST_ID - 1
        self._root = self._inode(folder=True)

    def status(self, path: str) -> Inode:
        """The file or folder at `path`."""
        with self.lock:
            found = self._find(path)
            if found is None:
                raise not_found(path)
            return found

    def listing(self, path: str, after: str = "", most: int | None = None) -> tuple[list[tuple[str, Inode]], int]:
        """Entries in the order of their bytes that come after one, and how many are left; of a file, itself."""
        with self.lock:
            found = self.status(path)
            if found.children is None:
                return [("", found)], 0
            names = sorted((name for name in found.children if name.encode() > after.encode()), key=str.encode)
            page = names if most is None else names[:most]
            return [(name, found.children[name]) for name in page], len(names) - len(page)

    def mkdirs(self, path: str) -> bool:
        """Make a folder and those above it."""
        with self.lock:
            self._writable(path)
            found = self._root
            for name, place in _walk(path):
                assert found.children is not None
                if name not in found.children:
                    self._room(names=1)
                    found.children[name] = self._inode(folder=True)
                    self.events.append(f"mkdir {place}")
                found = found.children[name]
                if found.children is None:
                    raise no_folder(place) if place != path else already_exists(path)
            return True

    def create(self, path: str, holder: str, *, overwrite: bool) -> Inode:
        """A file that `holder` writes; folders above it are made."""
        with self.lock:
            self._writable(path)
            found = self._find(path)
            if found is not None:
                if found.children is not None:
                    raise already_exists(f"{path} already exists as a directory")
                if found.holder and found.holder != holder:
                    raise Remote(
                        "org.apache.hadoop.hdfs.protocol.AlreadyBeingCreatedException",
                        f"Failed to CREATE_FILE {path} for {holder}: this file lease is currently owned by another",
                    )
                if not overwrite:
                    raise already_exists(path)
            parent = _parent(path)
            self.mkdirs(parent)
            self._room(names=1)
            made = self._inode()
            made.holder = holder
            self._folder(parent)[_name(path)] = made
            self.events.append(f"create {path}")
            return made

    def append(self, inode: Inode, data: bytes) -> None:
        """Add bytes to a file that is being written."""
        with self.lock:
            if self.limits.data_nodes == 0:
                raise io_error(
                    "File could only be written to 0 of the 1 minReplication nodes. There are 0 datanode(s) running"
                )
            self._room(bytes_=len(data))
            inode.data += data

    def complete(self, inode: Inode) -> None:
        """End the writing of a file, whoever holds it: as the data node does, also where its writer is cut off."""
        with self.lock:
            inode.holder, inode.modified_ms = "", self._stamp()

    def rename_old(self, source: str, target: str) -> bool:
        """The first rename: into a folder that stands there, and false rather than an error."""
        with self.lock:
            self._writable(source)
            moved, there = self._find(source), self._find(target)
            if there is not None and there.children is not None:
                target = f"{target.rstrip('/')}/{_name(source)}"
                there = self._find(target)
            if moved is None or there is not None:
                return False
            parent = self._find(_parent(target))
            if parent is None or parent.children is None:
                return False
            self._move(source, target)
            return True

    def rename(self, source: str, target: str, *, overwrite: bool) -> None:
        """The second rename, with POSIX's rules."""
        with self.lock:
            self._writable(source)
            moved = self._find(source)
            if moved is None:
                raise Remote("java.io.FileNotFoundException", f"rename source {source} is not found.")
            if source == target:
                raise already_exists(f"The source {source} and destination {target} are the same")
            there = self._find(target)
            if there is not None:
                if (there.children is None) != (moved.children is None):
                    raise io_error(f"Source {source} and destination {target} must both be directories")
                if not overwrite:
                    raise already_exists(f"rename destination {target}")
                if there.children:
                    raise io_error(f"rename destination directory is not empty: {target}")
            parent = self._find(_parent(target))
            if parent is None:
                raise Remote("java.io.FileNotFoundException", f"rename destination parent {target} not found.")
            if parent.children is None:
                raise no_folder(f"rename destination parent {target} is a file.")
            self._move(source, target)

    def delete(self, path: str, *, recursive: bool) -> bool:
        """Remove a file or a folder; false if nothing is there."""
        with self.lock:
            self._writable(path)
            found = self._find(path)
            if found is None or found is self._root:
                return False
            if found.children and not recursive:
                raise Remote("org.apache.hadoop.fs.PathIsNotEmptyDirectoryException", f"{path} is non empty")
            del self._folder(_parent(path))[_name(path)]
            self.events.append(f"delete {path}")
            return True

    def files(self) -> dict[str, bytes]:
        """Every file with its bytes, for a test that looks behind the scenes."""
        with self.lock:
            return {path: bytes(inode.data) for path, inode in self._all("", self._root) if inode.children is None}

    def _all(self, path: str, inode: Inode) -> Iterator[tuple[str, Inode]]:
        yield path, inode
        for name, child in (inode.children or {}).items():
            yield from self._all(f"{path}/{name}", child)

    def _move(self, source: str, target: str) -> None:
        moved = self._folder(_parent(source)).pop(_name(source))
        self._folder(_parent(target))[_name(target)] = moved
        self.events.append(f"rename {source} {target}")

    def _folder(self, path: str) -> dict[str, Inode]:
        found = self.status(path).children
        if found is None:
            raise no_folder(path)
        return found

    def _find(self, path: str) -> Inode | None:
        found = self._root
        above = "/"
        for name, place in _walk(path):
            if found.children is None:
                raise no_folder(above)
            if name not in found.children:
                return None
            found, above = found.children[name], place
        return found

    def _inode(self, *, folder: bool = False) -> Inode:
        self._last_id += 1
        return Inode(self._last_id, self._stamp(), {} if folder else None)

    def _stamp(self) -> int:
        return int(self._clock() * 1000)

    def _writable(self, path: str) -> None:
        if self.limits.safe_mode:
            raise Remote(
                "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
                f"Cannot change {path}. Name node is in safe mode.\nIt was turned on manually.",
            )
        for name, _ in _walk(path):
            if len(name.encode()) > _COMPONENT:
                raise Remote(
                    "org.apache.hadoop.hdfs.protocol.FSLimitException$PathComponentTooLongException",
                    f"The maximum path component name limit of {name} is exceeded: limit={_COMPONENT}",
                )

    def _room(self, *, bytes_: int = 0, names: int = 0) -> None:
        limits = self.limits
        if limits.bytes is not None and sum(map(len, self.files().values())) + bytes_ > limits.bytes:
            raise Remote(
                "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException",
                f"The DiskSpace quota of / is exceeded: quota = {limits.bytes} B",
            )
        if limits.names is not None and sum(1 for _ in self._all("", self._root)) + names > limits.names:
            raise Remote(
                "org.apache.hadoop.hdfs.protocol.NSQuotaExceededException",
                f"The NameSpace quota (directories and files) of / is exceeded: quota={limits.names}",
            )


def _walk(path: str) -> Iterator[tuple[str, str]]:
    """Name and path of everything on the way, the root left out; a path that HDFS does not take is refused."""
    if not path.startswith("/"):
        raise Remote("java.lang.IllegalArgumentException", f"Invalid value: {path!r} is not an absolute path")
    place = ""
    for name in path.strip("/").split("/"):
        if name in {".", ".."} or ":" in name or (not name and path != "/"):
            raise Remote("org.apache.hadoop.fs.InvalidPathException", f"Invalid path name {path}")
        if name:
            place += f"/{name}"
            yield name, place


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _name(path: str) -> str:
    return path.rpartition("/")[2]

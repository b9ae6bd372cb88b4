"""The seam between objects on HDFS and its clients: the verbs of a Hadoop file system, and what they tell."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from aimass.proto.objects import is_key

__all__ = ["HadoopFiles", "Status", "in_key_order"]


@dataclass(frozen=True, slots=True)
class Status:
    """A file or folder. `inode` is never used a second time; 0 where the file system has none."""

    name: str
    size: int
    modified_ms: int
    inode: int = 0
    folder: bool = False

    @property
    def version(self) -> str:
        """Another content has another one."""
        return f"{self.inode:x}-{self.modified_ms:x}-{self.size:x}"


class HadoopFiles(Protocol):
    """The verbs of a Hadoop file system, each one try. Raises `HdfsError`, and `Unavailable` where a link breaks."""

    def status(self, path: str) -> Status | None:
        """What stands at `path`."""
        ...

    def entries(self, path: str) -> Iterator[Status]:
        """What is in a folder, if it is there, in the order of names, asked for page by page."""
        ...

    def open(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """`size` bytes from `start`, which the file has, in chunks of at most `CHUNK_BYTES`."""
        ...

    def create(self, path: str, chunks: Iterable[memoryview]) -> None:
        """Write a file that is not there, and the folders above it."""
        ...

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it, where they are not there."""
        ...

    def rename(self, source: str, target: str, *, overwrite: bool) -> None:
        """Move a file to a name, which only `overwrite` takes from another file."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file that may be there."""
        ...


def in_key_order(entries: Iterable[Status]) -> Iterator[Status]:
    """Entries of a folder, which come by name, in the order of their keys, without those whose names are none.

    The keys in a folder go on with "/": "a-b" comes before "a/b", and that before "a0". So a folder is held back until
    nothing can come before it.
    """
    held: list[tuple[str, Status]] = []
    for one in entries:
        while held and held[0][0] < one.name:
            yield heapq.heappop(held)[1]
        if not is_key(one.name):
            continue
        if one.folder:
            heapq.heappush(held, (f"{one.name}/", one))
        else:
            yield one
    while held:
        yield heapq.heappop(held)[1]

"""A Hadoop file system through Hadoop's own Java client: `hdfs://name-node:8020/folder`, with all that it is set to.

Kerberos, encryption and name services are those of the settings in HADOOP_CONF_DIR. A store that is opened in many
processes starts a Java machine in each; where that is too much, `webhdfs://` needs none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from aimass.proto.objects import CHUNK_BYTES
from aimass.proto.stores.hdfs import HdfsObjects
from aimass.proto.stores.hdfs_errors import HdfsError
from aimass.proto.stores.hdfs_files import Status
from aimass.proto.stores.hdfs_place import Place, place_of
from aimass.proto.stores.java import Java, java_errors, machine

__all__ = ["JavaFiles", "address_of", "open_store"]

_HDFS: Final = frozenset({"hdfs", "swebhdfs", "webhdfs"})
_SERVICE: Final = "aimass"
_ADDRESS: Final[Mapping[str, str]] = {"hdfs": "rpc", "swebhdfs": "https", "webhdfs": "http"}
_FAILOVER: Final = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"


def open_store(url: str) -> HdfsObjects:
    """The folder that `url` names. Java starts with the first use."""
    place = place_of(url)
    return HdfsObjects(place.url, JavaFiles(*address_of(place)), place.root)


def address_of(place: Place) -> tuple[str, Mapping[str, str]]:
    """The URI that Java opens, and its settings: several name nodes are a name service ("HDFS High Availability")."""
    if len(place.name_nodes) < 2:
        return f"{place.scheme}://{''.join(place.name_nodes)}/", {}
    nodes = {f"n{number}": address for number, address in enumerate(place.name_nodes)}
    kind = f"dfs.namenode.{_ADDRESS[place.scheme]}-address.{_SERVICE}"
    return f"{place.scheme}://{_SERVICE}/", {
        "dfs.nameservices": _SERVICE,
        f"dfs.ha.namenodes.{_SERVICE}": ",".join(nodes),
        f"dfs.client.failover.proxy.provider.{_SERVICE}": _FAILOVER,
        **{f"{kind}.{name}": address for name, address in nodes.items()},
    }


class JavaFiles:
    """`HadoopFiles` of any file system that Hadoop has a client for; atomic are the renames of HDFS alone."""

    def __init__(self, uri: str, settings: Mapping[str, str], java: Callable[[], Java] = machine) -> None:
        self._uri, self._settings, self._java, self._lock = uri, settings, java, threading.Lock()
        self._is_hdfs = uri.partition(":")[0] in _HDFS
        self._opened: tuple[Java, Any, Any] | None = None

    def status(self, path: str) -> Status | None:
        """getFileStatus."""
        try:
            with java_errors():
                return self._status(self._files().getFileStatus(self._path(path)))
        except HdfsError as error:
            if error.absent:
                return None
            raise

    def entries(self, path: str) -> Iterator[Status]:
        """listStatusIterator, which HDFS orders by name."""
        found = self._listed(path)
        return found if self._is_hdfs else iter(sorted(found, key=lambda one: one.name))

    def open(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """Open, seek, and let Java copy."""
        java, classes = self._java(), self._java().classes

        def send(far: Any) -> None:
            source = self._files().open(self._path(path))
            try:
                source.seek(start)
                java.copy(classes.org.apache.hadoop.util.LimitInputStream(source, size), far.getOutputStream())
            finally:
                source.close()

        left = size
        with java.piped(send) as near:
            while left and (chunk := near.recv(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk

    def create(self, path: str, chunks: Iterable[memoryview]) -> None:
        """Create without overwriting, and let Java copy."""
        java = self._java()

        def receive(far: Any) -> None:
            target = self._files().create(self._path(path), False)
            try:
                java.copy(far.getInputStream(), target)
            finally:
                target.close()

        with java.piped(receive) as near:
            for chunk in chunks:
                near.sendall(chunk)

    def make_folder(self, path: str) -> None:
        """Mkdirs."""
        with java_errors():
            if not self._files().mkdirs(self._path(path)):
                raise HdfsError("IOException", "the folder was not made")

    def rename(self, source: str, target: str, *, overwrite: bool) -> None:
        """Rename with options: of HDFS, one step of its name node; elsewhere, as FileContext does it."""
        with java_errors():
            java = self._java()
            kinds = java.classes.org.apache.hadoop.fs.Options.Rename
            options = java.array(kinds, kinds.OVERWRITE if overwrite else kinds.NONE)
            self._open(java)[2].rename(self._path(source), self._path(target), options)

    def delete(self, path: str) -> None:
        """Delete, of a file or an empty folder."""
        with java_errors():
            self._files().delete(self._path(path), False)

    def _listed(self, path: str) -> Iterator[Status]:
        try:
            with java_errors():
                found = self._files().listStatusIterator(self._path(path))
                while found.hasNext():
                    one = found.next()
                    if one.getPath().toUri().getPath() != path:  # a file is listed as itself
                        yield self._status(one)
        except HdfsError as error:
            if not error.absent:
                raise

    def _status(self, found: Any) -> Status:
        return Status(
            str(found.getPath().getName()),
            int(found.getLen()),
            int(found.getModificationTime()),
            int(found.getFileId()) if self._is_hdfs else 0,
            not found.isFile(),
        )

    def _path(self, path: str) -> Any:
        return self._java().classes.org.apache.hadoop.fs.Path(path)

    def _files(self) -> Any:
        return self._open(self._java())[1]

    def _open(self, java: Java) -> tuple[Java, Any, Any]:
        """The machine that runs now, the file system in it, and who renames there."""
        with self._lock:
            if self._opened is None or self._opened[0] is not java:
                fs, uri = java.classes.org.apache.hadoop.fs, java.classes.java.net.URI(self._uri)
                configuration = java.classes.org.apache.hadoop.conf.Configuration()
                for name, value in self._settings.items():
                    configuration.set(name, value)
                files = fs.FileSystem.newInstance(uri, configuration)
                files.setWriteChecksum(False)  # a local one writes sums beside each file, which would be objects
                renamer = files if self._is_hdfs else fs.FileContext.getFileContext(uri, configuration)
                self._opened = (java, files, renamer)
            return self._opened

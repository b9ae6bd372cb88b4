"""A Java machine beside this process, for file systems that only Java speaks; py4j carries calls, sockets carry bytes.

There is one for all stores of a process. Its classes are those of an installed Hadoop, or else of pyspark. py4j writes
bytes as text, at some 10 MB/s; so both ends open a socket on the loopback, which Java copies from or to by itself.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from aimass.proto.errors import NotInstalled, Unavailable
from aimass.proto.stores.hdfs_errors import HdfsError

__all__ = ["Java", "classpath", "java_errors", "machine"]

_BUFFER_BYTES: Final = 1 << 16
_SILENCE_S: Final = 600.0
"""Longer than Hadoop's own timeouts, whose errors say more."""
_HEAP: Final = "-Xmx512m"


class Java:
    """A running machine; `classes` is Java's name space, as `classes.java.net.URI`."""

    def __init__(self, gateway: Any, process: subprocess.Popen[bytes]) -> None:
        self._gateway, self._process = gateway, process
        self.classes: Any = gateway.jvm

    def array(self, kind: Any, *values: Any) -> Any:
        """A Java array, as methods with `...` take it."""
        made = self._gateway.new_array(kind, len(values))
        for place, value in enumerate(values):
            made[place] = value
        return made

    @contextmanager
    def piped(self, work: Callable[[Any], None]) -> Iterator[socket.socket]:
        """A socket, whose other end `work` gets as a Java socket, on a thread; what it raises comes at the end."""
        with socket.create_server(("127.0.0.1", 0)) as door, java_errors():
            far = self.classes.java.net.Socket("127.0.0.1", door.getsockname()[1])
            near = _accepted(door, far.getLocalPort())
        with ThreadPoolExecutor(1) as pool, near:
            near.settimeout(_SILENCE_S)
            done = pool.submit(_worked, work, far)
            try:
                yield near
            except OSError as error:  # of this socket, for the most part since `work` failed, which says why
                near.close()
                done.result()
                raise Unavailable("Java broke off", code="storage.unavailable", value=type(error).__name__) from error
            with suppress(OSError):
                near.shutdown(socket.SHUT_WR)
            done.result()

    def copy(self, source: Any, target: Any) -> None:
        """All bytes of a Java stream to another, inside Java."""
        self.classes.org.apache.hadoop.io.IOUtils.copyBytes(source, target, _BUFFER_BYTES, False)

    def close(self) -> None:
        """End the machine."""
        with suppress(Exception):
            self._gateway.shutdown()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


@contextmanager
def java_errors() -> Iterator[None]:
    """Turn what py4j raises into `HdfsError`, or into `Unavailable` where the machine itself is gone."""
    try:
        from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError:
        raise _no_java("no py4j") from None
    try:
        yield
    except Py4JNetworkError:
        _forget()
        raise Unavailable("the Java machine is gone", code="storage.unavailable") from None
    except Py4JJavaError as error:
        told = _error(error.java_exception)
    except Py4JError as error:  # a class or a method is not there, in this release of Hadoop
        told = HdfsError("Py4JError", str(error))
    else:
        return
    raise told


def classpath(environment: Mapping[str, str]) -> str:
    """Where Java finds Hadoop: settings first, then the classes of `hadoop` if it is installed, or of pyspark."""
    settings = environment.get("HADOOP_CONF_DIR", "")
    home = environment.get("HADOOP_HOME", "")
    hadoop = shutil.which("hadoop", path=f"{home}/bin" if home else environment.get("PATH"))
    if hadoop:
        told = subprocess.run([hadoop, "classpath", "--glob"], capture_output=True, text=True, check=False)
        found = told.stdout.strip() if told.returncode == 0 else ""
    else:
        spark = importlib.util.find_spec("pyspark")
        found = f"{Path(spark.origin).parent}/jars/*" if spark is not None and spark.origin else ""
    if not found:
        raise NotInstalled(
            "there is no Hadoop here, and hdfs:// is spoken through its Java client",
            code="storage.no_hadoop",
            cure="Set HADOOP_HOME, or pip install 'aimass[offline]', which brings one; or use webhdfs://.",
        )
    return f"{settings}{os.pathsep}{found}" if settings else found


_lock = threading.Lock()
_running: dict[int, Java] = {}  # by process: who was forked has a machine of its own


def machine() -> Java:
    """The machine of this process, started by the first who asks."""
    with _lock:
        if os.getpid() not in _running:
            _running[os.getpid()] = started = _started(os.environ)
            atexit.register(started.close)
        return _running[os.getpid()]


def _forget() -> None:
    with _lock:
        _running.pop(os.getpid(), None)


def _started(environment: Mapping[str, str]) -> Java:
    home = environment.get("JAVA_HOME", "")
    java = shutil.which("java", path=f"{home}/bin" if home else environment.get("PATH"))
    if java is None:
        raise _no_java("no java")
    from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway  # noqa: PLC0415

    port, token, process = launch_gateway(
        jarpath=_py4j_jar(),
        classpath=classpath(environment),
        javaopts=[_HEAP],
        java_path=java,
        die_on_exit=True,
        enable_auth=True,
        create_new_process_group=True,  # Ctrl-C is for this process, which then ends the machine
        return_proc=True,
    )
    return Java(JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token)), process)


def _no_java(found: str) -> NotInstalled:
    return NotInstalled(
        "hdfs:// needs Java and py4j",
        code="storage.no_java",
        value=found,
        cure="Install a Java runtime and pip install 'aimass[offline]'; or use webhdfs://, which needs neither.",
    )


def _py4j_jar() -> str:
    """Beside pyspark's jars, where py4j came with it; "" lets py4j look for its own."""
    spark = importlib.util.find_spec("pyspark")
    jars = Path(spark.origin).parent.glob("jars/py4j-*.jar") if spark is not None and spark.origin else iter(())
    return str(next(jars, ""))


def _accepted(door: socket.socket, port: int) -> socket.socket:
    """The connection from `port`, and of nobody else on this machine."""
    while True:
        near, address = door.accept()
        if address[1] == port:
            return near
        near.close()


def _worked(work: Callable[[Any], None], far: Any) -> None:
    with java_errors():
        try:
            work(far)
        finally:
            far.close()


def _error(exception: Any) -> HdfsError:
    name = str(exception.getClass().getName())
    if name == "org.apache.hadoop.ipc.RemoteException":
        name = str(exception.getClassName())
    return HdfsError(name.replace("$", ".").rpartition(".")[2], str(exception.getMessage() or ""))

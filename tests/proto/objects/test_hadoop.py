"""Objects on HDFS through Hadoop's own Java client, here against the tests' cluster: what breaks, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aimass.proto.errors import Conflict, NotInstalled, OutOfSpace, Refused, Unavailable
from aimass.proto.objects import CHUNK_BYTES, open_objects
from aimass.proto.stores.hadoop import JavaFiles, address_of
from aimass.proto.stores.hdfs import HdfsObjects
from aimass.proto.stores.hdfs_place import place_of
from aimass.proto.stores.java import _accepted, classpath, machine
from aimass.proto.stores.retries import Retries
from tests.support.webhdfs.faults import Fault, Kind
from tests.support.webhdfs.server import Cluster

DATA = bytes(range(256)) * 3000


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(2) as cluster:
        cluster.typed = False
        yield cluster


def opened(cluster: Cluster, between: Callable[[], object] = lambda: None) -> HdfsObjects:
    """A store that does not wait between its tries."""
    retries = Retries(4, sleep=lambda _: (between(), None)[1])
    place = place_of(f"{cluster.url}store")
    return HdfsObjects(place.url, JavaFiles(*address_of(place)), place.root, retries)


def test_two_name_nodes_are_a_name_service_of_javas() -> None:
    assert address_of(place_of("hdfs://nn:8020/x")) == ("hdfs://nn:8020/", {})
    assert address_of(place_of("hdfs://service/x")) == ("hdfs://service/", {})
    assert address_of(place_of("hdfs:///x")) == ("hdfs:///", {})
    uri, settings = address_of(place_of("hdfs://one:8020,two:8020/x"))
    assert uri == "hdfs://aimass/"
    assert settings["dfs.ha.namenodes.aimass"] == "n0,n1"
    assert settings["dfs.namenode.rpc-address.aimass.n1"] == "two:8020"


def test_a_name_node_that_is_away_is_told_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    place = place_of(f"hdfs://127.0.0.1:{port}/store")
    files = JavaFiles(f"hdfs://127.0.0.1:{port}/", {"ipc.client.connect.max.retries": "0"})
    with pytest.raises(Unavailable) as caught:
        HdfsObjects(place.url, files, place.root, Retries(2, sleep=lambda _: None)).head("a")
    assert caught.value.code == "storage.unavailable"
    assert "ConnectException" in str(caught.value)


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.LOST, Kind.LATE])
def test_one_of_two_writers_wins_though_an_answer_is_lost(cluster: Cluster, kind: Kind) -> None:
    won = list[bytes]()
    other = opened(cluster)

    def create(store: HdfsObjects, data: bytes) -> None:
        try:
            store.create("versions/1", data)
            won.append(data)
        except Conflict:
            pass

    cluster.faults.add(Fault("RENAME", kind))
    create(opened(cluster, lambda: create(other, DATA[::-1])), DATA)
    create(other, DATA[::-1])
    assert not cluster.faults.left
    assert won == [other.read("versions/1")]


def test_an_answer_that_is_cut_is_gone_on_with(cluster: Cluster) -> None:
    store = opened(cluster)
    store.put("a", DATA)
    cluster.faults.add(Fault("OPEN", Kind.SHORT, data=True, at_byte=100_000))
    assert b"".join(store.stream("a")) == DATA
    assert not cluster.faults.left


def test_a_full_store_is_told_and_keeps_what_it_has(cluster: Cluster) -> None:
    store = opened(cluster)
    store.put("a", b"before")
    cluster.namespace.limits.bytes = 100
    with pytest.raises(OutOfSpace) as caught:
        store.put("a", DATA)
    assert caught.value.code == "storage.full"
    assert cluster.namespace.files() == {"/store/a": b"before"}


def test_who_reads_a_part_of_a_stream_lets_go_of_java(cluster: Cluster) -> None:
    store = opened(cluster)
    store.put("a", bytes(8 * CHUNK_BYTES))
    threads = threading.active_count()
    for _ in range(3):
        assert set(next(store.stream("a"))) == {0}
    assert threading.active_count() <= threads + 1


def test_a_java_machine_that_died_is_started_again(tmp_path: Path) -> None:
    store = HdfsObjects("file:///", JavaFiles("file:///", {}), str(tmp_path), Retries(3, sleep=lambda _: None))
    store.put("a", DATA)
    dead = machine()
    dead.close()
    assert store.read("a") == DATA
    assert machine() is not dead


def test_who_else_knocks_at_the_door_of_a_pipe_is_not_let_in() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        stranger, far = (socket.create_connection(door.getsockname()) for _ in range(2))
        for one in (stranger, far):
            one.settimeout(5)
        with stranger, far, _accepted(door, far.getsockname()[1]) as near:
            near.sendall(b"to java")
            assert far.recv(100) == b"to java"
            assert stranger.recv(100) == b""


def test_a_scheme_without_a_client_is_refused() -> None:
    with pytest.raises(Refused):
        HdfsObjects("x", JavaFiles("nosuch://host/", {}), "/x").head("a")


def test_a_hadoop_that_is_installed_gives_its_classes_and_its_settings(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    hadoop = tmp_path / "bin" / "hadoop"
    hadoop.write_text('#!/bin/sh\n[ "$1 $2" = "classpath --glob" ] && echo /opt/hadoop/a.jar:/opt/hadoop/b.jar\n')
    hadoop.chmod(0o755)
    found = classpath({"HADOOP_HOME": str(tmp_path), "HADOOP_CONF_DIR": "/etc/hadoop", "PATH": os.environ["PATH"]})
    assert found == "/etc/hadoop:/opt/hadoop/a.jar:/opt/hadoop/b.jar"
    assert classpath({"PATH": ""}).endswith("/pyspark/jars/*")


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimass.proto.stores.java._running", {})
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(NotInstalled) as caught:
        open_objects("hdfs://127.0.0.1:1/x").head("a")
    assert caught.value.code == "storage.no_java"
    monkeypatch.setitem(sys.modules, "py4j.protocol", None)
    with pytest.raises(NotInstalled, match="no py4j"):
        open_objects("hdfs://127.0.0.1:1/x").head("a")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotInstalled) as missing:
        classpath({"PATH": ""})
    assert missing.value.code == "storage.no_hadoop"

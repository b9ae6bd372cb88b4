"""The stores on which every test of the conformance suite runs. One more store is one more line in `STORES`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pytest

from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.stores.hadoop import JavaFiles, address_of
from aimass.proto.stores.hdfs import HdfsObjects
from aimass.proto.stores.hdfs_place import place_of
from tests.support.objects import MemoryObjects
from tests.support.webhdfs.server import Cluster

Opener = Callable[[pytest.FixtureRequest], ObjectStore]


@pytest.fixture(scope="session")
def hdfs() -> Iterator[Cluster]:
    """A cluster of one name node."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def hdfs_for_java() -> Iterator[Cluster]:
    """A cluster of two name nodes, the second active, for Hadoop's own client."""
    with Cluster(2) as cluster:
        cluster.active, cluster.typed = 1, False
        yield cluster


def _file(request: pytest.FixtureRequest) -> ObjectStore:
    return open_objects(f"file://{request.getfixturevalue('tmp_path')}/store")


def _s3(request: pytest.FixtureRequest) -> ObjectStore:
    request.getfixturevalue("keys")
    return open_objects(f"s3://tests/{secrets.token_hex(8)}?endpoint={request.getfixturevalue('s3')}")


def _webhdfs(request: pytest.FixtureRequest) -> ObjectStore:
    return open_objects(f"{request.getfixturevalue('hdfs').url}{secrets.token_hex(8)}")


def _java_webhdfs(request: pytest.FixtureRequest) -> ObjectStore:
    cluster: Cluster = request.getfixturevalue("hdfs_for_java")
    place = place_of(f"{cluster.url}{secrets.token_hex(8)}")
    return HdfsObjects(place.url, JavaFiles(*address_of(place)), place.root)


def _java_file(request: pytest.FixtureRequest) -> ObjectStore:
    root = f"{request.getfixturevalue('tmp_path')}/store"
    return HdfsObjects(f"file://{root}", JavaFiles("file:///", {}), root)


STORES: Final[Mapping[str, Opener]] = {
    "file": _file,
    "memory": lambda _: MemoryObjects(),
    "s3": _s3,
    "webhdfs": _webhdfs,
    "java-webhdfs": _java_webhdfs,
    "java-file": _java_file,
}
"""By name, what opens an empty store."""
REAL: Final = ("AIMASS_TEST_HDFS", "AIMASS_TEST_OSS", "AIMASS_TEST_S3")
"""Names of the environment that hold the URL of a store of one's own: any that `open_objects` takes."""


def _real(name: str) -> ObjectStore:
    base, _, options = os.environ[name].partition("?")
    return open_objects(f"{base.rstrip('/')}/aimass-test-{secrets.token_hex(8)}{'?' if options else ''}{options}")


@pytest.fixture(params=[*STORES, *(pytest.param(name, marks=pytest.mark.real) for name in REAL)])
def store(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    """An empty store of each kind."""
    if request.param in STORES:
        yield STORES[request.param](request)
        return
    found = _real(request.param)
    yield found
    for one in list(found.list()):
        found.delete(one.key)

"""The stores on which every test of the conformance suite runs. One more store is one more line in `STORES`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pytest
from scripts.benches.buckets import KEYS, buckets, make_bucket

from aimass.proto.objects import ObjectStore, open_objects
from tests.support.objects import MemoryObjects
from tests.support.webhdfs.server import Cluster

Opener = Callable[[pytest.FixtureRequest], ObjectStore]


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of an S3 server with the bucket `tests`."""
    with buckets() as endpoint:
        make_bucket(endpoint, "tests")
        yield endpoint


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials for it in the environment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def hdfs() -> Iterator[Cluster]:
    """A cluster of one name node."""
    with Cluster() as cluster:
        yield cluster


def _file(request: pytest.FixtureRequest) -> ObjectStore:
    return open_objects(f"file://{request.getfixturevalue('tmp_path')}/store")


def _s3(request: pytest.FixtureRequest) -> ObjectStore:
    request.getfixturevalue("keys")
    return open_objects(f"s3://tests/{secrets.token_hex(8)}?endpoint={request.getfixturevalue('s3')}")


def _webhdfs(request: pytest.FixtureRequest) -> ObjectStore:
    return open_objects(f"{request.getfixturevalue('hdfs').url}{secrets.token_hex(8)}")


STORES: Final[Mapping[str, Opener]] = {
    "file": _file,
    "memory": lambda _: MemoryObjects(),
    "s3": _s3,
    "webhdfs": _webhdfs,
}
"""By name, what opens an empty store."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """An empty store of each kind."""
    return STORES[request.param](request)

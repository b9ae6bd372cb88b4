"""The seam of object stores: which URL is whose, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.proto.errors import AimassError, BadInput, Refused
from aimass.proto.objects import Chunk, ObjectInfo, commits, open_objects
from aimass.proto.stores.files import FileObjects


@pytest.mark.parametrize(
    "url", ["", "/folder", "gopher://x/y", "file://host/x", "file:folder", "file:///x?y", "s3", "http://[::1"]
)
def test_a_url_that_is_no_stores_is_refused(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_objects(url)
    assert caught.value.code == "storage.url"


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(BadInput) as caught:
        open_objects("s3://AKIAKEY:geheim@bucket/prefix")
    assert caught.value.code == "storage.url_credentials"
    assert "geheim" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


class _Forgetful(FileObjects):
    """A store that ignores the condition."""

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        return self.put(key, data)


class _Denying(FileObjects):
    """A store that refuses everything the second time, and not because the key is there."""

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        if self.path(key).exists():
            raise Refused("no", code="storage.denied")
        return super().create(key, data)


def test_a_store_that_ignores_the_condition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        commits(_Forgetful(tmp_path))
    assert caught.value.code == "storage.no_commit"
    assert not list(FileObjects(tmp_path).list())


def test_another_error_at_the_second_creation_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AimassError) as caught:
        commits(_Denying(tmp_path))
    assert caught.value.code == "storage.denied"

"""Where a bucket is, from its URL and the environment; whose keys, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.proto.errors import BadInput, Unauthenticated
from aimass.proto.stores.s3_keys import Keys, keys_of
from aimass.proto.stores.s3_link import Link, Timeouts
from aimass.proto.stores.s3_place import place_of


@pytest.mark.parametrize(
    ("url", "environment", "base", "region", "virtual"),
    [
        ("s3://bucket/a/b", {}, "", "", False),
        ("s3://bucket", {"AWS_REGION": "eu-west-1"}, "", "eu-west-1", False),
        ("s3://bucket?region=eu-north-1", {"AWS_REGION": "eu-west-1"}, "", "eu-north-1", False),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "http://a:1"}, "http://a:1", "", False),
        ("s3://bucket", {"AWS_ENDPOINT_URL_S3": "http://b:2", "AWS_ENDPOINT_URL": "http://a:1"}, "http://b:2", "", False),
        ("s3://bucket?endpoint=https://c:3/", {"AWS_ENDPOINT_URL": "http://a:1"}, "https://c:3", "", False),
        ("s3://bucket?endpoint=https://c:3&addressing=virtual", {}, "https://bucket.c:3", "", True),
        ("oss://bucket/p?region=cn-hangzhou", {}, "https://bucket.s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou", True),
        ("oss://bucket?endpoint=https://d", {"AWS_ENDPOINT_URL": "http://a:1"}, "https://bucket.d", "", True),
        ("oss://bucket?endpoint=https://d&addressing=path", {}, "https://d", "", False),
    ],
)  # fmt: skip
def test_a_place_is_what_its_url_says_and_then_the_environment(
    url: str, environment: dict[str, str], base: str, region: str, virtual: bool
) -> None:
    place = place_of(url, environment)
    assert (place.base, place.region, place.virtual, place.bucket) == (base, region, virtual, "bucket")
    assert place_of(place.url, environment) == place


@pytest.mark.parametrize(
    "url",
    [
        "s3://", "s3://B", "s3://ab", "s3://bucket/a//b", "s3://bucket/..", "s3://bucket/~x", "s3://bucket#x",
        "s3://bucket?endpoint=ftp://a", "s3://bucket?endpoint=https://key:geheim@a", "s3://bucket?secret=geheim",
        "s3://bucket?region=a&region=b", "s3://bucket?addressing=both", "s3://bucket?anonymous=perhaps", "s3://bucket?x",
        "oss://bucket",
    ],
)  # fmt: skip
def test_a_url_that_names_no_place_is_refused_and_no_secret_in_it_is_repeated(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        place_of(url, {})
    assert caught.value.code in {"storage.url", "storage.key"}
    assert "geheim" not in str(caught.value)


def profiles(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = d\n"
        "[other]\naws_access_key_id = O\naws_secret_access_key = o%%x\naws_session_token = t\n"
        "[role]\nrole_arn = arn\nsource_profile = default\n"
    )
    return {"AWS_SHARED_CREDENTIALS_FILE": str(path)}


def test_keys_are_looked_for_in_the_environment_then_in_the_profile(tmp_path: Path) -> None:
    environment = profiles(tmp_path)
    assert keys_of("s3", environment) == Keys("D", "d")
    assert keys_of("s3", environment | {"AWS_PROFILE": "other"}) == Keys("O", "o%%x", "t")
    own = {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e", "AWS_SESSION_TOKEN": "s"}
    assert keys_of("s3", environment | own | {"AWS_PROFILE": "other"}) == Keys("E", "e", "s")
    oss = {"OSS_ACCESS_KEY_ID": "A", "OSS_ACCESS_KEY_SECRET": "a"}
    assert keys_of("oss", environment | own | oss) == Keys("A", "a")
    assert keys_of("s3", own | oss) == Keys("E", "e", "s")
    assert keys_of("s3", {"HOME": str(tmp_path)}) is None
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = H\naws_secret_access_key = h\n")
    assert keys_of("s3", {"HOME": str(tmp_path)}) == Keys("H", "h")
    assert "geheim" not in repr(Keys("geheim", "geheim", "geheim"))


@pytest.mark.parametrize(("name", "found"), [("role", "role_arn"), ("nobody", "nobody")])
def test_a_profile_that_is_asked_for_and_holds_no_keys_is_refused(tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(Unauthenticated, match=found) as caught:
        keys_of("s3", profiles(tmp_path) | {"AWS_PROFILE": name})
    assert caught.value.code == "storage.profile"


def test_a_profile_file_that_cannot_be_read_quotes_nothing_of_it(tmp_path: Path) -> None:
    environment = profiles(tmp_path)
    (tmp_path / "credentials").write_text("aws_secret_access_key = geheim\n")
    with pytest.raises(BadInput) as caught:
        keys_of("s3", environment)
    assert caught.value.code == "storage.profile_file"
    assert "geheim" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    place = place_of("s3://bucket?anonymous=true", {})
    with pytest.raises(BadInput) as caught:
        Link(place, 1, Timeouts(), {"AWS_CA_BUNDLE": str(tmp_path / "none.pem")})
    assert caught.value.code == "storage.ca_bundle"

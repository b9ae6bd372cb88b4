"""A bucket whose server fails: asked again where that helps, named errors where it does not, and no word of keys."""

from __future__ import annotations

import random
import re
import secrets
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scripts.benches.buckets import KEYS

from aimass.proto.errors import (
    AimassError,
    Conflict,
    LimitExceeded,
    NotFound,
    OutOfSpace,
    Refused,
    Unauthenticated,
    Unavailable,
)
from aimass.proto.objects import commits, open_objects
from aimass.proto.stores.retries import Retries
from aimass.proto.stores.s3 import S3Objects
from aimass.proto.stores.s3_link import Link, Timeouts
from aimass.proto.stores.s3_place import place_of
from tests.support.s3_faults import Asked, Fault, FaultyStore, faulty

DATA = random.Random(3).randbytes(3_000_000)
LARGE = random.Random(4).randbytes(11 << 20)


@pytest.fixture
def proxy(s3: str) -> Iterator[FaultyStore]:
    with faulty(s3) as store:
        yield store


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def store(proxy: FaultyStore, waits: list[float]) -> S3Objects:
    return opened(proxy, waits)


def opened(
    proxy: FaultyStore,
    waits: list[float],
    environment: dict[str, str] | None = None,
    options: str = "",
    scheme: str = "s3",
    silence_s: float = 20.0,
    create_bytes: int = 1 << 30,
) -> S3Objects:
    """A store behind the proxy that gives up after four tries and does not wait."""
    environment = dict(KEYS) if environment is None else environment
    place = place_of(f"{scheme}://tests/{secrets.token_hex(8)}?endpoint={proxy.endpoint}{options}", environment)
    retries = Retries(attempts=4, sleep=waits.append, uniform=lambda _, most: most)
    return S3Objects(
        Link(place, retries.attempts, Timeouts(5.0, silence_s), environment), retries, 5 << 20, create_bytes
    )


def method(name: str, words: str = "") -> Callable[[Asked], bool]:
    return lambda asked: asked.method == name and words in asked.path


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=503, code="SlowDown"), Fault(status=429), Fault(lost=True)],
)
def test_what_passes_is_waited_for_longer_each_time(
    store: S3Objects, proxy: FaultyStore, waits: list[float], fault: Fault
) -> None:
    store.put("a", DATA)
    proxy.faults += [fault] * 2
    assert store.read("a", 5, 10) == DATA[5:15]
    assert waits == [0.2, 0.4]
    waits.clear()
    proxy.faults += [fault] * 2
    assert store.head("a").size == len(DATA)
    proxy.faults += [fault] * 2
    assert [one.key for one in store.list()] == ["a"]
    proxy.faults += [fault] * 2
    store.put("b", b"2")
    proxy.faults += [fault] * 2
    store.delete("b")
    assert [one.key for one in store.list()] == ["a"]
    assert waits == [0.2, 0.4] * 4


def test_a_store_that_is_silent_is_asked_again(proxy: FaultyStore) -> None:
    store = opened(proxy, [], silence_s=0.5)
    store.put("a", DATA)
    proxy.faults += [Fault(silent=True)]
    assert store.head("a").size == len(DATA)
    proxy.faults += [Fault(cut=1_200_000), Fault(silent=True)]
    assert b"".join(store.stream("a")) == DATA
    assert not proxy.faults


def test_a_store_that_stays_away_is_given_up(store: S3Objects, proxy: FaultyStore, waits: list[float]) -> None:
    proxy.faults += [Fault(status=503)] * 9
    with pytest.raises(Unavailable) as caught:
        store.head("a")
    assert caught.value.code == "storage.unavailable"
    assert "503" in str(caught.value)
    assert len(waits) == 3
    assert len(proxy.asked) == 4


def test_a_stream_that_is_cut_goes_on_where_it_was(store: S3Objects, proxy: FaultyStore) -> None:
    info = store.put("a", DATA)
    proxy.faults += [Fault(cut=1_200_000), Fault(status=500), Fault(cut=1_500_000), Fault(cut=10)]
    assert b"".join(store.stream("a", 7)) == DATA[7:]
    gets = [asked for asked in proxy.asked if asked.method == "GET"]
    assert all(asked.headers["if-match"] == info.version for asked in gets[2:])


def test_a_stream_of_what_is_replaced_after_a_cut_is_refused(store: S3Objects, proxy: FaultyStore) -> None:
    store.put("a", DATA)
    proxy.faults.append(Fault(cut=2_500_000))
    stream = store.stream("a")
    next(stream)
    store.put("a", DATA[::-1])
    with pytest.raises(Conflict) as caught:
        list(stream)
    assert caught.value.code == "storage.replaced"


def test_a_stream_that_never_moves_on_is_given_up(store: S3Objects, proxy: FaultyStore) -> None:
    store.put("a", DATA)
    proxy.faults += [Fault(cut=0)] * 9
    with pytest.raises(Unavailable):
        list(store.stream("a"))


def test_a_creation_whose_answer_was_lost_knows_its_own_object(store: S3Objects, proxy: FaultyStore) -> None:
    proxy.faults.append(Fault(method("PUT"), lost=True))
    info = store.create("a", b"mine")
    assert store.head("a") == info
    with pytest.raises(Conflict):
        store.create("a", b"mine")


def test_a_creation_that_another_won_meanwhile_is_told_so_even_with_equal_bytes(
    store: S3Objects, proxy: FaultyStore
) -> None:
    store.create("a", b"equal")
    proxy.faults.append(Fault(method("PUT"), status=500))
    with pytest.raises(Conflict) as caught:
        store.create("a", b"equal")
    assert caught.value.code == "storage.exists"


def test_a_large_creation_goes_in_one_request_and_a_larger_one_is_refused(proxy: FaultyStore) -> None:
    store = opened(proxy, [], create_bytes=len(LARGE))
    proxy.faults.append(Fault(method("PUT"), lost=True))
    assert store.write("a", [LARGE], create=True) == store.head("a")
    assert store.read("a") == LARGE
    assert not [asked for asked in proxy.asked if asked.method == "POST"]
    with pytest.raises(LimitExceeded) as caught:
        store.write("b", [LARGE, b"1"], create=True)
    assert caught.value.code == "storage.create_size"
    assert [one.key for one in store.list()] == ["a"]


def test_a_server_that_does_not_say_what_it_put_together_is_asked(store: S3Objects, proxy: FaultyStore) -> None:
    proxy.body = lambda asked, body: (
        re.sub(rb"<ETag>.*</ETag>", b"<ETag></ETag>", body) if asked.method == "POST" else body
    )
    info = store.write("a", [LARGE])
    assert info.version
    assert store.head("a") == info


def test_an_upload_whose_last_answer_was_lost_knows_its_own_object(store: S3Objects, proxy: FaultyStore) -> None:
    proxy.faults.append(Fault(method("POST", "uploadId="), lost=True))
    assert store.write("a", [LARGE]) == store.head("a")
    assert store.read("a") == LARGE
    store.put("a", b"another's")
    proxy.faults += [Fault(method("POST", "uploadId="), status=404, code="NoSuchUpload")]
    with pytest.raises(NotFound):
        store.write("a", [LARGE])
    assert store.read("a") == b"another's"


def test_parts_of_an_upload_are_sent_again(store: S3Objects, proxy: FaultyStore) -> None:
    proxy.faults += [
        Fault(method("PUT", "partNumber=2"), status=503),
        Fault(method("PUT", "partNumber=1"), lost=True),
        Fault(method("POST"), status=500),
    ]
    store.write("a", [LARGE])
    assert store.read("a") == LARGE
    assert not proxy.faults


def test_an_upload_that_cannot_go_on_is_aborted(store: S3Objects, proxy: FaultyStore, s3: str) -> None:
    proxy.faults += [Fault(method("PUT", "partNumber"), status=403, code="AccessDenied")] * 3
    with pytest.raises(Refused) as caught:
        store.write("a", [LARGE])
    assert caught.value.code == "storage.denied"
    assert b"<Upload>" not in urllib.request.urlopen(f"{s3}/tests?uploads", timeout=10).read()
    assert not list(store.list())


def test_what_the_source_of_an_upload_raises_is_raised_and_the_upload_aborted(store: S3Objects, s3: str) -> None:
    def source() -> Iterator[bytes]:
        yield LARGE
        raise PermissionError("the caller's own")

    for create in (False, True):
        with pytest.raises(PermissionError, match="the caller's own"):
            store.write("a", source(), create=create)
    assert b"<Upload>" not in urllib.request.urlopen(f"{s3}/tests?uploads", timeout=10).read()
    assert not list(store.list())


@pytest.mark.parametrize(
    ("status", "code", "kind", "named"),
    [
        (400, "ExpiredToken", Unauthenticated, "storage.expired"),
        (403, "InvalidAccessKeyId", Unauthenticated, "storage.credentials"),
        (403, "SignatureDoesNotMatch", Unauthenticated, "storage.credentials"),
        (403, "RequestTimeTooSkewed", Unauthenticated, "storage.clock"),
        (403, "AccessDenied", Refused, "storage.denied"),
        (401, "Unauthorized", Unauthenticated, "storage.credentials"),
        (403, "QuotaExceeded", OutOfSpace, "storage.full"),
        (507, "XMinioStorageFull", OutOfSpace, "storage.full"),
        (404, "NoSuchBucket", NotFound, "storage.bucket"),
        (400, "InvalidArgument", Refused, "storage.refused"),
        (501, "NotImplemented", Refused, "storage.unsupported"),
    ],
)  # fmt: skip
def test_an_error_of_the_store_is_named_once_and_quotes_no_keys(
    store: S3Objects,
    proxy: FaultyStore,
    waits: list[float],
    status: int,
    code: str,
    kind: type[AimassError],
    named: str,
) -> None:
    for verb in (
        lambda: store.put("a", b"1"),
        lambda: store.read("a"),
        lambda: list(store.list()),
        lambda: list(store.stream("a")),
    ):
        proxy.faults[:] = [Fault(status=status, code=code)]
        with pytest.raises(kind) as caught:
            verb()
        assert caught.value.code == named
        told = "".join(traceback.format_exception(caught.value))
        for secret in (*KEYS.values(), "AIDKEY", "Signature="):
            assert secret not in told
            assert secret not in repr(store.__dict__)
    assert not waits


def test_keys_that_expired_are_read_again_from_the_profile(
    proxy: FaultyStore, waits: list[float], tmp_path: Path
) -> None:
    profile = tmp_path / "credentials"
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(profile)}
    profile.write_text("[default]\naws_access_key_id = AKIAOLD\naws_secret_access_key = old\naws_session_token = t1\n")
    store = opened(proxy, waits, environment)
    store.put("a", b"1")
    assert "AKIAOLD" in proxy.asked[-1].headers["authorization"]
    proxy.faults.append(Fault(status=400, code="ExpiredToken"))
    with pytest.raises(Unauthenticated):
        store.read("a")
    profile.write_text("[default]\naws_access_key_id = AKIANEW\naws_secret_access_key = new\naws_session_token = t2\n")
    proxy.faults.append(Fault(status=400, code="ExpiredToken"))
    assert store.read("a") == b"1"
    assert "AKIANEW" in proxy.asked[-1].headers["authorization"]
    assert proxy.asked[-1].headers["x-amz-security-token"] == "t2"


def test_keys_that_expire_in_the_middle_of_a_stream_are_read_again(
    proxy: FaultyStore, waits: list[float], tmp_path: Path
) -> None:
    profile = tmp_path / "credentials"
    profile.write_text("[default]\naws_access_key_id = AKIAOLD\naws_secret_access_key = old\n")
    store = opened(proxy, waits, {"AWS_SHARED_CREDENTIALS_FILE": str(profile)})
    store.put("a", DATA)
    proxy.faults += [Fault(cut=1_200_000), Fault(status=400, code="ExpiredToken")]
    stream = store.stream("a")
    found = next(stream)
    profile.write_text("[default]\naws_access_key_id = AKIANEW\naws_secret_access_key = new\n")
    assert found + b"".join(stream) == DATA


def test_a_bucket_is_asked_for_without_keys_where_that_is_said(proxy: FaultyStore, waits: list[float]) -> None:
    store = opened(proxy, waits, {}, "&anonymous=true")
    store.put("a", b"1")
    assert "authorization" not in proxy.asked[-1].headers


def test_no_keys_at_all_are_named(
    proxy: FaultyStore, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Unauthenticated) as caught:
        opened(proxy, waits, {"HOME": str(tmp_path)}).head("a")
    assert caught.value.code == "storage.no_credentials"
    assert not waits


def oss(proxy: FaultyStore) -> None:
    """OSS knows no If-None-Match; it has a header that forbids to overwrite, and then answers 409."""

    def change(headers: dict[str, str]) -> None:
        if headers.pop("x-oss-forbid-overwrite", "") == "true":
            headers["if-none-match"] = "*"

    proxy.change = change
    proxy.statuses[412] = 409
    proxy.rewrite = lambda asked: (501, "NotImplemented") if "if-none-match" in asked.headers else None


def test_oss_commits_by_its_own_header(proxy: FaultyStore, waits: list[float]) -> None:
    oss(proxy)
    store = opened(proxy, waits, options="&addressing=path", scheme="oss")
    commits(store)
    assert store.create("a", b"1").size == 1
    assert store.write("large", [LARGE], create=True) == store.head("large")
    with pytest.raises(Conflict):
        store.write("large", [LARGE], create=True)
    proxy.faults.append(Fault(method("PUT"), lost=True))
    store.create("b", b"2")
    with pytest.raises(Refused) as caught:
        commits(opened(proxy, waits))
    assert caught.value.code == "storage.unsupported"


def test_a_bucket_of_many_pages_is_listed_whole_and_in_order(store: S3Objects, proxy: FaultyStore) -> None:
    names = sorted(f"d{number % 7}/{number:02}" for number in range(70))
    for name in names:
        store.put(name, b"1")
    proxy.path = lambda path: f"{path}&max-keys=20" if "list-type=2" in path else path
    proxy.asked.clear()
    assert [one.key for one in store.list()] == names
    assert len(proxy.asked) == 4
    proxy.faults += [Fault(lambda asked: "continuation-token" in asked.path, status=500)] * 3
    assert [one.key for one in store.list("d")] == names
    proxy.asked.clear()
    assert [one.key for one in store.list("d5/4")] == ["d5/40", "d5/47"]
    assert len(proxy.asked) == 1


def test_a_store_opens_by_its_url(s3: str, keys: None) -> None:
    url = f"s3://tests/{secrets.token_hex(8)}?endpoint={s3}&region=eu-central-1"
    store = open_objects(url)
    assert store.url == url
    store.put("a", b"1")
    assert [one.key for one in open_objects(url).list()] == ["a"]


@pytest.mark.parametrize("scheme", ["s3", "oss"])
def test_a_bucket_is_found_by_the_name_of_its_host(
    proxy: FaultyStore, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy.endpoint)
    monkeypatch.delenv("no_proxy", raising=False)
    proxy.path = lambda path: path.removeprefix("http://tests.s3.example")
    place = place_of(f"{scheme}://tests/{secrets.token_hex(8)}?endpoint=http://s3.example&addressing=virtual", {})
    if scheme == "oss":
        oss(proxy)
    store = S3Objects(Link(place, 4, Timeouts(), KEYS), Retries(sleep=lambda _: None), part_bytes=5 << 20)
    commits(store)
    store.write("large", [LARGE], create=True)
    assert store.read("large", 7, 9) == LARGE[7:16]
    assert [one.key for one in store.list()] == ["large"]
    assert {asked.headers["host"] for asked in proxy.asked} == {"tests.s3.example"}

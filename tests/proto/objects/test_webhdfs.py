"""Objects on HDFS over REST: what a link or a cluster does wrong ends in the right bytes, or in an error by name."""

from __future__ import annotations

import logging
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from aimass.privacy.pki import Role, issue, self_signed_root
from aimass.proto.errors import AimassError, Conflict, OutOfSpace, Refused, Unauthenticated, Unavailable
from aimass.proto.objects import CHUNK_BYTES, Chunk, commits, open_objects
from aimass.proto.stores.hdfs import HdfsObjects
from aimass.proto.stores.hdfs_place import place_of
from aimass.proto.stores.retries import Retries
from aimass.proto.stores.webhdfs import Timeouts, WebHdfs
from tests.support.webhdfs.faults import Fault, Kind
from tests.support.webhdfs.namespace import Namespace, Remote
from tests.support.webhdfs.operations import Request
from tests.support.webhdfs.server import Cluster, started

DATA = bytes(range(256)) * 2000
RETRIABLE = Remote("org.apache.hadoop.ipc.RetriableException", "Namenode is in startup mode")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(2, Namespace(page=3)) as cluster:
        yield cluster


def opened(
    cluster: Cluster,
    *,
    attempts: int = 5,
    between: Callable[[], object] = lambda: None,
    environment: Mapping[str, str] | None = None,
) -> HdfsObjects:
    """A store that does not wait between its tries; something else may happen there."""
    retries = Retries(attempts, sleep=lambda _: (between(), None)[1])
    place = place_of(f"{cluster.url}store")
    return HdfsObjects(place.url, WebHdfs(place, environment or {}, Timeouts(5, 0.2)), place.root, retries)


def parts(cluster: Cluster) -> list[str]:
    """Files that are neither objects nor gone."""
    return [path for path in cluster.namespace.files() if "~" in path]


_FAULTS = [
    *(Fault("RENAME", kind, remote=RETRIABLE) for kind in (Kind.CUT, Kind.LOST, Kind.LATE, Kind.HANG, Kind.REMOTE)),
    *(Fault("RENAME", Kind.STATUS, status=status) for status in (500, 502, 503, 429)),
    *(Fault("MKDIRS", kind) for kind in (Kind.CUT, Kind.LOST, Kind.LATE, Kind.STATUS)),
    *(Fault("CREATE", kind) for kind in (Kind.CUT, Kind.LATE, Kind.HANG, Kind.STATUS)),
    *(Fault("CREATE", kind, data=True) for kind in (Kind.CUT, Kind.LOST, Kind.HANG, Kind.STATUS)),
    *(Fault("CREATE", Kind.SHORT, data=True, at_byte=at) for at in (0, 1, 70_000, len(DATA) - 1)),
    *(Fault("CREATE", Kind.UNFRAMED, data=True, at_byte=at) for at in (0, 70_000)),
    *(Fault("GETFILESTATUS", kind) for kind in (Kind.CUT, Kind.STATUS, Kind.SHORT)),
]


@pytest.mark.parametrize("fault", _FAULTS, ids=lambda fault: f"{fault.op}-{fault.data}-{fault.kind}-{fault.status}")
@pytest.mark.parametrize("times", [1, 2])
def test_one_of_two_writers_wins_whatever_link_breaks_and_when(cluster: Cluster, fault: Fault, times: int) -> None:
    won, told = list[bytes](), set[str]()
    other = opened(cluster)

    def create(store: HdfsObjects, data: bytes) -> None:
        try:
            store.create("versions/1", data)
            won.append(data)
        except Conflict as error:
            told.add(error.code)

    cluster.faults.add(*[fault] * times)
    create(opened(cluster, between=lambda: create(other, DATA[::-1])), DATA)
    create(other, DATA[::-1])
    assert len(cluster.faults.left) < times
    assert len(won) == 1
    assert told == {"storage.exists"}
    assert other.read("versions/1") == won[0]
    assert [one.key for one in other.list()] == ["versions/1"]


@pytest.mark.parametrize("fault", _FAULTS, ids=lambda fault: f"{fault.op}-{fault.data}-{fault.kind}-{fault.status}")
def test_a_put_over_a_link_that_breaks_stands_whole_and_leaves_no_part(cluster: Cluster, fault: Fault) -> None:
    store = opened(cluster)
    store.put("a/b", b"before")
    cluster.faults.add(fault)
    info = store.put("a/b", DATA)
    assert not cluster.faults.left
    assert store.head("a/b") == info
    assert cluster.namespace.files()["/store/a/b"] == DATA
    if fault.kind is not Kind.LATE:  # what comes late may leave a part, to be swept
        assert not parts(cluster)


def test_a_creation_whose_answers_are_all_lost_is_told_as_one_that_may_have_been_made(cluster: Cluster) -> None:
    cluster.faults.add(*[Fault("RENAME", Kind.CUT)] * 5)
    with pytest.raises(Unavailable) as caught:
        opened(cluster).create("a", DATA)
    assert caught.value.code == "storage.unavailable"
    assert not cluster.namespace.files()


@pytest.mark.parametrize("kind", [Kind.SHORT, Kind.UNFRAMED])
@pytest.mark.parametrize("at", [0, 1, 100_000, len(DATA) - 1])
def test_an_answer_that_is_cut_is_gone_on_with(cluster: Cluster, kind: Kind, at: int) -> None:
    store = opened(cluster)
    store.put("a", DATA)
    cluster.faults.add(Fault("OPEN", kind, data=True, at_byte=at))
    assert b"".join(store.stream("a")) == DATA
    cluster.faults.add(Fault("OPEN", kind, data=True, at_byte=at))
    assert store.read("a") == DATA
    assert not cluster.faults.left
    starts = [request.arguments["offset"] for request in cluster.requests if request.op == "OPEN" and request.data]
    assert starts == ["0", str(at), "0", "0"]


@pytest.mark.parametrize("fault", [Fault("OPEN", Kind.HANG), Fault("OPEN", Kind.HANG, data=True)])
def test_a_node_that_hangs_is_given_up(cluster: Cluster, fault: Fault) -> None:
    store = opened(cluster)
    store.put("a", DATA)
    cluster.faults.add(fault)
    assert b"".join(store.stream("a", 5)) == DATA[5:]


def test_what_is_replaced_while_a_cut_stream_waits_is_not_mixed(cluster: Cluster) -> None:
    other = opened(cluster)
    other.put("a", DATA)
    cluster.faults.add(Fault("OPEN", Kind.SHORT, data=True, at_byte=100_000))
    with pytest.raises(Conflict) as caught:
        list(opened(cluster, between=lambda: other.put("a", DATA[::-1])).stream("a"))
    assert caught.value.code == "storage.replaced"


def test_what_is_replaced_between_a_look_and_the_reading_is_not_taken_for_it(cluster: Cluster) -> None:
    store, other = opened(cluster), opened(cluster)
    version = store.put("a", DATA).version
    once = iter([DATA[::-1], DATA, DATA[::-1]])

    def replace(request: Request) -> None:
        if request.op == "OPEN" and request.data and not busy:
            busy.append(True)
            other.put("a", next(once))

    busy = list[bool]()
    cluster.before = replace
    with pytest.raises(Conflict) as caught:
        store.read("a", version=version)
    assert caught.value.code == "storage.replaced"
    busy.clear()
    with pytest.raises(Conflict):
        list(store.stream("a"))
    busy.clear()
    assert store.read("a") == DATA[::-1]  # who names no version gets the newest, whole


def test_who_created_a_key_that_another_has_taken_since_is_told_that_it_is_the_others(cluster: Cluster) -> None:
    other = opened(cluster)

    def take() -> None:
        other.delete("a")
        other.create("a", DATA[::-1])

    cluster.faults.add(Fault("RENAME", Kind.LOST))
    with pytest.raises(Conflict) as caught:
        opened(cluster, between=take).create("a", DATA)
    assert caught.value.code == "storage.exists"
    assert other.read("a") == DATA[::-1]


def test_an_object_larger_than_its_memory_goes_both_ways() -> None:
    size = 48 * CHUNK_BYTES
    with started() as url:
        store = open_objects(f"{url}store")
        store.put("warm", b"1")
        tracemalloc.start()
        store.write("a", (bytes(CHUNK_BYTES) for _ in range(size // CHUNK_BYTES)))
        assert sum(map(len, store.stream("a"))) == size
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * CHUNK_BYTES


@pytest.mark.parametrize("times", [1, 25])
def test_chunks_that_come_once_are_sent_again_where_a_link_breaks(cluster: Cluster, times: int) -> None:
    chunks = [DATA[number:] for number in range(times)]
    for at in (len(b"".join(chunks)) - 1, 0, 700_000):
        cluster.faults.add(Fault("CREATE", Kind.SHORT, data=True, at_byte=at))
    opened(cluster).write("a", iter(chunks))
    assert not cluster.faults.left
    assert cluster.namespace.files() == {"/store/a": b"".join(chunks)}


def test_what_the_chunks_raise_is_the_callers_even_if_it_looks_like_a_broken_link(cluster: Cluster) -> None:
    def chunks() -> Iterator[Chunk]:
        yield DATA
        raise ConnectionResetError("of another link")

    with pytest.raises(ConnectionResetError, match="of another link"):
        opened(cluster).write("a", chunks())
    assert not [path for path in cluster.namespace.files() if not path.startswith("/store/~")]


def test_the_second_name_node_is_asked_where_the_first_is_on_standby_or_gone(cluster: Cluster) -> None:
    store = opened(cluster)
    cluster.active = 1
    store.create("a", DATA)
    asked = len(cluster.requests)
    assert store.read("a") == DATA
    assert {request.node for request in cluster.requests[asked:] if not request.data} == {1}
    cluster.active = 0
    cluster.stop(1)
    assert store.read("a") == DATA
    assert opened(cluster).head("a").size == len(DATA)


def test_a_data_node_that_is_gone_is_not_asked_again_at_once() -> None:
    with Cluster(data_nodes=2) as cluster:
        store = opened(cluster, attempts=2)
        store.put("a", DATA)
        cluster.stop_data(0)
        store.put("a", DATA[::-1])
        assert store.read("a") == DATA[::-1]
        excluded = [request.arguments.get("excludedatanodes") for request in cluster.requests if request.op == "OPEN"]
        assert excluded[0] is None
        assert excluded[1] is not None
        cluster.stop_data(1)
        with pytest.raises(Unavailable):
            store.read("a")


def test_a_failover_between_a_rename_and_its_answer_commits_once(cluster: Cluster) -> None:
    cluster.faults.add(Fault("RENAME", Kind.LOST))

    def fail_over() -> None:
        cluster.active = 1

    opened(cluster, between=fail_over).create("a", DATA)
    assert [event for event in cluster.namespace.events if event.startswith("rename")] == [
        event for event in cluster.namespace.events if event.endswith(" /store/a")
    ]
    assert cluster.namespace.files() == {"/store/a": DATA}


def test_safe_mode_is_waited_for_and_then_told(cluster: Cluster) -> None:
    store = opened(cluster)
    store.put("a", b"before")
    cluster.namespace.limits.safe_mode = True
    with pytest.raises(Unavailable, match="safe mode"):
        store.put("a", DATA)
    assert store.read("a") == b"before"

    def leave() -> None:
        cluster.namespace.limits.safe_mode = False

    opened(cluster, between=leave).put("a", DATA)
    assert store.read("a") == DATA


@pytest.mark.parametrize("limit", ["bytes", "names", "data_nodes"])
def test_a_full_store_is_told_and_keeps_what_it_has(cluster: Cluster, limit: str) -> None:
    store = opened(cluster)
    store.put("a", b"before")
    setattr(cluster.namespace.limits, limit, {"bytes": 1000, "names": 4, "data_nodes": 0}[limit])
    with pytest.raises((OutOfSpace, Unavailable)) as caught:
        store.put("a", DATA[:2000])
    assert caught.value.code == ("storage.unavailable" if limit == "data_nodes" else "storage.full")
    assert cluster.namespace.files() == {"/store/a": b"before"}


def test_a_cluster_that_finds_no_room_for_a_block_is_full(cluster: Cluster) -> None:
    message = "File /x could only be written to 0 of the 1 minReplication nodes. There are 3 datanode(s) running"
    cluster.faults.add(Fault("CREATE", Kind.REMOTE, data=True, remote=Remote("java.io.IOException", message)))
    with pytest.raises(OutOfSpace) as caught:
        opened(cluster).put("a", b"1")
    assert caught.value.code == "storage.full"


def test_no_object_moves_into_a_folder_of_its_name(cluster: Cluster) -> None:
    store = opened(cluster)
    store.put("a/b", b"1")
    for verb in (store.put, store.create):
        with pytest.raises(AimassError) as caught:
            verb("a", DATA)
        assert caught.value.code == "storage.folder"
    with pytest.raises(AimassError) as caught:
        store.put("a/b/c", DATA)
    assert caught.value.code == "storage.folder"
    assert cluster.namespace.files() == {"/store/a/b": b"1"}


def test_a_server_that_renames_without_conditions_is_refused(cluster: Cluster) -> None:
    cluster.options = False
    with pytest.raises(Refused):
        opened(cluster).create("a", DATA)
    with pytest.raises(Refused) as caught:
        commits(opened(cluster))
    assert caught.value.code == "storage.unsupported"


def test_a_data_node_of_another_scheme_gets_nothing(cluster: Cluster) -> None:
    cluster.sends_to = "https"
    with pytest.raises(Refused) as caught:
        opened(cluster).put("a", DATA)
    assert caught.value.code == "storage.redirect"


def test_what_is_no_webhdfs_is_told_so(cluster: Cluster) -> None:
    cluster.faults.add(Fault("GETFILESTATUS", Kind.STATUS, status=404))
    with pytest.raises(Refused) as caught:
        opened(cluster).head("a")
    assert caught.value.code == "storage.refused"
    cluster.faults.add(*[Fault("GETFILESTATUS", Kind.STATUS, status=200)] * 5)
    with pytest.raises(Unavailable):
        opened(cluster).head("a")


def test_a_listing_goes_on_behind_its_last_page_after_a_cut(cluster: Cluster) -> None:
    store = opened(cluster)
    keys = [f"a/{number:02}" for number in range(10)]
    for key in keys:
        store.put(key, b"1")
    listing = store.list("a/")
    found = [next(listing).key]
    cluster.faults.add(Fault("LISTSTATUS_BATCH", Kind.CUT), Fault("LISTSTATUS_BATCH", Kind.SHORT, at_byte=200))
    assert found + [one.key for one in listing] == keys
    assert cluster.asked("LISTSTATUS_BATCH") > 4
    assert cluster.asked("LISTSTATUS") == 0


def test_a_delegation_token_is_read_again_and_stands_in_no_log_and_no_error(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text("gAAhim-old\n")
    store = opened(cluster, environment={"AIMASS_HDFS_TOKEN_FILE": f"{tmp_path}/token", "HADOOP_USER_NAME": "alice"})
    cluster.token = "gAAhim-old"
    store.put("a", b"1")
    cluster.token = "gAAhim-new"
    with pytest.raises(Unauthenticated) as caught:
        store.read("a")
    assert caught.value.code == "storage.expired"
    (tmp_path / "token").write_text("gAAhim-new")
    assert store.read("a") == b"1"
    quoted = Remote("java.lang.IllegalArgumentException", 'Invalid value for "delegation": gAAhim-new')
    cluster.faults.add(Fault("GETFILESTATUS", Kind.REMOTE, remote=quoted))
    with pytest.raises(Refused, match=r'"delegation": \*\*\*'):
        store.head("a")
    cluster.stop(0)
    with pytest.raises(Unavailable) as away:
        store.head("a")
    assert "delegation=***" in caplog.text
    assert "gAAhim" not in caplog.text + str(caught.value) + str(away.value) + repr(away.value.__context__)
    assert all("user.name" not in request.arguments for request in cluster.requests)


def test_a_cluster_that_wants_to_know_who_we_are_is_told_from_one_that_denies(cluster: Cluster) -> None:
    cluster.token = "another"
    with pytest.raises(Unauthenticated) as caught:
        opened(cluster).head("a")
    assert caught.value.code == "storage.no_credentials"
    cluster.token = None
    denied = Remote("org.apache.hadoop.security.AccessControlException", 'Permission denied: user=bob, path="/store"')
    cluster.faults.add(
        Fault("GETFILESTATUS", Kind.REMOTE, remote=denied), Fault("GETFILESTATUS", Kind.STATUS, status=401)
    )
    with pytest.raises(Refused) as refused:
        opened(cluster).head("a")
    assert refused.value.code == "storage.denied"
    with pytest.raises(Unauthenticated):
        opened(cluster).head("a")


def test_a_user_is_named_to_a_cluster_that_believes_names(cluster: Cluster) -> None:
    opened(cluster, environment={"HADOOP_USER_NAME": "alice"}).put("a", b"1")
    assert {request.arguments.get("user.name") for request in cluster.requests} == {"alice"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """The file with an authority's certificate, and what a server of it speaks TLS with."""
    folder, now = tmp_path_factory.mktemp("tls"), time.time()
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = self_signed_root(root_key, "root", now)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    member = issue(root, root_key, Role.SERVER, "hdfs", spki, hosts=("127.0.0.1",), now=now)
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (folder / "pair.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + member.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    return folder / "root.pem", context


def test_a_cluster_with_tls_is_spoken_to_if_its_authority_is_known(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, context = authority
    with Cluster(tls=context) as cluster:
        assert cluster.url.startswith("swebhdfs://")
        with pytest.raises(Unauthenticated) as caught:
            opened(cluster).put("a", DATA)
        assert caught.value.code == "storage.certificate"
        monkeypatch.setenv("SSL_CERT_FILE", str(root))
        store = opened(cluster)
        store.put("a", DATA)
        assert b"".join(store.stream("a")) == DATA
        cluster.sends_to = "http"
        with pytest.raises(Refused) as refused:
            store.put("a", DATA)
        assert refused.value.code == "storage.redirect"


def test_what_a_dead_writer_left_is_swept(cluster: Cluster) -> None:
    store = opened(cluster)
    store.put("a", DATA)
    cluster.namespace.complete(cluster.namespace.create("/store/~parts/dead", "x", overwrite=False))
    assert [one.key for one in store.list()] == ["a"]
    assert store.sweep(0.0) == 0
    assert store.sweep(time.time() + 1, dry_run=True) == 1
    assert store.sweep(time.time() + 1) == 1
    assert cluster.namespace.files() == {"/store/a": DATA}

"""Reading goes on where a store is away, slow or lies, and what was found is kept."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from aimass.proto.data_sets import shard_key
from aimass.proto.errors import BadInput, IntegrityError, NotFound, OutOfSpace, Unavailable
from aimass.server.datasets.replicas import Fault, FaultKind, Patience, Replicas, Standing, fault_of
from aimass.server.datasets.verified import verified
from tests.server.datasets.conftest import CONTENTS, NOW
from tests.support.stores import Unruly, shard_of, stored

SHARD = shard_of(1, CONTENTS[0])
KEY = shard_key("t", SHARD.sha256)
NEVER = Patience(start_s=60.0)
AT_ONCE = Patience(start_s=0.01, least_bytes_per_s=1 << 40)


@pytest.fixture
def pair(stores: dict[str, Unruly]) -> tuple[Unruly, Unruly]:
    """Two stores that hold everything."""
    one, two, _ = stores.values()
    stored(one, "t", CONTENTS)
    stored(two, "t", CONTENTS)
    return one, two


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def kinds(replicas: Replicas) -> list[tuple[str, FaultKind]]:
    return [(fault.store, fault.kind) for fault in replicas.faults]


def test_the_first_store_serves_alone_while_it_serves_truly(pair: tuple[Unruly, Unruly], tmp_path: Path) -> None:
    replicas = Replicas("t", pair, Clock(), NEVER)
    assert replicas.read(SHARD) == CONTENTS[0]
    path = replicas.fetch(SHARD, tmp_path / "cache" / "shard.parquet")
    assert path.read_bytes() == CONTENTS[0]
    assert pair[1].asked == {"put": len(CONTENTS), "create": 1}
    assert replicas.faults == {}


@pytest.mark.parametrize(
    ("bad", "kind", "code"),
    [
        (None, FaultKind.MISSING, "storage.unknown"),
        (CONTENTS[0][:-1], FaultKind.FALSE, "dataset.shard_size"),
        (CONTENTS[0] + b"x", FaultKind.FALSE, "dataset.shard_size"),
        (b"x" + CONTENTS[0][1:], FaultKind.FALSE, "dataset.shard_changed"),
    ],
)
def test_a_copy_that_is_missing_short_long_or_changed_is_read_elsewhere(
    pair: tuple[Unruly, Unruly], tmp_path: Path, bad: bytes | None, kind: FaultKind, code: str
) -> None:
    pair[0].delete(KEY)
    if bad is not None:
        pair[0].put(KEY, bad)
    heard: list[Fault] = []
    replicas = Replicas("t", pair, Clock(), NEVER, heard.append)
    assert replicas.fetch(SHARD, tmp_path / "s").read_bytes() == CONTENTS[0]
    assert kinds(replicas) == [(pair[0].url, kind)]
    assert [fault.code for fault in heard] == [code]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["s"]


def test_a_store_that_is_away_is_asked_last_for_a_while(pair: tuple[Unruly, Unruly]) -> None:
    clock = Clock()
    replicas = Replicas("t", pair, clock, NEVER)
    pair[0].away = True
    assert replicas.read(SHARD) == CONTENTS[0]
    pair[0].away = False
    asked = dict(pair[0].asked)
    assert replicas.read(SHARD) == CONTENTS[0]
    assert pair[0].asked == asked
    clock.now += NEVER.rest_s + 1
    assert replicas.read(SHARD) == CONTENTS[0]
    assert pair[0].asked != asked


def test_beside_a_slow_store_the_next_is_asked(pair: tuple[Unruly, Unruly], tmp_path: Path) -> None:
    pair[0].go.clear()
    replicas = Replicas("t", pair, Clock(), AT_ONCE)
    assert replicas.fetch(SHARD, tmp_path / "s").read_bytes() == CONTENTS[0]
    assert kinds(replicas) == [(pair[0].url, FaultKind.SLOW)]
    pair[0].go.set()


def test_what_comes_late_leaves_no_file(pair: tuple[Unruly, Unruly], tmp_path: Path) -> None:
    pair[0].go.clear()
    before = set(threading.enumerate())
    Replicas("t", pair, Clock(), AT_ONCE).fetch(SHARD, tmp_path / "c" / "s")
    late = set(threading.enumerate()) - before
    pair[0].go.set()
    for thread in late:
        thread.join(10)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["s"]


def test_where_no_store_has_it_the_last_error_is_raised(pair: tuple[Unruly, Unruly]) -> None:
    pair[0].away = True
    pair[1].put(KEY, b"something else")
    replicas = Replicas("t", pair, Clock(), NEVER)
    with pytest.raises(IntegrityError):
        replicas.read(SHARD)
    assert len(replicas.faults) == 2
    with pytest.raises(Unavailable):
        Replicas("t", (), Clock()).read(SHARD)


def test_a_full_disk_here_is_not_the_stores_fault(
    pair: tuple[Unruly, Unruly], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    replicas = Replicas("t", pair, Clock(), NEVER)
    with pytest.raises(OutOfSpace):
        replicas.fetch(SHARD, tmp_path / "s")
    assert replicas.faults == {}


def test_what_an_error_says_of_a_copy() -> None:
    assert fault_of(NotFound("")) is FaultKind.MISSING
    assert fault_of(Unavailable("")) is FaultKind.AWAY
    assert fault_of(BadInput("")) is None


def test_patience_grows_with_the_size() -> None:
    patience = Patience(start_s=2.0, least_bytes_per_s=100)
    assert (patience.seconds(0), patience.seconds(1_000)) == (2.0, 12.0)


def test_stores_that_rest_keep_their_order_behind_the_others() -> None:
    standing = Standing().failed("a", 20.0).failed("b", 10.0)
    assert standing.order(("a", "b", "c"), 5.0) == ("c", "a", "b")
    assert standing.order(("a", "b", "c"), 10.0) == ("b", "c", "a")
    assert standing.order(("a", "b", "c"), 20.0) == ("a", "b", "c")


def test_verified_bytes_do_not_end_where_they_are_false() -> None:
    assert b"".join(verified(iter([b"ab", b"c"]), shard_of(1, b"abc").sha256, 3, "here")) == b"abc"
    seen: list[bytes] = []
    with pytest.raises(IntegrityError):
        seen.extend(verified(iter([b"ab", b"x", b"more"]), shard_of(1, b"abc").sha256, 3, "here"))
    assert b"".join(seen) == b"abx"

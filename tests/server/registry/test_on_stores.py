"""The registry holds on every kind of store, through crashes at any moment and any order of hands."""

from __future__ import annotations

import itertools
import secrets
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.proto.errors import AimassError, Conflict
from aimass.proto.objects import ObjectStore, open_objects
from aimass.server.registry.collecting import collect
from tests.support.objects import MemoryObjects
from tests.support.registries import promoting, publication_of, publishing, reading, tensors
from tests.support.webhdfs.server import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """HDFS over REST, with one name node."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(params=["file", "s3", "webhdfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "s3":
        request.getfixturevalue("keys")
        return open_objects(f"s3://tests/{secrets.token_hex(8)}?endpoint={request.getfixturevalue('s3')}")
    if request.param == "webhdfs":
        return open_objects(f"{request.getfixturevalue('cluster').url}{secrets.token_hex(8)}")
    return open_objects(f"file://{tmp_path}/store")


def test_versions_are_published_promoted_loaded_and_collected(store: ObjectStore, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda seed: publishing(store).publish(publication_of(tmp_path, seed=seed)), range(3)))
    assert {one.version.number for one in found} == {1, 2, 3}
    reader, promoter = reading(store, "olga", "petra"), promoting(store, "petra", "olga")
    promoter.point("champion", found[0], "first")
    assert reader.newer("heart", 1) is None

    def promote(place: int) -> int:
        try:
            return promoter.point("champion", found[1 + place % 2], "better", after=1).number
        except Conflict:
            return 0

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(promote, range(4))) <= {0, 2}
    newer = reader.newer("heart", 1)
    assert newer is not None
    assert newer.seen == 2
    file = reader.parameters(newer.version, tmp_path / "cache")
    assert file.read_bytes() in {tensors(seed) for seed in range(3)}
    first, second = (collect(store, reader, "heart", clock, 100.0, 0).deleted for clock in (lambda: 0.0, lambda: 200.0))
    assert (first, second) == (0, 1)


class Crashed(Exception):
    """The process ends here."""


def crashing(after: int) -> Callable[[str, str], None]:
    """Ends the process at the call of this number, and at all that its clean-up tries."""
    calls = iter(range(after))

    def before(verb: str, key: str) -> None:
        if next(calls, None) is None:
            raise Crashed

    return before


def test_a_publisher_that_crashes_anywhere_leaves_no_half_version_and_can_begin_again(tmp_path: Path) -> None:
    for after in itertools.count():
        store, crashed = MemoryObjects(), False
        store.before = crashing(after)
        try:
            publishing(store).publish(publication_of(tmp_path, run="a"))
        except Crashed:
            crashed = True
        store.before = lambda verb, key: None
        reader = reading(store, "olga")
        for number in reader.versions("heart"):
            version = reader.resolve(f"heart@{number}").version
            assert reader.parameters(version, tmp_path / "cache").read_bytes() == tensors()
        found = publishing(store).publish(publication_of(tmp_path, run="a"))
        assert (found.version.number, reader.versions("heart")) == (1, (1,))
        if not crashed:
            assert after > 8
            return


MOVES = st.lists(
    st.tuples(st.sampled_from(["petra", "paul"]), st.sampled_from(["point", "back"]), st.integers(1, 3)), max_size=25
)


@settings(max_examples=30, deadline=None)
@given(MOVES)
def test_whatever_two_promoters_do_readers_see_one_history(moves: list[tuple[str, str, int]]) -> None:
    store = MemoryObjects()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(3):
            publishing(store).publish(publication_of(Path(folder), seed=seed))
    reader = reading(store, "olga", "petra", "paul")
    hands = {"petra": promoting(store, "petra", "olga", "paul"), "paul": promoting(store, "paul", "olga", "petra")}
    seen, named = 0, 0
    for who, what, number in moves:
        try:
            if what == "point":
                state = hands[who].point("champion", reader.resolve(f"heart@{number}"), "moved", after=seen)
                assert state.version == number
            else:
                state = hands[who].roll_back("heart", "champion", "back")
                assert state.version != named
        except AimassError as error:
            assert (what, error.code) == ("back", "registry.no_former")  # noqa: PT017
            continue
        newer = reader.newer("heart", seen)
        assert (newer is None) == (state.number == seen)
        seen, named = state.number, state.version
        found = reader.resolve("heart")
        assert (found.seen, found.version.number) == (seen, named)

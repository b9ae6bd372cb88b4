"""What a driver deletes in a run's store: never what another, which goes on with the run, has put there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from aimass.proto.durable import make_folder
from aimass.proto.errors import Conflict
from aimass.proto.objects import open_objects
from aimass.proto.sharding import Split
from aimass.server.offline.journal import Journal
from aimass.server.offline.keeping import Kept
from aimass.server.offline.site import update_key
from aimass.server.simulation.folder import Saved
from aimass.server.simulation.partner import Asked, Made
from tests.support.dealt_sets import registered
from tests.support.offline_runs import begun, gone_on
from tests.support.simulations import heart_draft, shards_of


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    shards = shards_of(tmp_path / "shards", "heart", Split(rule="iid", partners=3, seed=3))
    store = f"file://{tmp_path}/store"
    registered(open_objects(store), "heart", shards)
    return begun(f"file://{tmp_path}/out", heart_draft(), store)


class Driver:
    """One driver of the run, with the local state of one partner."""

    def __init__(self, journal: Journal, work: Path) -> None:
        make_folder(work / "spool")
        self.kept = Kept(Journal(journal.url), work)
        self.saved: Saved = self.kept.load()

    def commit(self, state: str) -> None:
        self.saved = msgspec.structs.replace(self.saved, states={"p000001": state})
        self.kept.save(self.saved)

    def sweep(self) -> None:
        self.kept.sweep(self.saved)


def test_a_driver_that_stalls_after_its_commit_deletes_what_that_superseded_and_nothing_of_the_next(
    tmp_path: Path, journal: Journal
) -> None:
    blobs, one = journal.blobs(), Driver(journal, tmp_path / "one")
    old = blobs.put([b"old"])
    one.commit(old)
    one.commit(new := blobs.put([b"new"]))
    other = Driver(journal, tmp_path / "other")
    coming = other.kept.blobs.put([b"of the next, which has not committed yet"])
    one.sweep()
    assert [blobs.has(digest) for digest in (old, new, coming)] == [False, True, True]
    other.commit(coming)
    other.sweep()
    assert [blobs.has(digest) for digest in (old, new, coming)] == [False, False, True]


def test_a_driver_that_was_overtaken_deletes_nothing_any_more(tmp_path: Path, journal: Journal) -> None:
    blobs, one = journal.blobs(), Driver(journal, tmp_path / "one")
    old = blobs.put([b"old"])
    one.commit(old)
    one.commit(blobs.put([b"new"]))
    Driver(journal, tmp_path / "other").commit(old)
    one.sweep()
    assert blobs.has(old)
    with pytest.raises(Conflict):
        one.kept.save(msgspec.structs.replace(one.saved, now=1.0))


class _Dies:
    """A crew of which nothing comes."""

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        raise KeyboardInterrupt

    def reduced(self, index: int, made: Sequence[Made]) -> None:
        return None

    def close(self) -> None:
        pass


def test_contributions_to_an_open_step_stay_until_it_is_committed(tmp_path: Path, journal: Journal) -> None:
    with pytest.raises(KeyboardInterrupt):
        gone_on(journal, tmp_path / "dead", _Dies())
    (index,) = map(int, Driver(journal, tmp_path / "look").saved.run.open)
    open_, over = update_key(index, "p000001.ab"), update_key(index + 7, "p000001.ab")
    for key in (open_, over):
        journal.objects.put(key, b"of a driver that may be at work")
    Driver(journal, tmp_path / "one").kept.clear()
    assert [info.key for info in journal.objects.list("updates/")] == [open_]
    stalled = Driver(journal, tmp_path / "stalled")
    assert gone_on(journal, tmp_path / "other").state == "finished"
    assert list(journal.objects.list("updates/")) == []
    journal.objects.put(over, b"of the one that goes on")
    with pytest.raises(Conflict):
        stalled.kept.clear()
    assert [info.key for info in journal.objects.list("updates/")] == [over]

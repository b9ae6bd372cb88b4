"""An offline run is a simulation whose shards come from a store: the same bits, whoever works, wherever it was cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from aimass.proto.data_sets import DataSetManifest, DataSetName, shard_key
from aimass.proto.errors import (
    AimassError,
    BadInput,
    Conflict,
    IntegrityError,
    OutOfSpace,
    Refused,
    Unauthenticated,
    Unavailable,
)
from aimass.proto.objects import open_objects
from aimass.proto.sharding import Split
from aimass.proto.storage import FileBlobs
from aimass.proto.values import canonical_json
from aimass.server.datasets.catalogue import Catalogue
from aimass.server.offline.begin import check_same
from aimass.server.offline.crew import Strict
from aimass.server.offline.journal import Journal
from aimass.server.offline.workers import Workers, open_crew
from aimass.server.simulation.begin import completed
from aimass.server.simulation.partner import Asked, Made
from tests.support import simulations
from tests.support.dealt_sets import registered
from tests.support.offline_runs import begun, gone_on, told
from tests.support.simulations import Cut, CutCrew, heart_draft, shards_of

PARTNERS = 5
ADAM = heart_draft(train='steps = 2\noptimizer = "adam"\nkeep_optimizer = true')


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    split = Split(rule="dirichlet", argument="1.0", partners=PARTNERS, seed=2, smallest=10)
    return shards_of(tmp_path_factory.mktemp("offline") / "shards", "heart", split)


@pytest.fixture
def store(tmp_path: Path, shards: Path) -> str:
    url = f"file://{tmp_path}/store"
    registered(open_objects(url), "heart", shards)
    return url


def test_it_ends_in_the_bits_of_a_simulation_over_the_same_shards(tmp_path: Path, shards: Path, store: str) -> None:
    simulated = simulations.finished(simulations.begun(tmp_path / "simulated", ADAM, shards))
    journal = begun(f"file://{tmp_path}/out", ADAM, store)
    run = gone_on(journal, tmp_path / "work")
    assert run.state == "finished", run.reason
    assert run.model == simulated.model
    steps = told(journal)
    assert sum(step.bytes_read for step in steps) == sum(path.stat().st_size for path in shards.glob("*/*.parquet"))
    assert all(step.work_s > 0 for step in steps)


def test_the_number_of_processes_changes_no_bit(tmp_path: Path, store: str) -> None:
    alone = gone_on(begun(f"file://{tmp_path}/one", ADAM, store), tmp_path / "a")
    two = gone_on(begun(f"file://{tmp_path}/two", ADAM, store), tmp_path / "b", workers=Workers(count=2))
    assert alone.model == two.model


def test_wherever_it_is_cut_it_goes_on_elsewhere_to_the_same_bits(tmp_path: Path, store: str) -> None:
    whole = begun(f"file://{tmp_path}/whole", ADAM, store)
    model = gone_on(whole, tmp_path / "work").model
    cut = begun(f"file://{tmp_path}/cut", ADAM, store)
    cuts = 0
    while True:
        work = tmp_path / f"machine-{cuts}"
        work.mkdir()
        try:
            run = gone_on(cut, work, CutCrew(open_crew(Workers(count=1), cut, work, PARTNERS), 6 + cuts % 3))
            break
        except Cut:
            cuts += 1
    assert cuts >= 3
    assert run.model == model
    assert [(step.index, step.metrics) for step in told(cut)] == [(step.index, step.metrics) for step in told(whole)]


def test_of_two_drivers_of_one_run_one_goes_on(tmp_path: Path, store: str) -> None:
    journal = begun(f"file://{tmp_path}/out", ADAM, store)

    def overtake(_: object) -> None:
        gone_on(journal, tmp_path / "second")

    with pytest.raises(Conflict) as caught:
        gone_on(journal, tmp_path / "first", after=overtake)
    assert caught.value.code == "offline.driver"
    assert gone_on(journal, tmp_path / "third").state == "finished"
    assert [step.index for step in told(journal)] == list(range(len(told(journal))))


def test_a_store_holds_nothing_of_rounds_that_are_done(tmp_path: Path, store: str) -> None:
    journal = begun(f"file://{tmp_path}/out", ADAM, store)
    run = gone_on(journal, tmp_path / "work")
    setup = journal.setup()
    saved = {journal.newest(), *(commit.saved for commit in list(journal.commits())[-2:])}
    kept = set(journal.blobs().digests()) - saved - {setup.plan, setup.manifest, setup.first}
    assert len(kept) == 3 + PARTNERS  # models and local states
    assert {run.model, run.plan.model, run.model_before} < kept
    assert list((tmp_path / "work" / "spool").iterdir()) == []


def manifest_of(store: str) -> DataSetManifest:
    return Catalogue(open_objects(store)).open(DataSetName(name="heart"))


@pytest.mark.parametrize("damage", ["short", "changed", "missing", "longer"])
def test_a_shard_that_is_not_what_its_manifest_says_stops_the_run_and_is_never_left_out(
    tmp_path: Path, store: str, damage: str
) -> None:
    path = Path(store.removeprefix("file://")) / shard_key("heart", manifest_of(store).shards[2].sha256)
    good = path.read_bytes()
    bad = {"short": good[:-9], "changed": good[:200] + b"?" + good[201:], "longer": good + b"!"}
    path.unlink()
    if damage in bad:
        path.write_bytes(bad[damage])
    journal = begun(f"file://{tmp_path}/out", ADAM, store)
    with pytest.raises(AimassError) as caught:
        gone_on(journal, tmp_path / "work")
    assert caught.value.code == "offline.shard"
    assert "p0003" in str(caught.value.value)
    assert told(journal) == []
    path.write_bytes(good)
    assert gone_on(journal, tmp_path / "work").state == "finished"


@pytest.mark.parametrize("found", ["false (dataset.shard_changed)", "missing (storage.unknown)"])
def test_with_a_second_copy_it_goes_on_to_the_same_bits_and_says_what_it_found(
    tmp_path: Path, shards: Path, store: str, found: str
) -> None:
    model = gone_on(begun(f"file://{tmp_path}/whole", ADAM, store), tmp_path / "a").model
    other = f"file://{tmp_path}/other-store"
    registered(open_objects(other), "heart", shards)
    sha256 = manifest_of(store).shards[3].sha256
    path = Path(store.removeprefix("file://")) / shard_key("heart", sha256)
    good = path.read_bytes()
    path.unlink()
    if found.startswith("false"):
        path.write_bytes(b"?" + good[1:])
    journal = begun(f"file://{tmp_path}/out", ADAM, store, other)
    assert gone_on(journal, tmp_path / "b").model == model
    copies = {copy: why for step in told(journal) for copy, why in step.copies.items()}
    assert copies == {f"{store} {sha256[:16]}": found}


@pytest.mark.parametrize(
    "error",
    [
        Unauthenticated("expired", code="storage.credentials"),
        Unavailable("away", code="storage.unavailable"),
        Refused("read only", code="storage.refused"),
        OutOfSpace("full", code="storage.full"),
    ],
    ids=lambda error: error.kind,
)
def test_a_store_that_fails_as_a_round_is_summed_stops_a_run_and_does_not_end_it(
    tmp_path: Path, store: str, error: AimassError, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begun(f"file://{tmp_path}/out", heart_draft(rounds=1), store)

    def refuse(*_: object) -> None:
        monkeypatch.undo()  # it is well again by the time at which an end would be written down
        raise error

    with pytest.raises(type(error)):
        gone_on(journal, tmp_path / "work", after=lambda _: monkeypatch.setattr(FileBlobs, "put", refuse))
    assert [step.purpose for step in told(journal)] == ["statistics"]
    run = gone_on(journal, tmp_path / "work")
    assert run.state == "finished", run.reason


def test_a_shard_that_this_machine_changed_is_fetched_again(tmp_path: Path, store: str) -> None:
    journal = begun(f"file://{tmp_path}/out", ADAM, store)
    model = gone_on(begun(f"file://{tmp_path}/other", ADAM, store), tmp_path / "work").model
    for path in (tmp_path / "work" / "shards").glob("[0-9a-f]*"):
        path.write_bytes(b"?" + path.read_bytes()[1:])
    assert gone_on(journal, tmp_path / "work").model == model


def test_a_cache_smaller_than_the_data_changes_nothing_but_what_is_read(tmp_path: Path, store: str) -> None:
    model = gone_on(begun(f"file://{tmp_path}/whole", ADAM, store), tmp_path / "a").model
    sizes = sorted(entry.size for entry in manifest_of(store).shards)
    small = Workers(count=1, cache_bytes=sum(sizes[-2:]))  # the shard in use, and the next
    assert gone_on(begun(f"file://{tmp_path}/small", ADAM, store), tmp_path / "b", workers=small).model == model
    held = [path.stat().st_size for path in (tmp_path / "b" / "shards").iterdir() if path.is_file()]
    assert 0 < sum(held) <= sum(sizes[-2:]) < sum(sizes)


def test_a_run_goes_on_with_what_it_was_begun_with_alone(tmp_path: Path, store: str) -> None:
    journal = begun(f"file://{tmp_path}/out", ADAM, store)
    blobs = journal.blobs()
    check_same(journal, completed(ADAM, blobs), "heart@1", blobs)
    for plan, data, code in ((heart_draft(), None, "offline.plan"), (None, "heart@2", "offline.data")):
        with pytest.raises(Conflict) as caught:
            check_same(journal, completed(plan, blobs) if plan else None, data, blobs)
        assert caught.value.code == code
    with pytest.raises(Conflict) as caught:
        begun(f"file://{tmp_path}/out", ADAM, store)
    assert caught.value.code == "offline.exists"


def test_an_edited_manifest_is_found_out(tmp_path: Path, store: str) -> None:
    journal = begun(f"file://{tmp_path}/out", ADAM, store)
    digest = journal.setup().manifest
    path = tmp_path / "out" / "blobs" / digest[:2] / digest
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(IntegrityError):
        gone_on(journal, tmp_path / "work")


def test_a_data_set_of_another_schema_is_refused_though_its_name_is_the_same(tmp_path: Path, shards: Path) -> None:
    store = f"file://{tmp_path}/store"
    manifest = registered(open_objects(store), "heart", shards)
    narrow = msgspec.structs.replace(manifest.data_schema, columns=manifest.data_schema.columns[1:])
    other = canonical_json(msgspec.structs.replace(manifest, data_schema=narrow))
    open_objects(store).put("heart/versions/00000001.json", other)
    with pytest.raises(BadInput) as caught:
        begun(f"file://{tmp_path}/out", ADAM, store)
    assert caught.value.code == "dataset.schema"


@pytest.mark.parametrize(
    ("more", "train", "value"),
    [
        ("", "steps = 2\nproximal_mu = 0.1", "train.proximal_mu"),
        ('[compress]\nquantise = "int8"\n', "steps = 2", "compress"),
        ('[[stages]]\ndriver = "cyclic"\noptions = { rounds = 1 }\n', "steps = 2", "driver = cyclic"),
    ],
)
def test_what_only_one_shard_has_is_refused_in_lockstep(
    tmp_path: Path, store: str, more: str, train: str, value: str
) -> None:
    with pytest.raises(BadInput) as caught:
        begun(f"file://{tmp_path}/out", heart_draft(more, train=train), store, schedule="synchronous")
    assert (caught.value.code, caught.value.value) == ("offline.synchronous", value)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("child.MemoryError: x", "offline.memory"), ("child.ValueError: x", "offline.shard")],
)
def test_what_failed_is_named(fault: str, code: str) -> None:
    class Failing:
        def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
            yield Made(partner="p1", fault=fault)

        def reduced(self, index: int, made: Sequence[Made]) -> None:
            return None

        def close(self) -> None:
            pass

    with pytest.raises(AimassError) as caught:
        list(Strict(Failing()).work([]))
    assert caught.value.code == code


def test_a_shard_of_one_row_takes_part(tmp_path: Path) -> None:
    dealt = shards_of(tmp_path / "shards", "heart", Split(rule="sizes", argument="0.5,0.499,0.001"))
    store = f"file://{tmp_path}/store"
    manifest = registered(open_objects(store), "heart", dealt)
    assert [shard.rows for shard in manifest.shards][-1] == 1
    journal = begun(f"file://{tmp_path}/out", heart_draft(rounds=1), store)
    run = gone_on(journal, tmp_path / "work")
    assert run.state == "finished", run.reason
    assert [(step.counted, step.asked) for step in told(journal)] == [(3, 3)] * 3


def test_a_late_list_hides_no_commit(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = begun(f"file://{tmp_path}/out", ADAM, store)
    gone_on(journal, tmp_path / "work")
    newest = journal.newest()
    late = Journal(journal.url)
    monkeypatch.setattr(late.objects, "list", lambda _prefix="": iter(()))
    assert late.newest() == newest

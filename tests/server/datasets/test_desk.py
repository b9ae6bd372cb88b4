"""What the data set service answers from the stores, whichever of them answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from aimass.proto.data_sets import read_data_set, shard_key, version_key
from aimass.proto.data_views import LeaseView
from aimass.proto.errors import BadInput, Conflict, LimitExceeded, NotFound, Refused, Unavailable
from aimass.proto.manifest import Number
from aimass.proto.values import canonical_json
from aimass.server.datasets.care import House, repair
from aimass.server.datasets.desk import DataSetDesk
from aimass.server.datasets.leases import LONGEST_S
from aimass.server.datasets.open_jobs import MOST_JOBS
from aimass.server.datasets.owners import claim
from aimass.server.datasets.records import due, keep_record, record_of
from tests.server.datasets.conftest import CONTENTS, NOW, no_limit
from tests.support.stores import SCHEMA, Unruly, manifest_of, shard_of, stored

NUMBERS = list(range(1, len(CONTENTS) + 1))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(house: House, clock: Clock) -> DataSetDesk:
    repair(house, NOW, no_limit, deep=False)
    return DataSetDesk(tuple(house.stores), house.stores.__getitem__, clock)


def home_of(house: House) -> Unruly:
    home = house.home
    assert isinstance(home, Unruly)
    return home


def test_a_data_set_is_shown_with_its_copies_and_its_health(house: House, desk: DataSetDesk) -> None:
    (view,) = desk.all().data_sets
    assert (view.name, view.version, view.versions, view.shards) == ("t", 1, (1,), len(CONTENTS))
    assert (view.stores, view.copies, view.health) == (tuple(house.stores), 2, None)
    keep_record(house.home, repair(house, NOW, no_limit, deep=True), None)
    health = desk.view("t").health
    assert health is not None
    assert (health.whole, health.deep, health.good) == (True, True, 2 * len(CONTENTS))


def test_with_the_home_away_all_is_shown_and_nothing_is_committed(house: House, desk: DataSetDesk) -> None:
    document = desk.document("t@1")
    home_of(house).away = True
    assert desk.document("t") == document
    assert desk.view("t").version == 1
    with pytest.raises(Unavailable):
        desk.lend("t", "job", "ada", 1, 10.0)


def test_the_newest_version_is_shown_whichever_store_lacks_it(house: House, clock: Clock) -> None:
    repair(house, NOW, no_limit, deep=False)
    one, two, _ = house.stores
    stored(house.home, "t", CONTENTS[:1], version=2)
    desk = DataSetDesk((two, one), house.stores.__getitem__, clock)
    assert (desk.view("t").version, desk.view("t").home_away) == (2, "")
    assert read_data_set(desk.document("t"), "it").version == 2


def test_with_the_home_away_a_view_says_that_there_may_be_a_newer_version(
    house: House, desk: DataSetDesk, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    stored(house.home, "t", CONTENTS[:1], version=2)
    home_of(house).away = True
    views = [desk.view("t") for _ in range(3)]
    assert {(view.version, view.home_away) for view in views} == {(1, house.home.url)}
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # while it rests it is not asked
    with pytest.raises(Unavailable) as told:
        desk.lend("t", "job", "ada", 1, 10.0)
    assert (told.value.code, "t@1" in told.value.cure) == ("dataset.home_away", True)
    home_of(house).away = False
    clock.now += 61
    assert (desk.view("t").version, desk.view("t").home_away) == (2, "")


def test_a_version_is_registered_at_home_alone(house: House, clock: Clock) -> None:
    repair(house, NOW, no_limit, deep=False)
    _, two, three = house.stores
    desk = DataSetDesk((two, three), house.stores.__getitem__, clock)
    with pytest.raises(Conflict) as told:
        desk.register(canonical_json(manifest_of("t", 2, [shard_of(1, CONTENTS[0])])), "olga", operator=True)
    assert (told.value.code, house.home.url in told.value.cure) == ("dataset.home", True)


def test_a_store_that_is_away_is_waited_for_once_in_a_while(house: House, desk: DataSetDesk, clock: Clock) -> None:
    home = home_of(house)
    home.away, home.asked = True, {}
    for _ in range(5):
        desk.document("t")
    assert sum(home.asked.values()) == 1
    clock.now += 61
    desk.document("t")
    assert sum(home.asked.values()) == 2


def test_a_data_set_that_is_new_is_named_within_a_minute(house: House, desk: DataSetDesk, clock: Clock) -> None:
    assert desk.names() == ("t",)
    stored(house.home, "another", CONTENTS[:1])
    assert desk.names() == ("t",)
    clock.now += 61
    assert desk.names() == ("another", "t")


def test_a_data_set_that_cannot_be_shown_hides_no_other(house: House, desk: DataSetDesk) -> None:
    for store in house.stores.values():
        store.put(version_key("bad", 1), b"{")
    found = desk.all()
    assert [view.name for view in found.data_sets] == ["t"]
    assert found.faults == {"bad": "value.invalid"}


def test_shards_are_lent_renewed_given_back_and_done(desk: DataSetDesk, clock: Clock) -> None:
    first = desk.lend("t", "job", "ada", 3, 10.0)
    assert [shard.number for shard in first.shards] == [1, 2, 3]
    assert (first.data_set, first.until, first.free, first.done) == ("t@1", NOW + 10, len(CONTENTS) - 3, 0)
    second = desk.lend("t@1", "job", "ada", 1_000, 10.0)
    assert [shard.number for shard in second.shards] == NUMBERS[3:]
    assert desk.lend("t", "job", "ada", 1, 10.0).lease == ""
    assert desk.lend("t", "another-job", "ada", 1, 10.0).shards[0].number == 1
    clock.now += 5
    assert desk.renew("t@1", "job", first.lease, "ada", 10.0).until == NOW + 15
    desk.release("t@1", "job", first.lease, "ada", [1, 3])
    clock.now += 6  # what bob was lent has ended
    last = desk.lend("t@1", "job", "ada", 1_000, 10.0)
    assert [shard.number for shard in last.shards] == [2, *NUMBERS[3:]]
    end = desk.release("t@1", "job", last.lease, "ada", [shard.number for shard in last.shards])
    assert (end.done, end.free, end.total) == (len(CONTENTS), 0, len(CONTENTS))
    with pytest.raises(NotFound):
        desk.release("t@1", "job", second.lease, "ada", [])


def test_a_lease_outlives_the_service_that_gave_it(house: House, desk: DataSetDesk, clock: Clock) -> None:
    lease = desk.lend("t", "job", "ada", 2, 10.0)
    other = DataSetDesk(tuple(house.stores), house.stores.__getitem__, clock)
    assert other.lend("t", "job", "ada", 1, 10.0).shards[0].number == 3
    assert other.release("t@1", "job", lease.lease, "ada", [1, 2]).done == 2


def test_two_services_that_lend_at_once_lend_no_shard_twice(house: House, desk: DataSetDesk, clock: Clock) -> None:
    home, other = home_of(house), DataSetDesk(tuple(house.stores), house.stores.__getitem__, clock)
    lent: list[int] = []

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create":
            home.before = lambda verb, key: None
            lent.extend(shard.number for shard in other.lend("t", "job", "ada", 5, 10.0).shards)

    home.before = meanwhile
    mine = [shard.number for shard in desk.lend("t", "job", "ada", 5, 10.0).shards]
    assert (lent, mine) == ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])


def test_a_job_is_of_who_began_it_and_others_are_refused_by_name(desk: DataSetDesk) -> None:
    """Another took all shards and said "done": the owner's training skipped them silently."""
    lease = desk.lend("t", "job", "ada", 2, 10.0)
    asked: tuple[Callable[[], LeaseView], ...] = (
        lambda: desk.lend("t", "job", "bob", 10_000, 10.0),
        lambda: desk.renew("t@1", "job", lease.lease, "bob", 10.0),
        lambda: desk.release("t@1", "job", lease.lease, "bob", [1, 2]),
    )
    for ask in asked:
        with pytest.raises(Refused) as told:
            ask()
        assert (told.value.code, told.value.limit) == ("lease.owner", "ada")
    assert desk.lend("t", "job", "ada", 10_000, 10.0).shards[0].number == 3


def test_a_person_has_so_many_jobs_and_those_that_ended_are_removed(
    house: House, desk: DataSetDesk, clock: Clock
) -> None:
    leases = [desk.lend("t", f"job-{number}", "ada", 10_000, 10.0) for number in range(MOST_JOBS)]
    with pytest.raises(LimitExceeded) as told:
        desk.lend("t", "more", "ada", 1, 10.0)
    assert told.value.code == "lease.jobs"
    desk.lend("t", "bobs", "bob", 1, 10.0)
    assert desk.release("t@1", "job-0", leases[0].lease, "ada", NUMBERS).done == len(NUMBERS)
    assert desk.lend("t", "job-0", "ada", 1, 10.0).lease == ""  # workers that ask again are told that it is over
    clock.now += LONGEST_S
    desk.lend("t", "more", "ada", 1, 10.0)
    assert not list(house.home.list("_service/leases/t/00000001/job-0/"))
    with pytest.raises(LimitExceeded):
        desk.lend("t", "still-more", "ada", 1, 10.0)
    clock.now += 31 * 86_400
    desk.lend("t", "still-more", "ada", 1, 10.0)
    assert [info.key.split("/")[4] for info in house.home.list("_service/leases/")] == ["bobs", "still-more"]


def test_an_old_job_on_which_somebody_works_is_not_forgotten(desk: DataSetDesk, clock: Clock) -> None:
    desk.lend("t", "job", "ada", 1, 10.0)
    clock.now += 31 * 86_400
    lease = desk.lend("t", "job", "ada", 1, 10.0)
    desk.lend("t", "another", "ada", 1, 10.0)
    assert desk.release("t@1", "job", lease.lease, "ada", [1]).done == 1


def test_who_began_a_job_too_late_does_not_take_its_table_away(house: House, desk: DataSetDesk, clock: Clock) -> None:
    home, other = home_of(house), DataSetDesk(tuple(house.stores), house.stores.__getitem__, clock)

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create" and "/leases/" in key:
            home.before = lambda verb, key: None
            other.lend("t", "job", "bob", 1, 10.0)

    home.before = meanwhile
    with pytest.raises(Refused):
        desk.lend("t", "job", "ada", 1, 10.0)
    clock.now += 31 * 86_400
    desk.lend("t", "another", "ada", 1, 10.0)
    with pytest.raises(Refused):
        desk.lend("t", "job", "ada", 1, 10.0)


@pytest.mark.parametrize(
    ("most", "job", "seconds"), [(0, "job", 1.0), (10_001, "job", 1.0), (1, "Job/../x", 1.0), (1, "job", 0.0)]
)
def test_a_lease_that_cannot_be_is_refused(desk: DataSetDesk, most: int, job: str, seconds: float) -> None:
    with pytest.raises(BadInput):
        desk.lend("t", job, "ada", most, seconds)


def test_a_version_is_registered_whole_and_once(house: House, desk: DataSetDesk) -> None:
    shards = [shard_of(number, data) for number, data in enumerate(CONTENTS[:2], start=1)]
    document = canonical_json(manifest_of("t", 2, shards))
    assert desk.register(document, "olga", operator=True).version == 2
    assert desk.register(document, "olga", operator=True).versions == (1, 2)
    assert desk.document("t@2") == document


def test_a_version_without_its_shards_or_out_of_order_is_not_registered(house: House, desk: DataSetDesk) -> None:
    missing = manifest_of("t", 2, [shard_of(1, b"stored nowhere")])
    with pytest.raises(NotFound):
        desk.register(canonical_json(missing), "olga", operator=True)
    house.home.put(shard_key("t", missing.shards[0].sha256), b"short")
    with pytest.raises(BadInput):
        desk.register(canonical_json(missing), "olga", operator=True)
    with pytest.raises(Conflict):
        desk.register(canonical_json(msgspec.structs.replace(missing, version=3)), "olga", operator=True)
    with pytest.raises(BadInput):
        desk.register(b" " + canonical_json(missing), "olga", operator=True)
    assert desk.view("t").versions == (1,)


def test_a_version_whose_columns_mean_something_else_is_not_registered(desk: DataSetDesk) -> None:
    """Whoever trains on the newest version would train on what nobody split."""
    shards = [shard_of(number, data) for number, data in enumerate(CONTENTS[:2], start=1)]
    other = msgspec.structs.replace(SCHEMA, columns=(Number(name="age", minimum=0, maximum=12),))
    with pytest.raises(Refused) as told:
        desk.register(
            canonical_json(msgspec.structs.replace(manifest_of("t", 2, shards), data_schema=other)),
            "olga",
            operator=True,
        )
    assert told.value.code == "dataset.schema_change"
    assert desk.view("t").versions == (1,)


def version(name: str, number: int, shards: int = 2) -> bytes:
    """A version whose shards stand wherever `t` does, once they are copied there."""
    entries = [shard_of(shard, data) for shard, data in enumerate(CONTENTS[:shards], start=1)]
    return canonical_json(manifest_of(name, number, entries))


def test_who_registers_a_data_set_first_owns_it(house: House, desk: DataSetDesk) -> None:
    for data in CONTENTS[:2]:
        house.home.put(shard_key("new", hashlib.sha256(data).hexdigest()), data)
    assert desk.register(version("new", 1), "anna").version == 1
    with pytest.raises(Refused) as told:
        desk.register(version("new", 2, shards=1), "bert")
    assert (told.value.code, told.value.limit) == ("dataset.owner", "anna")
    assert desk.view("new").version == 1
    assert desk.register(version("new", 2), "anna").version == 2
    assert desk.register(version("new", 3), "olga", operator=True).version == 3


def test_of_two_who_register_a_first_version_at_once_the_one_whose_stands_is_the_owner(
    house: House, desk: DataSetDesk, clock: Clock
) -> None:
    for data in CONTENTS[:2]:
        house.home.put(shard_key("new", hashlib.sha256(data).hexdigest()), data)
    home, other = home_of(house), DataSetDesk(tuple(house.stores), house.stores.__getitem__, clock)

    def meanwhile(verb: str, key: str) -> None:
        if (verb, key) == ("create", version_key("new", 1)):
            home.before = lambda verb, key: None
            other.register(version("new", 1), "anna")

    home.before = meanwhile
    with pytest.raises(Conflict):
        desk.register(version("new", 1, shards=1), "bert")
    with pytest.raises(Refused):
        desk.register(version("new", 2), "bert")
    assert desk.register(version("new", 2), "anna").version == 2


def test_who_began_to_register_a_first_version_is_not_robbed_of_it(house: House, desk: DataSetDesk) -> None:
    """Nor by who sends the same bytes while its own call was cut off."""
    for data in CONTENTS[:2]:
        house.home.put(shard_key("new", hashlib.sha256(data).hexdigest()), data)
    claim(house.home, "new", version("new", 1), "anna")
    with pytest.raises(Refused) as told:
        desk.register(version("new", 1), "bert")
    assert (told.value.code, told.value.limit) == ("dataset.owner", "anna")
    assert desk.register(version("new", 1), "anna").version == 1


def test_a_data_set_that_was_made_at_the_store_gets_its_versions_there_or_of_an_operator(desk: DataSetDesk) -> None:
    with pytest.raises(Refused) as told:
        desk.register(version("t", 2), "anna")
    assert told.value.code == "dataset.owner"
    assert desk.register(version("t", 2), "olga", operator=True).version == 2


def test_another_manifest_of_the_same_job_is_not_said_to_be_registered(desk: DataSetDesk) -> None:
    """Nothing of it would be committed."""
    desk.register(version("t", 2), "olga", operator=True)
    with pytest.raises(Conflict) as told:
        desk.register(version("t", 2, shards=1), "olga", operator=True)
    assert told.value.code == "dataset.committed"


def test_what_was_found_is_kept_and_says_what_is_due(house: House) -> None:
    assert due(None, NOW, 10.0, deep=True)
    quick = keep_record(house.home, repair(house, NOW, no_limit, deep=False), None)
    assert (quick.deep_at, due(quick, NOW + 1, 10.0, deep=False), due(quick, NOW + 1, 10.0, deep=True)) == (
        0.0,
        False,
        True,
    )
    deep = keep_record(house.home, repair(house, NOW + 5, no_limit, deep=True), quick)
    again = keep_record(house.home, repair(house, NOW + 9, no_limit, deep=False), deep)
    assert again.deep_at == NOW + 5
    assert record_of(house.home, "t") == again
    assert due(again, NOW + 16, 10.0, deep=True)
    assert not due(again, NOW + 16, 10.0, deep=False)

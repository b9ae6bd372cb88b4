"""The watcher's shell over a registry in memory and a dispatcher without processes, on a manual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.proto.errors import AimassError, NotFound, OutOfSpace, Refused, Unavailable
from aimass.proto.exposition import exposed
from aimass.proto.meters import meters_of
from aimass.proto.model_manifest import ModelManifest, Reference
from aimass.proto.plan import TaskRef
from aimass.proto.statistics import Histogram, NumberCounts
from aimass.proto.values import canonical_json
from aimass.server.serving.dispatch.requests import InvalidOutput, Overloaded, QueueDeadline, Request, WorkerLost
from aimass.server.serving.watching.settings import DriftSettings, RetrainSettings
from tests.support.registries import put_version, trusting, version_of
from tests.support.watched_house import SETTINGS, WatchedHouse, Watching

Test = Callable[[Watching], Awaitable[None]]


@pytest.fixture
def house(tmp_path: Path) -> WatchedHouse:
    return WatchedHouse(tmp_path)


def lives(house: WatchedHouse, test: Test) -> None:
    """One life of a serving process."""

    async def live() -> None:
        watching = house.process()
        async with watching.watchers.watching():
            await test(watching)

    asyncio.run(asyncio.wait_for(live(), 20))


def test_the_promoted_version_serves_once_it_is_verified_loaded_and_tried(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        assert watching.shares == {1: 1.0}
        assert watching.dispatcher.sources[0].parameters.read_bytes() == b"parameters 1"
        version = watching.watchers.version("heart", 1)
        assert version is not None
        assert version.number == 1
        assert watching.watchers.version("heart", 2) is None

    lives(house, test)
    assert house.told("tested") == ["version 1 answered 2 smoke inputs as expected"]


def test_a_new_version_comes_by_a_share_and_the_former_one_leaves_in_the_end(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: watching.shares == {1: 0.5, 2: 0.5}, asks=5)
        await watching.until(lambda: watching.shares == {2: 1.0}, asks=5)
        assert watching.dispatcher.fallbacks["heart"] == 1
        await watching.until(lambda: ("heart", 1) not in watching.dispatcher.servables, asks=5)
        assert await watching.ask(10) == {2}

    lives(house, test)


@pytest.mark.parametrize("how", ["wrong", "nan"])
def test_what_answers_its_smoke_inputs_wrongly_never_answers_a_person(house: WatchedHouse, how: str) -> None:
    house.promote(1)
    house.how[2] = how

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: house.told("refused"))
        assert await watching.ask(20) == {1}
        await watching.until(lambda: ("heart", 2) not in watching.dispatcher.servables)

    lives(house, test)


def test_a_version_that_takes_other_columns_is_refused_before_anybody_meets_it(house: WatchedHouse) -> None:
    house.promote(1)
    house.how[2] = "other"
    house.publish(2, smoke=False)

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: house.told("refused"))
        assert watching.shares == {1: 1.0}
        await watching.until(lambda: ("heart", 2) not in watching.dispatcher.servables)

    lives(house, test)
    assert house.told("refused")[0].startswith(
        "version 2 is refused: it has no input age; callers of version 1, which serves, would notice"
    )
    assert house.told("canary") == []


def test_a_version_that_takes_other_columns_comes_where_that_is_allowed(house: WatchedHouse) -> None:
    rollout = msgspec.structs.replace(SETTINGS.rollout, other_form="allow")
    house.settings = msgspec.structs.replace(SETTINGS, rollout=rollout)
    house.promote(1)
    house.how[2] = "other"
    house.publish(2, smoke=False)

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: watching.shares == {1: 0.5, 2: 0.5})
        assert await watching.ask(10) == {1}, "the former version answers who has the old columns"

    lives(house, test)


def test_a_version_that_turns_bad_under_requests_is_taken_back_and_no_request_fails(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: watching.shares == {2: 1.0}, asks=5)
        watching.dispatcher.servables["heart", 2].how = "nan"  # type: ignore[attr-defined]
        await watching.until(lambda: watching.shares == {1: 1.0}, asks=5)
        assert await watching.ask(10) == {1}

    lives(house, test)
    assert "it failed " in house.told("taken_back")[0]


def test_a_version_that_answers_all_alike_is_refused_although_each_answer_is_valid(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: 2 in watching.shares, asks=20)
        watching.dispatcher.servables["heart", 2].how = "constant"  # type: ignore[attr-defined]
        await watching.until(lambda: house.told("refused"), asks=20)
        assert watching.shares == {1: 1.0}

    lives(house, test)
    assert "it gave the same answer to all" in house.told("refused")[0]


def test_other_bytes_than_were_signed_are_never_loaded_and_are_tried_again_when_they_are_there(
    house: WatchedHouse,
) -> None:
    house.promote(1)
    house.publish(2)
    digest = house.store.held
    key = next(key for key in digest if key.endswith(".safetensors") and digest[key][0] == b"parameters 2")
    house.store.put(key, b"parameters")

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: house.told("refused"), asks=1)
        assert [source.version for source in watching.dispatcher.sources] == [1]
        house.store.put(key, b"parameters 2")
        await watching.until(lambda: watching.shares == {2: 1.0}, asks=5)

    lives(house, test)


def test_memory_that_changed_is_noticed_and_a_good_version_serves_by_its_older_promotion(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        await watching.until(lambda: house.told("good"), asks=10)
        house.promote(2)
        await watching.until(lambda: ("heart", 1) not in watching.dispatcher.servables, asks=5)
        watching.dispatcher.digests[2] = "f" * 64
        await watching.until(lambda: watching.shares == {1: 1.0}, asks=5)

    lives(house, test)
    assert "the parameters in its memory have the digest ffffffffffff" in house.told("fails")[0]


def test_a_load_that_hangs_stops_nobody_and_is_given_up(house: WatchedHouse) -> None:
    house.promote(1)
    house.how[2] = "hangs"

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: house.told("refused"), asks=1)
        assert await watching.ask(10) == {1}

    lives(house, test)
    assert "loading it took more than 120 s" in house.told("refused")[0]


def test_a_version_whose_load_was_given_up_can_be_loaded_again_at_once(house: WatchedHouse) -> None:
    house.promote(1)
    house.how[2] = "hangs"

    async def test(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: 2 in watching.dispatcher.loading)
        watching.dispatcher.cleared.clear()
        watching.dispatcher.how[2] = "good"
        house.promote(1)
        await watching.until(lambda: house.told("given_up"))
        house.promote(2)
        await watching.until(lambda: len(house.told("begins")) == 3)
        await watching.pass_by(3)
        watching.dispatcher.cleared.set()
        await watching.until(lambda: 2 in watching.shares)

    lives(house, test)
    assert house.told("refused") == []


def test_while_the_registry_is_away_what_serves_goes_on(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        house.store.before = away
        await watching.pass_by(100, asks=1)
        house.store.before = lambda verb, key: None
        house.promote(2)
        await watching.until(lambda: watching.shares == {2: 1.0}, asks=5)

    lives(house, test)
    assert len(house.told("registry_away")) == len(house.told("registry_back")) == 1


def away(verb: str, key: str) -> None:
    raise Unavailable("the store does not answer", code="storage.unavailable")


def test_a_start_with_the_registry_away_serves_the_last_good_version(house: WatchedHouse) -> None:
    house.promote(1)

    async def first(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: ("heart", 1) not in watching.dispatcher.servables, asks=5)
        await watching.pass_by(2)

    async def second(watching: Watching) -> None:
        assert watching.shares == {2: 1.0}
        assert await watching.ask(3) == {2}

    lives(house, first)
    house.store.before = away
    lives(house, second)
    assert "version 2 is on this disk" in house.told("starts")[1]
    assert house.told("tested")[-1] == "version 2 answered 2 smoke inputs as expected"


def test_who_deletes_the_newest_state_of_an_alias_does_not_take_serving_back(house: WatchedHouse) -> None:
    house.promote(1)

    async def first(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: ("heart", 1) not in watching.dispatcher.servables, asks=5)
        house.store.delete("heart/aliases/champion/00000002.json")
        await watching.pass_by(400, asks=1)
        assert watching.shares == {2: 1.0}

    async def second(watching: Watching) -> None:
        await watching.until(lambda: watching.shares == {2: 1.0})
        await watching.pass_by(400, asks=1)
        assert watching.shares == {2: 1.0}

    lives(house, first)
    lives(house, second)
    assert len(house.told("registry_older")) == 2, "by each process once"


def test_a_version_is_not_served_for_having_been_good_when_its_promoter_is_believed_no_more(
    house: WatchedHouse,
) -> None:
    house.trust = trusting("olga", "pia")
    house.promote(1, by="pia")

    async def first(watching: Watching) -> None:
        await watching.pass_by(30, asks=10)
        assert watching.shares == {1: 1.0}

    async def never(watching: Watching) -> None:
        raise AssertionError

    lives(house, first)
    house.trust = trusting("olga")
    with pytest.raises(Refused) as caught:
        lives(house, never)
    assert caught.value.code == "registry.not_promoted"
    house.promote(1, by="olga")
    lives(house, first)


def test_what_is_kept_is_verified_again_and_not_served_where_somebody_changed_it(house: WatchedHouse) -> None:
    house.promote(1)

    async def first(watching: Watching) -> None:
        await watching.pass_by(2)

    lives(house, first)
    for path in (house.folder / "heart" / "parameters").iterdir():
        if path.is_file():
            path.write_bytes(b"parameters X")
    house.store.before = away

    async def second(watching: Watching) -> None:
        await watching.pass_by(30)
        assert watching.shares == {}

    lives(house, second)


def test_a_version_that_was_refused_is_remembered_by_the_next_process(house: WatchedHouse) -> None:
    house.promote(1)

    async def first(watching: Watching) -> None:
        house.promote(2)
        await watching.until(lambda: watching.shares == {2: 1.0}, asks=5)
        watching.dispatcher.servables["heart", 2].how = "nan"  # type: ignore[attr-defined]
        await watching.until(lambda: watching.shares == {1: 1.0}, asks=5)

    async def second(watching: Watching) -> None:
        assert watching.shares == {1: 1.0}
        await watching.pass_by(10, asks=5)
        assert watching.shares == {1: 1.0}

    lives(house, first)
    lives(house, second)


def test_a_model_that_does_not_exist_ends_the_start_with_a_named_error(house: WatchedHouse) -> None:
    async def test(watching: Watching) -> None:
        raise AssertionError

    with pytest.raises(NotFound) as caught:
        lives(house, test)
    assert caught.value.code == "registry.no_alias"


def test_with_nothing_kept_and_no_registry_a_process_starts_and_waits(house: WatchedHouse) -> None:
    house.promote(1)
    house.store.before = away

    async def test(watching: Watching) -> None:
        assert watching.shares == {}
        house.store.before = lambda verb, key: None
        await watching.until(lambda: watching.shares == {1: 1.0})

    lives(house, test)


def test_a_version_that_nobody_signed_is_not_served(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        data = b"parameters 2"
        house.digests[2] = put_version(house.store, version_of("heart", 2, data), "mallory", data)
        house.promote(2)
        await watching.until(lambda: house.told("registry_away"), asks=1)
        assert await watching.ask(5) == {1}

    lives(house, test)
    assert not any("version 2" in text for text in house.told("begins"))


def test_unloading_a_model_stops_its_watch_and_loading_it_takes_it_up_again(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        await watching.watchers.unload("heart")
        assert watching.dispatcher.servables == {}
        await watching.watchers.load("heart")
        assert watching.shares == {1: 1.0}
        house.promote(2)
        await watching.watchers.load("heart")
        await watching.until(lambda: 2 in watching.shares)

    lives(house, test)


def test_a_disk_that_is_full_takes_no_requests_away(house: WatchedHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    house.promote(1)

    def full(*_: object) -> None:
        raise OutOfSpace("no space left to write audit.jsonl", code="disk.full")

    async def test(watching: Watching) -> None:
        monkeypatch.setattr("aimass.server.serving.watching.audit_log.append_line", full)
        house.promote(2)
        await watching.until(lambda: watching.shares == {2: 1.0}, asks=5)

    lives(house, test)
    assert house.meters.failed.read()[()] > 0


def test_a_disk_that_is_full_when_a_version_comes_leaves_what_serves_and_is_tried_again(
    house: WatchedHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.promote(1)

    def full(*_: object) -> None:
        raise OutOfSpace("no space left to write a model", code="disk.full")

    async def test(watching: Watching) -> None:
        with monkeypatch.context() as broken:
            broken.setattr("aimass.proto.registry.reader.fetch", full)
            house.promote(2)
            await watching.until(lambda: len(house.told("refused")) == 2, asks=1)
            assert await watching.ask(5) == {1}
        await watching.until(lambda: watching.shares == {2: 1.0}, asks=5)

    lives(house, test)
    assert "no space left" in house.told("refused")[0]


def test_two_processes_over_one_folder_follow_one_promotion(house: WatchedHouse) -> None:
    house.promote(1)

    async def live() -> None:
        one, other = house.process(), house.process()
        async with one.watchers.watching(), other.watchers.watching():
            house.promote(2)
            await one.until(lambda: one.shares == other.shares == {1: 0.5, 2: 0.5})
            for _ in range(60):
                await one.ask(5)
                await other.ask(5)
                await one.pass_by(1)
            assert one.shares == other.shares == {2: 1.0}
            assert ("heart", 1) not in {**one.dispatcher.servables, **other.dispatcher.servables}

    asyncio.run(asyncio.wait_for(live(), 20))
    assert len(house.told("serves")) == 4


# ---------------------------------------------------------------- rows


def _manifest(rows: np.ndarray) -> bytes:
    counts = np.histogram(rows, 20, (0, 120))[0].astype(float)
    spread = Histogram(
        numbers=(NumberCounts(column="age", minimum=0.0, maximum=120.0, counts=tuple(counts.tolist()), missing=0.0),),
        categories=(),
    )
    return canonical_json(
        ModelManifest(
            run_id="a" * 32,
            run_name="study",
            task=TaskRef(name="heart", digest="0" * 64),
            data_schema="heart/1",
            schema="",
            plan="0" * 64,
            first_model="0" * 64,
            parameters="0" * 64,
            bytes=1,
            step=None,
            round=1,
            transcript_head="",
            finished_at=0.0,
            metrics={},
            reference=Reference(histogram=spread, partners=2),
        )
    )


_PLAN = RetrainSettings(plan="heart.toml", home="scientist")
_DRIFT = DriftSettings(least_rows=300, window_s=5, windows=2, then="retrain")


def test_a_drifted_stream_is_told_of_and_submits_a_plan_and_then_is_over(tmp_path: Path) -> None:
    house = WatchedHouse(tmp_path, msgspec.structs.replace(SETTINGS, drift=_DRIFT, retrain=_PLAN))
    house.retrainer.away = 1
    house.publish(1, manifest=_manifest(house.ages.normal(60, 10, 3_000)))
    house.promote(1)

    async def test(watching: Watching) -> None:
        await watching.pass_by(20, asks=80)
        assert house.told("input_drift") == []
        await watching.pass_by(20, asks=80, shift=15)
        assert len(house.told("input_drift")) == 1
        assert house.told("input_drift")[0].startswith("live rows have drifted: age (PSI ")
        assert len(house.told("output_drift")) == 1, "the answers moved with the rows"
        (column,) = watching.watchers.views()["heart"].drift
        assert column.index > 1
        await watching.pass_by(60, asks=80)
        assert "live rows are as they were" in house.told("drift_over")

    lives(house, test)
    assert house.retrainer.releases == [1, 1]
    assert len(house.told("retrain_failed")) == 1
    assert house.told("retrain_submitted") == [f"the plan was submitted as run {'f' * 32}"]


def test_without_a_reference_it_is_said_aloud(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        await watching.pass_by(3, asks=1)
        assert "age: the model's manifest has no reference" in watching.watchers.views()["heart"].not_watched

    lives(house, test)
    assert house.told("not_watched") == [
        "drift of age cannot be watched: the model's manifest has no reference: published without a run's manifest"
    ]


def test_our_own_smoke_inputs_are_nobodys_rows(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        watcher = watching.watchers._watchers["heart"]
        watcher._observer.taken()
        await watcher._handling.examine(watcher._state.serving.release)  # type: ignore[union-attr]
        assert watcher._observer.taken() == ({}, {})
        await watching.ask(2)
        assert watcher._observer.taken()[0][1].requests == 2

    lives(house, test)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (QueueDeadline("heart"), None),
        (Overloaded("too many requests wait", retry_after_s=1.0), None),
        (WorkerLost("heart", 1, "died"), "the worker that computed this died"),
        (InvalidOutput("heart", 1, "NaN"), "the model's answer is not valid"),
    ],
)
def test_an_examination_finds_a_version_wrong_and_not_a_server_busy(
    house: WatchedHouse, error: AimassError, says: str | None
) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        watcher = watching.watchers._watchers["heart"]
        watching.dispatcher.fails = error
        examined = await watcher._handling.examine(watcher._state.serving.release)  # type: ignore[union-attr]
        assert (examined is None) == (says is None)
        assert examined is None or examined.wrong.startswith(says or "")

    lives(house, test)


def test_figures_and_views_say_what_serves(house: WatchedHouse) -> None:
    house.promote(1)

    async def test(watching: Watching) -> None:
        view = watching.watchers.views()["heart"]
        assert (view.target, view.serving, view.settled, view.promoted) == ("heart@champion", 1, True, 1)
        text = exposed(meters_of(house.meters), watching.watchers.readings()).decode()
        assert 'aimass_watch_serving_version{model="heart"} 1.0' in text
        assert 'aimass_watch_decisions_total{kind="serves",model="heart"} 1.0' in text

    lives(house, test)


def test_a_row_that_cannot_be_counted_disturbs_nobody(house: WatchedHouse) -> None:
    house.publish(1, manifest=_manifest(house.ages.normal(60, 10, 3_000)))
    house.promote(1)

    async def test(watching: Watching) -> None:
        for tap in watching.dispatcher.taps:
            answer = await watching.dispatcher.infer(Request("heart", {"age": np.array([[50.0]])}))
            tap("heart", 1, {"age": np.array(["odd"], dtype=object)}, answer, 0.001, None)
        await watching.pass_by(5, asks=1)
        assert await watching.ask(1) == {1}

    lives(house, test)


def test_a_store_that_fails_as_nobody_foresaw_is_asked_again(house: WatchedHouse) -> None:
    house.promote(1)

    def odd(verb: str, key: str) -> None:
        raise ValueError(verb)

    async def test(watching: Watching) -> None:
        house.store.before = odd
        await watching.until(lambda: house.told("registry_away"), asks=1)
        house.store.before = lambda verb, key: None
        house.promote(2)
        await watching.until(lambda: 2 in watching.shares, asks=1)

    lives(house, test)

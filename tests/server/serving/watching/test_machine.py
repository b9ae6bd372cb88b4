"""What is decided about a model that is served, told as it would be in the audit log."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from aimass.proto.serving_views import ColumnDrift
from aimass.server.serving.watching.settings import (
    DriftSettings,
    HoldSettings,
    RegistrySettings,
    RetrainSettings,
    RolloutSettings,
    WatchSettings,
)
from aimass.server.serving.watching.state import (
    Again,
    Away,
    Drifted,
    Examine,
    Examined,
    Failed,
    Fetch,
    Keep,
    Load,
    Loaded,
    Memory,
    Promoted,
    Refusal,
    Release,
    Retrain,
    Retrained,
    Shift,
    Started,
    State,
    Tick,
    Tried,
    Try,
    Unload,
    Unsaid,
)
from tests.support.watching import BEGIN, QUICK, Watched, did, release

_PLAN = RetrainSettings(plan="heart.toml", home="scientist")
_GOLDEN = """\
    0.0  starts: heart@champion is to be served; the registry is asked
    0.0      -> remember
    0.0  promoted: the registry says that heart@champion is version 1
    0.0  begins: it is promoted: version 1 is fetched and verified
    0.0      -> fetch 1
    0.0      -> remember
    0.0  fetched: version 1 is here and is what was signed; it is loaded
    0.0      -> load 1
    0.0  loaded: version 1 is in memory, where it has the digest that was signed; it is sent its smoke inputs
    0.0      -> try 1
    0.0  tested: version 1 answered 8 smoke inputs as expected
    0.0  serves: version 1 answers all requests
    0.0      -> shift 1: 1
    0.0  settled: version 1 is settled (it is the first)
    0.0      -> shift 1: 1
    0.0      -> keep 1
    5.0  promoted: olga says that heart@champion is version 2: promoted: auc 0.91 against 0.88
    5.0  begins: it is promoted: version 2 is fetched and verified
    5.0      -> fetch 2
    5.0      -> remember
    5.0  fetched: version 2 is here and is what was signed; it is loaded
    5.0      -> load 2
    5.0  loaded: version 2 is in memory, where it has the digest that was signed; it is sent its smoke inputs
    5.0      -> try 2
    5.0  tested: version 2 answered 8 smoke inputs as expected
    5.0  canary: version 2 takes 10 % of the requests; version 1 answers those on which it errs
    5.0      -> shift 2: 0.1, 1: 0.9; else 1
   15.0  did_well: version 2 did well: 50 requests, no error, 99 % within 2.32 ms
   15.0  serves: version 2 answers all requests; version 1 stays loaded and answers those on which it errs
   15.0      -> shift 2: 1; else 1
   17.0  taken_back: version 2 is taken back: it failed 8 of 50 requests, and may fail 1 %. Version 1 answers all requests
   17.0      -> shift 1: 1
   17.0      -> unload 2
   17.0      -> remember
   26.0  promoted: olga says that heart@champion is version 3: rolled forward
   26.0  begins: it is promoted: version 3 is fetched and verified
   26.0      -> fetch 3
   26.0      -> remember
   26.0  fetched: version 3 is here and is what was signed; it is loaded
   26.0      -> load 3
   26.0  refused: version 3 is refused: the task heart has another digest. Version 1 serves on; it is not tried again \
unless it is promoted again
   26.0      -> unload 3
   26.0      -> remember
"""


def _serving(number: int = 1, settings: WatchSettings = QUICK) -> Watched:
    watched = Watched(settings)
    watched.start(number)
    watched.pass_(5)
    watched.done.clear()
    return watched


def _in_full(settings: WatchSettings = QUICK) -> Watched:
    """Version 2 answers all requests, and version 1, which is good, is still there."""
    watched = _serving(settings=settings)
    watched.pass_(60, v1=did(50))
    watched.done.clear()
    watched.happens(Promoted(release(2), 2))
    watched.pass_(10, v1=did(50), v2=did(5))
    assert watched.shares == {2: 1.0}
    return watched


def test_a_night_with_two_bad_versions_reads_like_a_story() -> None:
    watched = Watched()
    watched.start(1)
    watched.pass_(5, v1=did(50))
    watched.happens(Promoted(release(2), 2, "promoted: auc 0.91 against 0.88", "olga"))
    watched.pass_(10, v1=did(50), v2=did(5))
    watched.pass_(6, v2=did(25, errors=4))
    watched.pass_(5)
    watched.broken[Load, 3] = Failed(release(3), "the task heart has another digest", "task.digest", Again.NEVER)
    watched.happens(Promoted(release(3), 3, "rolled forward", "olga"))
    assert watched.story() == _GOLDEN
    assert watched.serves == 1


def test_a_version_that_stays_good_becomes_the_one_that_is_kept_and_the_former_one_leaves() -> None:
    watched = _in_full()
    watched.pass_(61, v2=did(50))
    assert watched.state.former is None
    assert watched.actions(Keep) == [Keep(release(2))]
    assert watched.actions(Unload) == [Unload(release(1))]
    assert [one.number for one in watched.state.memory.good] == [1, 2]


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        (did(8, invalid=8), "it failed 8 of 8 requests, and may fail 1 %"),
        (did(20, errors=9), "it failed 9 of 20 requests, and may fail 1 %"),
        (did(20, late=9), "it was late with 9 of 20 requests, and may be with 1 %"),
        (did(50, took_s=0.1), "100 % of its answers took more than"),
    ],
)
def test_a_canary_that_does_worse_is_refused_within_a_second_and_nothing_else_is_answered_by_it(figures, why) -> None:  # type: ignore[no-untyped-def]
    watched = _serving()
    watched.happens(Promoted(release(2), 2))
    watched.pass_(1, v1=did(100), v2=figures)
    assert watched.shares == {1: 1.0}
    assert why in watched.told("refused")[0]
    assert watched.actions(Unload) == [Unload(release(2))]


def test_requests_that_the_former_version_is_late_with_too_are_not_held_against_the_new_one() -> None:
    watched = _in_full()
    watched.pass_(30, v1=did(5, late=5), v2=did(50, late=5))
    assert watched.shares == {2: 1.0}
    watched.pass_(1, v1=did(5), v2=did(50, errors=5))
    assert watched.shares == {2: 1.0}, "5 of 1,550"
    watched.pass_(3, v1=did(50), v2=did(50, errors=50))
    assert watched.shares == {1: 1.0}


def test_errors_of_the_former_version_on_other_requests_excuse_none_of_the_new_one() -> None:
    watched = _in_full()
    watched.pass_(30, v1=did(5, errors=5), v2=did(50, errors=5))
    assert watched.shares == {1: 1.0}


def test_a_canary_may_err_as_the_serving_version_does() -> None:
    watched = _serving()
    watched.happens(Promoted(release(2), 2))
    watched.pass_(10, v1=did(90, errors=5), v2=did(10, errors=1))
    assert watched.shares == {2: 1.0}


def test_a_canary_with_few_requests_goes_on_later_and_says_so() -> None:
    watched = _serving()
    watched.happens(Promoted(release(2), 2))
    watched.pass_(59)
    assert watched.shares == {2: 0.1, 1: 0.9}
    watched.pass_(1)
    assert watched.shares == {2: 1.0}
    assert "had few requests in 60 s" in watched.told("did_well")[0]


def test_shares_grow_step_by_step_and_what_was_seen_at_each_counts_to_the_end() -> None:
    settings = WatchSettings(rollout=RolloutSettings(canary=(0.1, 0.5), canary_s=10, canary_requests=0))
    watched = _serving(settings=settings)
    watched.happens(Promoted(release(2), 2))
    watched.pass_(10, v1=did(45), v2=did(5))
    assert watched.shares == {2: 0.5, 1: 0.5}
    watched.pass_(10, v1=did(25), v2=did(25))
    assert watched.state.serving is not None
    assert (watched.state.serving.canary.requests, watched.state.serving.baseline.requests) == (300, 700)


def test_wrong_answers_to_smoke_inputs_refuse_a_version_before_any_request() -> None:
    watched = _serving()
    watched.broken[Try, 2] = Tried(release(2), 8, "smoke input 3 came to 0.4 where 0.9 was expected")
    watched.happens(Promoted(release(2), 2))
    assert watched.actions(Shift) == []
    assert "came to 0.4" in watched.told("refused")[0]


def test_two_bad_versions_in_a_row_leave_the_good_one_where_it_is() -> None:
    watched = _serving()
    for number in (2, 3):
        watched.broken[Load, number] = Failed(release(number), "it died", again=Again.NEVER)
        watched.happens(Promoted(release(number), number))
    watched.pass_(600, v1=did(50))
    assert watched.serves == 1
    assert len(watched.actions(Load)) == 2


def test_a_refused_version_is_tried_again_when_somebody_promotes_it_again() -> None:
    watched = _serving()
    watched.broken[Load, 2] = Failed(release(2), "it died", again=Again.NEVER)
    watched.happens(Promoted(release(2), 2))
    watched.pass_(100)
    watched.happens(Promoted(release(1), 3), Promoted(release(2), 4))
    assert len(watched.actions(Load)) == 2


def test_a_load_that_hangs_is_given_up_and_tried_again_later_and_later_and_then_no_more() -> None:
    watched = _serving()
    watched.broken[Load, 2] = None
    watched.happens(Promoted(release(2), 2))
    watched.pass_(119)
    assert watched.actions(Unload) == []
    watched.pass_(1)
    assert "loading it took more than 120 s" in watched.told("refused")[0]
    assert watched.actions(Unload) == [Unload(release(2))]
    watched.pass_(5_000)
    begun = [at - BEGIN for at, action in watched.done if isinstance(action, Load)]
    assert begun == [5, 155, 335, 575]
    assert watched.told("refused")[-1].endswith("it is not tried again unless it is promoted again")
    assert watched.serves == 1


def test_a_full_disk_is_waited_for_as_long_as_it_takes() -> None:
    watched = _serving()
    watched.broken[Fetch, 2] = Failed(release(2), "no space left", "disk.full", Again.ALWAYS)
    watched.happens(Promoted(release(2), 2))
    watched.pass_(7_000)
    del watched.broken[Fetch, 2]
    watched.pass_(600)
    assert watched.serves == 2


def test_what_is_loaded_too_late_is_unloaded_again() -> None:
    watched = _serving()
    watched.broken[Load, 2] = None
    watched.happens(Promoted(release(2), 2), Promoted(release(1), 3))
    watched.done.clear()
    watched.happens(Loaded(release(2)))
    assert watched.actions(Unload) == [Unload(release(2))]
    watched.happens(Loaded(release(1)))
    assert len(watched.actions(Unload)) == 1, "what serves is not"


# ---------------------------------------------------------------- the alias


def test_an_alias_that_moves_back_and_forth_each_second_is_waited_for_and_nothing_is_lost() -> None:
    watched = _serving()
    for second in range(120):
        watched.happens(Promoted(release(1 + (second + 1) % 2), second + 2))
        watched.pass_(1, v1=did(50))
    assert len(watched.actions(Load)) <= 3, "the first few moves are followed"
    assert len(watched.told("held")) == 1
    assert watched.serves == 1
    watched.happens(Promoted(release(2), 500))
    watched.pass_(58)
    assert watched.shares == {1: 1.0}
    watched.pass_(3)
    assert watched.shares == {2: 0.1, 1: 0.9}


def test_at_the_start_a_moving_alias_holds_nobody_up() -> None:
    watched = Watched(WatchSettings(hold=HoldSettings(moves=1)))
    watched.broken[Load, 1] = watched.broken[Load, 2] = None
    watched.happens(Started())
    for entry in range(1, 9):
        watched.happens(Promoted(release(1 + entry % 2), entry))
    watched.broken.clear()
    watched.happens(Promoted(release(3), 9))
    assert watched.serves == 3


def test_promoting_another_version_ends_the_canary_of_the_one_before() -> None:
    watched = _serving()
    watched.happens(Promoted(release(2), 2))
    watched.broken[Load, 3] = None
    watched.happens(Promoted(release(3), 3))
    assert watched.shares == {1: 1.0}
    assert watched.told("given_up") == ["version 2 is given up: another version is promoted. Version 1 serves on"]


def test_an_operators_rollback_to_the_former_version_shifts_at_once_and_loads_nothing() -> None:
    watched = _in_full()
    watched.done.clear()
    watched.happens(Promoted(release(1), 3, "rolled back: complaints", "olga"))
    assert watched.shares == {1: 1.0}
    assert watched.actions(Load) == []
    assert watched.state.memory.refused == ()


def test_a_rollback_to_a_version_that_was_good_here_before_has_no_canary() -> None:
    watched = _in_full()
    watched.pass_(61, v2=did(50))
    watched.happens(Promoted(release(1), 3, "rolled back: complaints", "olga"))
    assert watched.shares == {1: 1.0}
    assert watched.state.former == release(2)


def test_a_version_on_probation_settles_early_when_the_next_one_is_ready() -> None:
    watched = _in_full()
    watched.pass_(5, v2=did(50))
    watched.happens(Promoted(release(3), 3))
    assert watched.shares == {3: 0.1, 2: 0.9}
    assert watched.actions(Unload) == [Unload(release(1))]


def test_an_older_state_of_the_alias_than_was_seen_is_not_followed() -> None:
    watched = _serving()
    watched.pass_(60, v1=did(50))
    watched.happens(Promoted(release(2), 7))
    watched.pass_(80, v1=did(50), v2=did(50))
    watched.happens(*[Promoted(release(1), 6)] * 3)
    assert watched.serves == 2
    assert watched.told("registry_older") == [
        "the registry shows state 6 of heart@champion, and 7 was seen: it is older, and is not followed"
    ]
    again = Watched()
    again.happens(Started(watched.state.memory, kept=release(2)), Promoted(release(1), 6))
    again.pass_(4)
    assert again.serves == 2, "nor by the next process"
    again.happens(Promoted(release(1), 8))
    assert again.serves == 1


def test_what_was_good_by_another_alias_is_not_served_by_this_one() -> None:
    other = Watched(state=State("heart@candidate"))
    other.happens(Started(_serving().state.memory), Away("storage.unavailable", "nobody answers"))
    other.pass_(60)
    assert other.serves is None


# ---------------------------------------------------------------- without the registry


def test_the_registry_may_stop_and_is_told_of_once_when_it_goes_and_once_when_it_is_back() -> None:
    watched = _serving()
    for _ in range(5):
        watched.pass_(60, v1=did(9))
        watched.happens(Away("storage.unavailable", "the store does not answer"))
    watched.happens(Promoted(release(1), 1))
    assert watched.told("registry_away", "registry_back") == [
        "the registry cannot be read: the store does not answer",
        "the registry answers again, after 240 s",
    ]
    assert watched.serves == 1


def test_a_start_with_the_registry_away_serves_what_was_kept_and_follows_the_registry_when_it_is_back() -> None:
    watched = Watched()
    watched.happens(Started(kept=release(1)))
    assert watched.actions(Fetch) == [], "the registry is asked first"
    watched.happens(Away("storage.unavailable", "nobody answers"))
    assert watched.serves == 1
    watched.happens(Promoted(release(2), 7))
    assert watched.shares == {2: 0.1, 1: 0.9}


def test_a_start_with_a_registry_that_hangs_serves_what_was_kept_after_a_while() -> None:
    watched = Watched(WatchSettings(registry=RegistrySettings(patience_s=3)))
    watched.happens(Started(kept=release(1)))
    watched.pass_(2)
    assert watched.serves is None
    watched.pass_(1)
    assert watched.serves == 1


def test_a_version_that_failed_under_requests_does_not_serve_after_a_restart_either() -> None:
    watched = _in_full()
    watched.pass_(2, v2=did(50, errors=10))
    assert watched.serves == 1
    again = Watched()
    again.happens(Started(watched.state.memory, kept=release(1)), Promoted(release(2), 2))
    assert again.serves == 1
    assert again.told("begins") == ["nothing else can serve: version 1 is fetched and verified"]


def test_with_nothing_kept_and_no_registry_it_waits_and_says_so() -> None:
    watched = Watched()
    watched.happens(Started(), Away("storage.unavailable", "nobody answers"))
    watched.pass_(600)
    assert watched.serves is None
    watched.happens(Promoted(release(4), 1))
    assert watched.serves == 4


# ---------------------------------------------------------------- what serves


_WRONG = "smoke input 1 came to 0.2 where 0.9 was expected"


def test_a_settled_version_that_begins_to_fail_is_replaced_by_the_newest_good_one() -> None:
    watched = _in_full()
    watched.pass_(61, v2=did(50))
    watched.broken[Examine, 2] = Examined(release(2), _WRONG)
    watched.pass_(1, v2=did(50, errors=9))
    assert watched.shares == {1: 1.0}
    assert watched.told("suspected") == [
        "version 2, which serves, seems to fail, and is examined: it failed 9 of 50 requests, and may fail 1 %"
    ]
    assert watched.told("fails") == [f"version 2, which serves, is no longer good: {_WRONG}"]
    assert watched.state.former is None, "what failed answers nothing any more"


def test_callers_whose_rows_no_version_answers_do_not_take_a_settled_one_back() -> None:
    watched = _in_full()
    watched.pass_(61, v2=did(50))
    examined = len(watched.actions(Examine))
    watched.pass_(200, v2=did(3, invalid=3))
    assert watched.shares == {2: 1.0}
    assert watched.state.memory.refused == ()
    assert len(watched.told("suspected")) == 1
    assert examined + 5 <= len(watched.actions(Examine)) <= examined + 7, "it costs no more than now and then"
    watched.pass_(120, v2=did(50))
    watched.pass_(60, v2=did(3, invalid=3))
    assert len(watched.told("suspected")) == 2


def test_a_crowd_that_makes_requests_late_takes_nothing_back() -> None:
    watched = _serving()
    watched.pass_(120, v1=did(100, late=40, took_s=3.0))
    assert watched.told("fails") == []


def test_where_no_other_version_is_known_it_serves_on_and_says_so_once() -> None:
    watched = _serving()
    watched.broken[Examine, 1] = Examined(release(1), _WRONG)
    watched.pass_(60, v1=did(50, errors=4))
    assert watched.serves == 1
    assert len(watched.told("no_other")) == 1


def test_rare_errors_of_long_ago_do_not_add_up() -> None:
    watched = _serving()
    for _ in range(30):
        watched.pass_(1, v1=did(10, errors=1))
        watched.pass_(60, v1=did(10))
    assert watched.told("fails") == []


def test_what_is_in_memory_is_examined_and_replaced_where_it_is_not_what_was_signed() -> None:
    watched = _in_full()
    watched.pass_(61, v2=did(50))
    watched.broken[Examine, 2] = Examined(release(2), "what is in memory has another digest than was signed")
    watched.pass_(BEGIN + 300 - watched.now, v2=did(50))
    assert watched.serves == 1
    assert watched.state.former is None, "what is not what was signed answers nothing any more"
    del watched.broken[Examine, 2]
    watched.pass_(30, v1=did(50))
    assert watched.serves == 2, "loaded afresh it serves again"


def test_a_former_version_answers_again_when_an_examination_fails_on_probation() -> None:
    watched = _in_full()
    watched.happens(Examined(release(2), "smoke input 1 came to 0.2 where 0.9 was expected"))
    assert watched.shares == {1: 1.0}


# ---------------------------------------------------------------- age and drift


def _drift(index: float, column: str = "age") -> ColumnDrift:
    return ColumnDrift(column=column, rows=900, index=index, index_limit=0.25, distance=index / 2, distance_limit=0.2)


def test_a_drifted_column_is_told_once_and_so_is_its_end() -> None:
    watched = _serving()
    for index in (0.1, 0.5, 0.6, 0.1, 0.1):
        watched.happens(Drifted(release(1), "input", (_drift(index),)))
    assert watched.told() == [
        "live rows have drifted: age (PSI 0.50, limit 0.25; KS 0.25, limit 0.20)",
        "live rows are as they were",
    ]
    assert watched.actions(Retrain) == []


def test_drift_submits_a_plan_once_where_that_is_configured() -> None:
    watched = _serving(settings=WatchSettings(drift=DriftSettings(then="retrain"), retrain=_PLAN))
    watched.happens(Drifted(release(1), "input", (_drift(0.5),)))
    watched.happens(Drifted(release(1), "input", (_drift(0.5), _drift(0.4, "sex"))))
    watched.happens(Drifted(release(1), "output", (_drift(0.5, "label"),)))
    assert watched.actions(Retrain) == [Retrain(release(1), "live rows have drifted in age")]
    assert len(watched.told("input_drift", "output_drift")) == 3


def test_a_plan_that_cannot_be_submitted_is_submitted_later_and_later_until_it_is() -> None:
    watched = _serving(settings=WatchSettings(drift=DriftSettings(then="retrain"), retrain=_PLAN))
    watched.broken[Retrain, 1] = Retrained(release(1), wrong="the server is away")
    watched.happens(Drifted(release(1), "input", (_drift(0.5),)))
    begun = watched.now
    watched.pass_(3 * 3_600)
    at = [when - begun for when, action in watched.done if isinstance(action, Retrain)]
    assert at[:7] == [0, 60, 180, 420, 900, 1_860, 3_780]
    assert np.diff(at[6:]).max() == 3_600
    assert watched.told("retrain_failed")[1] == (
        "the plan could not be submitted, and is again in 120 s: the server is away"
    )
    del watched.broken[Retrain, 1]
    watched.pass_(3_600)
    assert watched.told("retrain_submitted") == ["the plan was submitted as run f"]
    tries = len(watched.actions(Retrain))
    watched.pass_(2 * 3_600)
    assert len(watched.actions(Retrain)) == tries
    assert len(watched.told("retrain")) == 1


def test_a_plan_is_not_submitted_for_a_version_that_no_longer_serves() -> None:
    watched = _serving(settings=msgspec.structs.replace(QUICK, drift=DriftSettings(then="retrain"), retrain=_PLAN))
    watched.broken[Retrain, 1] = Retrained(release(1), wrong="the server is away")
    watched.happens(Drifted(release(1), "input", (_drift(0.5),)))
    watched.happens(Promoted(release(2), 2))
    watched.pass_(59, v1=did(50), v2=did(50))
    assert watched.serves == 2
    watched.pass_(7_200)
    assert len(watched.actions(Retrain)) == 1


@pytest.mark.parametrize("settings", [{"stale_then": "retrain"}, {"drift": {"then": "retrain"}}])
def test_to_retrain_without_a_plan_is_refused_when_settings_are_read(settings: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match="must say what is submitted"):
        msgspec.convert(settings, WatchSettings)


def test_drift_of_a_version_that_has_gone_is_nobodys() -> None:
    watched = _serving()
    watched.happens(Drifted(release(9), "input", (_drift(0.5),)))
    assert watched.told() == []


def test_a_stale_version_is_told_of_once_and_submits_a_plan() -> None:
    watched = Watched(WatchSettings(stale_days=30, stale_then="retrain", retrain=_PLAN))
    watched.happens(Started(), Promoted(release(1, days_ago=29.999), 1))
    watched.pass_(3_600)
    assert watched.told("stale") == ["version 1 is 30.0 days old, and 30 are allowed"]
    assert watched.actions(Retrain) == [Retrain(release(1, days_ago=29.999), "it is stale")]


def test_what_cannot_be_watched_is_said_aloud_for_each_version() -> None:
    watched = _serving()
    for _ in range(2):
        watched.happens(Unsaid(release(1), ("age", "sex"), "the model's manifest has no reference"))
    assert watched.told() == ["drift of age, sex cannot be watched: the model's manifest has no reference"]


def test_a_state_without_a_start_does_nothing() -> None:
    watched = Watched()
    watched.happens(Tick(), Promoted(release(1), 1))
    assert watched.actions(Fetch) == []
    assert watched.state.coming is None


def test_a_version_is_good_only_once_it_has_answered_enough_for_long_enough() -> None:
    watched = _in_full()
    watched.pass_(61)
    assert watched.told("settled")[-1].startswith("version 2 is settled")
    watched.pass_(10, v2=did(4))
    assert [one.number for one in watched.state.memory.good] == [1], "90 requests, with those of its canary"
    watched.pass_(3, v2=did(4))
    assert [one.number for one in watched.state.memory.good] == [1, 2]
    assert watched.told("good")[-1] == "version 2 is good: 102 requests in 74 s, and no fault found"


def test_a_version_that_another_one_follows_early_is_not_good() -> None:
    watched = _in_full()
    watched.pass_(5, v2=did(50))
    watched.happens(Promoted(release(3), 3))
    watched.pass_(10, v2=did(50), v3=did(5))
    assert watched.state.memory.good == (release(1),)


def test_a_version_that_is_late_or_slow_is_tried_again_later() -> None:
    watched = _serving()
    watched.happens(Promoted(release(2), 2))
    watched.pass_(1, v1=did(100), v2=did(20, late=9))
    assert watched.told("refused")[0].endswith("it is tried again in 30 s")
    watched.pass_(60, v1=did(90), v2=did(10))
    assert watched.serves == 2


def test_memory_holds_no_version_twice() -> None:
    watched = Watched()
    watched.happens(Started(Memory(target="heart@champion", good=(release(1),))), Promoted(release(1), 1))
    assert watched.state.memory.good == (release(1),)
    assert isinstance(watched.state.memory.good[0], Release)


def test_a_wall_clock_that_is_set_back_does_not_keep_a_load_that_hangs() -> None:
    watched = _serving()
    watched.broken[Load, 2] = None
    watched.happens(Promoted(release(2), 2))
    watched.set_by_s = -3_600.0
    watched.pass_(QUICK.rollout.load_s)
    assert watched.told("refused") == [
        "version 2 is refused: loading it took more than 120 s. Version 1 serves on; it is tried again in 30 s"
    ]
    watched.broken.clear()
    watched.set_by_s = -7_200.0
    watched.pass_(30)
    assert watched.shares == {2: 0.1, 1: 0.9}


def test_a_wall_clock_that_is_set_forward_hurries_nothing() -> None:
    watched = _serving()
    watched.happens(Promoted(release(2), 2))
    watched.set_by_s = 3_600.0
    watched.pass_(5)
    assert watched.shares == {2: 0.1, 1: 0.9}
    watched.pass_(60)
    watched.set_by_s = 7_200.0
    watched.pass_(5)
    assert watched.state.serving is not None
    assert (watched.shares, watched.state.serving.settled) == ({2: 1.0}, False)


def test_what_failed_before_a_restart_is_waited_for_no_longer_than_it_has_to_be() -> None:
    """By the wall clock, which may have been set back meanwhile: then from the start on."""
    for ago_s, waits_s in ((10.0, 20), (3_600.0, 0), (-3_600.0, 30)):
        refusal = Refusal(release=release(2), entry=1, at=BEGIN - ago_s, reason="it hung", again=Again.SOME)
        watched = Watched()
        watched.happens(Started(Memory(target="heart@champion", entry=1, refused=(refusal,))), Promoted(release(2), 1))
        watched.pass_(waits_s - 1)
        assert bool(watched.told("begins")) == (waits_s == 0)
        watched.pass_(1)
        assert len(watched.told("begins")) == 1

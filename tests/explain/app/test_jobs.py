"""Jobs: done once for all who ask alike, alive without a page, ended when nobody is interested any more."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from aimass.explain.app.job import Job, turns
from aimass.explain.app.jobs import Jobs
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, LimitExceeded


class Held:
    """Work that goes on until it is let go, and looks whether it is to end."""

    def __init__(self) -> None:
        self.began, self.go, self.times = threading.Event(), threading.Event(), 0

    def __call__(self, work: Work) -> str:
        self.times += 1
        work.tell(0.25, "half way to half way")
        self.began.set()
        self.go.wait()
        work.check()
        return "found"


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held() -> Iterator[Held]:
    one = Held()
    yield one
    one.go.set()


@pytest.fixture
def jobs(clock: Clock) -> Iterator[Jobs]:
    made = Jobs(1, Work(), now=clock)
    yield made
    made.close()


def test_two_viewers_of_one_question_have_one_job_and_both_see_its_progress(jobs: Jobs, held: Held) -> None:
    jobs.ask("k", "Why", held, "anna")
    held.began.wait()
    seen = jobs.ask("k", "Why", held, "bert")
    assert (seen.state, seen.share, seen.what) == ("running", 0.25, "half way to half way")
    held.go.set()
    jobs.wait("k", 60)
    for viewer in ("anna", "bert"):
        found = jobs.look("k", viewer)
        assert found is not None
        assert (found.state, found.result) == ("done", "found")
    assert held.times == 1


def test_who_cancels_alone_ends_the_work(jobs: Jobs, held: Held) -> None:
    jobs.ask("k", "Why", held, "anna")
    held.began.wait()
    assert jobs.cancel("k", "anna")
    held.go.set()
    jobs.wait("k", 60)
    found = jobs.look("k", "anna")
    assert found is not None
    assert found.state == "cancelled"
    assert jobs.ask("k", "Why", held, "anna").state == "cancelled"  # as a page does when it is shown anew


def test_who_cancels_beside_another_viewer_leaves_the_work_to_them(jobs: Jobs, held: Held) -> None:
    jobs.ask("k", "Why", held, "anna")
    jobs.ask("k", "Why", held, "bert")
    held.began.wait()
    assert not jobs.cancel("k", "anna")
    held.go.set()
    jobs.wait("k", 60)
    found = jobs.look("k", "bert")
    assert found is not None
    assert found.state == "done"


def test_a_tab_that_was_closed_long_ago_keeps_no_work_alive(jobs: Jobs, held: Held, clock: Clock) -> None:
    jobs.ask("k", "Why", held, "before the reload")
    held.began.wait()
    clock.at = 60.0
    jobs.ask("k", "Why", held, "after the reload")
    assert jobs.cancel("k", "after the reload")


def test_work_that_waits_says_how_many_come_first_and_is_cancelled_before_it_begins(
    jobs: Jobs, held: Held, clock: Clock
) -> None:
    jobs.ask("first", "Why", held, "anna")
    held.began.wait()
    clock.at = 1.0
    other = Held()
    seen = jobs.ask("second", "Where", other, "anna")
    assert (seen.state, seen.ahead) == ("waiting", 1)
    assert jobs.cancel("second", "anna")
    held.go.set()
    jobs.wait("second", 60)
    assert other.times == 0


def test_a_named_error_is_told_and_may_be_tried_again(jobs: Jobs) -> None:
    tries: list[int] = []

    def do(work: Work) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise BadInput("no such column", code="explain.column")
        return "found"

    jobs.ask("k", "Why", do, "anna")
    jobs.wait("k", 60)
    failed = jobs.look("k", "anna")
    assert failed is not None
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "explain.column")
    assert jobs.ask("k", "Why", do, "anna").state == "failed"
    jobs.forget("k")
    jobs.ask("k", "Why", do, "anna")
    jobs.wait("k", 60)
    found = jobs.look("k", "anna")
    assert found is not None
    assert found.result == "found"


def test_what_a_model_raises_is_told_by_its_kind_and_never_by_its_text(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    def do(work: Work) -> str:
        raise ValueError("patient Miller, 57")

    jobs.ask("k", "Why", do, "anna")
    jobs.wait("k", 60)
    failed = jobs.look("k", "anna")
    assert failed is not None
    assert failed.error is not None
    assert "ValueError" in failed.error.sentence()
    assert "Miller" not in failed.error.sentence() + caplog.text


class RustPanic(BaseException):
    """As libraries in Rust raise it: no `Exception`."""


@pytest.mark.parametrize("raised", [SystemExit(1), KeyboardInterrupt(), RustPanic("patient Miller, 57")])
def test_whatever_a_model_raises_its_job_is_over_and_its_place_is_free(
    jobs: Jobs, clock: Clock, raised: BaseException
) -> None:
    def do(work: Work) -> str:
        raise raised

    jobs.ask("k", "Why", do, "anna")
    jobs.wait("k", 60)
    failed = jobs.look("k", "anna")
    assert failed is not None
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "app.failed")
    assert type(raised).__name__ in failed.error.sentence()
    clock.at = LIMIT_S + GRACE_S + 1.0
    jobs.sweep()
    assert jobs.lost == 0
    jobs.ask("other", "Why", lambda work: "found", "bert")
    jobs.wait("other", 60)
    other = jobs.look("other", "bert")
    assert other is not None
    assert other.result == "found"


def test_a_job_has_a_time_limit(clock: Clock) -> None:
    jobs = Jobs(1, Work(now=lambda: clock.at), time_limit_s=5.0, now=clock)

    def do(work: Work) -> str:
        clock.at += 6.0
        work.check()
        return "never"

    jobs.ask("k", "Why", do, "anna")
    jobs.wait("k", 60)
    failed = jobs.look("k", "anna")
    assert failed is not None
    assert failed.error is not None
    assert failed.error.code == "explain.time"
    jobs.close()


def test_no_more_jobs_are_taken_than_people_could_wait_for(jobs: Jobs, held: Held) -> None:
    for place in range(64):
        jobs.ask(str(place), "Why", held, f"viewer {place // 8}")
    with pytest.raises(LimitExceeded) as raised:
        jobs.ask("one more", "Why", held, "anna")
    assert raised.value.code == "app.jobs"


def test_what_is_over_gives_way_and_what_is_open_stays(jobs: Jobs, held: Held) -> None:
    for place in range(100):
        jobs.ask(f"quick {place}", "Why", lambda work: "found", "anna")
        jobs.wait(f"quick {place}", 60)
    assert jobs.look("quick 0", "anna") is None
    assert jobs.look("quick 99", "anna") is not None


def test_jobs_beside_one_another_do_not_take_each_others_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("os.cpu_count", lambda: 6)
    jobs = Jobs(2, Work())
    try:
        jobs.ask("a", "threads", lambda _: torch.get_num_threads(), "ann")
        jobs.wait("a", 60)
        seen = jobs.look("a", "ann")
    finally:
        jobs.close()
    assert seen is not None
    assert seen.result == 3


def test_one_viewer_does_not_take_all_places(jobs: Jobs, held: Held) -> None:
    for place in range(12):
        jobs.ask(f"anna {place}", "Why", held, "anna")
    with pytest.raises(LimitExceeded, match="12 of them yours"):
        jobs.ask("anna again", "Why", held, "anna")
    assert jobs.ask("bert", "Why", held, "bert").state == "waiting"


def test_what_waits_and_nobody_looks_at_is_not_begun(jobs: Jobs, held: Held, clock: Clock) -> None:
    jobs.ask("first", "Why", held, "anna")
    held.began.wait()
    left = Held()
    jobs.ask("left", "Why", left, "bert")
    clock.at = 120.0
    held.go.set()
    jobs.wait("first", 60)
    jobs.ask("next", "Why", lambda work: "found", "anna")
    jobs.wait("next", 60)
    assert left.times == 0


def test_who_asks_for_what_somebody_else_has_just_cancelled_begins_it_anew(jobs: Jobs, held: Held) -> None:
    jobs.ask("k", "Why", held, "anna")
    held.began.wait()
    jobs.cancel("k", "anna")
    seen = jobs.ask("k", "Why", lambda work: "anew", "bert")
    assert seen.state == "waiting"
    held.go.set()
    jobs.wait("k", 60)
    found = jobs.look("k", "bert")
    assert found is not None
    assert found.result == "anew"


# ---------------------------------------------------------------- what is private


class Watched:
    """Work that goes on until it is to end."""

    def __init__(self) -> None:
        self.began, self.looks, self.ended = threading.Event(), threading.Semaphore(0), threading.Event()

    def __call__(self, work: Work) -> str:
        self.began.set()
        try:
            while True:
                self.looks.acquire()
                work.check()
        finally:
            self.ended.set()


def test_private_work_ends_and_is_forgotten_once_its_viewer_is_gone(jobs: Jobs, clock: Clock) -> None:
    work = Watched()
    jobs.ask("k anna", "Why", work, "anna", private=True)
    work.began.wait()
    clock.at = 80.0
    jobs.sweep()
    work.looks.release()
    assert jobs.look("k anna", "anna") is not None  # she still looks, now and then
    clock.at = 165.0
    jobs.sweep()
    assert not work.ended.is_set()
    clock.at = 260.0
    jobs.sweep()
    work.looks.release()
    assert work.ended.wait(60)
    assert jobs.look("k anna", "anna") is None


def test_what_private_work_found_is_not_kept_for_who_does_not_come_back(jobs: Jobs, clock: Clock) -> None:
    for key, private in (("brought", True), ("named", False)):
        jobs.ask(key, "Why", lambda work: "found", "anna", private=private)
        jobs.wait(key, 60)
    clock.at = 100.0
    jobs.sweep()
    assert jobs.look("brought", "anna") is None
    named = jobs.look("named", "anna")
    assert named is not None
    assert named.result == "found"


def test_rows_of_private_work_that_waits_are_let_go_with_it(jobs: Jobs, held: Held, clock: Clock) -> None:
    jobs.ask("first", "Why", held, "bert")
    held.began.wait()
    with_rows = Held()
    jobs.ask("k anna", "Why", with_rows, "anna", private=True)
    there = weakref.ref(with_rows)
    del with_rows
    clock.at = 100.0
    jobs.sweep()
    gc.collect()
    assert there() is None


def test_who_comes_back_begins_private_work_anew(jobs: Jobs, held: Held, clock: Clock) -> None:
    jobs.ask("k anna", "Why", held, "anna", private=True)
    held.began.wait()
    clock.at = 100.0
    jobs.sweep()
    assert jobs.ask("k anna", "Why", lambda work: "anew", "anna", private=True).state == "waiting"
    held.go.set()
    jobs.wait("k anna", 60)
    found = jobs.look("k anna", "anna")
    assert found is not None
    assert found.result == "anew"


def test_who_cancels_private_work_sees_that_it_ended(jobs: Jobs, held: Held, clock: Clock) -> None:
    jobs.ask("k anna", "Why", held, "anna", private=True)
    held.began.wait()
    clock.at = 89.0
    jobs.cancel("k anna", "anna")
    clock.at = 91.0
    jobs.sweep()
    held.go.set()
    jobs.wait("k anna", 60)
    assert jobs.ask("k anna", "Why", held, "anna", private=True).state == "cancelled"


def test_the_jobs_of_a_house_that_is_closed_are_swept_no_more() -> None:
    jobs = Jobs(1, Work())
    sweeps = [thread for thread in threading.enumerate() if thread.name == "aimass-explain-sweep"]
    jobs.close()
    for thread in sweeps[-1:]:
        thread.join(60)
        assert not thread.is_alive()


# ---------------------------------------------------------------- whose turn it is


def waiting(number: int, *viewers: str) -> Job:
    return Job(f"{number}", "Why", number, 0.0, lambda work: None, viewers=dict.fromkeys(viewers, 0.0))


def running(number: int, *viewers: str) -> Job:
    one = waiting(number, *viewers)
    one.state = "running"
    return one


def test_viewers_take_turns_and_each_has_theirs_in_the_order_in_which_they_asked() -> None:
    asked = [waiting(0, "anna"), waiting(1, "anna"), waiting(2, "anna"), waiting(3, "bert"), waiting(4, "bert")]
    assert [job.number for job in turns(asked)] == [0, 3, 1, 4, 2]


def test_what_runs_for_a_viewer_counts_against_what_they_still_wait_for() -> None:
    asked = [running(0, "anna"), running(1, "anna"), waiting(2, "anna"), waiting(3, "bert")]
    assert [job.number for job in turns(asked)] == [3, 2]


def test_what_several_wait_for_comes_when_the_first_of_them_has_their_turn() -> None:
    asked = [running(0, "anna"), waiting(1, "anna"), waiting(2, "anna", "bert"), waiting(3, "carl")]
    assert [job.number for job in turns(asked)] == [2, 3, 1]


def test_a_second_viewer_is_not_behind_all_that_the_first_asked_for(jobs: Jobs, held: Held) -> None:
    jobs.ask("first", "Why", held, "anna")
    held.began.wait()
    for place in range(6):
        jobs.ask(f"anna {place}", "Why", lambda work: "found", "anna")
    assert jobs.ask("bert", "Why", lambda work: "found", "bert").ahead == 1


def test_a_person_has_one_turn_in_each_round_however_many_tabs_they_have_open(jobs: Jobs, held: Held) -> None:
    jobs.ask("first", "Why", held, "tab", person="analyst/anna")
    held.began.wait()
    for tab in range(6):
        jobs.ask(f"anna {tab}", "Why", lambda work: "found", f"tab {tab}", person="analyst/anna")
    assert jobs.ask("bert", "Why", lambda work: "found", "another", person="analyst/bert").ahead == 1
    assert jobs.ask("carl", "Why", lambda work: "found", "of nobody known").ahead == 2


def test_no_more_of_one_person_is_taken_from_many_tabs_than_from_one(jobs: Jobs, held: Held) -> None:
    for place in range(12):
        jobs.ask(f"anna {place}", "Why", held, f"tab {place}", person="analyst/anna")
    with pytest.raises(LimitExceeded, match="12 of them yours"):
        jobs.ask("anna again", "Why", held, "one more tab", person="analyst/anna")
    assert jobs.ask("bert", "Why", held, "another", person="analyst/bert").state == "waiting"


def test_interest_is_each_tabs_own_also_of_one_person(jobs: Jobs, held: Held) -> None:
    for tab in ("left", "right"):
        jobs.ask("k", "Why", held, tab, person="analyst/anna")
    held.began.wait()
    assert not jobs.cancel("k", "left")
    assert jobs.cancel("k", "right")


# ---------------------------------------------------------------- models that do not come back


class Hangs:
    """A model that computes in one call until it is let go, and looks at no wish to stop."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, work: Work) -> str:
        self.began.set()
        self.go.wait()
        return "too late"


@pytest.fixture
def hanging() -> Iterator[list[Hangs]]:
    found = [Hangs() for _ in range(8)]
    yield found
    for one in found:
        one.go.set()


LIMIT_S, GRACE_S = 900.0, 30.0


def lose(jobs: Jobs, clock: Clock, model: Hangs, key: str) -> None:
    jobs.ask(key, "Why", model, "anna")
    assert model.began.wait(60)
    clock.at += LIMIT_S + GRACE_S + 1.0
    jobs.sweep()


def end(jobs: Jobs) -> None:
    """All threads of it have ended."""
    jobs.close()
    for thread in threading.enumerate():
        if thread.name.startswith("aimass-explain_"):
            thread.join(60)


def test_a_model_that_never_returns_is_given_up_on_after_its_limit_and_others_are_computed(
    jobs: Jobs, clock: Clock, hanging: list[Hangs]
) -> None:
    jobs.ask("k", "Why", hanging[0], "anna")
    assert hanging[0].began.wait(60)
    clock.at = LIMIT_S + GRACE_S
    assert jobs.ask("other", "Why", lambda work: "found", "bert").state == "waiting"
    clock.at += 1.0
    failed = jobs.look("k", "anna")
    assert failed is not None
    assert failed.error is not None
    assert (failed.state, failed.error.code, failed.error.value) == ("failed", "app.no_answer", "930 s")
    jobs.wait("other", 60)
    other = jobs.look("other", "bert")
    assert other is not None
    assert other.result == "found"


def test_what_comes_back_too_late_changes_nothing_that_was_told_and_its_thread_is_lost_no_more(
    jobs: Jobs, clock: Clock, hanging: list[Hangs]
) -> None:
    lose(jobs, clock, hanging[0], "k")
    lose(jobs, clock, hanging[1], "other")
    assert jobs.lost == 2
    hanging[0].go.set()
    hanging[1].go.set()
    end(jobs)
    assert jobs.lost == 0
    failed = jobs.look("k", "anna")
    assert failed is not None
    assert (failed.state, failed.result) == ("failed", None)


def test_so_many_lost_threads_are_replaced_and_then_nothing_is_begun_and_that_is_said(
    jobs: Jobs, clock: Clock, hanging: list[Hangs]
) -> None:
    for place in range(2):
        lose(jobs, clock, hanging[place], f"lost {place}")
    jobs.ask("the last", "Why", hanging[2], "anna")
    assert hanging[2].began.wait(60)
    clock.at += LIMIT_S
    jobs.ask("waits", "Why", lambda work: "found", "bert")
    clock.at += GRACE_S + 1.0
    waits = jobs.look("waits", "bert")
    assert waits is not None
    assert waits.error is not None
    assert waits.error.code == "app.threads"
    with pytest.raises(LimitExceeded, match="hold all threads"):
        jobs.ask("more", "Why", lambda work: "found", "bert")


def test_the_log_says_what_was_given_up_on_and_how_many_threads_are_lost_and_replaced(
    jobs: Jobs, clock: Clock, hanging: list[Hangs], caplog: pytest.LogCaptureFixture
) -> None:
    for place in range(3):
        jobs.ask(f"lost {place}", f"Why {place}\nof rows", hanging[place], "anna")
        assert hanging[place].began.wait(60)
        clock.at += LIMIT_S + GRACE_S + 1.0
        jobs.sweep()
    assert caplog.messages == [
        "no answer to “Why 0�of rows” (threads lost: 1, replaced: 1)",
        "no answer to “Why 1�of rows” (threads lost: 2, replaced: 2)",
        "no answer to “Why 2�of rows” (threads lost: 3, replaced: 2)",
    ]


def test_a_model_that_does_not_hear_a_wish_to_stop_is_left_to_its_thread_after_a_chunks_time(
    jobs: Jobs, clock: Clock, hanging: list[Hangs]
) -> None:
    jobs.ask("k", "Why", hanging[0], "anna")
    assert hanging[0].began.wait(60)
    jobs.cancel("k", "anna")
    clock.at = GRACE_S + 1.0
    seen = jobs.ask("k", "Why", hanging[0], "anna")
    assert (seen.state, seen.error) == ("cancelled", None)
    jobs.ask("other", "Why", lambda work: "found", "anna")
    jobs.wait("other", 60)
    other = jobs.look("other", "anna")
    assert other is not None
    assert other.result == "found"


def test_private_work_that_is_forgotten_while_it_hangs_gives_its_place_back(
    jobs: Jobs, clock: Clock, hanging: list[Hangs]
) -> None:
    jobs.ask("k anna", "Why", hanging[0], "anna", private=True)
    assert hanging[0].began.wait(60)
    clock.at = 100.0
    jobs.sweep()
    clock.at += GRACE_S + 1.0
    jobs.ask("other", "Why", lambda work: "found", "bert")
    jobs.wait("other", 60)
    other = jobs.look("other", "bert")
    assert other is not None
    assert other.result == "found"


def test_closing_does_not_wait_for_a_model_that_hangs(clock: Clock, hanging: list[Hangs]) -> None:
    jobs = Jobs(1, Work(), now=clock)
    jobs.ask("k", "Why", hanging[0], "anna")
    assert hanging[0].began.wait(60)
    jobs.close()
    assert not hanging[0].go.is_set()

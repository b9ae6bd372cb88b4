"""The supervisor's machine, with a clock of its own: starts, deaths, back-off, giving up, the order of the end."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.proto.up.machine import STOP_S, begin, decide, next_due
from aimass.proto.up.state import (
    Action,
    Ended,
    Event,
    Heard,
    Phase,
    Retry,
    Service,
    Silent,
    Started,
    State,
    Stop,
    Tick,
    Wanted,
)


class Machine:
    """The machine with its clock, and everything that it asked for."""

    def __init__(self, *services: Service) -> None:
        self.at = 1_000.0
        self.state = State(())
        self.asked: list[tuple[str, str]] = []
        self._took(begin(services or [Service("server"), Service("data")], self.at))

    def _took(self, decided: tuple[State, tuple[Action, ...]]) -> list[tuple[str, str]]:
        self.state, actions = decided
        new: list[tuple[str, str]] = [(action.do, action.name) for action in actions if action.do != "tell"]
        self.asked += new
        return new

    def take(self, event: Event, after: float = 0.0) -> list[tuple[str, str]]:
        self.at += after
        return self._took(decide(self.state, event, self.at))

    def ready(self, name: str, after: float = 1.0) -> None:
        self.take(Heard(name, self.state.of(name).starts), after)

    def dies(self, name: str, code: int = 1, words: str = "", after: float = 0.0) -> list[tuple[str, str]]:
        return self.take(Ended(name, self.state.of(name).starts, code, words), after)

    def due(self) -> list[tuple[str, str]]:
        """Time goes on to when something is due."""
        due = next_due(self.state)
        assert due is not None
        self.at = due
        return self.take(Tick())

    def phase(self, name: str) -> Phase:
        return self.state.of(name).phase

    def why(self, name: str) -> str:
        return self.state.of(name).why


def test_all_services_start_at_once_and_are_ready_when_they_say_so() -> None:
    machine = Machine()
    assert machine.asked == [("start", "server"), ("start", "data")]
    machine.take(Heard("server", 1, ("a restored run waits",)))
    assert (machine.phase("server"), machine.why("server")) == ("starting", "a restored run waits")
    machine.ready("server")
    assert (machine.phase("server"), machine.phase("data")) == ("ready", "starting")
    machine.take(Heard("server", 1, ("no space",)))
    assert (machine.phase("server"), machine.why("server")) == ("unready", "no space")


def test_a_dead_service_is_started_again_later_and_later_and_given_up_at_the_fifth_death() -> None:
    machine = Machine()
    rests = []
    for _ in range(4):
        assert machine.dies("server", -9) == []
        assert machine.phase("server") == "resting"
        rests.append((next_due(machine.state) or 0) - machine.at)
        assert machine.due() == [("start", "server")]
    assert rests == [0.5, 1.0, 2.0, 4.0]
    assert machine.dies("server", 1, "the store is damaged") == []
    assert machine.phase("server") == "failed"
    assert "5 times" in machine.why("server")
    assert "the store is damaged" in machine.why("server")
    assert machine.phase("data") == "starting", "one that is given up takes nobody along"


def test_a_healthy_minute_makes_up_for_deaths_and_less_does_not() -> None:
    machine = Machine()
    for healthy, deaths in ((59.0, 2), (60.0, 1)):
        if machine.phase("server") == "starting":
            machine.dies("server")
            machine.due()
        machine.ready("server")
        machine.ready("server", healthy)
        machine.dies("server")
        assert len(machine.state.of("server").deaths) == deaths
        machine.due()
        machine.ready("server")


def test_what_no_second_start_mends_is_given_up_at_once() -> None:
    for code in (2, 3, 9):
        machine = Machine()
        machine.dies("server", code, "an unknown key")
        assert machine.phase("server") == "failed"
        assert "an unknown key" in machine.why("server")
    machine = Machine()
    machine.dies("server", 5)
    assert machine.phase("server") == "resting", "unavailable may pass"


def test_when_everything_is_given_up_all_is_over_and_not_before() -> None:
    machine = Machine(Service("server"), Service("serving", wanted=None, why="no model"))
    assert machine.dies("server", 9) == [("over", "")]
    machine = Machine()
    assert machine.dies("server", 9) == []
    assert machine.dies("data", 9) == [("over", "")]


def test_what_was_mended_is_tried_again_with_its_deaths_forgotten() -> None:
    machine = Machine()
    machine.dies("server", 2)
    assert machine.take(Retry()) == [("start", "server")]
    assert machine.state.of("server").deaths == ()
    assert machine.take(Retry()) == [], "nothing is given up now"


def test_the_last_stops_first_and_each_waits_for_the_one_before() -> None:
    machine = Machine(Service("server"), Service("data"), Service("app"))
    assert machine.take(Stop()) == [("term", "app")]
    assert machine.take(Stop()) == []
    assert machine.dies("app", 0) == [("term", "data")]
    assert machine.dies("data", 0) == [("term", "server")]
    assert machine.dies("server", 0) == [("over", "")]
    assert {one.phase for one in machine.state.services} == {"stopped"}


def test_one_that_ends_out_of_turn_costs_the_one_in_turn_no_second_word() -> None:
    machine = Machine(Service("server"), Service("data"), Service("app"))
    machine.take(Stop())
    due = next_due(machine.state)
    assert machine.dies("data", 0, after=5.0) == []
    assert next_due(machine.state) == due
    assert machine.dies("app", 0) == [("term", "server")]


def test_one_that_does_not_end_is_killed_after_its_time_and_once() -> None:
    machine = Machine(Service("server"))
    machine.take(Stop())
    assert machine.take(Tick(), STOP_S - 0.1) == []
    assert machine.take(Tick(), 0.1) == [("kill", "server")]
    assert machine.take(Tick(), 100.0) == []
    assert machine.dies("server", -9) == [("over", "")]


def test_a_second_stop_kills_all_that_still_run() -> None:
    machine = Machine(Service("server"), Service("data"), Service("app", wanted=None))
    machine.take(Stop())
    assert machine.take(Stop(now=True)) == [("kill", "server"), ("kill", "data")]


def test_the_first_word_is_no_second_one() -> None:
    machine = Machine()
    assert machine.take(Stop(now=True)) == [("term", "data")]


def test_a_stop_while_one_rests_starts_it_no_more() -> None:
    machine = Machine()
    machine.dies("data")
    assert machine.take(Stop()) == [("term", "server")]
    assert machine.phase("data") == "stopped"
    assert machine.take(Tick(), 10.0) == []


def test_silence_is_told_and_a_long_one_ends_the_process() -> None:
    machine = Machine(Service("server"))
    machine.ready("server")
    assert machine.take(Silent("server", 1), 9.0) == []
    assert machine.phase("server") == "ready"
    machine.take(Silent("server", 1), 2.0)
    assert machine.phase("server") == "silent"
    assert machine.take(Silent("server", 1), 110.0) == [("term", "server")]
    assert machine.due() == [("kill", "server")]
    machine.dies("server", -9)
    assert machine.phase("server") == "resting"
    assert "not answered for 120 s" in machine.why("server")


def test_a_slow_start_is_told_and_never_ended() -> None:
    machine = Machine(Service("server"))
    assert machine.take(Silent("server", 1), 59.0) == []
    assert machine.why("server") == ""
    machine.take(Silent("server", 1), 1.0)
    assert "not answered in 60 s" in machine.why("server")
    assert machine.take(Silent("server", 1), 10_000.0) == []


def test_what_an_earlier_process_said_is_not_taken_for_the_word_of_the_next() -> None:
    machine = Machine(Service("server"))
    machine.ready("server")
    machine.dies("server")
    machine.due()
    machine.take(Heard("server", 1))
    machine.take(Ended("server", 1, 1))
    assert (machine.phase("server"), machine.state.of("server").starts) == ("starting", 2)


# ---------------------------------------------------------------- what a service is started with


def test_serving_waits_for_a_first_model_and_starts_when_there_is_one() -> None:
    machine = Machine(Service("serving", wanted=None, why="no champion"))
    assert machine.asked == []
    assert (machine.phase("serving"), machine.why("serving")) == ("waiting", "no champion")
    assert machine.take(Wanted("serving", ("heart",))) == [("start", "serving")]
    assert machine.state.of("serving").given == ("heart",)


def test_another_model_starts_serving_anew_and_costs_no_death() -> None:
    machine = _serving_heart()
    assert machine.take(Wanted("serving", ("heart", "reviews"))) == [("term", "serving")]
    assert machine.dies("serving", 0) == [("start", "serving")]
    assert machine.state.of("serving").given == ("heart", "reviews")
    assert machine.state.of("serving").deaths == ()


def test_a_model_that_is_gone_stops_nothing() -> None:
    machine = _serving_heart()
    assert machine.take(Wanted("serving", None, "no champion")) == []
    assert machine.phase("serving") == "ready"
    machine.dies("serving")
    assert machine.due() == []
    assert machine.phase("serving") == "waiting"


def test_a_new_model_that_cannot_be_served_does_not_take_the_old_one_down() -> None:
    machine = _serving_heart()
    machine.take(Wanted("serving", ("heart", "reviews")))
    machine.dies("serving", 0)
    assert machine.dies("serving", 9, "reviews needs a task") == [("start", "serving")]
    assert machine.state.of("serving").given == ("heart",)
    machine.ready("serving")
    assert machine.phase("serving") == "ready"
    assert "reviews cannot be served" in machine.why("serving")
    assert machine.take(Wanted("serving", ("heart", "reviews"))) == [], "nothing has changed"
    assert machine.take(Retry()) == [("term", "serving")]
    machine.dies("serving", 0)
    assert machine.state.of("serving").given == ("heart", "reviews")
    assert machine.dies("serving", 9, "reviews needs a task") == [("start", "serving")]
    machine.ready("serving")
    assert machine.take(Wanted("serving", ("adult", "heart", "reviews"))) == [("term", "serving")]
    machine.dies("serving", 0)
    assert machine.state.of("serving").given == ("adult", "heart", "reviews"), "what is new is tried with all"


def test_one_model_less_stops_nothing_either() -> None:
    machine = Machine(Service("serving", wanted=("heart", "reviews")))
    machine.ready("serving")
    assert machine.take(Wanted("serving", ("heart",))) == []
    machine.dies("serving")
    assert machine.due() == [("start", "serving")]
    assert machine.state.of("serving").given == ("heart",)


def test_what_was_good_before_this_start_is_served_where_something_newer_is_not() -> None:
    machine = Machine(Service("serving", wanted=("bad", "heart"), good=("heart", "gone")))
    assert machine.state.of("serving").given == ("bad", "heart")
    assert machine.dies("serving", 2, "bad is no model") == [("start", "serving")]
    assert machine.state.of("serving").given == ("heart",)
    machine = Machine(Service("serving", wanted=("bad",), good=("heart",)))
    machine.dies("serving", 2, "bad is no model")
    assert machine.phase("serving") == "failed", "nothing of it was ever good"


def _serving_heart() -> Machine:
    machine = Machine(Service("serving", wanted=("heart",)))
    machine.ready("serving")
    return machine


# ---------------------------------------------------------------- any order of events

_NAMES = ("server", "data", "serving")
_EVENTS = st.one_of(
    st.builds(Ended, st.sampled_from(_NAMES), st.integers(1, 3), st.sampled_from((0, 1, 2, 9, -9))),
    st.builds(Heard, st.sampled_from(_NAMES), st.integers(1, 3), st.sampled_from(((), ("full",)))),
    st.builds(Silent, st.sampled_from(_NAMES), st.integers(1, 3)),
    st.builds(Wanted, st.just("serving"), st.sampled_from((None, ("a",), ("a", "b"), ("b",)))),
    st.just(Tick()),
    st.just(Retry()),
    st.just(Stop()),
    st.just(Stop(now=True)),
)


@settings(max_examples=300)
@given(st.lists(st.tuples(_EVENTS, st.sampled_from((0.0, 0.3, 5.0, 61.0, 130.0))), max_size=60))
def test_whatever_happens_a_service_has_one_process_at_most_and_the_end_comes(
    story: list[tuple[Event, float]],
) -> None:
    machine = Machine(Service("server"), Service("data"), Service("serving", wanted=None))
    alive = {name: machine.asked.count(("start", name)) for name in _NAMES}
    for happens, after in story:
        event = happens
        if isinstance(happens, Ended):
            if not alive[happens.name]:
                continue  # what does not run does not end
            event = dataclasses.replace(happens, start=machine.state.of(happens.name).starts)
            alive[happens.name] = 0
        stopping = machine.state.stopping
        for do, name in machine.take(event, after):
            assert not (do == "start" and stopping), "what stops starts nothing"
            if do == "start":
                alive[name] += 1
            if do in ("term", "kill"):
                assert alive[name] == 1
        assert all(count <= 1 for count in alive.values())
        assert all(alive[one.name] == one.running for one in machine.state.services)
    _ends(machine, alive)


def _ends(machine: Machine, alive: dict[str, int]) -> None:
    """Told to stop, and each process ending or killed, it is over."""
    machine.take(Stop())
    for _ in range(4):
        last = next((name for name in reversed(_NAMES) if alive[name]), None)
        if last is not None:
            alive[last] = 0
            machine.dies(last, 0)
    assert machine.asked[-1] == ("over", "")
    assert {one.phase for one in machine.state.services} == {"stopped"}


def test_a_started_process_is_known_by_its_number() -> None:
    machine = Machine(Service("server"))
    machine.take(Started("server", 77))
    assert machine.state.of("server").pid == 77
    machine.dies("server")
    assert machine.state.of("server").pid == 0

"""Steps that are summed in secret, as a machine: under any order of events, sums of enough partners or none at all."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.plan import SecureSettings
from aimass.proto.step import Step, StepKind
from aimass.proto.views import SlotState
from aimass.server import attempts, steps

NAMES = tuple(f"p{number}" for number in range(9))


def opened(
    quorum: int = 3, names: tuple[str, ...] = NAMES[:4], grace_s: float = 0.0, **secure: object
) -> steps.StepState:
    step = Step(
        index=5, kind=StepKind.TRAIN, round=1, participants=names, inputs=("0" * 64,), quorum=quorum, deadline_s=10.0,
        grace_s=grace_s,
    )  # fmt: skip
    return steps.StepState.of(step, 100.0, attempts=attempts.of(SecureSettings(**secure)))  # type: ignore[arg-type]


@dataclasses.dataclass
class Play:
    """A step with everything that was to be done so far."""

    state: steps.StepState
    done: list[steps.StepAction] = dataclasses.field(default_factory=list)

    def feed(self, *events: steps.StepEvent) -> list[steps.StepAction]:
        """What these events lead to."""
        fresh: list[steps.StepAction] = []
        for event in events:
            self.state, actions = attempts.apply(self.state, event)
            fresh += actions
        self.done += fresh
        return fresh

    def ready(self, *names: str) -> list[steps.StepAction]:
        return self.feed(*(steps.Ready(partner=name) for name in names))

    def states(self) -> dict[str, str]:
        return {name: str(slot.state) for name, slot in self.state.slots.items()}


def formed(actions: list[steps.StepAction]) -> list[steps.Form]:
    return [action for action in actions if isinstance(action, steps.Form)]


def ended(number: int, *absent: str, burnt: bool = False, withheld: tuple[str, ...] = ()) -> steps.AttemptEnded:
    return steps.AttemptEnded(
        number=number, reason="E_TOO_FEW: few", at=200.0, absent=absent, burnt=burnt, withheld=withheld
    )


def summed(number: int, *names: str) -> steps.Summed:
    return steps.Summed(number=number, digests=dict.fromkeys(names, "1" * 64))


def test_an_attempt_is_formed_when_all_have_answered_and_counts_whom_it_summed() -> None:
    play = Play(opened())
    assert play.ready("p0", "p1", "p2") == []
    assert play.ready("p2") == []  # said again after a reconnection
    assert play.ready("p3") == [steps.Form(number=1, members=("p0", "p1", "p2", "p3"))]
    late, close = play.feed(summed(1, "p0", "p1", "p3"))
    assert isinstance(late, steps.Closed)
    assert (late.partner, late.reason.split(":")[0]) == ("p2", "step.not_in_sum")
    assert close == steps.Close(counted=("p0", "p1", "p3"))
    assert play.states() == {"p0": "counted", "p1": "counted", "p2": "late", "p3": "counted"}
    assert play.feed(summed(1, "p0"), ended(1), steps.TimeUp(), steps.Ready(partner="p2")) == []


def test_at_the_deadline_those_that_are_ready_are_enough_or_the_run_fails() -> None:
    play = Play(opened())
    play.ready("p0", "p1", "p2")
    told, form = play.feed(steps.TimeUp())
    assert isinstance(told, steps.Closed)
    assert (told.partner, form) == ("p3", steps.Form(number=1, members=("p0", "p1", "p2")))
    few = Play(opened())
    few.ready("p0", "p1")
    assert isinstance(few.feed(steps.TimeUp())[-1], steps.Fail)


def test_grace_waits_for_the_quorum_and_forms_with_the_partner_that_makes_it() -> None:
    play = Play(opened(grace_s=7.0))
    play.ready("p0", "p1")
    assert play.feed(steps.TimeUp(at=110.0)) == [steps.Prolong(deadline_at=117.0)]
    assert formed(play.ready("p2")) == [steps.Form(number=1, members=("p0", "p1", "p2"))]


def test_who_was_missing_is_asked_again_and_the_next_attempt_does_not_wait_for_it() -> None:
    play = Play(opened())
    play.ready(*NAMES[:4])
    assert play.feed(ended(1, "p3")) == [steps.Ask(partners=("p3",)), steps.Form(number=2, members=("p0", "p1", "p2"))]
    assert play.ready("p3") == []
    assert play.feed(ended(1, "p0")) == []  # an old attempt's end
    assert formed(play.feed(ended(2, "p0"))) == [steps.Form(number=3, members=("p1", "p2", "p3"))]


def test_without_enough_partners_the_next_attempt_waits_for_who_was_missing() -> None:
    play = Play(opened(phase_s=30.0))
    play.ready(*NAMES[:4])
    assert play.feed(ended(1, "p2", "p3"))[1:] == [steps.Prolong(deadline_at=230.0)]
    assert formed(play.ready("p3")) == [steps.Form(number=2, members=("p0", "p1", "p3"))]
    gone = Play(opened(phase_s=30.0))
    gone.ready(*NAMES[:4])
    gone.feed(ended(1, "p2", "p3"))
    fail = gone.feed(steps.TimeUp(at=230.0))[-1]
    assert isinstance(fail, steps.Fail)
    assert "2 of 3 partners" in fail.reason
    assert "E_TOO_FEW" in fail.reason


def test_who_withheld_is_out_of_the_step() -> None:
    play = Play(opened())
    play.ready(*NAMES[:4])
    assert play.feed(ended(1, "p3", withheld=("p3",))) == [steps.Form(number=2, members=("p0", "p1", "p2"))]
    assert play.states()["p3"] == "failed"
    assert play.ready("p3") == []


def test_who_pushed_the_others_out_is_out_of_the_step_and_they_are_asked_again() -> None:
    """A dealer whose boxes open for nobody has its own input there, and would be in the next attempt as well."""
    play = Play(opened())
    play.ready(*NAMES[:4])
    actions = play.feed(ended(1, "p0", "p1", "p2", withheld=("p3",)))
    assert actions[0] == steps.Ask(partners=("p0", "p1", "p2"))
    assert play.states()["p3"] == "failed"
    assert play.ready("p3") == []
    assert formed(play.ready("p0", "p1", "p2")) == [steps.Form(number=2, members=("p0", "p1", "p2"))]


def test_a_burnt_round_ends_without_a_result_and_nobody_is_asked_for_another_attempt() -> None:
    play = Play(opened())
    play.ready(*NAMES[:4])
    *told, void = play.feed(ended(1, "p3", burnt=True))
    assert isinstance(void, steps.Void)
    assert void.reason.startswith("secure.burnt")
    assert {action.partner for action in told if isinstance(action, steps.Closed)} == set(NAMES[:4])
    assert play.state.counted == ()


def test_attempts_that_all_fail_end_the_run_with_the_last_reason() -> None:
    play = Play(opened(attempts=2))
    play.ready(*NAMES[:4])
    play.feed(ended(1))
    fail = play.feed(ended(2))[-1]
    assert isinstance(fail, steps.Fail)
    assert "2 attempts failed, the last: E_TOO_FEW" in fail.reason


@pytest.mark.parametrize("left", [True, False])
def test_a_member_that_is_out_is_told_of_to_its_attempt(left: bool) -> None:
    play = Play(opened())
    play.ready(*NAMES[:4])
    event = steps.Left(partner="p1", reason="x") if left else steps.Failed(partner="p1", reason="x")
    assert play.feed(event) == [steps.Gone(number=1, partner="p1", left=left)]
    play.feed(ended(1, "p1"))
    assert play.states()["p1"] == "failed"  # and not asked again


def test_partners_are_dealt_into_circles_that_end_each_for_itself() -> None:
    play = Play(opened(quorum=9, names=NAMES, groups=3, tolerated=1, rule="median"))
    forms = formed(play.ready(*NAMES))
    assert [form.number for form in forms] == [1, 2, 3]
    assert sorted(name for form in forms for name in form.members) == sorted(NAMES)
    assert {len(form.members) for form in forms} == {3}
    assert play.feed(summed(2, *forms[1].members)) == []
    assert formed(play.feed(ended(1))) == [steps.Form(number=4, members=forms[0].members)]
    assert play.feed(summed(4, *forms[0].members)) == []
    assert play.feed(summed(3, *forms[2].members)) == [steps.Close(counted=NAMES)]


def test_a_circle_without_a_sum_is_spared_where_the_rule_has_others_enough() -> None:
    names = tuple(f"p{number:02}" for number in range(12))
    play = Play(opened(quorum=12, names=names, groups=4, tolerated=1, rule="median"))
    forms = formed(play.ready(*names))
    lost = play.feed(ended(1, burnt=True))
    assert {action.partner for action in lost if isinstance(action, steps.Closed)} == set(forms[0].members)
    for form in forms[1:]:
        done = play.feed(summed(form.number, *form.members))
    assert done[-1] == steps.Close(counted=tuple(sorted(set(names) - set(forms[0].members))))
    strict = Play(opened(quorum=9, names=NAMES, groups=3, tolerated=1, rule="median"))
    forms = formed(strict.ready(*NAMES))
    strict.feed(ended(1, burnt=True), summed(2, *forms[1].members))
    assert isinstance(strict.feed(summed(3, *forms[2].members))[-1], steps.Void)  # a sum was seen: never again


def test_krum_waits_for_more_circles_than_the_median() -> None:
    names = tuple(f"p{number:02}" for number in range(18))
    for lost, last in ((1, steps.Close), (2, steps.Void)):
        play = Play(opened(quorum=18, names=names, groups=6, tolerated=1, rule="krum"))
        forms = formed(play.ready(*names))
        for number in range(lost):
            play.feed(ended(number + 1, burnt=True))
        for form in forms[lost:]:
            done = play.feed(summed(form.number, *form.members))
        assert isinstance(done[-1], last)


def test_a_deal_is_even_repeatable_and_another_one_in_each_step() -> None:
    dealt = attempts.deal(NAMES, 2, "a")
    assert dealt == attempts.deal(tuple(reversed(NAMES)), 2, "a")
    assert sorted(map(len, dealt)) == [4, 5]
    assert len({attempts.deal(NAMES, 2, str(about)) for about in range(50)}) > 30


Events = st.lists(
    st.one_of(
        st.builds(steps.Ready, partner=st.sampled_from(NAMES)),
        st.builds(steps.Failed, partner=st.sampled_from(NAMES), reason=st.just("x")),
        st.builds(steps.Left, partner=st.sampled_from(NAMES), reason=st.just("x")),
        st.builds(steps.TimeUp, at=st.just(150.0)),
        st.tuples(st.sampled_from(["end", "burn", "sum", "lose"]), st.integers(0, 4), st.integers(0, 8)),
    ),
    max_size=60,
)


@given(events=Events, circles=st.integers(1, 3), quorum=st.integers(0, 9))
def test_whatever_happens_sums_have_enough_members_and_nobody_is_in_two(
    events: list[steps.StepEvent | tuple[str, int, int]], circles: int, quorum: int
) -> None:
    least = 2
    state = opened(quorum=max(quorum, circles * least, 1), names=NAMES, groups=circles)
    assert state.attempts is not None
    play = Play(msgspec.structs.replace(state, attempts=msgspec.structs.replace(state.attempts, least=least)))
    used: set[int] = set()
    signed: set[str] = set()
    for event in events:
        assert play.state.attempts is not None
        under_way = [circle for circle in play.state.attempts.circles if circle.members]
        if isinstance(event, tuple):
            if not under_way:
                continue
            what, place, who = event
            circle = under_way[place % len(under_way)]
            some = circle.members[: max(least, who % (len(circle.members) + 1))]
            if what == "sum":
                actions = play.feed(summed(circle.number, *some))
            else:
                lost = circle.members[who % len(circle.members) :] if what == "lose" else ()
                signed |= set(circle.members) if what == "burn" else set()
                actions = play.feed(ended(circle.number, *lost, burnt=what == "burn"))
        else:
            actions = play.feed(event)
        for form in formed(actions):
            assert form.number not in used
            used.add(form.number)
            assert len(form.members) >= least
            assert not signed & set(form.members)  # who may have signed is in no other attempt of the step
        ends = [action for action in actions if isinstance(action, steps.Close | steps.Fail | steps.Void)]
        assert len(ends) <= 1
        if ends:
            assert play.state.counted is not None
            assert not any(slot.state in (SlotState.ASKED, SlotState.READY) for slot in play.state.slots.values())
        now = [name for circle in play.state.attempts.circles for name in circle.members]
        assert len(set(now)) == len(now)
    if play.state.counted:
        assert len(play.state.counted) >= least

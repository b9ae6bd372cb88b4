"""The session machine under any order of events: nothing leaves twice, nothing is kept that was not counted."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aimass.client import session as machine
from aimass.client.session import Phase, Session, Work, apply
from aimass.privacy.transcript import Receipt
from aimass.proto.step import Step, StepKind

RUN = "ab" * 16


def step(index: int, quorum: int = 1) -> Step:
    return Step(
        index=index,
        kind=StepKind.TRAIN,
        round=index,
        participants=("north",),
        inputs=("0" * 64,),
        quorum=quorum,
        deadline_s=9.0,
    )


def fresh(phase: Phase = Phase.JOINED, *, secure: bool = False) -> Session:
    return Session(run_id=RUN, plan_digest="1" * 64, roster_digest="2" * 64, phase=phase, secure=secure)


def receipt(index: int, outcome: str, digest: str) -> machine.GotReceipt:
    return machine.GotReceipt(
        receipt=Receipt(
            run_id=RUN,
            step=index,
            partner="north",
            contribution=digest,
            outcome=outcome,  # type: ignore[arg-type]
            reason="",
            entries=1,
            head="3" * 64,
        )
    )


DIGESTS = ("a" * 64, "b" * 64)
PAYLOADS = ("c" * 64, "d" * 64)
INDEX = st.integers(0, 3)
EVENTS = st.one_of(
    st.builds(lambda i: machine.Opened(step=step(i)), INDEX),
    st.builds(lambda i, d: machine.Worked(index=i, digest=d), INDEX, st.sampled_from(DIGESTS)),
    st.builds(lambda i, t: machine.StepFailed(index=i, reason="x: y", told=t), INDEX, st.booleans()),
    st.builds(lambda i: machine.Acknowledged(index=i), INDEX),
    st.builds(lambda i, d: machine.Sent(index=i, digest=d), INDEX, st.sampled_from(PAYLOADS)),
    st.builds(lambda i: machine.StepOver(index=i, reason="late"), INDEX),
    st.builds(receipt, INDEX, st.sampled_from(["counted", "refused", "late"]), st.sampled_from(DIGESTS + PAYLOADS)),
    st.just(machine.HistoryGrew(heads=("4" * 64,))),
    st.just(machine.Lost()),
    st.just(machine.Forked(reason="transcript.forked: x")),
    st.just(machine.Withdrew(reason="partner.withdrew: x")),
    st.just(machine.Ended(state="finished", reason="")),
    st.builds(lambda p: machine.Answer(phase=p), st.sampled_from([Phase.PENDING, Phase.JOINED, Phase.DECLINED])),
)


@given(st.lists(EVENTS, max_size=60), st.booleans())
def test_no_order_of_events_breaks_the_rules_of_a_session(events: list[machine.Event], secure: bool) -> None:
    session = fresh(Phase.PENDING, secure=secure)
    worked: dict[int, str] = {}
    kept: set[int] = set()
    for event in events:
        before = session
        session, actions = apply(session, event)
        if before.phase in (Phase.LEFT, Phase.ENDED):
            assert session == before
            assert actions == ()
        if before.phase is Phase.WITHDRAWN:
            assert session.step is None
            assert all(isinstance(action, machine.LeaveRun) for action in actions)
        assert session.resolved >= before.resolved
        for action in actions:
            if isinstance(action, machine.Train):
                assert session.phase is Phase.JOINED
                assert action.step.index >= before.resolved
            assert not isinstance(action, machine.Submit if secure else machine.TellReady)
            if isinstance(action, machine.TellReady):
                assert session.work in (Work.READY, Work.STORED)
                assert session.step is not None
                assert action.index == session.step.index
            if isinstance(action, machine.Submit):
                assert session.work in (Work.READY, Work.STORED)
                assert worked.setdefault(action.step.index, action.digest) == action.digest
            if isinstance(action, machine.KeepLocalState):
                assert isinstance(event, machine.GotReceipt)
                assert event.receipt.outcome == "counted"
                assert event.receipt.contribution in (before.digest, before.sent)
                assert action.index not in kept
                kept.add(action.index)


def test_the_golden_transcript_of_a_step_with_two_reconnections() -> None:
    session, names = fresh(), []
    for event in (
        machine.Opened(step=step(0)),
        machine.Opened(step=step(0)),
        machine.Worked(index=0, digest=DIGESTS[0]),
        machine.Opened(step=step(0)),
        machine.Acknowledged(index=0),
        receipt(0, "counted", DIGESTS[0]),
        machine.Opened(step=step(1)),
    ):
        session, actions = apply(session, event)
        names.append([type(action).__name__ for action in actions])
    assert names == [["Train"], ["Train"], ["Submit"], ["Submit"], [], ["KeepLocalState", "Release"], ["Train"]]


def test_a_step_that_changes_after_it_was_opened_ends_the_partnership() -> None:
    session, _ = apply(fresh(), machine.Opened(step=step(0)))
    changed = Step(
        index=0, kind=StepKind.TRAIN, round=5, participants=("north",), inputs=("f" * 64,), quorum=1, deadline_s=9.0
    )
    session, actions = apply(session, machine.Opened(step=changed))
    assert session.phase is Phase.LEFT
    assert isinstance(actions[-1], machine.LeaveRun)


def test_an_older_step_is_never_worked_on_again_and_a_failure_is_told_again() -> None:
    session, _ = apply(fresh(), machine.Opened(step=step(2)))
    session, told = apply(session, machine.StepFailed(index=2, reason="child.died: x"))
    assert [type(action) for action in told] == [machine.Release, machine.TellStepFailed]
    assert apply(session, machine.Opened(step=step(1)))[1] == ()
    assert apply(session, machine.Opened(step=step(2)))[1] == (machine.TellStepFailed(index=2, reason="child.died: x"),)


def test_who_withdraws_drops_the_work_at_hand_says_so_and_hears_the_history_on() -> None:
    session, _ = apply(fresh(), machine.Opened(step=step(0)))
    session, _ = apply(session, machine.Worked(index=0, digest=DIGESTS[0]))
    session, actions = apply(session, machine.Withdrew(reason="partner.withdrew: x"))
    assert actions == (machine.Release(index=0), machine.LeaveRun(reason="partner.withdrew: x"))
    session, _ = apply(session, machine.HistoryGrew(heads=("4" * 64,)))
    assert session.chain.entries == 1
    assert apply(session, machine.Opened(step=step(1)))[1] == ()


def test_the_golden_transcript_of_a_secure_step_with_a_reconnection_and_a_second_attempt() -> None:
    session, names = fresh(secure=True), []
    for event in (
        machine.Opened(step=step(0)),
        machine.Worked(index=0, digest=DIGESTS[0]),
        machine.Opened(step=step(0)),
        machine.Sent(index=0, digest=PAYLOADS[0]),
        machine.Opened(step=step(0)),
        machine.Sent(index=0, digest=PAYLOADS[1]),
        receipt(0, "counted", PAYLOADS[1]),
        machine.Opened(step=step(1)),
    ):
        session, actions = apply(session, event)
        names.append([type(action).__name__ for action in actions])
    ready = ["TellReady"]
    assert names == [["Train"], ready, ready, [], ready, [], ["KeepLocalState", "Release"], ["Train"]]
    assert session.sent == ""


def test_a_receipt_for_an_input_that_was_not_the_last_one_sent_keeps_no_local_state() -> None:
    session, _ = apply(fresh(secure=True), machine.Opened(step=step(0)))
    session, _ = apply(session, machine.Worked(index=0, digest=DIGESTS[0]))
    assert apply(session, receipt(0, "counted", ""))[1] == (machine.Release(index=0),)
    for payload in PAYLOADS:
        session, _ = apply(session, machine.Sent(index=0, digest=payload))
    assert apply(session, receipt(0, "counted", PAYLOADS[0]))[1] == (machine.Release(index=0),)
    assert apply(session, receipt(0, "refused", PAYLOADS[1]))[1] == (machine.Release(index=0),)
    assert machine.KeepLocalState(index=0) in apply(session, receipt(0, "counted", PAYLOADS[1]))[1]


def heard(session: Session, *events: machine.Event) -> Session:
    for event in events:
        session, _ = apply(session, event)
    return session


def test_a_partner_whose_training_was_counted_knows_that_it_keeps_a_local_state() -> None:
    worked = heard(fresh(), machine.Opened(step=step(0)), machine.Worked(index=0, digest=DIGESTS[0]))
    assert heard(worked, receipt(0, "counted", DIGESTS[0])).kept
    assert not heard(worked, receipt(0, "refused", DIGESTS[0])).kept
    assert not heard(worked, receipt(3, "counted", DIGESTS[0])).kept
    measuring = msgspec.structs.replace(step(0), kind=StepKind.EVALUATE)
    measured = heard(fresh(), machine.Opened(step=measuring), machine.Worked(index=0, digest=DIGESTS[0]))
    assert not heard(measured, receipt(0, "counted", DIGESTS[0])).kept


def test_a_partner_that_began_nothing_and_is_told_what_it_contributed_has_lost_all_it_had() -> None:
    again = heard(fresh(), receipt(0, "counted", DIGESTS[0]), machine.Opened(step=step(2)))
    assert again.kept


def trees(index: int, *inputs: str) -> machine.Opened:
    asked = msgspec.structs.replace(step(index), kind=StepKind.ANALYSE, purpose="trees", inputs=inputs)
    return machine.Opened(step=asked)


def test_the_bins_of_a_runs_trees_are_those_of_its_first_level() -> None:
    model, bins, other, level = ("5" * 64, "6" * 64, "7" * 64, "8" * 64)
    session, _ = apply(fresh(), trees(0, model))
    session, _ = apply(session, trees(1, model, bins))
    session, actions = apply(session, trees(2, model, bins, level))
    assert session.phase is Phase.JOINED
    assert machine.Train in map(type, actions)
    session, _ = apply(session, machine.Opened(step=step(3)))
    left, actions = apply(session, trees(4, model, other))
    assert left.phase is Phase.LEFT
    assert left.reason.startswith("session.bins")
    assert machine.Train not in map(type, actions)

"""Secure sums at the server: exact sums of those that stayed, whoever vanishes and whenever the server dies."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.privacy.secagg.client_state import Kind, Limits
from aimass.privacy.secagg.faults import Code
from aimass.privacy.secagg.parameters import Profile
from aimass.proto.errors import AimassError, BadInput, NotFound, Stopped
from aimass.proto.plan import Cohort, Plan, SecureSettings, decode_plan, encode_plan
from aimass.proto.tensors import Blob
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import RunState, SlotState
from aimass.server.audit import audit_run, gather
from aimass.server.audit_steps import StepTold
from aimass.server.live import Live
from aimass.server.secure_desk import SecureDesk
from aimass.server.secure_log import Begun, SecureLog
from tests.support.clock import ManualClock
from tests.support.engines import Bench
from tests.support.secure_members import SecurePartner, settled

NAMES = ("east", "north", "south", "west")
VALUES = {"east": (0.5, 10.0), "north": (-0.25, 30.0), "south": (0.125, 20.0), "west": (1.0, 40.0)}


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def secure_plan(bench: Bench, rounds: int = 1, quorum: int = 3, **settings: object) -> bytes:
    plan: Plan = decode_plan(bench.plan(rounds=rounds, quorum=quorum))
    secure = SecureSettings(clip=4.0, max_weight=64, **settings)  # type: ignore[arg-type]
    return encode_plan(msgspec.structs.replace(plan, secure=secure))


async def begun(
    bench: Bench, rounds: int = 1, quorum: int = 3, **settings: object
) -> tuple[str, dict[str, SecurePartner]]:
    run_id = await bench.submit(secure_plan(bench, rounds, quorum, **settings))
    partners = {name: SecurePartner(bench, run_id, name, *VALUES[name]) for name in NAMES}
    await bench.join(run_id)
    return run_id, partners


def final(bench: Bench, run_id: str) -> bool:
    return bench.engine.live(run_id).row.run.state.final


def mean(*names: str) -> float:
    weight = sum(VALUES[name][1] for name in names)
    return sum(value * w for value, w in (VALUES[name] for name in names)) / weight


def model(bench: Bench, run_id: str) -> np.ndarray:
    return Blob(bench.blobs.open(bench.engine.live(run_id).row.run.model)).numpy("w")


async def stopped(bench: Bench, run_id: str) -> None:
    """The bench at its end: nothing of what was kept for the sum is left, and the history is what the rules say."""
    for _ in range(200):
        if not SecureLog(bench.store).held():
            break
        await asyncio.sleep(0.01)
    assert SecureLog(bench.store).held() == []
    await bench.stop()
    assert_sound(bench, run_id)


def assert_sound(bench: Bench, run_id: str) -> None:
    evidence = gather(bench.store, bench.engine.live(run_id).row, bench.roster)
    assert audit_run(msgspec.structs.replace(evidence, server=bench.engine.identity)).faults == ()


@pytest.mark.parametrize("profile", ["malicious", "hbc"])
def test_a_run_of_two_rounds_ends_in_the_weighted_means(tmp_path: Path, profile: str) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench, rounds=2, profile=profile)
        await settled(partners, lambda: final(bench, run_id))
        run = await bench.finished(run_id)
        assert run.state is RunState.FINISHED
        np.testing.assert_allclose(model(bench, run_id), 2 * mean(*NAMES), atol=1e-4)
        step = bench.store.steps(run_id)[0]
        assert step.attempts == 1
        assert step.metrics["loss"].mean == pytest.approx(mean(*NAMES), abs=1e-6)
        assert set(step.slots.values()) == {SlotState.COUNTED}
        await stopped(bench, run_id)
        assert list((tmp_path / "spool").iterdir()) == []

    run(scenario())


def test_a_partner_that_vanishes_after_it_has_shared_is_left_out_of_the_sum_exactly(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, NAMES)
        run_id, partners = await begun(bench)
        partners["west"].silent_on = frozenset({Kind.INPUT})
        await settled(partners, lambda: [p.sent.count(Kind.INPUT) for p in partners.values()] == [1, 1, 1, 0])
        clock.advance(61)
        await settled(partners, lambda: final(bench, run_id))
        np.testing.assert_allclose(model(bench, run_id), mean("east", "north", "south"), atol=1e-4)
        step = bench.store.steps(run_id)[0]
        assert step.slots["west"] is SlotState.LATE
        assert step.reasons["west"].startswith("step.not_in_sum")
        await stopped(bench, run_id)

    run(scenario())


@pytest.mark.parametrize("profile", ["malicious", "hbc"])
@pytest.mark.parametrize("kind", [Kind.ADVERTISE, Kind.SHARES, Kind.INPUT, Kind.SIGNATURE, Kind.UNMASK])
def test_a_server_killed_in_any_phase_goes_on_in_the_same_attempt(tmp_path: Path, kind: Kind, profile: str) -> None:
    """Killed when half of the messages of a phase have come: what it acknowledged is there, the rest is sent again."""
    if (profile, kind) == ("hbc", Kind.SIGNATURE):
        pytest.skip("the profile has no signatures")

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench, profile=profile)
        for name in ("south", "west"):
            partners[name].silent_on = frozenset({kind})
        await settled(
            partners,
            lambda: sum(kind in partner.sent for partner in partners.values()) == 2 or final(bench, run_id),
        )
        done = final(bench, run_id)  # two shares of each may have been enough
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock(), NAMES, keys=bench.keys)
        for partner in partners.values():
            partner.bench, partner.read, partner.silent_on = again, 0, frozenset()
        for name in NAMES:
            await again.desk.connected(name, [])
        await settled(partners, lambda: final(again, run_id))
        np.testing.assert_allclose(model(again, run_id), mean(*NAMES), atol=1e-4)
        assert again.store.steps(run_id)[0].attempts == 1
        assert done or {record.attempt for partner in partners.values() for record in partner.records.values()} == {0}
        await stopped(again, run_id)

    run(scenario())


@pytest.mark.parametrize("kind", [Kind.ADVERTISE, Kind.SHARES, Kind.INPUT])
def test_a_daemon_killed_before_it_signs_costs_its_part_of_the_attempt_or_joins_the_next(
    tmp_path: Path, kind: Kind
) -> None:
    """With a quorum of four the attempt without it fails, and the next is of all: the input that it kept is in it."""

    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, NAMES)
        run_id, partners = await begun(bench, quorum=4, min_cohort=4)
        west = partners["west"]
        west.silent_on = frozenset({kind})
        await settled(partners, lambda: all(kind in p.sent for n, p in partners.items() if n != "west"))
        kept = west.lanes[0].copy()
        west.restart()
        west.silent_on = frozenset()
        bench.desk.arrives("west")
        await bench.desk.connected("west", [])
        await settled(partners, lambda: final(bench, run_id))
        assert bench.engine.live(run_id).row.run.state is RunState.FINISHED
        np.testing.assert_allclose(model(bench, run_id), mean(*NAMES), atol=1e-4)
        np.testing.assert_array_equal(west.lanes[0], kept)
        assert bench.store.steps(run_id)[0].attempts == 2
        await stopped(bench, run_id)

    run(scenario())


def test_a_round_in_which_somebody_signed_is_burnt_and_the_run_goes_on_with_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, NAMES)
        run_id, partners = await begun(bench)
        for name in ("south", "west"):
            partners[name].silent_on = frozenset({Kind.SIGNATURE})
        await settled(partners, lambda: sum(Kind.SIGNATURE in p.sent for p in partners.values()) == 2)
        for partner in partners.values():
            partner.silent_on = frozenset()
        clock.advance(61)
        await settled(partners, lambda: final(bench, run_id))
        first, second = bench.store.steps(run_id)
        assert (first.state, second.state) == ("cancelled", "committed")
        assert (first.round, second.round) == (1, 1)
        np.testing.assert_allclose(model(bench, run_id), mean(*NAMES), atol=1e-4)
        await stopped(bench, run_id)

    run(scenario())


def test_who_lets_rounds_burn_is_asked_no_more_and_the_run_ends_without_it(tmp_path: Path) -> None:
    """It withholds its signature, and another one vanishes each time: without exclusion no round would end."""

    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, NAMES)
        plan = decode_plan(secure_plan(bench))
        cohort = msgspec.structs.replace(plan.cohort, exclude_after=1)
        run_id = await bench.submit(encode_plan(msgspec.structs.replace(plan, cohort=cohort)))
        partners = {name: SecurePartner(bench, run_id, name, *VALUES[name]) for name in NAMES}
        await bench.join(run_id)
        for name in ("south", "west"):
            partners[name].silent_on = frozenset({Kind.SIGNATURE})
        await settled(partners, lambda: sum(Kind.SIGNATURE in p.sent for p in partners.values()) == 2)
        clock.advance(61)
        partners["west"].silent_on = frozenset()
        await settled(partners, lambda: final(bench, run_id), push=lambda: clock.advance(61))
        run = bench.engine.live(run_id).row.run
        assert run.state is RunState.FINISHED, run.reason
        assert "secure.absent" in run.excluded["south"]
        np.testing.assert_allclose(model(bench, run_id), mean("east", "north", "west"), atol=1e-4)
        await stopped(bench, run_id)

    run(scenario())


def test_attempts_that_never_come_to_a_sum_end_the_run_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, NAMES)
        run_id, partners = await begun(bench, attempts=2)
        for name in ("south", "west"):
            partners[name].silent_on = frozenset({Kind.SHARES})

        await settled(partners, lambda: final(bench, run_id), push=lambda: clock.advance(61))
        ended = bench.engine.live(run_id).row.run
        assert ended.state is RunState.FAILED
        assert Code.TOO_FEW in ended.reason
        assert "south" in ended.reason
        await bench.stop()

    run(scenario())


@pytest.mark.parametrize(("rule", "groups"), [("median", 3), ("geometric-median", 3), ("krum", 5)])
def test_liars_in_a_circle_move_a_rules_value_no_further_than_the_honest_circles(
    tmp_path: Path, rule: str, groups: int
) -> None:
    """One lies about its update as far as the lanes go, in another run one spoils its circle's sum: both runs end."""
    names = tuple(f"p{number:02}" for number in range(3 * groups))

    async def scenario(spoilt: bool) -> None:
        bench = await Bench.start(tmp_path / str(spoilt), ManualClock(), names)
        plan = secure_plan(bench, quorum=len(names), groups=groups, tolerated=1, rule=rule)
        run_id = await bench.submit(plan)
        partners = {name: SecurePartner(bench, run_id, name, 0.1 * number, 10.0) for number, name in enumerate(names)}
        partners[names[-1]].value, partners[names[-1]].spoils = 4.0, spoilt
        await bench.join(run_id)
        await settled(partners, lambda: final(bench, run_id))
        run = bench.engine.live(run_id).row.run
        assert run.state is RunState.FINISHED, run.reason
        told = decode_json(StepTold, bench.store.transcript(run_id)[1].body, "the step")
        assert [bool(one.fault) for one in told.secure].count(True) == spoilt
        means = sorted(np.mean([0.1 * names.index(name) for name in one.counted]) for one in told.secure)
        found = model(bench, run_id)
        assert (found <= 0.1 * (len(names) - 3) + 1e-3).all()  # the largest mean that three honest partners can have
        assert (found >= 0.1 - 1e-3).all()
        assert len(means) == groups
        await stopped(bench, run_id)

    for spoilt in (False, True):
        (tmp_path / str(spoilt)).mkdir()
        run(scenario(spoilt))


def test_a_partner_that_leaves_after_its_input_came_is_not_summed(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        partners["south"].silent_on = frozenset({Kind.INPUT})
        await settled(partners, lambda: Kind.INPUT in partners["west"].sent)
        await bench.desk.outside(frozenset(NAMES) - {"west"}, "trust.revoked: removed")
        partners["west"].deaf = True
        partners["south"].silent_on = frozenset()
        await settled(partners, lambda: final(bench, run_id))
        np.testing.assert_allclose(model(bench, run_id), mean("east", "north", "south"), atol=1e-4)
        assert bench.store.steps(run_id)[0].attempts == 2
        await stopped(bench, run_id)

    run(scenario())


def test_who_left_as_the_server_died_is_not_summed_by_the_next(tmp_path: Path) -> None:
    """The run knows that it left, and the attempt was yet to hear it; what it had sent is on the disk."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        partners["south"].silent_on = frozenset({Kind.INPUT})
        await settled(partners, lambda: Kind.INPUT in partners["west"].sent)
        assert bench.engine.secret is not None
        bench.engine.secret.gone = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign]
        await bench.desk.outside(frozenset(NAMES) - {"west"}, "trust.revoked: removed")
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock(), NAMES, keys=bench.keys)
        async with asyncio.timeout(5):
            await again.until(run_id, lambda run: "west left" in "".join(run.open["0"].attempts.failed))  # type: ignore[union-attr]
        partners["west"].deaf = True
        for partner in partners.values():
            partner.bench, partner.read, partner.silent_on = again, len(again.outbox.said), frozenset()
        for name in ("east", "north", "south"):
            await again.desk.connected(name, [])
        await settled(partners, lambda: final(again, run_id))
        np.testing.assert_allclose(model(again, run_id), mean("east", "north", "south"), atol=1e-4)
        assert again.store.steps(run_id)[0].attempts == 2
        await stopped(again, run_id)

    run(scenario())


def test_a_sum_whose_run_was_stopped_meanwhile_blames_no_disk(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        closing = asyncio.create_task(bench.until(run_id, lambda run: run.open["0"].counted is not None))
        await settled(partners, closing.done)
        state = closing.result().open["0"]
        await settled(partners, lambda: final(bench, run_id))
        assert bench.engine.secret is not None
        with pytest.raises(Stopped, match="the run ended"):
            await bench.engine.secret.inputs(bench.engine.live(run_id), state)
        await stopped(bench, run_id)

    run(scenario())


def test_an_attempt_that_fails_to_begin_after_its_run_was_stopped_ends_nothing(tmp_path: Path) -> None:
    """The model of a step that is over may be gone; a later step of the run, or its end, stays as it is."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        secret, live = bench.engine.secret, bench.engine.live(run_id)
        assert isinstance(secret, SecureDesk)

        async def late(*_: object) -> Begun:
            row = live.row
            live.row = dataclasses.replace(row, run=msgspec.structs.replace(row.run, open={}))
            raise NotFound("no such blob", code="storage.unknown")

        given_up = []

        async def give_up(_: Live, error: AimassError) -> None:
            given_up.append(error)

        secret._begun, bench.engine.give_up = late, give_up  # type: ignore[method-assign, assignment]
        await settled(partners, lambda: not live.row.run.open)
        await settled(partners, lambda: True)
        assert given_up == []
        await bench.stop()

    run(scenario())


def test_who_asks_from_a_thread_which_attempt_is_its_own_does_not_meet_one_that_begins(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        secret = bench.engine.secret
        assert isinstance(secret, SecureDesk)
        held: dict[int, object] = {}

        class Other:
            @property
            def ids(self) -> dict[str, int]:
                held[len(held) + 1] = self  # another circle's begins now
                return {}

        held[1] = Other()
        secret._attempts["r", 0] = held  # type: ignore[assignment]
        assert secret._of("north", "r", 0, 1) is None
        secret._attempts.clear()
        await bench.stop()

    run(scenario())


@pytest.mark.parametrize(("kind", "left"), [(Kind.INPUT, False), (Kind.SIGNATURE, False), (Kind.SIGNATURE, True)])
def test_an_input_that_is_being_summed_stays_when_its_partner_fails_or_leaves(
    tmp_path: Path, kind: Kind, left: bool
) -> None:
    """Its place in the step is gone, and masks do not come off without it: one partner would end everybody's run."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        partners["south"].silent_on = frozenset({kind})
        await settled(partners, lambda: {kind, Kind.INPUT} <= {*partners["west"].sent})
        if left:
            await bench.desk.outside(frozenset(NAMES) - {"west"}, "trust.revoked: removed")
        else:
            await bench.desk.step_failed("west", pb.StepFailed(run_id=run_id, step=0, fault=pb.Fault(code="disk.full")))
        partners["south"].silent_on = frozenset()
        await bench.desk.connected("south", [])
        await settled(partners, lambda: final(bench, run_id))
        assert bench.engine.live(run_id).row.run.state is RunState.FINISHED
        np.testing.assert_allclose(model(bench, run_id), mean(*NAMES), atol=1e-4)
        await stopped(bench, run_id)
        assert list((tmp_path / "spool").iterdir()) == []

    run(scenario())


def test_a_payload_that_changed_on_the_disk_ends_the_run_and_nothing_of_it_is_used(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        partners["west"].silent_on = frozenset({Kind.UNMASK})
        partners["south"].silent_on = frozenset({Kind.UNMASK})
        await settled(partners, lambda: sum(Kind.UNMASK in p.sent for p in partners.values()) == 2)
        (path,) = [path for path in (tmp_path / "spool").rglob("*east*") if path.is_file() and path.stat().st_size > 40]
        data = bytearray(path.read_bytes())
        data[3] ^= 4
        path.write_bytes(data)
        partners["west"].silent_on = frozenset()
        bench.desk.arrives("west")
        await bench.desk.connected("west", [])
        await settled(partners, lambda: final(bench, run_id))
        ended = bench.engine.live(run_id).row.run
        assert ended.state is RunState.FAILED
        assert Code.SUM_CHECK in ended.reason
        await bench.stop()

    run(scenario())


def test_partners_whose_policy_wants_more_than_the_plan_gives_take_part_in_no_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        _, partners = await begun(bench, profile="hbc")
        for name in ("north", "west"):
            partners[name].limits = Limits(profile=Profile.MALICIOUS)
        await settled(partners, lambda: all(partners[name].faults for name in ("north", "west")))
        assert {partners[name].code() for name in ("north", "west")} == {Code.POLICY}
        assert Kind.ADVERTISE not in partners["west"].sent
        await bench.stop()

    run(scenario())


def test_a_plan_whose_sums_cannot_be_made_is_refused_when_it_is_submitted(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        plan = msgspec.structs.replace(decode_plan(secure_plan(bench)), secure=SecureSettings(clip=1e-200))
        with pytest.raises(BadInput, match="secure sums cannot be made") as refused:
            await bench.submit(encode_plan(msgspec.structs.replace(plan, cohort=Cohort(quorum=4))))
        assert refused.value.code == "plan.secure"
        await bench.stop()

    run(scenario())


@pytest.mark.parametrize("kind", [Kind.INPUT, Kind.SIGNATURE])
def test_a_restored_server_that_lacks_an_input_ends_the_attempt_and_makes_another_or_the_next_round(
    tmp_path: Path, kind: Kind
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        for name in ("south", "west"):
            partners[name].silent_on = frozenset({kind})
        await settled(partners, lambda: sum(kind in partner.sent for partner in partners.values()) == 2)
        await bench.stop()
        (tmp_path / "spool" / f"{run_id}-0-east").unlink()
        again = await Bench.start(tmp_path, ManualClock(), NAMES, keys=bench.keys)
        for partner in partners.values():
            partner.bench, partner.read, partner.silent_on = again, 0, frozenset()
        for name in NAMES:
            await again.desk.connected(name, [])
        await settled(partners, lambda: final(again, run_id))
        assert again.engine.live(run_id).row.run.state is RunState.FINISHED
        np.testing.assert_allclose(model(again, run_id), mean(*NAMES), atol=1e-4)
        first = again.store.steps(run_id)[0]
        assert "secure.lost" in first.failed_attempts[0]
        assert first.state == ("cancelled" if kind is Kind.SIGNATURE else "committed")
        await stopped(again, run_id)

    run(scenario())


@pytest.mark.parametrize("figures", [{"auc": 1e19}, {f"m{n}": 0.0 for n in range(1_001)}])
def test_figures_that_no_partner_has_are_refused(tmp_path: Path, figures: dict[str, float]) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, _ = await begun(bench)
        ready = pb.Ready(run_id=run_id, step=0, figures=canonical_json(figures))
        with pytest.raises(BadInput, match="figure"):
            await bench.desk.ready("east", ready)
        await bench.stop()

    run(scenario())


def test_an_auditor_sees_sets_and_signatures_of_a_sum_that_were_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        await settled(partners, lambda: final(bench, run_id))
        evidence = gather(bench.store, bench.engine.live(run_id).row, bench.roster)
        entry = evidence.entries[1]
        told = decode_json(StepTold, entry.body, "the step")
        (one,) = told.secure
        assert set(one.signatures) <= set(NAMES)
        assert len(one.signatures) >= 3
        for changed in (
            msgspec.structs.replace(one, sharers=one.sharers[1:], counted=one.counted[1:]),
            msgspec.structs.replace(one, signatures=one.signatures | {"east": "00" * 64}),
            msgspec.structs.replace(one, signatures=dict(list(one.signatures.items())[:2])),
        ):
            body = canonical_json(
                {"event": "step"} | msgspec.to_builtins(msgspec.structs.replace(told, secure=(changed,)))
            )
            entries = [evidence.entries[0], dataclasses.replace(entry, body=body), *evidence.entries[2:]]
            faults = audit_run(msgspec.structs.replace(evidence, entries=entries, server=bench.engine.identity)).faults
            assert any("secure sum" in fault for fault in faults), faults
        await bench.stop()

    run(scenario())


def test_figures_that_policies_release_are_shown_and_travel_beside_the_sum(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        partners["east"].figures = {"loss": 0.75}
        await settled(partners, lambda: final(bench, run_id))
        assert bench.store.steps(run_id)[0].metrics["loss"].by_partner == {"east": 0.75}
        await bench.stop()

    run(scenario())

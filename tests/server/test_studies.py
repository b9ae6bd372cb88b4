"""Studies at the server: whose runs they take, how many, and that their end reaches every partner that reserved."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import pytest

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import AimassError
from aimass.proto.plan import Study, decode_plan, encode_plan
from tests.support.clock import ManualClock
from tests.support.engines import Bench

ID, OTHER = "5" * 32, "6" * 32


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def peer(name: str, role: Role = Role.SCIENTIST) -> Peer:
    return Peer(name=name, role=role, serial=1, tls_sha256=b"", not_after=0.0)


def trial(bench: Bench, study: str = ID, trials: int = 2, **costliest: int) -> bytes:
    named = {f"train.{name}": value for name, value in costliest.items()}
    section = Study(id=study, trials=trials, costliest=dict(named))
    return encode_plan(msgspec.structs.replace(decode_plan(bench.plan()), study=section))


async def refused(work: Coroutine[object, object, object]) -> str:
    with pytest.raises(AimassError) as told:
        await work
    return told.value.code


async def stopped(bench: Bench, *runs: str) -> None:
    for run_id in runs:
        await bench.engine.change(run_id, "stop", "anna")
        await bench.until(run_id, lambda run: run.state.final)


def ends(bench: Bench, partner: str) -> list[str]:
    """The studies that a partner was told have ended."""
    messages = [message for name, message in bench.outbox.said if name == partner]
    return [message.study_ended.study for message in messages if message.WhichOneof("body") == "study_ended"]


def test_a_study_has_the_runs_that_its_section_names_all_of_one_owner_and_one_section(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        first = await bench.submit(trial(bench))
        assert await refused(bench.submit(trial(bench, trials=3))) == "study.changed"
        assert await refused(bench.submit(trial(bench, epochs=1))) == "study.changed"
        ours = bench.submission.submit(trial(bench), secrets.token_hex(8), "bert")
        assert await refused(ours) == "study.not_yours"
        second = await bench.submit(trial(bench))
        assert await refused(bench.submit(trial(bench))) == "study.trials"
        await bench.submit(trial(bench, study=OTHER))
        assert first != second
        await bench.stop()

    _run(scenario())


def test_the_same_key_gives_the_same_run_of_a_study_that_is_full_or_has_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(trial(bench, trials=1))
        key = "key-of-a-trial"
        held = await bench.submission.submit(trial(bench, study=OTHER, trials=1), key, "anna")
        await stopped(bench, run_id, held)
        await bench.submission.end_study(OTHER, peer("anna"))
        assert await bench.submission.submit(trial(bench, study=OTHER, trials=1), key, "anna") == held
        await bench.stop()

    _run(scenario())


def test_a_study_is_ended_by_its_owner_or_an_operator_when_its_runs_have_and_all_its_partners_hear(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        assert await refused(bench.submission.end_study(ID, peer("anna"))) == "study.unknown"
        run_id = await bench.submit(trial(bench))
        assert await refused(bench.submission.end_study(ID, peer("bert"))) == "study.not_yours"
        assert await refused(bench.submission.end_study(ID, peer("anna"))) == "study.running"
        await stopped(bench, run_id)
        assert ends(bench, "north") == []
        view = await bench.submission.end_study(ID, peer("anna"))
        assert (view.id, view.runs, view.trials, view.ended) == (ID, 1, 2, True)
        assert ends(bench, "north") == ends(bench, "south") == [ID]
        assert await refused(bench.submit(trial(bench))) == "study.ended"
        assert (await bench.submission.end_study(ID, peer("olga", Role.OPERATOR))).ended
        await bench.stop()

    _run(scenario())


def test_a_partner_that_was_away_hears_of_the_end_when_it_asks_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        await stopped(bench, await bench.submit(trial(bench)), await bench.submit(trial(bench, study=OTHER)))
        await bench.submission.end_study(ID, peer("anna"))
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock())
        await again.desk.connected("north", [], [OTHER, "7" * 32, ID, "'; drop table runs"])
        assert ends(again, "north") == [ID]
        await again.desk.connected("south", [])
        assert ends(again, "south") == []
        assert await refused(again.submit(trial(again))) == "study.ended"
        await again.stop()

    _run(scenario())

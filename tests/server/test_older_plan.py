"""A run that an earlier release began goes on after an upgrade: its plan stays the bytes that partners joined."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import sqlalchemy as sa

from aimass.proto.plan import Plan, encode_plan, plan_digest
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json
from aimass.server import tables
from aimass.server.audit import Evidence, audit_run
from aimass.server.commits import created_entry
from aimass.server.runs import Participant, Run
from aimass.server.store import RunRow, Store
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, SIGNER, Bench
from tests.support.older import older_plan

PLAN = older_plan(2, Blob(MODEL).digest)
RUN = "ab" * 16


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def _stored_by_an_older_release(folder: Path) -> None:
    """A run of two partners that waits for them, with the plan as it was in the state that is stored with it."""
    plan = msgspec.json.decode(PLAN, type=Plan)
    members = {name: Participant() for name in ("north", "south")}
    run = Run(run_id=RUN, plan=plan, model=plan.model, participants=members)
    row = RunRow(RUN, "anna", 0.0, None, PLAN, plan_digest(PLAN), "2" * 64, run)
    store = Store.open(folder / "runs.sqlite")
    store.create(row, "anna:key", created_entry(row))
    snapshot = canonical_json(json.loads(canonical_json(run)) | {"plan": json.loads(PLAN)})
    with store.engine.begin() as connection:
        connection.execute(sa.update(tables.runs).values(snapshot=snapshot))
    store.close()


def test_a_run_with_a_plan_of_fewer_fields_starts_is_joined_under_its_digest_and_ends_without_a_fault(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        assert encode_plan(msgspec.json.decode(PLAN, type=Plan)) != PLAN, "this release writes it otherwise"
        _stored_by_an_older_release(tmp_path)
        FileBlobs(tmp_path / "blobs").put([MODEL])
        bench = await Bench.start(tmp_path, ManualClock())
        await bench.desk.connected("north", [])
        invites = [said.invite for _, said in bench.outbox.said if said.WhichOneof("body") == "invite"]
        assert [invite.plan for invite in invites] == [PLAN]
        await bench.join(RUN)
        for step in range(2):
            await bench.until(RUN, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            if step == 1:  # and again, in the middle
                await bench.stop()
                bench = await Bench.start(tmp_path, ManualClock())
            for name in bench.partners:
                await bench.send(RUN, name, step)
        assert (await bench.finished(RUN)).state == "finished"
        assert bench.store.runs()[0].plan == PLAN
        evidence = Evidence(
            row=bench.store.runs()[0], entries=bench.store.transcript(RUN), receipts=bench.store.receipts(RUN), heads=[],
            models=bench.store.models(RUN), server=SIGNER.public_key().public_bytes_raw(), partners={},
        )  # fmt: skip
        assert audit_run(evidence).faults == ()
        await bench.stop()

    _run(scenario())


def test_a_plan_of_an_older_release_may_be_submitted_and_partners_join_its_bytes(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(PLAN)
        assert bench.engine.live(run_id).row.plan_digest == plan_digest(PLAN)
        joined = pb.Joined(run_id=run_id, plan_digest=plan_digest(PLAN), participant="north")
        await bench.desk.joined("north", joined)
        assert bench.engine.live(run_id).row.run.joined == ("north",)
        await bench.stop()

    _run(scenario())

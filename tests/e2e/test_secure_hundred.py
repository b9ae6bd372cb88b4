"""Real daemons over real links in secure sums, a tenth of them gone in each phase in turn: what is summed is exact."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scripts.benches.gathering import Gathering, Guest, contribution, model, plan
from scripts.benches.stage import served

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.lanes import LanePlan, from_bytes
from aimass.privacy.secagg.masks import lane_type
from aimass.privacy.secagg.rounds import lanes_of
from aimass.privacy.trust_bundle import Root, open_bundle
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.elements import update_shapes
from aimass.proto.plan import Plan, decode_plan
from aimass.proto.rng import stream_seed
from aimass.proto.step import Step
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView, SlotState
from aimass.server.audit import Evidence, audit_run, gather
from aimass.server.audit_steps import StepTold, read_bodies
from aimass.server.store import Store

ELEMENTS = 1_000
VANISH = (Kind.ADVERTISE, Kind.SHARES, Kind.INPUT, Kind.SIGNATURE, Kind.UNMASK)
"""In place of which message a tenth is gone, round after round: it has advertised, shared, given its input, signed."""
IN_SUM = frozenset({Kind.SIGNATURE, Kind.UNMASK})
"""Who is gone then has given its input, and is in the sum."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rounds:
    """What became of a run: its last view, what its server holds, its last model."""

    view: RunView
    evidence: Evidence
    model: np.ndarray


@pytest.mark.parametrize(("count", "phase_s"), [pytest.param(20, 5.0), pytest.param(100, 15.0, marks=pytest.mark.slow)])
def test_every_sum_is_exactly_that_of_those_counted_whoever_vanishes_and_when(
    tmp_path: Path, count: int, phase_s: float
) -> None:
    gathering = Gathering(tmp_path, count, ELEMENTS)
    rounds = asyncio.run(asyncio.wait_for(played(gathering, phase_s), 900))
    view = rounds.view
    assert view.summary.state == "finished", view.summary.reason
    audit = audit_run(rounds.evidence)
    assert audit.faults == ()
    told = [body for body in read_bodies(rounds.evidence.entries, []) if isinstance(body, StepTold)]
    assert len(told) == len(VANISH)
    agreed = decode_plan(rounds.evidence.row.plan)
    means = np.zeros(ELEMENTS)
    for number, (body, step) in enumerate(zip(told, view.steps, strict=True)):
        gone = {guest.name for guest in lost(list(gathering.guests.values()), number)}
        counted = set(body.secure[0].counted)
        assert counted == set(gathering.names) - (set() if VANISH[number] in IN_SUM else gone)
        assert set(body.contributions) == counted
        assert {name for name, slot in step.slots.items() if slot is SlotState.COUNTED} == counted
        assert (step.attempts, step.failed_attempts) == (1, ())
        lanes = summed(
            agreed, body.step, [gathering.guests[name].lanes[view.summary.run_id, number] for name in counted]
        )
        assert body.secure[0].sum == hashlib.sha256(lanes.tobytes()).hexdigest()
        means += mean_of(agreed, body.step, counted)
    np.testing.assert_allclose(rounds.model, means, atol=1e-4)
    for guest in gathering.guests.values():
        assert guest.vanishes == {}


def lost(guests: Sequence[Guest], number: int) -> Sequence[Guest]:
    """Those that vanish in a round: others in each."""
    tenth = len(guests) // 10
    return guests[number * tenth : (number + 1) * tenth]


async def played(gathering: Gathering, phase_s: float) -> Rounds:
    """The run to its end; half of those that vanish lose their link, the others' processes end, and all come back."""
    quorum = len(gathering.names) * 3 // 4
    with served(gathering.folder):
        async with gathering.present() as guests:
            for number, kind in enumerate(VANISH):
                for place, guest in enumerate(lost(guests, number)):
                    guest.vanishes[number], guest.dies = kind, bool(place % 2)
            run_id = await gathering.submit(lambda digest: plan(digest, len(VANISH), quorum, phase_s))
            seen = 0
            async for view in gathering.views(run_id):
                while seen < sum(step.state == "committed" for step in view.steps):
                    for guest in lost(guests, seen):
                        await asyncio.wait_for(guest.gone.wait(), 60)
                        await guest.come_back()
                    seen += 1
    server = gathering.folder / "server"
    trust = open_bundle((server / "bundle.json").read_bytes(), Root.from_pem((server / "root.pem").read_bytes()))
    store = Store.open(server / "data" / "runs.sqlite", UNINTERRUPTED)
    try:
        row = next(row for row in store.runs() if row.run_id == run_id)
        last = Blob(FileBlobs(server / "data" / "blobs", UNINTERRUPTED).open(row.run.model)).numpy("w")
        return Rounds(view, gather(store, row, trust.roster), last)
    finally:
        store.close()


def lane_plan(agreed: Plan, step: Step) -> LanePlan:
    return lanes_of(agreed, step, {"update": update_shapes(Blob(model(ELEMENTS)).layout)})


def summed(agreed: Plan, step: Step, kept: Sequence[bytes]) -> np.ndarray:
    """The integers that partners encoded, added up modulo 2^b without masks, machines or server."""
    lanes = lane_plan(agreed, step)
    total = np.sum([from_bytes(lanes, data) for data in kept], axis=0, dtype=np.uint64) % np.uint64(1 << lanes.bits)
    return total.astype(lane_type(lanes.bits))


def mean_of(agreed: Plan, step: Step, names: set[str]) -> np.ndarray:
    """The weighted mean of what the children of `names` made, by their seeds, in float64."""
    total, weights = np.zeros(ELEMENTS), 0.0
    for name in names:
        seed = stream_seed(agreed.seed, name, f"{step.kind}:{step.purpose}", step.round)
        made = contribution(seed.hex(), ELEMENTS).groups["update"]
        total += made.weight * made.tensors["w"].astype(np.float64)
        weights += made.weight
    return total / weights

"""Noise inside secure sums through the daemon's shells: as much as the plan says, made once for a debit, never twice."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.client.journal import read_journal
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.ledger_state import Entry
from aimass.privacy.secagg.rounds import noise_of
from aimass.proto.hashing import file_digest
from aimass.proto.plan import Cohort, DistributedNoise, SecureSettings
from aimass.proto.tensors import encode_numpy
from tests.support.secure_circle import NAMES, PLAN, POLICY, Circle, circle

ELEMENTS = 1000
MODEL = encode_numpy({"w": np.zeros(ELEMENTS, np.float32), "preprocess.mean": np.zeros(2)})
NOISE = DistributedNoise(multiplier=2.0, clip=4.0, delta=1e-3, members=4)
SECURE = SecureSettings(colluders=0.0, dropouts=0.2, metrics=("accuracy", "loss"), noise=NOISE)
NOISED = msgspec.structs.replace(
    PLAN, train=msgspec.structs.replace(PLAN.train, weight="one"), cohort=Cohort(quorum=3), secure=SECURE
)
WHOLE = msgspec.structs.replace(NOISED, cohort=Cohort(quorum=4), secure=msgspec.structs.replace(SECURE, min_cohort=4))
BUDGETED = (
    POLICY.replace('figures = ["auc"]', 'figures = ["auc"]\nunprotected = true')
    + """
[[budgets]]
data_set = "heart"
unit = "partner"
epsilon = 8.0
delta = 1e-3
"""
)


def debits(hub: Circle, name: str) -> list[Entry]:
    partner = hub.shells[name].partner
    ledger = partner.budgets.ledger(partner.policy, "heart")
    assert ledger is not None
    return list(ledger.state.entries.values())


def clipped(hub: Circle) -> np.ndarray:
    """The sum of the survivors' updates, each clipped to the plan's norm: what the noise lies on."""
    total = np.zeros(ELEMENTS)
    for name in hub.survivors:
        update = hub.shells[name].update.astype(np.float64)
        total += update * min(1.0, NOISE.clip / float(np.linalg.norm(update)))
    return total


@pytest.mark.parametrize("kind", ["discrete-gaussian", "skellam"])
def test_the_sum_is_that_of_clipped_updates_with_the_noise_that_the_plan_says(tmp_path: Path, kind: str) -> None:
    bits = 12 if kind == "skellam" else 20
    secure = msgspec.structs.replace(SECURE, bits=bits, noise=msgspec.structs.replace(NOISE, kind=kind))

    async def scenario() -> None:
        async with circle(tmp_path, msgspec.structs.replace(NOISED, secure=secure), BUDGETED, model=MODEL) as hub:
            await hub.open()
            hub.form()
            await hub.summed()
            assert hub.exact()
            assert hub.sums is not None
            assert hub.sums.weight("update") == 4
            plan = noise_of(secure, ELEMENTS)
            assert plan is not None
            assert plan.deviation / plan.scale == pytest.approx(2.0 * 4.0 / math.sqrt(3))  # z C / sqrt(n_eff)
            errors = (hub.sums.total("update", "w") - clipped(hub)) * plan.scale
            expected = 4 * (plan.deviation**2 + 1 / 6)
            assert (errors @ errors) / expected == pytest.approx(ELEMENTS, abs=5 * math.sqrt(2 * ELEMENTS))
            assert abs(errors.sum()) < 5 * math.sqrt(expected * ELEMENTS)
            for name, shell in hub.shells.items():
                (entry,) = debits(hub, name)
                assert entry.state is EntryState.COMMITTED
                assert entry.result == file_digest(shell.lanes_file)
                (line,) = read_journal(shell.folder / "journal.jsonl")
                word = "Skellam" if kind == "skellam" else "discrete Gaussian"
                assert line.mechanisms == (
                    f"distributed {word} noise (z 2, clip 4, at least 3 shares)",
                    f"secure aggregation (malicious, {bits} bits)",
                )

    asyncio.run(scenario())


def test_a_second_attempt_sends_the_same_encoding_and_costs_nothing(tmp_path: Path) -> None:
    """South is killed before its input: the first attempt comes to no sum, the next has the same noise."""

    async def scenario() -> None:
        async with circle(tmp_path, WHOLE, BUDGETED, model=MODEL) as hub:
            await hub.open()
            before = {name: shell.lanes_file.read_bytes() for name, shell in hub.shells.items()}
            south = hub.shells["south"]
            south.uploadable.clear()
            hub.form()
            await hub.until(lambda: len(hub.payloads) == 3)
            await south.restart()
            south.uploadable.set()
            await south.connect()
            hub.replay("south")
            await hub.until(lambda: bool(hub.faults) and hub.waiting == set(NAMES) and not hub.queue)
            hub.form()
            await hub.summed()
            assert hub.attempt == 1
            assert hub.exact()
            assert {name: shell.lanes_file.read_bytes() for name, shell in hub.shells.items()} == before
            assert {name: len(debits(hub, name)) for name in NAMES} == dict.fromkeys(NAMES, 1)

    asyncio.run(scenario())


def test_a_crash_before_the_encoding_is_known_is_a_debit_of_its_own(tmp_path: Path) -> None:
    """What was written and not yet said to be ready is never sent: it is made anew, with other noise, for another debit."""

    async def scenario() -> None:
        async with circle(tmp_path, WHOLE, BUDGETED, model=MODEL) as hub:
            await hub.open()
            south = hub.shells["south"]
            first = south.lanes_file.read_bytes()
            await south.run.stop()
            folder = south.run._folder
            session = folder.load()
            assert session is not None
            folder.save(msgspec.structs.replace(session, work="working", digest=""))
            await south.restart()
            await south.connect()
            await hub.until(lambda: len(south.ready) == 2)
            assert south.lanes_file.read_bytes() != first
            assert [entry.state for entry in debits(hub, "south")] == [EntryState.COMMITTED] * 2
            hub.form()
            await hub.summed()
            assert hub.exact()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"min_cohort": 3}, "E_POLICY"),  # fewer shares of noise than it was made for
        ({"gamma_ppm": 400_000}, "E_POLICY"),
        ({"dp_digest": bytes(32)}, "E_PLAN"),
        ({"scale": 1.0}, "E_PLAN"),
    ],
)
def test_a_round_with_less_noise_than_is_accounted_is_refused_by_every_partner(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    async def scenario() -> None:
        async with circle(tmp_path, WHOLE, BUDGETED, model=MODEL) as hub:
            await hub.open()
            hub.form(**changes)
            await hub.drain()
            assert {name: shell.aborts() for name, shell in hub.shells.items()} == {name: [code] for name in NAMES}
            assert all(shell.told("advertise") == [] for shell in hub.shells.values())

    asyncio.run(scenario())

"""What a study is priced by before its first step: the plan's first model, fetched where noise inside sums needs it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import numpy as np

from aimass.client.budget import Budgets
from aimass.client.meters import DaemonMeters
from aimass.client.policy import Studies
from aimass.client.run_folder import RunFolder
from aimass.client.workbench import Workbench, start_worker
from aimass.privacy.dp.ledger_state import Ledger
from aimass.proto.clock import SystemClock
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.plan import Plan
from aimass.proto.tensors import encode_numpy
from aimass.server.simulation.partner import open_policy
from tests.client.test_active_run import _Uplink
from tests.client.test_budget import step
from tests.client.test_studies import ID, RUNS, ledger, narrow, narrow_policy
from tests.support.partners import enrolled, opened

MODEL = encode_numpy({"w": np.zeros((30, 4), np.float32), "b": np.zeros(7, np.float32)})


def summed(folder: Path, plan: Plan, held: Ledger | None) -> int | None:
    """By a partner that has the model already; over a link that brings nothing."""
    enrolled(folder, ["north"], open_policy(plan))
    partner = opened(folder / "north")
    writer = partner.cache.spool.begin(plan.model, len(MODEL), plan.model)
    writer.append(MODEL)
    writer.finish()
    kept = RunFolder(partner.folder / "state" / "runs" / RUNS[0], UNINTERRUPTED)
    bench = Workbench(RUNS[0], partner, kept, DaemonMeters(), _Uplink(), SystemClock(), start_worker)
    return asyncio.run(bench._summed(plan, held))


def test_the_first_model_says_what_a_sum_holds_and_one_that_has_begun_needs_none(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(narrow(8), model=hashlib.sha256(MODEL).hexdigest())
    policy, budgets = (
        narrow_policy(Studies(trials=10, epsilon=50.0)),
        Budgets(tmp_path / "l", UNINTERRUPTED, SystemClock()),
    )
    assert summed(tmp_path / "a", plan, ledger(budgets, policy)) == 127
    assert summed(tmp_path / "b", plan, None) is None
    quiet = msgspec.structs.replace(plan, secure=None)
    assert summed(tmp_path / "c", quiet, ledger(budgets, policy)) is None
    budgets.debit(policy, "heart", plan, RUNS[0], step(), 127, 1_000, 127, 127)
    assert ledger(budgets, policy).study_named(ID) is not None
    assert summed(tmp_path / "d", plan, ledger(budgets, policy)) is None
    budgets.close()

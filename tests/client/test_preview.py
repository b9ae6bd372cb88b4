"""What the daemon shows of an explanation before it is approved: its own rows' numbers, step by step."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from aimass.client import runs_cli
from aimass.client.child import ChildFailed, Made
from aimass.client.meters import DaemonMeters
from aimass.client.preview import MOST_STEPS, Preview
from aimass.client.run_folder import RunFolder
from aimass.client.tasks.heart import task
from aimass.client.trainee import Trainee
from aimass.client.workbench import Workbench
from aimass.client.worker_protocol import Opened, Order
from aimass.proto.clock import SystemClock
from aimass.proto.console import plain
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.plan import Plan, encode_plan
from aimass.proto.tensors import Blob
from aimass.server.simulation.partner import open_policy
from tests.client.test_active_run import _Uplink
from tests.support.explanations import SECURE, asked, hospital_shards
from tests.support.partners import enrolled, opened

SHARD = hospital_shards()[0]


class _Here:
    """A child in this process, which may fail from a step on."""

    alive = True

    def __init__(self, fails: int) -> None:
        self.opened = Opened(
            device="none", confinement=("process",), training_rows=len(SHARD.train.labels),
            held_out_rows=len(SHARD.held_out.labels),
        )  # fmt: skip
        self._trainee, self._fails = Trainee(task), fails

    async def start(self, *_: object) -> _Here:
        return self

    async def work(self, order: Order, inputs: Sequence[Path], state: Path, max_bytes: int) -> Made:
        if order.number >= self._fails:
            raise ChildFailed("no further", code="child.failed")
        done = self._trainee.do(order, SHARD, [Blob(path.read_bytes()) for path in inputs], b"")
        return Made(memoryview(done.contribution.encode()), memoryview(b""))

    async def stop(self) -> None:
        pass


def shown(plan: Plan, model: bytes, folder: Path, fails: int = 99) -> Preview:
    enrolled(folder, ["north"], open_policy(plan))
    partner = opened(folder / "north")
    writer = partner.cache.spool.begin(plan.model, len(model), plan.model)
    writer.append(model)
    writer.finish()
    held = RunFolder(partner.folder / "state" / "runs" / ("ab" * 16), UNINTERRUPTED)
    bench = Workbench("ab" * 16, partner, held, DaemonMeters(), _Uplink(), SystemClock(), _Here(fails).start)
    return asyncio.run(bench.preview(plan))


def test_all_steps_are_shown_as_far_as_the_own_sums_carry_and_no_more_than_a_few(tmp_path: Path) -> None:
    told = shown(*asked("permutation", {"shuffles": 2}), tmp_path / "two")
    (later,) = told.later
    assert (later[0].name, *later[0].numbers) == ("rows", told.rows)
    search, model = asked("prim", {"target": "label", "rows": "train", "peel": 0.05}, secure=SECURE)
    many = shown(search, model, tmp_path / "many")
    assert len(many.later) == MOST_STEPS - 1
    sizes = [next(one.numbers[0] for one in step if one.name == "searched") for step in (many.sums, *many.later)]
    assert sizes[1] < sizes[0]  # a box within all rows, which shapes alone did not show


def test_a_rehearsal_that_fails_takes_nothing_from_what_is_known(tmp_path: Path) -> None:
    plan, model = asked("permutation", {"shuffles": 2}, noise=2.0)
    told = shown(plan, model, tmp_path / "second", fails=1)
    assert told.later == ()
    assert told.sums[0].noise > 0
    assert told.then
    with pytest.raises(ChildFailed):
        shown(msgspec.structs.replace(plan, name="again"), model, tmp_path / "first", fails=0)


def test_a_person_reads_later_steps_as_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, options, count in (("confusion", {}, 0), ("permutation", {"shuffles": 2}, 1)):
        plan, model = asked(name, options)
        held = RunFolder(tmp_path / f"{name}-run", UNINTERRUPTED)
        held.save_plan(encode_plan(plan))
        answer = plain(shown(plan, model, tmp_path / name))
        monkeypatch.setattr(runs_cli, "ask_daemon", lambda *_, given=answer, **__: given)
        monkeypatch.setattr(runs_cli, "_found", lambda *_, held=held: (held, argparse.Namespace(run_id="ab" * 16)))
        runs_cli.preview(argparse.Namespace(json=False, dir=tmp_path))
        assert capsys.readouterr().out.count("as if this partner were alone: its own sums stand for") == count

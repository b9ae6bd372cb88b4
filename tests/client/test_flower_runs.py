"""A run with a Flower app at a partner: from the plan to what waits to be sent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict

from aimass.client.child import Made
from aimass.client.flower_source import AppSource, Seen, app_seed, app_source
from aimass.client.meters import DaemonMeters
from aimass.client.partner import Partner
from aimass.client.run_folder import RunFolder, lacking
from aimass.client.workbench import StartWorker, Workbench, start_worker
from aimass.client.worker_protocol import Opened, Order
from aimass.proto import apps
from aimass.proto.clock import SystemClock
from aimass.proto.contribution import decode_contribution
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput, DeadlinePassed, NotFound, NotInstalled, Refused
from aimass.proto.flower import installed
from aimass.proto.flower.records import node_id_of, pack_reply, pack_state, run_id_of
from aimass.proto.plan import FLOWER, Cohort, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.rng import stream_seed
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.tensors import Blob
from tests.client.test_active_run import RUN, _Uplink
from tests.support.flower_node import app_folder, arrays, asked, decoded, message_blobs
from tests.support.partners import enrolled, opened

CODE = """
from pathlib import Path
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
@app.evaluate()
def count(message, context):
    calls = context.state["calls"]["n"] + 1 if "calls" in context.state else 1
    context.state["calls"] = MetricRecord({"n": calls})
    rows = len(Path(context.node_config["path"]).read_text().splitlines())
    metrics = {"calls": calls, "rows": rows, "lr": context.run_config["lr"], "node": context.node_id}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
"""
POLICY = """plain_sums = true
smallest_cohort = 1
confinement = []
schemas = {{ "case/1" = "{}" }}
"""


@pytest.fixture
def partner(tmp_path: Path) -> Partner:
    """With an app installed, and a data set of files for it."""
    enrolled(tmp_path, ["north"], POLICY.format("case"))
    home = tmp_path / "north"
    rows = home / "data" / "rows.csv"
    rows.write_text("1\n2\n3\n")
    (home / "data" / "case.toml").write_text(
        'name = "case"\ndata_schema = "case/1"\nuris = ["rows.csv"]\nformat = "files"\nparticipant = "north"\n'
        f'salt = "{"00" * 32}"\nnode_config = {{ path = "{rows}" }}\n'
    )
    apps.install(apps.read_app(app_folder(tmp_path / "app", CODE)), home)
    return opened(home)


def plan_of(partner: Partner, secure: SecureSettings | None = None, **config: Any) -> Plan:
    (app,) = apps.installed(partner.folder)
    options = {"rounds": 5} | {apps.CONFIG + key: value for key, value in config.items()}
    return Plan(
        name="test", task=TaskRef(name="case", digest=app.digest, kind="app"), data_schema="case/1", seed=1,
        model="0" * 64, stages=(Stage(driver=FLOWER, options=options),), secure=secure,
        train=TrainSettings(batch_size=1, learning_rate=1.0, steps=1), cohort=Cohort(quorum=3 if secure else 1),
    )  # fmt: skip


def step_of(partner: Partner, index: int, message_type: str, deadline_s: float = 60.0) -> Step:
    """A step whose inputs are here already."""
    digests = []
    for data in message_blobs(message_type, asked(arrays(w=np.ones(2)), lr=0.1)):
        digests.append(hashlib.sha256(data).hexdigest())
        if not partner.cache.spool.has(digests[-1]):
            writer = partner.cache.spool.begin(digests[-1], len(data), digests[-1])
            writer.append(data)
            writer.finish()
    return Step(
        index=index, kind=StepKind(message_type), round=1, participants=("north",), inputs=tuple(digests), quorum=1,
        deadline_s=deadline_s, reduce=Reduce.COLLECT,
    )  # fmt: skip


def folder_of(partner: Partner) -> RunFolder:
    return RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)


def bench_of(partner: Partner, start: StartWorker = start_worker) -> Workbench:
    return Workbench(RUN, partner, folder_of(partner), DaemonMeters(), _Uplink(), SystemClock(), start)


class _App:
    """A child that hangs until it is cancelled, or gives a reply at once."""

    opened = Opened(device="none", confinement=("process",), training_rows=0, held_out_rows=0)

    def __init__(self, *, hangs: bool) -> None:
        self._hangs, self.alive, self.source = hangs, True, None
        self.seeds: list[str] = []

    async def start(self, source: Any, *_: object) -> _App:
        self.source = source
        return self

    async def work(self, order: Order, inputs: Sequence[Path], state: Path, max_bytes: int) -> Made:
        self.seeds.append(order.seed)
        try:
            await asyncio.sleep(3600 if self._hangs else 0)
        except asyncio.CancelledError:
            self.alive = False
            raise
        reply = pack_reply(RecordDict({"metrics": MetricRecord({"n": 1})})).encode()
        return Made(memoryview(reply), memoryview(b"".join(pack_state(RecordDict()))))

    async def stop(self) -> None:
        self.alive = False


def test_an_installed_app_answers_a_step_and_keeps_what_was_counted(partner: Partner) -> None:
    plan, folder = plan_of(partner, lr=0.125), folder_of(partner)

    async def scenario() -> list[RecordDict]:
        bench, seen = bench_of(partner), []
        for index, message_type in enumerate(("train", "evaluate", "train", "train")):
            step = step_of(partner, index, message_type)
            product = await bench.compute(plan, step)
            bench.save(step, product)
            if index != 2:  # whose contribution came too late
                folder.keep_new_state(index)
            seen.append(decoded(decode_contribution(Blob(b"".join(product.released.parts)))))
        await bench.leave()
        return seen

    seen = [each["metrics"] for each in asyncio.run(scenario())]
    assert [each["calls"] for each in seen] == [1, 2, 3, 3]
    assert all(each["rows"] == 3 and each["lr"] == 0.125 and each["node"] == node_id_of("north") for each in seen)


def test_an_app_draws_the_same_for_the_same_step_and_what_the_server_cannot_compute(partner: Partner) -> None:
    """Else it could take off the noise of LocalDpMod, or of two replies with the same noise the one from the other."""
    plan, folder, app = plan_of(partner), folder_of(partner), _App(hangs=False)
    data = partner.folder / "data" / "case.toml"

    async def scenario() -> None:
        bench = bench_of(partner, app.start)
        for message_type, round_ in (("train", 1), ("train", 1), ("train", 2), ("evaluate", 1)):
            await bench.compute(plan, msgspec.structs.replace(step_of(partner, 0, message_type), round=round_))
        data.write_text(data.read_text().replace("00" * 32, "01" * 32))
        await bench.compute(plan, step_of(partner, 0, "train"))
        data.write_text(data.read_text().replace("01" * 32, "00" * 32))
        folder.save_new_state(0, b"".join(pack_state(RecordDict({"n": MetricRecord({"n": 1})}))))
        folder.keep_new_state(0)
        await bench.compute(plan, step_of(partner, 0, "train"))

    asyncio.run(asyncio.wait_for(scenario(), 60))
    once, again, *differ = app.seeds
    assert once == again
    assert len({once, *differ, stream_seed(plan.seed, "north", "train:", 1).hex()}) == 6


def test_two_runs_and_two_plans_share_no_noise_though_all_that_is_asked_is_equal(partner: Partner) -> None:
    """One reply with a learning rate of zero would tell the noise of the other."""
    app, other_run = _App(hangs=False), RUN[:-1] + ("1" if RUN[-1] == "0" else "0")
    plan, quiet = plan_of(partner, lr=0.125), plan_of(partner, lr=0.0)

    async def scenario() -> None:
        for run_id, wanted, index in ((RUN, plan, 0), (RUN, quiet, 0), (other_run, plan, 0), (RUN, plan, 1)):
            bench = Workbench(run_id, partner, folder_of(partner), DaemonMeters(), _Uplink(), SystemClock(), app.start)
            await bench.compute(wanted, step_of(partner, index, "train"))

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert len(set(app.seeds)) == 4


def test_a_seed_depends_on_all_that_decides_a_reply(partner: Partner) -> None:
    seed, model, told, state = (digit * 64 for digit in "1234")
    manifest = partner.manifest("case")
    seen = Seen(
        run_id=RUN, plan=plan_of(partner), manifest=manifest, index=0, seed=seed, inputs=(model, told), state=state
    )
    others: list[dict[str, Any]] = [
        {"run_id": "0" * 64},
        {"plan": plan_of(partner, lr=0.0)},
        {"manifest": msgspec.structs.replace(manifest, salt="02" * 32)},
        {"manifest": msgspec.structs.replace(manifest, node_config={})},
        {"index": 1},
        {"seed": model},
        {"inputs": (told, model)},
        {"inputs": (model, model)},
        {"state": model},
    ]
    seeds = {app_seed(seen), *(app_seed(msgspec.structs.replace(seen, **other)) for other in others)}
    assert len(seeds) == 1 + len(others)


def test_an_app_that_does_not_reply_by_the_steps_deadline_is_ended(partner: Partner) -> None:
    app = _App(hangs=True)

    async def scenario() -> None:
        with pytest.raises(DeadlinePassed) as caught:
            await bench_of(partner, app.start).compute(plan_of(partner), step_of(partner, 0, "train", deadline_s=0.1))
        assert caught.value.code == "child.deadline"

    asyncio.run(scenario())
    assert not app.alive


def test_the_child_is_told_of_the_run_what_the_plan_says_and_of_the_app_what_is_installed(partner: Partner) -> None:
    plan = plan_of(partner, lr=0.125)
    source = app_source(partner.folder, "north", RUN, plan)
    assert source.digest == plan.task.digest
    assert Path(source.app.folder).is_relative_to(partner.folder / "apps")
    assert (source.app.node_id, source.app.run_id) == (node_id_of("north"), run_id_of(RUN))
    assert (source.app.run_config, source.app.secret_sums) == ({"lr": 0.125}, False)
    secure = plan_of(partner, SecureSettings())
    assert app_source(partner.folder, "north", RUN, secure).app.secret_sums


def test_an_app_that_is_not_here_or_another_or_without_flwr_is_refused_with_the_cure(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(partner)
    other = msgspec.structs.replace(plan, task=TaskRef(name="case", digest="1" * 64, kind="app"))
    with pytest.raises(NotFound, match="aimass client app install"):
        app_source(partner.folder, "north", RUN, other)
    with pytest.raises(BadInput, match="no such key"):
        app_source(partner.folder, "north", RUN, plan_of(partner, unheard=1))

    def missing(name: str) -> str:
        raise installed.metadata.PackageNotFoundError(name)  # type: ignore[attr-defined]

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(NotInstalled, match=r"pip install 'aimass\[flower\]'"):
        app_source(partner.folder, "north", RUN, plan)


def test_an_app_reads_files_and_a_task_reads_rows(tmp_path: Path, partner: Partner) -> None:
    async def refused(plan: Plan) -> None:
        with pytest.raises(Refused) as caught:
            await bench_of(partner, _App(hangs=False).start).worker(plan)
        assert caught.value.code == "policy.data_format"

    app = plan_of(partner)
    task = msgspec.structs.replace(
        app, task=TaskRef(name="heart", digest="1" * 64), stages=(Stage(driver="averaging", options={"rounds": 1}),)
    )
    asyncio.run(refused(task))
    (partner.folder / "policy.toml").write_text(POLICY.format("heart"))
    asyncio.run(refused(app))


def test_of_a_data_set_with_a_budget_no_plain_reply_leaves(partner: Partner) -> None:
    budget = '[[budgets]]\ndata_set = "case"\nepsilon = 20.0\ndelta = 1e-5\nunit = "partner"\n'
    (partner.folder / "policy.toml").write_text(POLICY.format("case") + budget)
    app = _App(hangs=False)

    async def scenario() -> None:
        bench = bench_of(partner, app.start)
        for index, (message_type, code) in enumerate((("train", "policy.privacy"), ("evaluate", "release.budget"))):
            with pytest.raises(Refused) as caught:
                await bench.compute(plan_of(partner), step_of(partner, index, message_type))
            assert caught.value.code == code

    asyncio.run(scenario())
    assert isinstance(app.source, AppSource)


def test_a_state_that_was_lost_is_told_and_one_that_is_empty_is_not(partner: Partner) -> None:
    folder, plan = folder_of(partner), plan_of(partner)
    later = msgspec.structs.replace(step_of(partner, 1, "train"), round=2)
    assert "no state of the app is kept here" in next(lacking(folder, plan, later))
    folder.save_new_state(0, b"".join(pack_state(RecordDict())))
    folder.keep_new_state(0)
    assert not list(lacking(folder, plan, later))

"""What is refused when a plan of a Flower app is submitted, before any partner hears of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.proto.errors import AimassError, InternalError
from aimass.proto.flower.records import EMPTY_MODEL
from aimass.proto.plan import Plan, SecureSettings, encode_plan
from tests.server.flower.test_desk import LEGACY, OWN_LOOP, workers
from tests.support.flower import flower_plan
from tests.support.flower_apps import FEDAVG, app_of, serving_app

SECURE = SecureSettings(profile="hbc")

OWN_STRATEGY = FEDAVG.replace(
    "app = ServerApp()",
    "class Mine(FedAvg):\n    def aggregate_train(self, number, replies):\n"
    "        return super().aggregate_train(number, replies)\n\napp = ServerApp()",
)

BULYAN = """
import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

@app.main()
def main(grid, context):
    kind = getattr(strategies, context.run_config["strategy"])
    if "DifferentialPrivacy" in kind.__name__:
        strategy = kind(FedAvg(), 1.0, 1.0, 4)
    elif kind.__name__ == "QFedAvg":
        strategy = kind(client_learning_rate=0.1)
    else:
        strategy = kind()
    strategy.start(grid, ArrayRecord([np.zeros(3)]))
"""


def run(scenario: Coroutine[Any, Any, None], seconds: float = 60.0) -> None:
    asyncio.run(asyncio.wait_for(scenario, seconds))


def refusal(folder: Path, code: str, config: dict[str, object] | None = None, **terms: Any) -> AimassError:
    """Why the app is refused; nobody is invited, and nothing is left of the probe."""
    told: list[AimassError] = []

    async def scenario() -> None:
        async with serving_app(folder) as apps:
            try:
                await apps.submit(app_of(folder, code, config=config), **terms)
            except AimassError as error:
                told.append(error)
            assert not apps.bench.engine.lives()
            assert not apps.bench.outbox.said
            assert not workers()

    run(scenario())
    assert told, "it was taken"
    return told[0]


@pytest.mark.parametrize(
    "strategy",
    [
        "FedMedian",
        pytest.param("FedTrimmedAvg", marks=pytest.mark.slow),
        pytest.param("Krum", marks=pytest.mark.slow),
        pytest.param("MultiKrum", marks=pytest.mark.slow),
        pytest.param("Bulyan", marks=pytest.mark.slow),
        pytest.param("QFedAvg", marks=pytest.mark.slow),
        pytest.param("FedXgbBagging", marks=pytest.mark.slow),
        pytest.param("FedXgbCyclic", marks=pytest.mark.slow),
        pytest.param("DifferentialPrivacyClientSideFixedClipping", marks=pytest.mark.slow),
        "DifferentialPrivacyServerSideFixedClipping",
    ],
)
def test_a_strategy_that_needs_single_replies_is_refused_under_secure_sums(tmp_path: Path, strategy: str) -> None:
    error = refusal(tmp_path, BULYAN, {"strategy": strategy}, secure=SECURE, quorum=3)
    assert error.code == "flower.strategy"
    assert f"the strategy {strategy} needs the reply of each node" in str(error)
    assert "FedAvg, FedAvgM, FedProx, FedYogi" in str(error)
    assert "submit a plan without [secure]" in str(error)


@pytest.mark.parametrize(
    ("code", "name"),
    [(OWN_STRATEGY.replace("globals()", "{'FedAvg': Mine}"), "flower.strategy"), (LEGACY, "flower.legacy")],
)
def test_so_is_one_that_nobody_knows_and_the_older_server(tmp_path: Path, code: str, name: str) -> None:
    assert refusal(tmp_path, code, secure=SECURE, quorum=3).code == name


def test_a_weight_of_another_name_is_refused_under_secure_sums(tmp_path: Path) -> None:
    code = FEDAVG.replace("(min_available_nodes", "(weighted_by_key='rows', min_available_nodes")
    error = refusal(tmp_path, code, secure=SECURE, quorum=3)
    assert (error.code, "got rows; allowed: num-examples" in str(error)) == ("flower.weight", True)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (FEDAVG.replace('["strategy"]', '["strategie"]'), "got adder_server.py:11"),
        ("import nothing_of_this_name", "flower.ModuleNotFoundError"),
        (OWN_LOOP.replace("app = ServerApp()", "app = 3").replace("@app.main()", ""), "no ServerApp"),
        ("from flwr.serverapp import ServerApp\napp = ServerApp()\napp.main()(lambda grid, context: None)", "nothing"),
        (FEDAVG.replace('context.run_config["nodes"]', "5"), "waits for more nodes than are invited"),
    ],
)
def test_an_app_that_cannot_begin_is_refused_by_place(tmp_path: Path, code: str, told: str) -> None:
    error = refusal(tmp_path, code)
    assert told in f"{error.code} {error}"


def test_an_app_that_is_not_installed_is_refused_with_the_cure(tmp_path: Path) -> None:
    error = refusal(tmp_path, FEDAVG, plan=flower_plan(app="other"))
    assert error.code == "app.absent"
    assert "aimass server app install" in str(error)


def test_one_whose_files_have_changed_is_refused(tmp_path: Path) -> None:
    app = app_of(tmp_path, FEDAVG)
    file = app.folder / "adder_server.py"
    file.chmod(0o644)
    file.write_text("print('changed')")
    plan = flower_plan(app=app.name, digest=app.digest)

    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            with pytest.raises(AimassError, match="have changed"):
                await apps.submit(app, plan=plan)

    run(scenario())


def test_a_key_that_the_app_does_not_have_is_refused(tmp_path: Path) -> None:
    app = app_of(tmp_path, FEDAVG)
    plan = flower_plan(app=app.name, digest=app.digest, config={"lr": 0.1})
    assert "got lr; allowed: nodes, num-server-rounds, strategy" in str(refusal(tmp_path, FEDAVG, plan=plan))


def test_a_quick_look_that_takes_long_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimass.server.flower.desk._PROBE_S", 0.01)

    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            app = app_of(tmp_path, FEDAVG)
            run_id = await apps.submit(app)
            assert (await apps.serve(run_id)).state == "finished"

    run(scenario())


def test_an_option_of_the_plan_overrides_the_apps_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            app = app_of(tmp_path, FEDAVG)
            plan = flower_plan(app=app.name, digest=app.digest, config={"num-server-rounds": 1})
            run_id = await apps.submit(app, plan=plan)
            await apps.serve(run_id)
            assert re.fullmatch("(train|evaluate){2}", "".join(kind for _, kind, _ in apps.steps))

    run(scenario())


LATE_TORCH = """
import importlib, pathlib, sys
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    pathlib.Path("torch.py").write_text("seeds = []\\nmanual_seed = seeds.append\\n")
    sys.path.insert(0, "")
    importlib.invalidate_caches()
    import torch
    assert torch.seeds == [SEED], torch.seeds
"""
"""Loads torch, which is another here, in the middle."""


def test_torch_is_seeded_also_where_an_app_loads_it_late(tmp_path: Path) -> None:
    error = refusal(tmp_path, LATE_TORCH.replace("SEED", str(flower_plan().seed)))
    assert error.code == "flower.nothing"  # and no AssertionError


def test_an_app_that_is_slow_to_ask_keeps_no_other_plan_waiting(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            submission, probing, go_on = apps.bench.submission, asyncio.Event(), asyncio.Event()

            async def probe(plan: Plan, partners: Sequence[str]) -> None:
                if plan.name == "slow":
                    probing.set()
                    await go_on.wait()

            submission.probe = probe
            await asyncio.to_thread(apps.bench.blobs.put, [EMPTY_MODEL])
            slow = encode_plan(msgspec.structs.replace(flower_plan(), name="slow"))
            both = [asyncio.create_task(submission.submit(slow, "a", "anna")) for _ in range(2)]
            await probing.wait()
            other = await submission.submit(encode_plan(flower_plan()), "b", "anna")
            go_on.set()
            first, second = await asyncio.gather(*both)
            assert first == second != other

    run(scenario())


def test_probes_at_once_have_folders_of_their_own_and_the_last_logs_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimass.server.flower.desk._PROBES_KEPT", 1)
    places: list[Path] = []

    async def start(begin: object, model: int, folder: Path) -> None:
        places.append(folder)
        folder.mkdir(parents=True)
        raise InternalError("no worker", code="flower.start")

    monkeypatch.setattr("aimass.server.flower.desk.start_worker", start)
    for _ in range(3):
        assert refusal(tmp_path, FEDAVG).code == "flower.start"
    assert len(set(places)) == 3
    assert [place.exists() for place in places] == [False, True, True]

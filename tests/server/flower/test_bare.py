"""A bare strategy where a ServerApp could stand: it comes to what it comes to when a ServerApp starts it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord

from aimass.proto.errors import BadInput
from aimass.proto.flower import private
from aimass.proto.plan import Plan
from aimass.proto.tensors import Array, encode_numpy
from aimass.proto.views import RunState
from tests.server.flower.test_desk import LEGACY, legacy, run
from tests.support.flower import flower_plan
from tests.support.flower_apps import FEDAVG, Answer, Apps, LocalGrid, adding, app_of, serving_app

BARE = """
from flwr.serverapp.strategy import FedAdam

app = FedAdam(eta=0.5)
"""
OLDER = """
import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.server.strategy import FedAvg

first = ndarrays_to_parameters([np.zeros(3)])
app = FedAvg(min_available_clients=4, fraction_evaluate=0.0, initial_parameters=first)
"""
FIRST: Mapping[str, Array] = {"a": np.array([1.0, -2.0, 0.5]), "b": np.array(3.0)}


async def submitted(apps: Apps, folder: Path, code: str, first: Mapping[str, Array] | None) -> tuple[Plan, str]:
    app = app_of(folder, code)
    plan = flower_plan(app=app.name, digest=app.digest)
    if first is not None:
        model = await asyncio.to_thread(apps.bench.blobs.put, [encode_numpy(first)])
        plan = msgspec.structs.replace(plan, model=model)
    return plan, await apps.submit(app, plan)


def model_after(folder: Path, code: str, first: Mapping[str, Array] | None, answer: Answer) -> Mapping[str, Array]:
    found: dict[str, Array] = {}

    async def scenario() -> None:
        async with serving_app(folder, answer) as apps:
            _, run_id = await submitted(apps, folder, code, first)
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FINISHED, ended.reason
            found.update({name: np.array(array) for name, array in apps.model(run_id).items()})

    run(scenario())
    return found


def test_a_bare_strategy_trains_the_first_model_of_the_run(tmp_path: Path) -> None:
    from flwr.serverapp.strategy import FedAdam

    random.seed(7)
    private.identify(1, 1)
    first = ArrayRecord({name: FlowerArray(array) for name, array in FIRST.items()})
    oracle = FedAdam(eta=0.5).start(LocalGrid(), first, num_rounds=2).arrays
    found = model_after(tmp_path, BARE, FIRST, adding)
    assert found.keys() == oracle.keys() == FIRST.keys()
    for name, array in oracle.items():
        np.testing.assert_allclose(found[name], array.numpy(), rtol=1e-12)


def test_so_does_one_of_the_older_kind_from_its_own(tmp_path: Path) -> None:
    def folder(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    bare = model_after(folder("bare"), OLDER, None, legacy)
    served = model_after(folder("served"), LEGACY, None, legacy)
    assert {name: array.tolist() for name, array in bare.items()} == {"0": [6.0, 6.0, 6.0]}
    assert {name: array.tolist() for name, array in served.items()} == {"0": [6.0, 6.0, 6.0]}


@pytest.mark.parametrize(
    ("code", "first", "told"),
    [
        (BARE, None, "what it starts from"),
        (FEDAVG, FIRST, "a ServerApp brings its own"),
        (OLDER, FIRST, "of Flower's older kind has its own"),
    ],
)
def test_a_first_model_that_lacks_or_that_nobody_wants_is_refused(
    tmp_path: Path, code: str, first: Mapping[str, Array] | None, told: str
) -> None:
    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            with pytest.raises(BadInput, match=told) as refused:
                await submitted(apps, tmp_path, code, first)
            assert refused.value.code == "flower.initial"
            assert "--initial" in str(refused.value)

    run(scenario())

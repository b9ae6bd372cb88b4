"""`/explain` of a served model: contributions that add up, held against rows that are nobody's, off the loop."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.explain.models import model_of_task
from aimass.explain.opening import Where, open_subject
from aimass.explain.opening.served import served_model
from aimass.explain.rows import Rows, features_of
from aimass.explain.serving import ShapleyExplainer, synthetic_rows
from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.explaining import ToExplain, find_explainer
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.servable import Array
from aimass.proto.tensors import Blob
from tests.support.registries import version_of
from tests.support.served_heart import FIRST, TASK, served_heart

SCHEMA = Schema(
    name="risk/1",
    columns=(
        Number(name="age", minimum=0, maximum=100, unit="years", required=True),
        Category(name="sex", values=("f", "m"), required=True),
        Number(name="unused", minimum=-1, maximum=1),
    ),
    label=Number(name="risk", minimum=0, maximum=1000),
)
VERSION: ModelVersion = msgspec.structs.replace(version_of("risk", 1), schema=SCHEMA)
ROWS: Mapping[str, Array] = {"age": np.array([60.0]), "sex": np.array([b"m"], object), "unused": np.array([np.nan])}


async def linear(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
    """2 age + 10 for men."""
    return {"prediction": 2 * tensors["age"] + 10 * (tensors["sex"] == b"m")}


ASKED = ToExplain(VERSION, ROWS, 1, linear)


def explained(asked: ToExplain = ASKED) -> Mapping[str, Any]:
    return asyncio.run(ShapleyExplainer().explain(asked))


def test_contributions_are_those_of_the_closed_form_over_the_synthetic_rows() -> None:
    background = synthetic_rows(SCHEMA)
    told = explained()
    found = told["explanations"][0]
    by_name = {each["feature"]: each["contribution"] for each in found["contributions"]}
    assert by_name["age"] == pytest.approx(2 * (60 - background[:, 0].mean()))
    assert by_name["sex"] == pytest.approx(10 * (1 - background[:, 1].mean()))
    assert by_name["unused"] == 0
    assert sum(by_name.values()) == pytest.approx(found["prediction"] - found["average"])
    assert [each["value"] for each in found["contributions"]] == ["60 years", "m", "missing"]
    assert "synthetic" in told["background"]


def test_synthetic_rows_lie_in_the_public_ranges_and_are_the_same_each_time() -> None:
    rows = synthetic_rows(SCHEMA)
    np.testing.assert_array_equal(rows, synthetic_rows(SCHEMA))
    assert rows.shape == (100, 3)
    assert (rows[:, 0].min() > 0, rows[:, 0].max() < 100, set(rows[:, 1])) == (True, True, {0.0, 1.0})
    assert 0 < np.isnan(rows[:, 2]).sum() < 30
    assert not np.isnan(rows[:, :2]).any()


def test_what_is_too_much_or_has_no_columns_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="too many rows"):
        explained(dataclasses.replace(ASKED, rows=9))
    with pytest.raises(BadInput, match="no columns"):
        explained(dataclasses.replace(ASKED, version=msgspec.structs.replace(VERSION, schema=None)))
    busy = ShapleyExplainer(at_once=0)
    with pytest.raises(LimitExceeded, match="others"):
        asyncio.run(busy.explain(ASKED))


def test_one_caller_keeps_no_other_waiting() -> None:
    seen, reached = ShapleyExplainer(), threading.Event()

    async def hangs(_: Mapping[str, Array]) -> Mapping[str, Array]:
        reached.set()
        await asyncio.Event().wait()
        return {}

    async def asked() -> None:
        first = asyncio.create_task(seen.explain(dataclasses.replace(ASKED, predict=hangs, caller="one")))
        await asyncio.to_thread(reached.wait)
        with pytest.raises(LimitExceeded, match="yours"):
            await seen.explain(dataclasses.replace(ASKED, caller="one"))
        assert (await seen.explain(dataclasses.replace(ASKED, caller="other")))["explanations"]
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await seen.explain(dataclasses.replace(ASKED, caller="one")))["explanations"]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(asked())


def test_a_call_that_is_given_up_ends_its_thread_and_leaves_room_for_the_next() -> None:
    seen, reached = ShapleyExplainer(at_once=1), threading.Event()

    async def hangs(_: Mapping[str, Array]) -> Mapping[str, Array]:
        reached.set()
        await asyncio.Event().wait()
        return {}

    async def given_up() -> None:
        call = asyncio.create_task(seen.explain(dataclasses.replace(ASKED, predict=hangs)))
        await asyncio.to_thread(reached.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await seen.explain(ASKED))["explanations"]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(given_up())


PATIENT = {
    "age": 63, "sex": "Male", "cp": "asymptomatic", "trestbps": 145, "chol": 233, "fbs": "true",
    "restecg": "lv hypertrophy", "thalch": 150, "exang": "false", "oldpeak": 2.3, "slope": "downsloping", "ca": None,
    "thal": "fixed defect",
}  # fmt: skip


def post(port: int, path: str, body: object) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_real_server_explains_and_is_opened_like_any_other_model(tmp_path: Path) -> None:
    assert isinstance(find_explainer("shapley"), ShapleyExplainer)
    with served_heart(tmp_path) as port:
        told = post(port, "/explain/heart", [PATIENT, PATIENT | {"sex": "Female"}])
        said = post(port, "/predict/heart", PATIENT)
        url = f"http://127.0.0.1:{port}/v2/models/heart"
        subject = open_subject(url, Where())
        model = served_model(url, TASK.schema)
        rows = Rows(features_of(TASK.schema), synthetic_rows(TASK.schema))
        answered = model.predict(rows.values)
        untold = subject.build(rows).predict(rows.values)
    first = told["explanations"][0]
    assert (told["version"], first["label"]) == (1, said["label"])
    assert first["probability"] == pytest.approx(said["probabilities"][said["label"]])
    total = sum(each["contribution"] for each in first["contributions"])
    assert total == pytest.approx(first["probability"] - first["average"], abs=1e-6)
    own = model_of_task(TASK, Blob(FIRST), name="own", digest="")
    np.testing.assert_allclose(answered, own.predict(rows.values), atol=1e-6)
    np.testing.assert_array_equal(answered, untold)
    assert (model.name, model.outputs, subject.schema is not None) == ("heart@1", ("no", "yes"), True)

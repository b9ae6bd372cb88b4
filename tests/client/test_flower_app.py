"""A ClientApp asked in this process: what it is given, and what becomes of its reply."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.common import ndarrays_to_parameters
from flwr.common.typing import EvaluateIns, FitIns
from flwr.compat.common.recorddict_compat import (
    evaluateins_to_recorddict,
    fitins_to_recorddict,
    recorddict_to_evaluateres,
    recorddict_to_fitres,
)

from aimass.client.flower_app import Node
from aimass.proto.contribution import Contribution
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.step import StepKind
from tests.support.flower_node import app_folder, arrays, asked, blobs, decoded, flower_app, order_for

_NUMBER = itertools.count()
"""Modules of this process are remembered by name: each test's app has its own."""

HEAD = """
import random
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def reply(message, arrays=None, **metrics):
    content = RecordDict({"metrics": MetricRecord(metrics)}) if metrics else RecordDict()
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)
"""


def node(
    folder: Path, code: str, config: dict[str, Any] | None = None, *, secret_sums: bool = False, head: str = HEAD
) -> Node:
    module = f"flower_case_{next(_NUMBER)}"
    app_folder(folder, head + code, module)
    return Node(flower_app(folder, module, secret_sums=secret_sums), config or {})


def ask(
    asked_node: Node, message_type: str, content: RecordDict, state: bytes = b"", **order: Any
) -> tuple[Contribution, bytes]:
    contribution, kept = asked_node.do(order_for(message_type, **order), blobs(message_type, content), state)
    return contribution, b"".join(kept)


def test_a_handler_gets_message_context_and_config_as_flower_gives_them(tmp_path: Path) -> None:
    app = node(
        tmp_path,
        """
@app.train()
def train(message, context):
    config = message.content["config"]
    assert [type(config[key]) for key in ("round", "lr", "name", "raw", "flag", "many")] == [int, float, str, bytes, bool, list]
    assert context.node_config == {"partition-id": 3, "path": "/x"}
    assert context.run_config == {"lr": 0.5}
    assert (context.run_id, context.node_id) == (7, 42)
    assert (message.metadata.run_id, message.metadata.dst_node_id, message.metadata.src_node_id) == (7, 42, 1)
    assert message.metadata.message_type == "train"
    return reply(message, message.content["arrays"], n=2)
""",
        {"partition-id": 3, "path": "/x"},
    )
    record = arrays(w=np.ones((2, 2), np.float32), s=np.array(2.5), n=np.array([7]))
    content = asked(record, round=1, lr=0.1, name="ä", raw=b"\0", flag=True, many=[1.5, 2.0])
    made = decoded(ask(app, "train", content)[0])
    assert made == RecordDict({"metrics": MetricRecord({"n": 2}), "arrays": record})


def test_an_action_reaches_its_own_function_and_another_is_refused_by_name(tmp_path: Path) -> None:
    app = node(
        tmp_path,
        """
@app.train("foo")
def foo(message, context):
    return reply(message, which=1)

@app.train()
def default(message, context):
    return reply(message, which=0)
""",
    )
    for message_type, which in (("train.foo", 1), ("train", 0)):
        assert decoded(ask(app, message_type, RecordDict())[0])["metrics"]["which"] == which
    for message_type in ("train.bar", "query", "evaluate.foo"):
        with pytest.raises(NotFound) as caught:
            ask(app, message_type, RecordDict())
        assert caught.value.code == "flower.unregistered"


def test_a_message_of_another_kind_than_its_step_never_reaches_the_app(tmp_path: Path) -> None:
    app = node(
        tmp_path,
        """
@app.train()
@app.evaluate()
@app.query()
def any(message, context):
    raise AssertionError("asked")
""",
    )
    for message_type, kind in (("train", "evaluate"), ("evaluate", "train"), ("query", "train"), ("train", "query")):
        order = msgspec.structs.replace(order_for(message_type), kind=StepKind(kind))
        with pytest.raises(BadInput) as caught:
            app.do(order, blobs(message_type, RecordDict()), b"")
        assert (caught.value.code, caught.value.value) == ("flower.kind", message_type)


def test_the_id_of_a_message_is_its_own_and_does_not_tell_the_seed(tmp_path: Path) -> None:
    app = node(
        tmp_path,
        """
@app.train()
def train(message, context):
    return reply(message, id=[int(message.metadata.message_id[at : at + 8], 16) for at in range(0, 64, 8)])
""",
    )

    def shown(seed: str) -> str:
        told = decoded(ask(app, "train", RecordDict(), seed=seed)[0])["metrics"]["id"]
        return "".join(f"{part:08x}" for part in told)

    first, second = "11" * 32, "22" * 32
    assert shown(first) == shown(first) != first
    assert shown(first) != shown(second)


def test_the_state_is_kept_from_one_message_to_the_next_whatever_their_kind(tmp_path: Path) -> None:
    app = node(
        tmp_path,
        """
@app.train()
@app.evaluate()
def count(message, context):
    calls = context.state["calls"]["n"] if "calls" in context.state else 0
    context.state["calls"] = MetricRecord({"n": calls + 1})
    return reply(message, calls=calls + 1)
""",
    )
    state, seen = b"", []
    for message_type in ("train", "evaluate", "train"):
        made, state = ask(app, message_type, RecordDict(), state)
        seen.append(decoded(made)["metrics"]["calls"])
    assert seen == [1, 2, 3]


def test_a_handler_that_edits_its_input_in_place_edits_its_own_copy(tmp_path: Path) -> None:
    app = node(
        tmp_path,
        """
@app.train()
def train(message, context):
    was = float(message.content["arrays"]["w"].numpy()[0])
    message.content["arrays"]["w"] = Array(np.full(1, 99.0))
    message.content["config"]["lr"] = 99.0
    return reply(message, was=was)
""",
    )
    content = asked(arrays(w=np.ones(1)), lr=0.1)
    given = blobs("train", content)
    before = [bytes(blob.data) for blob in given]
    seen = [
        decoded(app.do(order_for("train"), given, b"")[0])["metrics"]["was"],
        decoded(app.do(order_for("train"), given, b"")[0])["metrics"]["was"],
    ]
    assert seen == [1.0, 1.0]
    assert [bytes(blob.data) for blob in given] == before


def test_every_generator_starts_from_the_seed_of_the_step(tmp_path: Path) -> None:
    app = node(
        tmp_path,
        """
import torch

@app.train()
def train(message, context):
    return reply(message, a=random.random(), b=float(np.random.rand()), c=float(torch.rand(1, dtype=torch.float64)))
""",
    )
    first, again, other = (
        decoded(ask(app, "train", RecordDict(), seed=seed * 32)[0])["metrics"] for seed in ("11", "11", "22")
    )
    assert first == again
    assert all(first[key] != other[key] for key in "abc")


MODS = """
def note(name):
    def mod(message, context, call_next):
        context.state.setdefault("order", ConfigRecord({"seen": []}))["seen"].append(f"{name} in")
        out = call_next(message, context)
        context.state["order"]["seen"].append(f"{name} out")
        return out
    return mod

app = ClientApp(mods=[note("app")])

@app.train(mods=[note("function")])
def train(message, context):
    context.state["order"]["seen"].append("handler")
    return reply(message, message.content["arrays"], n=1)
"""


def test_mods_wrap_outside_in_those_of_the_function_inside_those_of_the_app(tmp_path: Path) -> None:
    from aimass.proto.flower import records
    from aimass.proto.tensors import Blob

    _, state = ask(node(tmp_path, MODS), "train", asked(arrays(w=np.ones(1))))
    seen = records.unpack_state(Blob(state))["order"]["seen"]
    assert seen == ["app in", "function in", "handler", "function out", "app out"]


def test_flowers_own_clipping_mod_runs_on_what_comes_from_the_server(tmp_path: Path) -> None:
    code = """
from flwr.clientapp.mod import fixedclipping_mod

app = ClientApp(mods=[fixedclipping_mod])

@app.train()
def train(message, context):
    return reply(message, ArrayRecord({"w": Array(message.content["arrays"]["w"].numpy() + np.array([3.0, 4.0]))}), n=1)
"""
    made = decoded(ask(node(tmp_path, code), "train", _clipped(1.0))[0])
    assert np.allclose(made["arrays"]["w"].numpy(), [0.6, 0.8])


def _clipped(norm: float) -> RecordDict:
    content = asked(arrays(w=np.zeros(2)))
    content["config"] = ConfigRecord({"clipping_norm": norm})
    return content


def test_flowers_local_dp_mod_clips_and_adds_noise_that_the_seed_repeats(tmp_path: Path) -> None:
    code = """
from flwr.clientapp.mod import LocalDpMod

app = ClientApp(mods=[LocalDpMod(1.0, 0.1, 1.0, 1e-5)])

@app.train()
def train(message, context):
    return reply(message, ArrayRecord({"w": Array(np.full(4, 100.0))}), n=1)
"""
    app = node(tmp_path, code)
    first, again = (decoded(ask(app, "train", asked(arrays(w=np.zeros(4))))[0])["arrays"]["w"].numpy() for _ in "ab")
    assert np.array_equal(first, again)
    assert not np.allclose(first, 0.5)
    assert np.abs(first).max() < 50


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("return None", "flower.reply"),
        ("return Message(Error(7, 'Mr Miller is ill'), reply_to=message)", "flower.error"),
        ("return reply(message, loss=float('nan'))", "flower.not_finite"),
    ],
)
def test_what_is_no_reply_is_an_error_without_a_word_of_the_app(tmp_path: Path, body: str, code: str) -> None:
    app = node(tmp_path, f"\n@app.evaluate()\ndef evaluate(message, context):\n    {body}\n")
    with pytest.raises(BadInput) as caught:
        ask(app, "evaluate", RecordDict())
    assert caught.value.code == code
    assert "Miller" not in str(caught.value)


def test_what_the_app_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    app = node(tmp_path, "\n@app.evaluate()\ndef evaluate(message, context):\n    1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        ask(app, "evaluate", RecordDict())


PART = {"partition-id": 2}
NUMPY_CLIENT = """
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


class Client(NumPyClient):
    def __init__(self, part):
        self.part = part

    def get_properties(self, config):
        return {"part": self.part}

    def fit(self, parameters, config):
        return [array + config["by"] * self.part for array in parameters], 10, {"loss": 0.5}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 4, {"accuracy": config["accuracy"]}


app = ClientApp(client_fn=lambda context: Client(context.node_config["partition-id"]).to_client())
"""


class TestNumPyClient:
    """`client_fn` apps, with a legacy ServerApp whose records stay as they are, and with the newer strategies."""

    def test_a_legacy_server_gets_legacy_records(self, tmp_path: Path) -> None:
        app = node(tmp_path, NUMPY_CLIENT, PART, head="")
        parameters = ndarrays_to_parameters([np.zeros(2, np.float32), np.array([5])])
        fit = fitins_to_recorddict(FitIns(parameters, {"by": 3}), keep_input=True)
        fitted = recorddict_to_fitres(decoded(ask(app, "train", fit)[0]), keep_input=True)
        assert (fitted.num_examples, fitted.metrics) == (10, {"loss": 0.5})
        evaluate = evaluateins_to_recorddict(EvaluateIns(fitted.parameters, {"accuracy": 0.25}), keep_input=True)
        evaluated = recorddict_to_evaluateres(decoded(ask(app, "evaluate", evaluate)[0]))
        assert (evaluated.loss, evaluated.num_examples, evaluated.metrics) == (12.0, 4, {"accuracy": 0.25})
        query = RecordDict({"getpropertiesins.config": ConfigRecord()})
        about = decoded(ask(app, "get_properties", query)[0])
        assert about["getpropertiesres.properties"] == ConfigRecord({"part": 2})

    def test_the_newer_strategies_get_arrays_and_metrics(self, tmp_path: Path) -> None:
        app = node(tmp_path, NUMPY_CLIENT, PART, head="")
        made = decoded(ask(app, "train", asked(arrays(w=np.zeros(2)), by=3.0))[0])
        assert made["arrays"]["w"].numpy().tolist() == [6.0, 6.0]
        assert made["metrics"] == MetricRecord({"loss": 0.5, "num-examples": 10})
        told = decoded(ask(app, "evaluate", asked(arrays(w=np.ones(3)), accuracy=0.75))[0])
        assert told == RecordDict({"metrics": MetricRecord({"accuracy": 0.75, "num-examples": 4, "loss": 3.0})})

    @pytest.mark.parametrize("legacy", [True, False])
    def test_a_secret_sum_gets_the_same_update_either_way(self, tmp_path: Path, legacy: bool) -> None:
        app = node(tmp_path, NUMPY_CLIENT, PART, head="", secret_sums=True)
        parameters = ndarrays_to_parameters([np.ones(2)])
        content = fitins_to_recorddict(FitIns(parameters, {"by": 3.0}), keep_input=True)
        if not legacy:
            content = asked(arrays(**{"0": np.ones(2)}), by=3.0)
        made, _ = ask(app, "train", content)
        assert made.groups["update"].weight == 10
        assert made.groups["update"].tensors["0"].tolist() == [6.0, 6.0]
        assert (made.metrics["loss"].total, made.metrics["loss"].weight) == (5.0, 10.0)


def test_of_a_secret_sum_the_app_gives_an_update_and_never_its_reply(tmp_path: Path) -> None:
    app = node(
        tmp_path,
        """
@app.train()
def train(message, context):
    arrays = message.content["arrays"]
    arrays["w"] = Array(arrays["w"].numpy() + np.float32(2))
    return reply(message, arrays, **{"num-examples": 30, "loss": 0.5})
""",
        secret_sums=True,
    )
    made, _ = ask(app, "train", asked(arrays(w=np.ones(2, np.float32))))
    assert set(made.groups) == {"update"}
    assert made.groups["update"].tensors["w"].tolist() == [2.0, 2.0]
    assert made.groups["update"].weight == 30

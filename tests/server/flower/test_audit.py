"""A Flower run told again from its transcript: what can be repeated is, what cannot is said."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.privacy.transcript import Chain, entry_bytes
from aimass.proto.flower.names import RecordDict
from aimass.proto.values import canonical_json
from aimass.server.audit import Evidence, audit_run
from aimass.server.store import Entry
from tests.support.engines import SIGNER
from tests.support.flower_apps import adding, app_of, serving_app

ASKING = """
import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

@app.main()
def main(grid, context):
    node = min(grid.get_node_ids())
    list(grid.send_and_receive([Message(RecordDict(), node, "query.size")]))
    FedAvg(fraction_train=0.5).start(grid, ArrayRecord([np.zeros(3)]), num_rounds=2)
"""


def answer(name: str, kind: str, content: RecordDict) -> RecordDict:
    """A query that all partners fail at; the rest is `adding`."""
    if kind.startswith("query"):
        raise ValueError
    return adding(name, kind, content)


async def _evidence(folder: Path) -> Evidence:
    async with serving_app(folder, answer) as apps:
        run_id = await apps.submit(app_of(folder, ASKING), quorum=2)
        ended = await apps.serve(run_id)
        assert ended.state == "finished", ended.reason
        store = apps.bench.store
        return Evidence(
            row=apps.bench.engine.live(run_id).row,
            entries=store.transcript(run_id),
            receipts=store.receipts(run_id),
            heads=[],
            models=store.models(run_id),
            server=SIGNER.public_key().public_bytes_raw(),
            partners={},
        )


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return asyncio.run(asyncio.wait_for(_evidence(tmp_path_factory.mktemp("audit")), 60))


def test_a_run_that_is_what_it_says_has_no_fault_and_says_what_cannot_be_repeated(evidence: Evidence) -> None:
    audit = audit_run(evidence)
    assert audit.faults == ()
    assert (audit.steps, audit.choices_repeated) == (5, 0)
    assert len(audit.not_repeated) == 2
    assert all("the server code of the app adder" in each for each in audit.not_repeated)
    assert len(evidence.models) == 3  # before, between and after its two rounds


def _lied(evidence: Evidence, change: Callable[[int, dict[str, Any]], None]) -> tuple[str, ...]:
    """The faults of a history that a server that lies would show: each chain entry made anew."""
    chain, made = Chain(), []
    for index, entry in enumerate(evidence.entries):
        body = msgspec.json.decode(entry.body)
        change(index, body)
        data = entry_bytes(evidence.row.run_id, chain, canonical_json(body))
        chain = chain.extended(data)
        made.append(Entry(data, canonical_json(body), chain))
    return audit_run(msgspec.structs.replace(evidence, entries=made, receipts=[])).faults


def test_a_step_on_another_model_than_the_one_that_the_history_names_is_found(evidence: Evidence) -> None:
    def change(index: int, body: dict[str, Any]) -> None:
        if index == 3:
            body["step"]["inputs"][0] = "9" * 64

    assert any("it worked on another model" in fault for fault in _lied(evidence, change))


def test_a_quorum_below_the_plans_is_found_and_one_of_few_that_the_app_asked_is_none(evidence: Evidence) -> None:
    def change(index: int, body: dict[str, Any]) -> None:
        if index == 3:
            body["step"]["quorum"] = 1

    assert any("its quorum or its grace" in fault for fault in _lied(evidence, change))
    assert not any("its quorum" in fault for fault in _lied(evidence, lambda index, body: None))


def test_an_end_with_another_model_than_the_one_on_record_is_found(evidence: Evidence) -> None:
    def change(index: int, body: dict[str, Any]) -> None:
        if body["event"] == "ended":
            body["model"] = "9" * 64

    assert any("models on record" in fault for fault in _lied(evidence, change))
    rest = [dataclasses.replace(model, digest="8" * 64) for model in evidence.models[:1]]
    faults = audit_run(msgspec.structs.replace(evidence, models=[*rest, *evidence.models[1:]])).faults
    assert any("models on record" in fault for fault in faults)

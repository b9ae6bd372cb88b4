"""A run told again from its transcript: one that is what it says has no fault, and each change of it is found."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.transcript import Chain, Receipt, entry_bytes, sign_head_seen, sign_receipt
from aimass.proto.plan import decode_plan, encode_plan
from aimass.proto.values import canonical_json
from aimass.server import runs, steps
from aimass.server.audit import Evidence, audit_run
from aimass.server.store import Entry, ReceiptRow
from tests.support.clock import ManualClock
from tests.support.engines import SIGNER, Bench

PARTNERS = tuple(f"p{index}" for index in range(6))
NORTH = Ed25519PrivateKey.generate()


async def _evidence(folder: Path) -> Evidence:
    """Four rounds of three of six partners, one of them late with its first work, one that fails and is excluded."""
    bench = await Bench.start(folder, ManualClock(), PARTNERS)
    plan = decode_plan(bench.plan(rounds=4, quorum=2))
    cohort = msgspec.structs.replace(
        plan.cohort, sample=3, weights={"p1": 4.0}, late="next", late_rounds=1, exclude_after=1, connected=True
    )
    run_id = await bench.submit(encode_plan(msgspec.structs.replace(plan, cohort=cohort)))
    await bench.join(run_id)
    for index in range(4):
        run = await bench.until(run_id, lambda run, index=index: str(index) in run.open)  # type: ignore[misc]
        *present, last = run.open[str(index)].step.participants
        for name in present:
            await bench.send(run_id, name, index)
        if index == 0:
            late = last
            await bench.engine.apply(run_id, runs.InStep(index=0, event=steps.TimeUp()))
        elif index == 1:
            await bench.send(run_id, late, 0)
            failed = steps.Failed(partner=last, reason="child.died: x")
            await bench.engine.apply(run_id, runs.InStep(index=1, event=failed))
        else:
            await bench.send(run_id, last, index)
    await bench.finished(run_id)
    row = bench.engine.live(run_id).row
    entries = bench.store.transcript(run_id)
    signed = sign_head_seen(NORTH, run_id, entries[2].chain)
    found = Evidence(
        row=row,
        entries=entries,
        receipts=bench.store.receipts(run_id),
        heads=[("p0", entries[2].chain, signed)],
        models=bench.store.models(run_id),
        server=SIGNER.public_key().public_bytes_raw(),
        partners={"p0": NORTH.public_key().public_bytes_raw()},
    )
    await bench.stop()
    return found


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return asyncio.run(asyncio.wait_for(_evidence(tmp_path_factory.mktemp("audit")), 30))


def _told_again(entries: Sequence[Entry], run_id: str, change: Callable[[int, dict[str, Any]], None]) -> list[Entry]:
    """A whole history with a body changed and the chain made anew over it: what a server that lies would show."""
    chain, made = Chain(), []
    for index, entry in enumerate(entries):
        body = msgspec.json.decode(entry.body)
        change(index, body)
        data = entry_bytes(run_id, chain, canonical_json(body))
        chain = chain.extended(data)
        made.append(Entry(data, canonical_json(body), chain))
    return made


def test_a_run_with_a_late_and_an_excluded_partner_has_no_fault(evidence: Evidence) -> None:
    audit = audit_run(evidence)
    assert audit.faults == ()
    assert (audit.entries, audit.steps, audit.choices_repeated) == (6, 4, 4)
    assert audit.heads_signed == {"p0": 3}
    bodies = [msgspec.json.decode(entry.body) for entry in evidence.entries]
    assert any(body["step"]["carried"] for body in bodies if body["event"] == "step")
    assert any("excluded" in body for body in bodies)


def test_a_body_that_was_changed_in_the_store_is_found(evidence: Evidence) -> None:
    first = evidence.entries[1]
    changed = dataclasses.replace(first, body=first.body.replace(b'"metrics"', b'"Metrics"', 1))
    entries = [evidence.entries[0], changed, *evidence.entries[2:]]
    assert "body was changed" in audit_run(msgspec.structs.replace(evidence, entries=entries)).faults[0]


def _others_asked(index: int, body: dict[str, Any]) -> None:
    if index == 1:
        step = body["step"]
        step["participants"] = sorted({*body["candidates"]} - {*step["participants"]})
        body["contributions"] = dict.fromkeys(step["participants"], "0" * 64)


def _counted_twice(index: int, body: dict[str, Any]) -> None:
    if index == 3:
        name = next(iter(body["contributions"]))
        body["step"]["carried"] = {name: 0}
        body["step"]["participants"] = [other for other in body["step"]["participants"] if other != name]


def _another_model(index: int, body: dict[str, Any]) -> None:
    if index == 2:
        body["model"] = "f" * 64


def _another_plan(index: int, body: dict[str, Any]) -> None:
    if index == 0:
        body["plan"] = "f" * 64


def _one_uncounted(index: int, body: dict[str, Any]) -> None:
    if index == 4:
        del body["contributions"][next(iter(body["contributions"]))]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_others_asked, "the plan's seed chooses"),
        (_counted_twice, "was not late in step 0"),
        (_another_model, "models on record"),
        (_another_plan, "plan, roster or first model"),
        (_one_uncounted, "has a receipt or an entry, and not both"),
    ],
)
def test_a_history_that_was_told_anew_does_not_fit(
    evidence: Evidence, change: Callable[[int, dict[str, Any]], None], told: str
) -> None:
    entries = _told_again(evidence.entries, evidence.row.run_id, change)
    faults = audit_run(msgspec.structs.replace(evidence, entries=entries)).faults
    assert any(told in fault for fault in faults), faults


def test_a_history_that_a_partner_did_not_sign_is_a_fork(evidence: Evidence) -> None:
    def change(index: int, body: dict[str, Any]) -> None:
        if index == 1:
            body["metrics"] = {"loss": 0.0}

    entries = _told_again(evidence.entries, evidence.row.run_id, change)
    faults = audit_run(msgspec.structs.replace(evidence, entries=entries)).faults
    assert "head of p0: it signed another history after 3 entries" in faults


def test_receipts_that_are_forged_or_gone_are_found(evidence: Evidence) -> None:
    first, *rest = evidence.receipts
    gone = audit_run(msgspec.structs.replace(evidence, receipts=rest)).faults
    assert any("has a receipt or an entry, and not both" in fault for fault in gone)
    forged = dataclasses.replace(first, body=first.body.replace(b'"counted"', b'"refused"'))
    faults = audit_run(msgspec.structs.replace(evidence, receipts=[forged, *rest])).faults
    assert any(fault.startswith(f"receipt of {first.partner}") for fault in faults)


def _lie(evidence: Evidence, change: Callable[[int, dict[str, Any]], None]) -> tuple[str, ...]:
    """Faults of a history that a server told everybody from the start: its receipts fit, and so does all it signed."""
    entries = _told_again(evidence.entries, evidence.row.run_id, change)
    receipts = []
    for entry in entries:
        body = msgspec.json.decode(entry.body)
        for partner, digest in body.get("contributions", {}).items() if "step" in body else ():
            index = body["step"]["carried"].get(partner, body["step"]["index"])
            receipt = Receipt(
                run_id=evidence.row.run_id, step=index, partner=partner, contribution=digest, outcome="counted",
                reason="", entries=entry.chain.entries, head=entry.chain.head,
            )  # fmt: skip
            receipts.append(ReceiptRow(index, partner, entry.chain.entries, *sign_receipt(SIGNER, receipt)))
    return audit_run(msgspec.structs.replace(evidence, entries=entries, receipts=receipts, heads=[])).faults


def test_a_history_that_fits_has_no_fault_and_says_whose_signature_is_missing(evidence: Evidence) -> None:
    assert _lie(evidence, lambda index, body: None) == ()
    audit = audit_run(evidence)
    assert "p0" not in audit.heads_missing
    assert len(audit.heads_missing) > 1


def _chosen_by_hand(index: int, body: dict[str, Any]) -> None:
    if index == 1:
        step = body["step"]
        step["participants"] = sorted(body.pop("candidates"))[-3:]
        body["contributions"], body["others"] = dict.fromkeys(step["participants"], "0" * 64), {}


def _away_by_order(index: int, body: dict[str, Any]) -> None:
    if index == 1:
        _chosen_by_hand(index, body)
        body["away"] = {name: "late" for name in PARTNERS if name not in body["step"]["participants"]}


def _smaller_circle(index: int, body: dict[str, Any]) -> None:
    if index == 4:
        body["step"]["quorum"] = 1
        first, *rest = sorted(body["contributions"])
        body["contributions"] = {first: body["contributions"][first]}
        body["others"] = dict.fromkeys(rest, "late")


def _gone_and_back(index: int, body: dict[str, Any]) -> None:
    if index in (1, 2):
        name = next(name for name in body["candidates"] if name not in body["step"]["participants"])
        body["candidates"].remove(name)
        body["away"] = {name: "removed" if index == 1 else "declined"}


def _shorter_deadline(index: int, body: dict[str, Any]) -> None:
    if index == 1:
        body["step"]["deadline_s"] = 0.001


def _dropped_in_silence(index: int, body: dict[str, Any]) -> None:
    if index == 4:
        del body["contributions"][next(iter(body["contributions"]))]


def _excluded_at_will(index: int, body: dict[str, Any]) -> None:
    if index == 1:
        name = next(name for name in body["candidates"] if name not in body["step"]["participants"])
        body["candidates"].remove(name)
        body["excluded"] = {name: "run.excluded: nothing in 3 steps in a row"}


def _too_late(index: int, body: dict[str, Any]) -> None:
    if index == 2:
        body["step"]["round"] = 3


def _other_input(index: int, body: dict[str, Any]) -> None:
    if index == 3:
        body["step"]["inputs"] = ["f" * 64]


def _told_twice(index: int, body: dict[str, Any]) -> None:
    if index == 4:
        body["step"]["index"] = 1


def _other_end(index: int, body: dict[str, Any]) -> None:
    if index == 5:
        body["model"] = "f" * 64


def _unreadable(index: int, body: dict[str, Any]) -> None:
    if index == 2:
        del body["step"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_chosen_by_hand, "the history does not say once where"),
        (_away_by_order, "is said to have been away (late), and that cannot be"),
        (_gone_and_back, "had been removed from the run before"),
        (_smaller_circle, "quorum"),
        (_shorter_deadline, "deadline"),
        (_dropped_in_silence, "what became of a partner that was asked is not told"),
        (_excluded_at_will, "had not failed as often as the plan says"),
        (_too_late, "the plan does not count the work"),
        (_other_input, "it worked on another model"),
        (_told_twice, "stands in the history twice"),
        (_other_end, "the run ended with another model"),
        (_unreadable, "entry 2: the body of entry 2 cannot be read"),
    ],
)
def test_a_lie_that_was_told_from_the_start_contradicts_the_plan_or_itself(
    evidence: Evidence, change: Callable[[int, dict[str, Any]], None], told: str
) -> None:
    faults = _lie(evidence, change)
    assert any(told in fault for fault in faults), faults


def test_a_record_that_says_another_model_or_state_than_the_history_is_found(evidence: Evidence) -> None:
    for change, told in (({"model": "f" * 64}, "the run's model on record"), ({"state": "failed"}, "does not end so")):
        run = msgspec.structs.replace(evidence.row.run, **change)
        row = dataclasses.replace(evidence.row, run=msgspec.convert(msgspec.to_builtins(run), runs.Run))
        faults = audit_run(msgspec.structs.replace(evidence, row=row)).faults
        assert any(told in fault for fault in faults), faults

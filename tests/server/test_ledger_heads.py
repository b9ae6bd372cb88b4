"""Heads of partners' privacy ledgers at the server: kept with the contribution, signed for, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import pytest

from aimass.privacy.transcript import Receipt, check_receipt
from aimass.proto.errors import BadInput
from aimass.proto.sealed import SEALED_BYTES, SealedHead
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json, decode_canonical_json
from aimass.server import tables
from aimass.server.store import Commit, Store
from tests.server.test_run_machine import new_run
from tests.server.test_secure import NAMES, begun, final
from tests.support.clock import ManualClock
from tests.support.edge_federation import Line, Members, serving
from tests.support.edge_federation import run as on_the_wire
from tests.support.engines import Bench
from tests.support.secure_members import settled


def head(number: int, slot: int = 1) -> SealedHead:
    return SealedHead(slot=f"{slot:032x}", sealed=f"{number:0{2 * SEALED_BYTES}x}")


def kept(*heads: SealedHead) -> list[bytes]:
    return [bytes.fromhex(each.sealed) for each in heads]


def receipts(bench: Bench, run_id: str) -> dict[tuple[str, int], Receipt]:
    rows = bench.store.receipts(run_id)
    return {
        (row.partner, row.step): check_receipt(row.body, row.signature, bench.engine.identity) for row in rows
    }  # fmt: skip


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def test_a_head_that_comes_with_a_contribution_is_signed_for_and_given_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(bench.plan(rounds=2))
        await bench.join(run_id)
        await bench.send(run_id, "south", ledger=head(1))
        assert await bench.desk.ledgers("south") == kept(head(1))  # before anything was summed
        await bench.send(run_id, "north")
        await bench.until(run_id, lambda run: "1" in run.open)
        await bench.send(run_id, "south", 1, ledger=head(2))
        await bench.send(run_id, "north", 1)
        await bench.finished(run_id)
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock())
        assert await again.desk.ledgers("south") == kept(head(2))
        assert await again.desk.ledgers("north") == []
        found = receipts(again, run_id)
        assert [found["south", step].ledger for step in (0, 1)] == [head(1), head(2)]
        assert found["north", 0].ledger is None
        await again.stop()

    _run(scenario())


def test_a_head_that_comes_with_a_secure_sum_is_signed_for_and_given_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, partners = await begun(bench)
        partners[NAMES[0]].ledger = head(1)
        await settled(partners, lambda: final(bench, run_id))
        assert await bench.desk.ledgers(NAMES[0]) == kept(head(1))
        assert receipts(bench, run_id)[NAMES[0], 0].ledger == head(1)
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("ledger", [b"x", canonical_json({"slot": "1", "sealed": "2"}), b"{}", b"[" * 2000])
def test_what_is_no_head_is_refused_and_the_partner_may_say_it_right(tmp_path: Path, ledger: bytes) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        run_id, _ = await begun(bench)
        with pytest.raises(BadInput):
            await bench.desk.ready(NAMES[0], pb.Ready(run_id=run_id, step=0, ledger=ledger))
        assert await bench.desk.ledgers(NAMES[0]) == []
        await bench.stop()

    _run(scenario())


def test_the_newest_of_each_slot_is_kept_and_a_hundred_of_a_partner(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "runs.sqlite")
    for number in range(1, 121):
        store.save(new_run(), Commit(ledgers=(("north", head(number, slot=number)),)))
    store.save(new_run(), Commit(ledgers=(("north", head(7, slot=30)), ("south", head(8, slot=30)))))
    assert store.ledgers("north") == kept(*(head(number) for number in range(21, 121) if number != 30), head(7))
    assert store.ledgers("south") == kept(head(8))
    store.close()


def test_a_partner_is_welcomed_with_its_own_heads_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            held = Store.open(edge.members.folder / "hub" / "data" / "runs.sqlite")
            for partner, number in (("north", 1), ("south", 2)):
                values = {"partner": partner, "slot": "1" * 32, "number": 1, "sealed": kept(head(number))[0]}
                with held.engine.begin() as connection:
                    connection.execute(tables.ledger_heads.insert().values(values))
            held.close()
            line = await Line.open(edge.channel("north"))
            assert list((await line.read("welcome")).welcome.ledgers) == kept(head(1))

    on_the_wire(scenario())


def test_a_receipt_without_a_head_is_byte_for_byte_what_it_was_before_there_were_any() -> None:
    older = {
        "contribution": "1" * 64, "entries": 1, "head": "2" * 64, "outcome": "counted", "partner": "north",
        "reason": "", "run_id": "ab" * 16, "step": 0,
    }  # fmt: skip
    receipt = decode_canonical_json(Receipt, canonical_json(older), "a receipt")
    assert receipt.ledger is None
    assert canonical_json(receipt) == canonical_json(older)
    newer = msgspec.structs.replace(receipt, ledger=head(1))
    assert decode_canonical_json(Receipt, canonical_json(newer), "a receipt") == newer

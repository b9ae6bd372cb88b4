"""A data set that comes again under another name: its rows are recognised, however they are stored."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from aimass.client.ledgers import Ledgers
from aimass.client.row_sketch import RowCheck, sketch_of
from aimass.privacy.dp.sketch import Sketch, overlap
from aimass.proto.clock import SystemClock
from aimass.proto.commands import main
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput, NotFound, Refused
from aimass.proto.manifest import ShardManifest, read_shard_manifest
from aimass.proto.plan import encode_plan
from aimass.proto.secret import Secret
from aimass.proto.v1 import federation_pb2 as pb
from tests.client.test_active_run import POLICY
from tests.client.test_active_run import _invite as invite
from tests.client.test_active_run import _run as run_of
from tests.client.test_active_run import _Uplink as Uplink
from tests.client.test_budget import plan
from tests.client.test_ledger_heads import BUDGET
from tests.support.partners import enrolled, opened

KEY = Secret(b"k" * 32)
FRESH = BUDGET.replace("heart", "fresh")
ROWS: list[dict[str, object]] = [
    {"age": age, "chol": 200.5 + age, "sex": "F" if age % 2 else "M", "note": f"row {age}" if age % 7 else None}
    for age in range(200)
]


def declare(folder: Path, name: str, *files: str, format_: str = "csv") -> ShardManifest:
    uris = ", ".join(f'"{file}"' for file in files)
    text = (
        f'name = "{name}"\ndata_schema = "heart/1"\nuris = [{uris}]\nformat = "{format_}"\n'
        f'participant = "north"\nsalt = "{"0" * 64}"\n'
    )
    (folder / f"{name}.toml").write_text(text)
    return read_shard_manifest(text, name)


def csv(path: Path, rows: list[dict[str, object]]) -> None:
    names = list(rows[0])
    lines = [",".join(names), *(",".join("" if row[n] is None else str(row[n]) for n in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def share(one: Sketch, other: Sketch) -> float:
    return overlap(one, other).share


def test_a_table_has_the_same_rows_as_csv_and_parquet_in_any_order_and_in_parts(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", ROWS)
    turned = [dict(reversed(row.items())) for row in reversed(ROWS)]
    csv(tmp_path / "b1.csv", turned[:70])
    csv(tmp_path / "b2.csv", turned[70:])
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "c.parquet")
    sketches = [
        sketch_of(KEY, declare(tmp_path, name, *files, format_=format_), tmp_path)
        for name, files, format_ in (
            ("a", ("a.csv",), "csv"),
            ("b", ("b1.csv", "b2.csv"), "csv"),
            ("c", ("c.parquet",), "parquet"),
        )
    ]
    assert sketches[0].rows == 200
    assert sketches[0] == sketches[1] == sketches[2]
    csv(tmp_path / "d.csv", [row | {"chol": 1 + float(str(row["chol"]))} for row in ROWS])
    assert share(sketches[0], sketch_of(KEY, declare(tmp_path, "d", "d.csv"), tmp_path)) == 0


@pytest.mark.parametrize("data", [b"a,b\n\xff\xfe,1\n", b"PAR1 and nothing", b""])
def test_what_cannot_be_read_is_refused_without_a_word_of_it(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    format_ = "csv" if data.startswith(b"a") else "parquet"
    with pytest.raises(BadInput) as refused:
        sketch_of(KEY, declare(tmp_path, "x", "x", format_=format_), tmp_path)
    assert refused.value.code == "rows.unreadable"
    assert "xff" not in str(refused.value)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "rows.key"
    path.write_bytes(KEY.reveal())
    path.chmod(0o600)
    return path


def test_rows_are_compared_when_they_are_new_or_changed_and_not_otherwise(tmp_path: Path, key: Path) -> None:
    compared: list[tuple[str, int, list[str]]] = []

    def compare(name: str, sketch: Sketch, another: Collection[str]) -> None:
        compared.append((name, sketch.rows, list(another)))

    async def scenario() -> None:
        check = RowCheck(tmp_path, lambda: key, compare)
        csv(tmp_path / "a.csv", ROWS)
        declare(tmp_path, "a", "a.csv")
        await asyncio.gather(check.check("a"), check.check("a"))
        csv(tmp_path / "a.csv", [*ROWS, ROWS[0] | {"age": 999}])
        await check.check("a")
        await check.check("a", ["b"])
        os.utime(tmp_path / "a.csv", (1, 1))
        await check.check("a")

    asyncio.run(scenario())
    assert compared == [("a", 200, []), ("a", 201, []), ("a", 201, ["b"]), ("a", 201, [])]


def test_a_refusal_is_repeated_and_what_hinders_the_other_process_is_told_by_name(tmp_path: Path, key: Path) -> None:
    tries = []

    def compare(*asked: object) -> None:
        tries.append(asked)
        raise Refused("these rows have a ledger under another name", code="ledger.same_rows")

    async def scenario() -> None:
        check = RowCheck(tmp_path, lambda: key, compare)
        csv(tmp_path / "a.csv", ROWS)
        declare(tmp_path, "a", "a.csv")
        for _ in range(2):
            with pytest.raises(Refused):
                await check.check("a")
        with pytest.raises(NotFound):
            await check.check("b")
        declare(tmp_path, "c", "c.csv")
        with pytest.raises(NotFound, match="a data file is not there"):
            await check.check("c")
        (tmp_path / "d.csv").write_bytes(b"a\n\xff\n")
        declare(tmp_path, "d", "d.csv")
        with pytest.raises(BadInput, match="not readable as csv"):
            await check.check("d")
        key.chmod(0o644)
        with pytest.raises(Refused, match="others can read a private key"):
            await check.check("a")

    asyncio.run(scenario())
    assert len(tries) == 2


def test_another_name_gets_no_fresh_budget_and_the_names_of_data_sets_do_not_leave(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledgers = Ledgers(tmp_path / "ledgers", UNINTERRUPTED, SystemClock())
    csv(tmp_path / "a.csv", ROWS)
    sketch = sketch_of(KEY, declare(tmp_path, "a", "a.csv"), tmp_path)
    ledgers.check_rows("heart", sketch)
    with pytest.raises(Refused) as refused:
        ledgers.check_rows("fresh", sketch)
    assert refused.value.code == "ledger.same_rows"
    assert "heart" not in str(refused.value)
    assert "aimass client budget another fresh heart" in caplog.text
    assert list(ledgers.troubles()) == ["fresh"]
    ledgers.check_rows("fresh", sketch, ["heart"])
    assert ledgers.troubles() == {}
    ledgers.check_rows("heart", sketch)
    ledgers.close()


def test_an_invitation_to_rows_that_have_another_ledger_is_declined_and_the_server_hears_no_name(
    tmp_path: Path,
) -> None:
    enrolled(tmp_path, ["north"], POLICY + BUDGET)
    folder = tmp_path / "north"
    csv(folder / "data" / "x.csv", ROWS)
    partner = opened(folder)

    async def invited() -> pb.FromPartner:
        uplink = Uplink()
        run = run_of(partner, uplink)
        await run.invited(invite(partner, encode_plan(plan())))
        await run.stop()
        return uplink.sent[-1]

    async def scenario() -> None:
        assert (await invited()).WhichOneof("body") == "joined"
        shutil.rmtree(folder / "state" / "runs")
        declare(folder / "data", "fresh", "x.csv")
        policy = folder / "policy.toml"
        policy.write_text(policy.read_text().replace('"heart/1" = "heart"', '"heart/1" = "fresh"') + FRESH)
        declined = (await invited()).declined
        assert declined.fault.code == "ledger.same_rows"
        assert b"heart:" not in declined.SerializeToString()

    asyncio.run(scenario())
    partner.budgets.close()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`aimass client` for a partner whose data set `heart` has a ledger with its rows."""
    enrolled(
        tmp_path,
        ["north"],
        POLICY.replace('schemas = { "heart/1" = "heart" }\n', "") + '\n[schemas]\n"heart/1" = "heart"\n',
    )
    north = tmp_path / "north"
    csv(north / "data" / "x.csv", ROWS)
    csv(tmp_path / "more.csv", [*ROWS, ROWS[0] | {"age": 999}])
    csv(tmp_path / "other.csv", [row | {"chol": 1} for row in ROWS])
    monkeypatch.chdir(tmp_path)
    ledgers = Ledgers(north / "state" / "ledgers", UNINTERRUPTED, SystemClock())

    async def compared() -> None:
        await RowCheck(north / "data", ledgers.row_key_file, ledgers.check_rows).check("heart")

    asyncio.run(compared())
    ledgers.close()

    def run(*words: str) -> int:
        return main(["client", *words, "--dir", str(north), "--json"])

    return run


def added(name: str, file: str) -> tuple[str, ...]:
    return ("data", "add", name, "--schema", "heart/1", "--uri", file, "--format", "csv")


def test_a_data_set_with_a_row_added_is_not_added_until_a_person_says_that_it_is_another(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = tmp_path / "north" / "data"
    assert command(*added("fresh", "more.csv")) != 0
    assert "ledger.same_rows" in capsys.readouterr().err
    assert not (manifests / "fresh.toml").exists()
    assert command(*added("fresh", "more.csv"), "--another", "south") != 0
    assert command(*added("third", "other.csv")) == 0
    assert command(*added("fresh", "more.csv"), "--another", "heart") == 0
    assert (manifests / "fresh.toml").exists()
    capsys.readouterr()
    assert command(*added("fourth", "more.csv"), "--another", "heart") != 0
    assert "fresh: 100%" in capsys.readouterr().err
    assert command(*added("fourth", "more.csv"), "--another", "heart", "--another", "fresh") == 0


def test_a_name_that_is_taken_is_refused_before_its_ledger_is_told_anything(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*added("third", "other.csv")) == 0
    assert command(*added("third", "more.csv"), "--another", "heart") != 0
    assert "data.exists" in capsys.readouterr().err
    assert not (tmp_path / "north" / "state" / "ledgers" / "third").exists()


def test_a_person_says_afterwards_that_a_data_set_is_another(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(tmp_path / "north" / "data", "fresh", str(tmp_path / "more.csv"))  # by hand
    assert command("budget", "another", "fresh", "south") != 0
    assert "ledger.same_rows" in capsys.readouterr().err
    assert command("budget", "another", "fresh", "heart") == 0
    assert command("budget", "another", "fresh", "heart") == 0
    assert command("budget", "another", "nowhere", "heart") != 0
    assert "data.absent" in capsys.readouterr().err

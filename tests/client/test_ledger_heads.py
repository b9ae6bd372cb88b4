"""Heads of ledgers on their way out and back: an older copy is noticed, and a server that lies changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.client.budget import Budgets
from aimass.client.ledger_heads import LedgerHeads
from aimass.privacy.dp.events import tally
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.sealed_head import NamedHead, head_keys, open_head
from aimass.privacy.signing import public_key
from aimass.privacy.transcript import Receipt
from aimass.proto.clock import SystemClock
from aimass.proto.commands import main
from aimass.proto.durable import UNINTERRUPTED, Durability
from aimass.proto.errors import NotFound, OutOfSpace, Refused
from aimass.proto.sealed import SealedHead
from aimass.proto.values import canonical_json, decode_json
from tests.client.test_active_run import POLICY as PARTNER_POLICY
from tests.client.test_budget import POLICY, RUN, plan, step
from tests.client.test_secure_noise import BUDGETED, MODEL, WHOLE
from tests.support.ledgers import steps
from tests.support.partners import enrolled, opened
from tests.support.secure_circle import circle

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@dataclasses.dataclass
class Home:
    """A partner's ledgers: each `begun` is a start of its daemon."""

    folder: Path
    budgets: Budgets = dataclasses.field(init=False)
    heads: LedgerHeads = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.begun()

    def begun(self, durability: Durability = UNINTERRUPTED) -> None:
        self.budgets = Budgets(self.folder / "ledgers", durability, SystemClock())
        self.heads = LedgerHeads(self.budgets.ledgers, KEY, lambda: b"s" * 32)

    def work(self, rounds: int = 1) -> SealedHead:
        """Spend, and what leaves with it."""
        for number in range(rounds):
            debit = self.budgets.debit(POLICY, "heart", plan(), RUN, step(number), 500, 1_000)
            assert debit is not None
            debit.settle(20, f"{number:064x}")
        sealed = self.heads.sealed("heart")
        assert sealed is not None
        return sealed

    def back(self, *sealed: SealedHead | bytes) -> None:
        """A server gives these back."""
        data = [bytes.fromhex(each.sealed) if isinstance(each, SealedHead) else each for each in sealed]
        self.heads.returned(POLICY, data)

    def spent(self) -> int:
        ledger = self.budgets.ledger(POLICY, "heart")
        assert ledger is not None
        return sum(tally(event for entry in ledger.state.entries.values() for event in entry.counts).values())

    def replaced(self, folder: Path | None) -> None:
        """The daemon stops, another copy of the folder is put in place of the ledgers (None: nothing), it starts."""
        self.budgets.close()
        shutil.rmtree(self.folder / "ledgers")
        if folder is not None:
            shutil.copytree(folder, self.folder / "ledgers")
        self.begun()

    def refusal(self) -> str:
        with pytest.raises(Refused) as refused:
            self.work()
        with pytest.raises(Refused) as also:
            self.budgets.check(POLICY, "heart", plan(), 1_000, {})
        assert refused.value.code == also.value.code
        return refused.value.code


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def backup(home: Home) -> Path:
    """A copy of everything, the noted heads among it."""
    home.budgets.close()
    copy = home.folder / "backup"
    shutil.copytree(home.folder / "ledgers", copy)
    home.begun()
    return copy


def test_what_leaves_covers_the_commit_and_nothing_leaves_without_a_ledger(home: Home) -> None:
    assert home.heads.sealed("heart") is None
    named = open_head(head_keys(KEY), bytes.fromhex(home.work().sealed))
    assert named.data_set == "heart"
    ledger = home.budgets.ledger(POLICY, "heart")
    assert ledger is not None
    assert named.head == ledger.head
    assert home.work().slot == home.work().slot


def test_an_older_copy_is_refused_until_it_is_accepted_and_what_was_lost_counts(home: Home) -> None:
    home.work()
    copy = backup(home)
    newest = home.work(2)
    home.replaced(copy)
    home.back(newest)
    assert list(home.budgets.ledgers.troubles()) == ["heart"]
    assert home.refusal() == "ledger.E_LEDGER_ROLLBACK"
    home.budgets.close()
    home.begun()  # and no server says anything
    assert home.refusal() == "ledger.E_LEDGER_ROLLBACK"
    home.budgets.ledgers.accept("heart", (steps(40),))
    assert home.spent() == 60
    home.work()
    home.back(newest)  # the server has not heard of another yet
    assert home.budgets.ledgers.troubles() == {}
    home.work()


@pytest.mark.parametrize("older", ["known", "fresh"])
def test_an_old_head_that_a_server_repeats_is_harmless(home: Home, older: str) -> None:
    first = home.work()
    home.work(2)
    if older == "known":
        home.budgets.close()
        home.begun()
    home.back(first)
    home.work()


def test_a_server_that_gives_back_what_is_not_ours_freezes_nobody(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    own = bytes.fromhex(home.work().sealed)
    other = LedgerHeads(home.budgets.ledgers, Ed25519PrivateKey.generate(), lambda: b"s" * 32).sealed("heart")
    assert other is not None
    with caplog.at_level(logging.WARNING):
        home.back(b"", b"x" * 5_000, own[:-1] + bytes([own[-1] ^ 1]), other)
    assert "4 heads of ledgers that came back were not sealed here" in caplog.text
    assert home.budgets.ledgers.troubles() == {}
    home.work()


def test_a_ledger_that_is_gone_altogether_does_not_begin_anew_unnoticed(home: Home) -> None:
    newest = home.work(3)
    home.replaced(None)
    home.back(newest)
    assert home.refusal() == "ledger.E_LEDGER_ROLLBACK"
    home.budgets.ledgers.accept("heart", (steps(60),))
    assert home.spent() == 60
    second = home.work()
    assert second.slot != newest.slot  # the server keeps both, and both are known
    home.back(newest, second)
    home.work()


def test_who_accepts_is_asked_for_what_was_lost_once_whatever_shows_the_newer_copy(home: Home) -> None:
    """The head beside the lines knows of a newer copy, and the server of one that is newer still."""
    home.work()
    folder = home.folder / "ledgers" / "heart"
    lines = (folder / "ledger.jsonl").read_bytes()
    home.work()
    noted = (folder / "head.json").read_bytes()
    newest = home.work()
    home.budgets.close()
    (folder / "ledger.jsonl").write_bytes(lines)
    (folder / "head.json").write_bytes(noted)
    home.begun()
    home.back(newest)
    assert home.refusal() == "ledger.E_LEDGER_ROLLBACK"
    home.budgets.ledgers.accept("heart", (steps(40),))
    assert home.spent() == 60
    home.work()


def test_nothing_is_accepted_where_nothing_is_in_doubt(home: Home) -> None:
    with pytest.raises(NotFound):
        home.budgets.ledgers.accept("heart", ())
    home.work()
    with pytest.raises(Refused, match="in no doubt"):
        home.budgets.ledgers.accept("heart", (steps(1),))
    assert home.spent() == 20


def _receipt(number: int, ledger: SealedHead | None) -> Receipt:
    return Receipt(
        run_id=RUN, step=number, partner="north", contribution="0" * 64, outcome="counted", reason="", entries=number,
        head="0" * 64, ledger=ledger,
    )  # fmt: skip


def test_the_receipts_that_are_kept_here_show_an_older_copy_without_any_server(home: Home) -> None:
    sealed = [home.work()]
    copy = backup(home)
    sealed += [home.work(), home.work()]
    kept = [_receipt(0, None), *(_receipt(number, head) for number, head in enumerate(sealed, start=1))]
    home.heads.received(POLICY, kept)
    assert home.budgets.ledgers.troubles() == {}
    home.replaced(copy)
    home.heads.received(POLICY, kept)
    ledger = home.budgets.ledger(POLICY, "heart")
    assert ledger is not None
    assert len(ledger.state.doubts) == 1
    assert home.refusal() == "ledger.E_LEDGER_ROLLBACK"


class _Full:
    """A disk that has no room for a line while `full`."""

    full = False

    def reached(self, point: str) -> None:
        if self.full and point == "ledger.line.write":
            raise OutOfSpace("no space left", code="disk.full")


def test_a_doubt_that_finds_no_room_is_not_forgotten(home: Home) -> None:
    home.work()
    copy = backup(home)
    newest = home.work()
    home.replaced(copy)
    disk = _Full()
    home.budgets.close()
    home.begun(disk)
    assert home.spent() == 20
    disk.full = True
    with pytest.raises(OutOfSpace):
        home.back(newest)
    disk.full = False
    assert home.refusal() == "ledger.E_LEDGER_ROLLBACK"


def test_who_is_ready_for_a_secure_sum_says_how_far_its_ledger_goes_after_the_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path, WHOLE, BUDGETED, model=MODEL) as hub:
            await hub.open()
            for shell in hub.shells.values():
                (ready,) = shell.ready
                sealed = decode_json(SealedHead, ready.ledger, "a sealed head").sealed
                named = open_head(head_keys(shell.partner.keys.identity), bytes.fromhex(sealed))
                ledger = shell.partner.budgets.ledgers.hold("heart")
                assert [entry.state for entry in ledger.state.entries.values()] == [EntryState.COMMITTED]
                assert named == NamedHead(data_set="heart", head=ledger.head)

    asyncio.run(scenario())


BUDGET = """
[[budgets]]
data_set = "heart"
epsilon = 2.0
delta = 1e-5
"""


@pytest.fixture
def north(tmp_path: Path) -> Path:
    """An enrolled partner's folder, whose data set has a budget."""
    enrolled(tmp_path, ["north"], PARTNER_POLICY + BUDGET)
    return tmp_path / "north"


def _worked(folder: Path, rounds: int) -> SealedHead:
    partner = opened(folder)
    for number in range(rounds):
        debit = partner.budgets.debit(partner.policy, "heart", plan(), RUN, step(number), 500, 1_000)
        assert debit is not None
        debit.settle(20, f"{number:064x}")
    sealed = partner.ledger_head(plan())
    assert sealed is not None
    partner.budgets.close()
    return sealed


@pytest.fixture
def command(north: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, object]]:
    def run(*words: str) -> tuple[int, object]:
        capsys.readouterr()
        code = main(["client", "budget", *words, "--dir", str(north), "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out or said.err.strip().splitlines()[-1])

    return run


def test_a_person_accepts_by_an_export_of_the_newer_copy(
    north: Path, command: Callable[..., tuple[int, object]]
) -> None:
    ledgers, out = north / "state" / "ledgers", str(north / "heart.json")
    _worked(north, 1)
    shutil.copytree(ledgers, north / "backup")
    _worked(north, 1)
    assert command("export", "heart", str(north / "early.json"))[0] == 0
    sealed = _worked(north, 1)
    assert command("export", "heart", out)[0] == 0
    code, told = command("verify", out)
    assert (code, told["entries"], told["in_doubt"]) == (0, 3, False)  # type: ignore[index]
    assert told["budgets"][0]["spent"] > 0  # type: ignore[index]
    assert command("verify", out, "--key", "ab" * 32)[1]["error"]["code"] == "signature.ledger_head"  # type: ignore[index]
    shutil.rmtree(ledgers)
    (north / "backup").rename(ledgers)
    line = canonical_json(_receipt(0, sealed)) + b" " + bytes(64).hex().encode() + b"\n"
    (north / "receipts.jsonl").write_bytes(line)
    refused = command("accept", "heart", "--from-export", out)
    assert refused[0] == 0, refused
    runs = command("show", "heart")[1][0]["runs"]  # type: ignore[index]
    assert (runs[1]["run"], runs[1]["steps"]) == ("lost", 40)
    assert "this data set has no" in command("show", "lungs")[1]["error"]["what"]  # type: ignore[index]
    assert command("accept", "heart", "--nothing-lost")[1]["error"]["code"] == "ledger.no_doubt"  # type: ignore[index]


def test_an_export_that_is_older_than_what_was_lost_is_not_taken(
    north: Path, command: Callable[..., tuple[int, object]]
) -> None:
    early, lines = str(north / "early.json"), north / "state" / "ledgers" / "heart" / "ledger.jsonl"
    _worked(north, 1)
    older = lines.read_bytes()
    _worked(north, 1)
    command("export", "heart", early)
    _worked(north, 1)
    lines.write_bytes(older)
    assert "aimass client budget accept" in command()[1][0]["doubt"]  # type: ignore[index]
    assert command("accept", "heart", "--from-export", early)[1]["error"]["code"] == "budget.export_older"  # type: ignore[index]
    lost = north / "lost.json"
    lost.write_bytes(canonical_json([steps(40)]))
    code, told = command("accept", "heart", "--lost", str(lost))
    assert (code, told["counted_as_lost"][0]["times"]) == (0, 40)  # type: ignore[index]
    assert "doubt" not in command("show")[1][0]  # type: ignore[index]


def test_an_auditor_verifies_an_export_with_the_key_alone(
    north: Path, command: Callable[..., tuple[int, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _worked(north, 1)
    command("export", "heart", str(tmp_path / "heart.json"))
    key = public_key(opened(north).keys.identity).hex()
    (tmp_path / "auditor").mkdir()
    monkeypatch.chdir(tmp_path / "auditor")
    assert main(["client", "budget", "verify", "../heart.json", "--key", key]) == 0
    assert main(["client", "budget", "verify", "../heart.json", "--key", "not a key"]) != 0
    assert main(["client", "budget", "verify", "../heart.json"]) != 0


@pytest.mark.parametrize("words", [("accept", "heart"), ("accept", "heart", "--nothing-lost", "--lost", "x")])
def test_what_was_lost_is_said_in_exactly_one_way(words: tuple[str, ...], north: Path) -> None:
    with pytest.raises(SystemExit):
        main(["client", "budget", *words, "--dir", str(north)])


def test_options_stand_before_or_after_the_commands_of_a_budget(
    north: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _worked(north, 1)
    for words in (["--dir", str(north), "--json"], ["--dir", str(north), "--json", "show", "heart"]):
        capsys.readouterr()
        assert main(["client", "budget", *words]) == 0
        assert json.loads(capsys.readouterr().out)[0]["data_set"] == "heart"

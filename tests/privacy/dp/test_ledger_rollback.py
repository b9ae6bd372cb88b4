"""Backups that are put back in any order: with the heads that a server keeps, no ledger ever counts less than was spent."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aimass.privacy.dp.ledger_file import LedgerFile, open_ledger
from aimass.privacy.dp.ledger_lines import Head
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import Refused
from tests.support.ledgers import BUDGET, Clock, counted, reserve, steps


class Rollbacks(RuleBasedStateMachine):
    """`truth` is what was ever spent; a server keeps the newest head under each id, and a liar all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="aimass-rollback-"))
        self.truth = 0
        self.server: dict[str, Head] = {}
        self.made: list[Head] = []
        self.backups: list[Path] = []

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def _told(self, file: LedgerFile) -> bool:
        """Whether the server's heads leave the ledger without a doubt; then it counts all that was spent."""
        known = [file.leads_to(head) for head in self.server.values()]
        trusted = all(known) and not file.state.doubts
        if trusted:
            assert counted(file.state) >= self.truth
        return trusted

    @initialize()
    def begin(self) -> None:
        with self._held() as file:
            file.set_budgets([BUDGET])

    def _held(self) -> AbstractContextManager[LedgerFile]:
        return open_ledger(self.root / "ledgers", "south", UNINTERRUPTED, Clock())

    @rule(rounds=st.integers(1, 6))
    def spend(self, rounds: int) -> None:
        with self._held() as file:
            if not self._told(file):
                with pytest.raises(Refused):
                    reserve(file, 1)
                return
            for _ in range(rounds):
                reserve(file, 1)
                self.truth += 1
                self.made.append(file.head)
                self.server[file.head.ledger] = file.head

    @rule()
    def back_up(self) -> None:
        copy = self.root / f"backup-{len(self.backups)}"
        shutil.copytree(self.root / "ledgers", copy)
        self.backups.append(copy)

    @precondition(lambda self: self.backups)
    @rule(data=st.data(), accepted=st.booleans())
    def put_back(self, data: st.DataObject, accepted: bool) -> None:
        copy = data.draw(st.sampled_from(self.backups))
        shutil.rmtree(self.root / "ledgers")
        shutil.copytree(copy, self.root / "ledgers")
        if accepted:
            self.accept()

    @rule(accepted=st.booleans())
    def lose(self, accepted: bool) -> None:
        shutil.rmtree(self.root / "ledgers")
        self.begin()
        if accepted:
            self.accept()

    def accept(self) -> None:
        """A person knows what was spent. Then no head that was ever made is in the way, whoever shows it."""
        with self._held() as file:
            if self._told(file):
                return
            lost = max(0, self.truth - counted(file.state))
            file.accept([steps(lost)] if lost else [])
            assert self._told(file)
            assert all(file.leads_to(head) for head in self.made)


TestRollbacks = Rollbacks.TestCase
TestRollbacks.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)

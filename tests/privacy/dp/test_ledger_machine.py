"""Any sequence of runs, studies, crashes, torn lines, second processes and old copies, against an oracle in memory.

The oracle knows what was used, or may have been. The ledger never counts less, and counts no more where no crash fell
between a line and its return.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Event, events_of, tally
from aimass.privacy.dp.ledger_file import LedgerFile, open_ledger
from aimass.privacy.dp.ledger_reading import decoded_head, read_lines
from aimass.privacy.dp.ledger_state import Ledger
from aimass.proto.errors import Conflict, OutOfSpace, Refused
from tests.support.ledgers import BUDGET, RESULT, RUN, TERMS, Clock, counted, reserve, steps


class Crash(BaseException):
    """The process is gone."""


class Disk:
    """Crashes at the chosen point from now, or is full at it."""

    def __init__(self) -> None:
        self.left, self.full = 0, False

    def reached(self, point: str) -> None:
        self.left -= 1
        if self.left == 0 and not self.full:
            raise Crash
        if self.left == 0 and point.endswith(".write"):
            raise OutOfSpace("no space left", code="disk.full")


class Ledgers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="aimass-ledger-"))
        self.disk, self.clock, self.accountant = Disk(), Clock(), Accountant()
        self.least: dict[int, int] = {}  # steps that each entry must count for
        self.most: dict[int, int] = {}  # and may count for
        self.waiting: dict[int, int] = {}
        self.training: dict[int, int] = {}
        self.noise: dict[int, float] = {}  # rho of each entry that is a trial's
        self.inside: dict[int, int] = {}  # the study of each entry that is a trial's
        self.studies: dict[int, int] = {}  # steps that each study reserved
        self.kept: set[int] = set()  # studies that are on the disk and were not ended
        self.backups: list[tuple[Path, int]] = []
        self.holder: AbstractContextManager[LedgerFile] | None = None

    @initialize()
    def begin(self) -> None:
        self.open()
        self.file.set_budgets([BUDGET])

    def open(self, **more: object) -> None:
        self.holder = open_ledger(self.root / "l", "south", self.disk, self.clock, **more)  # type: ignore[arg-type]
        self.file = self.holder.__enter__()

    def close(self) -> None:
        if self.holder is not None:
            self.holder.__exit__(None, None, None)
        self.holder = None
        self.waiting, self.training = {}, {}

    def teardown(self) -> None:
        self.disk.left = 0
        self.close()
        shutil.rmtree(self.root)

    def guarded(self, work: Callable[[], object], crash: int, *, full: bool) -> bool:
        """Whether `work` returned; after a crash the ledger is opened by the next process."""
        self.disk.left, self.disk.full = crash, full
        try:
            work()
        except OutOfSpace:
            return False
        except Crash:
            self.disk.left = 0
            self.close()
            self.open()
            return False
        finally:
            self.disk.left = 0
        return True

    faults = st.tuples(st.sampled_from((0, 0, 0, 1, 2, 3, 4)), st.booleans())

    @rule(times=st.integers(1, 400), fault=faults)
    def reserves(self, times: int, fault: tuple[int, bool]) -> None:
        number = self.file.state.next_number
        before = self.file.state
        try:
            returned = self.guarded(lambda: reserve(self.file, times), fault[0], full=fault[1])
        except Refused:
            assert self.accountant.figure(TERMS, before.settled(), [*_pending(before), steps(times)]).epsilon > 8
            return
        if returned:
            self.waiting[number] = times
        self.least[number], self.most[number] = (times if returned else 0), times
        self.inside.pop(number, None)  # of an entry that a crash left no line of
        self.noise.pop(number, None)

    @rule(times=st.integers(1, 400), fault=faults)
    def opens_a_study(self, times: int, fault: tuple[int, bool]) -> None:
        number, before = self.file.state.next_number, self.file.state
        try:
            opened = self.guarded(
                lambda: self.file.open_study(f"s{number}", [steps(times)], 3), fault[0], full=fault[1]
            )
        except Refused:
            assert self.accountant.figure(TERMS, before.settled(), [*_pending(before), steps(times)]).epsilon > 8
            return
        self.studies[number] = times
        if opened:
            self.kept.add(number)

    @precondition(lambda self: self.open_studies())
    @rule(times=st.integers(1, 400), rho=st.sampled_from((0.001, 0.0004, 0.0011)), fault=faults, data=st.data())
    def draws_on_a_study(self, times: int, rho: float, fault: tuple[int, bool], data: st.DataObject) -> None:
        study, number = data.draw(st.sampled_from(self.open_studies())), self.file.state.next_number
        drawn = sum(self.file.state.studies[study].drawn.values())
        try:
            returned = self.guarded(
                lambda: self.file.reserve(
                    run_id=RUN, round_=0, purpose="train", events=[steps(times, rho)], study=study
                ),
                fault[0],
                full=fault[1],
            )
        except Refused:
            assert rho > 0.001 or drawn + times > self.studies[study]
            return
        assert rho <= 0.001
        assert drawn + times <= self.studies[study]
        self.inside[number] = study
        if returned:
            self.waiting[number] = times
        self.least[number], self.most[number] = (times if returned else 0), times
        self.noise[number] = rho

    @precondition(lambda self: self.open_studies())
    @rule(fault=faults, data=st.data())
    def ends_a_study(self, fault: tuple[int, bool], data: st.DataObject) -> None:
        study = data.draw(st.sampled_from(self.open_studies()))
        self.guarded(lambda: self.file.end_study(study), fault[0], full=fault[1])
        if not self.file.state.studies[study].open:
            self.kept.discard(study)
        over = {number for number, entry in self.file.state.entries.items() if entry.study == study and not entry.open}
        for number in over & self.training.keys():  # what was used of it cannot leave, and counts in full
            self.least[number] = self.training.pop(number)
        for number in over & self.waiting.keys():
            self.least[number] = self.waiting.pop(number)

    def open_studies(self) -> list[int]:
        return sorted(number for number, study in self.file.state.studies.items() if study.open)

    @precondition(lambda self: self.waiting)
    @rule(fault=faults, data=st.data())
    def starts(self, fault: tuple[int, bool], data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        times = self.waiting[number]
        if self.guarded(lambda: self.file.start(number), fault[0], full=fault[1]):
            del self.waiting[number]
            self.training[number] = times

    @precondition(lambda self: self.waiting)
    @rule(fault=faults, data=st.data())
    def cancels(self, fault: tuple[int, bool], data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        done = self.guarded(lambda: self.file.cancel(number), fault[0], full=fault[1])
        if done or fault[0]:
            self.least[number] = 0 if done or not fault[1] else self.least[number]
        if done:
            self.most[number] = 0
            del self.waiting[number]

    @precondition(lambda self: self.training)
    @rule(fault=faults, data=st.data(), part=st.floats(0, 1))
    def commits(self, fault: tuple[int, bool], data: st.DataObject, part: float) -> None:
        number = data.draw(st.sampled_from(sorted(self.training)))
        used = int(part * self.training[number])
        events = [steps(used, self.noise.get(number, 0.001))] if used else []
        done = self.guarded(lambda: self.file.commit(number, events, RESULT), fault[0], full=fault[1])
        if done or not fault[1]:
            self.least[number] = used
        if done:
            self.most[number] = used
            del self.training[number]

    @precondition(lambda self: self.training)
    @rule(data=st.data())
    def claims_more_than_reserved(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.training)))
        with pytest.raises(Refused):
            self.file.commit(number, [steps(self.training[number] + 1, self.noise.get(number, 0.001))], RESULT)

    @rule(seconds=st.floats(-1e9, 1e9))
    def moves_the_clock(self, seconds: float) -> None:
        self.clock.at += seconds

    @rule()
    def restarts(self) -> None:
        self.close()
        self.open()

    @rule()
    def is_opened_twice(self) -> None:
        with pytest.raises(Conflict):
            open_ledger(self.root / "l", "south", self.disk, self.clock).__enter__()

    @rule()
    def is_backed_up(self) -> None:
        place = self.root / f"backup{len(self.backups)}"
        shutil.copy(self.root / "l" / "south" / "ledger.jsonl", place)
        self.backups.append((place, counted(self.file.state)))

    @precondition(lambda self: self.backups)
    @rule(data=st.data())
    def is_restored_from_an_old_copy(self, data: st.DataObject) -> None:
        place, _ = data.draw(st.sampled_from(self.backups))
        noted = decoded_head(self.root / "l" / "south" / "head.json") == self.file.head  # no room on the disk: not yet
        self.close()
        path = self.root / "l" / "south" / "ledger.jsonl"
        newest = path.read_bytes()
        path.write_bytes(place.read_bytes())
        if place.read_bytes() != newest and noted:
            with pytest.raises(Refused):
                open_ledger(self.root / "l", "south", self.disk, self.clock).__enter__()
        path.write_bytes(newest)
        self.open()

    @rule(size=st.integers(1, 200))
    def is_torn_by_a_crash_in_a_write(self, size: int) -> None:
        self.close()
        path = self.root / "l" / "south" / "ledger.jsonl"
        last = path.read_bytes().splitlines()[-1]
        with path.open("ab") as file:
            file.write(last[: min(size, len(last) - 1)])
        self.open()

    @invariant()
    def never_counts_less_than_was_used_nor_more_than_was_asked(self) -> None:
        if self.holder is None:
            return
        open_, entries = self.open_studies(), self.most.keys()
        assert self.kept <= set(open_)
        alone = [number for number in entries if self.inside.get(number) not in open_]
        whole = sum(self.studies[number] for number in open_)
        for number, study in self.file.state.studies.items():  # kept, and the same as counted anew
            inside = [entry for entry in self.file.state.entries.values() if entry.study == number]
            assert study.drawn == tally(event for entry in inside for event in entry.counts)
            assert study.runs == Counter(entry.run_id for entry in inside if entry.counts)
        least, most = (whole + sum(each[number] for number in alone) for each in (self.least, self.most))
        assert least <= counted(self.file.state) <= most
        assert read_lines(self.root / "l" / "south" / "ledger.jsonl").ledger == self.file.state
        assert all(stand.whole.epsilon <= 8 for stand in self.file.standing())


def _pending(ledger: Ledger) -> tuple[Event, ...]:
    return events_of(ledger.pending())


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

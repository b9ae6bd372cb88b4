"""Events and ledgers for tests, and a child process that is killed at every durable point of a ledger's life.

`python -m tests.support.ledgers kill FOLDER` runs one story again and again and dies by kill -9 at its first, second, …
durable point, each in a folder of its own, until the story ends; it prints what had returned before each death.
`race FOLDER` lets four processes fight for one ledger; `hold FOLDER` holds it until its input ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from aimass.privacy.dp.events import Budget, DiscreteGaussian, Event, Relation, Terms, Unit, tally
from aimass.privacy.dp.ledger_file import LedgerFile, open_ledger
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.ledger_reading import read_lines
from aimass.privacy.dp.ledger_state import Ledger
from aimass.proto.durable import UNINTERRUPTED, Durability
from aimass.proto.errors import Conflict, Refused
from tests.support.killing import KillAt

RUN = "ab" * 16
OTHER = "cd" * 16
RESULT = "12" * 32
TERMS = Terms(unit=Unit.EXAMPLE, relation=Relation.ADD_OR_REMOVE_ONE, delta=1e-5)
BUDGET = Budget(terms=TERMS, epsilon=8.0)


class Clock:
    """Moves as the test says, backwards too."""

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def steps(times: int, rho: float = 0.001, unit: Unit = Unit.EXAMPLE) -> Event:
    """So many runs of a mechanism whose figures are cheap: zCDP adds up."""
    return Event(mechanism=DiscreteGaussian(rho=rho, xi=0.0), unit=unit, times=times)


def counted(ledger: Ledger) -> int:
    """How many steps the ledger counts, settled and pending."""
    whole = Counter(ledger.settled())
    whole.update(ledger.pending())
    return sum(whole.values())


def reserve(file: LedgerFile, times: int, round_: int = 0, run_id: str = RUN, study: int | None = None) -> int:
    events = [steps(times)]
    return file.reserve(run_id=run_id, round_=round_, purpose="train", events=events, study=study).number


def total(events: Iterable[Event]) -> int:
    return sum(tally(events).values())


def story(root: Path, durability: Durability, told: object = None) -> None:
    """Every arrow of the table, in two processes' time; `told` is given what returned and what comes next."""
    say = told if callable(told) else lambda *_: None
    with open_ledger(root, "south", durability, Clock()) as file:
        file.set_budgets([BUDGET])
        first = reserve(file, 10, 1)
        say("counts", 10)
        file.start(first)
        say("counts", 7)  # so much was used; what follows may say so
        file.commit(first, [steps(7)], RESULT)
        second = reserve(file, 20, 2)
        say("counts", 27)
        say("counts", 7)
        file.cancel(second)
        study = file.open_study("tuning", [steps(100)]).number
        say("counts", 107)
        trial = reserve(file, 30, 3, study=study)
        file.start(trial)
        file.commit(trial, [steps(25)], RESULT)
        file.start(reserve(file, 10, 3, run_id=OTHER, study=study))  # at work when the study ends: spent
        say("counts", 107)
        say("counts", 42)
        file.end_study(study)
        third = reserve(file, 40, 4)
        say("counts", 82)
        file.start(third)
        say("counts", 82)
    with open_ledger(root, "south", durability, Clock()) as file:  # what was open is spent
        say("counts", counted(file.state))


def _kill(folder: Path) -> None:
    for last in range(1, 1000):
        root = folder / str(last)
        root.mkdir()
        journal = root / "told.jsonl"
        child = os.fork()
        if child == 0:
            with journal.open("w") as out:

                def say(*what: object, out: object = out) -> None:
                    print(json.dumps(what), file=out, flush=True)  # type: ignore[call-overload]

                story(root / "ledgers", KillAt(last), say)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(json.dumps({"points": last - 1, "status": os.waitstatus_to_exitcode(status)}))
            return


def _race(folder: Path) -> None:
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            done, run_id = 0, f"{number:02x}" * 16
            while done < 5:
                try:
                    with open_ledger(folder, "south", UNINTERRUPTED, Clock()) as file:
                        entry = reserve(file, 3, done, run_id)
                        file.start(entry)
                        file.commit(entry, [steps(2)], RESULT)
                        done += 1
                except Conflict:
                    os.sched_yield()
                except Refused as refused:
                    print(refused.code)
                    break
            os._exit(0)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    ledger = read_lines(folder / "south" / "ledger.jsonl").ledger
    states = Counter(str(entry.state) for entry in ledger.entries.values())
    print(json.dumps({"failed": failed, "counted": counted(ledger), "states": states}))


def _hold(folder: Path) -> None:
    with open_ledger(folder, "south", UNINTERRUPTED, Clock()):
        print("held", flush=True)
        sys.stdin.read()


def open_states(ledger: Ledger) -> list[EntryState]:
    return [entry.state for entry in ledger.entries.values()]


if __name__ == "__main__":
    {"kill": _kill, "race": _race, "hold": _hold}[sys.argv[1]](Path(sys.argv[2]))

"""`./scripts/attack`: every attack of the specification's must-fail list, one line each: what was tried, what refused it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.attack.house import House
from tests.attack.lab import MANY, NAMES, play
from tests.attack.rows import ROWS

HELP = """
A server and its partners run here for real: gRPC, mutual TLS, their own keys, folders and disks. For each row of the
list of what must fail (docs/secure-aggregation.md, "Attacks") somebody lies: the server's operator, who has its key and
says to chosen partners what it likes, or a partner, who sends what it likes over its own connection. Everybody else
runs the code that you would run.

A row counts as refused where the one who should see it says so in its own log by the name that the list gives, where
nothing is released that should not be, where the sum of the others is exact, and where the next honest round is.

Four rows need a ring of more than 128 partners (13, 14, 15 and a part of 23): 136 daemons in this one process, half a
minute. The names of the others: ada is lied to, eve lies, dan is slow. `test` runs the same rows under pytest:
./scripts/test tests/attack.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One row as it went."""

    row: int
    tried: tuple[str, ...]
    refused_by: tuple[tuple[str, str], ...]
    seconds: float
    escaped: str

    @property
    def line(self) -> str:
        """For people."""
        by: dict[str, list[str]] = {}
        for who, code in self.refused_by:
            by.setdefault(code, []).append(who)
        what = "; ".join(f"{', '.join(who)} {code}" for code, who in by.items())
        return f"{self.row:3}  {'; '.join(self.tried)}: {f'NOT REFUSED, {self.escaped}' if self.escaped else what}"

    @property
    def document(self) -> dict[str, Any]:
        """For programs."""
        refused = [{"who": who, "code": code} for who, code in self.refused_by]
        return {
            "row": self.row, "tried": list(self.tried), "refused_by": refused, "as_named": not self.escaped,
            "seconds": round(self.seconds, 2), "escaped": self.escaped,
        }  # fmt: skip


class Houses:
    """The two federations, each opened when a row needs it."""

    def __init__(self, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._held: dict[bool, House] = {}

    async def get(self, *, ring: bool) -> House:
        if ring not in self._held:
            house = House(self._folder / ("ring" if ring else "five"), MANY if ring else NAMES)
            self._held[ring] = await self._stack.enter_async_context(house.open())
        return self._held[ring]


async def attempted(number: int, houses: Houses) -> Outcome:
    """Play a row."""
    rows, start = sorted(ROWS[number], key=lambda one: one.ring), time.monotonic()
    found: list[tuple[str, str]] = []
    escaped = ""
    try:
        for ring in (False, True):
            scenarios = [one for one in rows if one.ring is ring]
            if scenarios:
                lab = await asyncio.wait_for(play(scenarios, await houses.get(ring=ring)), 200)
                found += [entry for entry in lab.found if entry not in found]
    except Exception as error:  # noqa: BLE001  (whatever goes wrong, the row is not shown to be refused)
        escaped = str(error).partition("; ")[0] or type(error).__name__
    return Outcome(number, tuple(one.tried for one in rows), tuple(found), time.monotonic() - start, escaped)


async def attack(numbers: list[int], *, as_json: bool) -> int:
    """Play these rows; how many escaped."""
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="aimass-attack-") as name:
        async with contextlib.AsyncExitStack() as stack:
            houses = Houses(Path(name), stack)
            for number in numbers:
                outcomes.append(await attempted(number, houses))
                if not as_json:
                    sys.stdout.write(f"{outcomes[-1].line}\n")
                    sys.stdout.flush()
    refused = sum(not outcome.escaped for outcome in outcomes)
    if as_json:
        document = {"rows": [one.document for one in outcomes], "refused": refused, "of": len(outcomes)}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(f"{refused} of {len(outcomes)} refused as named\n")
    return len(outcomes) - refused


def main() -> int:
    """1 where a row was not refused as named."""
    parser = argparse.ArgumentParser(
        prog="./scripts/attack",
        description="Attack secure aggregation with a lying server and lying partners, and see what refuses each lie.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", type=int, metavar="ROW", help="rows of the list, 1 to 46; all without any")
    parser.add_argument("--json", action="store_true", help="one document at the end, for programs")
    args = parser.parse_args()
    unknown = [number for number in args.rows if number not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}: rows are {min(ROWS)} to {max(ROWS)}")
    return min(1, asyncio.run(attack(sorted(set(args.rows)) or sorted(ROWS), as_json=args.json)))


if __name__ == "__main__":
    sys.exit(main())

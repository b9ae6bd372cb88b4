"""Real processes that are killed again and again, each life ending at another durable write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from scripts.demos.house import House

__all__ = ["KILLING", "lives_until_the_end"]

KILLING: Final = (sys.executable, str(Path(__file__).parent / "killing.py"))


def lives_until_the_end(house: House, name: str, kind: str, longest: int = 6) -> int:
    """Let `name` live until its second, third, ... durable point in turn, to the `longest`; how often it was killed.

    A process reaches a point before each durable effect and one after it. Lives of different lengths end before and
    after every effect, and the longer ones get past what has to be done again from the start after a crash.
    """
    kills = 0
    while kills < 300:
        points = str(2 + kills % (longest - 1))
        code = house.life(name, KILLING, kind, name, points, seconds=40.0)
        if code is None:
            break
        assert code == -9, (house.folder / f"{name}.log").read_text()[-2000:]
        kills += 1
    return kills

"""Real processes that are killed again and again, each life ending at another durable write."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.demos.house import House

from aimass.proto.api import Federation, Run

__all__ = ["KILLING", "lives_until_the_end"]

KILLING: Final = (sys.executable, str(Path(__file__).parent / "killing.py"))


def lives_until_the_end(house: House, run: Run, name: str, kind: str, longest: int = 9) -> int:
    """Let `name` live until its second, third, ... durable point in turn, to the `longest`, until the run is over and a
    life has nothing left to do; how often it was killed.

    A process reaches a point before each durable effect and one after it. Lives of different lengths end before and
    after every effect, and the longer ones get past what has to be done again from the start after a crash.
    """
    kills = 0
    with _over(house, run) as over:
        while kills < 300:
            points = str(2 + kills % (longest - 1))
            code = house.life(name, KILLING, kind, name, points, over=over, rest_s=5.0)
            if code is None:
                break
            assert code == -9, (house.folder / f"{name}.log").read_text()[-2000:]
            kills += 1
    return kills


@contextlib.contextmanager
def _over(house: House, run: Run) -> Iterator[threading.Event]:
    """Is set when the run has ended, as its owner sees it, through restarts of the server."""
    over = threading.Event()
    with Federation.open(house.folder / "scientist") as federation:
        watched = Run(federation, run.view)  # asks nothing: the server may be down

        def watch() -> None:
            watched.wait()
            over.set()

        threading.Thread(target=watch, daemon=True).start()
        yield over

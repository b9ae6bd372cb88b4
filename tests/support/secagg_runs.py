"""Random attempts from a seed: sizes, widths, and who falls silent in which phase."""

from __future__ import annotations

import dataclasses
import random
from typing import Final

import numpy as np

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.server_state import Phase
from tests.support.secagg import Lab

BITS: Final = (8, 12, 16, 17, 20, 23, 24, 31, 32, 33, 48)
LANES: Final = (1, 7, 8, 9, 100)
LOST_BEFORE: Final = (Kind.ADVERTISE, Kind.SHARES, Kind.INPUT, Kind.SIGNATURE, Kind.UNMASK)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """An attempt, and who sends nothing from which message on."""

    lab: Lab
    silent: dict[int, Kind]


def draw(seed: int, members: int = 40, lanes: tuple[int, ...] = LANES) -> Drawn:
    """As many dropouts as the parameters may bear, at phases of their own; inputs reach +-Q, some hold it everywhere."""
    choice = random.Random(seed)
    n, profile = choice.randint(3, members), choice.choice(list(Profile))
    bits = choice.choice([b for b in BITS if (1 << b - 1) - 1 >= n])
    lab = Lab(
        n,
        bits=bits,
        data_lanes=choice.choice(lanes),
        profile=profile,
        gamma_ppm=choice.choice((0, 100_000, 200_000)),
        delta_ppm=choice.choice((100_000, 200_000, 300_000)),
        largest=((1 << bits - 1) - 1) // n,
        seed=seed,
    )
    lab.give()
    for member in choice.sample(range(n), min(n, 2)):
        lab.inputs[member] = np.full(lab.data_lanes, choice.choice((-1, 1)) * lab.largest, np.int64)
    lost = choice.sample(range(n), choice.randint(0, max(0, n // 4)))
    silent = {member: choice.choice(LOST_BEFORE) for member in lost}
    order = {kind: place for place, kind in enumerate(LOST_BEFORE)}

    def up(member: int, kind: Kind, data: bytes) -> bytes | None:
        gone = member in silent and kind in order and order[kind] >= order[silent[member]]
        return None if gone else data

    lab.up = up
    return Drawn(lab, silent)


def play(lab: Lab) -> None:
    """To the end, with deadlines where nothing moves any more."""
    lab.run()
    while lab.server.phase < Phase.DONE:
        lab.time_up()
        lab.run()

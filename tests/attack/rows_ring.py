"""What needs a ring of more than 128 partners: parts of rows 13 and 23, and rows 14 and 15.

One run of 136 tells it all, in three attempts. In the first a lying server proposes weak rings to three; in the second
a partner does not reveal what it committed to; in the third the server shows three others seeds and sharers that are
not the true ones, and the rest come to their sum.
"""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.messages import RosterMessage, SeedReveal, ShareDelivery
from aimass.privacy.secagg.server_state import Phase
from tests.attack.house import House, counted
from tests.attack.lab import MANY, Lab, row
from tests.attack.liars import LyingServer, lying_partner, lying_server
from tests.support.secagg import sha

LOWER, ODD, SMALLER, LATE, SHORT, OTHER, FEW = MANY[:7]
"""Partners by what is done to them, or, of LATE, what it does."""
_STORIES: dict[House, asyncio.Task[int]] = {}


async def told(lab: Lab) -> None:
    """The run, once for a house; what was found in it is found by each row."""
    if lab.house not in _STORIES:
        _STORIES[lab.house] = asyncio.create_task(tell(Lab(lab.house)))
    lab.house.marked = await asyncio.shield(_STORIES[lab.house])


async def tell(lab: Lab) -> int:
    """Where in the book it begins."""
    with lying_server(lab.house) as server, lying_partner(lab.house, LATE) as late:
        for name, k, t in ((LOWER, 0, -1), (ODD, 1, 0), (SMALLER, -2, -2)):
            server.on(Kind.ROSTER, name, partial(other_ring, k, t))
        late.on(Kind.SEED, lambda data: data)  # in the first attempt
        late.on(Kind.SEED, lambda data: dataclasses.replace(SeedReveal.decode(data), value=sha("late")).data)
        server.on(Kind.SEEDS, SHORT, lambda data: data[:-32])
        server.on(Kind.SEEDS, OTHER, lambda data: data[:32] + sha("chosen") + data[64:])
        server.on(Kind.DELIVERY, FEW, lambda _: few(server))
        run = await lab.house.submit()
        view = await lab.drive(
            run,
            {0: {LATE: Phase.REVEAL}},
            lambda: bool(lab.house.said("server", "E_SEED_REVEAL", LATE)),
            seconds=150.0,
        )
        out = (LATE, SHORT, OTHER, FEW)
        lab.check(not any(one.partner in out and one.kind is Kind.UNMASK for one in server.heard), "shares were given")
    lab.sound(run, view)
    lab.check(not set(out) & set(counted(view.steps[0])), "one that refused is counted")
    return lab.house.marked


def other_ring(k: int, t: int, data: bytes) -> bytes:
    """The roster with degree and threshold changed by so much."""
    roster = RosterMessage.decode(data)
    return dataclasses.replace(roster, k=roster.k + k, t=roster.t + t).data


def few(server: LyingServer) -> bytes:
    """Sharers that are many, and among them one fewer than the threshold of those who hold a share of FEW's secrets."""
    attempt, shared = server.attempt, server.state.sharers
    index = attempt.index[server.house.id(FEW)]
    near = sorted(shared & frozenset(attempt.neighbours[index]))
    kept, left = near[: attempt.roster.t - 2], frozenset(near[attempt.roster.t - 2 :])
    ids = [attempt.ids[dealer] for dealer in kept]
    boxes = tuple((dealer, dict(server.state.keys[dealer].boxes)[attempt.ids[index]]) for dealer in ids)
    return ShareDelivery(attempt.sid, tuple(sorted(shared - left)), boxes, attempt.n).data


@row(13, "a ring with a lower threshold, an odd degree, a smaller one", ring=True)
async def weak_rings(lab: Lab) -> None:
    await told(lab)
    for name in (LOWER, ODD, SMALLER):
        await lab.refused(name, "E_PARAM_MISMATCH")


@row(14, "a part of the ring's seed that is not revealed, or that the server leaves out", ring=True)
async def seed_missing(lab: Lab) -> None:
    await told(lab)
    await lab.refused("server", "E_SEED_INCOMPLETE")
    await lab.refused(SHORT, "E_SEED_INCOMPLETE")


@row(15, "a part of the ring's seed that is not what was committed to, revealed or shown", ring=True)
async def seed_not_committed(lab: Lab) -> None:
    await told(lab)
    await lab.refused("server", "E_SEED_REVEAL", about=LATE)
    await lab.refused(OTHER, "E_SEED_REVEAL")


@row(23, "sharers among whom fewer than the threshold are neighbours", ring=True)
async def few_neighbours(lab: Lab) -> None:
    await told(lab)
    await lab.refused(FEW, "E_NEIGHBOURS")

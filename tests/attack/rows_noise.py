"""Row 46: noise inside the sums that is less than what partners account for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Final
from unittest import mock

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.server_state import Phase
from aimass.proto.grpc_env import grpc
from aimass.proto.plan import DistributedNoise
from aimass.proto.wire import error_of
from tests.attack.lab import NAMES, Lab, row, with_context
from tests.attack.liars import lying_server

NOISED: Final[dict[str, Any]] = {
    "noise": DistributedNoise(multiplier=2.0, clip=1.0, delta=1e-3, members=len(NAMES)),
    "min_cohort": 4,
}


@contextlib.contextmanager
def _policies(lab: Lab, more: str) -> Iterator[None]:
    """Every partner's policy with some lines more."""
    before = {path: path.read_text() for path in (lab.house.folder / name / "policy.toml" for name in NAMES)}
    for path, text in before.items():
        path.write_text(text + more)
    try:
        yield
    finally:
        for path, text in before.items():
            path.write_text(text)


@row(46, "a plan with less noise than a sum of shares needs, and a round whose sums would hold fewer shares of it")
async def less_noise(lab: Lab) -> None:
    """The plan is refused when it is submitted, and by every partner where the operator takes it all the same: by rule,
    and where a policy lets so few bits in, since such noise is not what is accounted."""
    house = lab.house
    try:
        await house.submit(**NOISED, bits=3)
    except grpc.aio.AioRpcError as error:
        lab.check(error_of(error).code == "plan.secure", f"the plan was refused with {error_of(error).code}")
    else:
        lab.check(False, "a plan with too little noise was taken")
    lab.found.append(("server", "plan.secure"))
    with mock.patch("aimass.server.submission._check_lanes"):
        for text, code in (("", "policy.secure_bits"), ("\n[secure]\nsmallest_bits = 2\n", "E_POLICY")):
            with _policies(lab, text):
                house.mark()
                view = await (await house.submit(**NOISED, bits=3)).ended()
                for name in NAMES:
                    await lab.refused(name, code)
                lab.check(view.summary.state == "failed", f"the run {view.summary.state}")
    house.mark()
    for changes in ({"min_cohort": 3}, {"gamma_ppm": 400_000}):
        house.mark()
        with lying_server(house) as server:
            server.on(Kind.START, "ada", partial(with_context, server, **changes), step=0)  # type: ignore[arg-type]
            run = await house.submit(rounds=2, **NOISED)
            view = await lab.drive(run, {0: {"ada": Phase.ADVERTISE}})
        await lab.refused("ada", "E_POLICY")
        lab.went(view, NAMES[1:], NAMES)
    await lab.next_round_is_sound()

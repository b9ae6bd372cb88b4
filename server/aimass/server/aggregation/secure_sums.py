"""The sum of masked inputs, and what it shows once the masks are off: a step's sums, and nobody's part in them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from aimass.privacy.dp.rotation import rotation_key
from aimass.privacy.secagg.faults import FaultError
from aimass.privacy.secagg.lanes import LanePlan, LaneSums, decode
from aimass.privacy.secagg.masks import Lanes, lane_type
from aimass.privacy.secagg.packing import add_packed
from aimass.privacy.secagg.server_state import Finish, ServerState
from aimass.privacy.secagg.unmasking import unmask
from aimass.proto.errors import AimassError
from aimass.proto.names import Digest
from aimass.proto.names import Name as PartnerName
from aimass.proto.storage import map_file
from aimass.proto.values import Value
from aimass.server.aggregation.spooled import check_spooled

__all__ = ["SecretSum", "SecureInputs", "SecureTold", "secure_sum"]


class SecureTold(Value, frozen=True):
    """What the history says of a secure sum, so that a third party can check it: who advertised, who dealt shares (U1),
    who was counted (U2), what survivors signed over both sets, in hexadecimal, and the digest of the sum's lanes.

    Nothing here says what anybody sent. A sum that does not hold together, as one is to which somebody sent what is no
    input, has a `fault` and is not used. `within` is the noised share of members whose update was within the clip.
    """

    attempt: int
    ctx: Digest
    sid: Digest
    members: tuple[PartnerName, ...]
    sharers: tuple[PartnerName, ...]
    counted: tuple[PartnerName, ...]
    signatures: dict[PartnerName, str]
    sum: Digest
    fault: str = ""
    within: float | None = None


class SecretSum(Protocol):
    """One circle's inputs that wait to be summed."""

    def sum(self, paths: Mapping[str, Path], verify: Collection[str]) -> tuple[LaneSums | AimassError, SecureTold]:
        """The sum of the inputs at `paths`, or why there is none; and what is told of it."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class SecureInputs:
    """An attempt that has come to its end: the machine's last state, the mask keys, the lanes, names by roster id."""

    state: ServerState
    finish: Finish
    lanes: LanePlan
    names: Mapping[int, str]

    def sum(self, paths: Mapping[str, Path], verify: Collection[str]) -> tuple[LaneSums | AimassError, SecureTold]:
        """See `secure_sum`."""
        return secure_sum(self, paths, verify)


def secure_sum(
    inputs: SecureInputs, paths: Mapping[str, Path], verify: Collection[str]
) -> tuple[LaneSums | AimassError, SecureTold]:
    """Add the payloads at `paths`, by partner, take the masks off, and check the sum's own check lanes.

    Holds one accumulator and blocks. A sum that does not hold together is its error. Raises the named error of a
    payload that is gone or changed on this disk.
    """
    context = inputs.state.context
    total: Lanes = np.zeros(context.lanes, lane_type(context.bits))
    for member in inputs.finish.survivors:
        name = inputs.names[member]
        digest = inputs.state.inputs[member].payload_digest.hex()
        check_spooled(paths[name], f"the masked input of {name}", digest, verify=name in verify)
        add_packed(total, map_file(paths[name]), context.bits)
    try:
        lanes = unmask(context, total, list(inputs.finish.plus), list(inputs.finish.minus))
        rotation = rotation_key(context.run_id, context.round, context.model_digest)
        sums = decode(inputs.lanes, lanes, len(inputs.finish.survivors), rotation)
        return sums, _told(inputs, lanes, within=sums.within())
    except FaultError as error:
        return error.fault.error(), _told(inputs, total, error.fault.code)


def _told(inputs: SecureInputs, lanes: Lanes, fault: str = "", within: float | None = None) -> SecureTold:
    state = inputs.state
    attempt = state.attempt
    assert attempt is not None  # noqa: S101  (an attempt with a sum has its members)
    names = inputs.names
    return SecureTold(
        attempt=state.context.attempt,
        ctx=state.context.ctx.hex(),
        sid=attempt.sid.hex(),
        members=tuple(sorted(names[member] for member in attempt.ids)),
        sharers=tuple(sorted(names[attempt.ids[index]] for index in state.sharers)),
        counted=tuple(sorted(names[member] for member in inputs.finish.survivors)),
        signatures={names[member]: signature.hex() for member, signature in sorted(state.signatures.items())},
        sum=hashlib.sha256(np.ascontiguousarray(lanes).data).hexdigest(),
        fault=fault,
        within=within,
    )

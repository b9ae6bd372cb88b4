"""Secure sums in a simulation: the partners' own lanes, added without masks.

Masks cancel to the last bit in the sum, so clipping, rounding, overflow checks, circles and their rules are those of a
live run, and what the server could see is not: a simulation says nothing of secrecy.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from aimass.privacy.secagg import masks
from aimass.privacy.secagg.faults import FaultError
from aimass.privacy.secagg.lanes import LanePlan, LaneSums, decode
from aimass.privacy.secagg.packing import add_packed
from aimass.proto.errors import AimassError
from aimass.proto.storage import map_file
from aimass.server.aggregation.secure_sums import SecureTold

__all__ = ["Unmasked"]

_NOTHING = "0" * 64


@dataclasses.dataclass(frozen=True, slots=True)
class Unmasked:
    """A circle's members and the lanes that their contributions are made of; `rotation` is of a plan with noise."""

    number: int
    members: tuple[str, ...]
    lanes: LanePlan
    rotation: bytes

    def sum(self, paths: Mapping[str, Path], verify: Collection[str]) -> tuple[LaneSums | AimassError, SecureTold]:
        """Add the lanes at `paths`, by partner; no attempt was made, so no signature is told of."""
        total = np.zeros(self.lanes.count, masks.lane_type(self.lanes.bits))
        for member in self.members:
            add_packed(total, map_file(paths[member]), self.lanes.bits)
        masks.cut(total, self.lanes.bits)
        try:
            sums = decode(self.lanes, total, len(self.members), self.rotation)
        except FaultError as error:
            return error.fault.error(), self._told(total, fault=error.fault.code)
        return sums, self._told(total, within=sums.within())

    def _told(self, total: masks.Lanes, fault: str = "", within: float | None = None) -> SecureTold:
        return SecureTold(
            attempt=self.number,
            ctx=_NOTHING,
            sid=_NOTHING,
            members=self.members,
            sharers=self.members,
            counted=self.members,
            signatures={},
            sum=hashlib.sha256(total.data).hexdigest(),
            fault=fault,
            within=within,
        )

"""What an attempt is about, in bytes that both sides hash: run, round, model, plan, layout, members and sizes.

Every key, share and signature of an attempt is bound to the hash of its context, so what was made for another model,
plan, cohort or attempt does not fit.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import math
import struct
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from aimass.privacy.secagg.codec import Reader, ids_bytes, u16, u32, u64
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.labels import DIGEST_BYTES, KEY_BYTES, VERSION, Name, digest
from aimass.privacy.secagg.parameters import Profile

__all__ = ["LaneKind", "LaneSpec", "RoundContext", "decode_context", "layout_digest", "purpose_id"]

MAX_MEMBERS: Final = 65_535
MAX_LANES: Final = 1 << 40
NO_DIGEST: Final = bytes(DIGEST_BYTES)


@dataclasses.dataclass(frozen=True)
class RoundContext:
    """The round context RC. Digests are 32 raw bytes; `dp_digest` is zeros where there is no noise.

    `lanes` is the vector's length D, `bits` the width b of a lane on the wire; clip and scale are those of the update.
    """

    run_id: bytes
    round: int
    attempt: int
    model_digest: bytes
    plan_digest: bytes
    layout_digest: bytes
    roster_digest: bytes
    server_key: bytes
    profile: Profile
    gamma_ppm: int
    delta_ppm: int
    min_cohort: int
    bits: int
    lanes: int
    clip: float
    scale: float
    ids: tuple[int, ...]
    dp_digest: bytes = NO_DIGEST
    graph_rule: int = 0

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        return b"".join(
            (
                u16(VERSION),
                self.run_id,
                u32(self.round),
                u16(self.attempt),
                self.model_digest,
                self.plan_digest,
                self.layout_digest,
                self.dp_digest,
                self.roster_digest,
                self.server_key,
                bytes((self.profile, self.graph_rule)),
                u32(self.gamma_ppm),
                u32(self.delta_ppm),
                u16(self.min_cohort),
                bytes((self.bits,)),
                u64(self.lanes),
                struct.pack(">dd", self.clip, self.scale),
                ids_bytes(self.ids),
            )
        )

    @cached_property
    def members(self) -> frozenset[int]:
        """The invited ids."""
        return frozenset(self.ids)

    @cached_property
    def ctx(self) -> bytes:
        """The context's hash."""
        return digest(Name.CONTEXT, self.data)


def decode_context(data: bytes) -> RoundContext:
    """Strictly read a context; raises `FaultError` with E_VERSION or E_ENCODING."""
    reader = Reader(data, "the round context")
    if (version := reader.number(2)) != VERSION:
        raise fail(Code.VERSION, "the round context is of another version", version, VERSION)
    run_id, round_, attempt = reader.take(16), reader.number(4), reader.number(2)
    model, plan, layout, dp, roster = (reader.take(DIGEST_BYTES) for _ in range(5))
    server, profile, graph_rule = reader.take(KEY_BYTES), reader.number(1), reader.number(1)
    gamma, delta, least, bits = reader.number(4), reader.number(4), reader.number(2), reader.number(1)
    lanes, clip, scale, ids = reader.number(8), reader.real(), reader.real(), reader.ids(MAX_MEMBERS)
    reader.end()
    if profile not in tuple(Profile) or graph_rule != 0:
        raise fail(Code.ENCODING, "the round context names an unknown profile or graph rule", profile)
    if not 1 <= bits <= 64 or not 1 <= lanes < MAX_LANES:
        raise fail(Code.ENCODING, "the round context has an impossible size", lanes, MAX_LANES)
    if not (math.isfinite(clip) and math.isfinite(scale) and clip > 0 and scale > 0):
        raise fail(Code.ENCODING, "the round context has a clip or scale that is no positive number")
    if max(gamma, delta) >= 1_000_000:
        raise fail(Code.ENCODING, "the round context tolerates a share that is no part", max(gamma, delta))
    return RoundContext(
        run_id=run_id,
        round=round_,
        attempt=attempt,
        model_digest=model,
        plan_digest=plan,
        layout_digest=layout,
        dp_digest=dp,
        roster_digest=roster,
        server_key=server,
        profile=Profile(profile),
        graph_rule=graph_rule,
        gamma_ppm=gamma,
        delta_ppm=delta,
        min_cohort=least,
        bits=bits,
        lanes=lanes,
        clip=clip,
        scale=scale,
        ids=ids,
    )


def purpose_id(run_uuid: bytes, purpose: str) -> bytes:
    """The run id of a context: training, evaluating and analysing one model are sequences of their own."""
    return digest(Name.PURPOSE, run_uuid, purpose.encode())[:16]


class LaneKind(enum.IntEnum):
    """What a lane holds."""

    UPDATE = 0
    WEIGHT = 1
    COUNT = 2
    METRIC = 3
    CHECK = 4
    NOISED = 5
    """All floating tensors of an update in one row, clipped together, rotated and with noise."""


@dataclasses.dataclass(frozen=True, slots=True)
class LaneSpec:
    """Some lanes in a row: `shape` of a tensor, `limbs` lanes for each of its elements, their clip and scale."""

    name: str
    kind: LaneKind
    shape: tuple[int, ...]
    offset: int
    limbs: int
    clip: float
    scale: float

    @property
    def count(self) -> int:
        """Number of lanes."""
        return math.prod(self.shape) * self.limbs

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        name = self.name.encode()
        return b"".join(
            (
                u16(len(name)),
                name,
                bytes((self.kind, len(self.shape))),
                *(u32(size) for size in self.shape),
                u64(self.offset),
                bytes((self.limbs,)),
                struct.pack(">dd", self.clip, self.scale),
            )
        )


def layout_digest(specs: Sequence[LaneSpec]) -> bytes:
    """SHA-256 over the count and the entries by offset."""
    ordered = sorted(specs, key=lambda spec: spec.offset)
    return hashlib.sha256(u32(len(ordered)) + b"".join(spec.data for spec in ordered)).digest()

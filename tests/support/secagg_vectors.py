"""What the vectors of secure aggregation hold, computed anew: the files must say the same (tests/vectors/secagg)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import masks, messages, packing
from aimass.privacy.secagg.codec import u32
from aimass.privacy.secagg.context import LaneKind, LaneSpec, decode_context, layout_digest, purpose_id
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.field import P, share
from aimass.privacy.secagg.graph import neighbours, permutation
from aimass.privacy.secagg.labels import Name, derive, digest, label
from aimass.privacy.secagg.parameters import Profile, propose
from aimass.privacy.secagg.quantise import check_lanes
from tests.support import secagg_v7
from tests.support.secagg_lanes import lanes_vector

Vector = dict[str, Any]


def streams() -> Vector:
    """AES-128-CTR from zero, read as little-endian lanes; labels, hashes and HKDF; the key of each mask and box."""
    key, sid = bytes(range(16)), bytes([9]) * 32
    one, other = shared.private_key(bytes([1]) * 32), shared.public_bytes(bytes([2]) * 32)
    agreed = shared.exchange(one, other)
    pair = u32(0) + u32(1)
    return {
        "labels": {name.value: label(name).hex() for name in Name},
        "digest_of_abc": {name.value: digest(name, b"abc").hex() for name in Name},
        "stream": {
            "key": key.hex(),
            "u16": masks.stream(key, 4, np.dtype("<u2")).tolist(),
            "u32": masks.stream(key, 4, np.dtype("<u4")).tolist(),
            "u64": masks.stream(key, 2, np.dtype("<u8")).tolist(),
        },
        "keys": {
            "secrets": ["01" * 32, "02" * 32],
            "sid": sid.hex(),
            "ids": [0, 1],
            "agreed": agreed.hex(),
            "pair_mask": shared.pair_mask_key(sid, agreed, 0, 1).hex(),
            "share_enc_0_1": derive(agreed, sid, Name.SHARE_KEY, pair, 32).hex(),
            "self_mask_of_5": shared.self_mask_key(sid, 0, 5).hex(),
            "mask_secret_of_5": shared.mask_secret(secagg_v7.context(), 0, 5).hex(),
            "mask_secret_ctx": secagg_v7.context().ctx.hex(),
        },
        "purpose": {"uuid": bytes(range(16)).hex(), "train": purpose_id(bytes(range(16)), "train").hex()},
    }


def sharing() -> Vector:
    """Shamir's polynomials: `coefficients` of x, x^2, ...; shares at x = 1 to n."""
    cases = []
    for secret, coefficients, count in ((42, (P - 1, 7), 5), (0, (), 3), (P - 1, (1, 2, 3, P - 1), 9)):
        drawn = iter(coefficients)
        shares = share(secret, len(coefficients) + 1, range(count), lambda _, drawn=drawn: next(drawn))  # type: ignore[misc]
        cases.append(
            {"secret": hex(secret), "coefficients": [hex(c) for c in coefficients], "shares": [hex(s) for s in shares]}
        )
    return {
        "p": hex(P),
        "cases": cases,
        "refused_encodings": [P.to_bytes(32, "big").hex(), "ff" * 32, "00" * 31, "00" * 33, ""],
    }


def packed() -> Vector:
    """Lanes and their bytes; what is refused names count and bits."""
    cases = []
    for bits, lanes in (
        (20, list(range(1, 9))),
        (23, [1, 2**23 - 1, 5]),
        (12, [0xABC, 0x123]),
        (33, [2**33 - 1, 1]),
        (1, [1, 0, 1, 1, 0, 0, 1, 0, 1]),
        (64, [2**64 - 1, 7]),
        (48, [2**48 - 1, 0, 1]),
    ):
        data = packing.pack(np.array(lanes, masks.lane_type(bits)), bits)
        cases.append({"bits": bits, "lanes": lanes, "hex": data.hex()})
    refused = [
        {"why": "a byte short", "bits": 23, "count": 3, "hex": "010080ffff7f0100"},
        {"why": "a byte long", "bits": 23, "count": 3, "hex": "010080ffff7f01000000"},
        {"why": "a padding bit", "bits": 23, "count": 3, "hex": "010080ffff7f010020"},
        {"why": "the highest padding bit", "bits": 12, "count": 1, "hex": "bc8a"},
    ]
    return {"cases": cases, "refused": refused}


def graphs() -> Vector:
    """The permutation of a seed, and neighbours of a ring."""
    zero = bytes(32)
    ring = neighbours(permutation(zero, 10), 4)
    return {
        "permutations": [{"seed": zero.hex(), "n": n, "order": list(permutation(zero, n))} for n in (2, 5, 10, 300)],
        "ring": {"seed": zero.hex(), "n": 10, "k": 4, "neighbours": [list(near) for near in ring]},
    }


def parameter_table() -> Vector:
    """The rule's choices: rows of n, gamma, delta in ppm, profile, and (k, t, T, c), or null where there are too few."""
    rows = []
    for n in (3, 5, 10, 30, 100, 128, 129, 300, 1000, 5000):
        for profile in (Profile.MALICIOUS, Profile.HBC):
            for gamma in (0, 50_000, 100_000, 330_000):
                for delta in (0, 50_000, 100_000, 330_000):
                    if n == 5000 and gamma == delta == 330_000 and profile is Profile.MALICIOUS:
                        continue  # the slowest to find, and the complete graph
                    rows.append([n, gamma, delta, profile.name, _proposed(n, gamma, delta, profile)])
    return {"columns": ["n", "gamma_ppm", "delta_ppm", "profile", ["k", "t", "T", "c"]], "rows": rows}


def _proposed(n: int, gamma: int, delta: int, profile: Profile) -> list[int] | None:
    try:
        return list(dataclasses.astuple(propose(n, gamma, delta, profile)))
    except ValueError:
        return None


def attempt() -> Vector:
    """Three members, the second drops out after its shares: every message, byte for byte."""
    return secagg_v7.play()


def layouts() -> Vector:
    """A layout's digest, and check lanes of a vector."""
    specs = [
        LaneSpec("weight", LaneKind.UPDATE, (2, 3), 0, 1, 1.0, 1024.0),
        LaneSpec("examples", LaneKind.WEIGHT, (), 6, 2, 1000.0, 1.0),
    ]
    rc = secagg_v7.context()
    lanes = np.arange(1, 7, dtype="<u4")
    return {
        "entries": [
            [s.name, s.kind.name.lower(), list(s.shape), s.offset, s.limbs, s.clip, s.scale, s.data.hex()] for s in specs
        ],
        "layout_digest": layout_digest(specs).hex(),
        "check_lanes": {"ctx": rc.ctx.hex(), "bits": 20, "lanes": lanes.tolist(), "with": check_lanes(rc, lanes).tolist()},
    }  # fmt: skip


DECODERS: dict[str, Callable[[bytes], object]] = {
    "context": decode_context,
    "advertise": messages.Advertise.decode,
    "roster": messages.RosterMessage.decode,
    "seed": messages.SeedReveal.decode,
    "shares": lambda data: messages.ShareKeys.decode(data, 2),
    "delivery": lambda data: messages.ShareDelivery.decode(data, 3),
    "input": messages.MaskedInput.decode,
    "survivors": lambda data: messages.SurvivorRequest.decode(data, 3),
    "signature": messages.SurvivorSignature.decode,
    "quorum": messages.UnmaskRequest.decode,
    "unmask": messages.Unmask.decode,
    "abort": messages.Abort.decode,
}
"""By message, for three members and the complete graph."""


def code_of(kind: str, data: bytes) -> str:
    try:
        DECODERS[kind](data)
    except FaultError as error:
        return str(error.fault.code)
    return "accepted"


def must_fail() -> Vector:
    """Bytes that each decoder refuses, with the name of the fault; keys that are refused."""
    play = secagg_v7.play()
    sent = play["messages"]
    assert isinstance(sent, dict)
    good = {kind: bytes.fromhex(next(iter(by.values()))) for kind, by in sent.items() if kind in DECODERS}
    good["seed"] = messages.SeedReveal(bytes(32), 1, bytes(32)).data
    good["context"] = secagg_v7.context().data
    good["abort"] = messages.Abort(bytes(32), Code.TIMEOUT, (1, 2)).data
    cases = []

    def add(kind: str, why: str, data: bytes) -> None:
        cases.append({"message": kind, "why": why, "hex": data.hex(), "code": code_of(kind, data)})

    for kind, data in sorted(good.items()):
        add(kind, "a byte short", data[:-1])
        add(kind, "a byte long", data + b"\0")
        add(kind, "empty", b"")
    add("context", "version 2", b"\0\2" + good["context"][2:])
    at = 2 + 16 + 4 + 2 + 5 * 32 + 32
    for offset, wrong in ((0, "profile 2"), (1, "graph rule 2")):
        add("context", wrong, good["context"][: at + offset] + b"\2" + good["context"][at + offset + 1 :])
    add("context", "no lanes", good["context"][: at + 13] + bytes(8) + good["context"][at + 21 :])
    add("context", "lanes of 65 bits", good["context"][: at + 12] + b"\x41" + good["context"][at + 13 :])
    add(
        "context", "clip NaN", good["context"][: at + 21] + struct.pack(">d", float("nan")) + good["context"][at + 29 :]
    )
    add("context", "scale zero", good["context"][: at + 29] + bytes(8) + good["context"][at + 37 :])
    add(
        "context", "a million ppm", good["context"][: at + 2] + struct.pack(">I", 1_000_000) + good["context"][at + 6 :]
    )
    add("context", "ids out of order", good["context"][:-8] + good["context"][-4:] + good["context"][-8:-4])
    add("context", "an id twice", good["context"][:-4] + good["context"][-8:-4])
    add("context", "a count of 65536", good["context"][: at + 37] + u32(65_536) + good["context"][at + 41 :])
    ads = [good["roster"][44 + 164 * i :][:164] for i in range(3)]
    add("roster", "members out of order", good["roster"][:44] + ads[1] + ads[0] + ads[2])
    add("roster", "a member twice", good["roster"][:44] + ads[0] + ads[0] + ads[2])
    box = [good["shares"][68 + 96 * i :][:96] for i in range(2)]
    add("shares", "neighbours out of order", good["shares"][:68] + box[1] + box[0] + good["shares"][260:])
    add("shares", "a neighbour twice", good["shares"][:68] + box[0] + box[0] + good["shares"][260:])
    add("delivery", "a member beyond the last", good["delivery"][:32] + b"\x0f" + good["delivery"][33:])
    add("delivery", "a dealer twice", good["delivery"][:33] + 2 * good["delivery"][33:129])
    add("survivors", "a member beyond the last", good["survivors"][:32] + b"\x85" + good["survivors"][33:])
    add("survivors", "a proof twice", good["survivors"][:33] + 2 * good["survivors"][33:133])
    add("unmask", "a third kind", good["unmask"][:40] + b"\2" + good["unmask"][41:])
    name = b"E_NOTHING"
    add("abort", "an unknown fault", bytes(32) + bytes((len(name),)) + name + u32(0))
    return {
        "members": 3,
        "neighbours": 2,
        "cases": cases,
        "x25519_keys": [{"hex": key, "code": "E_PK_INVALID"} for key in bad_exchange_keys()],
        "ed25519_keys": bad_identity_keys(),
    }


def bad_exchange_keys() -> list[str]:
    """Small order, and each alias of a key that the library would take."""
    p = 2**255 - 19
    eight = (
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    )
    plain = [value.to_bytes(32, "little").hex() for value in (0, 1, p - 1, p, p + 1, 2**255 - 1, 9 + 2**255)]
    return [*plain, *eight, "00" * 31, "00" * 33]


def bad_identity_keys() -> list[str]:
    """Small order with either sign, and encodings that are not reduced."""
    p = 2**255 - 19
    eight = (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
    numbers = [*(int.from_bytes(bytes.fromhex(key), "little") for key in eight), 0, 1, p - 1, p, p + 1, 2**255 - 1]
    return [(number | sign << 255).to_bytes(32, "little").hex() for number in numbers for sign in (0, 1)]


FILES: dict[str, Callable[[], Vector]] = {
    "streams": streams,
    "sharing": sharing,
    "packing": packed,
    "graphs": graphs,
    "parameters": parameter_table,
    "layouts": layouts,
    "lanes": lanes_vector,
    "attempt": attempt,
    "must_fail": must_fail,
}

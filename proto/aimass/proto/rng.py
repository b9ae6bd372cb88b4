"""Named random streams: every random number of a run comes from the plan's seed, the participant and the purpose.

The streams depend on nothing that a crash or another partner's speed could change (no run id, no attempt), so equal
plans over equal shards give equal models. They are public to whoever holds the plan: private noise never comes from
here.
"""

from __future__ import annotations

import hashlib
import struct

__all__ = ["stream_seed"]


def stream_seed(plan_seed: int, participant: str, purpose: str, round_: int) -> bytes:
    """32 bytes that start the stream of `participant` for `purpose` in `round_`.

    SHA-256 over a label, the seed (u64), round (u32) and the two names with their lengths (u16), big-endian.
    """
    hasher = hashlib.sha256(b"AIMass stream v1\0")
    hasher.update(struct.pack(">QI", plan_seed, round_))
    for text in (participant, purpose):
        encoded = text.encode()
        hasher.update(struct.pack(">H", len(encoded)) + encoded)
    return hasher.digest()

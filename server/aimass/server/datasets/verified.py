"""Bytes of a shard on their way: who takes all of them took what its digest names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from aimass.proto.errors import IntegrityError

__all__ = ["verified"]


def verified(chunks: Iterable[bytes], sha256: str, size: int, where: str) -> Iterator[bytes]:
    """`chunks` as they come; raises `IntegrityError` instead of ending where they are not what `sha256` names.

    So whoever stores them under the condition that the iterator ends stores nothing else.
    """
    hasher, seen = hashlib.sha256(), 0
    for chunk in chunks:
        seen += len(chunk)
        if seen > size:
            break
        hasher.update(chunk)
        yield chunk
    if seen != size:
        raise IntegrityError(
            "a shard is longer or shorter than its data set says",
            code="dataset.shard_size",
            value=f"{seen} bytes, at {where}",
            limit=size,
            cure="aimass data repair NAME puts a good copy in its place.",
        )
    if hasher.hexdigest() != sha256:
        raise IntegrityError(
            "a shard has changed in its store",
            code="dataset.shard_changed",
            value=f"{hasher.hexdigest()} at {where}",
            limit=sha256,
            cure="aimass data repair NAME puts a good copy in its place.",
        )

"""Digests of whole files and of blobs in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["digest_of", "file_digest"]


def file_digest(path: Path) -> str:
    """SHA-256 of a file. By reading and not through a map, whose pages would all count as this process's memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of a blob in parts, in hexadecimal."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()

"""What was acknowledged must still be on this disk, as it came, when a step is summed."""

from __future__ import annotations

from pathlib import Path

from aimass.proto.errors import IntegrityError, NotFound
from aimass.proto.hashing import file_digest

__all__ = ["check_spooled"]


def check_spooled(path: Path, what: str, digest: str, *, verify: bool) -> None:
    """Raise the named error of a file that is gone or, where it is to be verified, is not the one of this digest.

    `what` says in the error whose file it is.
    """
    if not path.is_file():
        raise NotFound(f"{what} is gone from the spool", code="contribution.missing")
    if verify and (found := file_digest(path)) != digest:
        raise IntegrityError(
            f"{what} has changed in the spool",
            code="contribution.changed",
            value=found,
            limit=digest,
            cure="Look at this disk before the next run; nothing of this step was used.",
        )

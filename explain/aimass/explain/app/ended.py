"""Logins that people ended, kept until their tokens would have expired: also over a restart, since cookies live on.

The file stands in the app's own folder and holds digests and times, and no token. One app has the folder: another
beside it learns of these only when it starts.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated, Final

import msgspec

from aimass.proto.durable import UNINTERRUPTED, write_file
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["EndedLogins"]

FILE: Final = "ended-logins.json"
_MOST: Final = 10_000
_MOST_BYTES: Final = 2 << 20
_DIGEST: Final = re.compile("[0-9a-f]{64}")
log = logging.getLogger("aimass.explain.app")


class _Kept(Value, frozen=True):
    """`ended` is by the SHA-256 of a token in hexadecimal until when it is kept, in Unix seconds."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)]
    ended: dict[str, float]


class EndedLogins:
    """By digest, the `most` that expire last. Its caller sees to it that one thread at a time calls."""

    def __init__(self, folder: Path | None, now: float, most: int = _MOST) -> None:
        """Without a `folder` they are held in memory alone. Raises `BadInput` for a file that cannot be read."""
        self._path, self._most = None if folder is None else folder / FILE, most
        self._until = {} if self._path is None else {key: at for key, at in _read(self._path).items() if at > now}

    def __contains__(self, digest: str) -> bool:
        """Whether this login was ended."""
        return digest in self._until

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._until)

    def add(self, digest: str, until: float, now: float) -> None:
        """Keep one until then; where it cannot be written it is kept in memory, and the log says so."""
        self._until[digest] = until
        self._until = {key: at for key, at in self._until.items() if at > now}
        for key in sorted(self._until, key=self._until.__getitem__)[: max(0, len(self._until) - self._most)]:
            log.error("more logins were ended than are kept: the one that expires first may count again")
            del self._until[key]
        if self._path is None:
            return
        try:
            write_file(self._path, canonical_json(_Kept(format=1, ended=self._until)), UNINTERRUPTED, "app.ended")
        except (OSError, AimassError) as error:
            log.error("a login that was ended counts again after a restart: %s", type(error).__name__)


def _read(path: Path) -> dict[str, float]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _damaged(path) from error
    try:
        kept = decode_json(_Kept, data, path.name)
    except AimassError as error:
        raise _damaged(path) from error
    if len(data) > _MOST_BYTES or not all(map(_DIGEST.fullmatch, kept.ended)):
        raise _damaged(path)
    return kept.ended


def _damaged(path: Path) -> BadInput:
    return BadInput(
        "the file of logins that were ended cannot be read, and without it they would count again",
        code="app.ended_logins",
        value=path,
        cure="Make it readable; or remove it and give the login file another cookie_secret, which ends all logins.",
    )

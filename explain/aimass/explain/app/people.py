"""Who looks: a name, a role, and at an app with a login the token that the services verify themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from aimass.privacy.pki import Role, peer_of
from aimass.proto.home import CERTIFICATE, not_enrolled
from aimass.proto.secret import Secret

__all__ = ["ALONE", "SEES", "Person", "local_person"]

SEES: Final = frozenset({Role.ANALYST, Role.OPERATOR, Role.SCIENTIST})
"""Roles of people; certificates of machines do not look."""


@dataclasses.dataclass(frozen=True)
class Person:
    """`token` is what an identity provider gave, None where the app is local and has a person's own certificate."""

    name: str
    role: Role
    token: Secret | None = None

    def is_any(self, roles: frozenset[Role]) -> bool:
        """Whether this is a person of one of these roles."""
        return self.role in roles


ALONE: Final = Person("you", Role.ANALYST)
"""Who looks where the app knows no training server."""


def local_person(home: Path | None) -> Person:
    """Whose folder it is; raises `NotFound` before enrolment."""
    if home is None:
        return ALONE
    path = home / CERTIFICATE
    if not path.is_file():
        raise not_enrolled(home)
    peer = peer_of(path.read_bytes())
    return Person(peer.name, peer.role)

"""Who looks: a name, a role, and at an app with a login the token that the services verify themselves."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aimass.explain.app.settings import AppSettings, RowsSetting
from aimass.privacy.pki import Peer, Role, peer_of
from aimass.proto.home import CERTIFICATE, not_enrolled
from aimass.proto.secret import Secret

__all__ = ["ALONE", "RUNS", "SEES", "Person", "local_person", "peer_at", "rows_for"]

SEES: Final = frozenset({Role.ANALYST, Role.OPERATOR, Role.SCIENTIST})
"""Roles of people; certificates of machines do not look."""
RUNS: Final = SEES - {Role.ANALYST}
"""Who runs things: they see data sets, receipts and, where people log in, servers and single rows too."""


@dataclasses.dataclass(frozen=True)
class Person:
    """`token` is what an identity provider gave, None where the app is local and has a person's own certificate."""

    name: str
    role: Role
    token: Secret | None = None

    @property
    def whose(self) -> str:
        """Whom several logins are of."""
        return f"{self.role}/{self.name}"

    @property
    def key(self) -> str:
        """Whose connections are whose: those of one login are not another's, even of one person."""
        login = "" if self.token is None else hashlib.sha256(self.token.reveal()).hexdigest()
        return f"{self.whose}/{login}"

    @property
    def bearer(self) -> Callable[[], str] | None:
        """What services are shown beside the app's certificate; nothing where that is the person's own."""
        token = self.token
        return None if token is None else lambda: token.reveal().decode("latin-1")

    def is_any(self, roles: frozenset[Role]) -> bool:
        """Whether this is a person of one of these roles."""
        return self.role in roles


def rows_for(settings: AppSettings, person: Person) -> tuple[RowsSetting, ...]:
    """Named rows that somebody may ask about, in order. On one's own machine they are one's own files."""
    usual = SEES if person.token is None else RUNS
    return tuple(one for one in settings.rows if person.is_any(frozenset(map(Role, one.roles)) or usual))


ALONE: Final = Person("you", Role.ANALYST)
"""Who looks where the app knows no training server."""


def local_person(home: Path | None) -> Person:
    """Whose folder it is; raises `NotFound` before enrolment."""
    if home is None:
        return ALONE
    peer = peer_at(home)
    return Person(peer.name, peer.role)


def peer_at(home: Path) -> Peer:
    """Whose certificate a folder holds; raises `NotFound` before enrolment."""
    path = home / CERTIFICATE
    if not path.is_file():
        raise not_enrolled(home)
    return peer_of(path.read_bytes())

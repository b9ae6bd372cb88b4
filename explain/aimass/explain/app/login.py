"""Who is logged in: the token that an identity provider gave, and whom the training server takes its bearer for.

The app believes no token by itself. It asks the server, which checks signature, audience and time, and what the person
may see follows from the answer; each later call of that person shows the token again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aimass.explain.app.bare import bare
from aimass.explain.app.ended import EndedLogins
from aimass.explain.app.people import SEES, Person
from aimass.privacy.pki import Role
from aimass.proto.api import Federation
from aimass.proto.errors import AimassError, Refused, Unauthenticated
from aimass.proto.secret import Secret
from aimass.proto.views import PersonView

__all__ = ["LoggedIn", "Logins", "ask_server"]

_MOST: Final = 256
_REFUSED_S: Final = 5.0
"""For so long the server is not asked again of a token that does not count: each tab asks at each of its runs. No
longer is it known here that one did not count."""
_PATIENCE_S: Final = 20.0
_DAY_S: Final = 86_400.0
"""An ended login is kept for so long at least: the server's word may end before the token, with a certificate."""
_UNKNOWN_S: Final = 30 * _DAY_S
"""The life of the browser's cookie, of a token that the server was not asked about."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedIn:
    """Somebody with a token; `calls` is how the provider calls them, which nothing is decided by."""

    calls: str
    token: Secret


class Logins:
    """People by their tokens, each as long as the server said. For any number of threads."""

    def __init__(
        self, ask: Callable[[Secret], PersonView], now: Callable[[], float] = time.time, folder: Path | None = None
    ) -> None:
        """In `folder` logins that were ended are kept over a restart; without one they are kept in memory."""
        self._ask, self._now = ask, now
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, Person]] = OrderedDict()
        self._refused: OrderedDict[str, tuple[float, AimassError]] = OrderedDict()
        self._ended = EndedLogins(folder, now())

    def person(self, token: Secret) -> Person:
        """Whose token it is; raises what the server says of one that does not count, and `Refused` for a role that
        looks at nothing here, `Unauthenticated` also for one with which somebody has logged out."""
        key = _key(token)
        with self._lock:
            if key in self._ended:
                raise Unauthenticated("this login was ended", code="app.logged_out", cure="Log in again.")
            until, person = self._held.get(key, (-math.inf, None))
            self._forget_refused()
            again, error = self._refused.get(key, (-math.inf, None))
        if person is not None and self._now() < until:
            return person
        if error is not None and self._now() < again:
            raise bare(error)
        return self._asked(key, token)

    def _forget_refused(self) -> None:
        """Under the lock: those that the server may be asked of again; who was refused first stands first."""
        now = self._now()
        while self._refused and next(iter(self._refused.values()))[0] <= now:
            self._refused.popitem(last=False)

    def _asked(self, key: str, token: Secret) -> Person:
        try:
            until, person = self._told(token)
        except (Unauthenticated, Refused) as error:
            with self._lock:
                self._refused[key] = (self._now() + _REFUSED_S, bare(error))
                self._refused.move_to_end(key)
                _bound(self._refused)
            raise
        with self._lock:
            self._held[key] = (until, person)
            _bound(self._held)
        return person

    def _told(self, token: Secret) -> tuple[float, Person]:
        """Until when the server's word holds, and whom it takes the bearer for."""
        view = self._ask(token)
        role = Role(view.role)
        if role not in SEES:
            raise Refused("this role does not look at the app", code="app.role", value=view.role)
        return view.until, Person(view.name, role, token)

    def end(self, token: Secret) -> None:
        """Somebody logs out: their token counts in no tab any more, though its cookie may live on in one."""
        key, now = _key(token), self._now()
        with self._lock:
            until, _ = self._held.pop(key, (now + _UNKNOWN_S, None))
            self._ended.add(key, max(until, now + _DAY_S), now)


def _bound(held: OrderedDict[str, Any]) -> None:
    while len(held) > _MOST:
        held.popitem(last=False)


def _key(token: Secret) -> str:
    return hashlib.sha256(token.reveal()).hexdigest()


def ask_server(home: str) -> Callable[[Secret], PersonView]:
    """Asks the training server of the service's folder whose a token is."""

    def ask(token: Secret) -> PersonView:
        with Federation.open(home, lambda: token.reveal().decode("latin-1")) as federation:
            federation.patience_s = _PATIENCE_S
            return federation.who_am_i()

    return ask

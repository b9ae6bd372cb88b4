"""Who is logged in: the token that an identity provider gave, and whom the training server takes its bearer for.

The app believes no token by itself. It asks the server, which checks signature, audience and time, and what the person
may see follows from the answer; each later call of that person shows the token again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from aimass.explain.app.people import SEES, Person
from aimass.privacy.pki import Role
from aimass.proto.api import Federation
from aimass.proto.errors import Refused, Unauthenticated
from aimass.proto.secret import Secret
from aimass.proto.views import PersonView

__all__ = ["LoggedIn", "Logins", "ask_server"]

_MOST: Final = 256
_MOST_ENDED: Final = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedIn:
    """Somebody with a token; `calls` is how the provider calls them, which nothing is decided by."""

    calls: str
    token: Secret


class Logins:
    """People by their tokens, each as long as the server said. For any number of threads."""

    def __init__(self, ask: Callable[[Secret], PersonView], now: Callable[[], float] = time.time) -> None:
        self._ask, self._now = ask, now
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, Person]] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def person(self, token: Secret) -> Person:
        """Whose token it is; raises what the server says of one that does not count, and `Refused` for a role that
        looks at nothing here, `Unauthenticated` also for one with which somebody has logged out."""
        key = _key(token)
        with self._lock:
            held, ended = self._held.get(key), key in self._ended
        if ended:
            raise Unauthenticated("this login was ended", code="app.logged_out", cure="Log in again.")
        if held is not None and self._now() < held[0]:
            return held[1]
        view = self._ask(token)
        role = Role(view.role)
        if role not in SEES:
            raise Refused("this role does not look at the app", code="app.role", value=view.role)
        person = Person(view.name, role, token)
        with self._lock:
            self._held[key] = (view.until, person)
            while len(self._held) > _MOST:
                self._held.popitem(last=False)
        return person

    def end(self, token: Secret) -> None:
        """Somebody logs out: their token counts in no tab any more, though its cookie may live on in one."""
        key = _key(token)
        with self._lock:
            self._held.pop(key, None)
            self._ended[key] = None
            while len(self._ended) > _MOST_ENDED:
                self._ended.popitem(last=False)


def _key(token: Secret) -> str:
    return hashlib.sha256(token.reveal()).hexdigest()


def ask_server(home: str) -> Callable[[Secret], PersonView]:
    """Asks the training server of the service's folder whose a token is."""

    def ask(token: Secret) -> PersonView:
        with Federation.open(home, lambda: token.reveal().decode("latin-1")) as federation:
            return federation.who_am_i()

    return ask

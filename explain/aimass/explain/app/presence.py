"""Whether who looked is still the one who looks: asked by parts of a page that are shown anew by themselves."""

from __future__ import annotations

from aimass.explain.app.house import Here
from aimass.proto.errors import Refused, Unauthenticated

__all__ = ["still_looks"]


def still_looks(here: Here) -> bool:
    """False once the login has ended, was ended in another tab, or is somebody else's; without a login nobody's ends.

    Raises `Unavailable` where the server has to be asked again and does not answer.
    """
    if not here.settings.login:
        return True
    login = here.house.identity()
    try:
        return login is not None and here.house.logins.person(login.token).key == here.person.key
    except (Unauthenticated, Refused):
        return False

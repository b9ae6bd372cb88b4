"""Before the app listens: whose eyes it will have, and whether others than they can come to it."""

from __future__ import annotations

from aimass.explain.app.login_file import LoginFile, read_login
from aimass.explain.app.people import SEES, peer_at
from aimass.explain.app.settings import AppSettings
from aimass.privacy.pki import Role
from aimass.proto.errors import BadInput, Refused
from aimass.proto.loopback import is_loopback

__all__ = ["check_door"]


def check_door(settings: AppSettings) -> LoginFile | None:
    """The login, if there is one; raises a named error where the app would show the wrong eyes to the wrong people."""
    home = settings.path(settings.home)
    if settings.login:
        login = settings.path(settings.login)
        if home is None or login is None or peer_at(home).role is not Role.SERVICE:
            raise BadInput(
                "an app with a login shows the services a certificate of its own",
                code="app.login_home",
                value=settings.home or "no folder",
                limit="the folder of a service",
                cure="aimass pki token explainer --role service; enrol it, and name its folder with --as.",
            )
        if settings.serving_token:
            raise BadInput(
                "with a login people show prediction servers their own tokens, and the app shows none",
                code="app.login_serving",
                value="serving_token",
                cure="Leave it out; the servers take people by [people]: docs/serving.md.",
            )
        return read_login(login)
    if home is not None and (peer := peer_at(home)).role not in SEES:
        raise Refused(
            "this certificate is nobody's who looks at pages",
            code="app.home_role",
            value=f"{peer.role} {peer.name}",
            limit=", ".join(sorted(SEES)),
            cure="Name a person's folder with --as; or, where people log in, say where with --login.",
        )
    if settings.open and home is not None and peer_at(home).role is Role.OPERATOR:
        raise Refused(
            "an app that everybody may look at would let everybody act as this operator",
            code="app.open_operator",
            value=peer_at(home).name,
            limit="an analyst's or a scientist's folder",
            cure="Name another folder with --as, or say where people log in with --login FILE.",
        )
    if not (is_loopback(settings.host) or settings.open):
        raise Refused(
            "whoever reaches this address would see all that the app sees, without being asked who they are",
            code="app.open",
            value=settings.host,
            limit="127.0.0.1 or localhost",
            cure="Say where people log in with --login FILE, or --open if everybody may look.",
        )
    return None

"""Whose keys an S3 store is spoken to with: environment, then a profile file, then what the machine's role gives.

The names are those of AWS's own tools ("Configuration and credential file settings in the AWS CLI"). Web identities,
containers and instance metadata are asked for by obstore itself where nothing stands here.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aimass.proto.errors import BadInput, Unauthenticated

__all__ = ["Keys", "keys_of"]

_ROLES = ("credential_process", "role_arn", "sso_session", "sso_start_url")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """A key, its secret and a token, "" if there is none; shown nowhere."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return "Keys(***)"


def keys_of(scheme: str, environment: Mapping[str, str]) -> Keys | None:
    """The keys that environment or profile hold; None leaves it to the role of the machine.

    Raises `Unauthenticated` as `storage.profile` for a profile that is asked for by name and gives no keys.
    """
    oss = "OSS_ACCESS_KEY_ID" in environment and scheme == "oss"
    names = (
        ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN")
        if oss
        else ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    )
    key, secret, token = (environment.get(name, "").strip() for name in names)
    if key and secret:
        return Keys(key, secret, token)
    return _profile(environment)


def _profile(environment: Mapping[str, str]) -> Keys | None:
    home = Path(environment.get("HOME") or "/")
    path = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials")
    name = environment.get("AWS_PROFILE", "")
    section = _section(path, name or "default")
    key, secret = section.get("aws_access_key_id", ""), section.get("aws_secret_access_key", "")
    if key and secret:
        return Keys(key, secret, section.get("aws_session_token", ""))
    if name:
        found = ", ".join(kind for kind in _ROLES if kind in section)
        raise Unauthenticated(
            "the profile of AWS_PROFILE holds no keys",
            code="storage.profile",
            value=f"{name} in {path}{f', which names {found}' if found else ''}",
            cure="Give aws_access_key_id and aws_secret_access_key there; aws configure export-credentials makes them"
            " of any other kind.",
        )
    return None


def _section(path: Path, name: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (configparser.Error, UnicodeDecodeError):  # its text may be a secret's
        raise BadInput("a profile file cannot be read", code="storage.profile_file", value=path) from None
    return dict(parser[name]) if parser.has_section(name) else {}

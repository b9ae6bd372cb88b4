"""Which registry a command means, and whom it believes: options, over the environment, over a person's settings."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aimass.proto.errors import BadInput
from aimass.proto.values import Value, decode_toml

__all__ = [
    "RegistrySettings",
    "add_registry",
    "add_trust",
    "held_settings",
    "meant_trust",
    "meant_url",
    "registry_url",
    "required_url",
    "trust_path",
]

_URL: Final = "AIMASS_REGISTRY"
_TRUST: Final = "AIMASS_TRUST"


class RegistrySettings(Value, frozen=True):
    """`registry.toml`: the URL of the registry, and the trust file, a relative path being to the settings' folder."""

    url: str = ""
    trust: str = "trust.json"


def _folder(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "aimass"


def held_settings(environment: Mapping[str, str] = os.environ) -> RegistrySettings:
    """A person's settings, the defaults without a file; raises `BadInput` for one that cannot be read."""
    path = _folder(environment) / "registry.toml"
    return decode_toml(RegistrySettings, path.read_text("utf-8"), str(path)) if path.is_file() else RegistrySettings()


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option that says whom to believe."""
    parser.add_argument(
        "--trust", type=Path, metavar="FILE", help="whom to believe (else AIMASS_TRUST, or ~/.config/aimass/trust.json)"
    )


def add_registry(parser: argparse.ArgumentParser) -> None:
    """The options that say which registry is meant, and whom to believe."""
    parser.add_argument(
        "--registry", metavar="URL", help="s3://bucket/prefix, file:///folder, ... (else AIMASS_REGISTRY)"
    )
    add_trust(parser)


def registry_url(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> str:
    """The URL that a command means; "" where nobody says one."""
    return meant_url(args.registry or "", environment)


def meant_url(said: str, environment: Mapping[str, str] = os.environ) -> str:
    """The URL that was said, or else that of the environment or of a person's settings; "" where nobody says one."""
    return said or environment.get(_URL) or held_settings(environment).url


def required_url(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> str:
    """The URL that is meant; raises `BadInput` as `registry.no_url`."""
    if url := registry_url(args, environment):
        return url
    raise BadInput(
        "no registry is named",
        code="registry.no_url",
        cure=f"Give --registry URL, set {_URL}, or write `url` into ~/.config/aimass/registry.toml.",
    )


def trust_path(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Path:
    """The trust file that a command means, whether or not it is there."""
    return meant_trust("" if args.trust is None else str(args.trust), environment)


def meant_trust(said: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The trust file that was said, or else that of the environment or of a person's settings."""
    if named := said or environment.get(_TRUST):
        return Path(named)
    return _folder(environment) / held_settings(environment).trust

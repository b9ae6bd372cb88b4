"""The folder of a partner or a person: who they are, where their server is, and the files that prove it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from aimass.proto.errors import NotFound, Refused
from aimass.proto.logs import LogForm
from aimass.proto.pace import check_rate
from aimass.proto.secret import Secret
from aimass.proto.settings import read_settings
from aimass.proto.tls import TlsIdentity
from aimass.proto.values import Value

__all__ = [
    "BUNDLE",
    "CERTIFICATE",
    "FILE",
    "ROOT",
    "ChildLimits",
    "HomeLimits",
    "HomeSettings",
    "LinkSettings",
    "load_home",
    "not_enrolled",
    "read_key_file",
    "tls_identity",
]

FILE: Final = "client.toml"
PREFIX: Final = "AIMASS_CLIENT_"
ROOT: Final = "trust/root.pem"
BUNDLE: Final = "trust/bundle.json"
CERTIFICATE: Final = "trust/certificate.pem"
_END: Final = b"-----END CERTIFICATE-----\n"


class ChildLimits(Value, frozen=True):
    """What the training child may take. `memory_bytes` 0 is all that the machine has; `start_s` is for reading data.

    With `batch_rows` no more rows go through the model at once: a plan's larger batch is computed in pieces, to the
    same update up to rounding. With `mixed_precision` training computes in bfloat16 where the plan allows it too. So
    many `ranks` train together, each a child of its own on a device of its own, or a core, with its share of every
    batch; all other limits are for each of them. `most_steps` is how many optimiser steps this machine does in a round
    where a plan lets partners do fewer (`train.fewer_steps`); 0 is as many as the plan says. `device` is "cpu", "cuda"
    or one of several GPUs, as "cuda:1"; "" is a GPU where torch can use one. Ranks count on from a GPU that is named.
    """

    memory_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    file_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 16 << 30
    start_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    batch_rows: Annotated[int, msgspec.Meta(ge=0)] = 0
    mixed_precision: bool = False
    ranks: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    most_steps: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    device: Annotated[str, msgspec.Meta(pattern=r"^(|cpu|cuda(:[0-9]{1,2})?)\Z")] = ""


class LinkSettings(Value, frozen=True):
    """When a link that carries nothing is given up: after `keepalive_s` the server is asked whether it is there, and a
    transfer over which no byte moves for `idle_s` begins again where it stopped. With `differences` a model comes as
    its difference to the one before: where that saves time ("auto"), "always", because bytes cost money, or "never"."""

    keepalive_s: Annotated[float, msgspec.Meta(ge=5.0)] = 30.0  # least and usual as in aimass.proto.wire
    idle_s: Annotated[float, msgspec.Meta(ge=1.0)] = 60.0
    differences: Literal["auto", "always", "never"] = "auto"


class HomeLimits(Value, frozen=True):
    """What a daemon takes of its machine: bytes per second to the server and from it, 0 being no limit, and the bytes
    that must be free on the disk before it begins a step."""

    up_bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    down_bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    min_free_bytes: Annotated[int, msgspec.Meta(ge=0)] = 1 << 30


class HomeSettings(Value, frozen=True):
    """`client.toml`: a name, the server's two addresses and the data set service's as HOST:PORT, the link; of a partner
    the form of its log, where its daemon shows health and figures (nowhere by default), its limits, and those of its
    training child."""

    name: str
    server: str
    enrol: str
    data: str = ""
    log: LogForm = "text"
    watch_listen: str = ""
    limits: HomeLimits = HomeLimits()
    child: ChildLimits = ChildLimits()
    link: LinkSettings = LinkSettings()


def load_home(folder: Path, environment: Mapping[str, str] = os.environ) -> HomeSettings:
    """A folder's settings, `AIMASS_CLIENT_*` over them; raises `NotFound`, or `BadInput` for an unknown key or
    a rate that is too low to work with."""
    path = folder / FILE
    if not path.is_file():
        raise NotFound("no client here", code="home.absent", value=folder, cure="aimass client init DIR makes one.")
    settings = read_settings(HomeSettings, path.read_text("utf-8"), str(path), PREFIX, environment)
    check_rate(settings.limits.up_bytes_per_s, "limits.up_bytes_per_s")
    check_rate(settings.limits.down_bytes_per_s, "limits.down_bytes_per_s")
    return settings


def read_key_file(path: Path) -> Secret:
    """A private key file that its owner alone can read; raises `NotFound` or `Refused`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("no key here", code="keys.absent", value=path) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)  # of what is read, whatever the name points to by then
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or status.st_uid != os.geteuid():
            raise Refused(
                "others can read a private key",
                code="keys.readable",
                value=f"{path} {stat.filemode(status.st_mode)}",
                limit="-rw------- and your own",
                cure=f"chmod 600 {path}; if it was exposed, revoke it and enrol again.",
            )
        return Secret(file.read())


def not_enrolled(folder: Path) -> NotFound:
    """What a folder without a certificate or a roster is told."""
    return NotFound(
        "not enrolled yet",
        code="home.not_enrolled",
        value=folder,
        cure=f"aimass client enroll --dir {folder} --token FILE.",
    )


def tls_identity(folder: Path) -> TlsIdentity:
    """The folder's own certificate and key, and the root's certificate; raises `NotFound` before enrolment."""
    if not (folder / CERTIFICATE).is_file():
        raise not_enrolled(folder)
    pem = (folder / ROOT).read_bytes()
    root = pem[: pem.index(_END) + len(_END)]
    return TlsIdentity((folder / CERTIFICATE).read_bytes(), read_key_file(folder / "keys" / "tls.key"), root)

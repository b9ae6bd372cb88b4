"""The server's settings: `server.toml` in its folder, `AIMASS_SERVER_*` over it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from aimass.proto.errors import NotFound
from aimass.proto.logs import LogForm
from aimass.proto.pace import check_rate
from aimass.proto.registry.places import RegistrySettings
from aimass.proto.settings import read_settings
from aimass.proto.values import Value
from aimass.proto.wire import split_address
from aimass.server.people.settings import PEOPLE_TEMPLATE, PeopleSettings, check_people

__all__ = [
    "EnrolmentSettings",
    "KeepSettings",
    "Limits",
    "OfflineSettings",
    "ServerSettings",
    "load_settings",
    "template",
]

Positive = Annotated[int, msgspec.Meta(ge=1)]
FILE: Final = "server.toml"
PREFIX: Final = "AIMASS_SERVER_"


class Limits(Value, frozen=True):
    """What a single partner or person can ask of the server."""

    max_model_bytes: Positive = 8 << 30
    max_weight: Annotated[float, msgspec.Meta(gt=0)] = 1e9
    max_norm: Annotated[float, msgspec.Meta(gt=0)] = 1e6
    min_free_bytes: Annotated[int, msgspec.Meta(ge=0)] = 1 << 30
    streams_per_peer: Positive = 4
    idle_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    up_bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    down_bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    cache_bytes: Positive = 64 << 30


class KeepSettings(Value, frozen=True):
    """What stays of a run beside its first and best model: its last models, 0 being all of them."""

    models: Annotated[int, msgspec.Meta(ge=0)] = 5


class EnrolmentSettings(Value, frozen=True):
    """What strangers can ask of the enrolment port: requests a minute, streams that wait, requests that are kept."""

    per_minute: Positive = 60
    per_address: Positive = 30
    waiting: Positive = 200
    pending: Positive = 1_000
    keep_days: Annotated[float, msgspec.Meta(gt=0)] = 7.0


class OfflineSettings(Value, frozen=True):
    """Offline runs that this server sees to: none, unless `stores` name where their data sets are.

    `out` is the store that their state goes to (default: the server's data folder); `master` a Spark cluster, without
    which their shards are worked on by `workers` processes here. `at_once` of them compute together, the others wait;
    one person has `most_open` that have not ended.
    """

    stores: tuple[str, ...] = ()
    out: str = ""
    master: str = ""
    workers: Positive = 1
    at_once: Positive = 1
    most_open: Positive = 16


class ServerSettings(Value, frozen=True):
    """Addresses to listen on, as HOST:PORT, and limits. Without `watch_listen` nobody is shown health and figures.

    `blobs` and `spool` are URLs of the object stores that keep models and uploads; without them this disk does. The
    models of runs whose plans say `[promote]` go to the `registry`, whose trust file has to name the server's own key.
    """

    name: str
    listen: str
    enrol_listen: str
    log: LogForm = "text"
    watch_listen: str = ""
    blobs: str = ""
    spool: str = ""
    limits: Limits = Limits()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    keep: KeepSettings = KeepSettings()
    offline: OfflineSettings = OfflineSettings()
    registry: RegistrySettings = RegistrySettings()
    people: PeopleSettings = PeopleSettings()


def load_settings(folder: Path, environment: Mapping[str, str] = os.environ) -> ServerSettings:
    """Read `server.toml`, with `AIMASS_SERVER_*` of the environment over it; an unknown key is an error."""
    path = folder / FILE
    if not path.is_file():
        raise NotFound("no server here", code="server.absent", value=folder, cure="aimass server init DIR makes one.")
    settings = read_settings(ServerSettings, path.read_text("utf-8"), str(path), PREFIX, environment)
    for address in (settings.listen, settings.enrol_listen, *filter(None, [settings.watch_listen])):
        split_address(address)  # without a port the library would listen on 443
    check_rate(settings.limits.up_bytes_per_s, "limits.up_bytes_per_s")
    check_rate(settings.limits.down_bytes_per_s, "limits.down_bytes_per_s")
    check_people(settings.people)
    return settings


def template(name: str, listen: str, enrol_listen: str) -> str:
    """A first `server.toml` that teaches."""
    return f"""# AIMass aggregation server. An unknown key is an error.
# AIMASS_SERVER_LISTEN, AIMASS_SERVER_LIMITS__IDLE_S and so on in the environment stand over this file.
name = "{name}"
listen = "{listen}"              # partners and people: mutual TLS 1.3
enrol_listen = "{enrol_listen}"        # newcomers: enrolment requests and nothing else
log = "text"                   # or "json": one object a line, for programs
# watch_listen = "127.0.0.1:9464"   # /healthz, /readyz and /metrics over plain HTTP: keep it on the loopback
# blobs = "s3://bucket/models"    # models in an object store; without it on this disk
# spool = "s3://bucket/uploads"   # uploads of open steps too: durable there before they are acknowledged

[limits]
max_model_bytes = {8 << 30}   # one model or contribution
max_weight = 1e9               # a contribution's weight
max_norm = 1e6                 # L2 norm of a contribution
min_free_bytes = {1 << 30}    # with less free on the disk the server takes no new work
streams_per_peer = 4           # transfers at once of one partner or person
idle_s = 60.0                  # seconds without a byte before a transfer is cut off
up_bytes_per_s = 0             # all uploads of one partner or person together; 0 is no limit
down_bytes_per_s = 0           # and all downloads
cache_bytes = {64 << 30}      # models on this disk where an object store keeps them

[enrolment]
per_minute = 60                # requests of all newcomers
per_address = 30               # requests a minute, and streams that wait, of one address
waiting = 200                  # streams that wait for the root holder's answer
pending = 1000                 # requests that are kept
keep_days = 7.0                # and for how long

[keep]
models = 5                     # last models of a run, beside its first and best; 0 keeps all

[offline]
stores = []                    # where data sets are, such as ["s3://bucket/data"]: what `aimass offline submit` may use
# out = "s3://bucket/runs"       # where such runs keep their state; without it in this folder
# master = "spark://host:7077"   # a Spark cluster; without it processes on this machine
workers = 1                    # so many processes then
at_once = 1                    # runs that compute together; the others wait
most_open = 16                 # of one person that have not ended

[registry]
url = ""                       # where models go whose plans say [promote], such as "s3://bucket/models"
trust = "trust.json"           # whose signatures count there: `aimass model trust add` writes it; this server's too
{PEOPLE_TEMPLATE}"""

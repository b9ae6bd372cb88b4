"""The data set service's settings: `data.toml` in its folder, `AIMASS_DATA_*` over it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec

from aimass.proto.errors import NotFound
from aimass.proto.logs import LogForm
from aimass.proto.pace import check_rate
from aimass.proto.settings import read_settings
from aimass.proto.values import Value
from aimass.proto.wire import split_address
from aimass.server.datasets.caretaker import CareSettings
from aimass.server.people.settings import PEOPLE_TEMPLATE, PeopleSettings, check_people

__all__ = ["FILE", "DataSettings", "load_settings", "template"]

FILE: Final = "data.toml"
PREFIX: Final = "AIMASS_DATA_"


class DataSettings(Value, frozen=True):
    """Where it listens, as HOST:PORT, and its stores, the home of all data sets first. Changes in the stores are shown
    to watchers within `look_s`."""

    listen: str
    stores: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    log: LogForm = "text"
    watch_listen: str = ""
    look_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    care: CareSettings = CareSettings()
    people: PeopleSettings = PeopleSettings()


def load_settings(folder: Path, environment: Mapping[str, str] = os.environ) -> DataSettings:
    """Read `data.toml`, with `AIMASS_DATA_*` of the environment over it; an unknown key is an error."""
    path = folder / FILE
    if not path.is_file():
        raise NotFound(
            "no data set service here",
            code="dataset.no_service",
            value=folder,
            cure="aimass data init DIR --store URL makes one of an enrolled service's folder.",
        )
    settings = read_settings(DataSettings, path.read_text("utf-8"), str(path), PREFIX, environment)
    for address in (settings.listen, *filter(None, [settings.watch_listen])):
        split_address(address)
    check_rate(settings.care.bytes_per_s, "care.bytes_per_s")
    check_people(settings.people)
    return settings


def template(listen: str, stores: Sequence[str]) -> str:
    """A first `data.toml` that teaches."""
    care = CareSettings()
    return f"""# AIMass data set service. An unknown key is an error.
# AIMASS_DATA_LISTEN, AIMASS_DATA_CARE__BYTES_PER_S and so on in the environment stand over this file.
listen = {json.dumps(listen)}              # people and their programs: mutual TLS 1.3
stores = {json.dumps(list(stores))}   # the home of all data sets first; credentials stand in no URL
log = "text"                   # or "json": one object a line, for programs
# watch_listen = "127.0.0.1:9466"   # /healthz, /readyz and /metrics over plain HTTP: keep it on the loopback
look_s = 60.0                  # changes in the stores are shown to watchers within so many seconds

[care]
quick_every_s = {care.quick_every_s}          # every copy is there in its size
deep_every_s = {care.deep_every_s}       # every copy is read to the last byte
bytes_per_s = {care.bytes_per_s}         # at most so fast; 0 is no limit
term_s = {care.term_s}                  # of several services on one store one works, for a term that it renews
gc = true                      # what no version refers to is deleted
grace_hours = {care.grace_hours}             # when it was unreferenced for so long
quarantine_days = {care.quarantine_days}         # and bad shards after so many days
{PEOPLE_TEMPLATE}"""

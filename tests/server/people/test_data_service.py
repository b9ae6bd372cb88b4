"""People through a service at the data set service: a scientist owns what was registered, and nobody of the same name."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from aimass.proto.data_api import DataSets
from aimass.proto.errors import Refused
from tests.support.data_services import Grid
from tests.support.edge_federation import run
from tests.support.identity import PEOPLE, Provider
from tests.support.objects import MemoryObjects
from tests.support.stores import Unruly, stored

PROVIDER = Provider()


def test_a_person_has_the_rights_of_the_tokens_role_and_owns_under_the_tokens_name(tmp_path: Path) -> None:
    home = Unruly(MemoryObjects("memory://one"))
    stored(home, "t", (b"rows" * 9,))
    grid = Grid.create(tmp_path, {home.url: home})
    folder = grid.folder_of("data-one")
    # `explainer` is the certificate that brings people; here a service that is there anyway plays it.
    settings = (folder / "data.toml").read_text() + PEOPLE.replace("explainer", "grid")
    (folder / "data.toml").write_text(settings)
    (folder / "keys.json").write_bytes(PROVIDER.key_set())

    def as_(groups: str, sub: str, address: str) -> DataSets:
        text = PROVIDER.token(PROVIDER.claims(time.time(), groups=groups, sub=sub)).reveal().decode()
        return DataSets(address, grid.identity("grid"), lambda: text)

    def use(address: str) -> None:
        with as_("admins", "olga", address) as operator:
            assert [view.name for view in operator.all().data_sets] == ["t"]
            assert operator.owner("t", to="anna@house").owner == "anna@house"
        with as_("statisticians", "anna", address) as scientist:
            assert scientist.owner("t", to="anna").by == "anna@house"
            with pytest.raises(Refused, match="owner"):
                scientist.owner("t", to="anna@house")  # it is the member's now
        with as_("doctors", "cleo", address) as analyst, pytest.raises(Refused) as refused:
            analyst.all()
        assert refused.value.code == "role.refused"

    async def scenario() -> None:
        async with grid.serving("one") as started:
            await asyncio.to_thread(use, f"127.0.0.1:{started.port}")

    run(scenario())

"""The page of Data over a service in memory: what it lists, one set whole, repairs by operators, and faults."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from aimass.explain.app.people import Person
from aimass.explain.app.settings import AppSettings
from aimass.proto.data_sets import DataSetManifest
from aimass.proto.data_views import DataSetHealth, DataSetList, DataSetView
from aimass.proto.errors import AimassError, Unavailable
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, ToldSources
from tests.support.stores import manifest_of, shard_of

MANIFEST = manifest_of("wards", 2, [shard_of(1, b"a"), shard_of(2, b"b")])
HEALTH = DataSetHealth(
    looked_at=1.5e9, deep=False, whole=False, wanted=2, good=3, missing=1, false=0, mended=0, under_replicated=1
)
VIEW = DataSetView(
    name="wards", version=2, versions=(1, 2), schema="t/1", rows=4, bytes=2, shards=2, licence="CC BY 4.0",
    created_at=1.5e9, stores=("s3://a", "s3://b"), copies=2, health=HEALTH,
)  # fmt: skip


class ToldDataSets:
    """What `DataSets` is to the page."""

    def __init__(self) -> None:
        self.away: AimassError | None = None
        self.repaired: list[tuple[str, bool]] = []
        self.views: tuple[DataSetView, ...] = (VIEW,)

    def all(self) -> DataSetList:
        if self.away is not None:
            raise self.away
        return DataSetList(data_sets=self.views, faults={"broken": "dataset.signature"})

    def manifest(self, name: str) -> DataSetManifest:
        assert name in ("wards@1", "wards@2")
        return MANIFEST

    def repair(self, name: str, *, deep: bool) -> DataSetHealth:
        self.repaired.append((name, deep))
        return HEALTH


class WithData(ToldSources):
    def __init__(self, settings: AppSettings, person: Person, data: ToldDataSets) -> None:
        super().__init__(settings, person, ToldServer())
        self.data = data

    @property
    def has_data_sets(self) -> bool:
        return True

    def data_sets(self) -> ToldDataSets:  # type: ignore[override]
        return self.data


@pytest.fixture
def data() -> ToldDataSets:
    return ToldDataSets()


def seams(data: ToldDataSets) -> dict[str, Any]:
    return {"sources": functools.partial(WithData, data=data)}


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are seen as an operator sees them: an app without a folder knows analysts alone."""
    from aimass.explain.app import entrance
    from aimass.privacy.pki import Role

    monkeypatch.setattr(entrance, "local_person", lambda home: Person("olga", Role.OPERATOR))


def test_a_set_is_told_whole(opened: Opened, data: ToldDataSets) -> None:
    page = opened("data", seams=seams(data), **{"set": "wards", "set-version": "2"})
    assert not page.exception
    text = said(page)
    assert "broken cannot be shown: dataset.signature" in text
    assert [one.value for one in page.metric][:3] == ["3", "1", "0"]
    assert "2 copies of each shard belong in s3://a, s3://b" in text
    assert "What the columns hold" in text
    (listed,) = [one.value for one in page.dataframe if "health" in one.value.columns]
    assert listed["health"].tolist() == ["1 shard with too few copies"]


def test_an_operator_has_the_copies_looked_at_now(opened: Opened, data: ToldDataSets) -> None:
    page = opened("data", seams=seams(data))
    page.toggle(key="repair-deep").set_value(True).run()
    page.button(key="repair").click().run()
    assert data.repaired == [("wards", True)]


def test_a_set_that_is_gone_and_a_service_that_is_away_are_told(opened: Opened, data: ToldDataSets) -> None:
    assert "app.gone" in said(opened("data", seams=seams(data), set="other"))
    data.away = Unavailable("the service is away", code="dataset.away")
    page = opened("data", seams=seams(data))
    assert "The service is away" in said(page)
    data.away = None
    assert "What the columns hold" in said(page.run())


def test_without_a_set_the_page_says_what_to_do(opened: Opened, data: ToldDataSets) -> None:
    data.views = ()
    assert "There is no data set yet" in said(opened("data", seams=seams(data)))

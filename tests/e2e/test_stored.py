"""A server whose models and uploads stand in buckets: killed and robbed of its folders, it ends in the same bits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from threading import Event

import pytest
from scripts.benches.buckets import KEYS, buckets, make_bucket
from scripts.demos.house import House

from aimass.proto.api import Federation
from aimass.proto.objects import open_objects
from aimass.proto.views import RunView
from tests.support.hospitals import heart_plan, open_hospitals
from tests.support.lives import KILLING

PARTNERS = ("cleveland", "long-beach")
LIVES = (4, 9, 6)
"""Durable points after which the server is killed, in turn."""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, buckets() as endpoint:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        make_bucket(endpoint, "tests")
        yield endpoint


@pytest.fixture(scope="module")
def house(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("federation")
    with House(folder) as house:
        open_hospitals(house, PARTNERS)
        (folder / "plan.toml").write_text(heart_plan("stored", quorum=2))
        yield house


def finished(house: House, run_id: str) -> RunView:
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.run(run_id).wait()
    assert view.summary.state == "finished", view.summary.reason
    return view


def submitted(house: House) -> str:
    with Federation.open(house.folder / "scientist") as federation:
        return federation.submit(house.folder / "plan.toml").id


@pytest.mark.slow
def test_a_run_with_everything_in_buckets_ends_in_the_bits_of_one_with_files(house: House, s3: str) -> None:
    on_files = finished(house, submitted(house))
    house.stop("server")
    models, uploads = (f"s3://tests/{name}?endpoint={s3}" for name in ("models", "uploads"))
    settings = house.folder / "server" / "server.toml"
    settings.write_text(f'blobs = "{models}"\nspool = "{uploads}"\n{settings.read_text()}')
    house.start_server()
    run_id = submitted(house)
    house.stop("server")
    for number, points in enumerate(LIVES):
        code = house.life("server", KILLING, "server", "server", str(points), over=Event(), rest_s=0.0)
        assert code == -9, (house.folder / "server.log").read_text()[-2000:]
        if number == 1:
            for folder in ("blobs", "spool"):
                shutil.rmtree(house.folder / "server" / "data" / folder)
    house.start_server()
    in_buckets = finished(house, run_id)
    assert in_buckets.summary.model == on_files.summary.model
    assert [step.slots for step in in_buckets.steps] == [step.slots for step in on_files.steps]
    held = {info.key.rpartition("/")[2] for info in open_objects(models).list()}
    assert {on_files.summary.model, in_buckets.plan.model} <= held
    assert [info.key for info in open_objects(uploads).list()] == ["owner"]
    log = (house.folder / "server.log").read_text()
    assert log.count("killed at") == len(LIVES)
    assert not [secret for secret in KEYS.values() if secret in log]

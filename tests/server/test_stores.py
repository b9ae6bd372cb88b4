"""A server whose models and uploads stand in object stores, with its disk before them."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

import numpy as np
import pytest

from aimass.proto.checks import State
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import Conflict
from aimass.proto.examination import examined
from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.tensors import Blob
from aimass.proto.transfer import SubmitHeader, submit
from aimass.server.backup import back_up
from aimass.server.backup_manifest import verify
from aimass.server.doctor import checks
from aimass.server.garbage import collect
from aimass.server.restore import restore
from tests.support.edge_federation import Members, run, serving
from tests.support.edge_runs import model, open_step


@pytest.fixture
def url(s3: str, keys: None) -> str:
    return f"s3://tests/{secrets.token_hex(8)}?endpoint={s3}"


def part(url: str, name: str) -> str:
    return url.replace("?", f"/{name}?")


def settings(url: str) -> str:
    return f'blobs = "{part(url, "models")}"\nspool = "{part(url, "uploads")}"'


def held(store: ObjectStore) -> set[str]:
    return {info.key.rpartition("/")[2] for info in store.list()} - {"owner"}


def test_models_and_uploads_are_in_the_stores_before_they_are_acknowledged_and_outlive_the_disk(
    url: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members, settings=settings(url)) as edge:
            run_id, lines = await open_step(edge, model())
            data = Contribution({"update": Group(1.0, {"w": np.ones(4, np.float32)})}, {}, {}).encode()
            header = SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id, step=0)
            await submit(edge.channel("north"), header, memoryview(data))
            assert held(open_objects(part(url, "models"))) == {Blob(model()).digest}
            assert held(open_objects(part(url, "uploads"))) == {f"{run_id}-0-north"}
            for line in lines.values():
                line.call.cancel()
        for folder in ("blobs", "spool"):
            shutil.rmtree(tmp_path / "hub" / "data" / folder)
        async with serving(members) as edge:
            assert edge.started.resumed == (run_id,)
            assert (tmp_path / "hub" / "data" / "spool" / f"{run_id}-0-north").is_file()
        found = collect(tmp_path / "hub", dry_run=False)
        assert not found
        open_objects(part(url, "uploads")).put("left-0-ada", b"left")
        assert collect(tmp_path / "hub", dry_run=False) == {"left-0-ada": 4}
        assert held(open_objects(part(url, "uploads"))) == {f"{run_id}-0-north"}

    run(scenario())


def test_a_backup_holds_what_stands_in_the_store_and_a_restore_brings_it_back_there(url: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members, settings=settings(url)) as edge:
            _, lines = await open_step(edge, model())
            manifest = await asyncio.to_thread(back_up, tmp_path / "hub", tmp_path / "backup", with_keys=True)
            again = await asyncio.to_thread(back_up, tmp_path / "hub", tmp_path / "backup", with_keys=True)
            assert {name for name in again.files if name.startswith("blobs")} == {
                name for name in manifest.files if name.startswith("blobs")
            }
            for line in lines.values():
                line.call.cancel()
        verify(tmp_path / "backup", again)
        assert not list((tmp_path / "backup").glob(".state*"))
        restore(tmp_path / "backup", tmp_path / "new")
        shutil.rmtree(tmp_path / "hub")
        (tmp_path / "new").rename(tmp_path / "hub")
        models = open_objects(part(url, "models"))
        for info in list(models.list()):
            models.delete(info.key)
        async with serving(members):
            assert held(models) == {Blob(model()).digest}

    run(scenario())


def test_another_server_is_kept_out_of_a_store_and_the_doctor_sees_one_that_does_not_answer(
    url: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        (tmp_path / "other").mkdir()
        async with serving(Members.create(tmp_path), settings=settings(url)):
            findings = await asyncio.to_thread(lambda: list(examined(checks(tmp_path / "hub"))))
            assert [found.state for found in findings if found.check == "stores"] == [State.OK] * 2
            with pytest.raises(Conflict) as caught:
                async with serving(Members.create(tmp_path / "other"), settings=settings(url)):
                    pass
            assert caught.value.code == "storage.other_owner"
        path = tmp_path / "hub" / "server.toml"
        path.write_text(path.read_text().replace("s3://tests/", "s3://nothing-here/"))
        findings = list(examined(checks(tmp_path / "hub")))
        assert [found.code for found in findings if found.check == "stores"] == ["storage.bucket"] * 2

    run(scenario())

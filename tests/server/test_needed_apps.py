"""An app that a run of the server still needs is not removed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aimass.proto.apps import install, read_app, shelved
from aimass.proto.commands import main
from aimass.proto.errors import WrongState
from aimass.proto.plan import encode_plan, plan_digest
from aimass.proto.views import RunState
from aimass.server import runs
from aimass.server.commits import created_entry
from aimass.server.needed_apps import spare
from aimass.server.settings import template
from aimass.server.store import Commit, RunRow, Store
from tests.proto.test_apps import write
from tests.support.flower import flower_plan

RUN = "ab" * 16


def test_an_app_goes_only_when_no_open_run_needs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = install(read_app(write(tmp_path / "tiny")), tmp_path)
    (tmp_path / "server.toml").write_text(template("hub", "127.0.0.1:0", "127.0.0.1:0"))
    (tmp_path / "data").mkdir()
    plan = flower_plan(app=app.name, digest=app.digest)
    run = runs.Run(run_id=RUN, plan=plan, model=plan.model, participants={}, state=RunState.PAUSED)
    data = encode_plan(plan)
    row = RunRow(RUN, "anna", 1.0, None, data, plan_digest(data), "", run)
    store = Store.open(tmp_path / "data" / "runs.sqlite")
    store.create(row, "key", created_entry(row))
    remove = ["server", "app", "remove", app.name, "--dir", str(tmp_path)]
    assert main(remove) != 0
    assert "abababab" in capsys.readouterr().err
    with pytest.raises(WrongState, match="go on need the app"):
        spare(tmp_path, app.name, app.digest)
    spare(tmp_path, app.name, "0" * 64)
    spare(tmp_path, "another", "")
    assert shelved(tmp_path) == ((app.name, app.digest),)
    store.save(msgspec.structs.replace(run, state=RunState.STOPPED), Commit(ended_at=2.0))
    store.close()
    assert main(remove) == 0
    assert shelved(tmp_path) == ()


def test_a_server_that_has_not_run_needs_none(tmp_path: Path) -> None:
    spare(tmp_path, "tiny-app", "")

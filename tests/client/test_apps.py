"""Flower apps at a partner: installed, read, approved; what its policy says of them; the files that it gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.client.code import code_named
from aimass.client.doctor_data import DataChecks
from aimass.client.partner import open_partner, policy_in
from aimass.client.policy import Admit, AdmittedTask, DataBudget, Pending, Policy, Refuse, decide, read_policy, rules
from aimass.client.row_sketch import sketch_of
from aimass.client.shards import resolve
from aimass.proto.app_plan import AppDraft, app_plan
from aimass.proto.apps import install, read_app
from aimass.proto.checks import Finding
from aimass.proto.clock import SystemClock
from aimass.proto.commands import main
from aimass.proto.confinement import enforceable
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import Conflict, NotFound
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest, read_shard_manifest
from aimass.proto.plan import SecureSettings
from aimass.proto.secret import Secret
from tests.proto.test_apps import write
from tests.support.partners import enrolled

CONFINED = frozenset({"process", "files", "network"})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    enrolled(tmp_path, ["north"], "[schemas]\n")
    write(tmp_path / "app")
    return tmp_path / "north"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_app_is_installed_listed_and_removed_by_commands(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "client", "app", "list", "--dir", str(home)) == []
    installed = told(capsys, "client", "app", "install", str(tmp_path / "app"), "--dir", str(home))
    assert installed["next"] == f"read its code, then: aimass client approve tiny-app --dir {home}"
    (listed,) = told(capsys, "client", "app", "list", "--dir", str(home))
    assert (listed["name"], listed["version"], listed["digest"]) == ("tiny-app", "1.2.0", installed["digest"])
    removed = told(capsys, "client", "app", "remove", "tiny-app", "--dir", str(home))
    assert removed["digests"] == [installed["digest"]]
    assert told(capsys, "client", "app", "list", "--dir", str(home)) == []


def test_the_name_of_code_is_that_of_a_task_or_of_an_installed_app(home: Path, tmp_path: Path) -> None:
    assert code_named(home, "heart").kind == "task"
    assert code_named(home, "heart", "1" * 64) == AdmittedTask(name="heart", digest="1" * 64)
    with pytest.raises(NotFound, match="app install"):
        code_named(home, "tiny-app")
    app = install(read_app(tmp_path / "app"), home)
    assert code_named(home, "tiny-app") == AdmittedTask(name="tiny-app", digest=app.digest, kind="app")
    with pytest.raises(NotFound):
        code_named(home, "tiny-app", "1" * 64)
    (tmp_path / "app" / "tiny" / "client_app.py").write_text("app = 2\n")
    other = install(read_app(tmp_path / "app"), home)
    with pytest.raises(Conflict, match="--digest"):
        code_named(home, "tiny-app")
    assert code_named(home, "tiny-app", other.digest).digest == other.digest


def test_an_approval_is_of_an_app_or_of_a_task_and_of_neither_in_the_others_name(home: Path, tmp_path: Path) -> None:
    app = read_app(write(tmp_path / "app"))
    plan, _ = app_plan(app, AppDraft(), {})
    policy = Policy(schemas={"tiny-app/1": "rows"}, plain_sums=True)
    assert decide(policy, plan, 4, CONFINED) == Pending(
        f"app tiny-app {app.digest[:16]} waits for approval at the partner", "tiny-app"
    )
    for kind, outcome in (("task", Pending), ("app", Admit)):
        named = msgspec.convert({"name": "tiny-app", "digest": app.digest, "kind": kind}, AdmittedTask)
        assert isinstance(decide(msgspec.structs.replace(policy, tasks=(named,)), plan, 4, CONFINED), outcome)
    partner = open_partner(home, UNINTERRUPTED, SystemClock())
    partner.approve_task(AdmittedTask(name="tiny-app", digest=app.digest, kind="app"))
    assert policy_in(home).tasks == (AdmittedTask(name="tiny-app", digest=app.digest, kind="app"),)


def test_the_rules_of_an_app_say_what_it_may_and_bound_no_training(tmp_path: Path) -> None:
    plan, _ = app_plan(read_app(write(tmp_path)), AppDraft(), {})
    found = {rule.name: rule for rule in rules(Policy(plain_sums=True), plan, 4, CONFINED)}
    assert {"app_training", "app_reads", "app_sends", "rounds", "plain_sums", "cohort"} <= set(found)
    assert not {"batch_size", "learning_rate", "steps", "epochs", "proximal_mu", "task"} & set(found)
    assert found["app_sends"].value == "what it answers, as it made it"
    secure = msgspec.structs.replace(
        plan, secure=SecureSettings(), cohort=msgspec.structs.replace(plan.cohort, quorum=3)
    )
    assert "in sums alone" in {r.name: r for r in rules(Policy(), secure, 4, CONFINED)}["app_sends"].value


def test_an_app_runs_only_where_the_machine_confines_what_it_reads(tmp_path: Path) -> None:
    app = read_app(write(tmp_path))
    plan, _ = app_plan(app, AppDraft(), {})
    admitted = AdmittedTask(name=app.name, digest=app.digest, kind="app")
    policy = Policy(schemas={"tiny-app/1": "rows"}, tasks=(admitted,), plain_sums=True, confinement=())
    assert isinstance(decide(policy, plan, 4, frozenset({"files"})), Admit)
    assert isinstance(refused := decide(policy, plan, 4, CONFINED - {"files"}), Refuse)
    assert (refused.code, refused.value, refused.limit) == (
        "policy.app_reads", "whatever the daemon may", "confinement: files"
    )  # fmt: skip


def test_an_app_that_answers_in_the_clear_is_refused_where_nothing_was_permitted(tmp_path: Path) -> None:
    app = read_app(write(tmp_path))
    plan, _ = app_plan(app, AppDraft(), {})
    policy = Policy(schemas={"tiny-app/1": "rows"}, tasks=(AdmittedTask(name=app.name, digest=app.digest, kind="app"),))
    assert isinstance(refused := decide(policy, plan, 4, CONFINED), Refuse)
    assert refused.code == "policy.plain_sums"
    budget = DataBudget(data_set="rows", epsilon=1.0, delta=1e-5)
    policy = msgspec.structs.replace(policy, plain_sums=True, budgets=(budget,))
    assert isinstance(refused := decide(policy, plan, 4, CONFINED), Refuse)
    assert refused.code == "policy.privacy"


def test_a_policy_is_checked_against_an_app(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["client", "policy", "check", "--dir", str(home), "--json"]
    assert main([*check, "--flower", str(tmp_path / "app")]) == 3
    found = {rule["rule"]: rule for rule in json.loads(capsys.readouterr().out)["rules"]}
    assert not found["app"]["holds"]
    assert found["app_reads"]["holds"] == ("files" in enforceable(home))
    assert main(check) == 2
    assert "PLAN" in capsys.readouterr().err


def test_a_policy_is_checked_for_this_machine_and_not_for_one_that_confines_all(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimass.proto.confinement.enforceable", lambda _folder: ("process",))
    assert main(["client", "policy", "check", "--dir", str(home), "--json", "--flower", str(tmp_path / "app")]) == 3
    found = {rule["rule"]: rule for rule in json.loads(capsys.readouterr().out)["rules"]}
    assert found["confinement"]["plan"] == "process"
    assert not found["app_reads"]["holds"]


def test_more_rounds_than_the_policy_allows_are_refused_for_apps_too(tmp_path: Path) -> None:
    app = read_app(write(tmp_path))
    policy = read_policy('plain_sums = true\n[bounds]\nrounds = 1\n[schemas]\n"tiny-app/1" = "rows"\n', "the policy")
    assert isinstance(refused := decide(policy, app_plan(app, AppDraft(), {})[0], 4, CONFINED), Refuse)
    assert refused.code == "policy.rounds"


def test_a_data_set_for_apps_is_files_folders_and_what_the_app_is_told(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "one.png").write_bytes(b"1")
    told(
        capsys, "client", "data", "add", "pictures", "--dir", str(home), "--schema", "tiny-app/1", "--format", "files",
        "--uri", str(folder), "--node-config", f'partition-id=2 share=0.5 path="{folder}"', "--node-config", "big=true",
    )  # fmt: skip
    held = home / "data" / "pictures.toml"
    manifest = read_shard_manifest(held.read_text(), "")
    assert manifest.node_config == {"partition-id": 2, "share": 0.5, "path": str(folder), "big": True}
    assert resolve(manifest, held.parent) == (folder,)
    assert policy_in(home).schemas["tiny-app/1"] == "pictures"
    first = sketch_of(Secret(b"k" * 32), manifest, held.parent)
    (folder / "one.png").write_bytes(b"2")
    assert sketch_of(Secret(b"k" * 32), manifest, held.parent) != first
    capsys.readouterr()
    assert main(["client", "data", "check", "pictures", "--dir", str(home), "--task", "heart"]) == 2
    assert "no schema" in capsys.readouterr().err


def test_a_data_set_for_apps_may_have_no_files_and_one_of_rows_must() -> None:
    common = {"name": "a", "data_schema": "a/1", "participant": "a", "salt": "0" * 64}
    assert msgspec.convert(common | {"format": "files", "uris": []}, ShardManifest).uris == ()
    for fault in (
        {"format": "csv", "uris": []},
        {"format": "csv", "uris": ["x"], "node_config": {"a": 1}},
        {"format": "files", "uris": ["x"], "person": "name"},
        {"format": "files", "uris": ["x"], "node_config": {"a": [1]}},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(common | fault, ShardManifest)


def test_rows_without_a_file_are_refused_with_the_cure(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add = ["client", "data", "add", "x", "--dir", str(home), "--schema", "x/1", "--format", "csv"]
    assert main(add) == 2
    assert "--uri" in capsys.readouterr().err


def _tasks(home: Path) -> list[Finding]:
    checks = DataChecks(home, lambda: True, ChildLimits)
    list(checks.policy())
    return list(checks.tasks())


def test_the_doctor_knows_apps(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = read_app(tmp_path / "app")
    (home / "policy.toml").write_text(
        f'[schemas]\n[[tasks]]\nname = "tiny-app"\ndigest = "{app.digest}"\nkind = "app"\n'
    )
    (finding,) = _tasks(home)
    assert finding.code == "app.absent"
    install(app, home)
    (finding,) = _tasks(home)
    assert "admitted and installed" in finding.what
